"""Is the data (α,β)-separable (docs/THEORY.md#separability), and by which margin?"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dae_theory.checks import InputError, check_samples


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
    return np.array([x_ND[labels_N == k].mean(axis=0) for k in np.unique(labels_N)])


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
    directions = means / norms[:, None]
    cosines = directions @ directions.T
    above = cosines[np.triu_indices(len(means), 1)]
    return Separability(alpha, float(above.max(initial=-1.0)))


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
    z_NP = x_ND @ (w1_DP[:, live] / norms[live]) / sigma
    sign_NP = np.where(labels_N[:, None] == blocks_P[None, live], 1.0, -1.0)
    return float(np.min(sign_NP * z_NP))


def gate_pattern(w1_DP: Float[Array, "D P"], x_ND: Float[Array, "N D"]) -> Bool[np.ndarray, "N P"]:
    """Which units are active on which clean sample."""
    return np.asarray(x_ND) @ np.asarray(w1_DP) > 0
