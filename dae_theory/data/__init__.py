"""Data sets: synthetic ones with known statistics, images that work offline, a user's files."""

from dae_theory.data.dataset import Dataset, Mixture, centred
from dae_theory.data.files import load_array_file, load_image_folder, load_path
from dae_theory.data.images import faces, fashion_mnist, patches
from dae_theory.data.mixtures import (
    equiangular_directions,
    random_rotation,
    separable_mixture,
    simplex,
)

__all__ = [
    "Dataset",
    "Mixture",
    "centred",
    "equiangular_directions",
    "faces",
    "fashion_mnist",
    "load_array_file",
    "load_image_folder",
    "load_path",
    "patches",
    "random_rotation",
    "separable_mixture",
    "simplex",
]
