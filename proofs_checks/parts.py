"""What regimes of several parts share: a part is built when a claim first asks for it."""

from collections.abc import Iterable, Sequence
from typing import Any

from proofs_checks.config import DataUsed


def built_parts(experiment: Any, names: Sequence[str]) -> dict[str, Any]:
    """Those of its cached properties ``names`` that a claim has asked for, by name."""
    return {name: getattr(experiment, name) for name in names if name in vars(experiment)}


def settings_of(parts: Iterable[Any]) -> dict:
    """What was checked, for the reader."""
    return {key: value for part in parts for key, value in part.settings.items()}


def data_of(parts: Iterable[Any]) -> tuple[DataUsed, ...]:
    """Their samples, by name and hash, each once."""
    return tuple(dict.fromkeys(used for part in parts for used in part.data))
