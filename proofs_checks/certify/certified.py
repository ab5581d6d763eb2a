"""A closed form to certify, and what is computed around it: the minimizer next to it, the Hessian
there, and what the closed form misses as σ varies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError
from dae_theory.minima.enclosure import prove_existence
from dae_theory.minima.existence import Existence, newton_kantorovich
from dae_theory.minima.second_order import SecondOrder, hessian_spectrum, second_order
from dae_theory.solve.newton import Solution, newton_modulo_symmetry
from dae_theory.theory.closed_forms import Prediction, predict_blocks
from dae_theory.theory.problem import Problem
from dae_theory.theory.remainder import flip_weight
from dae_theory.theory.spectrum import Spectrum, predict_curvature
from dae_theory.theory.symmetry import distance_modulo_symmetry, flat_directions
from proofs_checks.blocks import at_margin, predict_on, separable_blocks
from proofs_checks.claims import measure_assumptions
from proofs_checks.monte_carlo import EXACT_MARGIN, relative_gradient

EXACT = separable_blocks(EXACT_MARGIN)  # what makes a closed form exact
MARGINS = np.linspace(2.0, 6.0, 9)  # at which the remainder is measured, by σ
SHRINK = 1e-6  # factor on a unit that is all but taken away


@dataclass(frozen=True)
class Certified:
    """A closed form on clustered samples, one sample a cluster for memorization.

    Attributes:
      problem: samples, σ, λ, clusters and the units of each.
      predict: the formula under test, (2)-(4).
      curvature: the Hessian's eigenvalues, under test.
      flat_directions: the number of zeros among them, under test.
      shrunk: the second-order test is of a net whose first unit is all but gone.
      projects_symmetry: that test leaves symmetry directions out.
    """

    problem: Problem
    predict: Callable[..., Prediction] = predict_blocks
    curvature: Callable[..., Spectrum] = predict_curvature
    flat_directions: Callable[[Sequence[int], Sequence[int]], int] = flat_directions
    shrunk: bool = False
    projects_symmetry: bool = True

    @cached_property
    def prediction(self) -> Prediction:
        """The closed form under test."""
        return predict_on(self.problem, self.predict)

    @property
    def margin(self) -> float:
        """Gate margin z of (4), whatever formula is under test."""
        return predict_on(self.problem).margin

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Directions that each block keeps."""
        return tuple(int(np.sum(np.atleast_1d(m) > 0)) for m in self.prediction.gains)

    @cached_property
    def minimizer(self) -> Solution:
        """The point that Newton's method reaches from the closed form, modulo symmetry."""
        b, p = self.problem, self.prediction
        return newton_modulo_symmetry(p.w1, p.w2, b.x, b.sigma, b.lam)

    @cached_property
    def spectrum(self) -> Spectrum:
        """All eigenvalues of the exact Hessian at the closed form."""
        b, p = self.problem, self.prediction
        return hessian_spectrum(p.w1, p.w2, b.x, b.sigma, b.lam)

    @cached_property
    def predicted_spectrum(self) -> Spectrum:
        """The same in closed form, for frozen gates."""
        return self.curvature(self.prediction, self.problem.x)

    @cached_property
    def second_order(self) -> SecondOrder:
        """Verdict at the minimizer."""
        b, weights = self.problem, (self.minimizer.w1, self.minimizer.w2)
        if self.shrunk:
            weights = shrink_unit(*weights, 0)
        groups = None if self.projects_symmetry else np.full(weights[0].shape[1], -1)
        return second_order(*weights, b.x, b.sigma, b.lam, groups)

    @cached_property
    def existence(self) -> Existence:
        """Newton-Kantorovich bound at the closed form, enclosed where that is possible."""
        b, p = self.problem, self.prediction
        try:
            return prove_existence(p.w1, p.w2, b.x, b.sigma, b.lam)
        except InputError:
            at = second_order(p.w1, p.w2, b.x, b.sigma, b.lam)
            return newton_kantorovich(p.w1, p.w2, b.x, b.sigma, b.lam, at.grad_norm, at.lowest)

    @cached_property
    def remainder(self) -> dict[str, Float[np.ndarray, " Z"]]:
        """What the closed form misses as σ varies, by margin z: flip weight F, relative gradient,
        ‖R‖ modulo symmetry relative to ‖W‖, worst block operator's relative error; NaN where
        Newton's method finds no stationary point."""
        rows = []
        for z in MARGINS:
            b = at_margin(self.problem, z)
            p = predict_on(b, self.predict)
            weights = (p.w1, p.w2)
            true = newton_modulo_symmetry(*weights, b.x, b.sigma, b.lam)
            end, found = (true.w1, true.w2), 1.0 if true.converged else np.nan
            distance = distance_modulo_symmetry(end, p.blocks, weights, p.blocks)
            rows.append(
                (
                    z,
                    flip_weight(p.w1, b.x, b.sigma),
                    relative_gradient(*weights, b.x, b.sigma, b.lam),
                    found * distance / np.linalg.norm(weights),
                    found * np.max(operator_errors(*end, p)),
                )
            )
        names = ("z", "flips", "gradient", "weights", "operator")
        return dict(zip(names, np.array(rows).T, strict=True))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw: remainder and eigenvalues, where the theory applies."""
        if not all(assumption.met for assumption in measure_assumptions(EXACT, self).values()):
            return {}
        measured, predicted = self.spectrum, self.predicted_spectrum
        return self.remainder | {
            "spectrum_values": measured.values,
            "spectrum_multiplicities": measured.multiplicities,
            "spectrum_predicted": predicted.values,
            "spectrum_predicted_multiplicities": predicted.multiplicities,
            "spectrum_lam": np.array(self.problem.lam),
        }


def operator_errors(
    w1_DP: Float[np.ndarray, "D P"], w2_DP: Float[np.ndarray, "D P"], prediction: Prediction
) -> Float[np.ndarray, " K"]:
    """‖M_k − predicted‖_F / ‖predicted‖_F of each cluster, units assigned as predicted."""
    errors = []
    for k in range(len(prediction.directions)):
        units_P = prediction.blocks == k
        measured, predicted = w2_DP[:, units_P] @ w1_DP[:, units_P].T, prediction.operator(k)
        errors.append(np.linalg.norm(measured - predicted) / np.linalg.norm(predicted))
    return np.array(errors)


def shrink_unit(
    w1_DP: np.ndarray, w2_DP: np.ndarray, unit: int, factor: float = SHRINK
) -> tuple[np.ndarray, np.ndarray]:
    """The weights with both columns of one unit multiplied by the factor."""
    scale_P = np.where(np.arange(w1_DP.shape[1]) == unit, factor, 1.0)
    return w1_DP * scale_P, w2_DP * scale_P
