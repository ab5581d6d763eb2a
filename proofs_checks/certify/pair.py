"""Two samples at a positive cosine: (5) is not even stationary (docs/THEORY.md#positive-cosine)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dae_theory.data import equiangular_directions
from dae_theory.solve.local import solve_local_minimum
from dae_theory.solve.newton import Solution
from dae_theory.theory.closed_forms import Prediction, predict_memorization
from dae_theory.theory.problem import Problem
from proofs_checks.claims import Claim, Kind, Measured, Verdict
from proofs_checks.monte_carlo import exact_loss_value, relative_gradient
from proofs_checks.mutants import HALF_LAMBDA

COSINE, DIMENSION, SIGMA, LAM = 0.3, 16, 0.02, 0.01


@dataclass(frozen=True)
class Pair:
    """Two unit vectors at a cosine, σ and λ, and the formula under test, (5)."""

    problem: Problem
    predict: Callable[..., Prediction] = predict_memorization

    @cached_property
    def prediction(self) -> Prediction:
        """The formula under test on these samples."""
        return self.predict(self.problem.x, self.problem.sigma, self.problem.lam)

    @cached_property
    def nearby(self) -> Solution:
        """The local minimizer that descent from (5) reaches."""
        p, b = self.prediction, self.problem
        return solve_local_minimum(p.w1, p.w2, b.x, b.sigma, b.lam)


def pair_at(cosine: float) -> Pair:
    """The pair at this cosine."""
    return Pair(Problem(equiangular_directions(2, DIMENSION, cosine), SIGMA, LAM))


def positive_cosine(pair: Pair) -> Measured:
    """Relative gradient at (5), and the loss there beside that of the nearby minimum."""
    p, b = pair.prediction, pair.problem
    relative = relative_gradient(p.w1, p.w2, b.x, b.sigma, b.lam)
    loss = exact_loss_value(p.w1, p.w2, b.x, b.sigma, b.lam)
    return Measured(
        relative,
        0.0,
        np.array([relative]),
        note=f"‖∇L‖ at (5); loss {loss:.4f} there, {pair.nearby.loss:.4f} at the minimum that "
        f"descent from it reaches; cosine {b.x[0] @ b.x[1]:+.2f}",
    )


CLAIMS = (
    Claim(
        id="certify/positive-cosine",
        statement="(5) is stationary for two samples at cosine +.3, too.",
        source="docs/THEORY.md#positive-cosine",
        measure=positive_cosine,
        tolerance=1e-8,
        mutants=(HALF_LAMBDA,),
        kind=Kind.EXACT,
        expected=Verdict.FAILS,
        part="pair",
    ),
)
