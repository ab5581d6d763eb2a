"""What regimes of several parts share: a part is built when a claim first asks for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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


def arrays_of(parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What the figures draw, as 'part/name'."""
    return {
        f"{name}/{key}": array for name, part in parts.items() for key, array in part.arrays.items()
    }


@dataclass(frozen=True)
class DeepStudy:
    """A study of deep models that comes with the package, and how it was made.

    Attributes:
      study: with a card.
      name: in what the reader is told; what: the study's table holds.
    """

    study: Any
    name: str
    what: str

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        card = self.study.card
        made = f"{card['command']} (sha256 of its {self.what} {card['sha256'][:12]}…)"
        return {self.name: made}

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The table, by hash."""
        sha256 = self.study.card["sha256"]
        return (DataUsed("fashion_mnist", sha256, "14×14, drawn by seed", sha256),)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing: figures and tables are drawn from the study itself."""
        return {}
