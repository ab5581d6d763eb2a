"""Descent of the exact loss from a closed form to the minimizer next to it."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from dae_theory.solve.derivatives import expansion
from dae_theory.theory.problem import Problem

STEPS = 150
LONGEST = 0.5  # change of a gate margin in one step, in noise standard deviations
ARRIVED = 1e-9  # gradient, relative to the mean of ‖x‖²
SHRINK, GROW = 0.25, 2.0  # of the trust radius
POOR, GOOD = 0.25, 0.75  # share of the predicted decrease below, above which it changes
BISECTIONS = 50
ROUNDING = 100 * np.finfo(float).eps


class Descent(NamedTuple):
    """Where a descent ended: at a minimizer, or far from the start, still on its way. Weights
    (2, D, P); loss and ‖∇L‖ at the start and at the end."""

    weights: Float[np.ndarray, "2 D P"]
    losses: tuple[float, float]
    gradients: tuple[float, float]


def longest_step(weights_2DP: Float[np.ndarray, "2 D P"], problem: Problem) -> float:
    """The step that moves a gate margin by LONGEST at most, nearly."""
    norms_P = np.linalg.norm(weights_2DP[0], axis=0)
    lengths_N = np.linalg.norm(problem.x, axis=1)
    return LONGEST * problem.sigma * np.min(norms_P[norms_P > 0]) / np.max(lengths_N)


def descend(start_2DP: Float[np.ndarray, "2 D P"], problem: Problem, steps: int = STEPS) -> Descent:
    """Trust-region Newton descent of the exact loss. Zero columns stay zero.

    It ends where gradient flow does. SciPy's trust-exact, with the same radius, may not: where the
    slope along a direction of negative curvature vanishes, by a symmetry of the closed form, it
    takes a step along it nonetheless, to the one or the other side. A general solver may jump over
    a barrier, and Newton steps on the gradient, orthogonal to rotations, may end where a rotation
    still lowers the loss.
    """
    weights, x_ND = start_2DP.astype(float), problem.x
    free = np.broadcast_to(np.linalg.norm(weights[0], axis=0) > 0, weights.shape).ravel()
    radius = longest = longest_step(weights, problem)
    scale = float(np.mean(np.sum(x_ND**2, axis=1)))
    arguments = (x_ND, np.full(len(x_ND), 1 / len(x_ND)), problem.sigma, problem.lam)

    def expand(at):
        loss, gradient, hessian = map(np.asarray, expansion(at, *arguments))
        return float(loss), gradient.ravel()[free], hessian[np.ix_(free, free)]

    with jax.enable_x64(True):
        loss, gradient, hessian = expand(weights)
        start = loss, float(np.linalg.norm(gradient))
        for _ in range(steps):
            if np.linalg.norm(gradient) <= ARRIVED * scale:
                break
            values_M, vectors_MM = np.linalg.eigh(hessian)
            slope_M = vectors_MM.T @ gradient
            step_M = trust_step(values_M, slope_M, radius)
            expected = -(slope_M @ step_M + step_M @ (values_M * step_M) / 2)
            flat = weights.ravel().copy()
            flat[free] += vectors_MM @ step_M
            trial = flat.reshape(weights.shape)
            found = expand(trial)
            # Below the rounding of the loss only the gradient tells whether a step was good.
            if expected > ROUNDING * loss:
                share = (loss - found[0]) / expected
            else:
                share = float(np.linalg.norm(found[1]) < np.linalg.norm(gradient))
            if share > 0:
                weights, (loss, gradient, hessian) = trial, found
            if share < POOR:
                radius *= SHRINK
            elif share > GOOD:
                radius = min(GROW * radius, longest)
    end = loss, float(np.linalg.norm(gradient))
    return Descent(weights, (start[0], end[0]), (start[1], end[1]))


def trust_step(
    values_M: Float[np.ndarray, " M"], slope_M: Float[np.ndarray, " M"], radius: float
) -> Float[np.ndarray, " M"]:
    """Minimizer of the quadratic model within the radius, in the eigenbasis of the Hessian; shorter
    where the slope vanishes along all directions of the lowest eigenvalue."""
    if values_M[0] > 0 and np.linalg.norm(slope_M / values_M) <= radius:
        return -slope_M / values_M
    above_M = values_M - min(values_M[0], 0.0)
    low, high = 0.0, np.linalg.norm(slope_M) / radius
    for _ in range(BISECTIONS):
        shift = (low + high) / 2
        if np.linalg.norm(slope_M / (above_M + shift)) > radius:
            low = shift
        else:
            high = shift
    return -slope_M / (above_M + high)
