"""Intervals cover the truth as often as they say, at the numbers of values in use."""

import numpy as np
import pytest

from benchmarks import coverage

REPEATS = 1500
FEW = 400  # of intervals that take longer


def noise_of(repeats: int) -> float:
    """Three standard errors of a coverage."""
    return 3 * (0.05 * 0.95 / repeats) ** 0.5


def within(covered: float, repeats: int = REPEATS, high: float = 0.97) -> bool:
    return 0.93 - noise_of(repeats) <= covered <= high + noise_of(repeats)


@pytest.mark.parametrize("count", coverage.COUNTS)
def test_means(count):
    for values in coverage.VALUES:
        assert within(coverage.of_means(values, count, REPEATS))


@pytest.mark.parametrize("count", coverage.COUNTS)
def test_symmetric_values_and_ratios(count):
    assert within(coverage.of_means("normal", count, REPEATS, symmetric=True))
    assert within(coverage.of_ratios(count, REPEATS))


@pytest.mark.parametrize("count", coverage.COUNTS)
@pytest.mark.parametrize("share", coverage.SHARES)
def test_shares_are_covered_at_least_as_often(count, share):
    assert coverage.of_shares(share, count, REPEATS) >= 0.95 - noise_of(REPEATS)


@pytest.mark.parametrize("count", coverage.COUNTS)
def test_shares_of_groups_that_differ(count):
    assert within(coverage.of_grouped_shares(0.3, count, REPEATS))
    assert within(coverage.of_grouped_shares(0.1, count, REPEATS), high=0.98)


@pytest.mark.parametrize("count", coverage.COUNTS)
def test_areas_of_groups_that_differ(count):
    for area in coverage.AREAS:
        assert within(coverage.of_grouped_areas(area, count, FEW), FEW)


@pytest.mark.parametrize("groups", coverage.GROUPS)
def test_areas(groups):
    for area in coverage.AREAS:
        assert within(coverage.of_areas(area, groups, REPEATS, exponential=False))
        assert within(coverage.of_areas(area, groups, FEW, exponential=True), FEW)


def test_coverage_is_counted_right():
    narrow = [coverage.Interval(0.0, -0.1, 0.1)] * 3 + [coverage.Interval(1.0, 0.9, 1.1)]
    assert coverage.share_covered(narrow, 0.0) == 0.75
    assert np.isclose(coverage.of_shares(0.5, 2, 400), 1.0)  # of 2 cases no outcome excludes ½
