"""Data sets: synthetic ones with known statistics, images that work offline, and files.

Samples are rows, (N, D), float64. Synthetic data come with the mixture they were drawn from,
so that ground truth is never estimated.
"""

import gzip
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import null_space

from dae_theory.errors import InputError, check_count, check_samples

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
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "grass", "gravel", "brick")


@dataclass(frozen=True)
class Mixture:
    """Gaussian mixture Σ_k ρ_k N(μ_k, Σ_k).

    ``means`` (K, D), ``covs`` (K, D, D), ``priors`` (K,) summing to 1.
    """

    means: Float[np.ndarray, "K D"]
    covs: Float[np.ndarray, "K D D"]
    priors: Float[np.ndarray, " K"]

    def sample(self, seed: int, n: int) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
        """``n`` samples and their cluster labels, with counts as near to n·priors as possible."""
        check_count(n, "n")
        rng = np.random.default_rng(seed)
        labels_N = np.repeat(np.arange(len(self.priors)), proportional_counts(self.priors, n))
        x_ND = np.empty((n, self.means.shape[1]))
        for k, (mean, cov) in enumerate(zip(self.means, self.covs, strict=True)):
            values, vectors = np.linalg.eigh(cov)
            root = vectors * np.sqrt(np.clip(values, 0, None))
            members = labels_N == k
            x_ND[members] = mean + rng.standard_normal((members.sum(), len(mean))) @ root.T
        return x_ND, labels_N


@dataclass(frozen=True)
class Dataset:
    """Samples (N, D) with what is known about them.

    ``image_shape`` is (height, width) or (height, width, channels) for images. ``offset`` (D,)
    was subtracted when the data were centred (zeros otherwise). ``labels`` (N,) and ``mixture``
    are there for synthetic data.
    """

    name: str
    x: Float[np.ndarray, "N D"]
    image_shape: tuple[int, ...] | None = None
    offset: Float[np.ndarray, " D"] | None = None
    labels: Int[np.ndarray, " N"] | None = None
    mixture: Mixture | None = None


def proportional_counts(priors: Float[np.ndarray, " K"], n: int) -> Int[np.ndarray, " K"]:
    """Integer counts that sum to ``n``, nearest to n·priors (largest remainders)."""
    exact = np.asarray(priors) / np.sum(priors) * n
    counts = np.floor(exact).astype(int)
    largest = np.argsort(counts - exact, kind="stable")[: n - counts.sum()]
    counts[largest] += 1
    return counts


def centred(dataset: Dataset) -> Dataset:
    """The data set with its mean over samples subtracted and kept as ``offset``."""
    mean_D = dataset.x.mean(axis=0)
    return replace(dataset, x=dataset.x - mean_D, offset=mean_D)


def equiangular_directions(n: int, d: int, cosine: float) -> Float[np.ndarray, "N D"]:
    """``n`` unit vectors in R^d, all pairs at the given cosine.

    Raises InputError when none exist: cosine ≥ −1/(n−1) is needed, and d ≥ n (d ≥ n−1 at
    equality, the simplex; THEORY.md §2).
    """
    lowest = -1 / (n - 1) if n > 1 else -1.0
    if not lowest - 1e-12 <= cosine < 1:
        raise InputError(
            f"beta: {n} equiangular directions need a cosine in [{lowest:.4g}, 1), got {cosine}"
        )
    gram = np.full((n, n), cosine) + (1 - cosine) * np.eye(n)
    values, vectors = np.linalg.eigh(gram)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    used = values > 1e-10
    if used.sum() > d:
        raise InputError(
            f"d: {n} directions at cosine {cosine:.4g} need d >= {used.sum()}, got {d}"
        )
    return np.pad(root[:, used], ((0, 0), (0, d - used.sum())))


def random_rotation(seed: int, d: int) -> Float[np.ndarray, "D D"]:
    """A Haar-random orthogonal matrix."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
    return q * np.sign(np.diag(r))


def simplex(n: int, d: int, *, radius: float = 1.0, seed: int = 0) -> Dataset:
    """``n`` samples of norm ``radius`` in R^d at pairwise cosine −1/(n−1), randomly rotated."""
    check_count(n, "n")
    check_count(d, "d")
    cosine = -1 / (n - 1) if n > 1 else 0.0
    directions = equiangular_directions(n, d, cosine)
    x_ND = radius * directions @ random_rotation(seed, d).T
    return Dataset("simplex", x_ND, labels=np.arange(n))


def separable_mixture(
    n_clusters: int,
    d: int,
    *,
    rank: int,
    beta: float,
    alpha: float | Sequence[float],
    priors: Sequence[float] | None = None,
    seed: int = 0,
) -> Mixture:
    """Mixture of K clusters whose means are unit vectors at pairwise cosine ``beta``.

    Each covariance has the given rank, a random range orthogonal to all means (so that variation
    inside a cluster does not by itself lead towards another one), eigenvalues falling linearly
    (ratio rank : … : 1), and trace alpha²: ``alpha`` is the rms distance of a sample from its
    mean, relative to the mean's norm (a sequence gives one value a cluster; 0 means exact
    duplicates). ``priors`` default to equal.
    """
    check_count(n_clusters, "n_clusters")
    check_count(rank, "rank")
    alphas = np.broadcast_to(np.asarray(alpha, float), (n_clusters,))
    priors = np.full(n_clusters, 1 / n_clusters) if priors is None else np.asarray(priors, float)
    if priors.shape != (n_clusters,) or np.any(priors <= 0):
        raise InputError(f"priors: need {n_clusters} positive numbers, got {priors.tolist()}")
    rng = np.random.default_rng([seed, 1])
    means = equiangular_directions(n_clusters, d, beta) @ random_rotation(seed, d).T
    complement = null_space(means)
    free = complement.shape[1]
    if rank > free:
        raise InputError(
            f"rank: {n_clusters} means in d={d} leave room for rank {free} covariances, got {rank}"
        )
    spectrum = np.arange(rank, 0, -1.0)
    covs = []
    for a in alphas:
        basis = complement @ np.linalg.qr(rng.standard_normal((free, rank)))[0]
        covs.append((basis * (a**2 * spectrum / spectrum.sum())) @ basis.T)
    return Mixture(means, np.array(covs), priors / priors.sum())


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


def fashion_mnist(split: str = "train") -> Dataset:
    """Fashion-MNIST, 28×28 in [0, 1] with class labels; 60,000 (train) or 10,000 (test) images.

    Looked for in Debian's ``dataset-fashion-mnist`` folder, then in a cache folder
    (``$DAE_THEORY_CACHE`` or ``~/.cache/dae_theory``), then downloaded into the cache.
    """
    if split not in FASHION_MNIST_FILES:
        raise InputError(f"split: expected 'train' or 'test', got {split!r}")
    images = _read_idx(_fashion_mnist_path(FASHION_MNIST_FILES[split])) / 255.0
    labels = _read_idx(_fashion_mnist_path(FASHION_MNIST_LABELS[split]))
    flat = images.reshape(len(images), -1)
    return Dataset("fashion_mnist", flat, images.shape[1:], labels=labels.astype(int))


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


def load_array_file(path: Path) -> Dataset:
    """Samples from an .npy file, or from key ``X`` (or the only array) of an .npz file.

    Arrays with more than two axes are taken as images (N, height, width[, channels]).
    """
    arrays = read_npz(path) if path.suffix == ".npz" else {"X": _read_npy(path)}
    if "X" in arrays:
        x = arrays["X"]
    elif len(arrays) == 1:
        (x,) = arrays.values()
    else:
        raise InputError(f"{path}: has keys {sorted(arrays)}, none of them 'X' (the samples)")
    image_shape = tuple(x.shape[1:]) if x.ndim in (3, 4) else None
    flat = x.reshape(len(x), -1) if image_shape else x
    labels = arrays.get("labels")
    if labels is not None and labels.shape != (len(x),):
        raise InputError(f"{path}: labels have shape {labels.shape}, expected ({len(x)},)")
    return Dataset(path.stem, check_samples(flat, str(path)), image_shape, labels=labels)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; InputError when it is missing, truncated or holds objects."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        raise InputError(f"{path}: truncated or not an .npz file ({error})") from error


def _read_npy(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: truncated or not an .npy file ({error})") from error


def load_image_folder(
    folder: Path, *, size: int | None = None, gray: bool = True, limit: int | None = None
) -> Dataset:
    """Images of a folder (sorted by name), in [0, 1], resized to ``size``×``size`` if given."""
    from skimage.color import gray2rgb, rgb2gray
    from skimage.io import imread
    from skimage.transform import resize
    from skimage.util import img_as_float

    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)[:limit]
    if not paths:
        raise InputError(f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)})")
    images = []
    for path in paths:
        try:
            image = img_as_float(imread(path))
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: cannot be read as an image ({error})") from error
        image = gray2rgb(image) if image.ndim == 2 else image[..., :3]
        image = rgb2gray(image) if gray else image
        if size is not None:
            image = resize(image, (size, size, *image.shape[2:]), anti_aliasing=True)
        if images and image.shape != images[0].shape:
            raise InputError(
                f"{path}: has shape {image.shape}, the images before it {images[0].shape}; "
                "give a size to resize them all"
            )
        images.append(image)
    stack = np.stack(images)
    return Dataset(folder.name, stack.reshape(len(stack), -1), stack.shape[1:])


def load_path(
    path: str | Path, *, size: int | None = None, gray: bool = True, limit: int | None = None
) -> Dataset:
    """User data: an .npy or .npz file, or a folder of images; InputError if it is neither."""
    path = Path(path)
    if path.is_dir():
        return load_image_folder(path, size=size, gray=gray, limit=limit)
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: expected an .npy or .npz file, or a folder of images")
    dataset = load_array_file(path)
    if limit is None:
        return dataset
    labels = None if dataset.labels is None else dataset.labels[:limit]
    return replace(dataset, x=dataset.x[:limit], labels=labels)
