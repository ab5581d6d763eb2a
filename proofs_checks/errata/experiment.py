"""The errata: fixed examples, each against a measurement that uses none of the formulas.

python -m proofs_checks.run --regime=errata
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dae_theory.checks import InputError
from dae_theory.data import Dataset
from dae_theory.weights.read import SavedWeights
from proofs_checks.config import DataUsed, RunConfig, data_used
from proofs_checks.errata import population_limit, sampled_density, stored_samples
from proofs_checks.errata.population_limit import Fits, PopulationLimit
from proofs_checks.errata.sampled_density import SampledDensity
from proofs_checks.errata.score import Score
from proofs_checks.errata.stored_samples import Storage
from proofs_checks.nets import Progress

NOTE = "fixed examples, whatever the options say"


@dataclass(frozen=True)
class Errata:
    """The examples of each family of claims; ``seeds`` draw the noisy samples of fits."""

    seeds: tuple[int, ...]

    @cached_property
    def population(self) -> PopulationLimit:
        """Corollary 3.3 for many samples."""
        return PopulationLimit(Fits(self.seeds))

    @cached_property
    def storage(self) -> Storage:
        """Corollary 3.2 for a few."""
        return Storage()

    @cached_property
    def density(self) -> SampledDensity:
        """What a memorizing net samples."""
        return SampledDensity()

    @cached_property
    def score(self) -> Score:
        """The score of a mixture."""
        return Score()

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        n, d = self.storage.samples.x.shape
        return {
            "n": n,
            "d": d,
            "sigma": stored_samples.SIGMA,
            "lam": stored_samples.LAM,
            "seeds": len(self.seeds),
            "data": NOTE,
        }

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The stored samples, by name and hash; the other examples are closed forms or drawn."""
        x_ND = self.storage.samples.x
        return (data_used(Dataset("simplex of several norms", x_ND), x_ND, NOTE),)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Measured loss over printed against σ, and KL against the width of smoothing."""
        sigmas = population_limit.RATIO_SIGMAS
        ratios_ST = population_limit.loss_ratios(self.population.fits, self.population.printed_loss)
        return {
            "x": self.storage.samples.x,
            "ratio": np.stack([sigmas, ratios_ST.mean(axis=0), 1 + sigmas**-2]),
            "kl": np.stack([sampled_density.WIDTHS, self.density.flow.kl_by_width]),
        }


def build(config: RunConfig, progress: Progress) -> Errata:
    """The fixed examples; of the config only the seeds matter, and no net is trained."""
    return Errata(config.seed_list)


def from_weights(saved: SavedWeights) -> Errata:
    """There is nothing in a file of weights that errata could be checked on.

    Raises:
      InputError: always.
    """
    raise InputError("weights: errata check formulas, not weights; choose another regime")
