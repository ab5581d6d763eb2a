"""Synthetic data against their stated statistics."""

import numpy as np
import pytest

from dae_theory import InputError, data


@pytest.mark.parametrize(("n", "cosine"), [(1, 0.0), (4, -1 / 3), (4, -0.2), (5, 0.0), (3, 0.7)])
def test_equiangular_directions_have_the_cosine(n, cosine):
    directions = data.equiangular_directions(n, 6, cosine)
    gram = np.full((n, n), cosine) + (1 - cosine) * np.eye(n)
    assert directions.shape == (n, 6)
    np.testing.assert_allclose(directions @ directions.T, gram, atol=1e-12)


def test_directions_are_the_same_on_every_processor():
    # By eigenvectors of their Gram matrix, whose eigenvalues coincide, they would not be.
    directions = data.equiangular_directions(3, 3, -0.2)
    a, b, c = np.sqrt(1.2 / 2), np.sqrt(1.2 / 6), np.sqrt(0.6 / 3)
    np.testing.assert_allclose(directions, [[a, b, c], [-a, b, c], [0, -2 * b, c]], atol=1e-12)
    mixture = data.separable_mixture(3, 8, rank=2, beta=-0.5, alpha=0.3)
    np.testing.assert_allclose(mixture.covs @ mixture.means.T, 0, atol=1e-12)
    # The symmetric root of the covariance leaves no sign of an eigenvector to choose.
    x_ND, labels_N = mixture.sample(3, 9)
    noise_ND = np.random.default_rng(3).standard_normal((3, 8))
    values, vectors = np.linalg.eigh(mixture.covs[0])
    root_DD = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    np.testing.assert_allclose(x_ND[labels_N == 0], mixture.means[0] + noise_ND @ root_DD)


def test_simplex_needs_one_dimension_less_than_samples():
    directions = data.equiangular_directions(4, 3, -1 / 3)
    np.testing.assert_allclose(directions.sum(axis=0), 0, atol=1e-12)
    with pytest.raises(InputError, match=r"d: 4 directions .* need d >= 3, got 2"):
        data.equiangular_directions(4, 2, -1 / 3)
    with pytest.raises(InputError, match="need d >= 4, got 3"):
        data.equiangular_directions(4, 3, -0.1)


@pytest.mark.parametrize("cosine", [-0.4, 1.0])
def test_impossible_cosines_are_refused(cosine):
    with pytest.raises(InputError, match=r"need a cosine in \[-0.3333, 1\)"):
        data.equiangular_directions(4, 8, cosine)


def test_random_rotation_is_orthogonal_and_has_no_preferred_direction():
    rotations = np.array([data.random_rotation(seed, 3) for seed in range(400)])
    np.testing.assert_allclose(rotations[7] @ rotations[7].T, np.eye(3), atol=1e-13)
    # Entries of a Haar rotation have mean 0 and variance 1/d.
    standard_error = np.sqrt(1 / 3 / len(rotations))
    assert np.all(np.abs(rotations.mean(axis=0)) < 5 * standard_error)
    assert np.all(np.abs((rotations**2).mean(axis=0) - 1 / 3) < 0.08)


def test_simplex_samples():
    dataset = data.simplex(5, 9, radius=2.0, seed=3)
    assert dataset.x.shape == (5, 9)
    gram = 4.0 * ((1 + 1 / 4) * np.eye(5) - 1 / 4)
    np.testing.assert_allclose(dataset.x @ dataset.x.T, gram, atol=1e-12)
    np.testing.assert_array_equal(dataset.labels, np.arange(5))
    assert not np.allclose(dataset.x, data.simplex(5, 9, radius=2.0, seed=4).x)
    with pytest.raises(InputError, match="n: must be at least 1"):
        data.simplex(0, 3)


def test_mixture_means_covariances_and_priors():
    mixture = data.separable_mixture(
        3, 12, rank=3, beta=-0.3, alpha=[0.1, 0.2, 0.0], priors=[1, 2, 1]
    )
    gram = 1.3 * np.eye(3) - 0.3
    np.testing.assert_allclose(mixture.means @ mixture.means.T, gram, atol=1e-12)
    np.testing.assert_allclose(mixture.priors, [0.25, 0.5, 0.25])
    np.testing.assert_allclose(
        np.trace(mixture.covs, axis1=1, axis2=2), [0.01, 0.04, 0], atol=1e-14
    )
    for cov in mixture.covs:
        np.testing.assert_allclose(mixture.means @ cov, 0, atol=1e-13)
    spectrum = np.linalg.eigvalsh(mixture.covs[1])[::-1]
    np.testing.assert_allclose(spectrum[:3] / spectrum[2], [3, 2, 1], rtol=1e-10)
    np.testing.assert_allclose(spectrum[3:], 0, atol=1e-14)


def test_mixture_samples_have_the_stated_statistics():
    mixture = data.separable_mixture(2, 6, rank=2, beta=-0.5, alpha=0.5, priors=[1, 3])
    n = 40_000
    x, labels = mixture.sample(0, n)
    np.testing.assert_array_equal(np.bincount(labels), [10_000, 30_000])
    for k in range(2):
        members, cov = x[labels == k], mixture.covs[k]
        mean_error = np.sqrt(np.diag(cov) / len(members)) + 1e-12
        assert np.all(np.abs(members.mean(axis=0) - mixture.means[k]) < 5 * mean_error)
        # Var of a sample covariance entry: (c_ii c_jj + c_ij²)/n.
        cov_error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / len(members)) + 1e-12
        assert np.all(np.abs(np.cov(members.T) - cov) < 5 * cov_error)


def test_mixture_samples_depend_on_the_seed_only():
    mixture = data.separable_mixture(2, 6, rank=2, beta=-0.5, alpha=0.5)
    np.testing.assert_array_equal(mixture.sample(1, 9)[0], mixture.sample(1, 9)[0])
    assert not np.allclose(mixture.sample(1, 9)[0], mixture.sample(2, 9)[0])


def test_zero_alpha_gives_exact_duplicates():
    x, labels = data.separable_mixture(2, 6, rank=1, beta=-0.5, alpha=0.0).sample(0, 10)
    np.testing.assert_allclose(x[labels == 0], np.tile(x[0], (5, 1)), atol=1e-14)


def test_impossible_mixtures_are_refused():
    with pytest.raises(InputError, match=r"rank: 3 means in d=5 leave room for .*rank 2.*, got 3"):
        data.separable_mixture(3, 5, rank=3, beta=-0.2, alpha=0.1)
    with pytest.raises(InputError, match="priors: need 2 positive numbers"):
        data.separable_mixture(2, 8, rank=1, beta=-0.2, alpha=0.1, priors=[1, 0])
    with pytest.raises(InputError, match="n: must be at least 1"):
        data.separable_mixture(2, 8, rank=1, beta=-0.2, alpha=0.1).sample(0, 0)
