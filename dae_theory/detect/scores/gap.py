"""Whether an image is a copy of a training image: asks the data, not the model."""

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.detect.model import DetectorModel
from dae_theory.detect.scores.score import Context
from dae_theory.memorization.copies import gap_ratio
from dae_theory.memorization.nearest import nearest_two


def training_gap(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """Distance to the nearest over distance to the second nearest training image; equal training
    images count as one (`memorization.copies.gap_ratio`).

    Raises:
      InputError: as `memorization.nearest.nearest_two`.
    """
    return gap_ratio(nearest_two(x_ND, context.training).distances)
