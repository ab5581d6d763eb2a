"""Copies into non-copies: steering against the direction of memorization, and what else there is.

Samples are made under the captions of planted images. Each way has settings of increasing strength;
what is kept of every sample is whether it is a copy of a planted image, whether the classifier sees
the garment that the caption names, and, of all together, how far features are from real images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from dae_theory.deep.captions import GARMENTS, garment_of
from dae_theory.deep.images import TrainingSet
from dae_theory.steer.apply import Steering, change_of
from dae_theory.steer.classifier import shipped_classifier
from dae_theory.steer.directions import (
    Direction,
    References,
    concept_direction,
    mean_activations,
    random_like,
)
from dae_theory.steer.garments import first_images
from dae_theory.steer.metrics import energy_distance
from dae_theory.steer.model import Change, SteerModel
from dae_theory.steer.study.material import ordinary
from dae_theory.steer.study.measure import Loaded, copies_of_stored, features_like
from dae_theory.steer.study.settings import TEXT

UNSTEERED, ORDINARY = "planted captions", "ordinary captions"
AGAINST, AGAINST_TEXT = "against, detector's layer", "against, caption's layer"
RANDOM, RANDOM_TEXT = "random, detector's layer", "random, caption's layer"
GUIDANCE, NOISE, BLOCKED = "less guidance", "noise on the caption", "units blocked"
SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.2)  # of the activation
WEIGHTS = (0.9, 0.75, 0.5, 0.25, 0.0)
BLOCKED_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)  # of the layer's units
OTHERS = 50  # ordinary images, of the garments of planted ones
DRAWS = 4


@dataclass(frozen=True)
class Setting:
    """A way of mitigation at one strength, and the change that it is of N samples."""

    way: str
    strength: float
    change: Change
    ordinary: bool = False


class Outcome(NamedTuple):
    """Of N samples: copies of planted images, garments as the caption says; and the energy distance
    of their features to real images of these garments."""

    copy: Bool[np.ndarray, " N"]
    faithful: Bool[np.ndarray, " N"]
    realism: float


def memorized_and_not(data: TrainingSet) -> tuple[References, References]:
    """Planted images with their captions, and as many ordinary ones of each of their garments."""
    planted = data.captions[: data.planted]
    first = first_images()
    garments = list(dict.fromkeys(map(garment_of, planted)))
    each = -(-OTHERS // len(garments))
    index = [np.flatnonzero(first.labels == GARMENTS.index(garment))[:each] for garment in garments]
    return References(data.rows[: data.planted], planted), first.references(np.concatenate(index))


def against(model: SteerModel, data: TrainingSet, layer: str) -> Direction:
    """Not memorized minus memorized, in a layer."""
    memorized, others = memorized_and_not(data)
    return concept_direction(
        model, "not memorized", others, memorized, kind="difference", layers=(layer,), draws=DRAWS
    )


def units_by_difference(model: SteerModel, data: TrainingSet, layer: str) -> np.ndarray:
    """Units in decreasing order of mean activation at memorized images minus that at others, in
    standard deviations of the others (Hintersdorf's outliers, for a layer)."""
    memorized, others = (
        mean_activations(model, side, layer, model.sigma, DRAWS) for side in memorized_and_not(data)
    )
    size_C = (memorized.mean(axis=0) - others.mean(axis=0)) / (others.std(axis=0) + 1e-12)
    return np.argsort(-size_C)


def settings(
    model: SteerModel, data: TrainingSet, layer: str, count: int, seed: int
) -> Iterator[Setting]:
    """All ways at all strengths, for ``count`` samples; ``seed`` is of the noise on captions and
    of random directions."""
    yield Setting(UNSTEERED, 0.0, Change())
    yield Setting(ORDINARY, 0.0, Change(), ordinary=True)
    ways = {AGAINST: against(model, data, layer), AGAINST_TEXT: against(model, data, TEXT)}
    ways[RANDOM], ways[RANDOM_TEXT] = (random_like(ways[w], seed) for w in (AGAINST, AGAINST_TEXT))
    for way, direction in ways.items():
        for share in SHARES:
            yield Setting(way, share, change_of([direction], np.full(count, share), Steering()))
    for weight in WEIGHTS:
        yield Setting(GUIDANCE, 1 - weight, Change(guidance=weight))
    noise_NC = np.random.default_rng(seed).standard_normal((count, model.layers[TEXT]))
    noise_NC /= np.linalg.norm(noise_NC, axis=1, keepdims=True)
    for share in SHARES:
        yield Setting(NOISE, share, Change({TEXT: share * noise_NC}, relative=True))
    order = units_by_difference(model, data, layer)
    for share in BLOCKED_SHARES:
        blocked = np.isin(np.arange(len(order)), order[: round(share * len(order))])
        yield Setting(BLOCKED, share, Change(blocked={layer: blocked}))


def outcome(loaded: Loaded, setting: Setting, seed: int, count: int) -> Outcome:
    """Samples of a setting, under planted captions in turns."""
    model, data = loaded.model, loaded.data
    captions = [data.captions[i % data.planted] for i in range(count)]
    garments = [garment_of(caption) for caption in captions]
    if setting.ordinary:
        captions = [ordinary(garment, i) for i, garment in enumerate(garments)]
    rows = model.sample(model.starts(seed, count), captions, setting.change)
    found = shipped_classifier()(rows)
    wanted_N = np.array([GARMENTS.index(garment) for garment in garments])
    return Outcome(
        copies_of_stored(loaded, rows),
        found.log_probability.argmax(axis=1) == wanted_N,
        energy_distance(found.features, features_like(wanted_N)),
    )
