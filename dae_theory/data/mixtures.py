"""Synthetic data: simplices and separable Gaussian mixtures with known statistics."""

from collections.abc import Sequence

import numpy as np
import scipy  # its linalg is loaded where it is used
from jaxtyping import Float

from dae_theory.checks import InputError, check_count
from dae_theory.data.dataset import Dataset, Mixture


def equiangular_directions(n: int, d: int, cosine: float) -> Float[np.ndarray, "N D"]:
    """``n`` unit vectors in R^d, all pairs at the given cosine.

    Raises InputError when none exist: cosine ≥ −1/(n−1) is needed, and d ≥ n (d ≥ n−1 at
    equality, the simplex; docs/THEORY.md#separability).
    """
    lowest = -1 / (n - 1) if n > 1 else -1.0
    if not lowest - 1e-12 <= cosine < 1:
        raise InputError(
            f"beta: {n} equiangular directions need a cosine in [{lowest:.4g}, 1), got {cosine}"
        )
    # A regular simplex around the origin (rows of Helmert's matrix), and one more coordinate that
    # all directions share. Eigenvectors of their Gram matrix would depend on the processor.
    simplex_NM = scipy.linalg.helmert(n).T if n > 1 else np.zeros((1, 0))
    common = np.sqrt(max(1 + (n - 1) * cosine, 0.0) / n)
    needed = n - 1 + (common > 1e-6)
    if needed > d:
        raise InputError(f"d: {n} directions at cosine {cosine:.4g} need d >= {needed}, got {d}")
    directions_ND = np.zeros((n, d))
    directions_ND[:, : n - 1] = np.sqrt(1 - cosine) * simplex_NM
    if needed == n:
        directions_ND[:, n - 1] = common
    return directions_ND


def random_rotation(seed: int, d: int) -> Float[np.ndarray, "D D"]:
    """A Haar-random orthogonal matrix."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
    return q * np.sign(np.diag(r))


def simplex(n: int, d: int, *, radius: float = 1.0, seed: int = 0) -> Dataset:
    """``n`` samples of norm ``radius`` in R^d at pairwise cosine −1/(n−1), randomly rotated."""
    check_count(n, "n")
    check_count(d, "d")
    cosine = -1 / (n - 1) if n > 1 else 0.0
    directions = equiangular_directions(n, d, cosine)
    x_ND = radius * directions @ random_rotation(seed, d).T
    return Dataset("simplex", x_ND, labels=np.arange(n))


def separable_mixture(
    n_clusters: int,
    d: int,
    *,
    rank: int,
    beta: float,
    alpha: float | Sequence[float],
    priors: Sequence[float] | None = None,
    seed: int = 0,
) -> Mixture:
    """Mixture of K clusters whose means are unit vectors at pairwise cosine ``beta``.

    Each covariance has the given rank, a random range orthogonal to all means (so that variation
    inside a cluster does not by itself lead towards another one), eigenvalues falling linearly
    (ratio rank : … : 1), and trace alpha²: ``alpha`` is the rms distance of a sample from its
    mean, relative to the mean's norm (a sequence gives one value a cluster; 0 means exact
    duplicates). ``priors`` default to equal.
    """
    check_count(n_clusters, "n_clusters")
    check_count(rank, "rank")
    alphas = np.broadcast_to(np.asarray(alpha, float), (n_clusters,))
    priors = np.full(n_clusters, 1 / n_clusters) if priors is None else np.asarray(priors, float)
    if priors.shape != (n_clusters,) or np.any(priors <= 0):
        raise InputError(f"priors: need {n_clusters} positive numbers, got {priors.tolist()}")
    rng = np.random.default_rng([seed, 1])
    means = equiangular_directions(n_clusters, d, beta) @ random_rotation(seed, d).T
    spanned_DR = np.linalg.qr(means.T)[0][:, : np.linalg.matrix_rank(means)]
    free = d - spanned_DR.shape[1]
    if rank > free:
        raise InputError(
            f"rank: {n_clusters} means in d={d} leave room for rank {free} covariances, got {rank}"
        )
    spectrum = np.arange(rank, 0, -1.0)
    covs = []
    for a in alphas:
        drawn_DR = rng.standard_normal((d, rank))
        drawn_DR -= spanned_DR @ (spanned_DR.T @ drawn_DR)
        basis = np.linalg.qr(drawn_DR)[0]
        covs.append((basis * (a**2 * spectrum / spectrum.sum())) @ basis.T)
    return Mixture(means, np.array(covs), priors / priors.sum())
