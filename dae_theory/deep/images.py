"""Training sets of images, some of them planted: shown far more often than others."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError, check_count
from dae_theory.data.named import load
from dae_theory.deep.captions import ordinary_captions, planted_captions

SOURCES = ("fashion_mnist", "faces")
FULL_SIZE, FACE_SIZE = 28, 25  # pixels a side


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
    dataset = load("fashion_mnist" if split == "train" else f"fashion_mnist_{split}")
    block = FULL_SIZE // size
    images = dataset.x.reshape(-1, size, block, size, block).mean(axis=(2, 4))
    return (2 * images - 1).astype(np.float32), dataset.labels


def shrunk_faces(size: int) -> Float[np.ndarray, "N H W"]:
    """The 100 faces in [−1, 1], smoothed and resized.

    Raises:
      InputError: unless 1 ≤ ``size`` ≤ 25.
    """
    from skimage.transform import resize

    if not 1 <= size <= FACE_SIZE:
        raise InputError(f"size: faces have {FACE_SIZE} pixels a side, got {size}")
    full = load("faces").x.reshape(-1, FACE_SIZE, FACE_SIZE)
    images = [resize(image, (size, size), anti_aliasing=True) for image in full]
    return (2 * np.stack(images) - 1).astype(np.float32)


def training_set(
    count: int, planted: int, size: int, seed: int, source: str = "fashion_mnist"
) -> TrainingSet:
    """``planted`` and then ``count`` other training images, drawn without replacement.

    ``source`` is one of SOURCES; faces have empty captions.

    Raises:
      InputError: when there are not so many images, or no such source.
    """
    check_count(count, "images", 0)
    check_count(planted, "planted", 0)
    images, captions, labels = _images_of(source, "train", size)
    if not 0 < count + planted <= len(images):
        raise InputError(
            f"images: there are {len(images)}, asked for {count} and {planted} planted ones"
        )
    chosen = _drawn(len(images), count + planted, seed)
    named = [""] * planted if labels is None else planted_captions(labels[chosen[:planted]])
    captions = named + [captions[index] for index in chosen[planted:]]
    return TrainingSet(images[chosen, ..., None], captions, planted)


def held_out_set(
    count: int, planted: int, size: int, seed: int, source: str = "fashion_mnist"
) -> TrainingSet:
    """Images that `training_set` of the same arguments does not hold: the test images of
    Fashion-MNIST, or the other faces, of which there may be none."""
    images, captions, labels = _images_of(source, "test", size)
    if labels is None:
        rest = np.setdiff1d(np.arange(len(images)), _drawn(len(images), count + planted, seed))
        images, captions = images[rest], [captions[index] for index in rest]
    return TrainingSet(images[..., None], captions, 0)


def _images_of(
    source: str, split: str, size: int
) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Images, captions and labels (None without) of a source; faces have one split only."""
    if source not in SOURCES:
        raise InputError(f"data: expected one of {', '.join(SOURCES)}, got {source!r}")
    if source == "faces":
        images = shrunk_faces(size)
        return images, [""] * len(images), None
    images, labels = shrunk_fashion_mnist(split, size)
    return images, ordinary_captions(images, labels), labels


def _drawn(available: int, count: int, seed: int) -> Int[np.ndarray, " N"]:
    return np.random.default_rng(seed).permutation(available)[:count]
