"""The closed forms of the theory, as functions that return a prediction (docs/THEORY.md#thm-3.1).

Each cluster k is a block of units; inside it the net is the linear map
M_k = U diag(m) Uᵀ with gains m. Memorization is the case of one sample per block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.fft import dct
from scipy.linalg import hadamard

from dae_theory.checks import InputError, check_count, check_noise_and_decay, check_samples
from dae_theory.data.dataset import Mixture
from dae_theory.theory.separability import gate_margin


@dataclass(frozen=True)
class Prediction:
    """A local minimizer as the theory predicts it.

    Attributes:
      w1, w2: weights (D, P); w1 = w2. Unused units are zero columns.
      blocks: (P,) cluster of each unit, −1 for an unused unit.
      directions: for each cluster, orthonormal columns (D, r_k) that its block keeps.
      gains: for each cluster the gains m (r_k,) along ``directions``; for memorization one
        array (N,), the gain of each sample.
      loss: value of the training objective (1), with weight decay.
      margin: gate margin z in noise standard deviations (`separability.gate_margin`); for the
        population limit see `predict_generalization`.
      sigma, lam: the noise level and weight decay predicted for.
      labels: (N,) cluster of each sample; None for the population limit.
      test_loss: denoising loss on fresh data without weight decay; population limit only.
    """

    w1: Float[np.ndarray, "D P"]
    w2: Float[np.ndarray, "D P"]
    blocks: Int[np.ndarray, " P"]
    directions: tuple[Float[np.ndarray, "D R"], ...]
    gains: Float[np.ndarray, " N"] | tuple[Float[np.ndarray, " R"], ...]
    loss: float
    margin: float
    sigma: float
    lam: float
    labels: Int[np.ndarray, " N"] | None
    test_loss: float | None = None

    def operator(self, k: int) -> Float[np.ndarray, "D D"]:
        """M_k = U diag(m) Uᵀ of cluster k, equation (2)."""
        u_DR = self.directions[k]
        return (u_DR * np.atleast_1d(self.gains[k])) @ u_DR.T


def block_gains(
    eigenvalues: Float[np.ndarray, " R"], decay: float, noise: float
) -> Float[np.ndarray, " R"]:
    """Gains m = (s − decay)_+ / (s + noise), equation (2): decay = nλ and noise = n_k σ².

    Arrays of NumPy or JAX.
    """
    return (eigenvalues - decay).clip(0.0) / (eigenvalues + noise)


def spread_rotation(width: int, rank: int) -> Float[np.ndarray, "P R"]:
    """Orthonormal columns O with entries as even as possible, the first column constant 1/√width.

    Every unit of a block then sees the mean direction with equal weight, and no unit sees so
    much of another direction that its gate closes (docs/THEORY.md#rotations). Hadamard columns
    when the width is a power of two (all entries ±1/√width), else cosines (DCT-II, at most
    √(2/width)).
    """
    if width == 0:
        return np.zeros((0, rank))
    if width & (width - 1) == 0:
        return hadamard(width)[:, :rank] / np.sqrt(width)
    return dct(np.eye(width), norm="ortho", axis=0).T[:, :rank]


def predict_memorization(
    x_ND: Float[Array, "N D"], sigma: float, lam: float, width: int | None = None
) -> Prediction:
    """Corollary 3.2, equation (5): each sample is a cluster of its own and stored in one unit.

    Args:
      x_ND: training samples.
      sigma: noise level σ > 0.
      lam: weight decay λ ≥ 0 of objective (1).
      width: number of units P ≥ N (default N); units past the N-th are zero columns.

    Raises:
      InputError: for unusable data, or P < N.
    """
    x_ND = check_samples(x_ND)
    check_noise_and_decay(sigma, lam)
    n, d = x_ND.shape
    width = n if width is None else width
    if width < n:
        raise InputError(f"width: memorizing {n} samples takes at least {n} units, got {width}")
    square_N = np.sum(x_ND**2, axis=1)
    gains_N = block_gains(square_N, n * lam, sigma**2)
    safe_N = np.where(square_N > 0, square_N, 1.0)
    directions_ND = x_ND / np.sqrt(safe_N)[:, None]
    w_DP = np.zeros((d, width))
    w_DP[:, :n] = (directions_ND * np.sqrt(gains_N)[:, None]).T
    labels_N = np.arange(n)
    blocks_P = np.full(width, -1)
    blocks_P[:n] = np.where(gains_N > 0, labels_N, -1)
    saved_N = np.maximum(square_N - n * lam, 0.0) * gains_N
    return Prediction(
        w1=w_DP,
        w2=w_DP.copy(),
        blocks=blocks_P,
        directions=tuple(direction[:, None] for direction in directions_ND),
        gains=gains_N,
        loss=float(np.mean(square_N - saved_N)),
        margin=gate_margin(w_DP, x_ND, labels_N, blocks_P, sigma),
        sigma=sigma,
        lam=lam,
        labels=labels_N,
    )


def predict_blocks(
    x_ND: Float[Array, "N D"],
    labels_N: Int[Array, " N"],
    widths: Sequence[int],
    sigma: float,
    lam: float,
) -> Prediction:
    """Theorem 3.1, equations (2)-(4): block k keeps the top ``widths[k]`` eigenpairs of X_k X_kᵀ.

    Args:
      x_ND: training samples.
      labels_N: cluster 0 … K−1 of each sample; every cluster must occur.
      widths: units p_k of each block; P is their sum.
      sigma, lam: as in `predict_memorization`.

    Raises:
      InputError: for unusable data, labels that do not match, or negative widths.
    """
    x_ND, labels_N = check_samples(x_ND), np.asarray(labels_N)
    check_noise_and_decay(sigma, lam)
    n, n_clusters = len(x_ND), len(widths)
    if labels_N.shape != (n,) or not np.array_equal(np.unique(labels_N), np.arange(n_clusters)):
        raise InputError(
            f"labels: expected {n} labels that take each value 0 ... {n_clusters - 1}, got shape "
            f"{labels_N.shape} with values {np.unique(labels_N).tolist()[:10]}"
        )
    spectra, loss = [], 0.0
    for k, width in enumerate(widths):
        members_ND = x_ND[labels_N == k]
        u_DR, values = _eigenpairs(members_ND)
        spectra.append((u_DR, values, members_ND.mean(axis=0)))
        gains = block_gains(values, n * lam, len(members_ND) * sigma**2)[: max(width, 0)]
        loss += values.sum() - np.sum(np.maximum(values[: len(gains)] - n * lam, 0.0) * gains)
    counts = np.bincount(labels_N, minlength=n_clusters)
    w_DP, blocks_P, directions, gains = _assemble_blocks(
        spectra, widths, decays=np.full(n_clusters, n * lam), noises=counts * sigma**2
    )
    return Prediction(
        w1=w_DP,
        w2=w_DP.copy(),
        blocks=blocks_P,
        directions=directions,
        gains=gains,
        loss=float(loss / n),
        margin=gate_margin(w_DP, x_ND, labels_N, blocks_P, sigma),
        sigma=sigma,
        lam=lam,
        labels=labels_N,
    )


def predict_generalization(
    means_KD: Float[Array, "K D"],
    covs_KDD: Float[Array, "K D D"],
    priors_K: Float[Array, " K"],
    widths: Sequence[int],
    sigma: float,
    lam: float,
) -> Prediction:
    """Corollary 3.3, equation (6): the block minimizer in the limit of many samples.

    Block k holds the top ``widths[k]`` eigenpairs e of S_k = μ_kμ_kᵀ + Σ_k with gains
    (e − λ/ρ_k)_+/(e + σ²). ``loss`` is the training objective per sample in the limit;
    ``test_loss`` is the same without decay, which tends to equation (7) as λ → 0. ``margin``
    counts standard deviations of noise and within-cluster spread together:
    min over units j and clusters k of ±u_jᵀμ_k / √(σ² + u_jᵀΣ_k u_j).
    """
    means_KD = check_samples(means_KD, "means")
    covs_KDD, priors_K = np.asarray(covs_KDD, float), np.asarray(priors_K, float)
    check_noise_and_decay(sigma, lam)
    n_clusters, d = means_KD.shape
    if covs_KDD.shape != (n_clusters, d, d):
        raise InputError(f"covs: expected shape {(n_clusters, d, d)}, got {covs_KDD.shape}")
    if priors_K.shape != (n_clusters,) or np.any(priors_K <= 0) or len(widths) != n_clusters:
        raise InputError(f"priors and widths: need {n_clusters} positive priors and as many widths")
    priors_K = priors_K / priors_K.sum()
    spectra = []
    for mean, cov in zip(means_KD, covs_KDD, strict=True):
        values, vectors = np.linalg.eigh(np.outer(mean, mean) + cov)
        spectra.append((vectors[:, ::-1], np.maximum(values[::-1], 0.0), mean))
    decays = lam / priors_K
    w_DP, blocks_P, directions, gains = _assemble_blocks(
        spectra, widths, decays, noises=np.full(n_clusters, sigma**2)
    )
    loss = test_loss = 0.0
    for prior, decay, (_, values, _), m in zip(priors_K, decays, spectra, gains, strict=True):
        kept, dropped = values[: len(m)], values[len(m) :]
        loss += prior * (values.sum() - np.sum(np.maximum(kept - decay, 0.0) * m))
        test_loss += prior * (np.sum((m - 1) ** 2 * kept + sigma**2 * m**2) + dropped.sum())
    return Prediction(
        w1=w_DP,
        w2=w_DP.copy(),
        blocks=blocks_P,
        directions=directions,
        gains=gains,
        loss=float(loss),
        margin=_population_margin(w_DP, blocks_P, means_KD, covs_KDD, sigma),
        sigma=sigma,
        lam=lam,
        labels=None,
        test_loss=float(test_loss),
    )


def predict_hybrid_gain(norm: float, count: int, n: int, sigma: float, lam: float) -> float:
    """Gain of a sample that occurs ``count`` times among ``n`` (docs/THEORY.md#eq-8).

    With s = ``norm``² it is r²s = (s − nλ/count)_+/(s + σ²): in the hybrid regime, one unit with
    column r x holds the sample x.
    """
    square = norm**2
    return max(square - n * lam / count, 0.0) / (square + sigma**2)


def linear_test_loss(
    m_DD: Float[np.ndarray, "D D"], second_moment_DD: Float[np.ndarray, "D D"], sigma: float
) -> float:
    """E‖M(x+σε) − x‖² = tr((M−I) S (M−I)ᵀ) + σ²‖M‖_F² for any linear M
    (docs/THEORY.md#test-loss)."""
    error_DD = m_DD - np.eye(len(m_DD))
    return float(np.sum((error_DD @ second_moment_DD) * error_DD) + sigma**2 * np.sum(m_DD**2))


def limit_test_loss(mixture: Mixture, widths: Sequence[int], sigma: float) -> float:
    """Σ_k ρ_k [Σ_{j≤p_k} e σ²/(e+σ²) + Σ_{j>p_k} e], e eigenvalues of S_k (docs/THEORY.md#eq-7):
    the test loss of block k's ``widths[k]`` units as n → ∞ and λ → 0."""
    return float(
        sum(
            prior * (np.sum(e[:width] * sigma**2 / (e[:width] + sigma**2)) + e[width:].sum())
            for (prior, e), width in zip(population_spectra(mixture), widths, strict=True)
        )
    )


def population_spectra(mixture: Mixture) -> Iterator[tuple[float, Float[np.ndarray, " D"]]]:
    """Prior and falling eigenvalues of S_k = μ_kμ_kᵀ + Σ_k of each cluster."""
    for mean, cov, prior in zip(mixture.means, mixture.covs, mixture.priors, strict=True):
        values = np.linalg.eigvalsh(np.outer(mean, mean) + cov)[::-1]
        yield prior, np.clip(values, 0, None)


def _eigenpairs(
    x_ND: Float[np.ndarray, "N D"],
) -> tuple[Float[np.ndarray, "D R"], Float[np.ndarray, " R"]]:
    """Eigenvectors and eigenvalues of XXᵀ = Σ_i x_i x_iᵀ, largest first, R = min(N, D)."""
    if len(x_ND) > x_ND.shape[1]:
        values, vectors = np.linalg.eigh(x_ND.T @ x_ND)
        return vectors[:, ::-1], np.maximum(values[::-1], 0.0)
    vectors, singular, _ = np.linalg.svd(x_ND.T, full_matrices=False)
    return vectors, singular**2


def _assemble_blocks(spectra, widths, decays, noises):
    """Weights, unit blocks, kept directions and gains from each cluster's (U, s, mean)."""
    columns, blocks, directions, gains = [], [], [], []
    for k, ((u_DR, values, mean), width) in enumerate(zip(spectra, widths, strict=True)):
        check_count(width, f"widths[{k}]", minimum=0)
        rank = min(width, len(values))
        u_DR = u_DR[:, :rank].copy()
        m = block_gains(values[:rank], decays[k], noises[k])
        if rank and u_DR[:, 0] @ mean < 0:
            u_DR[:, 0] *= -1
        columns.append((u_DR * np.sqrt(m)) @ spread_rotation(width, rank).T)
        blocks.append(np.full(width, k if m.any() else -1))
        directions.append(u_DR)
        gains.append(m)
    return np.concatenate(columns, axis=1), np.concatenate(blocks), tuple(directions), tuple(gains)


def _population_margin(w_DP, blocks_P, means_KD, covs_KDD, sigma) -> float:
    norms_P = np.linalg.norm(w_DP, axis=0)
    live_P = (blocks_P >= 0) & (norms_P > 0)
    if not live_P.any():
        return float("-inf")
    u_DP = w_DP[:, live_P] / norms_P[live_P]
    spread_KP = np.sqrt(sigma**2 + np.einsum("dp,kde,ep->kp", u_DP, covs_KDD, u_DP))
    sign_KP = np.where(np.arange(len(means_KD))[:, None] == blocks_P[None, live_P], 1.0, -1.0)
    return float(np.min(sign_KP * (means_KD @ u_DP) / spread_KP))


def block_eigenvalues(
    x_ND: Float[Array, "N D"], labels_N: Int[Array, " N"]
) -> tuple[Float[np.ndarray, " R"], ...]:
    """Nonzero eigenvalues s_j of X_kX_kᵀ for each cluster, largest first (docs/THEORY.md#eq-2)."""
    x_ND, labels_N = check_samples(x_ND), np.asarray(labels_N)
    spectra = []
    for k in np.unique(labels_N):
        _, values = _eigenpairs(x_ND[labels_N == k])
        spectra.append(values[values > 1e-12 * values[0]] if values[0] > 0 else values[:0])
    return tuple(spectra)
