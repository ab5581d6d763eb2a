"""Training sets of images, some of them planted: shown far more often than others.

Images of Fashion-MNIST are shrunk. Some thousand of them come with the package (`shipped_images`),
those that the shipped models are checked on: they stand in where Fashion-MNIST is not on the
machine. `dae_theory.deep.subset` makes that file.
"""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError, check_count
from dae_theory.data.images import fashion_mnist_bytes, fashion_mnist_is_here
from dae_theory.data.named import load
from dae_theory.deep.captions import captions_of, ordinary_captions, planted_captions
from dae_theory.files import read_npz

SOURCES = ("fashion_mnist", "faces")
FULL_SIZE, FACE_SIZE = 28, 25  # pixels a side
AVAILABLE = {"train": 60_000, "test": 10_000}  # images of Fashion-MNIST
SHIPPED_IMAGES = Path(__file__).with_name("shipped_images") / "fashion_mnist.npz"
SHIPPED_SHA256 = "c57888b012892b943dbcc220f802e858e1ef4db5b531a90d799a8f75b52d018f"
SHIPPED_SIZE = 14  # pixels a side


class TrainingSet(NamedTuple):
    """Images (N, H, W, 1) in [−1, 1] with captions; the first ``planted`` of them are planted."""

    images: Float[np.ndarray, "N H W 1"]
    captions: list[str]
    planted: int

    @property
    def rows(self) -> Float[np.ndarray, "N D"]:
        """The images as rows."""
        return self.images.reshape(len(self.images), -1)


class Captioned(NamedTuple):
    """Images (N, H, W) of Fashion-MNIST in [−1, 1]."""

    images: Float[np.ndarray, "N H W"]
    labels: Int[np.ndarray, " N"]
    captions: list[str]


class ShippedImages(NamedTuple):
    """Images of a split that come with the package, by increasing ``index`` in the split.

    ``sums`` are of the four bytes of each pixel, ``tones`` those of `captions.tones`. The first
    ``first`` images of the split are all among them.
    """

    index: Int[np.ndarray, " N"]
    sums: Int[np.ndarray, "N H W"]
    labels: Int[np.ndarray, " N"]
    tones: Int[np.ndarray, " N"]
    first: int


@functools.cache
def shipped_images() -> Mapping[str, ShippedImages]:
    """The images of Fashion-MNIST that come with the package, by split.

    Raises:
      InputError: when the file is missing or damaged.
    """
    arrays = read_npz(SHIPPED_IMAGES)
    if hashlib.sha256(SHIPPED_IMAGES.read_bytes()).hexdigest() != SHIPPED_SHA256:
        raise InputError(f"{SHIPPED_IMAGES}: altered; install the package anew")
    return {
        split: ShippedImages(
            *(arrays[f"{split}/{name}"].astype(int) for name in ShippedImages._fields[:-1]),
            first=int(arrays[f"{split}/first"]),
        )
        for split in AVAILABLE
    }


def shrunk_fashion_mnist(
    split: str, size: int
) -> tuple[Float[np.ndarray, "N H W"], Int[np.ndarray, " N"]]:
    """Fashion-MNIST in [−1, 1], block means of ``size``×``size`` pixels, and its labels.

    Raises:
      InputError: unless ``size`` divides 28, or when the data cannot be had.
    """
    sums_NHW, labels_N = summed_fashion_mnist(split, size)
    return _scaled(sums_NHW, size), labels_N


def summed_fashion_mnist(
    split: str, size: int
) -> tuple[Int[np.ndarray, "N H W"], Int[np.ndarray, " N"]]:
    """Sums of the bytes of each block of pixels, and labels; as `shrunk_fashion_mnist`."""
    if size < 1 or FULL_SIZE % size:
        raise InputError(f"size: must divide {FULL_SIZE}, got {size}")
    bytes_NHW, labels_N = fashion_mnist_bytes(split)
    block = FULL_SIZE // size
    rows_NHW = bytes_NHW.reshape(-1, size, block, FULL_SIZE).sum(axis=2, dtype=np.int32)
    return rows_NHW.reshape(-1, size, size, block).sum(axis=3, dtype=np.int32), labels_N


def _scaled(sums_NHW: Int[np.ndarray, "N H W"], size: int) -> Float[np.ndarray, "N H W"]:
    white = 255 * (FULL_SIZE // size) ** 2
    return (2 * (sums_NHW / white) - 1).astype(np.float32)


def fashion_images(
    split: str, size: int, chosen_K: Int[np.ndarray, " K"] | None = None
) -> Captioned:
    """Images of Fashion-MNIST by their index in a split; default all.

    From the whole data where they are on this machine, else from `shipped_images` where all chosen
    ones are among them, else the data are downloaded.

    Raises:
      InputError: as `shrunk_fashion_mnist`.
    """
    if chosen_K is not None and size == SHIPPED_SIZE and not fashion_mnist_is_here(split):
        shipped = shipped_images()[split]
        if np.isin(chosen_K, shipped.index).all():
            row_K = np.searchsorted(shipped.index, chosen_K)
            labels_K = shipped.labels[row_K]
            captions = captions_of(shipped.tones[row_K], labels_K)
            return Captioned(_scaled(shipped.sums[row_K], size), labels_K, captions)
    images, labels = shrunk_fashion_mnist(split, size)
    captions = ordinary_captions(images, labels)
    if chosen_K is None:
        return Captioned(images, labels, captions)
    return Captioned(images[chosen_K], labels[chosen_K], [captions[i] for i in chosen_K])


def known_fashion_images(split: str, size: int) -> Captioned:
    """All images of a split where they are on this machine, else the first ones, which are shipped.

    Raises:
      InputError: as `fashion_images`.
    """
    if fashion_mnist_is_here(split):
        return fashion_images(split, size)
    return fashion_images(split, size, np.arange(shipped_images()[split].first))


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
    count: int,
    planted: int,
    size: int,
    seed: int,
    source: str = "fashion_mnist",
    *,
    own_captions: bool = True,
) -> TrainingSet:
    """``planted`` and then ``count`` other training images, drawn without replacement.

    ``source`` is one of SOURCES; faces have empty captions. With ``own_captions`` planted images
    have captions that no other has (`captions.planted_captions`), else ordinary ones.

    Raises:
      InputError: when there are not so many images, or no such source.
    """
    chosen = drawn_indices(count, planted, size, seed, source)
    return _set_of(source, "train", size, chosen, planted, own_captions)


def known_training_set(
    count: int,
    planted: int,
    size: int,
    seed: int,
    source: str = "fashion_mnist",
    *,
    own_captions: bool = True,
) -> TrainingSet:
    """The images of `training_set` that are on this machine: all, or those that are shipped.

    Raises:
      InputError: as `training_set`, and when a planted image is not here.
    """
    chosen = drawn_indices(count, planted, size, seed, source)
    if source == "fashion_mnist" and size == SHIPPED_SIZE and not fashion_mnist_is_here("train"):
        here_N = np.isin(chosen, shipped_images()["train"].index)
        if here_N[:planted].all():
            chosen = chosen[here_N]
    return _set_of(source, "train", size, chosen, planted, own_captions)


def held_out_set(
    count: int,
    planted: int,
    size: int,
    seed: int,
    source: str = "fashion_mnist",
    limit: int | None = None,
) -> TrainingSet:
    """Images that `training_set` of the same arguments does not hold: the test images of
    Fashion-MNIST, or the other faces, of which there may be none; the first ``limit`` of them."""
    if source == "faces":
        chosen = np.setdiff1d(
            np.arange(_available(source, size)), drawn_indices(count, planted, size, seed, source)
        )
    else:
        chosen = np.arange(AVAILABLE["test"])
    return _set_of(source, "test", size, chosen[:limit], 0)


def _available(source: str, size: int) -> int:
    """Images to draw training images from."""
    if source not in SOURCES:
        raise InputError(f"data: expected one of {', '.join(SOURCES)}, got {source!r}")
    return len(shrunk_faces(size)) if source == "faces" else AVAILABLE["train"]


def _set_of(
    source: str, split: str, size: int, chosen_K, planted: int, own_captions: bool = True
) -> TrainingSet:
    """The chosen images of a source, of which faces have one split only."""
    if source == "faces":
        images_KHW, captions = shrunk_faces(size)[chosen_K], [""] * len(chosen_K)
    else:
        images_KHW, labels_K, captions = fashion_images(split, size, chosen_K)
        if own_captions:
            captions = planted_captions(labels_K[:planted]) + captions[planted:]
    return TrainingSet(images_KHW[..., None], captions, planted)


def drawn_indices(
    count: int, planted: int, size: int, seed: int, source: str
) -> Int[np.ndarray, " N"]:
    """Which images of a source `training_set` takes, planted ones first.

    Raises:
      InputError: as `training_set`.
    """
    check_count(count, "images", 0)
    check_count(planted, "planted", 0)
    available = _available(source, size)
    if not 0 < count + planted <= available:
        raise InputError(
            f"images: there are {available}, asked for {count} and {planted} planted ones"
        )
    return np.random.default_rng(seed).permutation(available)[: count + planted]
