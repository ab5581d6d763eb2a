"""Copies: exact intervals, false alarms and simulated coverage."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import binom, binomtest
from test_nearest import gaussian

from dae_theory.checks import InputError
from dae_theory.memorization.copies import (
    COPY_RATIO,
    copy_threshold,
    fraction_memorized,
    gap_ratio,
    reproducibility,
)
from dae_theory.memorization.nearest import (
    near_duplicate_groups,
    nearest_cosine,
    nearest_two,
    with_mirrored,
)


def share_of_copies(samples_MD, train_ND, groups_N=None):
    return fraction_memorized(
        gap_ratio(nearest_two(samples_MD, train_ND, groups_N).distances)
    ).value


def test_duplicates_are_grouped_or_they_would_hide_copies():
    train_ND = np.tile(gaussian(0, 100, 30), (2, 1))
    samples_MD = train_ND[:20].copy()
    grouped_M = gap_ratio(nearest_two(samples_MD, train_ND).distances)
    hidden_M = gap_ratio(nearest_two(samples_MD, train_ND, np.arange(200)).distances)
    assert fraction_memorized(grouped_M).value == 1.0
    assert fraction_memorized(hidden_M).value == 0.0
    np.testing.assert_array_equal(hidden_M, 1.0)


def test_near_duplicates_are_grouped_within_a_radius():
    once_ND = gaussian(0, 100, 30)
    train_ND = np.concatenate([once_ND, once_ND + 0.004 * gaussian(1, 100, 30)])
    samples_MD = once_ND[:20] + 0.002 * gaussian(2, 20, 30)
    groups_N = near_duplicate_groups(train_ND, 0.1)
    np.testing.assert_array_equal(groups_N, np.tile(np.arange(100), 2))
    assert share_of_copies(samples_MD, train_ND) == 0.0
    assert share_of_copies(samples_MD, train_ND, groups_N) == 1.0


def test_mirrored_copies_are_found_where_they_are_looked_for():
    images = gaussian(0, 60, 4, 5)
    symmetric = images[0] + images[0, :, ::-1]
    train_ND = np.stack([*images, symmetric, images[1, :, ::-1]]).reshape(62, 20)
    samples_MD = images[:20, :, ::-1].reshape(20, 20) + 0.01 * gaussian(1, 20, 20)
    assert share_of_copies(samples_MD, train_ND) == 1 / 20  # of the one trained on as it is
    both_MD, groups_M = with_mirrored(train_ND, (4, 5))
    np.testing.assert_array_equal(
        both_MD[62:].reshape(62, 4, 5), both_MD[:62].reshape(62, 4, 5)[..., ::-1]
    )
    np.testing.assert_array_equal(groups_M, np.tile([*range(61), 1], 2))
    found = nearest_two(samples_MD, both_MD, groups_M)
    assert fraction_memorized(gap_ratio(found.distances)).value == 1.0
    np.testing.assert_array_equal(np.delete(found.indices[:, 0], 1), 62 + np.delete(range(20), 1))
    given_M = with_mirrored(train_ND, (4, 5), np.arange(62) // 2)[1]
    np.testing.assert_array_equal(given_M[:4], [0, 0, 1, 1])
    assert given_M[61] == given_M[1] == 0  # images 60 and 61, and the mirror image of 1


def test_gap_ratio_by_hand():
    distances_M2 = np.array([[0.0, 2.0], [1.0, 4.0], [3.0, 3.0], [0.0, 0.0]])
    np.testing.assert_array_equal(gap_ratio(distances_M2), [0.0, 0.25, 1.0, 1.0])


def test_features_are_just_another_array():
    def features(x_ND):  # blind to the sign of the first direction
        return np.abs(x_ND @ gaussian(9, 12, 5))

    train_ND = gaussian(0, 200, 12)
    samples_MD = -train_ND[:10]
    assert np.all(gap_ratio(nearest_two(samples_MD, train_ND).distances) > 0.3)
    found = nearest_two(features(samples_MD), features(train_ND))
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(10))
    np.testing.assert_allclose(gap_ratio(found.distances), 0.0, atol=1e-9)


def test_threshold_has_the_false_alarm_rate_it_promises():
    # Given the held-out samples the rate is Beta(k, T + 1 − k); with it that of T' new ones is a
    # beta-binomial, whose standard deviation is the tolerance.
    train_ND, held_out_TD, new_TD = (gaussian(s, n, 4) for s, n in enumerate((500, 3000, 6000)))
    ratio_T = gap_ratio(nearest_two(new_TD, train_ND).distances)
    cosine_T = nearest_cosine(new_TD, train_ND).cosines
    for rate in (0.01, 0.1):
        found = copy_threshold(held_out_TD, train_ND, rate)
        deviation = np.sqrt(rate * (1 - rate) * (1 / 3000 + 1 / 6000))
        assert abs(np.mean(ratio_T < found.gap_ratio) - rate) < 4 * deviation
        assert abs(np.mean(cosine_T > found.cosine) - rate) < 4 * deviation


@pytest.mark.parametrize("d", [1, 2, 4])
def test_chance_of_a_ratio_is_its_power_d(d):
    # Uniform density on a torus, its samples repeated around: the nearer of two points in a ball
    # of radius r₂ is uniform in it.
    random = np.random.default_rng(0)
    train_ND, samples_MD = random.random((400, d)), random.random((4000, d))
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * d), axis=-1).reshape(-1, d)
    around_ND = np.concatenate([train_ND + shift for shift in shifts])
    around_ND = around_ND[np.all(np.abs(around_ND - 0.5) < 0.9, axis=1)]
    ratio_M = gap_ratio(nearest_two(samples_MD, around_ND).distances)
    for ratio in (COPY_RATIO, 0.7):
        chance = ratio**d
        # Samples share their neighbours: fewer independent ones than there are samples.
        deviation = np.sqrt(chance * (1 - chance) / 400)
        assert abs(np.mean(ratio_M < ratio) - chance) < 3 * deviation


def test_held_out_samples_that_were_trained_on_are_refused_by_their_number():
    train_ND, held_out_TD = gaussian(0, 500, 4), gaussian(1, 200, 4)
    held_out_TD[[3, 50, 170]] = train_ND[[7, 7, 20]]
    with pytest.raises(InputError, match="held_out: 3 of 200 samples equal a training sample"):
        copy_threshold(held_out_TD, train_ND, 0.05)


def test_false_alarms_over_small_held_out_sets_are_k_in_t_plus_one():
    train_ND, hits, trials = gaussian(0, 60, 3), 0, 600
    for seed in range(trials):
        x_TD = gaussian(1000 + seed, 20, 3)
        threshold = copy_threshold(x_TD[:19], train_ND, 0.15)  # k = 3 of 20
        hits += gap_ratio(nearest_two(x_TD[19:], train_ND).distances)[0] < threshold.gap_ratio
    low, high = binom.ppf([1e-4, 1 - 1e-4], trials, 0.15)
    assert low <= hits <= high


def test_99_samples_calibrate_one_percent():
    train_ND = gaussian(0, 50, 3)
    threshold = copy_threshold(gaussian(1, 99, 3), train_ND, 0.01)
    ratio_T = gap_ratio(nearest_two(gaussian(1, 99, 3), train_ND).distances)
    assert threshold.gap_ratio == ratio_T.min()


@pytest.mark.parametrize(("way", "copied"), [(0.24, 1.0), (0.26, 0.0)])
def test_a_copy_is_three_times_nearer_to_one_sample_than_to_the_next(way, copied):
    ratios_M = gap_ratio(nearest_two(np.array([[way]]), np.array([[0.0], [1.0]])).distances)
    assert fraction_memorized(ratios_M).value == copied


@pytest.mark.parametrize("n", [1, 5, 400])
@pytest.mark.parametrize("copies", ["none", "all"])
def test_interval_without_variation_is_clopper_pearson(n, copies):
    ratios_M = np.full(n, 0.9 if copies == "none" else 0.1)
    found = fraction_memorized(ratios_M, confidence=0.9)
    exact = binomtest(int(np.sum(ratios_M < COPY_RATIO)), n).proportion_ci(0.9, "exact")
    np.testing.assert_allclose([found.low, found.high], exact, atol=1e-12)
    assert found.high > found.low


def test_interval_covers():
    covered = []
    for seed in range(400):
        found = fraction_memorized(np.random.default_rng(seed).random(300), 0.25)
        covered.append(found.low <= 0.25 <= found.high)
    assert 0.91 <= np.mean(covered) <= 0.98


def test_reproducibility_tells_equal_from_independent_outputs():
    common_MD = gaussian(0, 200, 10) + 3
    a_MD, b_MD = (common_MD + 0.5 * gaussian(s, 200, 10) for s in (1, 2))
    same = reproducibility(a_MD, b_MD)
    assert same.low < same.mean < same.high
    assert same.null_low < same.null_mean < same.null_high < same.low
    assert same.p_value == 1 / 1000
    # cos of x + e and x + e' is near 1/(1 + 0.25).
    np.testing.assert_allclose(same.mean, 0.8, atol=0.03)
    # Other noise for each row: what is left is a permutation.
    apart = reproducibility(a_MD, np.roll(b_MD, 1, axis=0))
    assert apart.p_value > 0.01
    assert apart.high < same.low


def test_reproducibility_by_hand():
    a_MD, b_MD = gaussian(0, 30, 4), gaussian(1, 30, 4)
    found = reproducibility(a_MD, b_MD)
    assert found.null_low == reproducibility(a_MD, b_MD, seed=0).null_low
    mean_D = np.concatenate([a_MD, b_MD]).mean(axis=0)
    cosine_MM = 1 - cdist(a_MD - mean_D, b_MD - mean_D, "cosine")
    np.testing.assert_allclose(found.cosines, np.diagonal(cosine_MM), atol=1e-12)
    np.testing.assert_allclose(found.null_mean, cosine_MM[~np.eye(30, dtype=bool)].mean())


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_null_interval_is_that_of_permutations(confidence):
    a_MD, b_MD = gaussian(0, 30, 4), gaussian(1, 30, 4)
    found = reproducibility(a_MD, b_MD, confidence=confidence)
    mean_D = np.concatenate([a_MD, b_MD]).mean(axis=0)
    cosine_MM = 1 - cdist(a_MD - mean_D, b_MD - mean_D, "cosine")
    rng, rows = np.random.default_rng(7), np.arange(30)
    null_R = [cosine_MM[rows, rng.permutation(30)].mean() for _ in range(5000)]
    low, high = np.quantile(null_R, [0.5 - confidence / 2, 0.5 + confidence / 2])
    np.testing.assert_allclose([found.null_low, found.null_high], [low, high], atol=0.02)
    assert high - low > 0.1


def test_reproducibility_of_independent_outputs_has_uniform_p_values():
    p_values = [
        reproducibility(gaussian(s, 12, 3), gaussian(900 + s, 12, 3)).p_value for s in range(60)
    ]
    assert np.mean(np.array(p_values) <= 0.1) < binom.ppf(1 - 1e-4, 60, 0.1) / 60
    assert 0.3 < np.mean(p_values) < 0.7


def test_collapsed_models_reproduce_nothing():
    constant_MD = np.tile(gaussian(0, 1, 6), (20, 1))
    found = reproducibility(constant_MD, constant_MD)
    np.testing.assert_array_equal(found.cosines, 0.0)
    assert found.p_value == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: gap_ratio(x), "expected \\(M, 2\\)"),
        (lambda x: gap_ratio(x[:, :1]), "expected \\(M, 2\\)"),
        (lambda x: gap_ratio(np.array([[2.0, 1.0]])), "0 <= nearest"),
        (lambda x: copy_threshold(x, x, 0.0), "false_alarm: must be between"),
        (lambda x: copy_threshold(x + 1, x, 1.0), "false_alarm: must be between"),
        (lambda x: copy_threshold(x, x, 0.01), "needs at least 99 samples, got 9"),
        (lambda x: copy_threshold(x[:, :2], x), "held_out and train differ"),
        (lambda x: fraction_memorized(x), "ratios: expected a vector"),
        (lambda x: fraction_memorized(x[:0, 0]), "ratios: need at least one"),
        (lambda x: fraction_memorized(x[:, 0] * np.nan), "ratios: contains NaN"),
        (lambda x: fraction_memorized(x[:, 0], confidence=1.0), "confidence: must be between"),
        (lambda x: fraction_memorized(x[:, 0], np.nan), "threshold: must be finite"),
        (lambda x: reproducibility(x, x[:5]), "differ in shape"),
        (lambda x: reproducibility(x[:1], x[:1]), "number of samples: must be at least 2"),
        (lambda x: reproducibility(x, x, confidence=0.0), "confidence: must be between"),
        (lambda x: reproducibility(x, x, confidence=-0.5), "confidence: must be between"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call(gaussian(0, 9, 3))
    assert "\n" not in str(caught.value)
