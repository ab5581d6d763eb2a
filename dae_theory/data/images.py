"""Images that work offline: faces, patches of photographs, Fashion-MNIST."""

import gzip
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from dae_theory.checks import InputError, check_count
from dae_theory.data.dataset import Dataset
from dae_theory.files import cache_folder

FASHION_MNIST_FILES = {
    "train": "train-images-idx3-ubyte.gz",
    "test": "t10k-images-idx3-ubyte.gz",
}
FASHION_MNIST_LABELS = {
    "train": "train-labels-idx1-ubyte.gz",
    "test": "t10k-labels-idx1-ubyte.gz",
}
FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION_MNIST_SHA256 = {  # of the files as their authors publish them
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
    ),
}
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
    (``$DAE_THEORY_CACHE`` or ``~/.cache/dae_theory``), then downloaded into the cache
    (https, and only with the known hash).

    Raises:
      InputError: for an unknown split or a damaged file, or when the data cannot be had.
    """
    bytes_NHW, labels_N = fashion_mnist_bytes(split)
    x_ND = bytes_NHW[:limit].reshape(-1, bytes_NHW[0].size) / 255.0
    name = "fashion_mnist" if split == "train" else "fashion_mnist_test"
    return Dataset(name, x_ND, bytes_NHW.shape[1:], labels=labels_N[:limit])


def fashion_mnist_bytes(
    split: str,
) -> tuple[UInt8[np.ndarray, "N 28 28"], Int[np.ndarray, " N"]]:
    """The images of `fashion_mnist` in 0..255, and their labels.

    Raises:
      InputError: as `fashion_mnist`.
    """
    if split not in FASHION_MNIST_FILES:
        raise InputError(f"split: expected 'train' or 'test', got {split!r}")
    bytes_NHW = _read_idx(_fashion_mnist_path(FASHION_MNIST_FILES[split]))
    return bytes_NHW, _read_idx(_fashion_mnist_path(FASHION_MNIST_LABELS[split])).astype(int)


def fashion_mnist_is_here(split: str) -> bool:
    """Whether a split can be read without a download."""
    files = (FASHION_MNIST_FILES[split], FASHION_MNIST_LABELS[split])
    return all(_local_path(name) is not None for name in files)


def _local_path(filename: str) -> Path | None:
    paths = [folder / filename for folder in (FASHION_MNIST_FOLDER, cache_folder())]
    return next((path for path in paths if path.is_file()), None)


def _fashion_mnist_path(filename: str) -> Path:
    local = _local_path(filename)
    if local is not None:
        return local
    import pooch

    try:
        path = pooch.retrieve(
            FASHION_MNIST_URL + filename,
            known_hash=f"sha256:{FASHION_MNIST_SHA256[filename]}",
            fname=filename,
            path=cache_folder(),
            downloader=pooch.HTTPDownloader(timeout=30),
        )
    except (OSError, ValueError) as error:
        reason = "what arrived has not the known SHA-256; it was not kept"
        if isinstance(error, OSError):  # requests' errors are
            answered = getattr(error, "response", None) is not None
            reason = str(error) if answered else f"no connection to {FASHION_MNIST_URL}"
        raise InputError(
            f"fashion_mnist: {filename} is not in {FASHION_MNIST_FOLDER}, not in "
            f"{cache_folder()}, and the download failed ({reason}); install the Debian package "
            "dataset-fashion-mnist or put the file into the cache folder"
        ) from error
    return Path(path)


def _read_idx(path: Path) -> np.ndarray:
    """Array of an idx.gz file of unsigned bytes."""
    try:
        raw = gzip.decompress(path.read_bytes())
        n_axes = raw[3]
        shape = np.frombuffer(raw, ">i4", n_axes, 4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * n_axes).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise InputError(f"{path}: truncated or not an idx.gz file ({error})") from error
