"""How many directions the denoiser keeps around an image: one at a stored sample, a cluster's at
others.

Traces are estimated by vᵀJv with random signs v (Hutchinson 1990), each a product with the
Jacobian.
"""

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.detect.model import DetectorModel
from dae_theory.detect.scores.score import Context, directions, noised, tokens_of


def traces(
    key: PRNGKeyArray,
    model: DetectorModel,
    y_ND: Float[Array, "N D"],
    sigma: float,
    tokens: Array | None,
    probes: int,
) -> Float[np.ndarray, " N"]:
    """Estimated trace of ∂D(y, σ)/∂y at each row; equal keys use equal directions."""
    values_RN = [
        np.sum(v_ND * model.push(y_ND, v_ND, sigma, tokens), axis=1)
        for v_ND in directions(key, np.shape(y_ND), probes)
    ]
    return np.mean(values_RN, axis=0)


def jacobian_trace(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """tr ∂D(y, σ)/∂y at y = x + σε, averaged over noise and directions."""
    settings, tokens = context.settings, tokens_of(model, context)
    noise_key, probe_key = jax.random.split(key)
    values_RN = [
        traces(jax.random.fold_in(probe_key, draw), model, y_ND, sigma, tokens, settings.probes)
        for draw, y_ND in enumerate(noised(noise_key, x_ND, sigma, settings.draws))
    ]
    return np.mean(values_RN, axis=0)


def local_dimension(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """Local intrinsic dimension, FLIPD (Kamkari et al. 2024), of variance-exploding noise.

    The density p_σ of x + σε behaves like σ^(d−D) near a set of dimension d, so d is
    D + ∂ log p_σ/∂ log σ. By the heat equation ∂p/∂σ² = Δp/2 that is
    D + σ² (tr ∇s + ‖s‖²), s the score; with s = (D(x, σ) − x)/σ² it becomes
    tr ∂D/∂x + ‖D(x, σ) − x‖²/σ², at x itself, without noise.
    """
    settings, tokens = context.settings, tokens_of(model, context)
    x_ND = np.asarray(x_ND)
    kept_N = traces(key, model, x_ND, sigma, tokens, settings.draws * settings.probes)
    moved_ND = model.denoise(x_ND, sigma, tokens) - x_ND
    return kept_N + np.sum(moved_ND**2, axis=1) / sigma**2
