"""The experiments on detectors, each a part: predicted nets, nets of two layers, two conditions;
deep models, whose scores are read from a table that comes with the package.

python -m proofs_checks.run --regime=detect
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dae_theory.checks import InputError
from dae_theory.weights.read import SavedWeights
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.detect import calibration, conditions, deep_study, identities, relu_nets
from proofs_checks.detect.auroc import area_arrays
from proofs_checks.nets import Progress
from proofs_checks.parts import DeepStudy, built_parts, data_of, settings_of

PARTS = ("exact", "relu", "conditions", "deep")


@dataclass(frozen=True)
class Detect:
    """The parts of the regime, each built when a claim first asks for it.

    Attributes:
      config: what was asked for.
      progress: called while nets are solved for.
    """

    config: RunConfig
    progress: Progress

    @cached_property
    def exact(self) -> identities.Identities:
        """A predicted net whose gates do not flip."""
        return identities.build(self.config)

    @cached_property
    def relu(self) -> relu_nets.ReluDetection:
        """Nets that store some samples and generalize from clusters."""
        return relu_nets.build(self.config, self.progress)

    @property
    def pooled(self) -> relu_nets.Pooled:
        """The settings of all these nets at once."""
        return self.relu.pooled

    @cached_property
    def conditions(self) -> conditions.Conditions:
        """Beside some of them, nets without the caption."""
        return conditions.build(self.relu)

    @cached_property
    def calibrations(self) -> calibration.Calibrations:
        """Thresholds calibrated on images that are not memorized, again and again."""
        return calibration.build(self.config, self.exact)

    @cached_property
    def deep(self) -> DeepStudy:
        """What detectors say of small deep models whose planted images are known."""
        return deep_study.build()

    @property
    def built(self) -> dict[str, Any]:
        """The parts that a claim has asked for, by name."""
        return built_parts(self, PARTS)

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        return settings_of(self.built.values())

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples, by name and hash."""
        return data_of(self.built.values())

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw, as 'part/name'."""
        if "relu" not in vars(self) or not all(e.has_nets for e in self.relu.draws):
            return {}
        areas = area_arrays(self.relu.pooled.usable)
        return {f"std/{name}": column for name, column in areas.items()}


def build(config: RunConfig, progress: Progress) -> Detect:
    """The experiment a config describes; it has sizes and noise levels of its own.

    Raises:
      InputError: for data of the user, of which nobody knows what is stored.
    """
    if config.data is not None:
        raise InputError(
            "data: regime detect is about nets in which we know what is stored; leave it out"
        )
    return Detect(config, progress)


def from_weights(saved: SavedWeights) -> Detect:
    """Nothing says which samples a user's net stores: always raises InputError."""
    raise InputError(
        "weights: regime detect is about nets in which we know what is stored; check weights with "
        "--regime=memorize, generalize, hybrid or certify"
    )
