"""Diffusion around any `Denoiser`: noise levels, samplers of the probability flow and of the
reverse SDE, classifier-free guidance.

Variance-exploding throughout: y = x + σ ε. The score is (D(y, σ) − y)/σ² (docs/THEORY.md#score), so
the probability flow is dy/dσ = (y − D(y, σ))/σ (Karras et al. 2022, "EDM", eq. 1 with s = 1). σ has
the units of the data, whose scale is arbitrary. Samplers are pure, and deterministic given start
and key; a caller that samples repeatedly compiles them, as in
``jax.jit(lambda start_ND: sample_ode(denoiser, start_ND, sigmas_T))``.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.checks import InputError, check_count
from dae_theory.diffusion.denoisers import Denoiser

METHODS = ("euler", "heun")


def start_noise(
    key: PRNGKeyArray, n: int, d: int, sigma_max: float, dtype: jnp.dtype = float
) -> Float[Array, "N D"]:
    """``n`` starts σ_max ε of a sampler, in R^d: right for data of zero mean and of size ≪ σ_max.

    Raises:
      InputError: unless n, d ≥ 1 and 0 < σ_max < ∞.
    """
    check_count(n, "n")
    check_count(d, "d")
    if not (np.isfinite(sigma_max) and sigma_max > 0):
        raise InputError(f"sigma_max: must be finite and > 0, got {sigma_max}")
    return sigma_max * jax.random.normal(key, (n, d), dtype)


def sample_ode(
    denoiser: Denoiser,
    start_ND: Float[Array, "N D"],
    sigmas_T: Float[Array, " T"],
    method: str = "heun",
) -> Float[Array, "N D"]:
    """Integrate the probability flow dy/dσ = (y − D(y, σ))/σ along the noise levels.

    Args:
      denoiser: D, called only at levels > 0.
      start_ND: noisy samples at the first level (`start_noise`).
      sigmas_T: decreasing, T − 1 steps; the last may be 0, and the result then is D at the level
        before (Euler) for either method.
      method: 'euler', first order, one call of D a step; or 'heun', second order, two calls
        except in a step to 0 (EDM, algorithm 1).

    Returns:
      The samples at the last level, in the dtype of the starts.

    Raises:
      InputError: for an unknown method.
    """
    if method not in METHODS:
        raise InputError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")

    def slope(y_ND, sigma):
        return (y_ND - denoiser(y_ND, sigma).astype(y_ND.dtype)) / sigma

    def step(y_ND, levels):
        sigma, following = levels
        here_ND = slope(y_ND, sigma)
        euler_ND = y_ND + (following - sigma) * here_ND
        if method == "euler":
            return euler_ND, None

        def corrected():
            there_ND = slope(euler_ND, following)
            return y_ND + (following - sigma) * (here_ND + there_ND) / 2

        return jax.lax.cond(following > 0, corrected, lambda: euler_ND), None

    start_ND = jnp.asarray(start_ND)
    sigmas_T = jnp.asarray(sigmas_T, start_ND.dtype)
    return jax.lax.scan(step, start_ND, (sigmas_T[:-1], sigmas_T[1:]))[0]


def sample_sde(
    key: PRNGKeyArray,
    denoiser: Denoiser,
    start_ND: Float[Array, "N D"],
    sigmas_T: Float[Array, " T"],
) -> Float[Array, "N D"]:
    """Integrate the reverse SDE along the noise levels by ancestral steps.

    A step from σ to s draws from the law of the less noisy sample given the noisy one and
    x = D(y, σ): mean D + (s/σ)² (y − D), variance s² (1 − s²/σ²) (Ho et al. 2020, eq. 7, with
    exploding variance). Like Euler–Maruyama it is of first order in the step; unlike it, it is
    exact however long the step when the posterior is a single point, as it is at low noise near
    a memorized sample, never overshoots, and adds no noise in a step to 0.

    Args:
      key: of the noise.
      denoiser: D, called only at levels > 0.
      start_ND: noisy samples at the first level (`start_noise`).
      sigmas_T: decreasing, T − 1 steps; the last may be 0.

    Returns:
      The samples at the last level, in the dtype of the starts.
    """

    def step(y_ND, inputs):
        sigma, following, key = inputs
        clean_ND = denoiser(y_ND, sigma).astype(y_ND.dtype)
        ratio = following / sigma
        noise_ND = jax.random.normal(key, y_ND.shape, y_ND.dtype)
        spread = following * jnp.sqrt(1 - ratio**2)
        return clean_ND + ratio**2 * (y_ND - clean_ND) + spread * noise_ND, None

    start_ND = jnp.asarray(start_ND)
    sigmas_T = jnp.asarray(sigmas_T, start_ND.dtype)
    keys_T = jax.random.split(key, len(sigmas_T) - 1)
    return jax.lax.scan(step, start_ND, (sigmas_T[:-1], sigmas_T[1:], keys_T))[0]


def guided(conditional: Denoiser, unconditional: Denoiser, weight: float) -> Denoiser:
    """Classifier-free guidance D_u + w (D_c − D_u) (Ho & Salimans 2022).

    Weight 0 is the unconditional denoiser, 1 the conditional one, > 1 overshoots it. Their
    guidance strength is w − 1.
    """

    def denoiser(y_ND: Array, sigma: float) -> Array:
        without_ND = unconditional(y_ND, sigma)
        return without_ND + weight * (conditional(y_ND, sigma) - without_ND)

    return denoiser
