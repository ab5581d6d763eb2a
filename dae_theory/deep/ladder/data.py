"""Images of the ladder, 14×14 in [−1, 1] without their mean: training and held-out ones by seed."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError
from dae_theory.data.images import patches
from dae_theory.deep.images import shrunk_faces, shrunk_fashion_mnist
from dae_theory.deep.ladder.nets import SIDE

PATCHES, HELD_OUT = 15_000, 1000
FLAT, CONTRAST = 0.02, 0.5  # standard deviations of a patch whose pixels are in [0, 1]


class Pool(NamedTuple):
    """Images to draw from: ``training`` (M, D) and ``held_out`` (T, D), with labels if any."""

    training: Float[np.ndarray, "M D"]
    held_out: Float[np.ndarray, "T D"]
    training_labels: Int[np.ndarray, " M"] | None = None
    held_out_labels: Int[np.ndarray, " T"] | None = None


class Drawn(NamedTuple):
    """``training`` images (N, D) of one net, ``held_out`` ones (P, D), and their labels if any."""

    training: Float[np.ndarray, "N D"]
    held_out: Float[np.ndarray, "P D"]
    training_labels: Int[np.ndarray, " N"] | None
    held_out_labels: Int[np.ndarray, " P"] | None


def _fashion_mnist() -> Pool:
    (train, train_labels), (test, test_labels) = (
        shrunk_fashion_mnist(split, SIDE) for split in ("train", "test")
    )
    return Pool(_rows(train), _rows(test), train_labels, test_labels)


def _shuffled() -> Pool:
    """Fashion-MNIST, the pixels of each image in an order of its own: images without structure."""
    rng = np.random.default_rng(0)
    pool = _centred(_fashion_mnist())
    mixed = (rng.permuted(x_ND, axis=1) for x_ND in (pool.training, pool.held_out))
    return Pool(*mixed, pool.training_labels, pool.held_out_labels)


def _faces() -> Pool:
    """All faces twice: those that a net is not trained on are held out (`draw`)."""
    rows_ND = _rows(shrunk_faces(SIDE))
    return Pool(rows_ND, rows_ND)


def _patches() -> Pool:
    """Of photographs, with brightness 0 and contrast CONTRAST, flat ones left out; the held-out
    ones are other patches of the same photographs."""
    rows_ND = patches(PATCHES, size=SIDE).x.astype(np.float32)
    rows_ND -= rows_ND.mean(axis=1, keepdims=True)
    spread_N = rows_ND.std(axis=1)
    kept_N = spread_N >= FLAT
    rows_ND = CONTRAST * rows_ND[kept_N] / spread_N[kept_N, None]
    return Pool(rows_ND[:-HELD_OUT], rows_ND[-HELD_OUT:])


SOURCES: Mapping[str, Callable[[], Pool]] = MappingProxyType(
    {
        "fashion_mnist": _fashion_mnist,
        "shuffled": _shuffled,
        "faces": _faces,
        "patches": _patches,
    }
)


@functools.cache
def pool(name: str) -> Pool:
    """The images of a name in SOURCES, the mean of the training ones taken off all.

    Raises:
      InputError: for another name, or when the data cannot be had.
    """
    if name not in SOURCES:
        raise InputError(f"data: expected one of {', '.join(SOURCES)}, got {name!r}")
    return _centred(SOURCES[name]())


def draw(name: str, n: int, points: int, seed: int) -> Drawn:
    """``n`` training images and ``points`` held-out ones, drawn without replacement by the seed.

    Raises:
      InputError: as `pool`, or when there are not so many images.
    """
    images = pool(name)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images.training))
    if images.training is images.held_out:
        chosen, other = order[:n], order[n : n + points]
    else:
        chosen, other = order[:n], rng.permutation(len(images.held_out))[:points]
    if len(chosen) < n or len(other) < points:
        raise InputError(
            f"n: {name} has {len(order)} images, asked for {n} and {points} held-out ones"
        )
    labels = (images.training_labels, images.held_out_labels)
    drawn_labels = (
        None if of_all is None else of_all[which]
        for of_all, which in zip(labels, (chosen, other), strict=True)
    )
    return Drawn(images.training[chosen], images.held_out[other], *drawn_labels)


def _rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _centred(images: Pool) -> Pool:
    mean_D = images.training.mean(axis=0)
    training = images.training - mean_D
    same = images.training is images.held_out
    held_out = training if same else images.held_out - mean_D
    return images._replace(training=training, held_out=held_out)
