"""Files that a kill cannot leave half written, and one process at a time in a folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dae_theory.checks import InputError


def cache_folder() -> Path:
    """Where downloads and compiled programs are kept: ``$DAE_THEORY_CACHE``, else
    ``~/.cache/dae_theory``."""
    return Path(os.environ.get("DAE_THEORY_CACHE") or Path.home() / ".cache" / "dae_theory")


@contextlib.contextmanager
def held(lock: Path, busy: str) -> Iterator[None]:
    """Hold a lock file, which a process that dies lets go; without effect on a file system that
    has no locks.

    Raises:
      InputError: with the message ``busy``, when another process holds it.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(busy) from None
        except OSError:
            pass
        yield


def write_whole(path: Path, content: bytes, process: int = 0) -> None:
    """Write a file that exists whole or not at all, also after a kill or a power cut."""
    temporary = path.with_name(f".{path.name}.{process}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; InputError when it is missing, truncated or holds objects."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        raise InputError(f"{path}: truncated or not an .npz file ({error})") from error
