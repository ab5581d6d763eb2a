"""From any start to a local minimizer of the exact objective, to ‖∇L‖ ≤ tol.

L-BFGS, one compiled loop, goes all the way unless its line search fails; Newton steps on the
gradient, solved by MINRES with exact Hessian-vector products, do the rest. Work is done in the span
of the data and the start, which the gradient never leaves.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from dae_theory.errors import check_noise_and_decay, check_samples, check_weights
from dae_theory.loss import exact_loss

NEWTON_STEPS = 20
MINRES_ITERATIONS = 200
_MEMORY = 20  # L-BFGS pairs
_DESCENT, _CURVATURE = 1e-4, 0.9  # of the Wolfe conditions
_TRIALS = 30  # evaluations along one direction
_ROUNDING = 128  # rounding error of the loss, in units of eps times the power of the data


class Solution(NamedTuple):
    """Where the solver stopped.

    ``w1``, ``w2`` (D, P) float64; ``loss`` and ``grad_norm`` = ‖∇L‖_F there; ``iterations`` of
    L-BFGS and Newton together; ``converged`` when grad_norm ≤ tol.
    """

    w1: Float[np.ndarray, "D P"]
    w2: Float[np.ndarray, "D P"]
    loss: float
    grad_norm: float
    iterations: int
    converged: bool


def _loss(weights, x_ND, weight_N, sigma, lam):
    return exact_loss(weights[0], weights[1], x_ND, sigma, lam, weight_N)


_value_and_grad = jax.jit(jax.value_and_grad(_loss))


@jax.jit
def hessian_product(
    weights_2RP: Float[Array, "2 R P"],
    direction_2RP: Float[Array, "2 R P"],
    x_NR: Float[Array, "N R"],
    weight_N: Float[Array, " N"],
    sigma: float,
    lam: float,
) -> Float[Array, "2 R P"]:
    """Hessian of `loss.exact_loss` at the stacked (W1, W2), applied to a stacked direction."""

    def gradient(at):
        return jax.grad(_loss)(at, x_NR, weight_N, sigma, lam)

    return jax.jvp(gradient, (weights_2RP,), (direction_2RP,))[1]


def gradient_norm(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
) -> float:
    """‖∇L(W1, W2)‖_F of the exact objective, in float64."""
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    with jax.enable_x64(True):
        weight_N = np.full(len(x_ND), 1 / len(x_ND))
        weights = np.stack([w1_DP, w2_DP]).astype(float)
        _, gradient = _value_and_grad(weights, x_ND, weight_N, sigma, lam)
        return float(np.linalg.norm(gradient))


def common_span(*matrices_DX: Float[np.ndarray, "D X"]) -> Float[np.ndarray, "D R"]:
    """Orthonormal basis of the span of all columns; the identity when they span everything."""
    stacked = np.concatenate(matrices_DX, axis=1)
    d = len(stacked)
    u_DR, singular, _ = np.linalg.svd(stacked, full_matrices=False)
    rank = int(np.sum(singular > singular[0] * d * np.finfo(float).eps)) if singular[0] > 0 else 1
    return np.eye(d) if rank == d else u_DR[:, :rank]


def span_and_outside(*matrices_DX: Float[np.ndarray, "D X"]) -> Float[np.ndarray, "D R"]:
    """`common_span`, and behind it one direction orthogonal to it if there is any.

    No column has a part along that direction, so it stands for all directions outside the span.
    """
    basis_DR = common_span(*matrices_DX)
    d, rank = basis_DR.shape
    if rank == d:
        return basis_DR
    outside_D = np.random.default_rng(0).standard_normal(d)
    for _ in range(2):  # rounding of the first projection is large where little is left
        outside_D -= basis_DR @ (basis_DR.T @ outside_D)
        outside_D /= np.linalg.norm(outside_D)
    return np.column_stack([basis_DR, outside_D])


def solve_local_minimum(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    tol: float = 1e-9,
    *,
    sample_weight: Float[Array, " N"] | None = None,
    max_iterations: int = 10_000,
) -> Solution:
    """Local minimizer of `loss.exact_loss` reached from the start (W1, W2).

    Args:
      w1_DP, w2_DP: the start. A zero column stays zero (see `loss.exact_loss`).
      x_ND: training samples.
      sigma, lam: noise level σ > 0 and weight decay λ ≥ 0.
      tol: largest ‖∇L‖_F that counts as converged, in units of the loss.
      sample_weight: (N,) summing to 1; default 1/N each.
      max_iterations: of L-BFGS.

    Returns:
      A Solution; ``converged`` is False when the tolerance was not reached.

    Raises:
      InputError: for wrong shapes, NaN, σ ≤ 0 or λ < 0.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    weights = np.stack([np.asarray(w1_DP, float), np.asarray(w2_DP, float)])
    if sample_weight is None:
        sample_weight = np.full(len(x_ND), 1 / len(x_ND))
    frames, reduced, x_NR = _coordinates(weights, x_ND)
    problem = (x_NR, np.asarray(sample_weight, float), float(sigma), float(lam))
    newton_iterations = 0
    with jax.enable_x64(True):
        reduced, loss, grad_norm, iterations, _ = jax.device_get(
            lbfgs(_loss, reduced, problem, tol, max_iterations)
        )
        if not grad_norm <= tol:
            reduced, loss, grad_norm, newton_iterations = _newton(reduced, problem, tol)
    w1_DP, w2_DP = (
        frame_DR @ w_RP[: frame_DR.shape[1]] for frame_DR, w_RP in zip(frames, reduced, strict=True)
    )
    return Solution(
        w1=w1_DP,
        w2=w2_DP,
        loss=float(loss),
        grad_norm=float(grad_norm),
        iterations=int(iterations) + newton_iterations,
        converged=bool(grad_norm <= tol),
    )


def _coordinates(weights_2DP, x_ND):
    """Frames (D, R1), (D, R2) of W1 and W2, and their coordinates and those of the samples, (R, ·).

    Each frame is the span of the data and, behind it, of the rest of the matrix. The loss does
    not see how the two rests are turned, so both may use the same rows.
    """
    data_DR = common_span(x_ND.T)
    frames = []
    for w_DP in weights_2DP:
        rest_DP = w_DP - data_DR @ (data_DR.T @ w_DP)
        rest_DR, singular, _ = np.linalg.svd(rest_DP, full_matrices=False)
        kept = singular > len(w_DP) * np.finfo(float).eps * np.max(np.abs(w_DP))
        frames.append(np.concatenate([data_DR, rest_DR[:, kept]], axis=1))
    rank = max(frame_DR.shape[1] for frame_DR in frames)
    reduced_2RP = np.zeros((2, rank, weights_2DP.shape[2]))
    for w_RP, frame_DR, w_DP in zip(reduced_2RP, frames, weights_2DP, strict=True):
        w_RP[: frame_DR.shape[1]] = frame_DR.T @ w_DP
    x_NR = np.zeros((len(x_ND), rank))
    x_NR[:, : data_DR.shape[1]] = x_ND @ data_DR
    return frames, reduced_2RP, x_NR


class _Search(NamedTuple):
    """L-BFGS between two evaluations: the last accepted point, and the line search from it.

    ``moves`` and ``changes`` (M, S) are the latest differences of accepted points and of their
    gradients, oldest first, zero where there is none yet.
    """

    point: Array
    loss: Array
    gradient: Array
    moves: Array
    changes: Array
    direction: Array
    iterations: Array
    evaluations: Array
    step: Array
    low: Array  # the step sought lies between low and high
    high: Array
    trials: Array


def _search_from(
    point_S, loss, gradient_S, moves_MS, changes_MS, direction_S, iterations, evaluations
):
    low, high = jnp.zeros_like(loss), jnp.full_like(loss, jnp.inf)
    accepted = (point_S, loss, gradient_S, moves_MS, changes_MS, direction_S)
    counts = (iterations, evaluations)
    return _Search(*accepted, *counts, jnp.ones_like(loss), low, high, jnp.zeros_like(iterations))


class Descent(NamedTuple):
    """Where L-BFGS stopped: the weights, the loss and ‖∇L‖ there, what it took."""

    weights: Array
    loss: Array
    grad_norm: Array
    iterations: Array
    evaluations: Array


@functools.partial(jax.jit, static_argnums=0)
def lbfgs(
    objective: Callable[..., Array],
    weights: Array,
    problem: tuple,
    tol: float,
    max_iterations: int,
) -> Descent:
    """L-BFGS on ``objective(weights, *problem)`` until ‖∇L‖ ≤ tol or the line search fails.

    ``problem`` begins with the samples and their weights, from which the rounding error of the
    loss is judged. The line search bisects for the weak Wolfe conditions (Lewis & Overton 2013).
    Where a decrease would drown in that rounding, the slope judges it (Hager & Zhang 2005).
    """
    x_NR, weight_N = problem[:2]
    eps = jnp.finfo(weights.dtype).eps
    rounding = _ROUNDING * eps * jnp.sum(weight_N * jnp.sum(x_NR**2, axis=1))

    def norm(search):
        return jnp.where(jnp.isinf(search.loss), jnp.inf, jnp.linalg.norm(search.gradient))

    def unfinished(search):
        able = (search.trials < _TRIALS) & (search.iterations < max_iterations)
        return able & (norm(search) > tol)

    def evaluate(search):
        point_S = search.point + search.step * search.direction
        loss, gradient = jax.value_and_grad(objective)(point_S.reshape(weights.shape), *problem)
        gradient_S = gradient.ravel()
        start_slope = search.gradient @ search.direction
        slope = gradient_S @ search.direction
        decreased = loss <= search.loss + _DESCENT * search.step * start_slope
        level = (loss <= search.loss + rounding) & (slope <= (2 * _DESCENT - 1) * start_slope)
        low_enough = decreased | level

        def advance():
            move_S, change_S = point_S - search.point, gradient_S - search.gradient
            curved = move_S @ change_S > eps * (change_S @ change_S)
            moves_MS = _append(search.moves, move_S, curved)
            changes_MS = _append(search.changes, change_S, curved)
            direction_S = _quasi_newton(gradient_S, moves_MS, changes_MS)
            accepted = (point_S, loss, gradient_S, moves_MS, changes_MS)
            counts = (search.iterations + 1, search.evaluations + 1)
            return _search_from(*accepted, direction_S, *counts)

        def bisect():
            low = jnp.where(low_enough, search.step, search.low)
            high = jnp.where(low_enough, search.high, search.step)
            step = jnp.where(jnp.isinf(high), 2 * search.step, (low + high) / 2)
            counts = {"trials": search.trials + 1, "evaluations": search.evaluations + 1}
            return search._replace(step=step, low=low, high=high, **counts)

        return jax.lax.cond(low_enough & (slope >= _CURVATURE * start_slope), advance, bisect)

    # The first evaluation, along the direction zero, accepts the start as iteration 0.
    zeros_S = jnp.zeros(weights.size, weights.dtype)
    zeros_MS = jnp.zeros((_MEMORY, weights.size), weights.dtype)
    nothing = (jnp.full((), jnp.inf, weights.dtype), zeros_S, zeros_MS, zeros_MS, zeros_S)
    start = _search_from(weights.ravel(), *nothing, jnp.asarray(-1), jnp.asarray(0))
    end = jax.lax.while_loop(unfinished, evaluate, start)
    iterations = jnp.maximum(end.iterations, 0)
    return Descent(
        end.point.reshape(weights.shape), end.loss, norm(end), iterations, end.evaluations
    )


def _append(rows_MS, row_S, when):
    return jnp.where(when, jnp.concatenate([rows_MS[1:], row_S[None]]), rows_MS)


def _quasi_newton(gradient_S, moves_MS, changes_MS):
    """−H ∇L with the L-BFGS inverse Hessian H in compact form (Byrd, Nocedal & Schnabel 1994)."""
    products_MM = moves_MS @ changes_MS.T
    curvature_M = jnp.diag(products_MM)
    # Without a pair yet, the first step has length one.
    scale = jnp.where(
        curvature_M[-1] > 0,
        curvature_M[-1] / jnp.sum(changes_MS[-1] ** 2),
        1 / jnp.linalg.norm(gradient_S),
    )
    upper_MM = jnp.triu(products_MM) + jnp.diag(jnp.where(curvature_M > 0, 0.0, 1.0))
    a_M = solve_triangular(upper_MM, moves_MS @ gradient_S)
    residual_S = gradient_S - a_M @ changes_MS
    b_M = solve_triangular(upper_MM, curvature_M * a_M - scale * (changes_MS @ residual_S), trans=1)
    return -scale * residual_S - b_M @ moves_MS


def _newton(weights, problem, tol):
    """Newton steps on the gradient, as long as they shrink it.

    MINRES copes with the flat symmetry directions: there the gradient has no component.
    """
    shape, size = weights.shape, weights.size
    loss, gradient = jax.device_get(_value_and_grad(weights, *problem))
    norm = np.linalg.norm(gradient)
    for step in range(NEWTON_STEPS):
        if norm <= tol or not np.isfinite(norm):
            return weights, loss, norm, step

        def product(direction, at=weights):
            return np.asarray(hessian_product(at, direction.reshape(shape), *problem)).ravel()

        hessian = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=float)
        direction, _ = scipy.sparse.linalg.minres(
            hessian, -gradient.ravel(), rtol=min(1e-2, norm), maxiter=MINRES_ITERATIONS
        )
        trial = weights + direction.reshape(shape)
        trial_loss, trial_gradient = jax.device_get(_value_and_grad(trial, *problem))
        trial_norm = np.linalg.norm(trial_gradient)
        if not trial_norm < norm:
            return weights, loss, norm, step
        weights, loss, gradient, norm = trial, trial_loss, trial_gradient, trial_norm
    return weights, loss, norm, NEWTON_STEPS
