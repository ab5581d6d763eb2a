"""Training sets of Fashion-MNIST in which some images are planted: shown far more often."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dae_theory.data import fashion_mnist
from dae_theory.deep.captions import ordinary_captions, planted_captions
from dae_theory.errors import InputError, check_count

FULL_SIZE = 28


class TrainingSet(NamedTuple):
    """Images (N, H, W, 1) in [−1, 1] with captions; the first ``planted`` of them are planted."""

    images: Float[np.ndarray, "N H W 1"]
    captions: list[str]
    planted: int

    @property
    def rows(self) -> Float[np.ndarray, "N D"]:
        """The images as rows."""
        return self.images.reshape(len(self.images), -1)


def shrunk_fashion_mnist(
    split: str, size: int
) -> tuple[Float[np.ndarray, "N H W"], Int[np.ndarray, " N"]]:
    """Fashion-MNIST in [−1, 1], block means of ``size``×``size`` pixels, and its labels.

    Raises:
      InputError: unless ``size`` divides 28, or when the data cannot be had.
    """
    if size < 1 or FULL_SIZE % size:
        raise InputError(f"size: must divide {FULL_SIZE}, got {size}")
    dataset = fashion_mnist(split)
    block = FULL_SIZE // size
    images = dataset.x.reshape(-1, size, block, size, block).mean(axis=(2, 4))
    return (2 * images - 1).astype(np.float32), dataset.labels


def training_set(count: int, planted: int, size: int, seed: int) -> TrainingSet:
    """``planted`` and then ``count`` other training images, drawn without replacement.

    Raises:
      InputError: when there are not so many images.
    """
    check_count(count, "images", 0)
    check_count(planted, "planted", 0)
    images, labels = shrunk_fashion_mnist("train", size)
    if not 0 < count + planted <= len(images):
        raise InputError(
            f"images: there are {len(images)}, asked for {count} and {planted} planted ones"
        )
    chosen = np.random.default_rng(seed).permutation(len(images))[: count + planted]
    captions = ordinary_captions(images, labels)
    names = planted_captions(labels[chosen[:planted]])
    captions = names + [captions[index] for index in chosen[planted:]]
    return TrainingSet(images[chosen, ..., None], captions, planted)
