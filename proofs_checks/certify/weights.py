"""Weights that were trained elsewhere: is there a minimum next to them, with all the units it
wants?"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from dae_theory.minima.dead_units import DeadUnitCertificate, dead_unit_certificate
from dae_theory.minima.second_order import SecondOrder, second_order
from dae_theory.relu.units import live_units
from dae_theory.solve.local import solve_local_minimum
from dae_theory.solve.newton import Solution
from dae_theory.theory.problem import Problem
from proofs_checks.certify.certified import shrink_unit
from proofs_checks.certify.closed_forms import verdict_in_words
from proofs_checks.claims import ACCURACY, Claim, Kind, Measured, Mutant, above
from proofs_checks.monte_carlo import exact_loss_value
from proofs_checks.nets import Nets, fewest_live
from proofs_checks.stationarity import AT_MINIMUM, Stopped

AT_REST = (
    above("lambda", 0, lambda t: t.problem.lam),
    above("live units", 0, lambda t: fewest_live(t.stopped.nets)),
    AT_MINIMUM,
)


@dataclass(frozen=True)
class Trained:
    """Weights with their problem; ``shrunk``: whether the first live unit of the minimum next to
    them is all but taken away before anything is measured."""

    w1: Float[np.ndarray, "D P"]
    w2: Float[np.ndarray, "D P"]
    problem: Problem
    shrunk: bool = False

    @cached_property
    def stopped(self) -> Stopped:
        """The weights as they are."""
        return Stopped(Nets(self.w1[None], self.w2[None]), self.problem)

    @cached_property
    def solution(self) -> Solution:
        """The stationary point that descent from the weights reaches."""
        b = self.problem
        return solve_local_minimum(self.w1, self.w2, b.x, b.sigma, b.lam)

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """The weights to judge."""
        weights = self.solution.w1, self.solution.w2
        if not self.shrunk:
            return weights
        return shrink_unit(*weights, int(np.argmax(live_units(*weights))))

    @cached_property
    def second_order(self) -> SecondOrder:
        """Verdict there."""
        return second_order(*self.weights, self.problem.x, self.problem.sigma, self.problem.lam)

    @cached_property
    def dead_units(self) -> DeadUnitCertificate:
        """The largest pull on another unit there."""
        b = self.problem
        return dead_unit_certificate(*self.weights, b.x, b.sigma, b.lam)


def trained_minimum(t: Trained) -> Measured:
    """Verdict at the stationary point next to the weights."""
    verdict, start, b = t.second_order, np.stack([t.w1, t.w2]), t.problem
    moved = np.linalg.norm(np.stack([t.solution.w1, t.solution.w2]) - start)
    moved /= np.linalg.norm(start)
    before = exact_loss_value(t.w1, t.w2, b.x, b.sigma, b.lam)
    return Measured(
        verdict.lowest,
        0.0,
        np.array([float(verdict.verdict != "minimum")]),
        note=f"{verdict_in_words(verdict)}; solving moved the weights by {moved:.1%}, the loss "
        f"from {before:.6g} to {t.solution.loss:.6g}",
    )


def trained_dead_units(t: Trained) -> Measured:
    """Largest pull on another unit, in units of λ."""
    found = t.dead_units
    return Measured(
        found.ratio,
        1.0,
        np.array([max(found.ratio - 1, 0.0)]),
        note=f"max G/λ; {found.converged:.0%} of the starts arrived; off the live units "
        f"{found.elsewhere / t.problem.lam:.4f}",
    )


CLAIMS = (
    Claim(
        id="certify/weights/minimum",
        statement="Solved from these weights, the net is at a strict minimum modulo symmetry.",
        source="docs/THEORY.md#local-minimum",
        requires=AT_REST,
        measure=trained_minimum,
        tolerance=0.0,
        mutants=(Mutant("first live unit shrunk to 1e-6", lambda t: replace(t, shrunk=True)),),
        kind=Kind.EXACT,
        part="trained",
    ),
    Claim(
        id="certify/weights/dead-units",
        statement="No direction pulls another unit by more than λ there.",
        source="docs/THEORY.md#eq-10",
        requires=AT_REST,
        measure=trained_dead_units,
        tolerance=1e-6,
        origin=ACCURACY,
        mutants=(Mutant("first live unit taken away", lambda t: replace(t, shrunk=True)),),
        kind=Kind.EXACT,
        part="trained",
    ),
)
