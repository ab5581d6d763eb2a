"""Gradient and Hessian of the exact objective (9) at the stacked weights (W1, W2)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.checks import (
    check_noise_and_decay,
    check_sample_weight,
    check_samples,
    check_weights,
)
from dae_theory.relu.loss import exact_loss
from dae_theory.solve.reduced import few_units, frames_of_one_size

_BATCH = 32  # columns of the Hessian computed at a time, fewer where N·P² of each is large
_BATCH_ENTRIES = 10_000_000  # of the pair moments of a batch


def stacked_loss(
    weights_2RP: Float[Array, "2 R P"],
    x_NR: Float[Array, "N R"],
    weight_N: Float[Array, " N"],
    sigma: float,
    lam: float,
) -> Float[Array, ""]:
    """`relu.loss.exact_loss` of the stacked (W1, W2)."""
    return exact_loss(weights_2RP[0], weights_2RP[1], x_NR, sigma, lam, weight_N)


value_and_grad = jax.jit(jax.value_and_grad(stacked_loss))


@jax.jit
def hessian_product(
    weights_2RP: Float[Array, "2 R P"],
    direction_2RP: Float[Array, "2 R P"],
    x_NR: Float[Array, "N R"],
    weight_N: Float[Array, " N"],
    sigma: float,
    lam: float,
) -> Float[Array, "2 R P"]:
    """Hessian of `relu.loss.exact_loss` at the stacked (W1, W2), applied to a stacked direction."""

    def gradient(at):
        return jax.grad(stacked_loss)(at, x_NR, weight_N, sigma, lam)

    return jax.jvp(gradient, (weights_2RP,), (direction_2RP,))[1]


def gradient_norm(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
) -> float:
    """‖∇L(W1, W2)‖_F of the exact objective, in float64."""
    return loss_and_gradient_norm(w1_DP, w2_DP, x_ND, sigma, lam)[1]


def loss_and_gradient_norm(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    sample_weight: Float[Array, " N"] | None = None,
) -> tuple[float, float]:
    """L and ‖∇L‖_F at (W1, W2), of the exact objective, in float64.

    Of many units parallel ones are merged first, which changes neither: the gradient of a part
    c(w1; w2) of a unit is c times that of the unit.

    Raises:
      InputError: for wrong shapes, NaN, σ ≤ 0, λ < 0 or sample weights that do not sum to 1.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    weight_N = check_sample_weight(sample_weight, len(x_ND))
    with jax.enable_x64(True):
        framed = frames_of_one_size(*few_units(w1_DP, w2_DP), x_ND, weight_N)
        loss, gradient = value_and_grad(*framed, float(sigma), float(lam))
        return float(loss), float(np.linalg.norm(gradient))


@jax.jit
def expansion(
    weights_2RP: Float[Array, "2 R P"],
    x_NR: Float[Array, "N R"],
    weight_N: Float[Array, " N"],
    sigma: float,
    lam: float,
) -> tuple[Float[Array, ""], Float[Array, "2 R P"], Float[Array, "2RP 2RP"]]:
    """Loss, gradient and Hessian of `relu.loss.exact_loss` at the stacked (W1, W2)."""
    at = jax.value_and_grad(lambda w: stacked_loss(w, x_NR, weight_N, sigma, lam))
    (loss, gradient), tangent = jax.linearize(at, weights_2RP)
    size = weights_2RP.size
    moments = len(x_NR) * weights_2RP.shape[2] ** 2
    batch = min(max(_BATCH_ENTRIES // moments, 1), _BATCH, size)
    # Filled up with zeros to whole batches: a smaller last one would be compiled for itself.
    filled = -(-size // batch) * batch
    directions = jnp.eye(filled, size, dtype=weights_2RP.dtype).reshape(-1, *weights_2RP.shape)
    rows = jax.lax.map(lambda one: tangent(one)[1], directions, batch_size=batch)
    hessian = rows[:size].reshape(size, size)
    return loss, gradient, (hessian + hessian.T) / 2
