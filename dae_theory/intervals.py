"""Values with 95% intervals over independent measurements."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NORMAL_95 = 1.96


class Interval(NamedTuple):
    """A value with the ends of its 95% interval."""

    value: float
    low: float
    high: float


def mean_interval(values_N: Float[np.ndarray, " N"]) -> Interval:
    """Mean, with the normal 95% interval over independent values."""
    mean = float(np.mean(values_N))
    reach = NORMAL_95 * float(np.std(values_N, ddof=1)) / len(values_N) ** 0.5
    return Interval(mean, mean - reach, mean + reach)


def ratio_interval(above_N: Float[np.ndarray, " N"], below_N: Float[np.ndarray, " N"]) -> Interval:
    """Ratio of the means of paired values, with its 95% interval by the delta method."""
    mean = float(np.mean(below_N))
    ratio = float(np.mean(above_N)) / mean
    reach = NORMAL_95 * float(np.std(above_N - ratio * below_N, ddof=1))
    reach /= mean * len(below_N) ** 0.5
    return Interval(ratio, ratio - reach, ratio + reach)
