"""The same experiment on several data sets that were drawn independently."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from proofs_checks.config import DataUsed


@dataclass(frozen=True)
class Draws:
    """Claims are judged over ``draws``, experiments of one regime on a data set each
    (`claims.check`); what is drawn, and shown, is the first."""

    draws: tuple[Any, ...]

    @property
    def settings(self) -> dict:
        """What was checked: settings of the first draw, and margins of all."""
        first, *_ = (draw.settings for draw in self.draws)
        z = self.margins
        words = f"median of {len(z)} data sets; {z.min():.2f} to {z.max():.2f}"
        return first | {
            "z": f"{np.median(z):.2f} ({words})",
            "seeds": sum(draw.settings["seeds"] for draw in self.draws),
        }

    @cached_property
    def margins(self) -> np.ndarray:
        """Gate margin z of each draw."""
        return np.array([draw.settings["z"] for draw in self.draws])

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples of all draws, by name and hash."""
        return tuple(used for draw in self.draws for used in draw.data)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw: the first data set, and the margins of all."""
        return self.draws[0].arrays | {"margins": self.margins}
