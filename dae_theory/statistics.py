"""Values with their intervals over independent measurements, areas under the ROC curve, slopes."""

from typing import NamedTuple

import numpy as np
import scipy  # its stats takes most of a second to load: only where it is used
from jaxtyping import Array, Float

from dae_theory.checks import InputError, check_count

NORMAL_95 = 1.96
RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A value with the ends of its confidence interval, 95% unless another was asked for."""

    value: float
    low: float
    high: float


def bootstrap_mean(values_S: Float[Array, " S"]) -> Interval | None:
    """Mean over seeds, with the percentile bootstrap interval.

    None for fewer than two values, or where one is not finite.
    """
    values_S = np.asarray(values_S, float)
    if values_S.size < 2 or not np.all(np.isfinite(values_S)):
        return None
    if np.ptp(values_S) == 0:  # SciPy would warn
        return Interval(*3 * [float(values_S[0])])
    ends = scipy.stats.bootstrap(
        (values_S,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(np.mean(values_S)), float(ends.low), float(ends.high))


def mean_interval(values_N: Float[np.ndarray, " N"]) -> Interval:
    """Mean, with the normal interval over many independent values."""
    mean = float(np.mean(values_N))
    reach = NORMAL_95 * float(np.std(values_N, ddof=1)) / len(values_N) ** 0.5
    return Interval(mean, mean - reach, mean + reach)


def ratio_interval(above_N: Float[np.ndarray, " N"], below_N: Float[np.ndarray, " N"]) -> Interval:
    """Ratio of the means of paired values, with its interval by the delta method."""
    mean = float(np.mean(below_N))
    ratio = float(np.mean(above_N)) / mean
    reach = NORMAL_95 * float(np.std(above_N - ratio * below_N, ddof=1))
    reach /= mean * len(below_N) ** 0.5
    return Interval(ratio, ratio - reach, ratio + reach)


def wilson_interval(count: int, total: int) -> Interval:
    """``count`` out of ``total`` as a share, with Wilson's interval.

    Raises:
      InputError: when there is nothing to share.
    """
    return _share(count, total, CONFIDENCE, "wilson")


def clopper_pearson_interval(count: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """``count`` out of ``total`` as a share, with the exact interval of Clopper and Pearson (1934),
    which covers the truth at least as often as it says.

    Raises:
      InputError: when there is nothing to share.
    """
    return _share(count, total, confidence, "exact")


def _share(count: int, total: int, confidence: float, method: str) -> Interval:
    if total == 0:
        raise InputError("share: needs at least one case")
    ends = scipy.stats.binomtest(count, total).proportion_ci(confidence, method)
    return Interval(count / total, float(ends.low), float(ends.high))


def bootstrap_share(
    count: int, total: int, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """``count`` out of ``total`` as a share, with the percentile bootstrap interval.

    Where none or all count, every resample is the same and that interval has no width: there it is
    `clopper_pearson_interval`, whose other end is 1 − (α/2)^{1/total}, or one minus that;
    α = 1 − confidence.

    Raises:
      InputError: when there is nothing to share.
    """
    if count in (0, total):
        return clopper_pearson_interval(count, total, confidence)
    # The count in a resample is binomial: no need to draw the resamples.
    share_R = np.random.default_rng(seed).binomial(total, count / total, RESAMPLES) / total
    tail = (1 - confidence) / 2
    low, high = np.quantile(share_R, (tail, 1 - tail))
    return Interval(count / total, float(low), float(high))


def area_under_roc(positive_P: Float[Array, " P"], negative_N: Float[Array, " N"]) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    statistic = scipy.stats.mannwhitneyu(positive_P, negative_N).statistic
    return float(statistic / (len(positive_P) * len(negative_N)))


def area_under_roc_interval(
    positive_P: Float[Array, " P"],
    negative_N: Float[Array, " N"],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`area_under_roc` with a percentile bootstrap interval, each group resampled by itself.

    Where the groups do not overlap all resamples agree and the interval has no width: a few
    positives then prove less than it seems.

    Raises:
      InputError: for an empty group, scores that are not finite, or no resamples.
    """
    positive_P, negative_N = np.asarray(positive_P, float), np.asarray(negative_N, float)
    check_count(resamples, "resamples")
    for name, scores in (("positive", positive_P), ("negative", negative_N)):
        if scores.ndim != 1 or len(scores) == 0 or not np.all(np.isfinite(scores)):
            raise InputError(f"{name}: expected one finite score or more, got {scores.shape}")
    rng = np.random.default_rng(seed)
    counts_BP, counts_BN = (
        rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), resamples)
        for scores in (positive_P, negative_N)
    )
    above_PN = (positive_P[:, None] > negative_N) + 0.5 * (positive_P[:, None] == negative_N)
    areas_B = np.sum((counts_BP @ above_PN) * counts_BN, axis=1) / above_PN.size
    low, high = np.quantile(areas_B, [0.025, 0.975])
    return Interval(area_under_roc(positive_P, negative_N), float(low), float(high))


def log_log_slope(x_T: Float[Array, " T"], y_T: Float[Array, " T"]) -> float:
    """Exponent a of y ~ x^a by regression on logarithms."""
    return float(np.polyfit(np.log(x_T), np.log(y_T), 1)[0])
