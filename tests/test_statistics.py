"""Intervals cover the truth as often as they say and agree with SciPy; slopes; areas."""

import warnings

import numpy as np
import pytest
import scipy.stats

from dae_theory.checks import InputError
from dae_theory.statistics import (
    RESAMPLES,
    Interval,
    area_under_roc,
    area_under_roc_interval,
    bootstrap_mean,
    bootstrap_share,
    clopper_pearson_interval,
    log_log_slope,
    mean_interval,
    ratio_interval,
    wilson_interval,
)

# --- means ---------------------------------------------------------------------------------------


def test_bootstrap_of_the_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values = rng.standard_normal(30)
        mean, low, high = bootstrap_mean(values)
        assert mean == np.mean(values)
        covered += low <= 0 <= high
    assert 0.88 < covered / 200 < 0.99


def test_bootstrap_of_the_mean_is_that_by_resampling():
    values = np.random.default_rng(1).exponential(size=12)
    found = bootstrap_mean(values)
    rng = np.random.default_rng(2)
    means = [values[rng.integers(12, size=12)].mean() for _ in range(20_000)]
    width = found.high - found.low
    np.testing.assert_allclose(found[1:], np.quantile(means, [0.025, 0.975]), atol=0.03 * width)
    assert found == bootstrap_mean(values)  # no randomness is left


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [1.0, np.inf]])
def test_few_values_or_such_as_are_not_finite_have_no_interval(values):
    assert bootstrap_mean(np.array(values)) is None


def test_equal_values_have_an_interval_without_width():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap_mean([0.1] * 7) == Interval(0.1, 0.1, 0.1)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    for _ in range(400):
        below = rng.exponential(1.0, 300) + 1
        above = 1.5 * below + 0.3 * rng.standard_normal(300)
        mean, ratio = mean_interval(below), ratio_interval(above, below)
        covered += [mean.low < 2 < mean.high, ratio.low < 1.5 < ratio.high]
    assert np.all((covered / 400 > 0.92) & (covered / 400 < 0.98))


# --- shares --------------------------------------------------------------------------------------


def wilson_by_hand(count, total, z=1.959963985):
    p = count / total
    centre = p + z**2 / (2 * total)
    half = z * np.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    return (np.array([-half, half]) + centre) / (1 + z**2 / total)


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 10), (48, 48)])
def test_wilson_interval(count, total):
    share = wilson_interval(count, total)
    np.testing.assert_allclose(share[1:], wilson_by_hand(count, total), atol=1e-8)
    assert share.value == count / total


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 10), (48, 48)])
def test_clopper_pearson_leaves_half_of_the_error_on_each_side(count, total):
    share = clopper_pearson_interval(count, total, 0.9)
    assert share.value == count / total
    assert (share.low == 0) == (count == 0)
    assert (share.high == 1) == (count == total)
    if count > 0:
        assert scipy.stats.binom.sf(count - 1, total, share.low) == pytest.approx(0.05, abs=1e-9)
    if count < total:
        assert scipy.stats.binom.cdf(count, total, share.high) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("total", [1, 5, 400])
def test_shares_of_none_and_of_all_have_the_exact_interval_in_closed_form(total):
    reach = 1 - 0.05 ** (1 / total)  # alpha = 0.1
    np.testing.assert_allclose(bootstrap_share(0, total, 0.9), (0, 0, reach), atol=1e-12)
    np.testing.assert_allclose(bootstrap_share(total, total, 0.9), (1, 1 - reach, 1), atol=1e-12)


def test_bootstrap_of_a_share_is_that_by_resampling():
    yes = np.random.default_rng(0).random(150) < 0.3
    found = bootstrap_share(int(yes.sum()), 150)
    rng = np.random.default_rng(1)
    shares = [yes[rng.integers(150, size=150)].mean() for _ in range(RESAMPLES)]
    assert found.value == yes.mean()
    np.testing.assert_allclose(found[1:], np.quantile(shares, [0.025, 0.975]), atol=0.015)


@pytest.mark.parametrize("interval", [wilson_interval, clopper_pearson_interval, bootstrap_share])
def test_there_is_no_share_of_nothing(interval):
    with pytest.raises(InputError, match="at least one"):
        interval(0, 0)


# --- areas under the ROC curve -------------------------------------------------------------------


def test_auroc_against_counting_pairs():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 5, 40), rng.integers(0, 4, 30)
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert area_under_roc(positive, negative) == pytest.approx(np.mean(pairs))
    assert area_under_roc_interval(positive, negative).value == pytest.approx(np.mean(pairs))
    assert area_under_roc(negative, positive) == pytest.approx(1 - np.mean(pairs))  # no flip


def test_auroc_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    truth, covered = scipy.stats.norm.cdf(1 / np.sqrt(2)), 0  # N(1, 1) against N(0, 1)
    for seed in range(200):
        interval = area_under_roc_interval(
            1 + rng.standard_normal(25), rng.standard_normal(60), 400, seed
        )
        covered += interval.low <= truth <= interval.high
    assert 0.88 < covered / 200 < 0.99


@pytest.mark.parametrize("scores", [[], [np.nan], [[1.0]]])
def test_auroc_interval_refuses_scores_it_cannot_rank(scores):
    with pytest.raises(InputError, match="negative"):
        area_under_roc_interval([1.0], scores)


# --- slopes --------------------------------------------------------------------------------------


def test_slope_of_a_power_law_is_its_exponent():
    n = np.array([10.0, 100.0, 1000.0])
    assert log_log_slope(n, 3 * n**-0.5) == pytest.approx(-0.5, abs=1e-12)
