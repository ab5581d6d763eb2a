"""Units that answer to an image as they answer to no ordinary one (after Hintersdorf et al. 2024).

They look at value neurons of cross-attention in Stable Diffusion; here it is any layer.
"""

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.checks import InputError
from dae_theory.detect.model import DetectorModel
from dae_theory.detect.scores.score import Context, noised, tokens_of

FIT_SEED = 0  # of the noise on reference images: one fit, however images are divided into parts
FEWEST = 2


def activation_outlier(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """Largest |z| over units: pooled activation, averaged over noise, minus its mean over reference
    images, in their standard deviations. Units that never vary there are left out.

    Raises:
      InputError: for fewer than two reference images, or when no unit varies on them.
    """
    if len(context.reference) < FEWEST:
        raise InputError(f"calibration: needs {FEWEST} images to fit on, has 1")
    settings = context.settings

    def mean_activations(key, x_ND, tokens) -> Float[np.ndarray, "N C"]:
        return np.mean(
            [
                model.activations(y_ND, sigma, tokens, settings.layer, settings.pool)
                for y_ND in noised(key, x_ND, sigma, settings.draws)
            ],
            axis=0,
            dtype=float,
        )

    captions = context.reference_captions
    reference_tokens = None if captions is None else model.tokens(captions)
    reference_RC = mean_activations(jax.random.key(FIT_SEED), context.reference, reference_tokens)
    spread_C = np.std(reference_RC, axis=0, ddof=1)
    varies_C = spread_C > 0
    if not varies_C.any():
        raise InputError("calibration: no unit varies over the images to fit on")
    away_NC = mean_activations(key, x_ND, tokens_of(model, context)) - reference_RC.mean(axis=0)
    return np.max(np.abs(away_NC[:, varies_C]) / spread_C[varies_C], axis=1)
