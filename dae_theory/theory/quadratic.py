"""The law of a quadratic form of normal variables, which is what most detectors read.

A score such as ‖h‖² or the squared error of a denoiser is yᵀAy with normal y: a sum of weighted
noncentral χ² variables, whose probabilities follow from its characteristic function
(docs/THEORY.md#imhof).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import brentq

from dae_theory.checks import InputError

NEGLIGIBLE = 1e-13  # weights below this share of the largest are rounding
CONSTANT = 1e-6  # standard deviation, halved, of what stands for a constant
FAR = 300  # standard deviations from 0 beyond which a sign is certain: its error is below e^-100
LEFT, RIGHT, STEP = -40.0, 80.0, 0.02  # of the logarithm of Imhof's variable
# Most terms of Davies' sum, and its period in standard deviations.
CDF_TERMS, CDF_REACH = 1 << 14, 40.0
CERTAIN = 40.0  # logarithm of a damping that leaves rounding


@dataclass(frozen=True)
class QuadraticLaw:
    """Law of Σ_i weights_i (ξ_i + shifts_i)², ξ standard normal (docs/THEORY.md#imhof).

    Attributes:
      weights, shifts: (R,), of either sign; weights of 0 count nothing.
    """

    weights: Float[np.ndarray, " R"]
    shifts: Float[np.ndarray, " R"]

    @property
    def mean(self) -> float:
        """Expectation, Σ w(1 + b²)."""
        return float(np.sum(self.weights * (1 + self.shifts**2)))

    @property
    def variance(self) -> float:
        """Variance, 2Σ w²(1 + 2b²)."""
        return float(2 * np.sum(self.weights**2 * (1 + 2 * self.shifts**2)))

    def scaled(self, factor: float) -> "QuadraticLaw":
        """Law of the score times a factor."""
        return QuadraticLaw(factor * self.weights, self.shifts)

    def exceeds(self, other: "QuadraticLaw") -> float:
        """Probability that a draw is above an independent draw of the other law.

        Their difference is a quadratic form again, of either sign; its sign by Imhof's integral,
        exact but for 1e-10.
        """
        weights = np.concatenate([self.weights, -other.weights])
        return _positive_share(weights, np.concatenate([self.shifts, other.shifts]))

    def cdf(self, value: float) -> float:
        """P(score ≤ value) by Davies' sum; errs by 1e-5 for one central weight, by less than 1e-9
        from noncentralities Σb² of 40 or four equal weights on."""
        weights, shifts = _kept(self.weights, self.shifts)
        spread = self.variance**0.5
        if spread == 0:
            return float(value >= self.mean)
        step = 2 * np.pi / (2 * abs(value - self.mean) + CDF_REACH * spread)
        # Damping only grows; where it is CERTAIN the rest of the sum is rounding.
        counts = 1 << np.arange(4, CDF_TERMS.bit_length())
        _, log_damping = _angle(2 * counts * step, weights, shifts)
        count = counts[min(np.searchsorted(log_damping, CERTAIN), len(counts) - 1)]
        u = (np.arange(count) + 0.5) * step
        # The characteristic function at u is Imhof's at 2u.
        angle, log_damping = _angle(2 * u, weights, shifts)
        terms = np.sin(angle - u * value) * np.exp(-log_damping) / (np.arange(count) + 0.5)
        return float(np.clip(0.5 - np.sum(terms) / np.pi, 0.0, 1.0))

    def quantile(self, share: float) -> float:
        """The value below which a share of scores lies.

        Raises:
          InputError: unless 0 < share < 1.
        """
        if not 0 < share < 1:
            raise InputError(f"share: must be between 0 and 1, got {share}")
        spread = self.variance**0.5
        if spread == 0:
            return self.mean
        low, high = (self.mean + sign * CDF_REACH / 2 * spread for sign in (-1, 1))
        return float(brentq(lambda value: self.cdf(value) - share, low, high, xtol=1e-10 * spread))


def quadratic_law(
    matrix_RR: Float[Array, "R R"], mean_R: Float[Array, " R"], cov_RR: Float[Array, "R R"]
) -> QuadraticLaw:
    """Law of vᵀAv for v ~ N(mean, cov) with symmetric A and positive definite cov.

    With cov = LLᵀ and LᵀAL = QΛQᵀ the weights are Λ and the shifts QᵀL⁻¹ mean.

    Raises:
      InputError: for shapes that do not match, or a cov that is not positive definite.
    """
    matrix_RR, mean_R = np.asarray(matrix_RR, float), np.asarray(mean_R, float)
    cov_RR = np.asarray(cov_RR, float)
    if mean_R.ndim != 1 or not matrix_RR.shape == cov_RR.shape == (len(mean_R), len(mean_R)):
        raise InputError(
            f"matrix, mean and cov: expected (R, R), (R,), (R, R), got {matrix_RR.shape}, "
            f"{mean_R.shape}, {cov_RR.shape}"
        )
    try:
        root_RR = np.linalg.cholesky(cov_RR)
    except np.linalg.LinAlgError as error:
        raise InputError("cov: must be positive definite; add noise to it") from error
    weights_R, q_RR = np.linalg.eigh(root_RR.T @ matrix_RR @ root_RR)
    return QuadraticLaw(weights_R, q_RR.T @ np.linalg.solve(root_RR, mean_R))


def norm_law(mean_R: Float[Array, " R"], cov_RR: Float[Array, "R R"]) -> QuadraticLaw:
    """Law of ‖v‖² for v ~ N(mean, cov), cov positive semidefinite.

    Where cov has no variance, the mean adds a constant: a weight CONSTANT² of it, so far shifted
    that its standard deviation is 2·CONSTANT of it.
    """
    values_R, q_RR = np.linalg.eigh(np.asarray(cov_RR, float))
    along_R = q_RR.T @ np.asarray(mean_R, float)
    varies_R = values_R > NEGLIGIBLE * max(values_R.max(initial=0.0), 0.0)
    constant = float(np.sum(along_R[~varies_R] ** 2))
    values_R = values_R[varies_R]
    return QuadraticLaw(
        np.append(values_R, CONSTANT**2 * constant),
        np.append(along_R[varies_R] / np.sqrt(values_R), 1 / CONSTANT),
    )


def _kept(weights_R: np.ndarray, shifts_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights that count, with their shifts."""
    size_R = np.abs(weights_R) * (1 + shifts_R**2)
    keep_R = size_R > NEGLIGIBLE * size_R.max(initial=0.0)
    return weights_R[keep_R], shifts_R[keep_R]


def _angle(
    u_T: np.ndarray, weights_R: np.ndarray, shifts_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Imhof's θ(u), and the logarithm of his ρ(u): the characteristic function at u/2 is
    e^{iθ}/ρ."""
    angle_T, log_damping_T = np.zeros_like(u_T), np.zeros_like(u_T)
    for weight, shift in zip(weights_R, shifts_R, strict=True):
        a_T = weight * u_T
        square_T = a_T**2
        angle_T += 0.5 * (np.arctan(a_T) + shift**2 * a_T / (1 + square_T))
        log_damping_T += 0.25 * np.log1p(square_T) + 0.5 * shift**2 * square_T / (1 + square_T)
    return angle_T, log_damping_T


def _positive_share(weights_R: np.ndarray, shifts_R: np.ndarray) -> float:
    """P(Q > 0) = ½ + (1/π)∫ sin θ(u)/(u ρ(u)) du, by the trapezoidal rule in log u.

    The integrand falls exponentially at both ends of log u, where that rule converges fast.
    """
    weights_R, shifts_R = _kept(weights_R, shifts_R)
    law = QuadraticLaw(weights_R, shifts_R)
    spread = law.variance**0.5
    if spread == 0:  # nothing is random
        return 0.5
    standing = abs(law.mean) / spread
    if standing > FAR or np.all(weights_R > 0) or np.all(weights_R < 0):
        return float(law.mean > 0)
    # Beyond nine standard deviations ρ has ended it; before, θ turns by ``standing`` for each.
    step = min(STEP, 0.3 / (1 + standing))
    u_T = np.exp(np.arange(LEFT, RIGHT, step)) / spread
    angle_T, log_damping_T = _angle(u_T, weights_R, shifts_R)
    total = np.sum(np.sin(angle_T) * np.exp(-log_damping_T)) * step
    return float(np.clip(0.5 + total / np.pi, 0.0, 1.0))
