"""One case of the study: a model's samples of one group, steered towards one concept."""

import functools
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
from dae_theory.steer.study.material import (
    captions_for,
    ordinary,
    real_of,
    references_of,
)
from dae_theory.steer.study.settings import SAMPLER, Subject, Variant

Arrays = dict[str, np.ndarray]
FILTER = 1000  # ordinary images that a copy is first compared with


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
    model: SteerModel, subject: Subject, variant: Variant, concept: str, data: TrainingSet
) -> Direction | None:
    """The direction of a variant; None where it has no references."""
    sides = references_of(variant, concept, data)
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
    return random_like(found, GARMENTS.index(concept)) if variant.random else found


def samples_of(
    model: SteerModel,
    subject: Subject,
    variant: Variant,
    direction: Direction | None,
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
        model, direction, variant.strengths_of(subject), start_ND, captions, steering
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
    sample (S, N), distances between neighbouring strengths (S − 1, N), copies (S, N), and the
    energy distance of features to real images of the concept (S). None where the variant has no
    references.
    """
    model, data = loaded.model, loaded.data
    direction = direction_for(model, subject, variant, concept, data)
    if direction is None:
        return None
    captions = captions_for(data, group, concept, starts) if model.takes_captions else None
    start_ND = model.starts(seed, starts)
    base_ND = model.sample(start_ND, captions)
    made = samples_of(model, subject, variant, direction, concept, captions, start_ND)
    shape, rows = made.shape[:2], made.reshape(-1, made.shape[2])
    found = shipped_classifier()(rows)
    log_odds = metrics.log_odds(found.log_probability, GARMENTS.index(concept))
    features = found.features.reshape(*shape, -1)
    real = real_features(concept)
    return {
        "log_odds": np.float16(log_odds.reshape(shape)),
        "distance": np.float16(metrics.distances(made, base_ND)),
        "cosine": np.float16(metrics.cosines(made, base_ND)),
        "path": np.float16(metrics.path_steps(made)),
        "copy": copies_of_stored(loaded, rows).reshape(shape),
        "realism": np.float32([metrics.energy_distance(f, real) for f in features]),
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
def real_features(concept: str) -> Float[np.ndarray, "R F"]:
    """The classifier's features of real images of a concept."""
    return shipped_classifier()(real_of(concept)).features
