"""Images that a detector is asked about, with their names and captions.

A folder is read file by file: what cannot be read, or is of another size than the model's, is left
out with its reason, and the rest goes on.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError
from dae_theory.data.decode import read_image
from dae_theory.data.files import ARRAY_SUFFIXES, image_paths, load_array_file
from dae_theory.detect.model import DetectorModel

CAPTION_COLUMNS = ("image", "caption")


@dataclass(frozen=True)
class Images:
    """Images as rows in a model's pixel range.

    Attributes:
      names: of their files, or their numbers in an array.
      rows: (N, D).
      left_out: why, by name, of files that are not among them.
      captions: one each, or None.
      note: what else was left out or changed, in words.
    """

    names: tuple[str, ...]
    rows: Float[np.ndarray, "N D"]
    left_out: Mapping[str, str] = field(default_factory=dict)
    captions: tuple[str, ...] | None = None
    note: str = ""

    def part(self, chosen) -> "Images":
        """Some of them, by a slice or by indices."""
        index = np.arange(len(self.names))[chosen]
        captions = None if self.captions is None else tuple(self.captions[i] for i in index)
        names = tuple(self.names[i] for i in index)
        return Images(names, self.rows[index], self.left_out, captions, self.note)


def read_images(
    path: str | Path,
    model: DetectorModel,
    *,
    option: str = "images",
    captions: str | Path | None = None,
    resize: bool = False,
) -> Images:
    """Images of a folder, of one image file, or of an .npy or .npz file.

    Files of images, and arrays of bytes, go from black to white: they are brought to the model's
    pixel range. Arrays of other numbers are taken to be in it.

    Args:
      option: what messages call the path.
      captions: file of them, see `read_captions`.
      resize: images of another size are resized; else they are left out.

    Raises:
      InputError: when no image is left, for an array that does not fit the model, and as
        `read_captions`.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{option}: no file or folder {path}")
    if path.suffix.lower() in ARRAY_SUFFIXES and not path.is_dir():
        found = _read_array(path, model, option)
        return _with_captions(found, [str(i) for i in range(len(found.names))], captions)
    if len(model.image_shape) == 1:
        raise InputError(
            f"{option}: rows of {model.name} are no square images; give them as an .npy file"
        )
    paths, others = image_paths(path) if path.is_dir() else ([path], "")
    rows, names, left_out = [], [], {}
    for file in paths:
        try:
            rows.append(_read_file(file, model, resize))
            names.append(file.name)
        except (InputError, OSError) as error:
            left_out[file.name] = _reason(error, file)
    if not rows:
        first = next(iter(left_out.items()))
        raise InputError(
            f"{option}: none of {len(paths)} images can be used; {first[0]} {first[1]}"
        )
    note = f"left out: {others}" if others else ""
    found = Images(tuple(names), np.stack(rows), left_out, None, note)
    return _with_captions(found, [file.name for file in paths], captions)


def read_captions(path: str | Path, names: list[str]) -> dict[str, str]:
    """Captions by image: a .csv file with columns image and caption, or a text file of one line an
    image, in the order of their names.

    Raises:
      InputError: for a missing or unreadable file, an image without a caption, or another number
        of lines than of images.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"captions: no file {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"captions: {path} is no text in UTF-8") from None
    if path.suffix.lower() != ".csv":
        lines = text.splitlines()
        if len(lines) != len(names):
            raise InputError(f"captions: {path} has {len(lines)} lines for {len(names)} images")
        return dict(zip(names, lines, strict=True))
    try:
        table = csv.DictReader(io.StringIO(text), strict=True)
        missing = set(CAPTION_COLUMNS) - set(table.fieldnames or ())
        if missing:
            raise InputError(f"captions: {path} has no column {sorted(missing)[0]!r}")
        found = {row["image"]: row["caption"] or "" for row in table}
    except csv.Error as error:
        raise InputError(f"captions: {path} is no table ({error})") from error
    without = [name for name in names if name not in found]
    if without:
        raise InputError(f"captions: {path} has none for {without[0]!r}")
    return found


def _with_captions(found: Images, names: list[str], path: str | Path | None) -> Images:
    """``names`` are those of all images, also of those left out."""
    if path is None:
        return found
    by_name = read_captions(path, names)
    captions = tuple(by_name[name] for name in found.names)
    return Images(found.names, found.rows, found.left_out, captions, found.note)


def _read_array(path: Path, model: DetectorModel, option: str) -> Images:
    data = load_array_file(path)
    if data.x.shape[1] != model.size:
        shape = "×".join(map(str, data.image_shape or data.x.shape[1:]))
        raise InputError(
            f"{option}: {path} holds images of {shape}, {model.name} takes {_words(model)}"
        )
    is_bytes = bool(data.note)
    rows_ND = _in_range(data.x, model) if is_bytes else data.x
    return Images(tuple(map(str, range(len(rows_ND)))), rows_ND, note=data.note)


def _read_file(path: Path, model: DetectorModel, resize: bool) -> Float[np.ndarray, " D"]:
    height, width, *channels = model.image_shape
    size = height if resize and height == width else None
    image = read_image(path, size=size, gray=not channels)
    if image.shape != model.image_shape:
        shape = "×".join(map(str, image.shape))
        advice = "; --resize brings it there" if height == width else ""
        raise InputError(f"is {shape} pixels, {model.name} takes {_words(model)}{advice}")
    return _in_range(image.ravel(), model)


def _in_range(pixels: np.ndarray, model: DetectorModel) -> np.ndarray:
    """From black 0 and white 1 to the model's."""
    black, white = model.pixel_range
    return black + (white - black) * pixels


def _words(model: DetectorModel) -> str:
    return "×".join(map(str, model.image_shape))


def _reason(error: Exception, path: Path) -> str:
    """What is wrong with a file, without its path in front."""
    text = " ".join(str(error).split()).removeprefix(f"{path}: ")
    return text.replace(str(path), path.name)
