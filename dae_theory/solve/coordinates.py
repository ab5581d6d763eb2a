"""Variables in which the Hessian of the loss is closer to a multiple of the identity.

Near a minimum of the loss of many samples, curvatures differ widely for two reasons. The data have
much more power in some directions than in others: that is scaled away. And units that are active
on nearly all samples are nearly linear, so that mixing such units, W1 → W1 B and W2 → W2 B⁻ᵀ,
hardly changes f: it does on samples where just one of two gates is closed. Mixing gets variables
of its own, and the Hessian with frozen gates makes their curvatures equal. A tied matrix allows
rotations only.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from jaxtyping import Array, Float

FLATTEST = 1e-6  # curvature that is told from zero, relative to the largest
MOST_MIXING = 128  # units; the metric of their rotations has (P²/2)² entries


class Coordinates(NamedTuple):
    """Variables v = (u, t) of the weights W, X = 2 for W1 and W2 stacked, 1 for a tied matrix:
    W = (scale ∘ u) basisᵀ, then W1 B and W2 B⁻ᵀ with B = (1 − E/2)⁻¹ (1 + E/2).

    Untied, column j of E is t_j · ``mixing``_j. Tied, E is antisymmetric and its entries above the
    diagonal are t · ``mixing``, so that B = B⁻ᵀ is a rotation. Every W is reached with t = 0;
    ``mixing`` without entries stands for no t.
    """

    scale: Float[Array, "X R P"]
    basis: Float[Array, "X P P"]
    mixing: Float[Array, "T T"] | Float[Array, "P P P"]

    def weights(self, v_S: Float[Array, " S"]) -> Float[Array, "X R P"]:
        """W of the variables v."""
        u_S, t_T = jnp.split(v_S, [self.scale.size])
        w_XRP = (self.scale * u_S.reshape(self.scale.shape)) @ self.basis.mT
        if self.mixing.size == 0:
            return w_XRP
        if len(w_XRP) == 1:
            return w_XRP @ _cayley(_antisymmetric(t_T @ self.mixing, w_XRP.shape[2]))
        t_PP = t_T.reshape(self.mixing.shape[:2])
        e_PP = jnp.einsum("jm,jmk->kj", t_PP, self.mixing)
        return jnp.stack([w_XRP[0] @ _cayley(e_PP), w_XRP[1] @ _cayley(-e_PP).T])

    def variables(self, w_XRP: Float[Array, "X R P"]) -> Float[Array, " S"]:
        """v of the weights W, with t = 0."""
        u_XRP = w_XRP @ self.basis / self.scale
        t_T = np.zeros(np.prod(self.mixing.shape[:-1]), u_XRP.dtype)
        return np.concatenate([np.ravel(u_XRP), t_T])


def _antisymmetric(entries_T: Array, width: int) -> Float[Array, "P P"]:
    """The matrix with these entries above its diagonal, in the order of ``np.triu_indices``."""
    above_PP = jnp.zeros((width, width), entries_T.dtype)
    above_PP = above_PP.at[np.triu_indices(width, 1)].set(entries_T)
    return above_PP - above_PP.T


def _cayley(e_PP: Array) -> Float[Array, "P P"]:
    """(1 − E/2)⁻¹ (1 + E/2); that of −E is the inverse."""
    unit_PP = jnp.eye(len(e_PP), dtype=e_PP.dtype)
    return jnp.linalg.solve(unit_PP - e_PP / 2, unit_PP + e_PP / 2)


def plain_coordinates(w_XRP: Float[Array, "X R P"], mixing: bool) -> Coordinates:
    """v = W, and with ``mixing`` a t behind it that mixes nothing."""
    count, _, width = w_XRP.shape
    basis = np.broadcast_to(np.eye(width, dtype=w_XRP.dtype), (count, width, width))
    nothing = np.zeros(_mixing_shape(count, width, mixing), w_XRP.dtype)
    return Coordinates(np.ones_like(w_XRP), basis, nothing)


def scaled_coordinates(
    w_XRP: Float[Array, "X R P"],
    x_NR: Float[Array, "N R"],
    weight_N: Float[Array, " N"],
    sigma: float,
    lam: float,
    flattest_mixing: float | None,
) -> Coordinates:
    """Coordinates of the weights W, from the Hessian with frozen gates.

    Args:
      w_XRP: W1 and W2 stacked, or the one matrix when tied.
      x_NR: samples in principal coordinates, of most power first.
      weight_N: their weights, summing to 1.
      sigma, lam: noise level and weight decay.
      flattest_mixing: curvature that is added to that of all mixing, relative to the largest; a
        small one lets unit steps mix much. None for no mixing; more than `MOST_MIXING` units have
        none.
    """
    scale_XRP, basis_XPP, largest = jax.device_get(_scales(w_XRP, x_NR, weight_N, sigma, lam))
    count, _, width = w_XRP.shape
    shape = _mixing_shape(count, width, flattest_mixing is not None)
    if 0 in shape:
        return Coordinates(scale_XRP, basis_XPP, np.zeros(shape, scale_XRP.dtype))
    cost = np.array(gate_curvature(w_XRP[0], w_XRP[-1], x_NR, weight_N), float)
    if count == 1:
        cost = rotation_metric(cost)[None]
    else:
        # Of the weight decay, without what couples E_jk with E_kj.
        squares_XP = np.sum(np.square(w_XRP, dtype=float), axis=1)
        cost[:, range(width), range(width)] += lam * (squares_XP[0] + squares_XP[1][:, None])
    flat = np.arange(shape[-1])
    cost[..., flat, flat] += flattest_mixing * float(largest)
    # Unit steps of t cost the largest curvature.
    mixing = np.sqrt(float(largest)) * np.stack([_inverse_factor(block) for block in cost])
    return Coordinates(scale_XRP, basis_XPP, mixing.reshape(shape).astype(scale_XRP.dtype))


def _inverse_factor(cost: Float[np.ndarray, "T T"]) -> Float[np.ndarray, "T T"]:
    """The inverse of the lower Cholesky factor, at a third of what a general inverse takes."""
    factor = scipy.linalg.cholesky(cost, lower=True)
    return scipy.linalg.lapack.dtrtri(factor, lower=1)[0]


def _mixing_shape(count: int, width: int, mixing: bool) -> tuple[int, ...]:
    if not mixing or width > MOST_MIXING:
        return (0, 0)
    return (width * (width - 1) // 2,) * 2 if count == 1 else (width,) * 3


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
    # Above zero for zero weights, too, which have no curvature without weight decay.
    largest = jnp.maximum(jnp.max(curvature_XRP), jnp.finfo(curvature_XRP.dtype).tiny ** 0.5)
    # At least one, so that the gradient in v is no smaller than that in W.
    scale_XRP = jnp.sqrt(largest / jnp.maximum(curvature_XRP, FLATTEST * largest))
    return scale_XRP, basis_XPP, largest


@jax.jit
def gate_curvature(
    w1_RP: Float[Array, "R P"],
    w2_RP: Float[Array, "R P"],
    x_NR: Float[Array, "N R"],
    weight_N: Float[Array, " N"],
) -> Float[Array, "P P P"]:
    """How far mixing by B = 1 + E moves f, with frozen gates g, clean samples and orthogonal
    columns of W2: E‖Δf‖² = Σ_jkl E_kj E_lj C_jkl, C_jkl = ‖w2_j‖² E (g_k − g_j)(g_l − g_j) a_k a_l.

    Only samples where gates differ count, as Δf = Σ_j w2_j Σ_k E_kj (g_j − g_k) a_k.
    """
    a_NP = x_NR @ w1_RP
    open_NP, shut_NP = jnp.maximum(a_NP, 0.0), jnp.maximum(-a_NP, 0.0)

    def of_unit(unit):
        active_N, size = unit
        with_open_PP = (weight_N * ~active_N * open_NP.T) @ open_NP
        with_shut_PP = (weight_N * active_N * shut_NP.T) @ shut_NP
        return size * (with_open_PP + with_shut_PP)

    return jax.lax.map(of_unit, ((a_NP > 0).T, jnp.sum(w2_RP**2, axis=0)))


def rotation_metric(curvature_PPP: Float[np.ndarray, "P P P"]) -> Float[np.ndarray, "T T"]:
    """The cost of `gate_curvature` as a quadratic form in the entries of an antisymmetric E above
    its diagonal, in the order of ``np.triu_indices``."""
    width = len(curvature_PPP)
    rows, columns = np.triu_indices(width, 1)
    entry_PP = np.zeros((width, width), int)
    entry_PP[rows, columns] = entry_PP[columns, rows] = np.arange(len(rows))
    metric_TT = np.zeros((len(rows), len(rows)))
    for unit in range(width):
        others = np.delete(np.arange(width), unit)
        sign = np.where(unit < others, 1.0, -1.0)  # E_jk = −E_kj
        entries = np.ix_(entry_PP[unit, others], entry_PP[unit, others])
        block_PP = curvature_PPP[unit][np.ix_(others, others)]
        metric_TT[entries] += sign[:, None] * block_PP * sign
    return metric_TT
