"""What calibration promises, against simulated calibrations."""

import numpy as np
import pytest

from dae_theory import InputError
from dae_theory.theory.calibration import calibration_rank, false_alarms, false_positive_rate

T, LEVEL, TESTED, REPEATS = 60, 0.1, 40, 20_000


@pytest.fixture(scope="module")
def simulated():
    """False alarms among TESTED scores of a skewed law, for each of many calibrations."""
    rng = np.random.default_rng(0)
    calibration_RT = rng.exponential(size=(REPEATS, T))
    score_RM = rng.exponential(size=(REPEATS, TESTED))
    k = calibration_rank(T, LEVEL)
    threshold_R = np.sort(calibration_RT, axis=1)[:, -k]
    rate_R = np.exp(-threshold_R)  # of a further score of this law
    return rate_R, np.sum(score_RM > threshold_R[:, None], axis=1)


def test_p_values_below_a_level_are_no_more_frequent():
    """p = (1 + scores as high)/(T+1) of an exchangeable score is ≤ a with probability ≤ a."""
    rng = np.random.default_rng(1)
    scores = rng.integers(5, size=(REPEATS, T + 1)).astype(float)  # with ties
    for values in (scores, rng.standard_normal(scores.shape)):
        p = (1 + np.sum(values[:, 1:] >= values[:, :1], axis=1)) / (T + 1)
        for level in (0.05, 0.1, 0.3):
            assert np.mean(p <= level) < level + 0.008
    exact = np.mean(p <= LEVEL)
    assert exact == pytest.approx(calibration_rank(T, LEVEL) / (T + 1), abs=0.008)


def test_achieved_rates_follow_the_beta_law(simulated):
    rate_R, _ = simulated
    promised = false_positive_rate(T, LEVEL)
    assert promised.value == pytest.approx(6 / 61)
    assert rate_R.mean() == pytest.approx(promised.value, abs=0.001)
    inside = np.mean((promised.low <= rate_R) & (rate_R <= promised.high))
    assert inside == pytest.approx(0.95, abs=0.006)


def test_counts_of_false_alarms_follow_the_beta_binomial_law(simulated):
    _, count_R = simulated
    promised = false_alarms(T, LEVEL, TESTED)
    assert count_R.mean() == pytest.approx(promised.value, abs=0.05)
    assert np.mean((promised.low <= count_R) & (count_R <= promised.high)) >= 0.945


def test_too_few_images_never_alarm():
    assert calibration_rank(98, 0.01) == 0
    assert calibration_rank(99, 0.01) == 1
    assert calibration_rank(99, 0.29) == 29
    assert false_positive_rate(98, 0.01) == (0, 0, 0)
    assert false_alarms(98, 0.01, 1000) == (0, 0, 0)


def test_bad_input():
    with pytest.raises(InputError, match="level"):
        calibration_rank(10, 1.0)
    with pytest.raises(InputError, match="calibration"):
        calibration_rank(0, 0.1)
    with pytest.raises(InputError, match="tested"):
        false_alarms(10, 0.1, 0)
