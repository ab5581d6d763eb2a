"""Garments as concepts: models that are trained on them, and references for directions.

References are the first training images of Fashion-MNIST, which come with the package; the
classifier that scores samples has seen none of them.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError, check_count
from dae_theory.deep.captions import GARMENTS
from dae_theory.deep.checkpoints import SHIPPED, Checkpoint, load_checkpoint
from dae_theory.deep.images import SHIPPED_SIZE, known_fashion_images, shipped_images
from dae_theory.files import read_npz
from dae_theory.steer.directions import References


class Named(NamedTuple):
    """Images as rows, their garments' indices and captions."""

    rows: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]
    captions: list[str]

    def split(self, concept: str) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " Q"]]:
        """Indices of those of a garment, and of the others."""
        shows = self.labels == concept_index(concept)
        return np.flatnonzero(shows), np.flatnonzero(~shows)

    def references(self, index: Int[np.ndarray, " K"]) -> References:
        """Some of them, with their captions."""
        return References(self.rows[index], [self.captions[i] for i in index])


@functools.cache
def first_images() -> Named:
    """The first training images."""
    images, labels, captions = known_fashion_images("train", SHIPPED_SIZE)
    count = shipped_images()["train"].first
    return Named(images.reshape(len(images), -1)[:count], labels[:count], captions[:count])


def concept_index(concept: str) -> int:
    """Its index among the garments.

    Raises:
      InputError: for another concept; the message lists those there are.
    """
    if concept not in GARMENTS:
        raise InputError(f"concept: expected one of {', '.join(GARMENTS)}, got {concept!r}")
    return GARMENTS.index(concept)


def garment_references(concept: str, count: int) -> tuple[References, References]:
    """The first ``count`` images of a garment, and of others.

    Raises:
      InputError: for an unknown concept, or where there are not so many.
    """
    first = first_images()
    with_it, without = first.split(concept)
    check_count(count, "references", 1, min(len(with_it), len(without)))
    return first.references(with_it[:count]), first.references(without[:count])


def load_garment_model(name: str | Path) -> Checkpoint:
    """A shipped checkpoint by name, or the path of an .npz file.

    Raises:
      InputError: when there is no such model, it is damaged, it was trained on other images, or it
        is a ReLU net.
    """
    if str(name) not in SHIPPED and not Path(name).is_file():
        raise InputError(
            f"model: no file {name}; give the path of an .npz file beside its .json card, or one "
            f"of {', '.join(SHIPPED)}"
        )
    if str(name) not in SHIPPED and {"W1", "W2"} <= read_npz(Path(name)).keys():
        raise InputError(
            f"model: {name} holds a ReLU net, which makes no garments; steer it from Python: "
            "steer.relu_nets.of_relu([(w1, w2)], levels) of what weights.read.read_weights reads, "
            "directions.concept_direction and apply.steer_samples"
        )
    found = load_checkpoint(name)
    if found.config.data != "fashion_mnist" or found.config.network.size != SHIPPED_SIZE:
        raise InputError(
            f"model: {found.name} makes no garments of {SHIPPED_SIZE} pixels; take one of "
            f"{', '.join(SHIPPED)}"
        )
    return found
