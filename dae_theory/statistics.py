"""Values with 95% intervals over independent measurements, and areas under the ROC curve."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float
from scipy.stats import mannwhitneyu

from dae_theory.checks import InputError, check_count

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


RESAMPLES = 2000


def area_under_roc(positive: Float[Array, " P"], negative: Float[Array, " N"]) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    statistic = mannwhitneyu(positive, negative).statistic
    return float(statistic / (len(positive) * len(negative)))


def area_under_roc_interval(
    positive: Float[Array, " P"],
    negative: Float[Array, " N"],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`area_under_roc` with a percentile bootstrap interval, each group resampled by itself.

    Where the groups do not overlap all resamples agree and the interval has no width: a few
    positives then prove less than it seems.

    Raises:
      InputError: for an empty group, scores that are not finite, or no resamples.
    """
    positive, negative = np.asarray(positive, float), np.asarray(negative, float)
    check_count(resamples, "resamples")
    for name, scores in (("positive", positive), ("negative", negative)):
        if scores.ndim != 1 or len(scores) == 0 or not np.all(np.isfinite(scores)):
            raise InputError(f"{name}: expected one finite score or more, got {scores.shape}")
    rng = np.random.default_rng(seed)
    counts_BP, counts_BN = (
        rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), resamples)
        for scores in (positive, negative)
    )
    above_PN = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    areas_B = np.sum((counts_BP @ above_PN) * counts_BN, axis=1) / above_PN.size
    low, high = np.quantile(areas_B, [0.025, 0.975])
    return Interval(area_under_roc(positive, negative), float(low), float(high))
