"""Posterior means against loops, Monte Carlo, Tweedie's formula and their limits."""

import jax
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from dae_theory import (
    denoise,
    empirical_denoiser,
    gaussian_denoiser,
    mixture_denoiser,
    relu_denoiser,
)

SIGMA = 0.6


def samples():
    return np.random.RandomState(0).normal(size=(7, 4))


def noisy(n=5):
    return 1.5 * np.random.RandomState(1).normal(size=(n, 4))


def mixture():
    random = np.random.RandomState(2)
    roots = random.normal(size=(3, 4, 4)) / 2
    return random.normal(size=(3, 4)), roots @ roots.transpose(0, 2, 1), np.array([0.5, 0.2, 0.3])


def log_density(y, means, covs, priors, sigma):
    """Log density of the noisy mixture, by SciPy."""
    terms = [
        np.log(p) + multivariate_normal(m, c + sigma**2 * np.eye(len(m))).logpdf(y)
        for m, c, p in zip(means, covs, priors, strict=True)
    ]
    return logsumexp(terms, axis=0)


def finite_difference_score(log_p, y, step=1e-5):
    shifts = step * np.eye(y.shape[1])
    return np.stack([(log_p(y + s) - log_p(y - s)) / (2 * step) for s in shifts], axis=1)


def test_empirical_denoiser_equals_a_loop():
    x, y = samples(), noisy()
    for sigma in (0.2, SIGMA, 3.0):
        measured = empirical_denoiser(x)(y, sigma)
        for row, point in zip(measured, y, strict=True):
            weights = [np.exp(-np.sum((point - s) ** 2) / (2 * sigma**2)) for s in x]
            expected = sum(w * s for w, s in zip(weights, x, strict=True)) / sum(weights)
            np.testing.assert_allclose(row, expected, rtol=1e-10, atol=1e-12)


def test_empirical_denoiser_tends_to_the_nearest_sample_and_to_the_mean():
    x, y = samples(), noisy()
    nearest = x[np.argmin(np.sum((y[:, None] - x) ** 2, axis=-1), axis=1)]
    np.testing.assert_allclose(empirical_denoiser(x)(y, 1e-3), nearest, atol=1e-12)
    sigmas = np.array([30.0, 100.0, 300.0])
    errors = [np.max(np.abs(empirical_denoiser(x)(y, s) - x.mean(axis=0))) for s in sigmas]
    np.testing.assert_allclose(np.polyfit(np.log(sigmas), np.log(errors), 1)[0], -2, atol=0.02)


def test_empirical_denoiser_is_a_mixture_of_points():
    x, y = samples(), noisy()
    points = mixture_denoiser(x, np.zeros((7, 4, 4)), np.full(7, 1 / 7))
    np.testing.assert_allclose(points(y, SIGMA), empirical_denoiser(x)(y, SIGMA), rtol=1e-11)


def test_mixture_denoiser_equals_the_formula_with_matrix_inverses():
    means, covs, priors = mixture()
    measured = mixture_denoiser(means, covs, priors)(noisy(), SIGMA)
    for row, y in zip(measured, noisy(), strict=True):
        posterior = np.array(
            [
                p * multivariate_normal(m, c + SIGMA**2 * np.eye(4)).pdf(y)
                for m, c, p in zip(means, covs, priors, strict=True)
            ]
        )
        posterior /= posterior.sum()
        expected = sum(
            w * (m + c @ np.linalg.solve(c + SIGMA**2 * np.eye(4), y - m))
            for w, m, c in zip(posterior, means, covs, strict=True)
        )
        np.testing.assert_allclose(row, expected, rtol=1e-10)


def test_mixture_denoiser_agrees_with_a_weighted_monte_carlo_mean():
    means, covs, priors = mixture()
    random, draws = np.random.RandomState(3), 400_000
    modes = random.choice(3, size=draws, p=priors)
    x = np.empty((draws, 4))
    for k in range(3):
        members = modes == k
        x[members] = random.multivariate_normal(means[k], covs[k], size=members.sum())
    for y, measured in zip(
        noisy(3), mixture_denoiser(means, covs, priors)(noisy(3), SIGMA), strict=True
    ):
        weights = np.exp(-np.sum((y - x) ** 2, axis=1) / (2 * SIGMA**2))
        mean = weights @ x / weights.sum()
        # Delta method for a ratio of means.
        error = np.sqrt(np.sum((weights[:, None] * (x - mean)) ** 2, axis=0)) / weights.sum()
        assert np.all(np.abs(mean - measured) < 5 * error)
        assert np.all(error < 0.1)


@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_tweedie_for_the_mixture(sigma):
    means, covs, priors = mixture()
    y = noisy()
    score = finite_difference_score(lambda at: log_density(at, means, covs, priors, sigma), y)
    measured = (np.asarray(mixture_denoiser(means, covs, priors)(y, sigma)) - y) / sigma**2
    np.testing.assert_allclose(measured, score, rtol=1e-6, atol=1e-7)


def test_tweedie_for_the_empirical_distribution():
    x, y = samples(), noisy()

    def log_p(at):
        return logsumexp(-np.sum((at[:, None] - x) ** 2, axis=-1) / (2 * SIGMA**2), axis=1)

    measured = (np.asarray(empirical_denoiser(x)(y, SIGMA)) - y) / SIGMA**2
    np.testing.assert_allclose(measured, finite_difference_score(log_p, y), rtol=1e-6, atol=1e-7)


def test_gaussian_denoiser_is_the_wiener_filter():
    means, covs, _ = mixture()
    filtering = covs[0] @ np.linalg.inv(covs[0] + SIGMA**2 * np.eye(4))
    expected = means[0] + (noisy() - means[0]) @ filtering.T
    np.testing.assert_allclose(
        gaussian_denoiser(means[0], covs[0])(noisy(), SIGMA), expected, rtol=1e-10
    )


def test_singular_covariances_project_onto_their_range():
    direction = np.array([0.6, 0.8, 0.0, 0.0])
    cov = 4.0 * np.outer(direction, direction)
    result = np.asarray(gaussian_denoiser(np.zeros(4), cov)(noisy(), SIGMA))
    expected = 4 / (4 + SIGMA**2) * np.outer(noisy() @ direction, direction)
    np.testing.assert_allclose(result, expected, atol=1e-12)
    tiny = np.asarray(gaussian_denoiser(np.zeros(4), cov)(noisy(), 1e-4))
    np.testing.assert_allclose(tiny, np.outer(noisy() @ direction, direction), atol=1e-6)


@pytest.mark.parametrize("distance", [1e3, 1e8])
@pytest.mark.parametrize("sigma", [1e-3, 1.0])
def test_far_away_points_stay_finite(distance, sigma):
    means, covs, priors = mixture()
    covs = covs.copy()
    covs[1] = 0
    y = distance * noisy()
    for denoiser in (empirical_denoiser(samples()), mixture_denoiser(means, covs, priors)):
        assert np.all(np.isfinite(denoiser(y, sigma)))
    # Far out the empirical denoiser returns the sample that reaches farthest that way.
    farthest = samples()[np.argmax(y @ samples().T, axis=1)]
    np.testing.assert_allclose(empirical_denoiser(samples())(y, sigma), farthest, atol=1e-9)


def test_a_common_shift_shifts_the_result():
    x, y, shift = samples(), noisy(), np.full(4, 50.0)
    moved = np.asarray(empirical_denoiser(x + shift)(y + shift, SIGMA)) - shift
    np.testing.assert_allclose(moved, empirical_denoiser(x)(y, SIGMA), atol=1e-9)


def test_relu_denoiser_ignores_sigma():
    w1, w2 = np.random.RandomState(4).normal(size=(2, 4, 6))
    expected = np.maximum(noisy() @ w1, 0) @ w2.T
    for sigma in (0.1, 10.0):
        np.testing.assert_allclose(relu_denoiser(w1, w2)(noisy(), sigma), expected, rtol=1e-12)
    np.testing.assert_allclose(denoise(w1, w2, noisy()), expected, rtol=1e-12)


def test_denoisers_compile_and_differentiate():
    means, covs, priors = mixture()
    for denoiser in (empirical_denoiser(samples()), mixture_denoiser(means, covs, priors)):
        compiled = jax.jit(denoiser)(noisy(), SIGMA)
        np.testing.assert_allclose(compiled, denoiser(noisy(), SIGMA), rtol=1e-10)
        # The Jacobian of a posterior mean is Cov[x | y]/σ²: symmetric, not negative.
        for y in noisy():
            jacobian = jax.jacfwd(lambda at, f=denoiser: f(at[None], SIGMA)[0])(y)
            np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-10)
            assert np.linalg.eigvalsh(jacobian).min() > -1e-10
