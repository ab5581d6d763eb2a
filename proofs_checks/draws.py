"""The same experiment on several data sets that were drawn independently."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dae_theory.relu.optimize import TrainConfig
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.nets import Progress, Training


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


def trained_together(
    draws: Sequence[Any],
    how: TrainConfig,
    config: RunConfig,
    what: str,
    progress: Progress,
    *,
    drawn: bool,
) -> Any:
    """Experiments with nets to be trained, in one program, on all of their ``problems``.

    Where data sets were ``drawn`` each has a start, of its own seed; else the one experiment on the
    user's data has all. The nets of an experiment are those from its ``first`` on.
    """
    starts = [(seed,) for seed in config.data_seeds] if drawn else [config.net_seeds]
    problems = [e.problems for e in draws]
    each = [(p, seeds) for of, seeds in zip(problems, starts, strict=True) for p in of]
    training = Training(
        tuple(p.x for p, _ in each),
        how,
        config.trainer,
        tuple(seeds for _, seeds in each),
        tuple((p.sigma, p.lam) for p, _ in each),
        what,
        progress,
    )
    trained, first = [], 0
    for e, of in zip(draws, problems, strict=True):
        trained.append(replace(e, training=training, first=first))
        first += len(of)
    return Draws(tuple(trained)) if drawn else trained[0]
