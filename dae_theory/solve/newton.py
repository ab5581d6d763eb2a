"""Newton's method on the gradient of the exact objective: plain, modulo symmetry, and along it."""

from typing import NamedTuple

import jax
import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from jaxtyping import Array, Float, Int

from dae_theory.checks import InputError
from dae_theory.solve.derivatives import expansion, hessian_product, value_and_grad
from dae_theory.solve.reduced import Reduced, expand, reduce_problem, rotations_of
from dae_theory.theory.symmetry import gate_groups

NEWTON_STEPS = 20
MINRES_ITERATIONS = 200
LARGEST_DENSE = 4000  # entries of the weights up to which all eigenvalues are computed
_NEWTON_STEPS, _DAMPING = 30, 0.5 ** np.arange(8)
_SHRINKS = 0.1  # what is left of the gradient after a step with a Hessian that serves once more
_TURNS, _LONGEST_TURN = 50, 0.2  # along rotations; radians, in Frobenius norm, of a block
_ROUNDING = 100  # gradient that counts as zero, in units of eps ‖W‖ ‖H‖_F


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


def polish(weights, problem, tol):
    """Newton steps on the gradient, as long as they shrink it.

    MINRES copes with the flat symmetry directions: there the gradient has no component.
    """
    shape, size = weights.shape, weights.size
    loss, gradient = jax.device_get(value_and_grad(weights, *problem))
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
        trial_loss, trial_gradient = jax.device_get(value_and_grad(trial, *problem))
        trial_norm = np.linalg.norm(trial_gradient)
        if not trial_norm < norm:
            return weights, loss, norm, step
        weights, loss, gradient, norm = trial, trial_loss, trial_gradient, trial_norm
    return weights, loss, norm, NEWTON_STEPS


def check_dense(size: int) -> None:
    """Raise InputError when a dense Hessian would have more than LARGEST_DENSE rows."""
    if size > LARGEST_DENSE:
        raise InputError(
            f"W1 and W2: a dense Hessian of {size} rows exceeds {LARGEST_DENSE}; use second_order"
        )


def newton_modulo_symmetry(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    groups_P: Int[Array, " P"] | None = None,
) -> Solution:
    """Newton's method from (W1, W2), orthogonally to the symmetry directions there.

    Ends where the gradient is a combination of these directions, up to rounding: in the point that
    `existence.newton_kantorovich` speaks of. A general solver drifts along the rotations instead,
    where curvature is exponentially small and the valley is curved.

    Args:
      groups_P: as in `second_order`.

    Returns:
      A Solution; ``grad_norm`` is that of the gradient orthogonal to the symmetry directions, and
      ``converged`` tells whether steps shrank it to rounding.

    Raises:
      InputError: for bad input, more than LARGEST_DENSE entries, or λ = 0, where minimizers are
        not isolated: a unit can be rescaled, (c w1, w2/c).
    """
    problem = _smooth_problem(w1_DP, w2_DP, x_ND, sigma, lam)
    with jax.enable_x64(True):
        at = _valley(problem.weights, problem.arguments, rotations_of(problem, groups_P))
    w1_DP, w2_DP = expand(problem, at.weights)
    grad_norm = float(np.linalg.norm(at.gradient))
    converged = bool(grad_norm <= _ROUNDING * at.rounding)
    return Solution(w1_DP, w2_DP, at.loss, grad_norm, at.steps, converged)


def newton_along_rotations(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
) -> Solution:
    """Local minimizer near (W1, W2), rotations inside blocks included (docs/THEORY.md#rotations).

    After `newton_modulo_symmetry` the loss is one of rotations alone; its curvature is
    exponentially small, and the valley is curved. Newton steps along it turn the blocks by
    exponentials of antisymmetric matrices, which stay in the valley.

    Returns:
      A Solution; ``iterations`` counts turns, and ``converged`` tells whether ‖∇L‖ is rounding.

    Raises:
      InputError: as `newton_modulo_symmetry`.
    """
    problem = _smooth_problem(w1_DP, w2_DP, x_ND, sigma, lam)
    arguments = problem.arguments

    def valley(weights):
        at = _valley(weights, arguments, rotations_of(problem._replace(weights=weights), None))
        gradient = np.ravel(value_and_grad(at.weights, *arguments)[1])
        return at, float(np.linalg.norm(gradient))

    with jax.enable_x64(True):
        at, grad_norm = valley(problem.weights)
        share, turns = 1.0, 0
        while turns < _TURNS:
            trial = valley(_turned(problem._replace(weights=at.weights), share))
            lower = trial[0].loss < at.loss - _ROUNDING * np.finfo(float).eps * at.loss
            if lower or trial[1] < grad_norm:
                (at, grad_norm), share = trial, min(1.0, 2 * share)
            elif grad_norm <= at.rounding:
                break
            else:
                share /= 4
            turns += 1
    w1_DP, w2_DP = expand(problem, at.weights)
    converged = bool(grad_norm <= _ROUNDING * at.rounding)
    return Solution(w1_DP, w2_DP, at.loss, grad_norm, turns, converged)


class _Valley(NamedTuple):
    """Weights where the gradient orthogonal to rotations vanishes, but for rounding."""

    weights: Float[np.ndarray, "2 R L"]
    loss: float
    gradient: Float[np.ndarray, " 2RL"]
    rounding: float
    steps: int


def _smooth_problem(w1_DP, w2_DP, x_ND, sigma, lam) -> Reduced:
    problem = reduce_problem(w1_DP, w2_DP, x_ND, sigma, lam)
    if lam == 0:
        raise InputError("lam: without weight decay minima are not isolated; give lam > 0")
    check_dense(problem.weights.size)
    return problem


def _valley(weights, arguments, rotations) -> _Valley:
    """Damped Newton steps orthogonal to ``rotations`` (M, 2RL), until rounding.

    A Hessian takes longer than steps with it, so it serves while they shrink the gradient enough.
    """

    def loss_and_gradient(at):
        loss, gradient = value_and_grad(at, *arguments)
        gradient = np.asarray(gradient).ravel()
        return float(loss), gradient - rotations.T @ (rotations @ gradient)

    loss, gradient = loss_and_gradient(weights)
    steps, rounding, factors = 0, 0.0, None
    while steps < _NEWTON_STEPS and np.linalg.norm(gradient) > rounding:
        is_new = factors is None
        if is_new:
            matrix = np.asarray(expansion(weights, *arguments)[2])
            rounding = np.finfo(float).eps * np.linalg.norm(weights) * np.linalg.norm(matrix)
            inside = matrix - rotations.T @ (rotations @ matrix)
            inside = inside - (inside @ rotations.T) @ rotations
            inside = inside + rotations.T @ rotations
            factors = scipy.linalg.lu_factor(inside, check_finite=False)
        newton = -scipy.linalg.lu_solve(factors, gradient, check_finite=False)
        for share in _DAMPING if is_new else _DAMPING[:1]:
            trial = weights + share * newton.reshape(weights.shape)
            trial_loss, trial_gradient = loss_and_gradient(trial)
            left = np.linalg.norm(trial_gradient) / np.linalg.norm(gradient)
            if left < 1:
                break
        if not left <= _SHRINKS:  # or is NaN
            factors = None
        if left < 1:
            weights, loss, gradient, steps = trial, trial_loss, trial_gradient, steps + 1
        elif is_new:
            break
    return _Valley(weights, loss, gradient, float(rounding), steps)


def _turned(problem: Reduced, share: float) -> Float[np.ndarray, "2 R L"]:
    """The blocks turned by a share of the Newton step along their rotations, downhill where the
    curvature is negative."""
    weights, arguments = problem.weights, problem.arguments
    _, gradient, hessian = map(np.asarray, expansion(weights, *arguments))
    rotations = rotations_of(problem, None)
    values, vectors = np.linalg.eigh(rotations @ hessian @ rotations.T)
    slope = vectors.T @ rotations @ gradient.ravel()
    move = (-(vectors @ (slope / np.abs(values))) @ rotations).reshape(weights.shape)
    turned, groups_L = weights.copy(), gate_groups(weights[0], arguments[0])
    for group in np.unique(groups_L[groups_L >= 0]):
        block, moved = (np.concatenate(list(m[:, :, groups_L == group])) for m in (weights, move))
        turn = np.linalg.lstsq(block, moved, rcond=None)[0]
        turn = (turn - turn.T) / 2
        turn = share * turn * _LONGEST_TURN / max(np.linalg.norm(turn), _LONGEST_TURN)
        turned[:, :, groups_L == group] = weights[:, :, groups_L == group] @ scipy.linalg.expm(turn)
    return turned
