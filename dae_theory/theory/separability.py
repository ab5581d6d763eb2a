"""Is the data (α,β)-separable (docs/THEORY.md#separability), and by which margin?"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dae_theory.checks import InputError, check_samples

ENTRIES_AT_ONCE = 2_000_000  # of a matrix of all pairs


class Separability(NamedTuple):
    """α: largest relative distance of a sample from its cluster mean; β: largest cosine between
    two cluster means (−1 for a single cluster)."""

    alpha: float
    beta: float


def cluster_means(
    x_ND: Float[Array, "N D"], labels_N: Int[Array, " N"]
) -> Float[np.ndarray, "K D"]:
    """Mean of each cluster, in the order of ``np.unique(labels)``."""
    x_ND, labels_N = np.asarray(x_ND, float), np.asarray(labels_N)
    _, first_N, index_N, counts_K = np.unique(
        labels_N, return_index=True, return_inverse=True, return_counts=True
    )
    if np.all(counts_K == 1):
        return x_ND[first_N]
    return np.array([x_ND[index_N == k].mean(axis=0) for k in range(len(counts_K))])


def separability(x_ND: Float[Array, "N D"], labels_N: Int[Array, " N"]) -> Separability:
    """Measured (α, β) of a partition into clusters. α is infinite when a cluster mean is zero.

    Raises InputError when shapes disagree or values are not finite.
    """
    x_ND, labels_N = check_samples(x_ND), np.asarray(labels_N)
    if labels_N.shape != (len(x_ND),):
        raise InputError(f"labels: expected shape ({len(x_ND)},), got {labels_N.shape}")
    means = cluster_means(x_ND, labels_N)
    norms = np.linalg.norm(means, axis=1)
    if np.any(norms == 0):
        return Separability(np.inf, 1.0)
    _, index = np.unique(labels_N, return_inverse=True)
    alpha = float(np.max(np.linalg.norm(x_ND - means[index], axis=1) / norms[index]))
    return Separability(alpha, _largest_cosine(means / norms[:, None]))


def _largest_cosine(directions_KD: Float[np.ndarray, "K D"]) -> float:
    """Largest inner product of two of these unit vectors, −1 for a single one."""
    largest = -1.0
    rows = max(1, ENTRIES_AT_ONCE // len(directions_KD))
    for first in range(0, len(directions_KD), rows):
        cosines = directions_KD[first : first + rows] @ directions_KD.T
        above = np.arange(len(directions_KD)) > np.arange(first, first + len(cosines))[:, None]
        largest = max(largest, float(np.max(cosines, where=above, initial=-1.0)))
    return largest


def gate_margin(
    w1_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    labels_N: Int[Array, " N"],
    blocks_P: Int[Array, " P"],
    sigma: float,
) -> float:
    """z = min over samples i and units j of s_ij (w_jᵀ x_i) / (σ‖w_j‖), in noise standard
    deviations; s_ij = +1 when unit j belongs to the cluster of x_i and −1 otherwise.

    ``blocks_P`` names the cluster of each unit; units with a negative block or a zero column
    are left out. Noise flips a gate with probability at most Φ(−z).
    """
    w1_DP, x_ND = np.asarray(w1_DP, float), np.asarray(x_ND, float)
    labels_N, blocks_P = np.asarray(labels_N), np.asarray(blocks_P)
    norms = np.linalg.norm(w1_DP, axis=0)
    live = (blocks_P >= 0) & (norms > 0)
    if not live.any():
        return float("-inf")
    u_DP, blocks_P = w1_DP[:, live] / norms[live], blocks_P[live]
    smallest = np.inf
    rows = max(1, ENTRIES_AT_ONCE // len(blocks_P))
    for first in range(0, len(x_ND), rows):
        part = slice(first, first + rows)
        sign_NP = np.where(labels_N[part, None] == blocks_P, 1.0, -1.0)
        smallest = min(smallest, float(np.min(sign_NP * (x_ND[part] @ u_DP))))
    return smallest / sigma


def gate_pattern(w1_DP: Float[Array, "D P"], x_ND: Float[Array, "N D"]) -> Bool[np.ndarray, "N P"]:
    """Which units are active on which clean sample."""
    return np.asarray(x_ND) @ np.asarray(w1_DP) > 0
