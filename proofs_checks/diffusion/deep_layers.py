"""Which layers of deep nets are spiky at memorized images: the paper's detector."""

from collections.abc import Callable

import numpy as np

from dae_theory.deep.activations import separate_groups
from proofs_checks.claims import Claim, Kind, Measured, Verdict
from proofs_checks.diffusion.jacobian_mutants import GROUPS, NETS
from proofs_checks.diffusion.jacobian_study import (
    JacobianExperiment,
    LayerScores,
    NetPoints,
    listed,
    nets_there,
    of_worst,
)

DETECTOR = "max/std"


def mixed_nets(text: bool) -> Callable[[JacobianExperiment], tuple[NetPoints, ...]]:
    """Nets that do both, with or without text."""
    return lambda e: tuple(net for net in e.mixed if net.text == text)


def detector(text: bool) -> Callable[[JacobianExperiment], Measured]:
    """Share of test images that score at least as high as a memorized one, at the lowest σ; of
    nets with or without ``text``, without a caption."""

    def measure(e: JacobianExperiment) -> Measured:
        shares, areas, others = {}, {}, {}
        for net in mixed_nets(text)(e):
            score_N = net.layers.statistics.values[net.layers.detector][DETECTOR][0]
            memorized_M, other_O = score_N[net.layers.memorized], score_N[~net.layers.memorized]
            shares[net.name] = np.mean(other_O >= memorized_M[:, None], axis=1)
            others[net.name] = len(other_O)
            name, area = best_statistic(net.layers)
            areas[net.name] = f"{net.layers.detector}, best {name} {area:.3f}"
        detected = {name: 1 - share for name, share in shares.items()}
        return of_worst(detected, shares, 1.0, "AUROC; " + listed(areas), others)

    return measure


def best_statistic(layers: LayerScores) -> tuple[str, float]:
    """'layer/pool/statistic' with the highest AUROC at the lowest σ, chosen with hindsight."""
    areas = {
        f"{layer}/{name}": by_sigma[0].value
        for layer, by_name in separate_groups(layers.statistics, layers.memorized).items()
        for name, by_sigma in by_name.items()
    }
    name = max(areas, key=areas.__getitem__)
    return name, areas[name]


CLAIMS = (
    Claim(
        id="diffusion/layers-detector",
        statement="In the paper's layer memorized images have the higher standard deviation over "
        "channels.",
        source="docs/THEORY.md#layers",
        part="jacobian",
        requires=nets_there("do both", mixed_nets(text=False)),
        measure=detector(text=False),
        tolerance=0.05,
        mutants=(GROUPS, NETS),
        kind=Kind.EXPLORATORY,
        expected=Verdict.INCONCLUSIVE,  # all have it, of five
        slow=True,
    ),
    Claim(
        id="diffusion/layers-detector-text",
        statement="So have, without any caption, images that are memorized under a caption.",
        source="docs/THEORY.md#layers",
        part="jacobian",
        requires=nets_there("do both", mixed_nets(text=True)),
        measure=detector(text=True),
        tolerance=0.05,
        mutants=(GROUPS, NETS),
        kind=Kind.EXPLORATORY,
        expected=Verdict.FAILS,
        slow=True,
    ),
)
