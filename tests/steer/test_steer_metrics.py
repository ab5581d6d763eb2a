"""Metrics against SciPy, brute force and trajectories whose numbers are known."""

import numpy as np
import pytest
import scipy.stats

from dae_theory.checks import InputError
from dae_theory.steer import metrics

GRID = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


def test_log_odds_are_exact_where_probabilities_round():
    log_probability = np.log(np.array([[0.2, 0.5, 0.3]]))
    np.testing.assert_allclose(metrics.log_odds(log_probability, 1), 0.0, atol=1e-12)
    sure = np.array([[0.0, -80.0, -90.0]])
    np.testing.assert_allclose(metrics.log_odds(sure, 0), 80.0, rtol=1e-4)
    np.testing.assert_allclose(metrics.probability(metrics.log_odds(log_probability, 0)), 0.2)


def test_spearman_is_scipy_s_with_ties():
    score = np.random.default_rng(0).integers(0, 4, (5, 20)).astype(float)
    score[:, 0] = 7.0
    found = metrics.spearman(GRID, score)
    assert found[0] == 0
    expected = [scipy.stats.spearmanr(GRID, column).statistic for column in score.T[1:]]
    np.testing.assert_allclose(found[1:], expected)


def test_gamma_is_of_the_pairs_that_differ():
    late, once, flat, falling = [0, 0, 0, 0, 1], [0, 2, 1, 2, 3], [1] * 5, [4, 3, 2, 1, 0]
    found = metrics.rising(np.array([late, once, flat, falling], float).T)
    # of once, nine pairs differ, of which one falls
    np.testing.assert_allclose(found, [1, 7 / 9, np.nan, -1])


def test_log_odds_are_held_to_what_the_classifier_can_tell():
    odds = np.array([-50.0, -1.0, 0.0, 3.0, 12.0])
    found = metrics.probability(metrics.resolved(odds))
    np.testing.assert_allclose(found[[0, -1]], [metrics.RESOLUTION, 1 - metrics.RESOLUTION])
    np.testing.assert_allclose(found[1:-1], metrics.probability(odds[1:-1]))


def test_monotone_allows_a_twentieth_of_the_range():
    rising = [0.0, 1, 2, 3, 4]
    little = [0.0, 2, 1.9, 3, 4]  # falls by .1 of 4
    much = [0.0, 2, 1.7, 3, 4]
    flat, falling = [1.0] * 5, [4.0, 3, 2, 1, 0]
    score = np.array([rising, little, much, flat, falling]).T
    assert metrics.monotone(score).tolist() == [True, True, False, False, False]
    assert metrics.monotone(score, slack=0.0).tolist() == [True, *[False] * 4]


def test_shares_of_steps():
    steps = np.array([[1.0, 0, 2, 0], [1, 4, 0, 0], [1, 0, 2, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(metrics.largest_share(steps), [0.25, 1, 0.5, np.nan])
    np.testing.assert_allclose(metrics.first_share(steps), [0.25, 0, 0.5, np.nan])
    np.testing.assert_allclose(metrics.uniformity(steps), [1, 0, 0.5, np.nan], atol=1e-12)
    with pytest.raises(InputError, match="number of steps: must be at least 2"):
        metrics.uniformity(steps[:1])


def test_steps_of_scores_and_of_samples():
    samples = np.array([[[0.0, 0], [1, 1]], [[3, 4], [1, 1]], [[3, 4], [1, 2]]])
    np.testing.assert_allclose(metrics.path_steps(samples), [[5, 0], [0, 1]])
    np.testing.assert_allclose(metrics.steps_of(samples[:, :, 0]), [[3, 0], [0, 0]])
    base = np.array([[3.0, 4], [2, 2]])
    np.testing.assert_allclose(metrics.distances(samples[1:], base)[0], [0, 2**0.5])
    np.testing.assert_allclose(metrics.cosines(samples[1:], base)[0], [1, 1])


def test_saturation_and_what_is_left_at_equal_gain():
    score = np.array([[9.0, 0], [9, 0], [1, 0], [3, 0], [5, 1]])
    assert metrics.saturation(GRID, score[:, :1]) == pytest.approx(1.9)
    assert np.isnan(metrics.saturation(GRID, -score[:, :1]))
    value = np.array([[0.0, 0], [0, 0], [10, 10], [20, 20], [40, 40]])
    np.testing.assert_allclose(metrics.at_gain(GRID, score, value, 2.0), [20, np.nan])
    np.testing.assert_allclose(metrics.at_gain(GRID, score, value, 0.5), [12.5, 30])
    np.testing.assert_allclose(metrics.at_gain(GRID, score, value, 0.0), [10, 10])
    with pytest.raises(InputError, match="strengths: expected increasing ones"):
        metrics.at_gain(GRID[::-1], score, value, 1.0)


def test_energy_distance_is_the_sum_over_pairs_and_without_bias():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((6, 3)), random.standard_normal((4, 3)) + 1
    between = np.mean([np.linalg.norm(a - b) for a in x for b in y])
    inside = [
        np.mean(
            [np.linalg.norm(s[i] - s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]
        )
        for s in (x, y)
    ]
    assert metrics.energy_distance(x, y) == pytest.approx(2 * between - sum(inside))
    drawn = [metrics.energy_distance(*random.standard_normal((2, 20, 3))) for _ in range(300)]
    assert abs(np.mean(drawn)) < 4 * np.std(drawn) / 300**0.5
    with pytest.raises(InputError, match="number of samples: must be at least 2"):
        metrics.energy_distance(x[:1], y)


def test_the_null_is_rarely_exceeded_by_images_of_the_same_law():
    random = np.random.default_rng(1)
    real = random.standard_normal((80, 3))
    null = metrics.energy_null(real, 20)
    draw = lambda count: random.standard_normal((count, 3))  # noqa: E731
    same = [metrics.energy_distance(draw(20), draw(60)) for _ in range(100)]
    assert np.mean(np.array(same) > null) < 0.15
    assert metrics.energy_distance(random.standard_normal((20, 3)) + 1, real) > null
    with pytest.raises(InputError, match="size: must be at most 78"):
        metrics.energy_null(real, 79)
