"""How well a lightly noised image is restored: a stored one is known, noise and all."""

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.detect.model import DetectorModel
from dae_theory.detect.scores.score import Context, noised, tokens_of


def denoising_error(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """‖D(x + σε, σ) − x‖², summed over pixels, averaged over noise."""
    tokens = tokens_of(model, context)
    errors_RN = [
        np.sum((model.denoise(y_ND, sigma, tokens) - x_ND) ** 2, axis=1)
        for y_ND in noised(key, x_ND, sigma, context.settings.draws)
    ]
    return np.mean(errors_RN, axis=0)
