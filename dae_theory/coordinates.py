"""Variables in which the Hessian of the loss is closer to a multiple of the identity.

Near a minimum of the loss of many samples, curvatures differ by 10⁵ for two reasons. The data have
much more power in some directions than in others: that is scaled away. And units that are active
on nearly all samples are nearly linear, so that turning such units into each other,
W → W exp(A) with A antisymmetric, hardly changes f: what changes is f on samples where one gate of
the two is closed. These turns get variables of their own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

FLATTEST = 1e-6  # curvature that is told from zero, relative to the largest
MOST_TURNING = 128  # units; the metric of their turns has (P²/2)² entries


class Coordinates(NamedTuple):
    """Variables v = (u, t) of the weights W, X = 2 for W1 and W2 stacked, 1 for a tied matrix:
    W = (scale ∘ u) basisᵀ Q, where Q is orthogonal and t the turns that make it.

    Q = (1 − A/2)⁻¹ (1 + A/2) with A antisymmetric, its entries above the diagonal t · ``turns``.
    Every W is reached with t = 0; ``turns`` of shape (0, 0) stands for no t.
    """

    scale: Float[Array, "X R P"]
    basis: Float[Array, "X P P"]
    turns: Float[Array, "T T"]

    def weights(self, v_S: Float[Array, " S"]) -> Float[Array, "X R P"]:
        """W of the variables v."""
        u_S, t_T = jnp.split(v_S, [self.scale.size])
        w_XRP = (self.scale * u_S.reshape(self.scale.shape)) @ self.basis.mT
        return w_XRP if self.turns.size == 0 else w_XRP @ _turned(t_T @ self.turns, w_XRP.shape[2])

    def variables(self, w_XRP: Float[Array, "X R P"]) -> Float[Array, " S"]:
        """v of the weights W, without turns."""
        u_XRP = w_XRP @ self.basis / self.scale
        return np.concatenate([np.ravel(u_XRP), np.zeros(len(self.turns), u_XRP.dtype)])


def _turned(entries_T: Array, width: int) -> Float[Array, "P P"]:
    """The Cayley transform of the antisymmetric matrix with these entries above its diagonal."""
    above_PP = jnp.zeros((width, width), entries_T.dtype)
    above_PP = above_PP.at[np.triu_indices(width, 1)].set(entries_T)
    half_PP = (above_PP - above_PP.T) / 2
    unit_PP = jnp.eye(width, dtype=entries_T.dtype)
    return jnp.linalg.solve(unit_PP - half_PP, unit_PP + half_PP)


def plain_coordinates(w_XRP: Float[Array, "X R P"], turning: bool) -> Coordinates:
    """v = W, beside turns that are all zero when there are any."""
    count, width = len(w_XRP), w_XRP.shape[2]
    turns = np.zeros((_turns(width, turning),) * 2, w_XRP.dtype)
    basis = np.broadcast_to(np.eye(width, dtype=w_XRP.dtype), (count, width, width))
    return Coordinates(np.ones_like(w_XRP), basis, turns)


def scaled_coordinates(
    w_XRP: Float[Array, "X R P"],
    x_NR: Float[Array, "N R"],
    weight_N: Float[Array, " N"],
    sigma: float,
    lam: float,
    flattest_turn: float | None,
) -> Coordinates:
    """Coordinates of the weights W, from the Hessian with frozen gates.

    Args:
      w_XRP: W1 and W2 stacked, or the one matrix when tied.
      x_NR: samples in principal coordinates, of most power first.
      weight_N: their weights, summing to 1.
      sigma, lam: noise level and weight decay.
      flattest_turn: curvature that is added to that of all turns, relative to the largest; a small
        one lets unit steps turn far. None for no turns, as from `MOST_TURNING` units on.
    """
    scale_XRP, basis_XPP, largest = jax.device_get(_scales(w_XRP, x_NR, weight_N, sigma, lam))
    turns_TT = np.zeros((0, 0), scale_XRP.dtype)
    if _turns(w_XRP.shape[2], flattest_turn is not None):
        blocks_PPP = turning_curvature(w_XRP[0], w_XRP[-1], x_NR, weight_N)
        turns_TT = _unit_turns(np.asarray(blocks_PPP, float), float(largest), flattest_turn)
    return Coordinates(scale_XRP, basis_XPP, turns_TT.astype(scale_XRP.dtype))


def _turns(width: int, turning: bool) -> int:
    return width * (width - 1) // 2 if turning and width <= MOST_TURNING else 0


@jax.jit
def _scales(w_XRP, x_NR, weight_N, sigma, lam):
    """Scale, basis and the largest curvature, without what couples different units.

    In W2 it is E hhᵀ; in W1 it is the second moment of the data, diagonal in principal
    coordinates, times ‖w2_j‖² and how often unit j is active. A tied matrix has the sum of both.
    """
    w1_RP, w2_RP = w_XRP[0], w_XRP[-1]
    a_NP = x_NR @ w1_RP
    active_P = weight_N @ (a_NP > 0)
    h_NP = jnp.maximum(a_NP, 0.0)
    second_PP = (weight_N[:, None] * h_NP).T @ h_NP + 0.5 * sigma**2 * w1_RP.T @ w1_RP
    moment_P, vectors_PP = jnp.linalg.eigh(second_PP)
    power_R = weight_N @ x_NR**2 + sigma**2
    gain_P = active_P * jnp.sum(w2_RP**2, axis=0)
    decoder_RP = jnp.broadcast_to(jnp.maximum(moment_P, 0.0) + lam, w2_RP.shape)
    if len(w_XRP) == 1:
        curvature_XRP = (decoder_RP + power_R[:, None] * jnp.mean(gain_P) + lam)[None]
        basis_XPP = vectors_PP[None]
    else:
        encoder_RP = power_R[:, None] * gain_P + lam
        curvature_XRP = jnp.stack([encoder_RP, decoder_RP])
        basis_XPP = jnp.stack([jnp.eye(len(gain_P), dtype=x_NR.dtype), vectors_PP])
    # At least one, so that the gradient in v is no smaller than that in W.
    largest = jnp.max(curvature_XRP)
    scale_XRP = jnp.sqrt(largest / jnp.maximum(curvature_XRP, FLATTEST * largest))
    return scale_XRP, basis_XPP, largest


@jax.jit
def turning_curvature(
    w1_RP: Float[Array, "R P"],
    w2_RP: Float[Array, "R P"],
    x_NR: Float[Array, "N R"],
    weight_N: Float[Array, " N"],
) -> Float[Array, "P P P"]:
    """What a turn W → W exp(A) costs, with frozen gates g, clean samples and orthogonal decoder
    columns: Σ_jkl A_jk A_jl C_jkl with C_jkl = ‖w2_j‖² E (g_k − g_j)(g_l − g_j) a_k a_l.

    Only samples where gates differ count, as f changes by Σ_j w2_j Σ_k A_jk (g_k − g_j) a_k.
    """
    a_NP = x_NR @ w1_RP
    open_NP, shut_NP = jnp.maximum(a_NP, 0.0), jnp.maximum(-a_NP, 0.0)

    def of_unit(unit):
        active_N, size = unit
        with_open_PP = (weight_N * ~active_N * open_NP.T) @ open_NP
        with_shut_PP = (weight_N * active_N * shut_NP.T) @ shut_NP
        return size * (with_open_PP + with_shut_PP)

    return jax.lax.map(of_unit, ((a_NP > 0).T, jnp.sum(w2_RP**2, axis=0)))


def _unit_turns(
    curvature_PPP: Float[np.ndarray, "P P P"], largest: float, flattest: float
) -> Float[np.ndarray, "T T"]:
    """Turns whose cost is ``largest``·t², by the Cholesky factor of the cost."""
    metric_TT = turning_metric(curvature_PPP)
    np.fill_diagonal(metric_TT, metric_TT.diagonal() + flattest * largest)
    factor_TT = scipy.linalg.cholesky(metric_TT, lower=True, overwrite_a=True)
    inverse_TT, _ = scipy.linalg.lapack.dtrtri(factor_TT, lower=1)
    return np.sqrt(largest) * inverse_TT


def turning_metric(curvature_PPP: Float[np.ndarray, "P P P"]) -> Float[np.ndarray, "T T"]:
    """The cost of `turning_curvature` as a quadratic form in the entries of A above its diagonal,
    in the order of ``np.triu_indices``."""
    width = len(curvature_PPP)
    rows, columns = np.triu_indices(width, 1)
    entry_PP = np.zeros((width, width), int)
    entry_PP[rows, columns] = entry_PP[columns, rows] = np.arange(len(rows))
    metric_TT = np.zeros((len(rows), len(rows)))
    for unit in range(width):
        others = np.delete(np.arange(width), unit)
        sign = np.where(unit < others, 1.0, -1.0)  # A_jk = −A_kj
        entries = np.ix_(entry_PP[unit, others], entry_PP[unit, others])
        block_PP = curvature_PPP[unit][np.ix_(others, others)]
        metric_TT[entries] += sign[:, None] * block_PP * sign
    return metric_TT
