"""The training objective (1): sampled with noise, and exact, with the noise integrated out.

The noise enters only through the Gaussian pre-activations, so the expected loss has the
closed form (9) of THEORY.md §7. `exact_loss` evaluates it by quadrature for every pair of
units; `mehler_loss` replaces the quadrature by matrix products and returns a bound on the
error that makes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats.norm import pdf
from jaxtyping import Array, Float, Int

from dae_theory.gaussian_moments import (
    cdf,
    pair_correlations,
    pair_moments,
    relu_mean,
    relu_square,
    standard_margins,
    unit_columns,
)
from dae_theory.model import denoise

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
    weight_N = weights_or_uniform(sample_weight, x_ND)
    residual = jax.vmap(lambda noise: denoise(w1_DP, w2_DP, x_ND + sigma * noise) - x_ND)(noise_MND)
    per_sample_N = jnp.mean(jnp.sum(residual**2, axis=-1), axis=0)
    return jnp.sum(weight_N * per_sample_N) + weight_penalty(w1_DP, w2_DP, lam)


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


def _loss_from_moments(mean_NP, second_PP, w1_DP, w2_DP, x_ND, lam, weight_N) -> Scalar:
    quadratic = jnp.sum((w2_DP.T @ w2_DP) * second_PP)
    cross = jnp.sum(weight_N[:, None] * mean_NP * (x_ND @ w2_DP))
    power = jnp.sum(weight_N * jnp.sum(x_ND**2, axis=1))
    return quadratic - 2 * cross + power + weight_penalty(w1_DP, w2_DP, lam)


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
    there). Needs ``sigma > 0``; memory and time grow as N P².
    """
    weight_N = weights_or_uniform(sample_weight, x_ND)
    mean_NP, second_PP = representation_moments(w1_DP, x_ND, sigma, weight_N)
    return _loss_from_moments(mean_NP, second_PP, w1_DP, w2_DP, x_ND, lam, weight_N)


class MehlerLoss(NamedTuple):
    """Loss by Mehler expansion and a bound on its distance to the exact loss."""

    loss: Scalar
    error_bound: Scalar


def mehler_loss(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    sample_weight: Float[Array, " N"] | None = None,
    *,
    terms: int = 16,
    exact_pairs: int = 0,
    chunk: int = 1024,
) -> MehlerLoss:
    """Objective (1) with pair moments from ``terms`` matrix products (THEORY.md §7, fast form).

    The diagonal is exact, and so are the ``exact_pairs`` pairs of units with the largest
    truncation error. What the rest leaves out is bounded: by Cauchy-Schwarz the tail of a
    pair is at most |ρ|^(terms+1) times the geometric mean of the two units' own tails, which
    are known because at ρ=1 the series must sum to E h². Samples are processed ``chunk`` at
    a time, so memory does not grow with N beyond the data itself. Differentiable.
    """
    n_samples, width = x_ND.shape[0], w1_DP.shape[1]
    weight_N = weights_or_uniform(sample_weight, x_ND)
    u_DP, norm_P = unit_columns(w1_DP)
    scale_P = sigma * norm_P
    rho_PP, q_PP = pair_correlations(u_DP)
    gram_PP = w2_DP.T @ w2_DP * jnp.outer(scale_P, scale_P)

    chunk = min(chunk, n_samples)
    padding = -n_samples % chunk
    x_CND = jnp.pad(x_ND, ((0, padding), (0, 0))).reshape(-1, chunk, x_ND.shape[1])
    weight_CN = jnp.pad(weight_N, (0, padding)).reshape(-1, chunk)

    @jax.checkpoint
    def add_chunk(carry, batch):
        series_PP, tail_P, square_P, cross = carry
        x_ND, weight_N = batch
        z_NP = standard_margins(x_ND, u_DP, sigma)
        chunk_series, chunk_tail = _mehler_series(z_NP, weight_N, rho_PP, terms)
        square = weight_N @ relu_square(z_NP)
        mean_NP = scale_P * relu_mean(z_NP)
        chunk_cross = jnp.sum(weight_N[:, None] * mean_NP * (x_ND @ w2_DP))
        return (
            series_PP + chunk_series,
            tail_P + chunk_tail,
            square_P + square,
            cross + chunk_cross,
        ), None

    zeros_P = jnp.zeros(width, x_ND.dtype)
    start = (jnp.zeros((width, width), x_ND.dtype), zeros_P, zeros_P, jnp.zeros((), x_ND.dtype))
    (moment_PP, tail_P, square_P, cross), _ = jax.lax.scan(add_chunk, start, (x_CND, weight_CN))

    tail_PP = jnp.abs(rho_PP) ** (terms + 1) * jnp.sqrt(jnp.outer(tail_P, tail_P))
    tail_PP = jax.lax.stop_gradient(tail_PP * jnp.abs(gram_PP)) * (1 - jnp.eye(width))
    moment_PP = moment_PP.at[jnp.diag_indices(width)].set(square_P)
    if exact_pairs > 0:
        rows, columns = _worst_pairs(tail_PP, min(exact_pairs, width * (width - 1) // 2))
        exact = _exact_pair_moments(x_CND, weight_CN, u_DP, rho_PP, q_PP, sigma, rows, columns)
        moment_PP = moment_PP.at[rows, columns].set(exact).at[columns, rows].set(exact)
        tail_PP = tail_PP.at[rows, columns].set(0.0).at[columns, rows].set(0.0)

    power = jnp.sum(weight_N * jnp.sum(x_ND**2, axis=1))
    loss = jnp.sum(gram_PP * moment_PP) - 2 * cross + power + weight_penalty(w1_DP, w2_DP, lam)
    return MehlerLoss(loss, jnp.sum(tail_PP))


def _mehler_series(
    z_NP: Float[Array, "N P"], weight_N: Float[Array, " N"], rho_PP: Float[Array, "P P"], terms: int
) -> tuple[Float[Array, "P P"], Float[Array, " P"]]:
    """Σ_{k≤terms} ρ^k Σ_n weight c_k c_kᵀ / k!, and each unit's tail Σ_{k>terms} c_k²/k!."""

    def term(coefficient_NP, power_PP):
        return power_PP * jnp.einsum("n,ni,nj->ij", weight_N, coefficient_NP, coefficient_NP)

    mean_NP, gate_NP, density_NP = relu_mean(z_NP), cdf(z_NP), pdf(z_NP)
    series_PP = term(mean_NP, jnp.ones_like(rho_PP)) + term(gate_NP, rho_PP)
    energy_NP = mean_NP**2 + gate_NP**2
    power_PP = rho_PP
    # hermite = He_{k-2}(z) / sqrt((k-2)!), by its three-term recurrence.
    previous_NP, hermite_NP = jnp.zeros_like(z_NP), jnp.ones_like(z_NP)
    for k in range(2, terms + 1):
        power_PP = power_PP * rho_PP
        coefficient_NP = density_NP * hermite_NP / (k * (k - 1)) ** 0.5
        series_PP += term(coefficient_NP, power_PP)
        energy_NP += coefficient_NP**2
        following_NP = (z_NP * hermite_NP - (k - 2) ** 0.5 * previous_NP) / (k - 1) ** 0.5
        previous_NP, hermite_NP = hermite_NP, following_NP
    # The tail is a difference of nearly equal numbers: no less than their rounding error.
    square_NP = relu_square(z_NP)
    rounding_NP = 4 * jnp.finfo(z_NP.dtype).eps * square_NP
    return series_PP, weight_N @ jnp.maximum(square_NP - energy_NP, rounding_NP)


def _worst_pairs(tail_PP: Array, count: int) -> tuple[Int[Array, " M"], Int[Array, " M"]]:
    """Indices (i < j) of the pairs with the largest truncation error."""
    above = jnp.triu(jnp.ones_like(tail_PP), 1) > 0
    _, flat = jax.lax.top_k(jnp.where(above, tail_PP, -1.0).ravel(), count)
    return jnp.unravel_index(flat, tail_PP.shape)


def _exact_pair_moments(x_CND, weight_CN, u_DP, rho_PP, q_PP, sigma, rows, columns) -> Array:
    """Σ_n weight E h_i h_j (unit scale) for the listed pairs, chunk by chunk."""

    @jax.checkpoint
    def add_chunk(total_M, batch):
        x_ND, weight_N = batch
        z_NP = standard_margins(x_ND, u_DP, sigma)
        pairs = pair_moments(
            z_NP[:, rows], z_NP[:, columns], rho_PP[rows, columns], q_PP[rows, columns]
        )
        return total_M + weight_N @ pairs.relu_relu, None

    total_M, _ = jax.lax.scan(add_chunk, jnp.zeros(rows.shape, x_CND.dtype), (x_CND, weight_CN))
    return total_M
