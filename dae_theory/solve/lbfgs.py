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
    end = jax.lax.while_loop(
        lambda search: _unfinished(search, tol, max_iterations),
        lambda search: _evaluate(objective, search, weights.shape, problem),
        _start(weights),
    )
    return _descent(end, weights.shape)


@functools.partial(jax.jit, static_argnums=0)
def lbfgs_many(
    objective: Callable[..., Array],
    weights_LK: Array,
    x_LKNR: Array,
    problem: tuple,
    tol: float,
    max_iterations: int,
) -> Descent:
    """`lbfgs` from L·K starts: L lanes side by side, each of which takes its K starts in turn.

    A lane goes on to its next start as soon as it has done with one, so that none waits for the
    slowest. Each start has its own samples; ``problem`` is the rest of it, which all share.

    Returns:
      A Descent whose arrays have the leading axes (L, K).
    """
    turns, shape = weights_LK.shape[1], weights_LK.shape[2:]

    def take_turns(weights_K, x_KNR):
        def evaluate(lane):
            turn, search, ends_K = lane
            search = _evaluate(objective, search, shape, (x_KNR[turn], *problem))
            ends_K = jax.tree.map(
                lambda all_K, end: all_K.at[turn].set(end), ends_K, _descent(search, shape)
            )
            done = ~_unfinished(search, tol, max_iterations)
            next_start = _start(weights_K[turn + 1])
            search = jax.tree.map(functools.partial(jnp.where, done), next_start, search)
            return turn + done, search, ends_K

        nowhere = _descent(_start(weights_K[0]), shape)
        ends_K = jax.tree.map(lambda one: jnp.zeros((turns, *one.shape), one.dtype), nowhere)
        lane = (0, _start(weights_K[0]), ends_K)
        return jax.lax.while_loop(lambda lane: lane[0] < turns, evaluate, lane)[2]

    return jax.vmap(take_turns)(weights_LK, x_LKNR)


def _start(weights):
    # The first evaluation, along the direction zero, accepts the start as iteration 0.
    zeros_S = jnp.zeros(weights.size, weights.dtype)
    zeros_MS = jnp.zeros((_MEMORY, weights.size), weights.dtype)
    nothing = (jnp.full((), jnp.inf, weights.dtype), zeros_S, zeros_MS, zeros_MS, zeros_S)
    return _search_from(weights.ravel(), *nothing, jnp.asarray(-1), jnp.asarray(0))


def _norm(search):
    return jnp.where(jnp.isinf(search.loss), jnp.inf, jnp.linalg.norm(search.gradient))


def _unfinished(search, tol, max_iterations):
    able = (search.trials < _TRIALS) & (search.iterations < max_iterations)
    return able & (_norm(search) > tol)


def _descent(search, shape):
    iterations = jnp.maximum(search.iterations, 0)
    point = search.point.reshape(shape)
    return Descent(point, search.loss, _norm(search), iterations, search.evaluations)


def _evaluate(objective, search, shape, problem):
    """The next point on the line: accepted, or the step is bisected."""
    x_NR, weight_N = problem[:2]
    eps = jnp.finfo(search.point.dtype).eps
    rounding = _ROUNDING * eps * jnp.sum(weight_N * jnp.sum(x_NR**2, axis=1))
    point_S = search.point + search.step * search.direction
    loss, gradient = jax.value_and_grad(objective)(point_S.reshape(shape), *problem)
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
