"""What the closed forms miss: gates that noise flips (docs/THEORY.md#remainder)."""

import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtr

from dae_theory.theory.closed_forms import Prediction


def flip_weight(
    w1_DP: Float[np.ndarray, "D P"], x_ND: Float[np.ndarray, "N D"], sigma: float
) -> float:
    """F = Σ_ij exp(−z_ij²/2) over samples and units that are not zero, z_ij = w_jᵀx_i/(σ‖w_j‖)."""
    norms_P = np.linalg.norm(w1_DP, axis=0)
    z_NP = x_ND @ (w1_DP[:, norms_P > 0] / norms_P[norms_P > 0]) / sigma
    return float(np.sum(np.exp(-(z_NP**2) / 2)))


def fit_flip_exponent(
    z_T: Float[np.ndarray, " T"],
    flip_weight_T: Float[np.ndarray, " T"],
    residual_T: Float[np.ndarray, " T"],
) -> float:
    """κ of residual = C z^b F^κ, by least squares on the logarithm.

    F sums over all gates with their own margins z_ij and tends to a multiple of exp(−z²/2) as the
    smallest, z, comes to dominate; with F instead of that limit the law shows at moderate z.
    """
    design = np.stack([np.log(flip_weight_T), np.log(z_T), np.ones_like(z_T)], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, np.log(residual_T), rcond=None)
    return float(coefficients[0])


def leak_loss(prediction: Prediction, x_ND: Float[Array, "N D"]) -> float:
    """Exact loss at (4) minus (3), to leading order in gates that noise flips
    (docs/THEORY.md#leak).

    Where noise opens the gate of unit j on a sample x of another cluster, or closes it on one of
    its own, a pre-activation w_jᵀ(x+σε) of the wrong sign is passed or lost. With ν = σ‖w_j‖, z
    its margin, m_1 = E(g−z)_+ and m_2 = E(g−z)_+² for a standard normal g, and M of the cluster
    of x, that changes the loss of the sample by

      ‖w_j‖² ν² m_2 − 2 ν m_1 w_jᵀ(x − Mx) ± 2σ² w_jᵀMw_j Φ(−z),

    + for a sample of another cluster, − for its own. Two gates at once are of second order, unless
    their units are collinear. Where the sum is negative, flipped gates lower the loss, and the
    minimizer is drawn towards them.
    """
    x_ND, labels_N = np.asarray(x_ND, float), prediction.labels
    live_P = prediction.blocks >= 0
    w_DP = prediction.w1[:, live_P]
    norm_P = np.linalg.norm(w_DP, axis=0)
    nu_P = prediction.sigma * norm_P
    other_NP = np.where(labels_N[:, None] == prediction.blocks[live_P], -1.0, 1.0)
    m_KDD = np.array([prediction.operator(k) for k in range(len(prediction.directions))])
    residual_ND = x_ND - np.einsum("nde,ne->nd", m_KDD[labels_N], x_ND)
    through_NP = np.einsum("dp,kde,ep->kp", w_DP, m_KDD, w_DP)[labels_N]
    z_NP = -other_NP * (x_ND @ w_DP) / nu_P
    density_NP = np.exp(-(z_NP**2) / 2) / np.sqrt(2 * np.pi)
    tail_NP = ndtr(-z_NP)
    first_NP = density_NP - z_NP * tail_NP
    second_NP = (1 + z_NP**2) * tail_NP - z_NP * density_NP
    change_NP = (
        (norm_P * nu_P) ** 2 * second_NP
        - 2 * nu_P * first_NP * (residual_ND @ w_DP)
        + 2 * prediction.sigma**2 * other_NP * through_NP * tail_NP
    )
    return float(np.sum(change_NP) / len(x_ND))
