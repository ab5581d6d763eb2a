"""Generations of one caption that repeat themselves (after Carlini et al. 2023)."""

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.detect.model import DetectorModel
from dae_theory.detect.scores.score import Context


def generation_radius(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """Radius of the smallest ball around a generation that holds `ScoreSettings.clique` others: the
    inverse of their density where it is highest.

    They count cliques below a fixed distance; the radius is the distance at which there would be
    one. Of `ScoreSettings.generations` images of each caption; neither the image nor ``sigma`` is
    looked at.
    """
    settings, count = context.settings, context.settings.generations
    captions = [caption for caption in context.captions for _ in range(count)]
    made_NGD = np.asarray(model.sample(key, len(captions), captions)).reshape(
        len(x_ND), count, model.size
    )
    distances_NGG = np.linalg.norm(made_NGD[:, :, None] - made_NGD[:, None], axis=-1)
    # Sorted, a generation's distance to itself comes first.
    return np.min(np.sort(distances_NGG, axis=-1)[:, :, settings.clique], axis=1)
