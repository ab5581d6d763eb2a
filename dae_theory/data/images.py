"""Images that work offline: faces, patches of photographs, Fashion-MNIST."""

import gzip
import os
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from dae_theory.checks import InputError, check_count
from dae_theory.data.dataset import Dataset

FASHION_MNIST_FILES = {
    "train": "train-images-idx3-ubyte.gz",
    "test": "t10k-images-idx3-ubyte.gz",
}
FASHION_MNIST_LABELS = {
    "train": "train-labels-idx1-ubyte.gz",
    "test": "t10k-labels-idx1-ubyte.gz",
}
FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "grass", "gravel", "brick")


def faces() -> Dataset:
    """100 gray faces, 25×25, in [0, 1]: Labeled Faces in the Wild, shipped in scikit-image."""
    from skimage.data import lfw_subset

    images = lfw_subset()[:100]
    return Dataset("faces", images.reshape(100, -1).astype(np.float64), images.shape[1:])


def patches(n: int, *, size: int = 8, seed: int = 0) -> Dataset:
    """``n`` gray square patches in [0, 1] at random places of scikit-image's photographs."""
    import skimage.data
    from skimage.color import rgb2gray
    from skimage.util import img_as_float

    check_count(n, "n")
    check_count(size, "size")
    rng = np.random.default_rng(seed)
    photographs = []
    for name in PHOTOGRAPHS:
        image = img_as_float(getattr(skimage.data, name)())
        photographs.append(rgb2gray(image) if image.ndim == 3 else image)
    smallest = min(min(image.shape) for image in photographs)
    if size > smallest:
        raise InputError(f"size: patches are at most {smallest} pixels wide here, got {size}")
    x_ND = np.empty((n, size * size))
    for i, which in enumerate(rng.integers(len(photographs), size=n)):
        image = photographs[which]
        row = rng.integers(image.shape[0] - size + 1)
        column = rng.integers(image.shape[1] - size + 1)
        x_ND[i] = image[row : row + size, column : column + size].ravel()
    return Dataset("patches", x_ND, (size, size))


def fashion_mnist(split: str = "train", limit: int | None = None) -> Dataset:
    """Fashion-MNIST, 28×28 in [0, 1] with class labels; 60,000 (train) or 10,000 (test) images,
    or the first ``limit`` of them.

    Looked for in Debian's ``dataset-fashion-mnist`` folder, then in a cache folder
    (``$DAE_THEORY_CACHE`` or ``~/.cache/dae_theory``), then downloaded into the cache.
    """
    if split not in FASHION_MNIST_FILES:
        raise InputError(f"split: expected 'train' or 'test', got {split!r}")
    images = _read_idx(_fashion_mnist_path(FASHION_MNIST_FILES[split]))[:limit] / 255.0
    labels = _read_idx(_fashion_mnist_path(FASHION_MNIST_LABELS[split]))[:limit]
    flat = images.reshape(len(images), -1)
    name = "fashion_mnist" if split == "train" else "fashion_mnist_test"
    return Dataset(name, flat, images.shape[1:], labels=labels.astype(int))


def cache_folder() -> Path:
    """Where downloads are kept: ``$DAE_THEORY_CACHE``, else ``~/.cache/dae_theory``."""
    return Path(os.environ.get("DAE_THEORY_CACHE", Path.home() / ".cache" / "dae_theory"))


def _fashion_mnist_path(filename: str) -> Path:
    for folder in (FASHION_MNIST_FOLDER, cache_folder()):
        if (folder / filename).is_file():
            return folder / filename
    target = cache_folder() / filename
    partial = target.with_suffix(".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(FASHION_MNIST_URL + filename, timeout=30) as response:
            partial.write_bytes(response.read())
        partial.replace(target)
    except (urllib.error.URLError, OSError) as error:
        raise InputError(
            f"fashion_mnist: {filename} is not in {FASHION_MNIST_FOLDER}, not in "
            f"{cache_folder()}, and the download failed ({error}); install the Debian package "
            "dataset-fashion-mnist or put the file into the cache folder"
        ) from error
    return target


def _read_idx(path: Path) -> np.ndarray:
    """Array of an idx.gz file of unsigned bytes."""
    try:
        raw = gzip.decompress(path.read_bytes())
        n_axes = raw[3]
        shape = np.frombuffer(raw, ">i4", n_axes, 4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * n_axes).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise InputError(f"{path}: truncated or not an idx.gz file ({error})") from error
