"""What a caption changes: a caption of one stored image changes the prediction most.

The noise prediction is ε = (y − D(y, σ))/σ, so that of the caption minus that of none is
(D_u − D_c)/σ.
"""

import itertools

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.detect.model import DetectorModel
from dae_theory.detect.scores.score import Context, noised, tokens_of
from dae_theory.diffusion.schedules import edm_schedule


def guidance_norm(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """‖ε_c − ε_u‖ averaged over the steps of a sampler that starts from noise (Wen et al. 2024).

    Euler's method along EDM's noise levels, `ScoreSettings.steps` of them; neither the image nor
    ``sigma`` is looked at.
    """
    settings, tokens = context.settings, tokens_of(model, context)
    levels_T = edm_schedule(model.sigma_max, model.sigma_min, settings.steps)
    y_ND = model.sigma_max * np.asarray(jax.random.normal(key, np.shape(x_ND)))
    norms_TN = []
    for level, following in itertools.pairwise(levels_T):
        with_ND, without_ND = (model.denoise(y_ND, level, t) for t in (tokens, None))
        norms_TN.append(np.linalg.norm(with_ND - without_ND, axis=1) / level)
        denoised_ND = without_ND + settings.guidance * (with_ND - without_ND)
        y_ND = denoised_ND + following / level * (y_ND - denoised_ND)
    return np.mean(norms_TN, axis=0)


def anisotropy(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """Size of the guidance at high noise plus its alignment at low noise (Asthana and Belagiannis
    2026), two passes with and two without the caption for each draw.

    The size is that of D_c − D_u per pixel at y = σ_max ε, in units of half the pixel range; the
    alignment is the cosine of D_c − D_u with D_u − y, the direction of the score without caption,
    at y = x + σε. Both are of order 1 and weigh the same; the authors fit weights to each model.
    Their low-noise pass, too, starts from pure noise, which a variance-preserving model knows;
    here it is the noised image.
    """
    tokens = tokens_of(model, context)
    high_key, low_key = jax.random.split(key)
    draws, zeros_ND = context.settings.draws, np.zeros(np.shape(x_ND))
    half_range = (model.pixel_range[1] - model.pixel_range[0]) / 2
    scores_RN = []
    for high_ND, low_ND in zip(
        noised(high_key, zeros_ND, model.sigma_max, draws),
        noised(low_key, x_ND, sigma, draws),
        strict=True,
    ):
        guidance_ND = model.denoise(high_ND, model.sigma_max, tokens) - model.denoise(
            high_ND, model.sigma_max
        )
        size_N = np.sqrt(np.mean(guidance_ND**2, axis=1)) / half_range
        without_ND = model.denoise(low_ND, sigma)
        guidance_ND = model.denoise(low_ND, sigma, tokens) - without_ND
        scores_RN.append(size_N + _cosines(guidance_ND, without_ND - low_ND))
    return np.mean(scores_RN, axis=0)


def _cosines(a_ND, b_ND) -> Float[np.ndarray, " N"]:
    """0 where one of both is 0: no direction, no alignment."""
    length_N = np.linalg.norm(a_ND, axis=1) * np.linalg.norm(b_ND, axis=1)
    return np.sum(a_ND * b_ND, axis=1) / np.where(length_N > 0, length_N, 1.0)
