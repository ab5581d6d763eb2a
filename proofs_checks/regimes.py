"""The table of regimes: how each builds its experiment, and its claims."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dae_theory.weights.read import SavedWeights
from proofs_checks import certify, detect, diffusion, errata, generalize, hybrid, memorize, steer
from proofs_checks.certify import experiment as certify_experiment
from proofs_checks.claims import Claim
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.detect import experiment as detect_experiment
from proofs_checks.diffusion import experiment as diffusion_experiment
from proofs_checks.errata import experiment as errata_experiment
from proofs_checks.generalize import experiment as generalize_experiment
from proofs_checks.hybrid import experiment as hybrid_experiment
from proofs_checks.memorize import experiment as memorize_experiment
from proofs_checks.nets import Progress
from proofs_checks.steer import experiment as steer_experiment


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


REGIMES = (
    Regime(
        "memorize", memorize_experiment.build, memorize_experiment.from_weights, memorize.CLAIMS
    ),
    Regime(
        "generalize",
        generalize_experiment.build,
        generalize_experiment.from_weights,
        generalize.CLAIMS,
    ),
    Regime("hybrid", hybrid_experiment.build, hybrid_experiment.from_weights, hybrid.CLAIMS),
    Regime(
        "certify",
        certify_experiment.build,
        certify_experiment.from_weights,
        certify.CLAIMS,
        data_claims=certify.DATA_CLAIMS,
        weights_claims=certify.WEIGHTS_CLAIMS,
    ),
    Regime(
        "diffusion",
        diffusion_experiment.build,
        diffusion_experiment.from_weights,
        diffusion.CLAIMS,
        of_user_data=False,  # mostly about the shipped models
        of_user_weights=False,
    ),
    Regime(
        "detect",
        detect_experiment.build,
        detect_experiment.from_weights,
        detect.CLAIMS,
        of_user_data=False,  # nobody knows which samples a user's net stores
        of_user_weights=False,
    ),
    Regime(
        "steer",
        steer_experiment.build,
        steer_experiment.from_weights,
        steer.CLAIMS,
        of_user_data=False,  # it samples, with a net for each noise level
        of_user_weights=False,
    ),
    Regime(
        "errata",
        errata_experiment.build,
        errata_experiment.from_weights,
        errata.CLAIMS,
        of_user_weights=False,
    ),
)


def chosen_regimes(config: RunConfig) -> tuple[Regime, ...]:
    """The regimes a run goes through: of all, those that say something about data and weights
    brought by the user."""
    if config.regime != "all":
        return tuple(regime for regime in REGIMES if regime.name == config.regime)
    return tuple(
        regime
        for regime in REGIMES
        if (config.data is None or regime.of_user_data)
        and (config.weights is None or regime.of_user_weights)
    )
