"""Would another unit grow? The dead-unit certificate (docs/THEORY.md#eq-10).

A unit with encoder εu and decoder εv, |u| = |v| = 1, changes the loss by 2ε²(λ − vᵀg(u)) + O(ε⁴),
  g(u) = (1/n) Σ_i E[(x_i − f(x_i+σε)) (uᵀ(x_i+σε))_+].
The best decoder is v = g/|g|, and under gradient flow the unit then grows like exp(2(G − λ)t) with
G(u) = |g(u)|. So a zero column stays zero if and only if no direction has G(u) > λ.

At a stationary point with λ > 0 every live unit is a critical point of G with G = λ exactly: W2's
gradient is zero there. Splitting a unit is free, so λ is the least that the maximum can be.

(10) is also the optimality condition of (1) over nets of all widths, a convex problem in the
measure of units. At a stationary point with max G ≤ λ(1+δ) no net of any width has a loss that is
lower by more than δ times the mean of ‖x‖².
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import connected_components

from dae_theory.checks import (
    InputError,
    check_count,
    check_noise_and_decay,
    check_samples,
    check_weights,
)
from dae_theory.relu.gaussian_moments import pair_moments, relu_mean, standard_margins, unit_columns
from dae_theory.relu.loss import weights_or_uniform
from dae_theory.relu.units import COLLINEAR_COSINE, live_units
from dae_theory.solve.reduced import padded, program_size, span_and_outside

MAX_STEPS = 300
GRADIENT_TOLERANCE = 1e-8  # |∇G| on the sphere, relative to G, at which a start has arrived
SHIFT = 0.1  # of starts at samples, units and sums: there, symmetry could hold an ascent still
ARMIJO = 1e-4  # share of the increase promised by the gradient that a step must bring
STEP_RANGE = 1e3  # longest step, and inverse of the shortest, in units of 1/G


@dataclass(frozen=True)
class DeadUnitCertificate:
    """The largest pull on a new unit that was found, and all maxima met on the way.

    Attributes:
      value: largest G(u) found: a lower bound of the true maximum.
      ratio: value/λ.
      direction: (D,) unit vector u where it is attained.
      pull: (D,) g(u) there; the decoder that grows fastest is pull/|pull|.
      violates: ratio > 1 + tolerance.
      elsewhere: largest G at a maximum that is not collinear with a live unit; 0 if there is none.
      directions: (D, K) distinct local maxima, largest first (cosines below
        `compare.COLLINEAR_COSINE`; a connected ridge of maxima counts as one).
      values: (K,) G there.
      counts: (K,) starts that ended there.
      cosines: (K,) cosine with the nearest live encoder, −1 if no unit is live.
      live_values: (P,) G at each live unit, λ at a stationary point; NaN for dead units.
      gradient: (S,) |∇G|/G on the sphere where each of the S starts ended.
      converged: share of starts that ended with ``gradient`` below GRADIENT_TOLERANCE; only these
        count as local maxima.
    """

    value: float
    ratio: float
    direction: Float[np.ndarray, " D"]
    pull: Float[np.ndarray, " D"]
    violates: bool
    elsewhere: float
    directions: Float[np.ndarray, "D K"]
    values: Float[np.ndarray, " K"]
    counts: Int[np.ndarray, " K"]
    cosines: Float[np.ndarray, " K"]
    live_values: Float[np.ndarray, " P"]
    gradient: Float[np.ndarray, " S"]
    converged: float


@jax.jit
def first_variation(
    u_DM: Float[Array, "D M"],
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    sample_weight: Float[Array, " N"] | None = None,
) -> Float[Array, "D M"]:
    """g(u) of equation (10) for M encoder directions at once, exact.

    −2 g(u) is the derivative of `loss.exact_loss` in the decoder of a unit with encoder u and
    decoder 0. Columns of any length: g is positively homogeneous. ``sample_weight`` (N,) sums to
    1 and defaults to 1/N each. Needs σ > 0; memory and time grow as N M P.
    """
    sample_weight = weights_or_uniform(sample_weight, x_ND)
    u_DM, length_M = unit_columns(u_DM)
    unit_DP, norm_P = unit_columns(w1_DP)
    z_NM = standard_margins(x_ND, u_DM, sigma)
    z_NP = standard_margins(x_ND, unit_DP, sigma)
    rho_MP = u_DM.T @ unit_DP
    # Unlike second derivatives, g and its slope do not feel what q loses to rounding near ρ = ±1.
    q_MP = jax.lax.stop_gradient(jnp.sqrt(jnp.clip((1 - rho_MP) * (1 + rho_MP), 0.0)))
    pairs = pair_moments(z_NM[:, :, None], z_NP[:, None, :], rho_MP, q_MP)
    second_MP = jnp.tensordot(sample_weight, pairs.relu_relu, 1) * norm_P * sigma
    clean_DM = x_ND.T @ (sample_weight[:, None] * relu_mean(z_NM))
    return (clean_DM - w2_DP @ second_MP.T) * sigma * length_M


class _Ascent(NamedTuple):
    """S points on the sphere, G and its gradient there, and the next points to try."""

    u: Float[Array, "D S"]
    value: Float[Array, " S"]
    slope: Float[Array, "D S"]
    step: Float[Array, " S"]
    trial: Float[Array, "D S"]


@partial(jax.value_and_grad, has_aux=True)
def _pull_norms(u_DM, w1_DP, w2_DP, x_ND, sigma, weight_N):
    """ΣG and G. G is taken at u/|u|, so the gradient is tangent to the sphere."""
    u_DM, _ = unit_columns(u_DM)
    _, value_M = unit_columns(first_variation(u_DM, w1_DP, w2_DP, x_ND, sigma, weight_N))
    return jnp.sum(value_M), value_M


@jax.jit
def _ascend(u_DS, w1_DP, w2_DP, x_ND, sigma, weight_N):
    """Climb G on the sphere from all starts at once: Barzilai–Borwein steps with backtracking.

    Where one sample is active a step of 1/G, the power iteration u ← ∇G/|∇G|, is exact; steps
    stay within a factor of it. Returns the points, G, and |∇G|.
    """
    # What rounding can add to G, a difference of terms of the size of the mean of |x|².
    noise = 8 * jnp.finfo(x_ND.dtype).eps * (weight_N @ jnp.sum(x_ND**2, axis=1))

    def climb(carry):
        at, count = carry
        (_, value_S), slope_DS = _pull_norms(at.trial, w1_DP, w2_DP, x_ND, sigma, weight_N)
        move_DS = at.trial - at.u
        expected_S = jnp.sum(move_DS * at.slope, axis=0)
        better_S = value_S >= at.value + ARMIJO * expected_S - noise
        curvature_S = -jnp.sum(move_DS * (slope_DS - at.slope), axis=0)
        concave_S = curvature_S > 0
        barzilai_borwein_S = jnp.sum(move_DS**2, axis=0) / jnp.where(concave_S, curvature_S, 1.0)
        next_S = jnp.where(concave_S, barzilai_borwein_S, 4 * at.step)
        next_S = jnp.clip(next_S * value_S, 1 / STEP_RANGE, STEP_RANGE)
        next_S /= jnp.maximum(value_S, noise)
        step_S = jnp.where(better_S, next_S, at.step / 4)
        u_DS = jnp.where(better_S, at.trial, at.u)
        value_S = jnp.where(better_S, value_S, at.value)
        slope_DS = jnp.where(better_S, slope_DS, at.slope)
        trial_DS, _ = unit_columns(u_DS + step_S * slope_DS)
        return _Ascent(u_DS, value_S, slope_DS, step_S, trial_DS), count + 1

    def unfinished(carry):
        at, count = carry
        arrived_S = jnp.linalg.norm(at.slope, axis=0) <= GRADIENT_TOLERANCE * at.value
        return (count < MAX_STEPS) & ~jnp.all(arrived_S)

    none_S = jnp.full(u_DS.shape[1], -jnp.inf, u_DS.dtype)
    start = _Ascent(u_DS, none_S, jnp.zeros_like(u_DS), jnp.zeros_like(none_S), u_DS)
    at, _ = jax.lax.while_loop(unfinished, climb, (start, 0))
    return at.u, at.value, jnp.linalg.norm(at.slope, axis=0)


def dead_unit_certificate(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    *,
    starts: int = 256,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> DeadUnitCertificate:
    """Largest pull G on a new unit, and whether it exceeds λ (docs/THEORY.md#eq-10).

    The maximum is searched for from many starts, in float64; it is found, not proven. A violation
    is certain: `direction` is a unit that grows. Its absence means that no start found one.
    Samples, live encoders and sums of two normalized samples, drawn at random and moved a little,
    make up a sixth of the starts each at most; the rest are random directions. Starts that no
    sample activates are turned around. Only the span of data and weights and one direction outside
    it are searched: G depends on the rest of u through its length alone.

    The verdict compares numbers that are equal in theory: live units have G = λ at a stationary
    point. How far a net is from one shows in ``live_values``, off by up to |∂L/∂w2|/(2‖w1‖); a
    ``tolerance`` below that, relative to λ, finds a net that still moves, not a new direction. At
    the closed forms (2) and (5) it is of the order of (‖x‖²/nλ) exp(−z²/2) in the gate margin z.

    Args:
      w1_DP, w2_DP: the net. Zero columns are allowed and make no difference.
      x_ND: training samples.
      sigma, lam: noise level σ > 0 and weight decay λ > 0.
      starts: number S of starts of the ascent.
      seed: of the random starts.
      tolerance: relative excess over λ that does not count as a violation.

    Raises:
      InputError: for wrong shapes, NaN, σ ≤ 0, λ ≤ 0, a negative tolerance or no starts.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    check_count(starts, "starts")
    if lam == 0:
        raise InputError("lam: without weight decay nothing holds a dead unit down; give lam > 0")
    if not tolerance >= 0:
        raise InputError(f"tolerance: must be >= 0, got {tolerance}")
    w1_DP, w2_DP = np.asarray(w1_DP, float), np.asarray(w2_DP, float)
    rng = np.random.default_rng(seed)
    frame_DR = span_and_outside(x_ND.T, w1_DP, w2_DP)
    w1_RP, w2_RP, x_NR = frame_DR.T @ w1_DP, frame_DR.T @ w2_DP, x_ND @ frame_DR
    rank, live_P = len(w1_RP), live_units(w1_RP, w2_RP)
    length_P = np.where(live_P, np.linalg.norm(w1_RP, axis=0), np.nan)
    live_RL = (w1_RP / length_P)[:, live_P]
    start_RS = _starts(rng, starts, x_NR, live_RL)
    net = (_pad(w1_RP), _pad(w2_RP), _pad(x_NR), float(sigma))
    weight_N = _pad(np.full(len(x_NR), 1 / len(x_NR)))
    with jax.enable_x64(True):
        found = _ascend(_pad(start_RS), *net, weight_N)
        u_RS, value_S, slope_S = (np.asarray(a)[..., :starts] for a in found)
        best = int(np.argmax(value_S))
        units_RM = np.hstack([net[0], _pad(u_RS[:rank, best : best + 1])])
        pull_RM = np.asarray(first_variation(units_RM, *net, weight_N))[:rank]
    u_RS, live_values_P = u_RS[:rank], np.linalg.norm(pull_RM[:, : len(live_P)], axis=0) / length_P

    gradient_S = slope_S / np.where(value_S > 0, value_S, 1.0)
    arrived_S = gradient_S <= GRADIENT_TOLERANCE
    peak_RK, peak_value_K, count_K = _distinct(u_RS[:, arrived_S], value_S[arrived_S])
    cosine_K = np.max(peak_RK.T @ live_RL, axis=1, initial=-1.0)
    value = float(value_S[best])
    return DeadUnitCertificate(
        value=value,
        ratio=value / lam,
        direction=frame_DR @ u_RS[:, best],
        pull=frame_DR @ pull_RM[:, net[0].shape[1]],  # of the unit behind those of the net
        violates=value > lam * (1 + tolerance),
        elsewhere=float(np.max(peak_value_K, where=cosine_K <= COLLINEAR_COSINE, initial=0.0)),
        directions=frame_DR @ peak_RK,
        values=peak_value_K,
        counts=count_K,
        cosines=cosine_K,
        live_values=live_values_P,
        gradient=gradient_S,
        converged=float(np.mean(arrived_S)),
    )


def _pad(array: np.ndarray) -> np.ndarray:
    """Zeros up to a `program_size` along every axis. Zero features, units, samples of weight zero
    and zero starts change nothing."""
    return padded(array, tuple(map(program_size, array.shape)))


def _starts(rng, count: int, x_NR, live_RL) -> Float[np.ndarray, "R S"]:
    """``count`` unit vectors, as `dead_unit_certificate` describes them."""
    length_N = np.linalg.norm(x_NR, axis=1, keepdims=True)
    unit_NR = x_NR / np.where(length_N > 0, length_N, 1.0)
    share = count // 6
    first, second = rng.integers(len(unit_NR), size=(2, share))
    known = (
        rng.permutation(unit_NR)[:share],
        rng.permutation(live_RL.T)[:share],
        (unit_NR[first] + unit_NR[second]) / 2,
    )
    u_SR = rng.standard_normal((count, x_NR.shape[1])) / np.sqrt(x_NR.shape[1])
    known_KR = np.concatenate(known)
    u_SR[: len(known_KR)] = known_KR + SHIFT * u_SR[: len(known_KR)]
    u_SR /= np.linalg.norm(u_SR, axis=1, keepdims=True)
    inactive_S = np.max(u_SR @ x_NR.T, axis=1) <= 0
    return np.where(inactive_S[:, None], -u_SR, u_SR).T


def _distinct(u_RS, value_S) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of collinear points: the best of each, its value, and the size of the group."""
    n_groups, group_S = connected_components(u_RS.T @ u_RS > COLLINEAR_COSINE, directed=False)
    order_S = np.argsort(-value_S, kind="stable")
    _, first_K = np.unique(group_S[order_S], return_index=True)
    best_K = order_S[np.sort(first_K)]
    counts = np.bincount(group_S, minlength=n_groups)
    return u_RS[:, best_K], value_S[best_K], counts[group_S[best_K]]
