"""How sharp the log density is around an image, and how much sharper a caption makes it.

The score is s = (D(y, σ) − y)/σ², its Jacobian the Hessian of the log density,
H = (∂D/∂y − I)/σ²; a product with H is one with the Jacobian of the denoiser.
"""

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.detect.model import DetectorModel
from dae_theory.detect.scores.score import Context, noised, tokens_of
from dae_theory.detect.scores.trace import traces


def sharpness(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """‖H s‖² at y = x + σε, averaged over noise; −tr H³ in the mean under a Gaussian
    (Jeon et al. 2025)."""
    tokens = tokens_of(model, context)
    values_RN = []
    for y_ND in noised(key, x_ND, sigma, context.settings.draws):
        score_ND = (model.denoise(y_ND, sigma, tokens) - y_ND) / sigma**2
        curved_ND = (model.push(y_ND, score_ND, sigma, tokens) - score_ND) / sigma**2
        values_RN.append(np.sum(curved_ND**2, axis=1))
    return np.mean(values_RN, axis=0)


def sharpness_difference(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """‖H_Δ s_Δ‖² at the start y = σ_max ε of a sampler, s_Δ and H_Δ with the caption minus
    without (Jeon et al. 2025); neither the image nor ``sigma`` is looked at."""
    tokens, level = tokens_of(model, context), model.sigma_max
    values_RN = []
    for y_ND in noised(key, np.zeros(np.shape(x_ND)), level, context.settings.draws):
        score_ND = (model.denoise(y_ND, level, tokens) - model.denoise(y_ND, level)) / level**2
        with_ND, without_ND = (model.push(y_ND, score_ND, level, t) for t in (tokens, None))
        values_RN.append(np.sum(((with_ND - without_ND) / level**2) ** 2, axis=1))
    return np.mean(values_RN, axis=0)


def curvature_difference(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """tr H with the caption minus without it, at y = x + σε, averaged over noise and directions,
    which are the same for both."""
    settings, tokens = context.settings, tokens_of(model, context)
    noise_key, probe_key = jax.random.split(key)
    values_RN = []
    for draw, y_ND in enumerate(noised(noise_key, x_ND, sigma, settings.draws)):
        draw_key = jax.random.fold_in(probe_key, draw)
        with_N, without_N = (
            traces(draw_key, model, y_ND, sigma, t, settings.probes) for t in (tokens, None)
        )
        values_RN.append((with_N - without_N) / sigma**2)
    return np.mean(values_RN, axis=0)
