"""What a threshold that was calibrated on images known not to be memorized can promise
(docs/THEORY.md#conformal)."""

import scipy  # its stats takes most of a second to load: only where it is used

from dae_theory.checks import InputError, check_count
from dae_theory.statistics import CONFIDENCE, Interval


def calibration_rank(calibration: int, level: float) -> int:
    """k = ⌊level·(T+1)⌋: an image is called memorized when fewer than k of the T calibration images
    score as high. 0 where T is too small to ever call one.

    Raises:
      InputError: for T < 1, or a level outside (0, 1).
    """
    check_count(calibration, "calibration")
    if not 0 < level < 1:
        raise InputError(f"level: must be between 0 and 1, got {level}")
    return int(level * (calibration + 1) + 1e-9)  # 0.29·100 is 28.999... in float64


def rate_law(calibration: int, rank: int):
    """Law of the rate of false alarms of a threshold at the k-th highest of T scores with a
    density, Beta(k, T+1−k), for k ≥ 1."""
    return scipy.stats.beta(rank, calibration + 1 - rank)


def alarms_law(calibration: int, rank: int, tested: int):
    """Law of the number of false alarms among M further images, BetaBinomial(M, k, T+1−k)."""
    return scipy.stats.betabinom(tested, rank, calibration + 1 - rank)


def false_positive_rate(calibration: int, level: float) -> Interval:
    """The rate of false alarms that a calibration of T images achieves: mean k/(T+1), with the
    interval that holds it in 95% of calibrations, that of Beta(k, T+1−k).

    For scores with a density; ties make the rate smaller.

    Raises:
      InputError: as `calibration_rank`.
    """
    k = calibration_rank(calibration, level)
    if k == 0:
        return Interval(0.0, 0.0, 0.0)
    rate = rate_law(calibration, k)
    return Interval(float(rate.mean()), *map(float, rate.interval(CONFIDENCE)))


def false_alarms(calibration: int, level: float, tested: int) -> Interval:
    """Number of false alarms among further images that are not memorized: its mean, and the ends
    between which it is in 95% of cases or more, those of BetaBinomial(M, k, T+1−k).

    Raises:
      InputError: as `calibration_rank`; for fewer than one image.
    """
    check_count(tested, "tested")
    k = calibration_rank(calibration, level)
    if k == 0:
        return Interval(0.0, 0.0, 0.0)
    count = alarms_law(calibration, k, tested)
    return Interval(float(count.mean()), *map(float, count.interval(CONFIDENCE)))
