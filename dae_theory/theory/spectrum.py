"""The Hessian's eigenvalues at a block minimizer in closed form."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from dae_theory.checks import InputError, check_samples
from dae_theory.theory.closed_forms import Prediction


class Spectrum(NamedTuple):
    """Eigenvalues of a Hessian with multiplicities, ascending, and how many units it is over."""

    values: Float[np.ndarray, " E"]
    multiplicities: Int[np.ndarray, " E"]

    def sorted_values(self) -> Float[np.ndarray, " 2DP"]:
        """All 2·D·P eigenvalues, ascending."""
        return np.sort(np.repeat(self.values, self.multiplicities))

    def count_below(self, threshold: float) -> int:
        """Number of eigenvalues of modulus at most ``threshold``."""
        return int(np.sum(self.multiplicities[np.abs(self.values) <= threshold]))


def predict_curvature(prediction: Prediction, x_ND: Float[Array, "N D"]) -> Spectrum:
    """Hessian eigenvalues at a block minimizer (4) whose gates are frozen. [derived]

    In the eigenbasis of X_kX_kᵀ (eigenvalues s_i; t_i = s_i + n_kσ²; m_i = a_i² the gains, r of
    them positive) the second variation in (α, β) = (δW1, δW2) of block k is

      Σ_il (t_i/n)(α_il a_l + a_i β_li)² + Σ_ij [λ(α_ij² + β_ij²) − 2κ_i α_ij β_ij],

    κ_i = λ for a kept direction and s_i/n for others. It splits into blocks of four variables
    (i ≠ l both kept: one zero each, a rotation), of two (i kept or not, j > r: zeros 2(λ−κ_i),
    splittings) and so on. Units of zero gain are left out. Independent of `loss.exact_loss`.

    Raises:
      InputError: for a prediction of the population limit, which has no samples.
    """
    x_ND = check_samples(x_ND)
    if prediction.labels is None:
        raise InputError("prediction: must be made for samples, not for the population limit")
    n, d = x_ND.shape
    lam, values, counts = prediction.lam, [], []

    def add(matrix, multiplicity=1):
        eigenvalues = np.linalg.eigvalsh(2 * np.atleast_2d(matrix))
        values.extend(eigenvalues)
        counts.extend([multiplicity] * len(eigenvalues))

    for k, (u_DR, gains) in enumerate(zip(prediction.directions, prediction.gains, strict=True)):
        width = int(np.sum(prediction.blocks == k))
        members_ND = x_ND[prediction.labels == k]
        gains = np.atleast_1d(gains)
        kept = np.flatnonzero(gains > 0)
        if width == 0:
            continue
        m = gains[kept]
        s = np.sum((members_ND @ u_DR[:, kept]) ** 2, axis=0)
        rest_ND = members_ND - members_ND @ u_DR[:, kept] @ u_DR[:, kept].T
        s_rest = np.linalg.svd(rest_ND, compute_uv=False)[: d - len(kept)] ** 2
        noise = len(members_ND) * prediction.sigma**2
        t = (s + noise) / n
        for i in range(len(kept)):
            for j in range(i):
                a, b = np.sqrt(m[i]), np.sqrt(m[j])
                # variables α_ij, α_ji, β_ij, β_ji
                cross = t[i] * np.outer([b, 0, 0, a], [b, 0, 0, a])
                cross += t[j] * np.outer([0, a, b, 0], [0, a, b, 0])
                add(cross + lam * np.kron([[1, -1], [-1, 1]], np.eye(2)))
            add(t[i] * m[i] * np.ones((2, 2)) + lam * np.array([[1, -1], [-1, 1]]))
            add(lam * np.array([[1, -1], [-1, 1]]), width - len(kept))
        for s_i, multiplicity in [
            *((value, 1) for value in s_rest),
            (0.0, d - len(kept) - len(s_rest)),
        ]:
            coupling = np.array([[lam, -s_i / n], [-s_i / n, lam]])
            add(coupling, multiplicity * (width - len(kept)))
            for m_l, t_l in zip(m, t, strict=True):
                add(coupling + m_l * np.diag([(s_i + noise) / n, t_l]), multiplicity)
    values, counts = np.array(values), np.array(counts, int)
    order = np.argsort(values)
    order = order[counts[order] > 0]
    return Spectrum(values[order], counts[order])
