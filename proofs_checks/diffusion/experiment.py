"""Five experiments: on sampling with exact denoisers and ReLU nets, and with shipped deep models.

python -m proofs_checks.run --regime=diffusion

Of the shipped models: copies among their samples (`deep`), their errors (`denoisers`), Jacobians
and layers (`jacobian`). Some thousand images of Fashion-MNIST come with the package; claims that
need all of them are vacuous without. `ladder` is read from a table that comes with the package.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dae_theory.checks import InputError
from dae_theory.weights.read import SavedWeights
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.diffusion import (
    deep_copies,
    deep_denoisers,
    jacobian_study,
    ladder_study,
    relu_sampling,
)
from proofs_checks.diffusion.exact import ExactSampling
from proofs_checks.diffusion.relu_pair import StoredPair
from proofs_checks.diffusion.shipped import ShippedModels
from proofs_checks.draws import Draws
from proofs_checks.nets import Progress
from proofs_checks.parts import arrays_of, built_parts, data_of, settings_of

PARTS = ("relu", "deep", "denoisers", "jacobian", "ladder")


@dataclass(frozen=True)
class Diffusion:
    """The parts of the regime, each built when a claim first asks for it.

    Attributes:
      config: what was asked for.
      progress: called while nets are trained.
    """

    config: RunConfig
    progress: Progress

    @cached_property
    def relu(self) -> relu_sampling.ReluSampling | Draws:
        """ReLU nets of few and of many samples, and what they sample."""
        return relu_sampling.build(self.config, self.progress)

    @property
    def exact(self) -> ExactSampling:
        """Samplers with exact denoisers, of the few samples of each seed."""
        draws = getattr(self.relu, "draws", (self.relu,))
        few = {seed: e.task("few").x for e in draws for seed in e.seeds}
        return ExactSampling(tuple(few), np.stack(list(few.values())))

    @property
    def pair(self) -> StoredPair:
        """The net that stores two images."""
        return StoredPair(self.config.seed_list)

    @cached_property
    def shipped(self) -> ShippedModels:
        """The shipped models, and what was sampled from them."""
        return ShippedModels()

    @cached_property
    def deep(self) -> deep_copies.DeepSampling:
        """Samples of the shipped models."""
        return deep_copies.build(self.config, self.shipped)

    @cached_property
    def denoisers(self) -> deep_denoisers.DenoiserComparison:
        """Errors of the shipped models and of classical denoisers."""
        return deep_denoisers.build(self.config, self.shipped)

    @cached_property
    def jacobian(self) -> jacobian_study.JacobianExperiment:
        """Jacobians and layers of the shipped models."""
        return jacobian_study.build(self.config, self.shipped)

    @cached_property
    def ladder(self) -> ladder_study.LadderStudy:
        """What was measured of deep nets without biases, and of nets that differ in one thing."""
        return ladder_study.build()

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
        return arrays_of(self.built)


def build(config: RunConfig, progress: Progress) -> Diffusion:
    """The experiment a config describes; the data are what ReLU nets are to store."""
    return Diffusion(config, progress)


def from_weights(saved: SavedWeights) -> Diffusion:
    """Nets trained at one noise level are not sampled from: always raises InputError."""
    raise InputError(
        "weights: regime diffusion samples from nets for all noise levels; check weights with "
        "--regime=memorize, generalize, hybrid or certify"
    )
