"""Objective (1) by Mehler expansion: a few matrix products, with an error bound."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats.norm import pdf
from jaxtyping import Array, Float, Int

from dae_theory.relu.gaussian_moments import (
    cdf,
    pair_correlations,
    pair_moments,
    relu_square,
    standard_margins,
    unit_columns,
)
from dae_theory.relu.loss import Scalar, weight_penalty, weights_or_uniform


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
    chunk: int = 256,
) -> MehlerLoss:
    """Objective (1) with pair moments from ``terms`` matrix products (docs/THEORY.md#mehler).

    The diagonal is exact, and so are the ``exact_pairs`` pairs of units with the largest
    truncation error. What the rest leaves out is bounded: by Cauchy-Schwarz the tail of a
    pair is at most |ρ|^(terms+1) times the geometric mean of the two units' own tails, which
    are known because at ρ=1 the series must sum to E h². Beside the data it needs memory for a
    few (N, P) arrays; pair moments are summed ``chunk`` samples at a time, in the cache.
    Differentiable once in reverse mode; take Hessian products forward over reverse.
    """
    n_samples, width = x_ND.shape[0], w1_DP.shape[1]
    weight_N = weights_or_uniform(sample_weight, x_ND)
    u_DP, norm_P = unit_columns(w1_DP)
    scale_P = sigma * norm_P
    rho_PP, q_PP = pair_correlations(u_DP)
    gram_PP = w2_DP.T @ w2_DP * jnp.outer(scale_P, scale_P)

    chunk = min(chunk, n_samples)
    padding = -n_samples % chunk

    def chunks(array):
        pad_widths = ((0, padding), *((0, 0),) * (array.ndim - 1))
        return jnp.pad(array, pad_widths).reshape(-1, chunk, *array.shape[1:])

    z_CNP = chunks(standard_margins(x_ND, u_DP, sigma))
    weight_CN = chunks(weight_N)
    tail_P = _unit_tails(jax.lax.stop_gradient(z_CNP), weight_CN, terms)
    tail_PP = jnp.abs(rho_PP) ** (terms + 1) * jnp.sqrt(jnp.outer(tail_P, tail_P))
    tail_PP = jax.lax.stop_gradient(tail_PP * jnp.abs(gram_PP)) * (1 - jnp.eye(width))

    pair_PP, exact = gram_PP.at[jnp.diag_indices(width)].set(0.0), 0.0
    if exact_pairs > 0:
        pairs = _worst_pairs(tail_PP, min(exact_pairs, width * (width - 1) // 2))
        of_pairs = (gram_PP[pairs], rho_PP[pairs], q_PP[pairs], *pairs)
        exact = 2 * _exact_pair_loss(z_CNP, weight_CN, *of_pairs)
        pair_PP = pair_PP.at[pairs].set(0.0).at[pairs[::-1]].set(0.0)
        tail_PP = tail_PP.at[pairs].set(0.0).at[pairs[::-1]].set(0.0)

    y_CNP = chunks(x_ND @ (scale_P * w2_DP))
    series = _series_loss(terms, z_CNP, y_CNP, weight_CN, pair_PP, jnp.diag(gram_PP), rho_PP)
    power = jnp.sum(weight_N * jnp.sum(x_ND**2, axis=1))
    loss = series + exact + power + weight_penalty(w1_DP, w2_DP, lam)
    return MehlerLoss(loss, jnp.sum(tail_PP))


def _mehler_coefficients(z_NP: Float[Array, "N P"], count: int) -> list[Float[Array, "N P"]]:
    """|c_k|/√k! for k < count: E h, Φ, then He_{k-2}(z) φ(z)/√k! by its three-term recurrence.

    The signs (−1)^k of c_k cancel in every product of two units.
    """
    gate_NP, density_NP = cdf(z_NP), pdf(z_NP)
    coefficients = [z_NP * gate_NP + density_NP, gate_NP]
    # he = He_{k-2}(z) φ(z) / √(k-2)!; without φ it would overflow at large z.
    previous_NP, he_NP = jnp.zeros_like(z_NP), density_NP
    for k in range(2, count):
        coefficients.append(he_NP / (k * (k - 1)) ** 0.5)
        following_NP = (z_NP * he_NP - (k - 2) ** 0.5 * previous_NP) / (k - 1) ** 0.5
        previous_NP, he_NP = he_NP, following_NP
    return coefficients[:count]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _series_loss(
    terms: int,
    z_CNP: Float[Array, "C N P"],
    y_CNP: Float[Array, "C N P"],
    weight_CN: Float[Array, "C N"],
    pair_PP: Float[Array, "P P"],
    square_P: Float[Array, " P"],
    rho_PP: Float[Array, "P P"],
) -> Scalar:
    """Σ_n weight [Σ_ij pair_ij Σ_k ρ_ij^k c_k(i)c_k(j)/k! + Σ_j square_j E h_j² − 2 Σ_j y_j E h_j]
    of units of scale one. ``pair`` and ``ρ`` are symmetric.
    """
    return _series_forward(terms, z_CNP, y_CNP, weight_CN, pair_PP, square_P, rho_PP)[0]


def _series_forward(terms, z_CNP, y_CNP, weight_CN, pair_PP, square_P, rho_PP):
    """The value, and all its derivatives in the same pass: two products of N P² a term, half of
    what reverse differentiation of the sum takes, and nothing of the forward pass is kept."""
    power_KPP = [jnp.ones_like(rho_PP)]
    for _ in range(terms):
        power_KPP.append(power_KPP[-1] * rho_PP)

    def add_chunk(carry, batch):
        loss, pair_slope_PP, square_slope_P, rho_slope_PP = carry
        z_NP, y_NP, weight_N = batch
        c_KNP = _mehler_coefficients(z_NP, terms + 2)
        mean_NP, gate_NP = c_KNP[:2]
        second_NP = z_NP * mean_NP + gate_NP  # E h²
        loss_NP = second_NP * square_P - 2 * mean_NP * y_NP
        z_slope_NP = 2 * (mean_NP * square_P - gate_NP * y_NP)
        for k, (c_NP, next_NP, power_PP) in enumerate(
            zip(c_KNP, c_KNP[1:], power_KPP, strict=False)
        ):
            partner_NP = c_NP @ (pair_PP * power_PP)
            moment_PP = (weight_N[:, None] * c_NP).T @ c_NP
            # dc_k/dz = c_{k+1}, which the signs that were dropped turn round from k = 2 on.
            z_slope_NP += (2 if k < 2 else -2) * (k + 1) ** 0.5 * partner_NP * next_NP
            loss_NP += partner_NP * c_NP
            pair_slope_PP += power_PP * moment_PP
            if k > 0:
                rho_slope_PP += k * power_KPP[k - 1] * pair_PP * moment_PP
        loss_N = jnp.sum(loss_NP, axis=1)
        slopes = (pair_slope_PP, square_slope_P + weight_N @ second_NP, rho_slope_PP)
        by_sample = (weight_N[:, None] * z_slope_NP, -2 * weight_N[:, None] * mean_NP, loss_N)
        return (loss + weight_N @ loss_N, *slopes), by_sample

    zeros_PP = jnp.zeros_like(rho_PP)
    start = (jnp.zeros((), z_CNP.dtype), zeros_PP, jnp.zeros_like(square_P), zeros_PP)
    (loss, *slopes), by_sample = jax.lax.scan(add_chunk, start, (z_CNP, y_CNP, weight_CN))
    return loss, (*by_sample, *slopes)


def _series_backward(terms, slopes, cotangent):
    return tuple(cotangent * slope for slope in slopes)


_series_loss.defvjp(_series_forward, _series_backward)


def _unit_tails(
    z_CNP: Float[Array, "C N P"], weight_CN: Float[Array, "C N"], terms: int
) -> Float[Array, " P"]:
    """What the series leaves out of each unit's E h²: Σ_n weight Σ_{k>terms} c_k²/k!."""

    def add_chunk(total_P, batch):
        z_NP, weight_N = batch
        square_NP = relu_square(z_NP)
        energy_NP = sum(c_NP**2 for c_NP in _mehler_coefficients(z_NP, terms + 1))
        # A difference of nearly equal numbers: no less than their rounding error.
        rounding_NP = 4 * jnp.finfo(z_NP.dtype).eps * square_NP
        return total_P + weight_N @ jnp.maximum(square_NP - energy_NP, rounding_NP), None

    return jax.lax.scan(add_chunk, jnp.zeros(z_CNP.shape[2], z_CNP.dtype), (z_CNP, weight_CN))[0]


def _worst_pairs(tail_PP: Array, count: int) -> tuple[Int[Array, " M"], Int[Array, " M"]]:
    """Indices (i < j) of the pairs with the largest truncation error."""
    above = jnp.triu(jnp.ones_like(tail_PP), 1) > 0
    _, flat = jax.lax.top_k(jnp.where(above, tail_PP, -1.0).ravel(), count)
    return jnp.unravel_index(flat, tail_PP.shape)


@jax.custom_vjp
def _exact_pair_loss(
    z_CNP: Float[Array, "C N P"],
    weight_CN: Float[Array, "C N"],
    gram_M: Float[Array, " M"],
    rho_M: Float[Array, " M"],
    q_M: Float[Array, " M"],
    rows_M: Int[Array, " M"],
    columns_M: Int[Array, " M"],
) -> Scalar:
    """Σ_n weight Σ_m gram_m E h_i h_j (unit scale) over the listed pairs m = (i, j), exact."""
    return _exact_pair_forward(z_CNP, weight_CN, gram_M, rho_M, q_M, rows_M, columns_M)[0]


def _exact_pair_forward(z_CNP, weight_CN, gram_M, rho_M, q_M, rows_M, columns_M):
    """The value and its derivatives, which `pair_moments` returns beside it."""

    def add_chunk(carry, batch):
        moment_M, both_M = carry
        z_NP, weight_N = batch
        pairs = pair_moments(z_NP[:, rows_M], z_NP[:, columns_M], rho_M, q_M)
        z_slope_NP = jnp.zeros_like(z_NP).at[:, rows_M].add(gram_M * pairs.gate_relu)
        z_slope_NP = z_slope_NP.at[:, columns_M].add(gram_M * pairs.relu_gate)
        sums = (moment_M + weight_N @ pairs.relu_relu, both_M + weight_N @ pairs.both_active)
        return sums, (weight_N[:, None] * z_slope_NP, pairs.relu_relu @ gram_M)

    start = (jnp.zeros_like(rho_M), jnp.zeros_like(rho_M))
    (moment_M, both_M), by_sample = jax.lax.scan(add_chunk, start, (z_CNP, weight_CN))
    return gram_M @ moment_M, (*by_sample, moment_M, gram_M * both_M)


def _exact_pair_backward(slopes, cotangent):
    # None for q, which rho stands for, and for the indices.
    return (*(cotangent * slope for slope in slopes), None, None, None)


_exact_pair_loss.defvjp(_exact_pair_forward, _exact_pair_backward)
