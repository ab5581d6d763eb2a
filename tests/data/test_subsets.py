"""Clusters by direction; the search for separable samples against brute force."""

import itertools

import numpy as np
import pytest

from dae_theory import InputError, data
from dae_theory.data import subsets
from dae_theory.data.subsets import (
    choose_samples,
    cluster_labels,
    separable_subset,
    spherical_kmeans,
)
from dae_theory.theory.separability import gate_margin


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


def test_the_most_separable_samples_are_chosen():
    x = np.vstack([np.ones((3, 6)), 5 * data.simplex(4, 6).x])
    indices, note = choose_samples(x, 4)
    np.testing.assert_array_equal(indices, separable_subset(x, 4).indices)
    assert note == (
        "4 of 7 samples chosen by search: pairwise negative inner products, widest gate margin"
    )


def test_the_first_samples_are_chosen_where_none_are_separable():
    indices, note = choose_samples(np.ones((4, 3)), 2)
    np.testing.assert_array_equal(indices, [0, 1])
    assert note.startswith("the first 2 of 4 samples (n: no 2 of these 4 samples")


@pytest.mark.parametrize("n", [4, 9])
def test_all_samples_are_chosen_when_there_are_no_more(n):
    indices, note = choose_samples(np.ones((4, 3)), n)
    np.testing.assert_array_equal(indices, np.arange(4))
    assert note == "all 4 samples"


def test_given_labels_are_numbered_and_others_found():
    x, truth = data.separable_mixture(2, 6, rank=1, beta=-0.5, alpha=0.1).sample(0, 10)
    given, note = cluster_labels(x, np.where(truth == 0, "dog", "cat"))
    np.testing.assert_array_equal(given, 1 - truth)
    assert note == "clusters given by labels"
    found, note = cluster_labels(x, n_clusters=2)
    assert {*zip(found.tolist(), truth.tolist(), strict=True)} in (
        {(0, 0), (1, 1)},
        {(0, 1), (1, 0)},
    )
    assert note == "2 clusters found by spherical k-means"
    assert cluster_labels(x[:1])[1] == "1 clusters found by spherical k-means"


@pytest.mark.parametrize("pairs_at_once", [1, 70])
def test_pairs_in_blocks_make_no_difference(monkeypatch, pairs_at_once):
    x = np.random.RandomState(6).normal(size=(30, 6))
    whole = separable_subset(x, 3)
    monkeypatch.setattr(subsets, "PAIRS_AT_ONCE", pairs_at_once)
    np.testing.assert_array_equal(separable_subset(x, 3).indices, whole.indices)


def test_pairs_of_the_widest_margins_are_kept(monkeypatch):
    x = np.random.RandomState(6).normal(size=(30, 6))
    whole = separable_subset(x, 3)
    monkeypatch.setattr(subsets, "PAIRS_AT_ONCE", 70)
    monkeypatch.setattr(subsets, "MOST_EDGES", 150)
    np.testing.assert_array_equal(separable_subset(x, 3).indices, whole.indices)
    monkeypatch.setattr(subsets, "MOST_EDGES", 2)
    with pytest.raises(InputError, match="gave up after 100000 cliques or 2 pairs"):
        separable_subset(x, 3)


def test_more_than_can_be_separable_are_not_searched_for(monkeypatch):
    monkeypatch.setattr(subsets, "_separating_pairs", None)
    indices, note = choose_samples(np.ones((9, 3)), 5)
    np.testing.assert_array_equal(indices, np.arange(5))
    assert "5 samples of 3 features cannot have pairwise negative inner products, at most 4" in note


def test_of_many_samples_an_even_part_is_searched(monkeypatch):
    monkeypatch.setattr(subsets, "MOST_SEARCHED", 10)
    x = np.random.RandomState(7).normal(size=(30, 6))
    indices, note = choose_samples(x, 2)
    np.testing.assert_array_equal(indices, 3 * separable_subset(x[::3], 2).indices)
    assert note.startswith("2 of one in 3 of 30 samples chosen by search")


def test_kmeans_on_part_of_many_samples_labels_all(monkeypatch):
    mixture = data.separable_mixture(3, 10, rank=3, beta=-0.3, alpha=0.3)
    x, labels = mixture.sample(0, 90)
    shuffled = np.random.RandomState(0).permutation(90)
    monkeypatch.setattr(subsets, "MOST_TO_CLUSTER", 30)
    found = spherical_kmeans(x[shuffled], 3)
    assert len(set(zip(labels[shuffled].tolist(), found.tolist(), strict=True))) == 3
