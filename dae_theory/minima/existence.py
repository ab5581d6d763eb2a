"""A posteriori existence: how near is a true local minimizer to this point? (Newton-Kantorovich)

If the Hessian H at W is invertible with smallest eigenvalue μ > 0, ‖∇L(W)‖ = g, and K bounds the
Lipschitz constant of the Hessian in a ball around W, then with h = K g/μ² ≤ ½ there is exactly one
stationary point within r = (1 − √(1 − 2h)) μ/K ≈ g/μ, and it is a strict minimum if μ > K r.

K is proved (the derivation stands with `hessian_lipschitz`). `newton_kantorovich` takes g and μ as
computed in float64 and allows for rounding: a bound under the assumptions that stand with
`rounding_allowance`. `enclosure.prove_existence` encloses all three by ball arithmetic: a proof.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from dae_theory.checks import InputError, check_noise_and_decay, check_samples, check_weights
from dae_theory.minima.second_order import LANCZOS_TOLERANCE

BALL = 1e-3  # radius of the ball that K is bounded in, relative to the smallest column norm
SUMS = 8  # over features or units, that an entry of the Hessian goes through, at most
MOMENTS = 64  # error of a moment of a pair of units, in units of u = 2⁻⁵³ and of its scale


class Existence(NamedTuple):
    """Newton-Kantorovich bound.

    ``radius``: distance within which a true local minimizer exists, infinite when the theorem
    does not apply; ``kantorovich``: h = K g/μ², which must be ≤ ½; ``grad_norm``: upper bound of
    g; ``curvature``: lower bound of μ; ``lipschitz`` K, for the ball of radius ``ball``;
    ``enclosed``: all of this is enclosed by ball arithmetic, not computed in float64 with an
    allowance for rounding.
    """

    radius: float
    kantorovich: float
    grad_norm: float
    curvature: float
    lipschitz: float
    ball: float
    enclosed: bool


class Sizes(NamedTuple):
    """All that K depends on: floats, or balls in arrays of objects.

    ``lengths`` ‖x_i‖; ``margins`` |x_iᵀw_j|/(σ‖w_j‖); ``norms1``, ``norms2`` of the columns;
    ``op1``, ``op2``, ``second``: at least ‖W1‖, ‖W2‖, ‖C‖ (spectral); ``energy`` ‖C^½W1‖_F²;
    ``chi`` ≥ (E χ_R⁴)^¼; ``sigma``, ``radius`` of the ball.
    """

    lengths: Float[np.ndarray, " N"]
    margins: Float[np.ndarray, "N P"]
    norms1: Float[np.ndarray, " P"]
    norms2: Float[np.ndarray, " P"]
    op1: Any
    op2: Any
    second: Any
    energy: Any
    chi: Any
    sigma: Any
    radius: Any


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
    s = _sizes(w1_DP, w2_DP, x_ND, sigma, radius)
    return float(third_derivative(s, np.max))


def third_derivative(s: Sizes, largest: Callable[[Any], Any]) -> Any:
    """The bound of `hessian_lipschitz` from sizes, in their arithmetic; ``largest`` of an array.

    Raises:
      InputError: for a radius that reaches a zero column or a closed gate margin.
    """
    smallest_P = s.norms1 - s.radius
    if not (s.radius >= 0 and all(norm > 0 for norm in smallest_P)):
        raise InputError(
            f"radius: {float(s.radius)} must be >= 0 and below every column norm of W1"
        )
    z_NP = s.margins
    z_NP = z_NP - 2 * s.radius * s.lengths[:, None] / (s.sigma * s.norms1)
    if not all(z >= 1 for z in z_NP.ravel()):
        raise InputError(
            f"radius: some gate is within one standard deviation of noise of {float(s.radius)}"
        )

    # Smooth part, 12/√2 inside the root.
    c, a, b = s.second, s.op1 + s.radius, s.op2 + s.radius
    spread = np.sqrt(s.energy) + s.radius * np.sqrt(c)
    smooth = np.sqrt(72 * largest(np.array([c * spread**2, (b * c) ** 2])))

    # Gate part, moments of ‖y‖ by Minkowski's inequality.
    y_N = s.lengths + s.sigma * s.chi
    r_N = a * b * y_N + s.lengths
    reach_P = s.norms2 + s.radius
    density_NP = density(z_NP) / (s.sigma * smallest_P)
    first_NP = 6 * y_N[:, None] ** 2 * (reach_P * (a + b) * y_N[:, None] + r_N[:, None])
    second_NP = (
        2
        * reach_P
        * (
            z_NP / (s.sigma * smallest_P) * (y_N**3 * r_N)[:, None]
            + 3 * (y_N**2 * r_N)[:, None] / smallest_P
            + a * b * (y_N**3)[:, None] / smallest_P
        )
    )
    gates = np.mean([largest(row) for row in density_NP * (first_NP + second_NP)])
    return smooth + gates


def density(z: Array) -> Array:
    """φ(z), rounded up: the float64 2π is below 2π."""
    return np.sqrt(np.exp(-(z**2)) / (2 * np.pi))


def rounding_allowance(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
) -> tuple[float, float]:
    """How far ‖∇L‖ and the lowest eigenvalue of `second_order` may be off by rounding.

    Every entry of gradient and Hessian is a sum of products of moments, samples and weights. The
    absolute values of the summands have norms (Frobenius; w² = ‖W1‖² + ‖W2‖², Y² = E‖y‖²) of at
    most 2w(Y²(1 + w²/2) + λ) and 2(Y²(1 + 2w²) + λ), where gates are near with what moves them
    added. Times γ_m = m u/(1 − m u), m = SUMS (D + P) + N + MOMENTS, this bounds the error,
    *assuming*: one sum over samples and at most SUMS over features or units in a chain; moments
    of pairs accurate to MOMENTS u of their scale; Lanczos iterations that found the lowest
    eigenvalue to their tolerance. Not a proof; docs/THEORY.md#rounding-allowance.

    Raises:
      InputError: for bad input.
    """
    s = _sizes(w1_DP, w2_DP, x_ND, sigma, 0.0)
    check_noise_and_decay(sigma, lam)
    w = np.sqrt(np.sum(s.norms1**2) + np.sum(s.norms2**2))
    y_N = s.lengths + sigma * s.chi
    square = np.mean(y_N**2)
    # δ(w_jᵀy) is what a rounded w_jᵀx sees of a gate; its density changes by z ‖x‖/σ.
    density_NP = density(s.margins) / (sigma * s.norms1)
    gate_NP = 2 * density_NP * s.norms2 * (1 + s.norms1 @ s.norms2) * y_N[:, None] ** 3
    steep_NP = gate_NP * (1 + 4 * w**2 + s.margins * y_N[:, None] / sigma)
    gate, steep = (float(np.mean(np.max(each, axis=1))) for each in (gate_NP, steep_NP))
    gradient = w * (2 * (square * (1 + w**2 / 2) + lam) + gate)
    hessian = 2 * (square * (1 + 2 * w**2) + lam) + steep
    n, d = np.shape(x_ND)
    mu = (SUMS * (d + len(s.norms1)) + n + MOMENTS) * np.finfo(float).eps / 2
    gamma = mu / (1 - mu)
    return float(gamma * gradient), float((gamma + LANCZOS_TOLERANCE) * hessian)


def newton_kantorovich(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    grad_norm: float,
    curvature: float,
) -> Existence:
    """Newton-Kantorovich bound at (W1, W2) from ‖∇L‖ and the smallest Hessian eigenvalue there, as
    `second_order` computes them, with `rounding_allowance` added to one and taken from the other.

    With ``curvature`` the smallest eigenvalue orthogonal to the symmetry directions the bound
    speaks of a point that is stationary but for rotations inside blocks; without continuous
    symmetry, as at (5) with one unit a sample, of a true local minimizer.

    Raises:
      InputError: for bad input, or a curvature that is not finite.
    """
    if not (np.isfinite(grad_norm) and np.isfinite(curvature) and grad_norm >= 0):
        raise InputError(
            f"grad_norm and curvature: must be finite, got {grad_norm} and {curvature}"
        )
    check_weights(w1_DP, w2_DP, len(w1_DP))
    off_gradient, off_curvature = rounding_allowance(w1_DP, w2_DP, x_ND, sigma, lam)
    ball = ball_radius(w1_DP, w2_DP)
    lipschitz = hessian_lipschitz(w1_DP, w2_DP, x_ND, sigma, ball)
    grad_norm, curvature = grad_norm + off_gradient, curvature - off_curvature
    h, radius = smaller_root(grad_norm, curvature, lipschitz, ball)
    return Existence(float(radius), float(h), grad_norm, curvature, lipschitz, ball, False)


def smaller_root(g: Any, mu: Any, lipschitz: Any, ball: float) -> tuple[Any, Any]:
    """h and r of the theorem, infinite where it does not apply: floats, or balls, for which a
    comparison is true where it is proved."""
    if not mu > 0:
        return np.inf, np.inf
    h = lipschitz * g / mu**2
    if not h <= 0.5:
        return h, np.inf
    radius = 2 * g / (mu * (1 + np.sqrt(1 - 2 * h)))  # without cancellation
    return h, radius if radius <= ball and mu > lipschitz * radius else np.inf


def ball_radius(w1_DP: Float[Array, "D P"], w2_DP: Float[Array, "D P"]) -> float:
    """Radius of the ball that K is bounded in."""
    return BALL * float(np.min(np.linalg.norm(live(w1_DP, w2_DP)[0], axis=0)))


def _sizes(w1_DP, w2_DP, x_ND, sigma, radius) -> Sizes:
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, 0.0)
    w1_DP, w2_DP = live(w1_DP, w2_DP)
    norm1_P = np.linalg.norm(w1_DP, axis=0)
    second_DD = x_ND.T @ x_ND / len(x_ND)
    rank = np.linalg.matrix_rank(np.concatenate([x_ND.T, w1_DP, w2_DP], axis=1)) + 1
    return Sizes(
        lengths=np.linalg.norm(x_ND, axis=1),
        margins=np.abs(x_ND @ w1_DP) / (sigma * norm1_P),
        norms1=norm1_P,
        norms2=np.linalg.norm(w2_DP, axis=0),
        op1=np.linalg.norm(w1_DP, 2),
        op2=np.linalg.norm(w2_DP, 2),
        second=np.linalg.norm(second_DD, 2) + sigma**2,
        energy=np.sum(w1_DP * (second_DD @ w1_DP)) + sigma**2 * np.sum(w1_DP**2),
        chi=(rank * (rank + 2)) ** 0.25,  # bounds the lower moments, too
        sigma=sigma,
        radius=radius,
    )


def live(
    w1_DP: Float[Array, "D P"], w2_DP: Float[Array, "D P"]
) -> tuple[Float[np.ndarray, "D L"], Float[np.ndarray, "D L"]]:
    """The weights without zero columns of W1, at which the loss has a kink."""
    w1_DP, w2_DP = np.asarray(w1_DP, float), np.asarray(w2_DP, float)
    live_P = np.any(w1_DP != 0, axis=0)
    if not live_P.any():
        raise InputError("W1: all units are zero columns, and the loss has a kink there")
    return w1_DP[:, live_P], w2_DP[:, live_P]
