"""The table of regimes: how each builds its experiment, and its claims.

Each regime's package says so in its ``REGIME``, and is imported when a run asks for it.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dae_theory.weights.read import SavedWeights
from proofs_checks.claims import Claim
from proofs_checks.config import REGIMES, DataUsed, RunConfig
from proofs_checks.nets import Progress


class Experiment(Protocol):
    """What claims are checked on. Nothing is computed before a claim asks for it."""

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples looked at, by name and hash."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw."""


@dataclass(frozen=True)
class Regime:
    """One part of the theory.

    Attributes:
      name: as on the command line.
      build: the experiment that a config describes.
      from_weights: the experiment around weights that were trained elsewhere.
      claims: on the regime's default data.
      data_claims, weights_claims: on the user's data and weights, where they differ.
      of_user_data, of_user_weights: it has something to say about the user's data, and weights;
        otherwise ``all`` leaves it out when they are given.
    """

    name: str
    build: Callable[[RunConfig, Progress], Experiment]
    from_weights: Callable[[SavedWeights], Experiment]
    claims: tuple[Claim, ...]
    data_claims: tuple[Claim, ...] | None = None
    weights_claims: tuple[Claim, ...] | None = None
    of_user_data: bool = True
    of_user_weights: bool = True

    def claims_for(self, config: RunConfig) -> tuple[Claim, ...]:
        """The claims that a run checks."""
        if config.weights is not None and self.weights_claims is not None:
            return self.weights_claims
        if config.data is not None and self.data_claims is not None:
            return self.data_claims
        return self.claims


def load_regime(name: str) -> Regime:
    """The regime of a name of `config.REGIMES`."""
    return importlib.import_module(f"proofs_checks.{name}").REGIME


def all_regimes() -> tuple[Regime, ...]:
    """The whole table, in the order of the command line."""
    return tuple(load_regime(name) for name in REGIMES)


def chosen_regimes(config: RunConfig) -> tuple[Regime, ...]:
    """The regimes a run goes through: of all, those that say something about data and weights
    brought by the user."""
    if config.regime != "all":
        return (load_regime(config.regime),)
    return tuple(
        regime
        for regime in all_regimes()
        if (config.data is None or regime.of_user_data)
        and (config.weights is None or regime.of_user_weights)
    )
