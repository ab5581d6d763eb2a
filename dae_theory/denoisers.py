"""Denoisers behind one interface: called with noisy samples y (N, D) and σ, they return x̂ (N, D).

Exact ones are posterior means E[x | y] under a known distribution (THEORY.md §1); all are pure
and jit-compatible, and their score is (x̂ − y)/σ².
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dae_theory.model import denoise

Denoiser = Callable[[Float[Array, "N D"], float], Float[Array, "N D"]]


def empirical_denoiser(x_ND: Float[Array, "N D"]) -> Denoiser:
    """Posterior mean under the empirical distribution of the training samples ``x_ND``:
    f_emp(y) = Σ_i softmax_i(−‖y−x_i‖²/2σ²) x_i."""
    x_ND = jnp.asarray(x_ND)
    half_square_N = 0.5 * jnp.sum(x_ND**2, axis=1)

    def denoiser(y_MD: Array, sigma: float) -> Array:
        # ‖y‖² is common to all samples and drops out of the softmax.
        logits_MN = (y_MD @ x_ND.T - half_square_N) / sigma**2
        return jax.nn.softmax(logits_MN, axis=1) @ x_ND

    return denoiser


def mixture_denoiser(
    means_KD: Float[Array, "K D"], covs_KDD: Float[Array, "K D D"], priors_K: Float[Array, " K"]
) -> Denoiser:
    """Posterior mean f_gt under Σ_k ρ_k N(μ_k, Σ_k); singular covariances are allowed."""
    values_KD, vectors_KDD = jnp.linalg.eigh(jnp.asarray(covs_KDD))
    return spectral_mixture_denoiser(means_KD, values_KD, vectors_KDD, priors_K)


def spectral_mixture_denoiser(
    means_KD: Float[Array, "K D"],
    values_KD: Float[Array, "K D"],
    vectors_KDD: Float[Array, "K D D"],
    priors_K: Float[Array, " K"],
) -> Denoiser:
    """`mixture_denoiser` from the eigenvalues and eigenvectors (columns) of the covariances."""
    means_KD, priors_K = jnp.asarray(means_KD), jnp.asarray(priors_K)
    values_KD = jnp.maximum(values_KD, 0.0)

    def denoiser(y_MD: Array, sigma: float) -> Array:
        variance_KD = values_KD + sigma**2
        centred_MKD = y_MD[:, None, :] - means_KD
        coefficient_MKD = jnp.einsum("kde,mkd->mke", vectors_KDD, centred_MKD)
        log_density_MK = -0.5 * jnp.sum(coefficient_MKD**2 / variance_KD, axis=-1)
        log_density_MK -= 0.5 * jnp.sum(jnp.log(variance_KD), axis=-1)
        posterior_MK = jax.nn.softmax(jnp.log(priors_K) + log_density_MK, axis=1)
        shrunk_MKD = jnp.einsum(
            "kde,mke->mkd", vectors_KDD, coefficient_MKD * (values_KD / variance_KD)
        )
        return jnp.einsum("mk,mkd->md", posterior_MK, means_KD + shrunk_MKD)

    return denoiser


def gaussian_denoiser(mean_D: Float[Array, " D"], cov_DD: Float[Array, "D D"]) -> Denoiser:
    """Posterior mean under one Gaussian, the global Wiener filter."""
    return mixture_denoiser(jnp.asarray(mean_D)[None], jnp.asarray(cov_DD)[None], jnp.ones(1))


def relu_denoiser(w1_DP: Float[Array, "D P"], w2_DP: Float[Array, "D P"]) -> Denoiser:
    """A ReLU DAE as a denoiser. It was trained at one σ and ignores the one it is called with."""
    w1_DP, w2_DP = jnp.asarray(w1_DP), jnp.asarray(w2_DP)
    return lambda y_MD, sigma: denoise(w1_DP, w2_DP, y_MD)
