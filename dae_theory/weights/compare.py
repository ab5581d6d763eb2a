"""Trained weights against a prediction, through invariants only (docs/THEORY.md#comparing).

The loss does not change under permutation of units, splitting of a unit into collinear ones and
rotation inside a block, so single columns are never compared: only gate patterns, operators of
whole blocks, and sums over groups of collinear units.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.linalg import subspace_angles

from dae_theory.checks import InputError, check_samples, check_weights
from dae_theory.relu.units import live_units
from dae_theory.solve.derivatives import loss_and_gradient_norm
from dae_theory.theory.closed_forms import Prediction
from dae_theory.theory.separability import gate_pattern

STORED_GAIN = 0.5  # share of the predicted gain from which a sample is rather stored than not


@dataclass(frozen=True)
class Comparison:
    """Invariants of one net beside the predicted ones. K is the number of clusters.

    Attributes:
      live: (P,) units with ‖w1‖‖w2‖ above 1e-3 of the largest.
      blocks: (P,) cluster each live unit belongs to: the one on whose samples it holds most
        energy; −1 for dead units.
      widths: (K,) live units per cluster.
      entangled: number of live units that are active on clean samples of several clusters.
      separate: (K,) clusters that have live units, none of them active on clean samples of another.
      gate_agreement: share of (sample, live unit) pairs that are active exactly when the unit
        belongs to the sample's cluster.
      cosines: (P,) for each unit the smaller of the cosines of w1 and of w2 with the leading
        direction of its cluster (the stored sample in the memorization regime); NaN if dead.
      stored: (K,) clusters whose leading direction has at least STORED_GAIN of its predicted gain.
      gains: for each cluster the diagonal of the measured operator along the predicted
        directions.
      predicted_gains: the same of the prediction.
      gain_errors: (K,) largest relative gain error of each cluster over directions whose
        predicted gain is positive; 1 where nothing is stored.
      operator_errors: (K,) ‖M_k − predicted‖_F / ‖predicted‖_F.
      range_angles: (K,) largest principal angle, in radians, between the range of the measured
        M_k (cut to the predicted rank) and the predicted range.
      tie_errors: (P,) ‖w1_j − w2_j‖/‖w1_j‖ of live units, NaN if dead.
      balance_errors: (P,) | ‖w1_j‖/‖w2_j‖ − 1 | of live units, NaN if dead.
      loss, predicted_loss: exact training objective of the net, and the predicted one.
    """

    live: Bool[np.ndarray, " P"]
    blocks: Int[np.ndarray, " P"]
    widths: Int[np.ndarray, " K"]
    entangled: int
    separate: Bool[np.ndarray, " K"]
    gate_agreement: float
    cosines: Float[np.ndarray, " P"]
    stored: Bool[np.ndarray, " K"]
    gains: tuple[Float[np.ndarray, " R"], ...]
    predicted_gains: tuple[Float[np.ndarray, " R"], ...]
    gain_errors: Float[np.ndarray, " K"]
    operator_errors: Float[np.ndarray, " K"]
    range_angles: Float[np.ndarray, " K"]
    tie_errors: Float[np.ndarray, " P"]
    balance_errors: Float[np.ndarray, " P"]
    loss: float
    predicted_loss: float

    @property
    def loss_error(self) -> float:
        """Relative difference of the measured from the predicted training objective."""
        return abs(self.loss - self.predicted_loss) / self.predicted_loss


def assign_blocks(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    labels_N: Int[Array, " N"],
) -> Int[np.ndarray, " P"]:
    """Cluster of each live unit: where its mean energy ‖w2_j‖²h_j² on clean samples is largest.

    −1 for dead units and for units that no clean sample activates.
    """
    w1_DP, w2_DP = np.asarray(w1_DP, float), np.asarray(w2_DP, float)
    energy_NP = np.maximum(np.asarray(x_ND) @ w1_DP, 0.0) ** 2
    n_clusters = int(np.max(labels_N)) + 1
    mean_KP = np.stack([energy_NP[labels_N == k].mean(axis=0) for k in range(n_clusters)])
    active = live_units(w1_DP, w2_DP) & (mean_KP.max(axis=0) > 0)
    return np.where(active, mean_KP.argmax(axis=0), -1)


def compare_weights(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    prediction: Prediction,
    x_ND: Float[Array, "N D"],
) -> Comparison:
    """Compare weights with `theory.predict_memorization` or `theory.predict_blocks`.

    Args:
      w1_DP, w2_DP: weights under test, of any width.
      prediction: made for these samples; its σ and λ are used for the exact loss.
      x_ND: the training samples the prediction was made for.

    Raises:
      InputError: for wrong shapes, NaN, or a prediction without samples (population limit).
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    labels_N = prediction.labels
    if labels_N is None or len(labels_N) != len(x_ND):
        raise InputError("prediction: must be made for exactly these samples")
    w1_DP, w2_DP = np.asarray(w1_DP, float), np.asarray(w2_DP, float)
    live_P = np.asarray(live_units(w1_DP, w2_DP))
    blocks_P = assign_blocks(w1_DP, w2_DP, x_ND, labels_N)
    n_clusters = len(prediction.directions)
    member_NP = labels_N[:, None] == blocks_P[None, :]
    active_NP = gate_pattern(w1_DP, x_ND)
    wrong_NP = (active_NP != member_NP)[:, live_P]

    measured_gains, predicted_gains = [], []
    stored, gain_errors, operator_errors, range_angles = [], [], [], []
    for k in range(n_clusters):
        unit_P = blocks_P == k
        u_DR = prediction.directions[k]
        predicted = np.atleast_1d(prediction.gains[k])
        m_DD = w2_DP[:, unit_P] @ w1_DP[:, unit_P].T
        measured = np.sum(u_DR * (m_DD @ u_DR), axis=0)
        measured_gains.append(measured)
        predicted_gains.append(predicted)
        kept = predicted > 0
        stored.append(bool(kept.any() and measured[0] >= STORED_GAIN * predicted[0]))
        gain_errors.append(
            np.max(np.abs(measured / np.where(kept, predicted, 1.0) - 1), where=kept, initial=0.0)
        )
        norm = np.linalg.norm(predicted)
        error = np.linalg.norm(m_DD - prediction.operator(k))
        operator_errors.append(error / norm if norm > 0 else float(error > 0))
        range_angles.append(_range_angle(w1_DP[:, unit_P], w2_DP[:, unit_P], u_DR[:, kept]))

    with np.errstate(invalid="ignore", divide="ignore"):
        norm1_P, norm2_P = np.linalg.norm(w1_DP, axis=0), np.linalg.norm(w2_DP, axis=0)
        tie_P = np.linalg.norm(w1_DP - w2_DP, axis=0) / norm1_P
        balance_P = np.abs(norm1_P / norm2_P - 1)
        leading_DP = _leading_directions(prediction, x_ND.shape[1])[:, blocks_P]
        cosine_P = np.minimum(
            np.sum(leading_DP * w1_DP, axis=0) / norm1_P,
            np.sum(leading_DP * w2_DP, axis=0) / norm2_P,
        )
    loss, _ = loss_and_gradient_norm(w1_DP, w2_DP, x_ND, prediction.sigma, prediction.lam)
    widths_K = np.array([np.sum(blocks_P == k) for k in range(n_clusters)])
    serves_KP = live_P & [active_NP[labels_N == k].any(axis=0) for k in range(n_clusters)]
    shared_P = serves_KP.sum(axis=0) > 1
    return Comparison(
        live=live_P,
        blocks=blocks_P,
        widths=widths_K,
        entangled=int(np.sum(shared_P)),
        separate=~np.any(serves_KP & shared_P, axis=1) & (widths_K > 0),
        gate_agreement=float(1 - wrong_NP.mean()) if live_P.any() else 0.0,
        cosines=np.where(blocks_P >= 0, cosine_P, np.nan),
        stored=np.array(stored),
        gains=tuple(measured_gains),
        predicted_gains=tuple(predicted_gains),
        gain_errors=np.array(gain_errors),
        operator_errors=np.array(operator_errors),
        range_angles=np.array(range_angles),
        tie_errors=np.where(live_P, tie_P, np.nan),
        balance_errors=np.where(live_P, balance_P, np.nan),
        loss=loss,
        predicted_loss=prediction.loss,
    )


def _leading_directions(prediction: Prediction, n_features: int) -> Float[np.ndarray, "D K"]:
    """First kept direction of each cluster; zeros where the prediction keeps none."""
    return np.stack(
        [u_DR[:, 0] if u_DR.shape[1] else np.zeros(n_features) for u_DR in prediction.directions],
        axis=1,
    )


def _range_angle(
    w1_DP: Float[np.ndarray, "D P"], w2_DP: Float[np.ndarray, "D P"], u_DR: Float[np.ndarray, "D R"]
) -> float:
    """Largest principal angle between the top-R left singular vectors of W2 W1ᵀ and U."""
    rank = u_DR.shape[1]
    if rank == 0:
        return 0.0
    q_DP, r_PP = np.linalg.qr(w2_DP)
    left_PP, singular, _ = np.linalg.svd(r_PP @ w1_DP.T, full_matrices=False)
    # A direction that is missing but for rounding has no angle of its own.
    rounding = 1e-12 * np.linalg.norm(w1_DP) * np.linalg.norm(w2_DP)
    if len(singular) < rank or singular[rank - 1] <= rounding:
        return float(np.pi / 2)
    return float(subspace_angles(q_DP @ left_PP[:, :rank], u_DR).max())
