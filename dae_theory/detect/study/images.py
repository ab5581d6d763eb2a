"""The images on which detectors are judged at one model, with labels that are known exactly.

A generated sample is memorized if it is a copy of a planted image by the gap ratio
(docs/THEORY.md#copies); a training image, if it was planted. Negatives are matched to positives:
generated ones, which are no copies, in class and in the distance to the nearest training image that
is not planted, so that a copy is as far from ordinary images as its negative; training images in
class. The class of a sample is that of its nearest training image.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float, Int

from dae_theory.deep.captions import GARMENTS, garment_of
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.images import TrainingSet, held_out_set
from dae_theory.deep.sampling import Copies, find_copies, sample_images
from dae_theory.detect.evaluate import matched
from dae_theory.memorization.nearest import duplicate_groups, nearest_two

FREE, TOLD, ORDINARY = "no caption", "planted captions", "other captions"
SAMPLES = {FREE: 400, TOLD: 200, ORDINARY: 200}
COPIES_EACH = 6  # of a planted image, at most
OTHERS_EACH = 5  # training images matched to a planted one
CALIBRATION = 150  # images of each kind
REFERENCE = 100  # unseen images on which scores that need it are fitted
UNSEEN = 1000  # test images that all unseen ones are taken from
SHIFT, BRIGHTER, RENOISED = 1, 0.2, 0.1  # pixels, of the range of 2, σ


class Group(IntEnum):
    """What an image is."""

    PLANTED = 0
    OTHER = 1  # training images matched to planted ones
    FREE_COPY = 2  # generated without a caption
    FREE_MATCHED = 3
    TOLD_COPY = 4  # generated with the caption of a planted image
    TOLD_MATCHED = 5
    UNSEEN = 6  # test images, of all classes
    SAMPLED = 7  # generated, no copies, matched to none
    SHIFTED = 8  # planted images changed a little
    BRIGHTENED = 9
    NOISED = 10
    OTHER_SHIFTED = 11  # those matched to them, changed as much
    OTHER_BRIGHTENED = 12
    OTHER_NOISED = 13
    UNSEEN_MATCHED = 14  # test images of the class of planted ones


@dataclass(frozen=True)
class Labelled:
    """Images of one model.

    Attributes:
      rows: (N, D).
      captions: the right one of each: of the training image that it is or is nearest to.
      group: values of `Group`.
      planted: index of the planted image that an image is, copies, or is matched to; −1 for none.
      reproduced: for each planted image, how many of the samples were copies of it.
      copies: for each kind of samples how many were copies of planted images, of how many.
    """

    rows: Float[np.ndarray, "N D"]
    captions: tuple[str, ...]
    group: Int[np.ndarray, " N"]
    planted: Int[np.ndarray, " N"]
    reproduced: Int[np.ndarray, " K"]
    copies: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class _Samples:
    """Samples of a kind, which are copies, and how far they are from images not planted."""

    rows: Float[np.ndarray, "M D"]
    found: Copies
    distance: Float[np.ndarray, " M"]


def classes(captions: tuple[str, ...] | list[str]) -> Int[np.ndarray, " N"]:
    """Index in GARMENTS of each caption."""
    return np.array([GARMENTS.index(garment_of(caption)) for caption in captions])


def labelled_images(checkpoint: Checkpoint, data: TrainingSet, *, whole: bool) -> Labelled:
    """Training, generated and unseen images of a model; ``whole`` with all groups, else planted
    images, those matched to them, and unseen ones.

    Equal models give equal images: samples and choices are drawn with the seed of the training.
    """
    config = checkpoint.config
    random = np.random.default_rng(config.seed)
    class_N = classes(data.captions)
    groups_N = duplicate_groups(data.rows)
    made = {
        kind: _samples(sample_images(checkpoint, captions, config.seed), data, groups_N)
        for kind, captions in _captions(checkpoint, data, random).items()
    }
    parts = [
        *_training(data, class_N, random, whole=whole),
        *_unseen(checkpoint, data, whole=whole),
    ]
    if whole:
        parts += _generated(made, data, class_N, random)
    rows, captions, group, planted = (list(column) for column in zip(*parts, strict=True))
    copied = [s.found.nearest[s.found.copy & s.found.planted] for s in made.values()]
    return Labelled(
        np.concatenate(rows).astype(np.float32),
        tuple(caption for some in captions for caption in some),
        np.concatenate([np.full(len(p), g) for g, p in zip(group, planted, strict=True)]),
        np.concatenate(planted),
        np.bincount(np.concatenate(copied), minlength=data.planted),
        {
            kind: (int(np.sum(s.found.copy & s.found.planted)), len(s.rows))
            for kind, s in made.items()
        },
    )


Part = tuple[np.ndarray, list[str], Group, np.ndarray]  # rows, captions, group, planted


def _captions(checkpoint: Checkpoint, data: TrainingSet, random) -> dict[str, list[str]]:
    """What samples are made of, by kind."""
    kinds = {FREE: [""] * SAMPLES[FREE]}
    if checkpoint.config.network.text:
        kinds[TOLD] = [data.captions[i % data.planted] for i in range(SAMPLES[TOLD])]
        others = random.integers(data.planted, len(data.captions), SAMPLES[ORDINARY])
        kinds[ORDINARY] = [data.captions[i] for i in others]
    return kinds


def _samples(rows: np.ndarray, data: TrainingSet, groups_N: np.ndarray) -> _Samples:
    distance_M2 = nearest_two(rows, data.rows[data.planted :], groups_N[data.planted :]).distances
    return _Samples(rows, find_copies(rows, data, groups_N), distance_M2[:, 0])


def _training(data: TrainingSet, class_N, random, *, whole: bool) -> list[Part]:
    """Planted images, others of their class, and both changed a little."""
    planted_K = np.arange(data.planted)
    pool = data.planted + random.permutation(len(class_N) - data.planted)[:5000]
    index, owner = _pairs(_of_class(class_N[planted_K], class_N[pool]))
    other = pool[index]
    parts = []
    changes = (
        (Group.PLANTED, Group.OTHER, lambda rows: rows),
        (Group.SHIFTED, Group.OTHER_SHIFTED, shifted),
        (Group.BRIGHTENED, Group.OTHER_BRIGHTENED, brightened),
        (Group.NOISED, Group.OTHER_NOISED, lambda rows: renoised(random, rows)),
    )
    for own_group, other_group, change in changes[: None if whole else 1]:
        for group, index, planted in (
            (own_group, planted_K, planted_K),
            (other_group, other, owner),
        ):
            captions = [data.captions[i] for i in index]
            parts.append((change(data.rows[index]), captions, group, planted))
    return parts


def _unseen(checkpoint: Checkpoint, data: TrainingSet, *, whole: bool) -> list[Part]:
    """Test images: the first, of all classes, and others of the class of planted images."""
    held_out = held_out_set(**checkpoint.config.drawn_as, limit=UNSEEN)
    first = slice(CALIBRATION)
    nowhere = np.full(CALIBRATION, -1)
    parts = [(held_out.rows[first], held_out.captions[first], Group.UNSEEN, nowhere)]
    if whole:
        pool = np.arange(CALIBRATION + REFERENCE, UNSEEN)
        captions = [held_out.captions[i] for i in pool]
        chosen_KE = _of_class(classes(data.captions[: data.planted]), classes(captions))
        index, owner = _pairs(chosen_KE)
        matching = [captions[i] for i in index]
        parts.append((held_out.rows[pool[index]], matching, Group.UNSEEN_MATCHED, owner))
    return parts


def reference_images(checkpoint: Checkpoint) -> Float[np.ndarray, "R D"]:
    """Unseen images that are not among the labelled ones."""
    held_out = held_out_set(**checkpoint.config.drawn_as, limit=CALIBRATION + REFERENCE)
    return held_out.rows[CALIBRATION:]


def _of_class(class_K, class_N) -> Int[np.ndarray, "K E"]:
    """OTHERS_EACH images of the class of each of K, in the order of N."""
    return matched(class_K, np.zeros(len(class_K)), class_N, np.zeros(len(class_N)), OTHERS_EACH)


def _pairs(chosen_KE: Int[np.ndarray, "K E"]) -> tuple[np.ndarray, np.ndarray]:
    """The chosen images, and for which of K each was chosen."""
    owner_K, _ = np.nonzero(chosen_KE >= 0)
    return chosen_KE[chosen_KE >= 0], owner_K


def _generated(made: dict[str, _Samples], data: TrainingSet, class_N, random) -> list[Part]:
    """Copies of planted images, samples matched to them that are no copies, and the rest of
    these."""
    sources = [made[kind] for kind in (FREE, ORDINARY) if kind in made]
    keep = [~source.found.copy for source in sources]
    pool = np.concatenate([s.rows[k] for s, k in zip(sources, keep, strict=True)])
    nearest = np.concatenate([s.found.nearest[k] for s, k in zip(sources, keep, strict=True)])
    distance = np.concatenate([s.distance[k] for s, k in zip(sources, keep, strict=True)])
    free, parts = np.ones(len(pool), bool), []
    for kind, copy_group, matched_group in (
        (FREE, Group.FREE_COPY, Group.FREE_MATCHED),
        (TOLD, Group.TOLD_COPY, Group.TOLD_MATCHED),
    ):
        if kind not in made:
            continue
        source = made[kind]
        copies = _few_of_each(source.found, random)
        planted = source.found.nearest[copies]
        left = np.flatnonzero(free)
        chosen = matched(
            class_N[planted], source.distance[copies], class_N[nearest[left]], distance[left]
        )[:, 0]
        partner = left[chosen[chosen >= 0]]
        free[partner] = False
        parts += [
            (source.rows[copies], [data.captions[i] for i in planted], copy_group, planted),
            (
                pool[partner],
                [data.captions[i] for i in nearest[partner]],
                matched_group,
                planted[chosen >= 0],
            ),
        ]
    rest = random.permutation(np.flatnonzero(free))[:CALIBRATION]
    captions = [data.captions[i] for i in nearest[rest]]
    return [*parts, (pool[rest], captions, Group.SAMPLED, np.full(len(rest), -1))]


def _few_of_each(found: Copies, random) -> Int[np.ndarray, " C"]:
    """At most COPIES_EACH copies of each planted image."""
    order = random.permutation(np.flatnonzero(found.copy & found.planted))
    chosen: list[int] = []
    for planted in np.unique(found.nearest[order]):
        chosen += list(order[found.nearest[order] == planted][:COPIES_EACH])
    return np.array(chosen, int)


def shifted(x_ND: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Square images moved to the right by SHIFT pixels; what comes in is black."""
    side = round(x_ND.shape[1] ** 0.5)
    images = np.full((len(x_ND), side, side), -1.0, x_ND.dtype)
    images[:, :, SHIFT:] = x_ND.reshape(-1, side, side)[:, :, :-SHIFT]
    return images.reshape(x_ND.shape)


def brightened(x_ND: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Black stays black, white becomes whiter, up to white: (1 + BRIGHTER)(x + 1) − 1."""
    return np.minimum((1 + BRIGHTER) * (x_ND + 1) - 1, 1.0)


def renoised(random: np.random.Generator, x_ND: Float[np.ndarray, "N D"]) -> np.ndarray:
    """With noise of standard deviation RENOISED."""
    return x_ND + RENOISED * random.standard_normal(x_ND.shape)
