"""From one noise level to diffusion models: what samplers make of memorizing and generalizing nets.

Four parts: exact denoisers and ReLU nets (`diffusion_relu`); of the shipped deep models, copies
among their samples (`diffusion_deep`), their errors (`diffusion_denoisers`), Jacobians and layers
(`diffusion_jacobian`). The last three need the images of Fashion-MNIST; without them their claims
are vacuous.
"""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from dae_theory.data import Dataset
from dae_theory.errors import InputError
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
class Diffusion:
    """The experiment of each part."""

    relu: Any
    deep: Any
    denoisers: Any
    jacobian: Any


def build(
    config: RunConfig, dataset: Dataset | None, needs_nets: bool, progress: Progress
) -> Diffusion:
    """The experiment a config describes; the data set is what ReLU nets are to store."""
    return Diffusion(
        relu=diffusion_relu.build(config, dataset, needs_nets, progress),
        deep=diffusion_deep.build(config),
        denoisers=diffusion_denoisers.build(config),
        jacobian=diffusion_jacobian.build(config),
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
        return replace(
            mutant,
            apply=lambda experiment: replace(
                experiment, **{part: mutant.apply(getattr(experiment, part))}
            ),
        )

    return replace(
        claim,
        check=lambda experiment: claim.check(getattr(experiment, part)),
        mutants=tuple(changed(mutant) for mutant in claim.mutants),
    )


CLAIMS = tuple(_about(part, claim) for part, module in PARTS.items() for claim in module.CLAIMS)


def results(experiment: Diffusion) -> dict[str, np.ndarray]:
    """Arrays behind the figures, by part."""
    return {
        f"{part}/{name}": array
        for part, module in PARTS.items()
        for name, array in module.results(getattr(experiment, part)).items()
    }


def settings(experiment: Diffusion) -> dict:
    """What was checked, for the report."""
    found: dict = {}
    for part, module in PARTS.items():
        found |= module.settings(getattr(experiment, part))
    return found
