"""Measurements behind the certificates: is it a minimum, how near, and modulo which symmetry?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.stats
from jaxtyping import Float
from scipy.stats import linregress

from dae_theory.minima.dead_units import DeadUnitCertificate, dead_unit_certificate
from dae_theory.minima.existence import Existence, newton_kantorovich
from dae_theory.minima.second_order import SecondOrder, hessian_spectrum, second_order
from dae_theory.relu.units import live_units
from dae_theory.solve.local import solve_local_minimum
from dae_theory.solve.newton import Solution, newton_modulo_symmetry
from dae_theory.theory.closed_forms import Prediction, predict_blocks, predict_memorization
from dae_theory.theory.spectrum import Spectrum, predict_curvature
from dae_theory.theory.symmetry import distance_modulo_symmetry, flat_directions
from dae_theory.weights.compare import compare_weights
from proofs_checks.blocks import Blocks, assumptions, at_margin, predict_on
from proofs_checks.claims import Assumption, flip_weight, log_log_slope
from proofs_checks.probes import EXACT_MARGIN, exact_loss_value, relative_gradient

MARGINS = np.linspace(2.0, 6.0, 9)  # at which the remainder is measured, by σ
LAW_MARGIN = 4.0  # from which exponents are fitted
LEVELS = (1e-2, 1e-3, 1e-6)  # relative errors for which the margin that is needed is looked up
FLAT = 1e-3  # largest modulus, relative to λ, of an eigenvalue that counts as zero
SHRINK = 1e-6  # factor on a unit that is all but taken away


@dataclass(frozen=True)
class Certified:
    """A closed form to certify on clustered samples, one sample a cluster for memorization.

    Formulas under test: ``predict`` (2)-(4), ``curvature`` the Hessian's eigenvalues,
    ``flat_directions`` the number of zeros among them. ``shrunk``, ``projects_symmetry``: whether
    the second-order test is of a net whose first unit is all but gone, and whether it leaves
    symmetry directions out.
    """

    blocks: Blocks
    predict: Callable[..., Prediction] = predict_blocks
    curvature: Callable[..., Spectrum] = predict_curvature
    flat_directions: Callable[[Sequence[int], Sequence[int]], int] = flat_directions
    shrunk: bool = False
    projects_symmetry: bool = True

    @cached_property
    def prediction(self) -> Prediction:
        """The closed form under test."""
        return predict_on(self.blocks, self.predict)

    @property
    def margin(self) -> float:
        """Gate margin z of (4), whatever formula is under test."""
        return predict_on(self.blocks).margin

    @cached_property
    def minimizer(self) -> Solution:
        """The point that Newton's method reaches from the closed form, modulo symmetry."""
        b, p = self.blocks, self.prediction
        return newton_modulo_symmetry(p.w1, p.w2, b.x, b.sigma, b.lam)

    @cached_property
    def spectrum(self) -> Spectrum:
        """All eigenvalues of the exact Hessian at the closed form."""
        b, p = self.blocks, self.prediction
        return hessian_spectrum(p.w1, p.w2, b.x, b.sigma, b.lam)

    @cached_property
    def predicted_spectrum(self) -> Spectrum:
        """The same in closed form, for frozen gates."""
        return self.curvature(self.prediction, self.blocks.x)

    @property
    def spectra(self) -> dict[str, np.ndarray]:
        """Exact and predicted eigenvalues with their multiplicities, for the figures."""
        exact, predicted = self.spectrum, self.predicted_spectrum
        return {
            "values": exact.values,
            "multiplicities": exact.multiplicities,
            "predicted": predicted.values,
            "predicted_multiplicities": predicted.multiplicities,
            "lam": np.array(self.blocks.lam),
        }

    @cached_property
    def second_order(self) -> SecondOrder:
        """Verdict at the minimizer."""
        b, weights = self.blocks, (self.minimizer.w1, self.minimizer.w2)
        if self.shrunk:
            weights = shrink_unit(*weights, 0)
        groups = None if self.projects_symmetry else np.full(weights[0].shape[1], -1)
        return second_order(*weights, b.x, b.sigma, b.lam, groups)

    @cached_property
    def existence(self) -> Existence:
        """Newton-Kantorovich bound at the closed form."""
        b, p = self.blocks, self.prediction
        at = second_order(p.w1, p.w2, b.x, b.sigma, b.lam)
        return newton_kantorovich(p.w1, p.w2, b.x, b.sigma, at.grad_norm, at.lowest)

    @cached_property
    def remainder(self) -> dict[str, Float[np.ndarray, " Z"]]:
        """What the closed form misses as σ varies, by margin z: flip weight F, relative gradient,
        ‖R‖ modulo symmetry relative to ‖W‖, worst block operator's relative error; NaN where
        Newton's method finds no stationary point."""
        rows = []
        for z in MARGINS:
            b = at_margin(self.blocks, z)
            p = predict_on(b, self.predict)
            true = newton_modulo_symmetry(p.w1, p.w2, b.x, b.sigma, b.lam)
            found = 1.0 if true.converged else np.nan
            weights = (p.w1, p.w2)
            distance = distance_modulo_symmetry((true.w1, true.w2), p.blocks, weights, p.blocks)
            rows.append(
                (
                    z,
                    flip_weight(p.w1, b.x, b.sigma),
                    relative_gradient(*weights, b.x, b.sigma, b.lam),
                    found * distance / np.linalg.norm(weights),
                    found * np.max(compare_weights(true.w1, true.w2, p, b.x).operator_errors),
                )
            )
        names = ("z", "flips", "gradient", "weights", "operator")
        return dict(zip(names, np.array(rows).T, strict=True))

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Directions that each block keeps."""
        return tuple(int(np.sum(np.atleast_1d(m) > 0)) for m in self.prediction.gains)


def exact(c: Certified) -> dict[str, Assumption]:
    """What makes the closed form exact."""
    return assumptions(c.blocks, EXACT_MARGIN)


def shrink_unit(
    w1_DP: np.ndarray, w2_DP: np.ndarray, unit: int, factor: float = SHRINK
) -> tuple[np.ndarray, np.ndarray]:
    """The weights with both columns of one unit multiplied by the factor."""
    scale_P = np.where(np.arange(w1_DP.shape[1]) == unit, factor, 1.0)
    return w1_DP * scale_P, w2_DP * scale_P


def margin_needed(z: np.ndarray, error: np.ndarray, level: float) -> str:
    """Margin from which on the error stays below the level, in words: between two measured ones
    the logarithm is taken as linear in z²."""
    above = np.flatnonzero(~(error <= level))
    if len(above) == 0:
        return f"<{z[0]:.1f}"
    if above[-1] == len(z) - 1:
        return f">{z[-1]:.1f}"
    if np.isnan(error[above[-1]]):
        return f"{z[above[-1] + 1]:.1f}"
    pair = slice(above[-1], above[-1] + 2)
    square = np.interp(-np.log(level), -np.log(error[pair]), z[pair] ** 2)
    return f"{np.sqrt(square):.1f}"


def measure_stationary(c: Certified) -> dict:
    """Relative gradient norm at the closed form."""
    b, p = c.blocks, c.prediction
    relative = relative_gradient(p.w1, p.w2, b.x, b.sigma, b.lam)
    return {
        "measured": relative,
        "predicted": 0.0,
        "errors": np.array([relative]),
        "note": f"‖∇L‖ relative to the mean of ‖x‖², z={c.margin:.2f}",
    }


def measure_remainder(c: Certified) -> dict:
    """Exponents of gradient and ‖R‖ in the flip weight F, the smaller one; the operator's beside.

    F counts all gates alike. With powers of 1/z the exponent comes out a little above 1; where
    the gate of the smallest margin moves the weights less than others do, a little below.
    """
    kinds = ("gradient", "weights", "operator")
    r = c.remainder
    law = {name: values[r["z"] >= LAW_MARGIN] for name, values in r.items()}
    exponents = {kind: log_log_slope(law["flips"], law[kind]) for kind in kinds}
    smallest = min(exponents["gradient"], exponents["weights"])
    line = linregress(law["z"] ** 2, np.log(law["weights"]))
    width = scipy.stats.t.ppf(0.975, len(law["z"]) - 2) * line.stderr
    needed = " / ".join(margin_needed(r["z"], r["operator"], level) for level in LEVELS)
    return {
        "measured": smallest,
        "predicted": 1.0,
        "errors": np.array([max(1 - smallest, 0.0)]),
        "note": "exponents: "
        + ", ".join(f"{kind} {exponent:.3f}" for kind, exponent in exponents.items())
        + f"; slope of log ‖R‖ against z² {line.slope:.3f} ± {width:.3f}; operator errors below "
        + " / ".join(f"{level:g}" for level in LEVELS)
        + f" from z = {needed} on",
    }


def measure_spectrum(c: Certified) -> dict:
    """Largest difference of a Hessian eigenvalue from the closed form, relative to the largest."""
    measured = c.spectrum.sorted_values()
    predicted = c.predicted_spectrum.sorted_values()
    if len(measured) != len(predicted):
        error = np.inf
    else:
        error = float(np.max(np.abs(measured - predicted)) / measured[-1])
    positive = [values[values > FLAT * c.blocks.lam] for values in (measured, predicted)]
    return {
        "measured": float(positive[0].min()),
        "predicted": float(positive[1].min()),
        "errors": np.array([error]),
        "note": f"smallest non-zero eigenvalue of {len(measured)}; error: largest difference over "
        f"all of them, relative to the largest, {measured[-1]:.3g}; λ = {c.blocks.lam:.3g}",
    }


def measure_flat_directions(c: Certified) -> dict:
    """Number of zero eigenvalues beside that of symmetry directions."""
    found = c.spectrum.count_below(FLAT * c.blocks.lam)
    predicted = c.flat_directions(c.blocks.widths, c.ranks)
    values = np.abs(c.spectrum.values)
    largest = values[values <= FLAT * c.blocks.lam].max(initial=0.0)
    return {
        "measured": float(found),
        "predicted": float(predicted),
        "errors": np.array([abs(found - predicted)], float),
        "note": f"eigenvalues below {FLAT:g} λ, the largest of them {largest:.1e}",
    }


def verdict_in_words(verdict: SecondOrder) -> str:
    """The verdict and what it rests on."""
    words = f"{verdict.verdict}; lowest eigenvalue orthogonal to {len(verdict.symmetry)} symmetry "
    words += f"directions; ‖∇L‖ = {verdict.grad_norm:.1e}"
    if verdict.verdict == "saddle":
        words += f"; along its direction the loss falls by {verdict.loss_drop:.2e}"
    return words


def measure_minimum(c: Certified) -> dict:
    """Verdict at the point that Newton's method reaches; how far the lowest eigenvalue is off."""
    verdict, values = c.second_order, c.predicted_spectrum.values
    predicted = float(values[values > FLAT * c.blocks.lam].min())
    is_other = float(verdict.verdict != "minimum")
    return {
        "measured": verdict.lowest,
        "predicted": predicted,
        "errors": np.array([abs(verdict.lowest / predicted - 1) + is_other]),
        "note": verdict_in_words(verdict),
    }


def measure_existence(c: Certified) -> dict:
    """Radius in which a true minimizer exists, and whether Newton's method found it there."""
    e, p, true = c.existence, c.prediction, c.minimizer
    distance = float(np.linalg.norm([true.w1 - p.w1, true.w2 - p.w2]))
    rounding = 1e3 * np.finfo(float).eps * float(np.linalg.norm([p.w1, p.w2]))
    found = distance <= e.radius + rounding
    flat = len(c.second_order.symmetry)
    what = f"up to {flat} rotations" if flat else "a true local minimizer"
    return {
        "measured": e.radius,
        "predicted": distance,
        "errors": np.array([e.radius if found else np.inf]),
        "note": f"{what}; predicted: the distance Newton's method went; h = {e.kantorovich:.1e}, "
        f"‖∇L‖ = {e.grad_norm:.1e}, μ = {e.curvature:.2e} computed, K = {e.lipschitz:.3g} proved",
    }


# --- two samples at a positive cosine ----------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two unit vectors at a cosine, with the noise level and decay they are stored at."""

    x: Float[np.ndarray, "2 D"]
    sigma: float
    lam: float
    predict: Callable[..., Prediction] = predict_memorization

    @cached_property
    def nearby(self) -> Solution:
        """The local minimizer that descent from (5) reaches."""
        p = self.predict(self.x, self.sigma, self.lam)
        return solve_local_minimum(p.w1, p.w2, self.x, self.sigma, self.lam)


def measure_pair(pair: Pair) -> dict:
    """Relative gradient at (5), and the loss there beside that of the nearby minimum."""
    p = pair.predict(pair.x, pair.sigma, pair.lam)
    relative = relative_gradient(p.w1, p.w2, pair.x, pair.sigma, pair.lam)
    loss = exact_loss_value(p.w1, p.w2, pair.x, pair.sigma, pair.lam)
    return {
        "measured": relative,
        "predicted": 0.0,
        "errors": np.array([relative]),
        "note": f"‖∇L‖ at (5); loss {loss:.4f} there, {pair.nearby.loss:.4f} at the minimum that "
        f"descent from it reaches; cosine {pair.x[0] @ pair.x[1]:+.2f}",
    }


# --- a net that was trained elsewhere -----------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """Weights with their problem; ``shrunk``: whether the first live unit of the minimum next to
    them is all but taken away before anything is measured."""

    w1: Float[np.ndarray, "D P"]
    w2: Float[np.ndarray, "D P"]
    x: Float[np.ndarray, "N D"]
    sigma: float
    lam: float
    shrunk: bool = False

    @cached_property
    def solution(self) -> Solution:
        """The stationary point that descent from the weights reaches."""
        return solve_local_minimum(self.w1, self.w2, self.x, self.sigma, self.lam)

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
        return second_order(*self.weights, self.x, self.sigma, self.lam)

    @cached_property
    def dead_units(self) -> DeadUnitCertificate:
        """The largest pull on another unit there."""
        return dead_unit_certificate(*self.weights, self.x, self.sigma, self.lam)


def measure_trained_minimum(t: Trained) -> dict:
    """Verdict at the stationary point next to the weights."""
    verdict, start = t.second_order, np.stack([t.w1, t.w2])
    moved = np.linalg.norm(np.stack([t.solution.w1, t.solution.w2]) - start)
    moved /= np.linalg.norm(start)
    before = exact_loss_value(t.w1, t.w2, t.x, t.sigma, t.lam)
    return {
        "measured": verdict.lowest,
        "predicted": 0.0,
        "errors": np.array([float(verdict.verdict != "minimum")]),
        "note": f"{verdict_in_words(verdict)}; solving moved the weights by {moved:.1%}, the loss "
        f"from {before:.6g} to {t.solution.loss:.6g}",
    }


def measure_trained_dead_units(t: Trained) -> dict:
    """Largest pull on another unit, in units of λ."""
    found = t.dead_units
    return {
        "measured": found.ratio,
        "predicted": 1.0,
        "errors": np.array([max(found.ratio - 1, 0.0)]),
        "note": f"max G/λ; {found.converged:.0%} of the starts arrived; off the live units "
        f"{found.elsewhere / t.lam:.4f}",
    }
