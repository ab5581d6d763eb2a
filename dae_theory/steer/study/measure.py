"""One case of the study: a model's samples of one group, steered towards one concept."""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from dae_theory.deep.captions import GARMENTS
from dae_theory.deep.images import TrainingSet
from dae_theory.deep.sampling import find_copies
from dae_theory.memorization.copies import COPY_RATIO
from dae_theory.memorization.nearest import duplicate_groups
from dae_theory.steer import metrics
from dae_theory.steer.apply import Steering, steer_samples
from dae_theory.steer.classifier import shipped_classifier
from dae_theory.steer.directions import Direction, concept_direction, random_like
from dae_theory.steer.garments import load_garment_model
from dae_theory.steer.model import Change, SteerModel
from dae_theory.steer.nets import of_checkpoint
from dae_theory.steer.study.concepts import CONCEPTS
from dae_theory.steer.study.material import captions_for, ordinary, real_images, references_of
from dae_theory.steer.study.settings import SAMPLER, Subject, Variant

Arrays = dict[str, np.ndarray]
FILTER = 1000  # ordinary images that a copy is first compared with
REAL = 200  # test images, about, that samples are compared with


class Loaded(NamedTuple):
    """A model, its training images, and which of these are equal."""

    model: SteerModel
    data: TrainingSet
    groups: Int[np.ndarray, " N"]


def load(subject: Subject) -> Loaded:
    """A subject of the study, with its training images."""
    checkpoint = load_garment_model(subject.name)
    data = checkpoint.training_set()
    return Loaded(of_checkpoint(checkpoint, SAMPLER), data, duplicate_groups(data.rows))


def direction_for(
    loaded: Loaded, subject: Subject, variant: Variant, concept: str, starts: int
) -> list[Direction] | None:
    """The direction of a variant, or random ones, one a start; None where it has no references.

    The responses to v and −v are each other's mirror image: what a random direction does is known
    on average over many, and not from one.
    """
    model, data = loaded.model, loaded.data
    sides = references_of(variant, CONCEPTS[concept], data)
    if sides is None:
        return None
    found = concept_direction(
        model,
        concept,
        *sides,
        kind=variant.kind,
        layers=variant.layers_of(subject, model.layers),
        sigma=variant.sigma,
    )
    if not variant.random:
        return [found]
    first = starts * list(CONCEPTS).index(concept)
    return [random_like(found, first + start) for start in range(starts)]


def samples_of(
    model: SteerModel,
    subject: Subject,
    variant: Variant,
    directions: list[Direction],
    concept: str,
    captions: list[str] | None,
    start_ND: Float[np.ndarray, "N D"],
) -> Float[np.ndarray, "S N D"]:
    """Samples at all strengths of a variant."""
    if variant.instead == "caption":
        asked = [ordinary(concept, i) for i in range(len(start_ND))]
        changes = [Change(guidance=weight) for weight in variant.strengths_of(subject)]
        return np.stack([model.sample(start_ND, asked, change) for change in changes])
    steering = Steering(True, variant.first, variant.last, guidance=variant.guidance)
    return steer_samples(
        model, directions, variant.strengths_of(subject), start_ND, captions, steering
    )


def case(
    loaded: Loaded,
    subject: Subject,
    variant: Variant,
    group: str,
    concept: str,
    seed: int,
    starts: int,
) -> Arrays | None:
    """What is measured: log-odds of the concept (S, N), distance and cosine to the unsteered
    sample of the same guidance (S, N), distances between neighbouring strengths (S − 1, N), copies
    (S, N), and the energy distance of features to real images of the garments that the classifier
    sees (S). None where the variant has no references, or there are no samples of the group.
    """
    model = loaded.model
    directions = direction_for(loaded, subject, variant, concept, starts)
    captions = None
    if model.takes_captions:
        captions = captions_for(loaded.data, group, CONCEPTS[concept], starts)
    if directions is None or (model.takes_captions and captions is None):
        return None
    start_ND = model.starts(seed, starts)
    made = samples_of(model, subject, variant, directions, concept, captions, start_ND)
    if variant.instead:
        base_ND = model.sample(start_ND, captions)
    else:
        base_ND = made[variant.strengths_of(subject).index(0)]
    shape, rows = made.shape[:2], made.reshape(-1, made.shape[2])
    found = shipped_classifier()(rows)
    log_odds = CONCEPTS[concept].log_odds(found, rows)
    features = found.features.reshape(*shape, -1)
    seen_SN = found.log_probability.argmax(axis=1).reshape(shape)
    return {
        "log_odds": np.float16(log_odds.reshape(shape)),
        "distance": np.float16(metrics.distances(made, base_ND)),
        "cosine": np.float16(metrics.cosines(made, base_ND)),
        "path": np.float16(metrics.path_steps(made)),
        "copy": copies_of_stored(loaded, rows).reshape(shape),
        "realism": np.float32(
            [
                metrics.energy_distance(f, features_like(seen_N))
                for f, seen_N in zip(features, seen_SN, strict=True)
            ]
        ),
    }


def copies_of_stored(loaded: Loaded, rows_MD: Float[np.ndarray, "M D"]) -> Bool[np.ndarray, " M"]:
    """Which samples are copies of planted images by the gap ratio; of any training image where none
    is planted.

    A sample that is not 1/COPY_RATIO times nearer to a planted image than to some ordinary ones
    cannot be such a copy: only the others are compared with all.
    """
    data, groups_N = loaded.data, loaded.groups
    if not data.planted:
        return find_copies(rows_MD, data, groups_N).copy
    named = data.rows[: data.planted]
    apart = np.flatnonzero(~np.isin(groups_N, groups_N[: data.planted]))[:FILTER]
    near_M, far_M = (cdist(rows_MD, some).min(axis=1) for some in (named, data.rows[apart]))
    maybe = np.flatnonzero(near_M <= COPY_RATIO * far_M)
    found_M = np.zeros(len(rows_MD), bool)
    if len(maybe):
        copies = find_copies(rows_MD[maybe], data, groups_N)
        found_M[maybe] = copies.copy & copies.planted
    return found_M


@functools.cache
def real_features() -> Float[np.ndarray, "R F"]:
    """The classifier's features of all real images."""
    return shipped_classifier()(real_images().rows).features


def features_of(concept: str) -> Float[np.ndarray, "R F"]:
    """Those of real images of a concept."""
    shows = [CONCEPTS[concept].named_by(caption) for caption in real_images().captions]
    return real_features()[np.flatnonzero(shows)[:REAL]]


def features_like(labels_N: Int[np.ndarray, " N"]) -> Float[np.ndarray, "R F"]:
    """Those of about `REAL` real images, or of one a label, garments in the proportions of
    ``labels_N``."""
    labels, counts = np.unique(labels_N, return_counts=True)
    of_each = [np.flatnonzero(real_images().labels == label) for label in labels]
    room = min(len(index) // count for index, count in zip(of_each, counts, strict=True))
    factor = min(room, -(-REAL // len(labels_N)))
    chosen = [index[: factor * count] for index, count in zip(of_each, counts, strict=True)]
    return real_features()[np.concatenate(chosen)]


def most_similar() -> float:
    """The smallest energy distance between real images of two garments."""
    return min(
        metrics.energy_distance(features_of(a), features_of(b))
        for a, b in itertools.combinations(GARMENTS, 2)
    )
