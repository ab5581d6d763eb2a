"""From any start to a local minimizer of the exact objective, to ‖∇L‖ ≤ tol.

L-BFGS, one compiled loop, goes all the way unless its line search fails; Newton steps on the
gradient, solved by MINRES with exact Hessian-vector products, do the rest. Work is done in the span
of the data and the start, which the gradient never leaves.
"""

import jax
import numpy as np
from jaxtyping import Array, Float

from dae_theory.checks import check_noise_and_decay, check_samples, check_weights
from dae_theory.solve.derivatives import stacked_loss
from dae_theory.solve.lbfgs import lbfgs
from dae_theory.solve.newton import Solution, polish
from dae_theory.solve.reduced import common_span


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
    """Local minimizer of `relu.loss.exact_loss` reached from the start (W1, W2).

    Args:
      w1_DP, w2_DP: the start. A zero column stays zero (see `relu.loss.exact_loss`).
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
            lbfgs(stacked_loss, reduced, problem, tol, max_iterations)
        )
        if not grad_norm <= tol:
            reduced, loss, grad_norm, newton_iterations = polish(reduced, problem, tol)
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
