"""A user's data: .npy and .npz files, folders of images."""

import math
from pathlib import Path

import numpy as np

from dae_theory.checks import InputError, check_samples
from dae_theory.data.dataset import Dataset, first_samples
from dae_theory.files import read_npz

ARRAY_SUFFIXES = (".npy", ".npz")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def load_array_file(path: Path) -> Dataset:
    """Samples from an .npy file, or from key ``X`` (or the only array) of an .npz file.

    Arrays with more than two axes are taken as images (N, height, width[, channels]).
    """
    arrays = read_npz(path) if path.suffix.lower() == ".npz" else {"X": _read_npy(path)}
    if "X" in arrays:
        x = arrays["X"]
    elif len(arrays) == 1:
        (x,) = arrays.values()
    else:
        raise InputError(f"{path}: has keys {sorted(arrays)}, none of them 'X' (the samples)")
    image_shape = tuple(x.shape[1:]) if x.ndim in (3, 4) else None
    flat = x.reshape(len(x), math.prod(image_shape)) if image_shape else x  # also if x is empty
    x_ND = check_samples(flat, str(path))
    labels = arrays.get("labels")
    if labels is not None:
        check_labels(labels, len(x_ND), path)
    return Dataset(path.stem, x_ND, image_shape, labels=labels)


def check_labels(labels_N: np.ndarray, n_samples: int, path: Path) -> None:
    """Raise InputError unless a file's labels are one a sample, none of them NaN."""
    if labels_N.shape != (n_samples,):
        raise InputError(f"{path}: labels have shape {labels_N.shape}, expected ({n_samples},)")
    if labels_N.dtype.kind in "fc" and np.isnan(labels_N).any():
        raise InputError(f"{path}: labels contain NaN; give every sample a cluster")


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
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        raise InputError(f"{path}: expected an .npy or .npz file, or a folder of images")
    return first_samples(load_array_file(path), limit)
