"""From any start to a local minimizer of the exact objective, to ‖∇L‖ ≤ tol.

L-BFGS, one compiled loop, goes all the way unless its line search fails; Newton steps on the
gradient, solved by MINRES with exact Hessian-vector products, do the rest. Work is done in the span
of the data and the start, which the gradient never leaves, and on each sample once.
"""

import jax
import numpy as np
from jaxtyping import Array, Float

from dae_theory.checks import (
    InputError,
    check_noise_and_decay,
    check_sample_weight,
    check_samples,
    check_weights,
)
from dae_theory.solve.derivatives import stacked_loss
from dae_theory.solve.lbfgs import Descent, lbfgs, lbfgs_many
from dae_theory.solve.newton import Solution, polish
from dae_theory.solve.reduced import distinct_samples, padded, weight_frames

LANES = 16  # starts solved side by side; with many fewer or more, each takes longer


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
      InputError: for wrong shapes, NaN, σ ≤ 0, λ < 0 or sample weights that do not sum to 1.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    weights = np.stack([np.asarray(w1_DP, float), np.asarray(w2_DP, float)])
    x_MD, weight_M = distinct_samples(x_ND, check_sample_weight(sample_weight, len(x_ND)))
    frames, reduced, x_MR = weight_frames(weights, x_MD)
    problem = (x_MR, weight_M, float(sigma), float(lam))
    with jax.enable_x64(True):
        end = jax.device_get(lbfgs(stacked_loss, reduced, problem, tol, max_iterations))
        return _solution(end, frames, problem, tol)


def solve_local_minima(
    w1_BDP: Float[Array, "B D P"],
    w2_BDP: Float[Array, "B D P"],
    x_BND: Float[Array, "B N D"],
    sigma: float,
    lam: float,
    tol: float = 1e-9,
    *,
    max_iterations: int = 10_000,
) -> list[Solution]:
    """`solve_local_minimum` from B starts, each on its own samples, LANES of them at a time.

    Raises:
      InputError: for wrong or different shapes, NaN, σ ≤ 0 or λ < 0.
    """
    starts = list(zip(w1_BDP, w2_BDP, map(check_samples, x_BND), strict=True))
    for w1_DP, w2_DP, x_ND in starts:
        check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    if len({(np.shape(w1_DP), x_ND.shape) for w1_DP, _, x_ND in starts}) != 1:
        raise InputError("starts: expected some of equal shapes")
    reduced = [weight_frames(np.stack([w1, w2]).astype(float), x_ND) for w1, w2, x_ND in starts]
    rank = max(weights.shape[1] for _, weights, _ in reduced)
    weights_B2RP = np.stack(
        [padded(weights, (2, rank, weights.shape[2])) for _, weights, _ in reduced]
    )
    x_BNR = np.stack([padded(x_NR, (len(x_NR), rank)) for _, _, x_NR in reduced])
    problem = (np.full(x_BNR.shape[1], 1 / x_BNR.shape[1]), float(sigma), float(lam))
    turns = -(-len(starts) // LANES)
    lanes = -(-len(starts) // turns)

    def in_lanes(array_B):
        # A lane's turns are far apart in the batch: alike, and alike slow, starts are neighbours.
        # It is filled up with nets of zeros, which are stationary and done at once.
        array = padded(array_B, (turns * lanes, *array_B.shape[1:]))
        return array.reshape(turns, lanes, *array.shape[1:]).swapaxes(0, 1)

    with jax.enable_x64(True):
        ends_LK = lbfgs_many(
            stacked_loss, in_lanes(weights_B2RP), in_lanes(x_BNR), problem, tol, max_iterations
        )
        ends_KL = [np.swapaxes(field, 0, 1) for field in jax.device_get(ends_LK)]
        ends_B = [field.reshape(-1, *field.shape[2:])[: len(starts)] for field in ends_KL]
        return [
            _solution(Descent(*end), frames, (x_NR, *problem), tol)
            for (frames, _, _), x_NR, *end in zip(reduced, x_BNR, *ends_B, strict=True)
        ]


def _solution(end: Descent, frames: list[np.ndarray], problem: tuple, tol: float) -> Solution:
    """The end of a descent in the original coordinates, after Newton steps if it fell short."""
    reduced, loss, grad_norm, iterations, _ = end
    newton_iterations = 0
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
