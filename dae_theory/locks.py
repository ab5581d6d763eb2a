"""One process at a time in a folder."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from dae_theory.errors import InputError


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
