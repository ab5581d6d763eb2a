"""The paper's score, and statistics of the same activations that do not depend on their scale.

Noise an image, look at one layer, pool it over space, take a statistic over its units. The std
grows with the size of the activations; the others only say how few units carry them.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.detect.model import DetectorModel
from dae_theory.detect.scores.score import Compute, Context, noised, tokens_of
from dae_theory.relu.units import spikiness

Statistic = Callable[[Float[np.ndarray, "N C"]], Float[np.ndarray, " N"]]


def averaged(statistic: Statistic) -> Compute:
    """The score that averages a statistic of h (N, C) over draws of noise."""

    def compute(
        key: PRNGKeyArray,
        model: DetectorModel,
        x_ND: Float[Array, "N D"],
        sigma: float,
        context: Context,
    ) -> Float[np.ndarray, " N"]:
        settings, tokens = context.settings, tokens_of(model, context)
        values_RN = [
            statistic(model.activations(y_ND, sigma, tokens, settings.layer, settings.pool))
            for y_ND in noised(key, x_ND, sigma, settings.draws)
        ]
        return np.mean(values_RN, axis=0)

    return compute


def named(name: str) -> Statistic:
    """A statistic of `relu.units.spikiness`."""
    return lambda h_NC: spikiness(h_NC)[name]


def variation(h_NC: Float[np.ndarray, "N C"]) -> Float[np.ndarray, " N"]:
    """std/mean |h|: the coefficient of variation where no unit is negative. 0 for h = 0."""
    h_NC = np.asarray(h_NC, float)
    size_N = np.mean(np.abs(h_NC), axis=1)
    return np.std(h_NC, axis=1) / np.where(size_N > 0, size_N, 1.0)


def flat_where_nothing_is_active(name: str, flat: Callable[[int], float]) -> Statistic:
    """`named`, with the value of a flat representation of C units for h = 0, which is not spiky."""

    def statistic(h_NC: Float[np.ndarray, "N C"]) -> Float[np.ndarray, " N"]:
        value_N = named(name)(h_NC)
        return np.where(np.any(h_NC != 0, axis=1), value_N, flat(np.shape(h_NC)[1]))

    return statistic


std = averaged(named("std"))
coefficient_of_variation = averaged(variation)
l4_l2 = averaged(flat_where_nothing_is_active("l4_l2", lambda c: c**-0.25))
hoyer = averaged(flat_where_nothing_is_active("hoyer", lambda c: 0.0))
participation_ratio = averaged(flat_where_nothing_is_active("participation_ratio", float))
