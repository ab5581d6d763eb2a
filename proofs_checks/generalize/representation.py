"""How many units carry the representation: in a generalizing net, in a memorizing one, and on
fresh samples."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dae_theory.relu.model import encode
from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant, Verdict, at_least
from proofs_checks.generalize.experiment import (
    CONTROLS,
    CONTROLS_AT_MINIMUM,
    KNOWN_MIXTURE,
    TRAINED,
    Generalization,
)
from proofs_checks.monte_carlo import UNMERGED, merged_statistics, noised, unmerged_areas
from proofs_checks.nets import Nets

SEVERAL_DIRECTIONS = at_least(  # one alone is spiky whatever it stores
    "directions of a block",
    2,
    lambda e: min(np.sum(gains > 0) for gains in e.prediction.gains),
    needs_others=True,
)


def effective_units(
    nets: Nets, x_ND: Float[np.ndarray, "N D"], sigma: float
) -> Float[np.ndarray, " S"]:
    """(S,) mean participation ratio of noised samples, collinear units merged, for each net."""
    statistics = merged_statistics(nets, x_ND, sigma)
    return np.array([np.nanmean(s["participation_ratio"]) for s in statistics])


def balanced(e: Generalization) -> Measured:
    """Effective units of memorizing nets, relative to those of generalizing ones."""
    x_ND, sigma = e.problem.x, e.problem.sigma
    generalizing = effective_units(e.nets, x_ND, sigma)
    memorizing = effective_units(e.memorizing, e.exemplars, sigma)
    formula = Nets(e.prediction.w1[None], e.prediction.w2[None])
    (predicted,) = effective_units(formula, x_ND, sigma)
    pairs = zip(e.memorizing.pairs, e.nets.pairs, strict=True)
    areas = [
        unmerged_areas(
            np.asarray(encode(few, noised(e.exemplars, sigma))),
            np.asarray(encode(many, noised(x_ND, sigma, draws=1))),
        )
        for (few, _), (many, _) in pairs
    ]
    return Measured(
        float(np.mean(memorizing / generalizing)),
        0.5,
        memorizing / generalizing,
        e.nets.seeds,
        "effective units (collinear ones merged) of memorizing nets, {memorizing:.2f}, over those "
        "of generalizing ones, {generalizing:.2f}; predicted: at most half; same optimizer, σ, λ, "
        "p; (4) with the even O, one of all rotations, would have {even:.2f}; AUROC of "
        "memorizing against generalizing, unmerged units: std {std:.3f}, participation ratio "
        "{participation_ratio:.3f}, Hoyer {hoyer:.3f}",
        details={
            "memorizing": np.mean(memorizing),
            "generalizing": np.mean(generalizing),
            "even": predicted,
        }
        | {name: np.mean([area[name] for area in areas]) for name in UNMERGED},
    )


def unseen_units(e: Generalization) -> Measured:
    """Effective units on fresh samples, beside those on the training samples."""
    seen = effective_units(e.nets, e.problem.x, e.problem.sigma)
    fresh = effective_units(e.nets, e.fresh[0], e.problem.sigma)
    return Measured(
        float(np.mean(fresh)),
        float(np.mean(seen)),
        np.abs(fresh / seen - 1),
        e.nets.seeds,
        "effective units, collinear ones merged; predicted: on the training samples",
    )


def exchanged(e: Generalization) -> Generalization:
    """Memorizing and generalizing nets exchanged; the data stay."""
    return replace(e, replaced=e.memorizing, replaced_memorizing=e.nets)


def opposite_means(e: Generalization) -> Generalization:
    """Fresh samples come from a mixture with the means turned around."""
    return replace(e, mixture=replace(e.mixture, means=-e.mixture.means))


CLAIMS = (
    Claim(
        id="cor3.3/balanced",
        statement="The representation is balanced: at least twice as many units carry it as in "
        "a memorizing net.",
        source="docs/THEORY.md#cor-3.3",
        requires=(CONTROLS, *TRAINED, CONTROLS_AT_MINIMUM, SEVERAL_DIRECTIONS),
        measure=balanced,
        tolerance=0.5,
        mutants=(Mutant("memorizing and generalizing nets exchanged", exchanged),),
        # Its control nets were given more noise draws a step after the judging seeds were seen.
        kind=Kind.EXPLORATORY,
        # All 8 ratios are below a half, but one of .46 among values near .3 widens the interval.
        expected=Verdict.INCONCLUSIVE,
    ),
    Claim(
        id="unseen/units",
        statement="On fresh samples as many units carry the representation as on the training "
        "samples.",
        source="docs/THEORY.md#unseen",
        requires=(KNOWN_MIXTURE, *TRAINED),
        measure=unseen_units,
        tolerance=0.05,
        mutants=(Mutant("fresh samples from the opposite means", opposite_means),),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
)
