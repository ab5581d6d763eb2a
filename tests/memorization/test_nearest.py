"""Nearest training samples and groups of them against brute force in float64."""

import warnings

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist, pdist, squareform

from benchmarks import memorization as benchmark
from dae_theory.checks import InputError
from dae_theory.memorization.copies import copy_threshold, gap_ratio
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


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.6, 2.0])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_near_duplicate_groups_are_those_of_a_graph(radius, offset):
    train_ND = gaussian(0, 300, 3) + offset
    train_ND[100:120] = train_ND[:20]
    near_NN = squareform(pdist(train_ND)) <= radius
    _, expected_N = connected_components(near_NN, directed=False)  # numbered by appearance
    np.testing.assert_array_equal(near_duplicate_groups(train_ND, radius, block=64), expected_N)


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


def test_samples_around_zero_are_refused_beside_samples_above_zero():
    train_ND = np.random.default_rng(0).uniform(-1, 1, (80, 20))
    shifted_ND = (train_ND + 1) / 2
    for pair in ((train_ND[:30], shifted_ND), (shifted_ND[:30], train_ND)):
        with pytest.raises(InputError, match="bring both to the same units"):
            nearest_two(*pair)
    nearest_two(shifted_ND[:30] - 0.1, shifted_ND)  # a generator may be a little below


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
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call(gaussian(0, 9, 3))
    assert "\n" not in str(caught.value)


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
