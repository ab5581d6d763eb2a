"""Data sets: synthetic ones with known statistics, images that work offline, a user's files."""

from dae_theory.data.dataset import (
    Dataset,
    Mixture,
    centred,
    first_samples,
    nothing_left,
    proportional_counts,
)
from dae_theory.data.files import load_array_file, load_image_folder, load_path
from dae_theory.data.images import faces, fashion_mnist, patches
from dae_theory.data.mixtures import (
    equiangular_directions,
    random_rotation,
    separable_mixture,
    simplex,
)
from dae_theory.data.named import NAMES, load
from dae_theory.data.subsets import (
    SeparableSubset,
    choose_samples,
    cluster_labels,
    separable_subset,
    spherical_kmeans,
)

__all__ = [
    "NAMES",
    "Dataset",
    "Mixture",
    "SeparableSubset",
    "centred",
    "choose_samples",
    "cluster_labels",
    "equiangular_directions",
    "faces",
    "fashion_mnist",
    "first_samples",
    "load",
    "load_array_file",
    "load_image_folder",
    "load_path",
    "nothing_left",
    "patches",
    "proportional_counts",
    "random_rotation",
    "separable_mixture",
    "separable_subset",
    "simplex",
    "spherical_kmeans",
]
