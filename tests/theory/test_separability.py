"""Separability by hand, and the subset search against brute force."""

import itertools

import numpy as np
import pytest

from dae_theory import InputError, data
from dae_theory.data.subsets import separable_subset, spherical_kmeans
from dae_theory.theory.separability import cluster_means, gate_margin, gate_pattern, separability

SIGMA = 0.1


@pytest.mark.parametrize("n", [2, 3, 6])
def test_simplex_is_maximally_separable(n):
    alpha, beta = separability(data.simplex(n, 8).x, np.arange(n))
    np.testing.assert_allclose(beta, -1 / (n - 1), atol=1e-12)
    assert alpha == 0


def test_separability_by_hand():
    x = np.array([[2.0, 0.0], [4.0, 0.0], [0.0, 1.0], [0.0, 3.0], [-1.0, 1.0]])
    labels = np.array([5, 5, 2, 2, 9])
    np.testing.assert_array_equal(cluster_means(x, labels), [[0, 2], [3, 0], [-1, 1]])
    alpha, beta = separability(x, labels)
    np.testing.assert_allclose(alpha, 0.5)  # (0, 1) and (0, 3) around (0, 2)
    np.testing.assert_allclose(beta, np.sqrt(0.5))  # between (0, 2) and (-1, 1)


def test_separability_of_one_cluster_and_of_a_zero_mean():
    x = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert separability(x[:1], np.zeros(1)) == (0.0, -1.0)
    assert separability(x, np.zeros(2)).alpha == np.inf


def test_separability_refuses_unusable_input():
    with pytest.raises(InputError, match=r"labels: expected shape \(3,\), got \(2,\)"):
        separability(np.ones((3, 2)), np.zeros(2))
    with pytest.raises(InputError, match="NaN or infinite"):
        separability(np.array([[np.inf, 1.0]]), np.zeros(1))


def test_gate_margin_by_hand():
    w1 = np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    x = np.array([[1.0, -0.2], [-0.5, 4.0]])
    labels, blocks = np.array([0, 1]), np.array([0, 1, -1])
    # Distances to the gates: unit 0 sees 1 and -0.5, unit 1 sees -0.2 and 4.
    np.testing.assert_allclose(gate_margin(w1, x, labels, blocks, SIGMA), 0.2 / SIGMA)
    np.testing.assert_allclose(gate_margin(w1, -x, labels, blocks, SIGMA), -4.0 / SIGMA)
    # A unit without a block, or a zero column with one, does not count.
    np.testing.assert_allclose(gate_margin(w1, x, labels, np.array([0, -1, 1]), SIGMA), 0.5 / SIGMA)
    assert gate_margin(w1, x, labels, np.full(3, -1), SIGMA) == -np.inf


def test_gate_margin_is_a_flip_probability():
    w1 = np.array([[3.0], [4.0]])
    x = np.array([[0.04, 0.02]])
    z = gate_margin(w1, x, np.array([0]), np.array([0]), SIGMA)
    noise = np.random.RandomState(0).normal(size=(200_000, 2))
    flipped = np.mean((x + SIGMA * noise) @ w1 <= 0)
    from scipy.stats import norm

    expected = norm.cdf(-z)
    assert abs(flipped - expected) < 5 * np.sqrt(expected * (1 - expected) / len(noise))


def test_gate_pattern():
    w1 = np.array([[1.0, -1.0], [0.0, 1.0]])
    np.testing.assert_array_equal(
        gate_pattern(w1, np.array([[1.0, 0.0], [1.0, 2.0]])), [[True, False], [True, True]]
    )


def test_kmeans_recovers_clusters_by_direction():
    mixture = data.separable_mixture(4, 10, rank=3, beta=-0.2, alpha=0.3)
    x, labels = mixture.sample(0, 80)
    lengths = np.random.RandomState(1).uniform(0.1, 10, size=(80, 1))
    found = spherical_kmeans(lengths * x, 4, seed=2)
    pairs = set(zip(labels.tolist(), found.tolist(), strict=True))
    assert len(pairs) == 4
    assert {f for _, f in pairs} == {0, 1, 2, 3}
    np.testing.assert_array_equal(found, spherical_kmeans(lengths * x, 4, seed=2))


def test_kmeans_refuses_impossible_counts():
    with pytest.raises(InputError, match="3 clusters need as many samples, got 2"):
        spherical_kmeans(np.eye(2), 3)
    with pytest.raises(InputError, match="n_clusters: must be at least 1"):
        spherical_kmeans(np.eye(2), 0)


def brute_force_margin(x, n):
    """Widest margin over all subsets, from the definition of the gate margin with sigma 1."""
    best = -np.inf
    for subset in itertools.combinations(range(len(x)), n):
        gram = x[list(subset)] @ x[list(subset)].T
        norms = np.sqrt(np.diag(gram))
        seen = gram / norms[:, None]  # unit i, sample j
        margin = np.min(np.where(np.eye(n) > 0, seen, -seen))
        best = max(best, margin)
    return best


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_separable_subset_equals_brute_force(n, seed):
    x = np.random.RandomState(seed).normal(size=(30, 6))
    subset = separable_subset(x, n)
    assert subset.optimal
    assert len(set(subset.indices.tolist())) == n
    np.testing.assert_allclose(subset.margin, brute_force_margin(x, n), rtol=1e-12)
    chosen = x[subset.indices]
    own = gate_margin(chosen.T, chosen, np.arange(n), np.arange(n), 1.0)
    np.testing.assert_allclose(subset.margin, own, rtol=1e-12)


def test_separable_subset_finds_a_planted_simplex():
    random = np.random.RandomState(3)
    planted = 5 * data.simplex(4, 6).x
    crowd = random.normal(size=(40, 6)) * 0.2 + 3
    x = np.vstack([crowd[:20], planted, crowd[20:]])
    np.testing.assert_array_equal(separable_subset(x, 4).indices, [20, 21, 22, 23])


def test_no_separable_subset_is_reported():
    x = np.random.RandomState(4).uniform(0, 1, size=(20, 5))
    with pytest.raises(InputError, match="no 2 of these 20 samples have pairwise negative"):
        separable_subset(x, 2)
    with pytest.raises(InputError, match="n: asked for 5 samples out of 4"):
        separable_subset(np.eye(4), 5)
    with pytest.raises(InputError, match="n: must be at least 1"):
        separable_subset(np.eye(4), 0)


def test_more_negative_samples_than_dimensions_plus_one_do_not_exist():
    x = np.random.RandomState(5).normal(size=(30, 3))
    with pytest.raises(InputError, match="pairwise negative"):
        separable_subset(x, 5)
