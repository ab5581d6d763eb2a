"""From one noise level to diffusion models: what samplers make of memorizing and generalizing nets.

Four parts: exact denoisers and ReLU nets (`diffusion_relu`); of the shipped deep models, copies
among their samples (`diffusion_deep`), their errors (`diffusion_denoisers`), Jacobians and layers
(`diffusion_jacobian`). The last three need the images of Fashion-MNIST; without them their claims
are vacuous.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from dae_theory.checks import InputError
from dae_theory.data.dataset import Dataset
from proofs_checks import diffusion_deep, diffusion_denoisers, diffusion_jacobian, diffusion_relu
from proofs_checks.claims import Claim, Mutant
from proofs_checks.config import RunConfig
from proofs_checks.nets import Progress, WeightsFile

DEFAULT_N = diffusion_relu.DEFAULT_N
PARTS: dict[str, ModuleType] = {
    "relu": diffusion_relu,
    "deep": diffusion_deep,
    "denoisers": diffusion_denoisers,
    "jacobian": diffusion_jacobian,
}


@dataclass(frozen=True)
class Part:
    """An experiment that is built when a claim first asks for it."""

    make: Callable[[], Any]

    @cached_property
    def experiment(self) -> Any:
        """The experiment."""
        return self.make()

    @property
    def built(self) -> bool:
        """A claim has asked for it."""
        return "experiment" in vars(self)


@dataclass(frozen=True)
class Diffusion:
    """The experiment of each part, by its name in PARTS."""

    parts: dict[str, Part]


def build(
    config: RunConfig, dataset: Dataset | None, needs_nets: bool, progress: Progress
) -> Diffusion:
    """The experiment a config describes; the data set is what ReLU nets are to store."""
    return Diffusion(
        {
            "relu": Part(lambda: diffusion_relu.build(config, dataset, needs_nets, progress)),
            "deep": Part(lambda: diffusion_deep.build(config)),
            "denoisers": Part(lambda: diffusion_denoisers.build(config)),
            "jacobian": Part(lambda: diffusion_jacobian.build(config)),
        }
    )


def from_weights(file: WeightsFile) -> Diffusion:
    """Nets trained at one noise level are not sampled from: always raises InputError."""
    raise InputError(
        "weights: regime diffusion samples from nets for all noise levels; check weights with "
        "--regime=memorize, generalize, hybrid or certify"
    )


def _about(part: str, claim: Claim) -> Claim:
    """A part's claim, about the whole experiment."""

    def changed(mutant: Mutant) -> Mutant:
        def apply(whole: Diffusion) -> Diffusion:
            mutated = Part(lambda: mutant.apply(whole.parts[part].experiment))
            return Diffusion(whole.parts | {part: mutated})

        return replace(mutant, apply=apply)

    return replace(
        claim,
        check=lambda whole: claim.check(whole.parts[part].experiment),
        mutants=tuple(changed(mutant) for mutant in claim.mutants),
    )


CLAIMS = tuple(_about(part, claim) for part, module in PARTS.items() for claim in module.CLAIMS)


def results(whole: Diffusion) -> dict[str, np.ndarray]:
    """Arrays behind the figures, by part, of the parts that claims have asked for."""
    return {
        f"{name}/{key}": array
        for name, part in whole.parts.items()
        if part.built
        for key, array in PARTS[name].results(part.experiment).items()
    }


def settings(whole: Diffusion) -> dict:
    """What was checked, for the report."""
    found: dict = {}
    for name, part in whole.parts.items():
        if part.built:
            found |= PARTS[name].settings(part.experiment)
    return found
