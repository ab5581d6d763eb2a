"""The experiments on steering, each a part: inside a block, from one block to another, and deep
models, whose numbers are read from a table that comes with the package.

python -m proofs_checks.run --regime=steer
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dae_theory.checks import InputError
from dae_theory.weights.read import SavedWeights
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.nets import Progress
from proofs_checks.parts import DeepStudy, arrays_of, built_parts, data_of, settings_of
from proofs_checks.steer import deep_study, inside, pairs

PARTS = ("clusters", "shared", "pairs", "deep")


@dataclass(frozen=True)
class Steer:
    """The parts of the regime, each built when a claim first asks for it.

    Attributes:
      config: what was asked for.
      progress: called while nets are solved for.
    """

    config: RunConfig
    progress: Progress

    @cached_property
    def clusters(self) -> inside.Blocks:
        """Nets that generalize, steered towards one half of a cluster."""
        return inside.build_clusters(self.config, self.progress)

    @cached_property
    def shared(self) -> inside.Blocks:
        """Nets that store two samples in one block, steered from one to the other."""
        return inside.build_shared(self.config, self.progress)

    @cached_property
    def pairs(self) -> pairs.Pairs:
        """Nets that store two samples in a block each, steered from one to the other."""
        return pairs.build(self.config, self.progress)

    @cached_property
    def deep(self) -> DeepStudy:
        """Deep models steered towards concepts, and away from what they memorize."""
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
        """What the figure draws, as 'part/name'."""
        return arrays_of(self.built)


def build(config: RunConfig, progress: Progress) -> Steer:
    """The experiment a config describes; it has data, sizes and noise levels of its own.

    Raises:
      InputError: for data of the user, to whose noise levels no net was solved for.
    """
    if config.data is not None:
        raise InputError("data: regime steer is about samples of its own; leave it out")
    return Steer(config, progress)


def from_weights(saved: SavedWeights) -> Steer:
    """A user's weights are for one noise level: always raises InputError."""
    raise InputError(
        "weights: regime steer samples, with a net for each noise level; check weights with "
        "--regime=memorize, generalize, hybrid or certify"
    )
