"""Image files as arrays: the only place where one is decoded."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps

from dae_theory.checks import InputError

# What a file may hold (Pillow's names), and as what it is read. Numbers of 32 bits are left out:
# no range of theirs is white.
READ_AS = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGB": "RGB",
    "RGBA": "RGB",
    "CMYK": "RGB",
    "I;16": "I",
    "I;16B": "I",
}
WHITE = {"L": 255, "RGB": 255, "I": 65535}
LUMINANCE = (0.2125, 0.7154, 0.0721)  # of R, G, B: ITU-R BT.709, as scikit-image
OVERSAMPLED = 4  # pixels a side for each one wanted that are kept before numbers become floats


def read_image(
    path: Path, *, size: int | None = None, gray: bool = True
) -> Float[np.ndarray, "H W ..."]:
    """One image in [0, 1]: (H, W) when gray, else (H, W, 3), ``size``×``size`` if given.

    Turned as its EXIF orientation says; transparency is left out.

    Raises:
      InputError: for what cannot be read, several pages or frames, numbers of 32 bits or another
        colour model, or more pixels than Pillow's ``Image.MAX_IMAGE_PIXELS`` (89 million).
    """
    from skimage.transform import resize

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on damaged notes of a camera
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                white, image = _decoded(path, file, size)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(
            f"{path}: has more than {Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels; make it "
            "smaller or take it out of the folder"
        ) from None
    except InputError:
        raise
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise InputError(f"{path}: cannot be read as an image ({error})") from error
    pixels = np.asarray(image) / white
    if pixels.ndim == 3 and gray:
        pixels = pixels @ np.array(LUMINANCE)
    elif pixels.ndim == 2 and not gray:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if size is not None:
        pixels = resize(pixels, (size, size, *pixels.shape[2:]), anti_aliasing=True)
    return pixels


def _decoded(path: Path, file: Image.Image, size: int | None) -> tuple[int, Image.Image]:
    """The value of white, and the image, shrunk by whole numbers where it is far too large."""
    frames = getattr(file, "n_frames", 1)
    if frames > 1:
        raise InputError(
            f"{path}: has {frames} pages or frames; save the one you want as a file of its own"
        )
    if file.mode not in READ_AS:
        raise InputError(
            f"{path}: is of mode {file.mode!r}, of which no value is known to be white; save it "
            "with 8 or 16 bits, gray or RGB"
        )
    enough = None if size is None else (OVERSAMPLED * size, OVERSAMPLED * size)
    if enough is not None:
        file.draft(None, enough)  # JPEGs are decoded at a lower resolution
    image = ImageOps.exif_transpose(file).convert(READ_AS[file.mode])
    if enough is not None:
        image = image.reduce(max(1, min(image.size) // enough[0]))
    return WHITE[image.mode], image
