"""The list of data sets: `load` finds one by its name, or reads a path.

To add one, name it in SYNTHETIC or IMAGES below, with a function of `Options` that loads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dae_theory.checks import InputError, check_count
from dae_theory.data.dataset import Dataset, centred, first_samples
from dae_theory.data.files import ARRAY_SUFFIXES, load_path
from dae_theory.data.images import faces, fashion_mnist, patches
from dae_theory.data.mixtures import separable_mixture, simplex

MIXTURE_SAMPLES, MIXTURE_DIMENSION, MIXTURE_RANK = 200, 32, 3
SIMPLEX_SAMPLES, SIMPLEX_DIMENSION = 8, 64
PATCHES = 200


@dataclass(frozen=True)
class Options:
    """What `load` was asked for, beside the name."""

    limit: int | None
    size: int | None
    dimension: int | None
    clusters: int
    alpha: float


def _simplex(options: Options) -> Dataset:
    n = options.limit or SIMPLEX_SAMPLES
    return simplex(n, options.dimension or max(SIMPLEX_DIMENSION, n))


def _mixture(options: Options) -> Dataset:
    """Samples of clusters whose means form a simplex."""
    mixture = separable_mixture(
        options.clusters,
        options.dimension or MIXTURE_DIMENSION,
        rank=MIXTURE_RANK,
        beta=-1 / (options.clusters - 1) if options.clusters > 1 else 0.0,
        alpha=options.alpha,
    )
    x_ND, labels_N = mixture.sample(0, options.limit or MIXTURE_SAMPLES)
    return Dataset("mixture", x_ND, labels=labels_N, mixture=mixture)


Loader = Callable[[Options], Dataset]
SYNTHETIC: Mapping[str, Loader] = MappingProxyType({"simplex": _simplex, "mixture": _mixture})
IMAGES: Mapping[str, Loader] = MappingProxyType(
    {
        "faces": lambda options: first_samples(faces(), options.limit),
        "patches": lambda options: patches(options.limit or PATCHES, size=options.size or 8),
        "fashion_mnist": lambda options: fashion_mnist("train", options.limit),
        "fashion_mnist_test": lambda options: fashion_mnist("test", options.limit),
    }
)
NAMES = (*SYNTHETIC, *IMAGES)


def load(
    name: str,
    limit: int | None = None,
    *,
    size: int | None = None,
    gray: bool = True,
    center: bool = False,
    dimension: int | None = None,
    clusters: int = 3,
    alpha: float = 0.2,
) -> Dataset:
    """The data set of a name in NAMES, or of a path: an .npy or .npz file, a folder of images.

    Args:
      name: one of NAMES, or a path.
      limit: at most so many samples; None for all there are (200 of a mixture and of patches, 8
        of a simplex).
      size: side of patches (8), or to which the images of a folder are resized.
      gray: read a folder of images as gray.
      center: subtract the mean of what was loaded. Synthetic data are as they are: their
        geometry, too, is known.
      dimension: features of synthetic data; 32 for a mixture, at least 64 for a simplex.
      clusters, alpha: of the mixture (`separable_mixture`; simplex of means, rank 3).

    Raises:
      InputError: for a name that is neither, for unreadable data, or for a count below 1.
    """
    for value, what in ((limit, "limit"), (size, "size"), (dimension, "dimension")):
        if value is not None:
            check_count(value, what)
    options = Options(limit, size, dimension, clusters, alpha)
    if name in SYNTHETIC:
        return SYNTHETIC[name](options)
    if name in IMAGES:
        dataset = IMAGES[name](options)
    elif Path(name).is_dir() or Path(name).suffix.lower() in ARRAY_SUFFIXES:
        dataset = load_path(name, size=size, gray=gray, limit=limit)
    else:
        raise InputError(
            f"data: {name} is none of {', '.join(NAMES)}; else expected an .npy or .npz file, or "
            "a folder of images"
        )
    return centred(dataset) if center else dataset
