"""What the closed forms miss: gates that noise flips (docs/THEORY.md#remainder)."""

import numpy as np
from jaxtyping import Float


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
