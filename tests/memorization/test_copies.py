"""Memorization measures against brute force in float64, exact intervals and simulated coverage."""

import warnings

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist, pdist, squareform
from scipy.stats import binom, binomtest

from benchmarks import memorization as benchmark
from dae_theory.checks import InputError
from dae_theory.memorization.copies import (
    COPY_RATIO,
    copy_threshold,
    fraction_memorized,
    gap_ratio,
    reproducibility,
)
from dae_theory.memorization.nearest import (
    FEWEST_ROWS,
    duplicate_groups,
    near_duplicate_groups,
    nearest_cosine,
    nearest_two,
    with_mirrored,
)


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def clustered(seed: int, n: int, d: int) -> np.ndarray:
    """Points far from the origin, and of very different norms."""
    return gaussian(seed, n, d) * np.geomspace(1e-2, 1e2, n)[:, None] + 50.0


def brute_two(samples_MD, train_ND, groups_N):
    """Indices and distances in float64, group by group."""
    distance_MN = cdist(samples_MD, train_ND)
    index_M2 = np.empty((len(samples_MD), 2), int)
    for i, distance_N in enumerate(distance_MN):
        first = np.argmin(distance_N)
        second = np.argmin(np.where(groups_N == groups_N[first], np.inf, distance_N))
        index_M2[i] = first, second
    return index_M2, np.take_along_axis(distance_MN, index_M2, axis=1)


@pytest.mark.parametrize("make", [gaussian, clustered])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 3, 40])
def test_nearest_two_are_those_of_a_k_d_tree(make, dtype, d):
    train_ND = make(0, 700, d).astype(dtype)
    samples_MD = make(1, 90, d).astype(dtype)
    found = nearest_two(samples_MD, train_ND, block=128)
    distance_M2, index_M2 = cKDTree(train_ND.astype(float)).query(samples_MD.astype(float), 2)
    np.testing.assert_array_equal(found.indices, index_M2)
    np.testing.assert_allclose(found.distances, distance_M2, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_of_the_data_does_not_matter(scale):
    train_ND, samples_MD = gaussian(0, 300, 8), gaussian(1, 40, 8)
    found = nearest_two(scale * samples_MD, scale * train_ND)
    plain = nearest_two(samples_MD, train_ND)
    np.testing.assert_array_equal(found.indices, plain.indices)
    np.testing.assert_allclose(found.distances, scale * plain.distances, rtol=1e-12)


def test_distances_that_float32_cannot_tell_apart():
    # About each of 20 centres, 50 training samples on a sphere, but for 1e-9.
    centre_MD, u_MND = 10 * gaussian(0, 20, 30), gaussian(1, 20, 50, 30)
    u_MND /= np.linalg.norm(u_MND, axis=2, keepdims=True)
    order_MN = np.random.default_rng(2).permuted(np.tile(np.arange(50), (20, 1)), axis=1)
    train_MND = centre_MD[:, None] + (1 + 1e-9 * order_MN)[:, :, None] * u_MND
    found = nearest_two(centre_MD, train_MND.reshape(-1, 30), block=64)
    nearest_M2 = np.argsort(order_MN, axis=1)[:, :2] + 50 * np.arange(20)[:, None]
    np.testing.assert_array_equal(found.indices, nearest_M2)
    np.testing.assert_allclose(found.distances, np.tile([1, 1 + 1e-9], (20, 1)), rtol=1e-12)


def test_sample_far_from_all_training_data():
    train_ND, sample_1D = gaussian(0, 400, 5), np.full((1, 5), 1e9)
    found = nearest_two(sample_1D, train_ND, block=64)
    exact_N = np.argsort(-train_ND.sum(axis=1))  # at infinity the plane counts
    np.testing.assert_array_equal(found.indices[0], exact_N[:2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_copies_have_distance_and_ratio_zero(dtype):
    train_ND = (255 * np.random.default_rng(0).random((300, 100))).astype(dtype)
    found = nearest_two(train_ND[40:60], train_ND, block=64)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(40, 60))
    np.testing.assert_array_equal(found.distances[:, 0], 0.0)
    np.testing.assert_array_equal(gap_ratio(found.distances), 0.0)


def test_float32_product_alone_does_not_give_copies_distance_zero():
    train_ND = (gaussian(0, 300, 100) + 3).astype(np.float32)
    square_N = np.sum(train_ND**2, axis=1)
    square_NN = square_N[:, None] + square_N - 2 * train_ND @ train_ND.T
    assert np.sqrt(np.max(np.abs(np.diagonal(square_NN)))) > 1e-3


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_block_size_changes_nothing(block):
    train_ND, samples_MD = clustered(0, 300, 12), clustered(1, 50, 12)
    train_ND[200:250] = train_ND[:50]  # ties: the lower index is taken
    groups_N = duplicate_groups(train_ND)
    found = nearest_two(samples_MD, train_ND, groups_N, block=block)
    whole = nearest_two(samples_MD, train_ND, groups_N, block=300)
    np.testing.assert_array_equal(found.indices, whole.indices)
    np.testing.assert_allclose(found.distances, whole.distances, rtol=1e-14)
    found, whole = (nearest_cosine(samples_MD, train_ND, block=b) for b in (block, 300))
    np.testing.assert_allclose(found.cosines, whole.cosines, atol=1e-14)


@pytest.mark.parametrize("n_groups", [2, 10, 120])
def test_groups_of_any_samples_are_those_of_brute_force(n_groups):
    random = np.random.default_rng(0)
    train_ND, samples_MD = gaussian(0, 400, 6), gaussian(1, 80, 6)
    groups_N = random.permutation(np.arange(400) % n_groups) * 1000 - 7  # names need not be 0, 1...
    found = nearest_two(samples_MD, train_ND, groups_N, block=33)
    index_M2, distance_M2 = brute_two(samples_MD, train_ND, groups_N)
    np.testing.assert_array_equal(found.indices, index_M2)
    np.testing.assert_allclose(found.distances, distance_M2, rtol=1e-12)


def test_duplicate_groups_are_those_of_numpy():
    train_ND = np.random.default_rng(0).integers(0, 3, (500, 4))
    groups_N = duplicate_groups(train_ND)
    _, other_N = np.unique(train_ND, axis=0, return_inverse=True)
    same_NN = groups_N[:, None] == groups_N
    np.testing.assert_array_equal(same_NN, other_N.ravel()[:, None] == other_N.ravel())
    first_N = np.unique(groups_N, return_index=True)[1]
    assert np.all(np.diff(first_N) > 0)
    assert duplicate_groups(np.array([[0.0], [-0.0], [1.0]])).tolist() == [0, 0, 1]


def test_duplicates_are_grouped_or_they_would_hide_copies():
    train_ND = np.tile(gaussian(0, 100, 30), (2, 1))
    samples_MD = train_ND[:20].copy()
    grouped_M = gap_ratio(nearest_two(samples_MD, train_ND).distances)
    hidden_M = gap_ratio(nearest_two(samples_MD, train_ND, np.arange(200)).distances)
    assert fraction_memorized(grouped_M).value == 1.0
    assert fraction_memorized(hidden_M).value == 0.0
    np.testing.assert_array_equal(hidden_M, 1.0)


def share_of_copies(samples_MD, train_ND, groups_N=None):
    return fraction_memorized(
        gap_ratio(nearest_two(samples_MD, train_ND, groups_N).distances)
    ).value


def test_near_duplicates_are_grouped_within_a_radius():
    once_ND = gaussian(0, 100, 30)
    train_ND = np.concatenate([once_ND, once_ND + 0.004 * gaussian(1, 100, 30)])
    samples_MD = once_ND[:20] + 0.002 * gaussian(2, 20, 30)
    groups_N = near_duplicate_groups(train_ND, 0.1)
    np.testing.assert_array_equal(groups_N, np.tile(np.arange(100), 2))
    assert share_of_copies(samples_MD, train_ND) == 0.0
    assert share_of_copies(samples_MD, train_ND, groups_N) == 1.0


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.6, 2.0])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_near_duplicate_groups_are_those_of_a_graph(radius, offset):
    train_ND = gaussian(0, 300, 3) + offset
    train_ND[100:120] = train_ND[:20]
    near_NN = squareform(pdist(train_ND)) <= radius
    _, expected_N = connected_components(near_NN, directed=False)  # numbered by appearance
    np.testing.assert_array_equal(near_duplicate_groups(train_ND, radius, block=64), expected_N)


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


def test_colours_are_not_mirrored():
    images = gaussian(0, 3, 2, 4, 3)
    both_MD, _ = with_mirrored(images.reshape(3, 24), (2, 4, 3))
    np.testing.assert_array_equal(both_MD[3:].reshape(3, 2, 4, 3), images[:, :, ::-1])


@pytest.mark.parametrize("ours", ["samples", "train"])
def test_other_units_are_refused(ours):
    train_ND = np.random.default_rng(0).uniform(-1, 1, (80, 20))
    pixels_ND = np.round((train_ND + 1) * 127.5).astype(np.uint8)
    pair = (pixels_ND[:30], train_ND) if ours == "samples" else (train_ND[:30], pixels_ND)
    for look in (nearest_two, nearest_cosine, lambda a, b: copy_threshold(a, b, 0.1)):
        with pytest.raises(InputError, match=r"values are about .* bring both to the same units"):
            look(*pair)
    with pytest.raises(InputError, match="same units"):  # however small they are
        nearest_two(1e-3 * pair[0], 1e-3 * pair[1])
    with pytest.raises(InputError, match="same units"):
        nearest_two(pair[0][:FEWEST_ROWS], pair[1])
    nearest_two(pair[0][: FEWEST_ROWS - 1], pair[1])  # too few to tell
    far_off_ND = train_ND * np.where(np.arange(80) % 80 == 7, 1e3, 1)[:, None]  # one that diverged
    nearest_two(far_off_ND, train_ND)


def test_collapsed_samples_are_said():
    train_ND = gaussian(0, 50, 4)
    for samples_MD in (np.zeros((20, 4)), np.repeat(gaussian(1, 2, 4), 10, axis=0)):
        with pytest.warns(UserWarning, match=r"only [12] of 20 are different; the model has coll"):
            nearest_two(samples_MD, train_ND)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nearest_two(train_ND[:1], train_ND)
        nearest_two(np.repeat(gaussian(1, 5, 4), 4, axis=0), train_ND)


def test_black_images_in_two_groups_are_at_distance_zero():
    with pytest.warns(UserWarning, match="collapsed"):
        found = nearest_two(np.zeros((2, 3)), np.zeros((2, 3)), np.arange(2))
    np.testing.assert_array_equal(found.distances, 0)


def test_gap_ratio_by_hand():
    distances_M2 = np.array([[0.0, 2.0], [1.0, 4.0], [3.0, 3.0], [0.0, 0.0]])
    np.testing.assert_array_equal(gap_ratio(distances_M2), [0.0, 0.25, 1.0, 1.0])


def test_nearest_cosine_is_that_of_brute_force():
    train_ND, samples_MD = gaussian(0, 300, 9) + 5, gaussian(1, 40, 9) + 5
    found = nearest_cosine(samples_MD, train_ND, block=64)
    mean_D = train_ND.mean(axis=0)
    cosine_MN = 1 - cdist(samples_MD - mean_D, train_ND - mean_D, "cosine")
    np.testing.assert_array_equal(found.indices, np.argmax(cosine_MN, axis=1))
    np.testing.assert_allclose(found.cosines, np.max(cosine_MN, axis=1), atol=1e-12)
    # Not centred, everything far from the origin is alike.
    assert np.min(1 - cdist(samples_MD, train_ND, "cosine")) > 0.5 > 0 > np.min(cosine_MN)


def test_no_cosine_is_above_one():
    train_ND = gaussian(0, 200, 7)
    u_ND = train_ND - train_ND.mean(axis=0)
    u_ND /= np.linalg.norm(u_ND, axis=1, keepdims=True)
    assert np.max(np.sum(u_ND**2, axis=1)) > 1  # by rounding
    assert np.max(nearest_cosine(train_ND, train_ND).cosines) == 1


def test_cosine_ignores_contrast_and_the_mean_has_none():
    train_ND = gaussian(0, 50, 9) + 5
    mean_D = train_ND.mean(axis=0)
    samples_MD = np.array([mean_D + 0.1 * (train_ND[7] - mean_D), mean_D])
    found = nearest_cosine(samples_MD, train_ND)
    assert found.indices[0] == 7
    np.testing.assert_allclose(found.cosines, [1.0, 0.0], atol=1e-12)


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


def test_memory_stays_bounded(run_python):
    before, after = run_python(
        "import numpy as np\n"
        "from benchmarks.machine import peak_memory_mib\n"
        "from dae_theory.memorization.nearest import nearest_cosine, nearest_two\n"
        "random = np.random.default_rng(0)\n"
        "train = random.random((60_000, 196), np.float32)\n"
        "samples = random.random((1000, 196), np.float32)\n"
        "print(peak_memory_mib())\n"
        "nearest_two(samples, train), nearest_cosine(samples, train)\n"
        "print(peak_memory_mib())\n"
    ).split()
    assert float(after) <= 1024
    # An array of all distances would be 229 MiB in float32.
    assert float(after) - float(before) < 150


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: nearest_two(x[:, :2], x), "differ in features: 2 and 3"),
        (lambda x: nearest_two(x, x[:, :2]), "differ in features: 3 and 2"),
        (lambda x: nearest_two(x * np.nan, x), "samples: contains NaN"),
        (lambda x: nearest_two(x, np.where(x == x[0], np.inf, x)), "train: contains NaN or inf"),
        (lambda x: nearest_two(x[:0], x), "at least one sample"),
        (lambda x: nearest_two(x[0], x), "expected a"),
        (lambda x: nearest_two(x, x[:1]), "training samples: must be at least 2"),
        (lambda x: nearest_two(x, x, np.zeros(9, int)), "training samples or groups: must be at"),
        (lambda x: nearest_two(x, np.zeros((5, 3))), "different training samples or groups"),
        (lambda x: near_duplicate_groups(x, -1.0), "radius: must be finite and >= 0"),
        (lambda x: with_mirrored(x, (2, 2)), r"image_shape: \(2, 2\) is none of images of 3"),
        (lambda x: with_mirrored(x, (1, 1, 3, 1)), r"\(1, 1, 3, 1\) is none of images of 3"),
        (lambda x: with_mirrored(x, (3,)), r"\(3,\) is none of images of 3"),
        (lambda x: nearest_two(x, x, np.arange(8)), "groups: expected 9 integers"),
        (lambda x: nearest_two(x, x, np.arange(9.0)), "groups: expected 9 integers"),
        (lambda x: nearest_two(x, x, block=0), "block: must be"),
        (lambda x: nearest_cosine(x, x[:1]), "training samples: must be at least 2"),
        (lambda x: nearest_cosine(x, x, block=0), "block: must be"),
        (lambda x: duplicate_groups(x[:0]), "train: need at least one"),
        (lambda x: gap_ratio(x), "expected \\(M, 2\\)"),
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


def test_99_samples_calibrate_one_percent():
    train_ND = gaussian(0, 50, 3)
    threshold = copy_threshold(gaussian(1, 99, 3), train_ND, 0.01)
    ratio_T = gap_ratio(nearest_two(gaussian(1, 99, 3), train_ND).distances)
    assert threshold.gap_ratio == ratio_T.min()


def test_benchmark_runs(capsys):
    assert benchmark.main(["", "--samples=20", "--train=500", "--peer=5", "--repeats=1"]) == 0
    printed = capsys.readouterr().out
    assert "20 x 500 x 784" in printed
    assert "same images 100%" in printed


@pytest.mark.parametrize(
    "argument",
    ["--samples=0", "--samples=10001", "--train=1", "--train=60001", "--nonsense", "x"],
)
def test_benchmark_rejects_bad_options(argument, capsys):
    assert benchmark.main(["", argument]) == 2
    assert capsys.readouterr().err.startswith("error: ")
