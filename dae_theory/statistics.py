"""Values with their intervals over independent measurements, areas under the ROC curve, slopes.

How often each interval covers the truth at the numbers of seeds, samples and positives in use is
simulated by `python -m benchmarks.coverage`; docs/RESULTS.md has the table.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy  # its stats takes most of a second to load: only where it is used
from jaxtyping import Array, Float

from dae_theory.checks import InputError

CONFIDENCE = 0.95
# What may fall outside an end, for few values, as a share of what else may; simulated
# (`benchmarks.coverage`): see `mean_interval`.
TAILS = {2: 0.75, 3: 0.6, 4: 0.4, 5: 0.6, 6: 0.8}
FEWEST_WITH_SIDES = 4  # values whose skewness says which end that is; of fewer, both
# How many values Newcombe's spread of scores counts for: see `area_under_roc_interval`.
SHAPE_PRIOR, SCALE_PRIOR = 8, 100
POOLED = 0.75  # confidence of all groups together, where they differ; simulated: see `widened`
UNEVEN = 2.0  # how much larger both spreads are where one group is much the smaller


class Interval(NamedTuple):
    """A value with the ends of its confidence interval, 95% unless another was asked for."""

    value: float
    low: float
    high: float

    def shown(self, digits: int) -> str:
        """'value [low, high]', with so many digits after the point."""
        value, low, high = (f"{number:.{digits}f}" for number in self)
        return f"{value} [{low}, {high}]"


def mean_interval(
    values_S: Float[Array, " S"], confidence: float = CONFIDENCE, *, symmetric: bool = False
) -> Interval | None:
    """Mean of independent values, with Student's t interval corrected for their skewness.

    Hall, "On the removal of skewness by transformation" (1992): t = (mean − μ)/s is mapped by
    t + γt²/3 + γ²t³/27 + γ/6S, γ the sample skewness, to what is nearer to Student's distribution.
    γ of few values is too small, and less may fall outside the end to which they are skewed:
    TAILS. The mean of exponential as of normal values is then covered in 93% to 97% of cases.
    The plain t interval for ``symmetric`` values.

    None for fewer than two values, or where one is not finite. Equal values have no width.
    """
    values_S = np.asarray(values_S, float)
    if values_S.size < 2 or not np.all(np.isfinite(values_S)):
        return None
    mean, count = float(np.mean(values_S)), values_S.size
    spread = float(np.std(values_S, ddof=1))
    if spread == 0 or np.ptp(values_S) == 0:  # the skewness is 0/0; the first may underflow
        return Interval(*3 * [float(values_S[0])])
    standard_S = (values_S - mean) / float(np.std(values_S))
    skewness = 0.0 if symmetric else float(np.mean(standard_S**3))

    def unskewed(t: float) -> float:
        if abs(skewness) < 1e-6:  # the limit
            return t
        return 3 / skewness * (np.cbrt(1 + skewness * (t - skewness / (6 * count))) - 1)

    def reach(side: int) -> float:
        """Standard deviations from the mean to the end below (−1) or above (1)."""
        skewed = count < FEWEST_WITH_SIDES or side * skewness > 0
        tail = TAILS.get(count, 1.0) if skewed and not symmetric else 1.0
        t = student_quantile(1 - tail * (1 - confidence), count - 1) / count**0.5
        return -unskewed(-side * t)

    return Interval(mean, *(float(mean + spread * reach(side)) for side in (-1, 1)))


def student_quantile(confidence: float, freedom: int) -> float:
    """How many standard errors a two-sided interval of Student's t reaches."""
    return float(scipy.special.stdtrit(freedom, (1 + confidence) / 2))


def ratio_interval(above_N: Float[np.ndarray, " N"], below_N: Float[np.ndarray, " N"]) -> Interval:
    """Ratio of the means of paired values, with its interval by the delta method: Student's t of
    the residuals above − ratio·below."""
    mean, count = float(np.mean(below_N)), len(below_N)
    ratio = float(np.mean(above_N)) / mean
    spread = float(np.std(above_N - ratio * below_N, ddof=1)) / mean
    reach = student_quantile(CONFIDENCE, count - 1) * spread / count**0.5
    return Interval(ratio, ratio - reach, ratio + reach)


def share_interval(count: int, total: float, confidence: float = CONFIDENCE) -> Interval:
    """``count`` out of ``total`` independent cases as a share, with the exact interval of Clopper
    and Pearson (1934), which covers the truth at least as often as it says.

    Where none or all count its other end is 1 − (α/2)^{1/total}, or one minus that;
    α = 1 − confidence.

    Raises:
      InputError: when there is nothing to share.
    """
    if total == 0:
        raise InputError("share: needs at least one case")
    tail, missing = (1 - confidence) / 2, total - count
    low = 0.0 if count == 0 else scipy.special.betaincinv(count, missing + 1, tail)
    high = 1.0 if missing == 0 else scipy.special.betaincinv(count + 1, missing, 1 - tail)
    return Interval(count / total, float(low), float(high))


def grouped_share_interval(shares_S: Float[Array, " S"], cases: float) -> Interval:
    """Mean of S shares of ``cases`` cases each (on average), such as of the samples of S nets.

    `mean_interval`, which knows that groups differ, `widened` to `share_interval` of all cases
    together, which knows that a share of 0 in all groups does not prove a share of 0. With one
    case a group it is `share_interval`.
    """
    shares_S = np.asarray(shares_S, float)
    count, total = round(float(np.sum(shares_S)) * cases), shares_S.size * cases
    spread = mean_interval(shares_S) if cases > 1 else None
    return widened(spread, lambda confidence: share_interval(count, total, confidence))


def grouped_area_interval(areas_S: Float[Array, " S"], positives: int, negatives: int) -> Interval:
    """Mean of S areas under the ROC curve, such as of S models, of ``positives`` and ``negatives``
    in all of them together.

    `mean_interval`, which knows that groups differ, `widened` to `area_ends` of all together, which
    knows that an area of 1 in all groups does not prove one of 1.
    """
    mean = float(np.mean(areas_S))

    def pooled(confidence: float) -> Interval:
        return Interval(mean, *area_ends(mean, positives, negatives, confidence=confidence))

    return widened(mean_interval(areas_S), pooled)


def widened(spread: Interval | None, pooled: Callable[[float], Interval]) -> Interval:
    """An interval within [0, 1] from the lowest to the highest end of both: ``spread`` of groups,
    and ``pooled`` at some confidence. Where groups differ POOLED is enough, since most of what may
    fall outside falls outside their spread; where they are equal or unknown all rests on it."""
    if spread is None or spread.low == spread.high:
        return pooled(CONFIDENCE)
    together = pooled(POOLED)
    ends = min(spread.low, together.low), max(spread.high, together.high)
    return Interval(spread.value, max(ends[0], 0.0), min(ends[1], 1.0))


def area_under_roc(positive_P: Float[Array, " P"], negative_N: Float[Array, " N"]) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    if np.isnan(positive_P).any() or np.isnan(negative_N).any():
        return np.nan
    return float(np.mean(share_below(positive_P, negative_N)))


def share_below(
    score_P: Float[Array, " P"], other_N: Float[Array, " N"]
) -> Float[np.ndarray, " P"]:
    """Share of the others below each score, ties counting half."""
    sorted_N = np.sort(other_N)
    below_P, up_to_P = (np.searchsorted(sorted_N, score_P, side) for side in ("left", "right"))
    return (below_P + up_to_P) / (2 * len(sorted_N))


def area_under_roc_interval(
    positive_P: Float[Array, " P"], negative_N: Float[Array, " N"]
) -> Interval:
    """`area_under_roc` with a score interval: all areas A from which the measured one is within
    1.96 standard errors, at the standard error that A would give.

    The variance is [A(1−A) + (P−1)V₋ + (N−1)V₊]/(PN), V₊ the variance over positives of the share
    of negatives below them, V₋ over negatives of that of positives above. Hanley and McNeil (1982)
    give both for exponential scores; half their sum for each, V(A), is method 5 of Newcombe,
    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2"
    (2006). Here V₊ and V₋ are V(A) times what the scores say of them, in which V(A) counts
    as SHAPE_PRIOR values for the ratio of the two and as SCALE_PRIOR for their sum; both are
    1 + UNEVEN Â(1−Â)|1/P − 1/N| times as large, Â the measured area, since that of a small group
    is known from few.
    Groups that do not overlap leave the interval its width.

    Raises:
      InputError: for an empty group, or scores that are not finite.
    """
    positive_P, negative_N = np.asarray(positive_P, float), np.asarray(negative_N, float)
    for name, scores in (("positive", positive_P), ("negative", negative_N)):
        if scores.ndim != 1 or len(scores) == 0 or not np.all(np.isfinite(scores)):
            raise InputError(f"{name}: expected one finite score or more, got {scores.shape}")
    shares = share_below(positive_P, negative_N), share_below(negative_N, positive_P)
    area, counts = float(np.mean(shares[0])), (len(positive_P), len(negative_N))
    return Interval(area, *area_ends(area, *counts, _spreads(area, *shares)))


def _spreads(
    area: float, below_P: Float[np.ndarray, " P"], below_N: Float[np.ndarray, " N"]
) -> tuple[float, float]:
    """V₊ and V₋ over V(A): see `area_under_roc_interval`."""
    expected, counts = _variance_of_shares(area), np.array([len(below_P), len(below_N)])
    if min(counts) < 2 or expected == 0:
        return 1.0, 1.0
    # Without what is due to the finite number of the others.
    found = np.array(
        [
            max(np.var(own, ddof=1) - np.mean(own * (1 - own)) / (others - 1), 0.0)
            for own, others in ((below_P, counts[1]), (below_N, counts[0]))
        ]
    )
    shape = (counts * found + SHAPE_PRIOR * expected) / (counts + SHAPE_PRIOR)
    count = 2 / np.sum(1 / counts)
    scale = (count * np.mean(found) / expected + SCALE_PRIOR) / (count + SCALE_PRIOR)
    wider = 1 + UNEVEN * area * (1 - area) * float(np.ptp(1 / counts))
    return tuple(wider * scale * shape / np.mean(shape))


def _variance_of_shares(area: float) -> float:
    """V(A) of `area_under_roc_interval`."""
    return area * (1 - area) * ((1 - area) / (2 - area) + area / (1 + area)) / 2


def area_ends(
    area: float,
    positives: int,
    negatives: int,
    spreads: tuple[float, float] = (1.0, 1.0),
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Ends of the interval around a measured area under the ROC curve.

    ``spreads``: V₊ and V₋ over V(A), see `area_under_roc_interval`; Newcombe's by default.
    """
    quantile = float(scipy.special.ndtri((1 + confidence) / 2))
    weight = spreads[0] * (negatives - 1) + spreads[1] * (positives - 1)

    def excess(a: float) -> float:
        """How far the measured area is beyond the reach of ``a``, squared; negative within."""
        variance = (a * (1 - a) + weight * _variance_of_shares(a)) / (positives * negatives)
        return (area - a) ** 2 - quantile**2 * variance

    inside = 1e-9  # areas of 0 and 1 have no standard error: beside them there is one
    low = 0.0 if area < inside else scipy.optimize.brentq(excess, 0.0, min(area, 1 - inside))
    high = 1.0 if area > 1 - inside else scipy.optimize.brentq(excess, max(area, inside), 1.0)
    return float(low), float(high)


def log_log_slope(x_T: Float[Array, " T"], y_T: Float[Array, " T"]) -> float:
    """Exponent a of y ~ x^a by regression on logarithms."""
    return float(np.polyfit(np.log(x_T), np.log(y_T), 1)[0])
