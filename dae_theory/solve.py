"""From any start to a local minimizer of the exact objective, to ‖∇L‖ ≤ tol.

L-BFGS (SciPy) goes as far as the rounding of the loss lets its line search see; Newton steps on
the gradient, solved by MINRES with exact Hessian-vector products, do the rest. Work is done in
the span of the data and the start, which the gradient never leaves.
"""

from typing import NamedTuple

import jax
import numpy as np
import scipy.optimize
import scipy.sparse.linalg
from jaxtyping import Array, Float

from dae_theory.errors import check_noise_and_decay, check_samples, check_weights
from dae_theory.loss import exact_loss

NEWTON_STEPS = 20
MINRES_ITERATIONS = 200
_MEMORY = 20  # L-BFGS pairs


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
_grad = jax.jit(jax.grad(_loss))


@jax.jit
def _hessian_product(weights, direction, x_ND, weight_N, sigma, lam):
    def gradient(at):
        return jax.grad(_loss)(at, x_ND, weight_N, sigma, lam)

    return jax.jvp(gradient, (weights,), (direction,))[1]


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
        gradient = _grad(np.stack([w1_DP, w2_DP]).astype(float), x_ND, weight_N, sigma, lam)
        return float(np.linalg.norm(gradient))


def common_span(*matrices_DX: Float[np.ndarray, "D X"]) -> Float[np.ndarray, "D R"]:
    """Orthonormal basis of the span of all columns; the identity when they span everything."""
    stacked = np.concatenate(matrices_DX, axis=1)
    d = len(stacked)
    u_DR, singular, _ = np.linalg.svd(stacked, full_matrices=False)
    rank = int(np.sum(singular > singular[0] * d * np.finfo(float).eps)) if singular[0] > 0 else 1
    return np.eye(d) if rank == d else u_DR[:, :rank]


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
    basis_DR = common_span(x_ND.T, weights[0], weights[1])
    reduced = np.einsum("dr,sdp->srp", basis_DR, weights)
    problem = (x_ND @ basis_DR, np.asarray(sample_weight, float), float(sigma), float(lam))
    with jax.enable_x64(True):
        reduced, lbfgs_iterations = _lbfgs(reduced, problem, tol, max_iterations)
        reduced, newton_iterations = _newton(reduced, problem, tol)
        loss, gradient = _value_and_grad(reduced, *problem)
    w1_DP, w2_DP = np.einsum("dr,srp->sdp", basis_DR, reduced)
    grad_norm = float(np.linalg.norm(gradient))
    return Solution(
        w1=w1_DP,
        w2=w2_DP,
        loss=float(loss),
        grad_norm=grad_norm,
        iterations=lbfgs_iterations + newton_iterations,
        converged=grad_norm <= tol,
    )


def _lbfgs(weights, problem, tol, max_iterations):
    shape = weights.shape

    def value_and_grad(flat):
        loss, gradient = _value_and_grad(flat.reshape(shape), *problem)
        return float(loss), np.asarray(gradient).ravel()

    result = scipy.optimize.minimize(
        value_and_grad,
        weights.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={
            "maxcor": _MEMORY,
            "maxiter": max_iterations,
            "maxfun": 2 * max_iterations,
            "ftol": 0.0,
            "gtol": tol / np.sqrt(weights.size),
        },
    )
    return result.x.reshape(shape), int(result.nit)


def _newton(weights, problem, tol):
    """Newton steps on the gradient, as long as they shrink it.

    MINRES copes with the flat symmetry directions: there the gradient has no component.
    """
    shape, size = weights.shape, weights.size
    gradient = np.asarray(_grad(weights, *problem))
    norm = np.linalg.norm(gradient)
    for step in range(NEWTON_STEPS):
        if norm <= tol or not np.isfinite(norm):
            return weights, step

        def product(direction, at=weights):
            return np.asarray(_hessian_product(at, direction.reshape(shape), *problem)).ravel()

        hessian = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=float)
        direction, _ = scipy.sparse.linalg.minres(
            hessian, -gradient.ravel(), rtol=min(1e-2, norm), maxiter=MINRES_ITERATIONS
        )
        trial = weights + direction.reshape(shape)
        trial_gradient = np.asarray(_grad(trial, *problem))
        trial_norm = np.linalg.norm(trial_gradient)
        if not trial_norm < norm:
            return weights, step
        weights, gradient, norm = trial, trial_gradient, trial_norm
    return weights, NEWTON_STEPS
