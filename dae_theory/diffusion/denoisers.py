"""Denoisers behind one interface: called with noisy samples y (N, D) and σ, they return x̂ (N, D).

Exact ones are posterior means E[x | y] under a known distribution (docs/THEORY.md#denoisers); all
are pure and jit-compatible, and their score is (x̂ − y)/σ².
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.checks import InputError, check_count
from dae_theory.relu.model import denoise

Denoiser = Callable[[Float[Array, "N D"], float | Float[Array, ""]], Float[Array, "N D"]]
RADII = np.linspace(-8, 8, 65)  # nodes of the trapezoid rule, in widths of the peak
LOCAL_BATCH = 64  # noisy samples whose neighbours are held in memory at once


def empirical_denoiser(x_ND: Float[Array, "N D"]) -> Denoiser:
    """Posterior mean under the empirical distribution of the training samples ``x_ND``:
    f_emp(y) = Σ_i softmax_i(−‖y−x_i‖²/2σ²) x_i."""
    return functools.partial(_empirical_mean, jnp.asarray(x_ND))


@jax.jit
def _empirical_mean(x_ND: Array, y_MD: Array, sigma: float) -> Array:
    # ‖y‖² is common to all samples and drops out of the softmax.
    logits_MN = (y_MD @ x_ND.T - 0.5 * jnp.sum(x_ND**2, axis=1)) / sigma**2
    return jax.nn.softmax(logits_MN, axis=1) @ x_ND


def homogeneous_empirical_denoiser(x_ND: Float[Array, "N D"]) -> Denoiser:
    """Minimizer of the data term of (1) over all D with D(cy) = c D(y), c > 0:
    docs/THEORY.md#deep-homogeneous.

    D(y) = ‖y‖ E[r x | u]/E[r² | u] with r = ‖y‖, u = y/r: a net without biases cannot tell by the
    length of y how much noise is in it.
    """
    x_ND = jnp.asarray(x_ND)
    square_N, dimension = jnp.sum(x_ND**2, axis=1), x_ND.shape[1]

    def denoiser(y_MD: Array, sigma: float) -> Array:
        length_M1 = jnp.linalg.norm(y_MD, axis=1, keepdims=True)
        along_MN = (y_MD / length_M1) @ x_ND.T
        # r^(D−1) exp(−‖ru − x‖²/2σ²) has one peak, of width σ or less.
        peak_MN = (along_MN + jnp.sqrt(along_MN**2 + 4 * (dimension - 1) * sigma**2)) / 2
        r_MNQ = peak_MN[..., None] + sigma * RADII
        there_MNQ = r_MNQ > 0
        r_MNQ = jnp.where(there_MNQ, r_MNQ, 1.0)
        log_MNQ = jnp.where(there_MNQ, (dimension - 1) * jnp.log(r_MNQ), -jnp.inf)
        log_MNQ -= (r_MNQ * (r_MNQ - 2 * along_MN[..., None]) + square_N[:, None]) / (2 * sigma**2)
        weight_MNQ = jax.nn.softmax(log_MNQ, axis=(1, 2))
        first_MN = jnp.sum(weight_MNQ * r_MNQ, axis=2)
        second_M1 = jnp.sum(weight_MNQ * r_MNQ**2, axis=(1, 2))[:, None]
        return length_M1 * (first_MN @ x_ND) / second_M1

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


def local_pca_denoiser(x_ND: Float[Array, "N D"], neighbours: int, rank: int) -> Denoiser:
    """Posterior mean under a Gaussian fitted to the nearest training samples of each y.

    The Gaussian has the mean and the leading ``rank`` principal components (eigenvalues over
    ``neighbours``, not one less) of the ``neighbours`` samples nearest to y. All samples and the
    full rank give `gaussian_denoiser`; one neighbour and rank 0 give the nearest sample.

    Raises:
      InputError: unless 1 ≤ neighbours ≤ N and 0 ≤ rank ≤ min(neighbours − 1, D).
    """
    x_ND = jnp.asarray(x_ND)
    n_samples, n_features = x_ND.shape
    if not 1 <= neighbours <= n_samples:
        raise InputError(f"neighbours: must be in 1 .. {n_samples} (samples), got {neighbours}")
    highest = min(neighbours - 1, n_features)
    if not 0 <= rank <= highest:
        raise InputError(f"rank: {neighbours} neighbours allow 0 .. {highest}, got {rank}")
    half_square_N = 0.5 * jnp.sum(x_ND**2, axis=1)

    def denoiser(y_MD: Array, sigma: float) -> Array:
        def at(y_D):
            nearest_K = jax.lax.top_k(x_ND @ y_D - half_square_N, neighbours)[1]
            mean_D = jnp.mean(x_ND[nearest_K], axis=0)
            centred_KD = x_ND[nearest_K] - mean_D
            # From the K×K Gram matrix, whose eigenvectors u give the components C^T u / √(Kλ);
            # the λ of the filter λ/(λ + σ²) cancels, so that none is divided by.
            values_K, vectors_KK = jnp.linalg.eigh(centred_KD @ centred_KD.T / neighbours)
            values_R, vectors_KR = values_K[neighbours - rank :], vectors_KK[:, neighbours - rank :]
            coefficient_R = vectors_KR.T @ (centred_KD @ (y_D - mean_D))
            filtered_R = coefficient_R / (neighbours * (jnp.maximum(values_R, 0) + sigma**2))
            return mean_D + (vectors_KR @ filtered_R) @ centred_KD

        return jax.lax.map(at, jnp.asarray(y_MD), batch_size=LOCAL_BATCH)

    return denoiser


def switching_denoiser(denoisers: Sequence[Denoiser], sigmas: Sequence[float]) -> Denoiser:
    """A set of denoisers, each for one σ, as one: the nearest in log σ is used.

    Below the lowest and above the highest level the one at that end is used. It is called with the
    σ asked for, which nets trained at one σ ignore. σ may be traced.

    Raises:
      InputError: unless there is one finite σ > 0 per denoiser, and at least one.
    """
    sigmas_S = np.asarray(sigmas, float)
    if len(denoisers) == 0 or sigmas_S.shape != (len(denoisers),):
        raise InputError(
            f"sigmas: need one per denoiser, got {sigmas_S.size} for {len(denoisers)} denoisers"
        )
    if not np.all(np.isfinite(sigmas_S) & (sigmas_S > 0)):
        raise InputError(f"sigmas: must be finite and > 0, got {sigmas_S.tolist()}")
    order_S = np.argsort(sigmas_S)
    branches = [denoisers[index] for index in order_S]
    # Against geometric midpoints, not log σ, so that σ = 0 belongs to the lowest.
    midpoints = np.sqrt(sigmas_S[order_S][:-1] * sigmas_S[order_S][1:])

    def denoiser(y_MD: Array, sigma: float) -> Array:
        index = jnp.searchsorted(jnp.asarray(midpoints), sigma)
        return jax.lax.switch(index, branches, jnp.asarray(y_MD), sigma)

    return denoiser


class DenoisingErrors(NamedTuple):
    """``mean`` (T) over samples of ‖x̂ − x‖², in squared data units, and its ``standard_error`` (T)
    over samples (NaN for a single one)."""

    mean: Float[Array, " T"]
    standard_error: Float[Array, " T"]


def denoising_errors(
    key: PRNGKeyArray,
    denoiser: Denoiser,
    x_ND: Float[Array, "N D"],
    sigmas_T: Float[Array, " T"],
    draws: int = 1,
) -> DenoisingErrors:
    """Squared error ‖D(x + σε, σ) − x‖² per sample at each noise level, summed over features.

    Averaged over ``draws`` noise draws a sample, then over samples. The standard error is that of
    the second average: of x_ND as drawn from a population, with its noise. Equal keys use equal
    noise ε, at all levels and for all denoisers, so that differences have less of it.

    Raises:
      InputError: unless draws ≥ 1.
    """
    check_count(draws, "draws")
    x_ND = jnp.asarray(x_ND)
    keys_M = jax.random.split(key, draws)

    def at_level(sigma):
        def once(key):
            y_ND = x_ND + sigma * jax.random.normal(key, x_ND.shape, x_ND.dtype)
            return jnp.sum((denoiser(y_ND, sigma) - x_ND) ** 2, axis=1)

        error_N = jnp.mean(jax.lax.map(once, keys_M), axis=0)
        return jnp.mean(error_N), jnp.std(error_N, ddof=1) / len(x_ND) ** 0.5

    return DenoisingErrors(*jax.lax.map(at_level, jnp.asarray(sigmas_T, x_ND.dtype)))
