"""L-BFGS in one compiled loop, down to the rounding error of the loss."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array

_MEMORY = 20  # L-BFGS pairs
_DESCENT, _CURVATURE = 1e-4, 0.9  # of the Wolfe conditions
_TRIALS = 30  # evaluations along one direction
_ROUNDING = 128  # rounding error of the loss, in units of eps times the power of the data


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
