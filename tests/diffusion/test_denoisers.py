"""Posterior means against loops, Monte Carlo, Tweedie's formula and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from dae_theory import (
    InputError,
    denoise,
    empirical_denoiser,
    gaussian_denoiser,
    homogeneous_empirical_denoiser,
    mixture_denoiser,
    relu_denoiser,
)
from dae_theory.diffusion.denoisers import denoising_errors, local_pca_denoiser, switching_denoiser

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
        jacobian = jax.jacfwd(lambda at, f=denoiser: f(at[None], SIGMA)[0])
        for matrix in jax.vmap(jacobian)(noisy()):
            np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
            assert np.linalg.eigvalsh(matrix).min() > -1e-10


def many_samples():
    return np.random.RandomState(5).normal(size=(70, 4)) * [2.0, 1.0, 0.5, 0.1]


def local_pca_by_a_loop(x, y, neighbours, rank, sigma):
    nearest = x[np.argsort(np.sum((x - y) ** 2, axis=1))[:neighbours]]
    mean = nearest.mean(axis=0)
    _, singular, components = np.linalg.svd(nearest - mean, full_matrices=False)
    values = singular[:rank] ** 2 / neighbours
    return (
        mean + (components[:rank] @ (y - mean)) * values / (values + sigma**2) @ components[:rank]
    )


@pytest.mark.parametrize(("neighbours", "rank"), [(20, 2), (20, 4), (3, 2), (5, 1), (5, 0)])
def test_local_pca_equals_a_loop_over_singular_value_decompositions(neighbours, rank):
    x, y = many_samples(), noisy(100)
    for sigma in (0.05, SIGMA):
        measured = jax.jit(local_pca_denoiser(x, neighbours, rank))(y, sigma)
        expected = [local_pca_by_a_loop(x, point, neighbours, rank, sigma) for point in y]
        np.testing.assert_allclose(measured, expected, rtol=1e-8, atol=1e-10)


def test_limits_of_local_pca_are_the_wiener_filter_and_the_nearest_sample():
    x, y = many_samples(), noisy()
    wiener = gaussian_denoiser(x.mean(axis=0), np.cov(x.T, bias=True))
    np.testing.assert_allclose(
        local_pca_denoiser(x, 70, 4)(y, SIGMA), wiener(y, SIGMA), rtol=1e-9, atol=1e-12
    )
    # Mutants: one component fewer, the unbiased covariance.
    unbiased = gaussian_denoiser(x.mean(axis=0), np.cov(x.T))
    for mutant in (local_pca_denoiser(x, 70, 3), unbiased):
        assert np.max(np.abs(mutant(y, SIGMA) - wiener(y, SIGMA))) > 1e-4
    nearest = x[np.argmin(np.sum((y[:, None] - x) ** 2, axis=-1), axis=1)]
    np.testing.assert_allclose(local_pca_denoiser(x, 1, 0)(y, SIGMA), nearest, rtol=1e-12)
    duplicates = np.tile(x[:1], (9, 1))
    result = local_pca_denoiser(duplicates, 6, 3)(y, 1e-3)
    np.testing.assert_allclose(result, np.tile(x[:1], (5, 1)), atol=1e-9)


@pytest.mark.parametrize(("neighbours", "rank"), [(0, 0), (8, 2), (3, 3), (6, 5), (3, -1)])
def test_impossible_local_pca_is_refused(neighbours, rank):
    with pytest.raises(InputError, match=r"neighbours|rank"):
        local_pca_denoiser(samples(), neighbours, rank)


def level_nets():
    """One that returns its own σ at every sample, for each of three levels, out of order."""
    levels = (0.4, 0.1, 1.6)
    nets = [lambda y, sigma, level=level: jnp.full_like(y, level) for level in levels]
    return switching_denoiser(nets, levels)


@pytest.mark.parametrize(
    ("sigma", "nearest"),
    [(0.0, 0.1), (0.01, 0.1), (0.19, 0.1), (0.21, 0.4), (0.79, 0.4), (0.81, 1.6), (50.0, 1.6)],
)
def test_the_set_of_nets_uses_the_nearest_level(sigma, nearest):
    y = noisy()
    np.testing.assert_array_equal(level_nets()(y, sigma), np.full(y.shape, nearest))
    np.testing.assert_array_equal(jax.jit(level_nets())(y, sigma), np.full(y.shape, nearest))


def test_the_set_of_nets_passes_samples_and_level_on_within_a_scan():
    means, covs, priors = mixture()
    exact = mixture_denoiser(means, covs, priors)
    mixed = switching_denoiser([empirical_denoiser(samples()), exact], [0.1, 1.0])
    sigmas = jnp.array([0.1, 0.2, 0.5, 2.0])
    _, results = jax.lax.scan(lambda carry, s: (carry, mixed(noisy(), s)), 0, sigmas)
    expected = [
        (empirical_denoiser(samples()) if s < 0.3 else exact)(noisy(), float(s)) for s in sigmas
    ]
    np.testing.assert_allclose(results, expected, rtol=1e-9)
    only = switching_denoiser([exact], [0.3])
    np.testing.assert_allclose(only(noisy(), 2.0), exact(noisy(), 2.0), rtol=1e-10)


@pytest.mark.parametrize(
    ("count", "sigmas"), [(0, []), (2, [0.1]), (1, [0.0]), (1, [-1.0]), (1, [np.nan])]
)
def test_a_set_of_nets_without_levels_is_refused(count, sigmas):
    with pytest.raises(InputError, match="sigmas"):
        switching_denoiser([lambda y, sigma: y] * count, sigmas)


def test_denoising_errors_of_closed_forms():
    # Identity: σ² D. Zero: ‖x‖². Wiener filter, over samples of its Gaussian: Σ λσ²/(λ + σ²).
    values, sigmas = np.array([4.0, 0.5]), np.array([0.1, 1.0, 3.0])
    x = np.random.RandomState(6).normal(size=(20_000, 2)) * np.sqrt(values)
    key = jax.random.key(0)
    identity = denoising_errors(key, lambda y, sigma: y, x, sigmas, draws=2)
    assert np.all(np.abs(identity.mean - 2 * sigmas**2) < 5 * identity.standard_error)
    # Variance of ‖ε‖² is 2D, halved by two draws.
    np.testing.assert_allclose(identity.standard_error, sigmas**2 * (2 / 2e4) ** 0.5, rtol=0.05)
    zero = denoising_errors(key, lambda y, sigma: 0 * y, x, sigmas)
    np.testing.assert_allclose(zero.mean, np.mean(np.sum(x**2, axis=1)), rtol=1e-10)
    wiener = gaussian_denoiser(np.zeros(2), np.diag(values))
    result = denoising_errors(key, wiener, x, sigmas)
    exact = np.array([np.sum(values * s**2 / (values + s**2)) for s in sigmas])
    assert np.all(np.abs(result.mean - exact) < 5 * result.standard_error)
    # A mutant: the filter at another level than the noise.
    wrong = denoising_errors(key, lambda y, s: wiener(y, 1.2 * s), x, sigmas)
    assert np.all(wrong.mean > result.mean)


def test_denoising_errors_equal_a_loop_and_tell_training_samples_from_new_ones():
    x, new, sigmas = samples(), noisy(40), [0.1, 0.4]
    denoiser, key = empirical_denoiser(x), jax.random.key(1)
    result = denoising_errors(key, denoiser, x, sigmas, draws=3)
    noise = [jax.random.normal(k, x.shape) for k in jax.random.split(key, 3)]
    for t, sigma in enumerate(sigmas):
        squares = [np.sum((denoiser(x + sigma * e, sigma) - x) ** 2, axis=1) for e in noise]
        errors = np.mean(squares, axis=0)
        np.testing.assert_allclose(result.mean[t], errors.mean(), rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(
            result.standard_error[t], errors.std(ddof=1) / 7**0.5, rtol=1e-9, atol=1e-15
        )
    unseen = denoising_errors(key, denoiser, new, sigmas, draws=3)
    assert np.all(unseen.mean - 5 * unseen.standard_error > result.mean)
    compiled = jax.jit(lambda key, x: denoising_errors(key, denoiser, x, sigmas, 3))(key, x)
    np.testing.assert_allclose(compiled.mean, result.mean, rtol=1e-9, atol=1e-15)
    with pytest.raises(InputError, match="draws"):
        denoising_errors(key, denoiser, x, sigmas, draws=0)


def test_homogeneous_empirical_denoiser_is_a_ratio_of_integrals_along_the_ray():
    """E[r x | u]/E[r² | u] by SciPy's quadrature, and D(cy) = c D(y)."""
    x_ND, sigma = np.random.default_rng(0).standard_normal((4, 5)), 0.7
    y_MD = np.random.default_rng(1).standard_normal((3, 5))
    with jax.enable_x64(True):
        found, scaled = (
            np.asarray(homogeneous_empirical_denoiser(x_ND)(jnp.asarray(c * y_MD), sigma))
            for c in (1, 3)
        )
    np.testing.assert_allclose(scaled, 3 * found, rtol=1e-12)
    for y_D, found_D in zip(y_MD, found, strict=True):
        length = np.linalg.norm(y_D)
        u_D = y_D / length

        def moment(power, x_D, u_D=u_D):
            return quad(
                lambda r: r ** (4 + power) * np.exp(-np.sum((r * u_D - x_D) ** 2) / (2 * sigma**2)),
                0,
                20,
                epsabs=1e-13,
            )[0]

        first_N = np.array([moment(1, x_D) for x_D in x_ND])
        second = sum(moment(2, x_D) for x_D in x_ND)
        np.testing.assert_allclose(found_D, length * first_N @ x_ND / second, rtol=1e-5)


def test_no_homogeneous_map_has_less_error_than_the_homogeneous_empirical_denoiser():
    """It beats (5)'s kind, c(u) y with the best constant, and itself times other constants."""
    x_ND, sigma = 3 * np.random.default_rng(2).standard_normal((3, 6)), 1.0
    rng = np.random.default_rng(3)
    clean_MD = x_ND[rng.integers(3, size=20_000)]
    y_MD = clean_MD + sigma * rng.standard_normal(clean_MD.shape)
    best_MD = np.asarray(homogeneous_empirical_denoiser(x_ND)(jnp.asarray(y_MD), sigma))

    def error(denoised_MD):
        return np.mean(np.sum((denoised_MD - clean_MD) ** 2, axis=1))

    linear = np.sum(y_MD * clean_MD) / np.sum(y_MD**2)
    assert error(best_MD) < error(linear * y_MD)
    assert error(best_MD) < min(error(0.97 * best_MD), error(1.03 * best_MD))
    free_MD = np.asarray(empirical_denoiser(x_ND)(jnp.asarray(y_MD), sigma))
    assert error(free_MD) < error(best_MD)
