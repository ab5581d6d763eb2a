"""A posteriori existence: how near is a true local minimizer to this point? (Newton-Kantorovich)

If the Hessian H at W is invertible with smallest eigenvalue μ > 0, ‖∇L(W)‖ = g, and K bounds the
Lipschitz constant of the Hessian in a ball around W, then with h = K g/μ² ≤ ½ there is exactly one
stationary point within r = (1 − √(1 − 2h)) μ/K ≈ g/μ, and it is a strict minimum if μ > K r.

`hessian_lipschitz` is proved (the derivation stands with it); g and μ are computed in float64, not
enclosed by interval arithmetic.
"""

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Array, Float

from dae_theory.checks import InputError, check_noise_and_decay, check_samples, check_weights

BALL = 1e-3  # radius of the ball that K is bounded in, relative to the smallest column norm


class Existence(NamedTuple):
    """Newton-Kantorovich bound.

    ``radius``: distance within which a true local minimizer exists, infinite when the theorem
    does not apply; ``kantorovich``: h = K g/μ², which must be ≤ ½; ``grad_norm`` g and
    ``curvature`` μ, computed; ``lipschitz`` K, proved for the ball of radius ``ball``.
    """

    radius: float
    kantorovich: float
    grad_norm: float
    curvature: float
    lipschitz: float
    ball: float


def hessian_lipschitz(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    radius: float,
) -> float:
    """Bound on the Lipschitz constant (spectral norm against Frobenius distance) of the Hessian
    of objective (1) within ``radius`` of (W1, W2), in the span of samples and weights.

    Along unit directions (A, B), ‖A‖ = α, ‖B‖ = β, with r = W2 h − x, q_j = a_jᵀy and s_j = w_jᵀy,

      d³‖r‖²/dt³ = 6⟨Bh + W2h', 2Bh' + W2h''⟩ + 2⟨r, 3Bh'' + W2h'''⟩,
      h' = 1{s>0} q,   h'' = δ(s) q²,   h''' = δ'(s) q³.

    Smooth part: 12E⟨Bh + W2h', Bh'⟩ ≤ 12(αβ² √c ‖C^½W1‖_F + α²β ‖W2‖ c), C = E yyᵀ, c = ‖C‖;
    its maximum over α² + β² = 1 is below (12/√2)·max of the two factors. Gate part: δ(s_j) puts y
    on the hyperplane s_j = 0, with density φ(z_ij)/(σ‖w_j‖), where ‖y‖ has moments at most those
    of ‖x‖ + σχ_R; δ' is integrated by parts, which brings a factor z/(σ‖w_j‖) or a derivative of
    the rest, 1/‖w_j‖ each. Sums over units are bounded by Σ‖a_j‖² ≤ 1. In the ball, operator
    norms grow by the radius, column norms shrink by it, and margins by 2‖x‖·radius/(σ‖w_j‖).

    Raises:
      InputError: for bad input, or a radius that reaches a zero column or a closed gate margin.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, 0.0)
    w1_DP, w2_DP = _live(w1_DP, w2_DP)
    norm1_P, norm2_P = np.linalg.norm(w1_DP, axis=0), np.linalg.norm(w2_DP, axis=0)
    lengths_N = np.linalg.norm(x_ND, axis=1)
    smallest_P = norm1_P - radius
    if not (radius >= 0 and np.all(smallest_P > 0)):
        raise InputError(f"radius: {radius} must be >= 0 and below every column norm of W1")
    z_NP = np.abs(x_ND @ w1_DP) / (sigma * norm1_P)
    z_NP = z_NP - 2 * radius * lengths_N[:, None] / (sigma * norm1_P)
    if z_NP.size and np.min(z_NP) < 1:
        raise InputError(f"radius: some gate is within one standard deviation of noise of {radius}")

    # Smooth part.
    second_DD = x_ND.T @ x_ND / len(x_ND)
    c = np.linalg.norm(second_DD, 2) + sigma**2
    a, b = np.linalg.norm(w1_DP, 2) + radius, np.linalg.norm(w2_DP, 2) + radius
    energy = np.sum(w1_DP * (second_DD @ w1_DP)) + sigma**2 * np.sum(w1_DP**2)
    spread = np.sqrt(energy) + radius * np.sqrt(c)
    smooth = 12 / np.sqrt(2) * max(np.sqrt(c) * spread, b * c)

    # Gate part, moments of ‖y‖ by Minkowski's inequality.
    rank = np.linalg.matrix_rank(np.concatenate([x_ND.T, w1_DP, w2_DP], axis=1)) + 1
    chi4 = (rank * (rank + 2)) ** 0.25  # (E χ⁴)^¼ bounds the lower moments, too
    y_N = lengths_N + sigma * chi4
    r_N = a * b * y_N + lengths_N
    reach_P = norm2_P + radius
    density_NP = scipy.stats.norm.pdf(z_NP) / (sigma * smallest_P)
    first_NP = 6 * y_N[:, None] ** 2 * (reach_P * (a + b) * y_N[:, None] + r_N[:, None])
    second_NP = (
        2
        * reach_P
        * (
            z_NP / (sigma * smallest_P) * (y_N**3 * r_N)[:, None]
            + 3 * (y_N**2 * r_N)[:, None] / smallest_P
            + a * b * (y_N**3)[:, None] / smallest_P
        )
    )
    gates = np.mean(np.max(density_NP * (first_NP + second_NP), axis=1))
    return float(smooth + gates)


def newton_kantorovich(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    grad_norm: float,
    curvature: float,
) -> Existence:
    """Newton-Kantorovich bound at (W1, W2) from ‖∇L‖ and the smallest Hessian eigenvalue there.

    With ``curvature`` the smallest eigenvalue orthogonal to the symmetry directions
    (`curvature.second_order`) the bound speaks of a point that is stationary but for rotations
    inside blocks; without continuous symmetry, as at (5) with one unit a sample, of a true local
    minimizer.

    Raises:
      InputError: for bad input, or a curvature that is not finite.
    """
    if not (np.isfinite(grad_norm) and np.isfinite(curvature) and grad_norm >= 0):
        raise InputError(
            f"grad_norm and curvature: must be finite, got {grad_norm} and {curvature}"
        )
    check_weights(w1_DP, w2_DP, len(w1_DP))
    ball = BALL * float(np.min(np.linalg.norm(_live(w1_DP, w2_DP)[0], axis=0)))
    lipschitz = hessian_lipschitz(w1_DP, w2_DP, x_ND, sigma, ball)
    h = lipschitz * grad_norm / curvature**2 if curvature > 0 else np.inf
    radius = np.inf
    if h <= 0.5:
        # The difference 1 − √(1−2h), without cancellation.
        radius = 2 * h / (1 + np.sqrt(1 - 2 * h)) * curvature / lipschitz
        if radius > ball or curvature <= lipschitz * radius:
            radius = np.inf
    return Existence(float(radius), float(h), grad_norm, curvature, lipschitz, ball)


def _live(w1_DP, w2_DP) -> tuple[np.ndarray, np.ndarray]:
    w1_DP, w2_DP = np.asarray(w1_DP, float), np.asarray(w2_DP, float)
    live_P = np.any(w1_DP != 0, axis=0)
    if not live_P.any():
        raise InputError("W1: all units are zero columns, and the loss has a kink there")
    return w1_DP[:, live_P], w2_DP[:, live_P]
