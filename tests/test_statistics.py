"""Intervals cover the truth as often as they say and agree with SciPy; slopes; areas."""

import warnings

import numpy as np
import pytest
import scipy.stats

from dae_theory.checks import InputError
from dae_theory.statistics import (
    Interval,
    area_ends,
    area_under_roc,
    area_under_roc_interval,
    grouped_area_interval,
    grouped_share_interval,
    log_log_slope,
    mean_interval,
    ratio_interval,
    share_interval,
)

# --- means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.5, 0.95])
@pytest.mark.parametrize("values", [[1.0, 3.0], [1.0, 2.0, 9.0], [-3.0, -1.0, 1.0, 3.0, 8.0]])
def test_mean_of_symmetric_values_has_the_t_interval(values, confidence):
    found = mean_interval(values, confidence, symmetric=True)
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    np.testing.assert_allclose(found[1:], expected, rtol=1e-9)
    assert found.value == np.mean(values)


@pytest.mark.parametrize(
    ("count", "below", "above"), [(3, 0.6, 0.6), (4, 1, 0.4), (5, 1, 0.6), (6, 1, 0.8), (9, 1, 1)]
)
def test_skewed_values_have_halls_interval(count, below, above):
    values = np.array([0.1, 0.2, 3.0, 0.2, 0.5, 0.3, 1.0, 0.7, 0.1])[:count]
    skewness = scipy.stats.skew(values)

    def transformed(mean):  # what is compared with the quantile
        t = (values.mean() - mean) / values.std(ddof=1)
        return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / (6 * count)

    def quantile(share):
        return scipy.stats.t.ppf(1 - 0.025 * share, count - 1) / count**0.5

    found = mean_interval(values)
    np.testing.assert_allclose(transformed(found.low), quantile(below))
    np.testing.assert_allclose(transformed(found.high), -quantile(above))
    assert found.high - found.value > found.value - found.low  # the tail reaches upwards
    np.testing.assert_allclose(mean_interval(-values), -np.array(found)[[0, 2, 1]])


def test_two_values_have_a_t_interval_that_allows_for_their_skewness():
    expected = scipy.stats.ttest_1samp([1.0, 4.0], 0.0).confidence_interval(1 - 0.75 * 0.05)
    np.testing.assert_allclose(mean_interval([1.0, 4.0])[1:], expected, rtol=1e-9)


def test_intervals_of_means_move_and_grow_with_the_values():
    values = np.random.default_rng(0).exponential(size=9)
    mean, low, high = mean_interval(values)
    np.testing.assert_allclose(mean_interval(3 * values + 1), 3 * np.array([mean, low, high]) + 1)
    np.testing.assert_allclose(mean_interval(-values), [-mean, -high, -low])


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [1.0, np.inf]])
def test_few_values_or_such_as_are_not_finite_have_no_interval(values):
    assert mean_interval(np.array(values)) is None


def test_equal_values_have_an_interval_without_width():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mean_interval([0.1] * 7) == Interval(0.1, 0.1, 0.1)


def test_an_interval_is_shown_with_its_digits():
    assert Interval(0.25, -0.126, 1).shown(2) == "0.25 [-0.13, 1.00]"


def test_ratio_of_proportional_values_has_no_width():
    below = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(ratio_interval(3 * below, below), [3, 3, 3])


# --- shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 10), (48, 48)])
def test_clopper_pearson_leaves_half_of_the_error_on_each_side(count, total):
    share = share_interval(count, total, 0.9)
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
    np.testing.assert_allclose(share_interval(0, total, 0.9), (0, 0, reach), atol=1e-12)
    np.testing.assert_allclose(share_interval(total, total, 0.9), (1, 1 - reach, 1), atol=1e-12)


def test_there_is_no_share_of_nothing():
    with pytest.raises(InputError, match="at least one"):
        share_interval(0, 0)


def test_groups_without_a_case_do_not_prove_a_share_of_zero():
    assert grouped_share_interval(np.zeros(4), 250) == share_interval(0, 1000)
    assert grouped_share_interval(np.array([0.0, 1.0, 0.0]), 1) == share_interval(1, 3)


def test_groups_that_differ_widen_the_interval():
    found = grouped_share_interval(np.array([0.2, 0.3, 0.4, 0.3]), 1000)
    np.testing.assert_allclose(found[1:], mean_interval([0.2, 0.3, 0.4, 0.3])[1:])
    alike = grouped_share_interval(np.array([0.2, 0.2, 0.2]), 10)
    assert alike == share_interval(6, 30)


def test_groups_that_hardly_differ_say_no_more_than_all_cases_at_three_quarters():
    hardly = np.array([0.2, 0.2, 0.2, 0.201])
    assert grouped_share_interval(hardly, 10)[1:] == share_interval(8, 40, 0.75)[1:]
    areas = hardly + 0.6
    ends = area_ends(float(np.mean(areas)), 40, 60, confidence=0.75)
    assert grouped_area_interval(areas, 40, 60)[1:] == ends


@pytest.mark.parametrize("confidence", [0.5, 0.75, 0.99])
def test_ends_of_an_area_are_so_many_standard_errors_away(confidence):
    for end in area_ends(0.8, 30, 50, confidence=confidence):
        half = end * (1 - end) * ((1 - end) / (2 - end) + end / (1 + end)) / 2
        variance = (end * (1 - end) + 78 * half) / 1500
        reach = scipy.stats.norm.ppf((1 + confidence) / 2)
        assert abs(0.8 - end) == pytest.approx(reach * variance**0.5, rel=1e-6)


# --- areas under the ROC curve -------------------------------------------------------------------


def test_auroc_against_counting_pairs():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 5, 40), rng.integers(0, 4, 30)
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert area_under_roc(positive, negative) == pytest.approx(np.mean(pairs))
    assert area_under_roc_interval(positive, negative).value == pytest.approx(np.mean(pairs))
    assert area_under_roc(negative, positive) == pytest.approx(1 - np.mean(pairs))  # no flip


def test_ends_are_where_the_score_test_of_newcombe_does_not_reject():
    area = 0.75
    for end in area_ends(area, 3, 4):
        m = (3 + 4) / 2
        variance = end * (1 - end) / 12
        variance *= 1 + (m - 1) * ((1 - end) / (2 - end) + end / (1 + end))
        assert abs(area - end) == pytest.approx(1.959964 * variance**0.5, rel=1e-5)


@pytest.mark.parametrize("spread", [1 / 4, 1.0, 4.0])
def test_interval_of_many_scores_has_the_width_of_their_own_standard_error(spread):
    rng = np.random.default_rng(1)
    positive, negative = spread * rng.standard_normal(1000) + 1, rng.standard_normal(4000)
    _, low, high = area_under_roc_interval(positive, negative)
    above = positive[:, None] > negative  # DeLong's standard error, by all pairs
    error = (above.mean(1).var(ddof=1) / 1000 + above.mean(0).var(ddof=1) / 4000) ** 0.5
    assert high - low == pytest.approx(2 * 1.959964 * error, rel=0.02)
    newcombe = np.ptp(area_ends(above.mean(), 1000, 4000))
    assert (abs(newcombe / (high - low) - 1) > 0.1) == (spread != 1)


def test_mirrored_scores_have_the_mirrored_interval():
    rng = np.random.default_rng(2)
    positive, negative = 3 * rng.standard_normal(9) + 2, rng.standard_normal(30)
    found = area_under_roc_interval(positive, negative)
    mirrored = area_under_roc_interval(-positive, -negative)
    np.testing.assert_allclose(mirrored, 1 - np.array(found)[[0, 2, 1]], atol=1e-9)


def test_few_wide_scores_have_a_wider_interval_than_few_narrow_ones():
    wide, narrow = np.array([-9.0, -8.0, 8.0, 9.0, 10.0]), np.linspace(0.2, 0.5, 5)
    many = np.random.default_rng(3).standard_normal(100)
    widths = [np.ptp(area_under_roc_interval(few, many)[1:]) for few in (wide, narrow)]
    assert widths[0] > 1.2 * widths[1]


@pytest.mark.parametrize("counts", [(5, 100), (100, 5), (12, 12)])
def test_ends_are_where_the_spread_of_the_scores_and_of_newcombe_allow(counts):
    rng = np.random.default_rng(5)
    positive, negative = 2 * rng.standard_normal(counts[0]) + 1, rng.standard_normal(counts[1])
    above = positive[:, None] > negative
    area = above.mean()

    def expected(a):
        return a * (1 - a) * ((1 - a) / (2 - a) + a / (1 + a)) / 2

    # Of the shares over the scores of a group, without what the draw of the others adds.
    positives, negatives = counts
    own, others = (
        max(above.mean(axis).var(ddof=1) - above.var(axis, ddof=1).mean() / above.shape[axis], 0)
        for axis in (1, 0)
    )
    shapes = (np.array([positives * own, negatives * others]) + 8 * expected(area)) / (
        np.array(counts) + 8
    )
    harmonic = 2 / (1 / positives + 1 / negatives)
    scale = (harmonic * (own + others) / 2 / expected(area) + 100) / (harmonic + 100)
    scale *= 1 + 2 * area * (1 - area) * abs(1 / positives - 1 / negatives)
    for end in area_under_roc_interval(positive, negative)[1:]:
        spreads = scale * expected(end) * shapes / shapes.mean()
        variance = end * (1 - end) + (negatives - 1) * spreads[0] + (positives - 1) * spreads[1]
        assert abs(area - end) == pytest.approx(1.959964 * (variance / above.size) ** 0.5, rel=1e-5)


def test_areas_of_groups_that_differ_and_of_such_as_do_not():
    differ, alike = np.array([0.5, 0.7, 0.9, 1.0]), np.ones(4)
    found = grouped_area_interval(differ, 1000, 1000)
    mean, low, high = mean_interval(differ)
    np.testing.assert_allclose(found, (mean, low, min(high, 1.0)))
    assert grouped_area_interval(alike, 40, 60) == (1.0, *area_ends(1.0, 40, 60))
    assert grouped_area_interval([0.8], 10, 60) == (0.8, *area_ends(0.8, 10, 60))


def test_groups_that_do_not_overlap_have_an_interval():
    found = area_under_roc_interval([2.0, 3.0, 4.0, 5.0, 6.0], np.linspace(0, 1, 100))
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.7 < found.low < 0.9
    mirrored = area_under_roc_interval(np.linspace(0, 1, 100), [2.0, 3.0, 4.0, 5.0, 6.0])
    np.testing.assert_allclose(mirrored, [0.0, 0.0, 1 - found.low], atol=1e-9)


@pytest.mark.parametrize("scores", [[], [np.nan], [[1.0]]])
def test_auroc_interval_refuses_scores_it_cannot_rank(scores):
    with pytest.raises(InputError, match="negative"):
        area_under_roc_interval([1.0], scores)


# --- slopes --------------------------------------------------------------------------------------


def test_slope_of_a_power_law_is_its_exponent():
    n = np.array([10.0, 100.0, 1000.0])
    assert log_log_slope(n, 3 * n**-0.5) == pytest.approx(-0.5, abs=1e-12)
