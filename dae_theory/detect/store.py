"""The folder of a detection: config.json, and the scores of each part of the images.

Parts are written whole or not at all: whatever the moment of a kill, what is there is right.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dae_theory.detect.images import Images
from dae_theory.files import npz_bytes, read_npz, reserve_folder, write_whole

SCHEMA = 1


def identity(
    model: str,
    model_sha256: str,
    config,
    asked: Images,
    given: Images | None,
    reference: Images | None,
    rows_TD: Float[np.ndarray, "T D"] | None,
) -> dict:
    """Everything that a result depends on."""
    return {
        "schema": SCHEMA,
        "model": model,
        **dataclasses.asdict(config),
        "images": len(asked.names),
        "calibration": 0 if given is None else len(given.names),
        "model_sha256": model_sha256,
        "images_sha256": _digest(asked),
        "calibration_sha256": _digest(given),
        "reference_sha256": _digest(reference),
        "training_sha256": "" if rows_TD is None else _hash_of_rows(rows_TD),
    }


@contextlib.contextmanager
def open_folder(out: str | Path | None, settings: dict) -> Iterator[Path | None]:
    """Make or check the folder, and hold it; yields that of the parts, None where nothing is kept.

    Raises:
      InputError: when the folder holds another detection, or another process is in it.
    """
    if out is None:
        yield None
        return
    with reserve_folder(Path(out), settings, "detection"):
        parts = Path(out) / "parts"
        parts.mkdir(exist_ok=True)
        yield parts


def kept_scores(
    folder: Path | None, name: str, compute: Callable[[], Float[np.ndarray, " N"]]
) -> Float[np.ndarray, " N"]:
    """The scores of a part: those of the folder, or else computed and kept there."""
    if folder is None:
        return compute()
    path = folder / f"{name}.npz"
    if path.exists():
        return read_npz(path)["scores"]
    scores = compute()
    write_whole(path, npz_bytes({"scores": scores}))
    return scores


def _digest(images: Images | None) -> str:
    if images is None:
        return ""
    words = "\0".join((*images.names, *(images.captions or ("",)))).encode()
    return hashlib.sha256(_hash_of_rows(images.rows).encode() + words).hexdigest()


def _hash_of_rows(rows_ND) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows_ND, "<f8").tobytes()).hexdigest()
