"""A user's data: .npy and .npz files, folders of images."""

import math
from collections import Counter
from pathlib import Path

import numpy as np

from dae_theory.checks import InputError, check_samples
from dae_theory.data.dataset import Dataset
from dae_theory.data.decode import read_image
from dae_theory.files import read_npz

ARRAY_SUFFIXES = (".npy", ".npz")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
LABEL_KINDS = "biufUS"  # of NumPy: truth values, numbers, text
SAMPLED = ("arr_0", "arr_1")  # keys of NumPy for arrays without names: samples, and their labels


def load_array_file(path: Path, limit: int | None = None) -> Dataset:
    """Samples from an .npy file, or from key ``X`` (or the only array) of an .npz file.

    Arrays with more than two axes are taken as images (N, height, width[, channels]), and bytes of
    images are brought to [0, 1]. Of arr_0, arr_1, as guided-diffusion writes its samples, the
    second is labels.

    Raises:
      InputError: for a damaged file, an array that is no samples, NaN, or labels that are not one
        a sample.
    """
    arrays = read_npz(path) if path.suffix.lower() == ".npz" else {"X": _read_npy(path)}
    if tuple(sorted(arrays)) == SAMPLED:
        arrays = dict(zip(("X", "labels"), (arrays[key] for key in SAMPLED), strict=True))
    if "X" in arrays:
        x = arrays["X"]
    elif len(arrays) == 1:
        (x,) = arrays.values()
    else:
        raise InputError(
            f"{path}: has keys {sorted(arrays)}; name the samples 'X' (and labels 'labels')"
        )
    image_shape = tuple(x.shape[1:]) if x.ndim in (3, 4) else None
    flat = x.reshape(len(x), math.prod(image_shape)) if image_shape else x  # also if x is empty
    bytes_of_images = image_shape is not None and x.dtype == np.uint8
    labels = arrays.get("labels")
    if labels is not None:
        check_labels(labels, len(flat) if flat.ndim else 0, path)
        labels = labels[:limit]
    x_ND = check_samples(flat[:limit] if flat.ndim else flat, str(path))
    return Dataset(
        path.stem,
        x_ND / 255 if bytes_of_images else x_ND,
        image_shape,
        labels=labels,
        note="bytes 0 to 255 read as 0 to 1" if bytes_of_images else "",
    )


def check_labels(labels_N: np.ndarray, n_samples: int, path: Path) -> None:
    """Raise InputError unless a file's labels are one a sample: text or finite numbers."""
    if labels_N.shape != (n_samples,):
        raise InputError(f"{path}: labels have shape {labels_N.shape}, expected ({n_samples},)")
    if labels_N.dtype.kind not in LABEL_KINDS:
        raise InputError(f"{path}: labels must be numbers or text, got dtype {labels_N.dtype}")
    if labels_N.dtype.kind == "f" and not np.isfinite(labels_N).all():
        raise InputError(f"{path}: labels contain NaN or infinity; give every sample a cluster")


def _read_npy(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises many kinds for a damaged file
        if "allow_pickle" in str(error):
            raise InputError(f"{path}: holds Python objects; save numbers") from error
        raise InputError(f"{path}: truncated or not an .npy file ({error})") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path}: is an .npz archive; name it so")
    return array


def image_paths(folder: Path) -> tuple[list[Path], str]:
    """The files of a folder that are read as images, sorted by name, and what else it holds, in
    words.

    Raises:
      InputError: for a folder without images.
    """
    entries = sorted(folder.iterdir())
    others = [_kind_left_out(path) for path in entries]
    paths = [path for path, other in zip(entries, others, strict=True) if other is None]
    left_out = ", ".join(f"{n} {kind}" for kind, n in Counter(filter(None, others)).items())
    if not paths:
        there = f"; it holds {left_out}" if left_out else ""
        raise InputError(f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)}){there}")
    return paths, left_out


def load_image_folder(
    folder: Path, *, size: int | None = None, gray: bool = True, limit: int | None = None
) -> Dataset:
    """Images of a folder (sorted by name), in [0, 1], resized to ``size``×``size`` if given.

    ``note`` says how many were read and what was left out: files of other kinds, hidden ones, and
    folders.

    Raises:
      InputError: for a folder without images, as `decode.read_image`, or for images of several
        shapes.
    """
    paths, others = image_paths(folder)
    images = []
    for path in paths[:limit]:
        image = read_image(path, size=size, gray=gray)
        if images and image.shape != images[0].shape:
            raise InputError(
                f"{path}: has shape {image.shape}, the images before it {images[0].shape}; "
                "give a size to resize them all"
            )
        images.append(image)
    stack = np.stack(images)
    note = f"{len(images)} of {len(paths)} images read"
    note += f"; left out: {others}" if others else ""
    return Dataset(folder.name, stack.reshape(len(stack), -1), stack.shape[1:], note=note)


def _kind_left_out(path: Path) -> str | None:
    """What an entry of a folder is when it is not read as an image, in words; None when it is."""
    if path.name.startswith("."):  # macOS keeps a hidden ._NAME.png beside a NAME.png
        return "hidden"
    if path.is_dir():
        return "folder"
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return None
    return path.suffix.lower() or "without suffix"


def load_path(
    path: str | Path, *, size: int | None = None, gray: bool = True, limit: int | None = None
) -> Dataset:
    """User data: an .npy or .npz file, or a folder of images; InputError if it is neither."""
    path = Path(path)
    if path.is_dir():
        return load_image_folder(path, size=size, gray=gray, limit=limit)
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        raise InputError(f"{path}: expected an .npy or .npz file, or a folder of images")
    return load_array_file(path, limit)
