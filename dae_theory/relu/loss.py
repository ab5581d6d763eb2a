"""The training objective (1): sampled with noise, and exact, with the noise integrated out.

The noise enters only through the Gaussian pre-activations, so the expected loss has the
closed form (9), docs/THEORY.md#eq-9. `exact_loss` evaluates it by quadrature for every pair of
units; `mehler_loss` replaces the quadrature by matrix products and returns a bound on the
error that makes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.relu.gaussian_moments import (
    pair_correlations,
    pair_moments,
    relu_mean,
    relu_square,
    standard_margins,
    unit_columns,
)
from dae_theory.relu.model import denoise

PAIR_FLOATS = 24  # floats at once for a pair of units of one sample
FLOATS_AT_ONCE = 2**29  # for pairs of units, from which on the exact loss takes them in parts
PART_FLOATS = 2**24  # of a part
Scalar = Float[Array, ""]


def weights_or_uniform(
    sample_weight: Float[Array, " N"] | None, x_ND: Float[Array, "N D"]
) -> Float[Array, " N"]:
    """The given weights of the samples, or 1/N each."""
    if sample_weight is None:
        return jnp.full(x_ND.shape[0], 1 / x_ND.shape[0], x_ND.dtype)
    return sample_weight


def weight_penalty(w1_DP: Float[Array, "D P"], w2_DP: Float[Array, "D P"], lam: float) -> Scalar:
    """λ (‖W1‖² + ‖W2‖²), without a factor ½."""
    return lam * (jnp.sum(w1_DP**2) + jnp.sum(w2_DP**2))


def sampled_loss(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    noise_MND: Float[Array, "M N D"],
    sigma: float,
    lam: float,
    sample_weight: Float[Array, " N"] | None = None,
) -> Scalar:
    """Objective (1) with the expectation replaced by a mean over M given noise draws.

    Sums over features, averages over samples. ``noise_MND`` has unit variance;
    ``sample_weight`` (N,) sums to 1 and defaults to 1/N each.
    """
    error = sampled_error(w1_DP, w2_DP, x_ND, noise_MND, sigma, sample_weight)
    return error + weight_penalty(w1_DP, w2_DP, lam)


def sampled_error(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    noise_MND: Float[Array, "M N D"],
    sigma: float,
    sample_weight: Float[Array, " N"] | None = None,
) -> Scalar:
    """`sampled_loss` without the weight penalty."""
    draws = len(noise_MND)
    # One row for each noisy sample: products of stacked matrices are slower on a CPU.
    clean_RD = jnp.tile(x_ND, (draws, 1))
    weight_R = jnp.tile(weights_or_uniform(sample_weight, x_ND) / draws, draws)
    noise_RD = noise_MND.reshape(clean_RD.shape)
    residual_RD = denoise(w1_DP, w2_DP, clean_RD + sigma * noise_RD) - clean_RD
    return jnp.sum(weight_R * jnp.sum(residual_RD**2, axis=-1))


def mean_representation(
    w1_DP: Float[Array, "D P"], x_ND: Float[Array, "N D"], sigma: float
) -> Float[Array, "N P"]:
    """E h(x_i + σε) for each sample, exact (equation (9))."""
    u_DP, norm_P = unit_columns(w1_DP)
    return sigma * norm_P * relu_mean(standard_margins(x_ND, u_DP, sigma))


@jax.jit
def representation_moments(
    w1_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    sample_weight: Float[Array, " N"] | None = None,
) -> tuple[Float[Array, "N P"], Float[Array, "P P"]]:
    """E h(x_i + σε) for each sample, and Σ_i weight_i E hhᵀ, both exact (equation (9))."""
    weight_N = weights_or_uniform(sample_weight, x_ND)
    u_DP, norm_P = unit_columns(w1_DP)
    scale_P = sigma * norm_P
    z_NP = standard_margins(x_ND, u_DP, sigma)
    rho_PP, q_PP = pair_correlations(u_DP)
    rows, columns = np.triu_indices(w1_DP.shape[1], 1)
    pairs = pair_moments(
        z_NP[:, rows], z_NP[:, columns], rho_PP[rows, columns], q_PP[rows, columns]
    )
    moment_M = weight_N @ pairs.relu_relu
    above_PP = jnp.zeros_like(rho_PP, moment_M.dtype)
    above_PP = above_PP.at[rows, columns].set(moment_M, unique_indices=True)
    second_PP = above_PP + above_PP.T + jnp.diag(weight_N @ relu_square(z_NP))
    return scale_P * relu_mean(z_NP), second_PP * jnp.outer(scale_P, scale_P)


def _quadratic_in_parts(w1_DP, w2_DP, x_ND, sigma, weight_N) -> Scalar:
    """Σ_i weight_i E‖f(x_i + σε)‖², exact, for a few units with all units at a time."""
    d, width = w1_DP.shape
    w2_DP = jnp.asarray(w2_DP)
    u_DP, norm_P = unit_columns(w1_DP)
    z_NP = standard_margins(x_ND, u_DP, sigma)
    units = max(1, PART_FLOATS // (width * (PAIR_FLOATS * len(x_ND) + d)))
    chunks = -(-width // units)
    # Filled up to whole chunks with zero columns, which add nothing.
    filled = jnp.arange(chunks * units)
    chosen_CU = jnp.minimum(filled, width - 1).reshape(chunks, units)
    counts_CU = (filled < width).reshape(chunks, units)

    def part(chunk):
        chosen_U, counts_U = chunk
        rho_UP, q_UP = pair_correlations(u_DP[:, chosen_U], u_DP)
        moments = pair_moments(z_NP[:, chosen_U, None], z_NP[:, None, :], rho_UP, q_UP)
        second_UP = jnp.einsum("n,nup->up", weight_N, moments.relu_relu)
        own_U = weight_N @ relu_square(z_NP[:, chosen_U])
        second_UP = second_UP.at[jnp.arange(units), chosen_U].set(own_U)
        scale_UP = sigma**2 * jnp.outer(norm_P[chosen_U] * counts_U, norm_P)
        return jnp.sum((w2_DP[:, chosen_U].T @ w2_DP) * second_UP * scale_UP)

    return jnp.sum(jax.lax.map(jax.checkpoint(part), (chosen_CU, counts_CU)))


def _loss_from_moments(mean_NP, quadratic, w1_DP, w2_DP, x_ND, lam, weight_N) -> Scalar:
    cross = jnp.sum(weight_N[:, None] * mean_NP * (x_ND @ w2_DP))
    power = jnp.sum(weight_N * jnp.sum(x_ND**2, axis=1))
    return quadratic - 2 * cross + power + weight_penalty(w1_DP, w2_DP, lam)


@jax.jit
def exact_loss(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    sample_weight: Float[Array, " N"] | None = None,
) -> Scalar:
    """Objective (1) with the noise integrated out, equation (9).

    Accurate to rounding in value, gradient and Hessian, also for collinear units, zero
    columns and P > N. A zero column has derivative zero by convention (the loss has a kink
    there). Needs ``sigma > 0``; time grows as N P², memory up to FLOATS_AT_ONCE.
    """
    weight_N = weights_or_uniform(sample_weight, x_ND)
    width = w1_DP.shape[1]
    if PAIR_FLOATS * len(x_ND) * width * (width - 1) // 2 > FLOATS_AT_ONCE:
        mean_NP = mean_representation(w1_DP, x_ND, sigma)
        quadratic = _quadratic_in_parts(w1_DP, w2_DP, x_ND, sigma, weight_N)
    else:
        mean_NP, second_PP = representation_moments(w1_DP, x_ND, sigma, weight_N)
        quadratic = jnp.sum((w2_DP.T @ w2_DP) * second_PP)
    return _loss_from_moments(mean_NP, quadratic, w1_DP, w2_DP, x_ND, lam, weight_N)
