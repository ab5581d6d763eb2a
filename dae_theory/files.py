"""Files that a kill cannot leave half written, and one process at a time in a folder."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
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


def npz_bytes(arrays: Mapping[str, np.ndarray], *, compress: bool = True) -> bytes:
    """The content of an .npz file."""
    content = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(content, **arrays)
    return content.getvalue()


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; InputError when it is missing, truncated or holds objects."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        if "allow_pickle" in str(error):
            raise InputError(f"{path}: holds Python objects; save arrays of numbers") from error
        raise InputError(f"{path}: truncated or not an .npz file ({error})") from error


def write_described(path: Path, content: bytes, card: Path, facts: Mapping[str, Any]) -> None:
    """Write a table and then its card: facts, the hash of the table and what it was made with."""
    write_whole(path, content)
    environment = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }
    sha256 = hashlib.sha256(content).hexdigest()
    write_settings(card, {**facts, "sha256": sha256, "environment": environment})


def check_described(path: Path, card: str, sha256: str, what: str) -> None:
    """Raise InputError unless a table of `write_described` has the hash that its card says;
    ``what`` it should hold."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise InputError(f"{path}: not the {what} that {card} describes; get both anew")


def write_settings(path: Path, settings: dict, process: int = 0) -> None:
    """Write plain data as JSON, by `write_whole`."""
    content = json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, content.encode(), process)


def read_settings(path: Path, keys: Sequence[str] = ()) -> dict:
    """What `write_settings` wrote.

    Raises:
      InputError: when the file is missing, empty, truncated, no JSON object, or lacks one of
        ``keys``.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    advice = "get it anew, or start again in another folder"
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: damaged or not JSON ({error}); {advice}") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path}: damaged, not a JSON object; {advice}")
    missing = [key for key in keys if key not in settings]
    if missing:
        raise InputError(f"{path}: damaged or of something else, no {missing[0]!r}; {advice}")
    return settings


@contextlib.contextmanager
def damaged_unless_read(path: Path) -> Iterator[None]:
    """Settings in which something else stands than is read from them are damaged: InputError."""
    try:
        yield
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error!r}); get it anew") from error


@contextlib.contextmanager
def reserve_folder(out: Path, settings: dict, what: str, process: int = 0) -> Iterator[None]:
    """Make a folder that of one computation, settings in config.json, and hold it.

    Args:
      what: kind of the computation, for messages.
      process: which of several that share the computation and its folder.

    Raises:
      InputError: when the folder's config.json has other settings or is damaged, or another
        process holds it.
      OSError: when the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    busy = f"out: another {what} is running in {out}; wait for it"
    with held(out / f".lock-{process}", busy):
        path = out / "config.json"
        if not path.exists():
            write_settings(path, settings, process)
        changed = _changes(read_settings(path), json.loads(json.dumps(settings)))
        if changed:
            # Hashes follow from the rest: they say something only where nothing else does.
            words = [words for name, words in changed.items() if not name.endswith("sha256")]
            raise InputError(
                f"out: {out} holds a {what} with another config "
                f"({'; '.join(words or changed.values())}); "
                "use another folder, or the same config to go on"
            )
        yield


def _changes(before: dict, now: dict) -> dict[str, str]:
    """What differs between settings, which may be nested: in words, by name."""
    changed = {}
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            changed |= _changes(old, new)
        elif old != new:
            changed[name] = f"{name} was {_shown(old)}, now {_shown(new)}"
    return changed


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
