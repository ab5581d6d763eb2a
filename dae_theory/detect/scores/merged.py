"""Effective number of units after collinear ones are merged: what splitting a unit cannot change.

Only where units are not negative and their directions are known, as in a ReLU net
(docs/THEORY.md#representation).
"""

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.checks import InputError
from dae_theory.detect.model import DetectorModel
from dae_theory.detect.scores.score import Context
from dae_theory.detect.scores.spikiness import averaged, flat_where_nothing_is_active
from dae_theory.relu.units import merge_groups


def merged_units(
    key: PRNGKeyArray,
    model: DetectorModel,
    x_ND: Float[Array, "N D"],
    sigma: float,
    context: Context,
) -> Float[np.ndarray, " N"]:
    """Participation ratio (Σh²)²/Σh⁴ of the merged units.

    Raises:
      InputError: where the directions of the layer's units are not known.
    """
    layer = model.checked_layer(context.settings.layer)
    if layer not in model.groups:
        raise InputError(
            f"score: merged_units needs to know which units of {layer} are collinear, and "
            f"{model.name} does not say; it is for two-layer ReLU nets"
        )
    ratio = flat_where_nothing_is_active("participation_ratio", float)
    groups_C = model.groups[layer]
    score = averaged(lambda h_NC: ratio(merge_groups(h_NC, groups_C)))
    return score(key, model, x_ND, sigma, context)
