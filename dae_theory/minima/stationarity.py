"""How much loss can a net still lose, and how far would its outputs move on the way?

The theory is about minima of (1). A net that stopped elsewhere (trained too shortly, with another
λ, with a bias that was dropped, or read transposed) says nothing about it. `remaining_decrease`
measures that by a Newton step on the exact loss, modulo symmetry (docs/THEORY.md#stationarity).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.checks import InputError, check_noise_and_decay, check_samples, check_weights
from dae_theory.relu.batch import MEMORY_SHARE, free_memory
from dae_theory.relu.loss import PAIR_FLOATS, representation_moments
from dae_theory.relu.units import live_units
from dae_theory.solve.derivatives import stacked_loss, value_and_grad
from dae_theory.solve.reduced import few_units, frames_of_one_size, program_size

PRODUCTS = 40  # with the Hessian, of a Lanczos iteration that starts at the gradient
_EXHAUSTED = 1e-12  # of the iteration, relative to the largest entry
_STEPS = np.geomspace(1e-3, 1.0, 13)  # along negative curvature, relative to ‖W‖


class Remaining(NamedTuple):
    """What is left between a net and the minimum that it is heading for.

    ``decrease`` of the exact ``loss`` that is predicted; ``movement``: rms change of the outputs on
    noised samples that this allows, relative to their rms; ``grad_norm`` = ‖∇L‖_F; ``lowest``
    curvature seen; ``fitting_lam``: the λ at which ‖∇L‖ is smallest; ``turning``: sine of
    the largest angle that a live unit has yet to turn.
    """

    decrease: float
    loss: float
    movement: float
    grad_norm: float
    lowest: float
    fitting_lam: float
    turning: float


def remaining_decrease(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
) -> Remaining:
    """The decrease of the exact loss that a Newton step from (W1, W2) predicts.

    Along an eigenvector of the Hessian with curvature c and slope s it is s²/2|c|. Curvature below
    λ is that of symmetry, where a net may drift far and lose nothing, and counts as λ. Where
    curvature is below −λ the net is on its way off a saddle, and the decrease is at least the
    largest found along the most negative curvature. Eigenvectors are those of a Lanczos iteration
    of PRODUCTS steps. The outputs at the minimum then differ from the net's by at most √decrease in
    rms (docs/THEORY.md#stationarity).

    Raises:
      InputError: for wrong shapes, NaN, σ ≤ 0 or λ < 0.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    if not np.any(w1_DP) and not np.any(w2_DP):  # stationary
        power = float(np.mean(np.sum(x_ND**2, axis=1)))
        return Remaining(0.0, power, 0.0, 0.0, 2.0 * lam, float(lam), 0.0)
    w1_DP, w2_DP = few_units(w1_DP, w2_DP)
    check_pairs_fit(len(x_ND), w1_DP.shape[1])
    share_N = np.full(len(x_ND), 1 / len(x_ND))
    weights, x_MR, weight_M = frames_of_one_size(w1_DP, w2_DP, x_ND, share_N)
    arguments = (x_MR, weight_M, float(sigma), float(lam))
    with jax.enable_x64(True):
        loss, gradient, power, krylov = jax.device_get(_expansion(weights, *arguments))
        decrease, lowest, direction = _newton_decrease(np.linalg.norm(gradient), krylov, lam)
        if lowest < -lam:
            decrease = max(decrease, _drop_along(direction, weights, arguments, loss))
    slope = np.sum(gradient * weights) / np.sum(weights**2)
    return Remaining(
        decrease=decrease,
        loss=float(loss),
        movement=float(np.sqrt(decrease / power)) if power > 0 else np.inf,
        grad_norm=float(np.linalg.norm(gradient)),
        lowest=lowest,
        fitting_lam=float(max(lam - slope / 2, 0.0)),
        turning=_turning(weights, gradient, lam),
    )


def _turning(
    weights_2RQ: Float[np.ndarray, "2 R Q"], gradient_2RQ: Float[np.ndarray, "2 R Q"], lam: float
) -> float:
    """Largest sine of the angle between encoder or decoder w_j of a live unit and the pull on it,
    2λw_j − ∇_j L, of which at rest it is a multiple; infinite without decay."""
    live_Q = live_units(*weights_2RQ)
    if not live_Q.any():
        return 0.0
    if lam == 0:
        return np.inf
    weights_2RL, gradient_2RL = weights_2RQ[:, :, live_Q], gradient_2RQ[:, :, live_Q]
    unit_2RL = weights_2RL / np.linalg.norm(weights_2RL, axis=1, keepdims=True)
    pull_2RL = 2 * lam * weights_2RL - gradient_2RL
    along_2L = np.sum(unit_2RL * pull_2RL, axis=1)
    aside_2L = np.linalg.norm(pull_2RL - along_2L[:, None] * unit_2RL, axis=1)
    # A unit without a pull, or pulled the other way, shrinks until it has turned.
    angle_2L = np.where(along_2L > 0, np.arctan2(aside_2L, along_2L), np.pi / 2)
    return float(np.max(np.sin(angle_2L)))


def pairs_bytes(n: int, p: int) -> int:
    """Estimated memory of second derivatives of a net of ``p`` units on ``n`` samples, at the sizes
    that programs are compiled for."""
    return 8 * PAIR_FLOATS * program_size(n) * program_size(p) ** 2 // 2


def check_pairs_fit(n: int, p: int) -> None:
    """Raise InputError where second derivatives of a net of ``p`` units on ``n`` samples would take
    more than MEMORY_SHARE of the free memory."""
    needed, free = pairs_bytes(n, p), MEMORY_SHARE * free_memory(jax.local_devices())
    if needed > free:
        fitting = int(p * np.sqrt(free / needed))
        raise InputError(
            f"p: to tell whether p={p} units on n={n} samples are at a minimum takes about "
            f"{needed / 1e9:.3g} GB, more than {free / 1e9:.3g}; lower n, or p to {fitting}"
        )


class _Krylov(NamedTuple):
    """The Hessian in the Krylov space of the gradient: its ``diagonal`` and the entries ``beside``
    it (K,), in an orthonormal ``basis`` (K, size)."""

    diagonal: Float[Array, " K"]
    beside: Float[Array, " K"]
    basis: Float[Array, "K size"]


@jax.jit
def _expansion(weights, x_NR, weight_N, sigma, lam):
    """Loss, gradient, mean square of the outputs, and the Hessian in the gradient's Krylov space,
    by a Lanczos iteration in which each vector is orthogonalized against all before."""

    def gradient_and_loss(at):
        loss, gradient = value_and_grad(at, x_NR, weight_N, sigma, lam)
        return gradient, loss

    # Linearized once: what the products share is computed and compiled outside of their loop.
    gradient, hessian_product, loss = jax.linearize(gradient_and_loss, weights, has_aux=True)
    _, second_PP = representation_moments(weights[0], x_NR, sigma, weight_N)
    power = jnp.sum((weights[1].T @ weights[1]) * second_PP)

    def unit(vector):
        norm = jnp.linalg.norm(vector)
        return vector / jnp.where(norm > 0, norm, 1.0), norm

    def step(i, state):
        (diagonal, beside, basis), vector = state
        basis = basis.at[i].set(vector)
        image = hessian_product(vector.reshape(weights.shape)).ravel()
        diagonal = diagonal.at[i].set(vector @ image)
        for _ in range(2):  # the first leaves rounding along earlier vectors
            image -= basis.T @ (basis @ image)
        vector, norm = unit(image)
        return _Krylov(diagonal, beside.at[i].set(norm), basis), vector

    zeros_K = jnp.zeros(PRODUCTS)
    empty = _Krylov(zeros_K, zeros_K, jnp.zeros((PRODUCTS, weights.size)))
    krylov, _ = jax.lax.fori_loop(0, PRODUCTS, step, (empty, unit(gradient.ravel())[0]))
    return loss, gradient, power, krylov


def _newton_decrease(
    grad_norm: float, krylov: _Krylov, lam: float
) -> tuple[float, float, Float[np.ndarray, " size"]]:
    """Σ s²/2|c| over the Ritz vectors, and the lowest curvature with its direction."""
    diagonal, beside, basis = krylov
    largest = max(np.max(np.abs(diagonal)), np.max(np.abs(beside)), np.finfo(float).tiny)
    ended = np.flatnonzero(beside <= _EXHAUSTED * largest)
    steps = ended[0] + 1 if len(ended) else len(diagonal)
    tridiagonal = np.diag(diagonal[:steps])
    inner = np.arange(steps - 1)
    tridiagonal[inner, inner + 1] = tridiagonal[inner + 1, inner] = beside[: steps - 1]
    curvature, vectors = np.linalg.eigh(tridiagonal)
    slopes = grad_norm * vectors[0]
    floor = max(lam, np.finfo(float).eps * largest)
    decrease = np.sum(slopes**2 / (2 * np.maximum(np.abs(curvature), floor)))
    return float(decrease), float(curvature[0]), basis[:steps].T @ vectors[:, 0]


def _drop_along(direction, weights, arguments, loss) -> float:
    """Largest decrease of the loss found along ±direction."""
    steps = np.linalg.norm(weights) * np.concatenate([-_STEPS, _STEPS])
    move = direction.reshape(weights.shape)
    losses = [float(_loss(weights + step * move, *arguments)) for step in steps]
    return float(loss) - min(losses)


_loss = jax.jit(stacked_loss)
