"""What detectors of memorization read off a net at a predicted minimizer.

See docs/THEORY.md#detection. A noised sample y = x + σε opens the gates of one block. There the net
is linear, so that most scores are quadratic forms of a normal variable: their laws, and the areas
under the ROC curve that follow, are exact but for flipped gates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import quad
from scipy.optimize import brentq

from dae_theory.checks import InputError, check_count, check_noise_and_decay
from dae_theory.theory.closed_forms import Prediction
from dae_theory.theory.quadratic import NEGLIGIBLE, QuadraticLaw, norm_law, quadratic_law


@dataclass(frozen=True)
class Response:
    """How a net answers to y = x + σε for samples x ~ N(mean, cov) of one cluster.

    Attributes:
      directions: (D, R) orthonormal u_j that the active block keeps.
      gains: (R,) their gains m_j > 0.
      mean: (D,) of the samples; cov: (D, D), zeros for one stored sample.
      sigma: the noise that the detector adds, σ > 0; the net may have been trained at another.
      unit_sums: (R,) a = Oᵀ1 of the block's rotation (4): Σh = Σ_j a_j √m_j u_jᵀy. √p_k in front
        and zeros for the even rotation; Σc for a stored sample that is split with weights c.
    """

    directions: Float[np.ndarray, "D R"]
    gains: Float[np.ndarray, " R"]
    mean: Float[np.ndarray, " D"]
    cov: Float[np.ndarray, "D D"]
    sigma: float
    unit_sums: Float[np.ndarray, " R"]

    @property
    def units(self) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, "R R"]]:
        """Mean and covariance of v = diag(√m)Uᵀy, of which the representation is h = Ov."""
        root_R = np.sqrt(self.gains)
        spread_RR = self.directions.T @ self.cov @ self.directions
        spread_RR = spread_RR + self.sigma**2 * np.eye(len(root_R))
        return root_R * (self.directions.T @ self.mean), root_R[:, None] * spread_RR * root_R

    @property
    def operator(self) -> Float[np.ndarray, "D D"]:
        """M = U diag(m) Uᵀ, the Jacobian on this cluster."""
        return (self.directions * self.gains) @ self.directions.T

    @property
    def trace(self) -> float:
        """Trace of the Jacobian, Σ m_j (docs/THEORY.md#detection-trace)."""
        return float(np.sum(self.gains))


def stored_response(
    x_D: Float[Array, " D"], gain: float, sigma: float, amounts: Sequence[float] = (1.0,)
) -> Response:
    """Answer to a stored sample, equation (5) or (8), split over collinear units.

    Args:
      x_D: the sample.
      gain: m = r²‖x‖² > 0, such as `predict_hybrid_gain` gives.
      sigma: noise that the detector adds.
      amounts: weights c of the collinear units that hold it, Σc² = 1; g even ones are g^(−½) each.

    Raises:
      InputError: unless x ≠ 0, gain > 0, σ > 0 and Σc² = 1.
    """
    x_D, amounts = np.asarray(x_D, float), np.asarray(amounts, float)
    check_noise_and_decay(sigma, 0.0)
    norm = float(np.linalg.norm(x_D))
    if not (norm > 0 and gain > 0):
        raise InputError(f"x and gain: must not be zero, got a norm of {norm:g} and {gain:g}")
    if not np.isclose(np.sum(amounts**2), 1.0, atol=1e-9) or np.any(amounts < 0):
        raise InputError("amounts: must be nonnegative with squares that sum to 1")
    return Response(
        x_D[:, None] / norm,
        np.array([float(gain)]),
        x_D,
        np.zeros((len(x_D), len(x_D))),
        float(sigma),
        np.array([float(np.sum(amounts))]),
    )


def block_response(
    prediction: Prediction,
    k: int,
    mean_D: Float[Array, " D"],
    cov_DD: Float[Array, "D D"],
    sigma: float,
    w1_DP: Float[Array, "D P"] | None = None,
) -> Response:
    """Answer of block k to samples N(mean, cov) of its cluster, equation (4).

    Args:
      prediction: as `predict_blocks` and `predict_generalization` make it.
      k: the cluster.
      mean_D, cov_DD: statistics of fresh samples of it; zeros for one sample.
      sigma: noise that the detector adds.
      w1_DP: the block's units in a net at this minimizer, to read a = Oᵀ1 from: (2) does not fix O
        (docs/THEORY.md#rotations). The prediction's own, the even rotation, by default.

    Raises:
      InputError: where the block keeps nothing.
    """
    check_noise_and_decay(sigma, 0.0)
    gains_R = np.atleast_1d(np.asarray(prediction.gains[k], float))
    kept_R = gains_R > 0
    if not kept_R.any():
        raise InputError(f"k: block {k} keeps no direction")
    u_DR, gains_R = prediction.directions[k][:, kept_R], gains_R[kept_R]
    units_DP = prediction.w1[:, prediction.blocks == k] if w1_DP is None else np.asarray(w1_DP)
    return Response(
        u_DR,
        gains_R,
        np.asarray(mean_D, float),
        np.asarray(cov_DD, float),
        float(sigma),
        (u_DR.T @ units_DP.sum(axis=1)) / np.sqrt(gains_R),
    )


def energy_law(response: Response) -> QuadraticLaw:
    """Law of ‖h‖² = Σ_j m_j (u_jᵀy)² (docs/THEORY.md#detection-energy)."""
    return norm_law(*response.units)


def std_law(response: Response, width: int) -> QuadraticLaw:
    """Law of std(h)² over all P units: ‖h‖²/P − (aᵀv)²/P² (docs/THEORY.md#detection-std).

    Args:
      response: with Σh in it.
      width: units P of the net, silent ones included.

    Raises:
      InputError: for ‖a‖² > P, more units in the block than in the net.
    """
    check_count(width, "width")
    a_R = response.unit_sums
    if np.sum(a_R**2) > width * (1 + 1e-6):
        raise InputError(f"width: a block with ‖a‖² = {np.sum(a_R**2):.3g} has more units")
    matrix_RR = np.eye(len(a_R)) / width - np.outer(a_R, a_R) / width**2
    return quadratic_law(matrix_RR, *response.units)


def error_law(response: Response) -> QuadraticLaw:
    """Law of the squared denoising error ‖f(y) − x‖², the clean x known
    (docs/THEORY.md#detection-error).

    The residual (M − I)x + σMε is normal with mean (M − I)μ.
    """
    miss_DD = response.operator - np.eye(len(response.mean))
    cov_DD = miss_DD @ response.cov @ miss_DD + response.sigma**2 * np.linalg.matrix_power(
        response.operator, 2
    )
    return norm_law(miss_DD @ response.mean, cov_DD)


def condition_law(conditional: Response, other: Response | None) -> QuadraticLaw:
    """Law of Wen's ‖f(y, c) − f(y, ∅)‖² at one noise level, where each condition has its own
    minimizer (docs/THEORY.md#detection-condition).

    Args:
      conditional: answer under the condition, with the law of the samples.
      other: answer without it to the same samples; None where no unit answers.

    Raises:
      InputError: where the two are equal.
    """
    difference_DD = conditional.operator - (0.0 if other is None else other.operator)
    values, vectors = np.linalg.eigh(difference_DD)
    if not np.any(np.abs(values) > NEGLIGIBLE):
        raise InputError("other: answers as the conditional one does, so that the score is 0")
    kept = np.abs(values) > NEGLIGIBLE * np.abs(values).max()
    read_RD = (vectors[:, kept] * values[kept]).T
    sigma2 = conditional.sigma**2
    cov_RR = read_RD @ (conditional.cov + sigma2 * np.eye(len(values))) @ read_RD.T
    return norm_law(read_RD @ conditional.mean, cov_RR)


def trace_law(response: Response, probes: int) -> QuadraticLaw:
    """Law of Hutchinson's estimate of the trace by Gaussian probes, (1/K) Σ vᵀJv: mean Σ m_j,
    variance 2 Σ m_j²/K (docs/THEORY.md#detection-trace)."""
    check_count(probes, "probes")
    weights = np.repeat(response.gains, probes) / probes
    return QuadraticLaw(weights, np.zeros(len(weights)))


def participation_ratio(amounts: Sequence[float]) -> float:
    """Participation ratio of a stored sample split with weights c, 1/Σc⁴ whatever the noise
    (docs/THEORY.md#detection-units)."""
    return float(1 / np.sum(np.asarray(amounts, float) ** 4))


def participation_area(amounts: Sequence[float], response: Response) -> float:
    """AUROC of the participation ratio of single units, fewer for memorized, with an even rotation.

    The block's ratio is p_k(1+t)²/(1+6t) to first order in t = Σ_{j≥2} v_j²/v_1², of which a
    quadratic form tells whether it is above 1/Σc⁴ (docs/THEORY.md#detection-units): off by up to
    .02 where t is up to .1.
    """
    units = float(response.unit_sums[0] ** 2)
    ratio = participation_ratio(amounts) / units
    if ratio >= 1:  # the largest ratio that a block of p_k units can have
        return 0.0
    # (1+t)² > ratio(1+6t) for t below the smaller root of t² + (2−6·ratio)t + 1 − ratio.
    half = 1 - 3 * ratio
    inside = half**2 - (1 - ratio)
    if inside < 0 or half > 0:
        return 1.0  # at every t
    limit = -half - np.sqrt(inside)
    matrix_RR = np.diag(np.concatenate([[limit], -np.ones(len(response.gains) - 1)]))
    law = quadratic_law(matrix_RR, *response.units)
    return law.exceeds(QuadraticLaw(np.zeros(1), np.zeros(1)))


def gap_mean(response: Response, other_D: Float[Array, " D"], power: int = 1) -> float:
    """E[min(ratio, 1)^power] of the gap ratio of outputs at a stored sample, by quadrature
    (docs/THEORY.md#detection-gap).

    The output is f = m(‖x‖+σξ)x̂, with the ratio ‖f−x‖/‖f−other‖.

    Args:
      response: to a stored sample.
      other_D: the nearest other training sample.
      power: of the ratio.
    """
    norm, gain, sigma = float(np.linalg.norm(response.mean)), response.gains[0], response.sigma
    along, square = float(response.directions[:, 0] @ other_D), float(np.sum(other_D**2))

    def weighted(xi: float) -> float:
        length = gain * (norm + sigma * xi)
        ratio = abs(length - norm) / np.sqrt(length**2 - 2 * length * along + square)
        return min(ratio, 1.0) ** power * np.exp(-(xi**2) / 2) / np.sqrt(2 * np.pi)

    nearest = float((1 / gain - 1) * norm / sigma)  # where the output is x itself
    points = [nearest] if abs(nearest) < 10 else None
    return float(quad(weighted, -10, 10, points=points, limit=200)[0])


def gap_area(response: Response, other_D: Float[Array, " D"], dimension: int) -> float:
    """AUROC of the gap ratio of outputs, low for memorized, that the theory promises at least
    (docs/THEORY.md#detection-gap).

    Where the samples of a cluster have a smooth density in r dimensions, outputs for it have a
    ratio below ρ with probability ρ^r at most: the area is 1 − E[ratio^r] or more.

    Args:
      response, other_D: as in `gap_mean`.
      dimension: r, of the cluster.
    """
    check_count(dimension, "dimension")
    return 1 - gap_mean(response, other_D, dimension)


def predict_auroc(
    positives: Sequence[QuadraticLaw],
    negatives: Sequence[QuadraticLaw],
    low_is_memorized: bool = False,
) -> float:
    """Area under the ROC curve of a score with these laws, each equally often
    (docs/THEORY.md#detection-auroc).

    The probability that a memorized input scores above another, exact but for flipped gates.

    Args:
      positives, negatives: laws of the score at memorized and at other inputs.
      low_is_memorized: memorized inputs are expected to score low, as they do for errors.
    """
    areas = [[one.exceeds(other) for other in negatives] for one in positives]
    area = float(np.mean(areas))
    return 1 - area if low_is_memorized else area


def predict_tpr(
    positives: Sequence[QuadraticLaw],
    negatives: Sequence[QuadraticLaw],
    fpr: float = 0.01,
    low_is_memorized: bool = False,
) -> float:
    """Share of memorized inputs above the threshold that a share ``fpr`` of the others exceeds, of
    a score with these laws, each equally often (docs/THEORY.md#detection-tpr).

    Args:
      positives, negatives, low_is_memorized: as in `predict_auroc`.
      fpr: rate of false positives, between 0 and 1.

    Raises:
      InputError: for another rate.
    """
    if not 0 < fpr < 1:
        raise InputError(f"fpr: must be between 0 and 1, got {fpr}")
    sign = -1 if low_is_memorized else 1
    negatives = [law.scaled(sign) for law in negatives]
    own = [law.quantile(1 - fpr) for law in negatives]
    low, high = min(own), max(own)  # the threshold of all together lies between
    threshold = low
    if high > low:
        threshold = brentq(
            lambda t: np.mean([law.cdf(t) for law in negatives]) - 1 + fpr, low, high
        )
    return float(np.mean([1 - law.scaled(sign).cdf(threshold) for law in positives]))
