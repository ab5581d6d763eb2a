"""The pull on a new unit at the closed forms, equation (10) for frozen gates."""

import numpy as np
from jaxtyping import Array, Float

from dae_theory.checks import InputError, check_samples
from dae_theory.theory.closed_forms import Prediction


def predict_pull(
    prediction: Prediction, x_ND: Float[Array, "N D"], u_DM: Float[Array, "D M"]
) -> Float[np.ndarray, "D M"]:
    """g(u) = λ Σ_{k∈A} (U_kU_kᵀ + R_kR_kᵀ/nλ) u at (4) and (5) (docs/THEORY.md#dead-units).

    U_k are the directions that block k keeps, R_k = (I − U_kU_kᵀ)X_k what it drops of its samples:
    along a dropped direction with eigenvalue s of X_kX_kᵀ the pull is s/n, below λ where the
    threshold dropped it and above λ where the width did. A are the clusters whose mean u is active
    on. It holds for u that is active on all samples of a cluster or on none, with gates that no
    noise flips.

    Args:
      prediction: of `predict_memorization` or `predict_blocks`.
      x_ND: the samples it was made for.
      u_DM: M encoder directions; g is homogeneous in their lengths.

    Raises:
      InputError: for a prediction of the population limit, which has no samples.
    """
    x_ND, u_DM = check_samples(x_ND), np.asarray(u_DM, float)
    if prediction.labels is None:
        raise InputError("prediction: must be made for samples, not for the population limit")
    pull_DM = np.zeros_like(u_DM)
    for k, (u_DR, gains) in enumerate(zip(prediction.directions, prediction.gains, strict=True)):
        members_ND = x_ND[prediction.labels == k]
        kept_DR = u_DR[:, np.atleast_1d(gains) > 0]
        dropped_ND = members_ND - members_ND @ kept_DR @ kept_DR.T
        active_DM = u_DM * (members_ND.mean(axis=0) @ u_DM > 0)
        pull_DM += prediction.lam * kept_DR @ (kept_DR.T @ active_DM)
        pull_DM += dropped_ND.T @ (dropped_ND @ active_DM) / len(x_ND)
    return pull_DM
