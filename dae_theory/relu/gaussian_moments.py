"""Moments of rectified Gaussians, exact and differentiable up to perfect correlation.

A unit sees the pre-activation ``a = s (z + g)`` with ``g ~ N(0, 1)``; two units have
correlation ``rho``. Everything here is for unit scale (``s = 1``), elementwise over
broadcastable arrays, and follows docs/THEORY.md#exact-loss. Derivatives come from Price's
theorem, not from differentiating the quadrature, and are themselves differentiable.

``q = sqrt(1 - rho**2)`` is passed beside ``rho``: near collinear units it carries the
information that ``rho`` loses to rounding (``pair_correlations`` computes both).

What is compiled for itself here is traced once for all programs that it is a part of.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from jax.scipy.stats.norm import pdf
from jaxtyping import Array, Float

# The integrand of Owen's T is even: the positive half of a rule on [-1, 1] does for [0, 1].
# As Python floats: NumPy scalars would turn float32 arrays into float64 ones.
_NODES, _NODE_WEIGHTS = (a[10:].tolist() for a in np.polynomial.legendre.leggauss(20))
_T_MAX = 1e15  # stands for infinity, and its square is finite in float32


def _sign(x: Array) -> Array:
    """Sign with ``_sign(0) = +1``, so that zero is treated as the limit from above."""
    return jnp.where(x < 0, -1.0, 1.0).astype(x.dtype)


def _lower_tail(x: Array) -> Array:
    """Φ(−|x|)."""
    return 0.5 * erfc(np.sqrt(0.5).astype(x.dtype) * _sign(x) * x)


@jax.jit
def cdf(x: Array) -> Array:
    """Standard normal distribution function, to full relative precision in both tails."""
    tail = _lower_tail(x)
    return jnp.where(x < 0, tail, 1 - tail)


@jax.jit
def _owens_t(h: Array, b: Array) -> Array:
    """Owen's T(h, b/h), the probability of {X > h, 0 < Y < X b/h}, for b possibly huge.

    The slope is reduced to [-1, 1], where the Gauss-Legendre nodes are exact to rounding.
    """
    steep = jnp.abs(b) > jnp.abs(h)
    large = jnp.where(steep, b, h)
    small = jnp.where(steep, h, b)
    tiny = jnp.finfo(h.dtype).tiny
    slope = jnp.abs(small) / jnp.maximum(jnp.abs(large), tiny)
    core = jnp.zeros_like(slope)
    for node, weight in zip(_NODES, _NODE_WEIGHTS, strict=True):
        stretch = 1 + (slope * node) ** 2
        core += weight * jnp.exp(-0.5 * large**2 * stretch) / stretch
    core *= slope / (2 * np.pi)
    tail_h, tail_b = _lower_tail(h), _lower_tail(b)
    complement = 0.5 * (tail_h + tail_b) - tail_h * tail_b - core
    return _sign(h) * _sign(b) * jnp.where(steep, complement, core)


@jax.jit
def _conditional(h: Array, k: Array, rho: Array, q: Array) -> tuple[Array, Array]:
    """(h − rho k)/q and (k − rho h)/q, without cancellation at rho = ±1.

    Near collinear units both are huge or undefined, but their sum is not: both must come from
    one gap, so that what rounding adds to one it takes from the other.
    """
    sign = _sign(rho)
    gap = (h - sign * k) / jnp.maximum(q, jnp.finfo(q.dtype).tiny)
    bend = q / (1 + jnp.abs(rho))
    t_h, t_k = gap + sign * k * bend, -sign * gap + sign * h * bend
    return jnp.clip(t_h, -_T_MAX, _T_MAX), jnp.clip(t_k, -_T_MAX, _T_MAX)


def _both_active(h: Array, k: Array, rho: Array, q: Array) -> Array:
    """Bivariate normal distribution function by Owen's T."""
    t_h, t_k = _conditional(h, k, rho, q)
    owens = _owens_t(h, t_k) + _owens_t(k, t_h)
    opposite = jnp.where(_sign(h) != _sign(k), 0.5, 0.0)
    both = jnp.clip(0.5 * (cdf(h) + cdf(k)) - owens - opposite, 0.0, 1.0)
    # Owen's slopes are undefined at the origin.
    at_origin = jnp.maximum(jnp.abs(h), jnp.abs(k)) < np.sqrt(jnp.finfo(h.dtype).tiny)
    return jnp.where(at_origin, 0.25 + jnp.arctan2(rho, q) / (2 * np.pi), both)


class PairMoments(NamedTuple):
    """Joint moments of two units with gates 1_i = 1{h + g_i > 0}, 1_j = 1{k + g_j > 0}."""

    relu_relu: Array
    """E[(h + g_i)_+ (k + g_j)_+], equation (9)."""
    gate_relu: Array
    """E[1_i (k + g_j)_+], the derivative of ``relu_relu`` in h."""
    relu_gate: Array
    """E[(h + g_i)_+ 1_j], the derivative of ``relu_relu`` in k."""
    both_active: Array
    """P(1_i 1_j), the bivariate normal distribution function Φ2: the derivative in rho."""


@jax.custom_jvp
def pair_moments(h: Array, k: Array, rho: Array, q: Array) -> PairMoments:
    """Moments of pairs of units, elementwise over broadcastable arrays."""
    t_h, t_k = _conditional(h, k, rho, q)
    both = _both_active(h, k, rho, q)
    gate_relu = k * both + pdf(k) * cdf(t_h) + rho * pdf(h) * cdf(t_k)
    relu_gate = h * both + pdf(h) * cdf(t_k) + rho * pdf(k) * cdf(t_h)
    boundary = h * pdf(k) * cdf(t_h) + k * pdf(h) * cdf(t_k) + q * pdf(h) * pdf(t_k)
    return PairMoments((h * k + rho) * both + boundary, gate_relu, relu_gate, both)


@pair_moments.defjvp
def _pair_moments_jvp(primals, tangents):
    h, k, rho, q = primals
    dh, dk, drho, _ = tangents
    moments = pair_moments(h, k, rho, q)
    t_h, t_k = _conditional(h, k, rho, q)
    edge_h, edge_k = pdf(h) * cdf(t_k), pdf(k) * cdf(t_h)
    # drho vanishes linearly in q, so its density term has the limit 0 at q = 0.
    corner = jnp.where(q > 0, pdf(h) * pdf(t_k) / jnp.where(q > 0, q, 1.0), 0.0)
    relu_on_edge_h = pdf(h) * q * (t_k * cdf(t_k) + pdf(t_k))
    relu_on_edge_k = pdf(k) * q * (t_h * cdf(t_h) + pdf(t_h))
    both = moments.both_active
    return moments, PairMoments(
        moments.gate_relu * dh + moments.relu_gate * dk + both * drho,
        relu_on_edge_h * dh + both * dk + edge_h * drho,
        both * dh + relu_on_edge_k * dk + edge_k * drho,
        edge_h * dh + edge_k * dk + corner * drho,
    )


def relu_mean(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """E[(z + g)_+] = z Phi(z) + phi(z), equation (9)."""
    return z * cdf(z) + pdf(z)


def relu_square(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """E[(z + g)_+^2] = (1 + z^2) Phi(z) + z phi(z), equation (9)."""
    return (1 + z**2) * cdf(z) + z * pdf(z)


def standard_margins(
    x_ND: Float[Array, "N D"], u_DP: Float[Array, "D P"], sigma: float
) -> Float[Array, "N P"]:
    """z = u_jᵀx_i/σ for unit columns u.

    The barrier makes every use read the same rounded numbers. Without it the compiler may fuse
    the division into each use with its own rounding, and the difference of z of two collinear
    units, which is divided by the sine of their angle, would be noise.
    """
    return jax.lax.optimization_barrier(x_ND @ u_DP / sigma)


def unit_columns(w_DP: Float[Array, "D P"]) -> tuple[Float[Array, "D P"], Float[Array, " P"]]:
    """Columns scaled to unit norm, and the norms. A zero column stays zero, derivative too."""
    square = jnp.sum(w_DP**2, axis=0)
    live = square > 0
    norm = jnp.where(live, jnp.sqrt(jnp.where(live, square, 1.0)), 0.0)
    return w_DP / jnp.where(live, norm, 1.0), norm


def pair_correlations(
    u_DP: Float[Array, "D P"], v_DQ: Float[Array, "D Q"] | None = None
) -> tuple[Float[Array, "P Q"], Float[Array, "P Q"]]:
    """Cosines rho and sines q of all pairs of unit columns, one of u and one of v (default: u); q
    keeps full relative precision.

    q is held constant under differentiation: the rules above account for it through rho.
    """
    v_DQ = u_DP if v_DQ is None else v_DQ
    rho_PQ = u_DP.T @ v_DQ
    u_PD, v_QD = jax.lax.stop_gradient(u_DP).T, jax.lax.stop_gradient(v_DQ).T
    sign_PQ = _sign(jax.lax.stop_gradient(rho_PQ))
    difference_PQD = u_PD[:, None, :] - sign_PQ[:, :, None] * v_QD[None, :, :]
    one_minus = 0.5 * jnp.sum(difference_PQD**2, axis=-1)
    q_PQ = jnp.sqrt(jnp.clip(one_minus * (2 - one_minus), 0.0, 1.0))
    # A zero column is independent of everything: cosine 0, sine 1.
    return rho_PQ, jnp.where(jnp.all(v_DQ == 0, axis=0), 1.0, q_PQ)
