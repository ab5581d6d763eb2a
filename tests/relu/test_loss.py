"""The exact, sampled and expanded objectives against quadrature, Monte Carlo and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermevander
from numpy.polynomial.legendre import leggauss
from scipy.special import factorial, ndtr
from scipy.stats import multivariate_normal

from dae_theory.relu import loss as loss_module
from dae_theory.relu.gaussian_moments import pair_moments
from dae_theory.relu.loss import exact_loss, representation_moments, sampled_loss, weight_penalty
from dae_theory.relu.mehler import _unit_tails, mehler_loss

SIGMA, LAM = 0.4, 0.03
NODES, NODE_WEIGHTS = leggauss(60)

value_and_grad = jax.jit(jax.value_and_grad(exact_loss, argnums=(0, 1)))
expanded_loss = jax.jit(mehler_loss, static_argnames=("terms", "exact_pairs", "chunk"))


@jax.jit
def hessian_product(w1, w2, x, direction1, direction2, sigma, lam):
    """The Hessian applied to a direction."""

    def gradient(a, b):
        return jnp.stack(jax.grad(exact_loss, argnums=(0, 1))(a, b, x, sigma, lam))

    return jax.jvp(gradient, (w1, w2), (direction1, direction2))[1]


def problem(seed=12, n=3, d=4, p=5):
    """Weights and samples of order one: every gate is uncertain."""
    random = np.random.RandomState(seed)
    w1, w2 = random.normal(size=(2, d, p)) / np.sqrt(d)
    return w1, w2, random.normal(size=(n, d)) / 2


def collinear_problem():
    """Units 0 and 1 collinear, 0 and 2 antiparallel, 3 alone; more units than samples."""
    w1, w2, x = problem()
    w1[:, 1], w1[:, 2] = 0.5 * w1[:, 0], -1.3 * w1[:, 0]
    return w1, w2, x


def density(y):
    return np.exp(-(y**2) / 2) / np.sqrt(2 * np.pi)


def quadrature_pair(mean_i, mean_j, cov):
    """E[(a_i)_+ (a_j)_+] for jointly Gaussian a, by quadrature over a_j (no closed form)."""
    s_i, s_j = np.sqrt(cov[0, 0]), np.sqrt(cov[1, 1])
    rho = np.clip(cov[0, 1] / (s_i * s_j), -1, 1)
    spread = s_i * np.sqrt(max(1 - rho**2, 0.0))
    if 1 - rho**2 < 1e-14:
        spread = 0.0
    low, high = max(-mean_j / s_j, -12.0), 12.0
    kink = -mean_i / (s_i * rho) if abs(rho) > 1e-9 else 0.0
    cuts = np.sort(np.clip([low, *np.linspace(low, high, 9), kink, high], low, high))
    half = np.diff(cuts)[:, None] / 2
    y = cuts[:-1, None] + half * (1 + NODES)
    m = mean_i + s_i * rho * y
    if spread == 0:
        inner = np.maximum(m, 0)
    else:
        scaled = m / spread
        inner = spread * (scaled * ndtr(scaled) + density(scaled))
    return np.sum(half * NODE_WEIGHTS * (mean_j + s_j * y) * density(y) * inner)


def quadrature_loss(w1, w2, x, sigma, lam, weights=None):
    """Objective (1) as a sum over pairs of units, written without the package."""
    n, width = len(x), w1.shape[1]
    weights = np.full(n, 1 / n) if weights is None else weights
    cov = sigma**2 * w1.T @ w1
    gram = w2.T @ w2
    total = lam * (np.sum(w1**2) + np.sum(w2**2))
    for weight, sample in zip(weights, x, strict=True):
        a = w1.T @ sample
        s = np.sqrt(np.diag(cov))
        h = a * ndtr(a / s) + s * density(a / s)
        loss = sample @ sample - 2 * sample @ w2 @ h
        for i in range(width):
            for j in range(width):
                pair = cov[np.ix_([i, j], [i, j])]
                loss += gram[i, j] * quadrature_pair(a[i], a[j], pair)
        total += weight * loss
    return total


def central_gradient(function, array, step=2e-3):
    """Sixth-order central differences, with an error of about step^6."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        for offset, coefficient in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60)):
            shift = np.zeros_like(array)
            shift[index] = offset * step
            gradient[index] += coefficient * (function(array + shift) - function(array - shift))
    return gradient / step


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 6), (4, 2, 3)])
def test_exact_loss_equals_quadrature(shape):
    w1, w2, x = problem(2, *shape)
    expected = quadrature_loss(w1, w2, x, SIGMA, LAM)
    np.testing.assert_allclose(exact_loss(w1, w2, x, SIGMA, LAM), expected, rtol=1e-10)


def test_exact_loss_equals_quadrature_for_collinear_and_antiparallel_units():
    w1, w2, x = collinear_problem()
    expected = quadrature_loss(w1, w2, x, SIGMA, LAM)
    np.testing.assert_allclose(exact_loss(w1, w2, x, SIGMA, LAM), expected, rtol=1e-10)


def test_exact_gradient_equals_differences_of_the_quadrature():
    w1, w2, x = problem(3, n=2, d=3, p=3)
    _, (slope1, slope2) = value_and_grad(w1, w2, x, SIGMA, LAM)
    expected1 = central_gradient(lambda w: quadrature_loss(w, w2, x, SIGMA, LAM), w1)
    expected2 = central_gradient(lambda w: quadrature_loss(w1, w, x, SIGMA, LAM), w2)
    np.testing.assert_allclose(slope1, expected1, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(slope2, expected2, rtol=1e-8, atol=1e-9)


def test_derivative_in_the_correlation_is_scipys_bivariate_normal():
    # Price's theorem: dE[h_i h_j]/drho = P(both active).
    w1, _, x = problem(4)
    u = w1 / np.linalg.norm(w1, axis=0)
    z, rho = x @ u / SIGMA, u.T @ u
    slope = jax.grad(lambda r, h, k, q: pair_moments(h, k, r, q).relu_relu)
    for i, j in ((0, 1), (1, 3), (2, 4)):
        for row in z:
            expected = multivariate_normal(cov=[[1, rho[i, j]], [rho[i, j], 1]]).cdf(row[[i, j]])
            measured = slope(rho[i, j], row[i], row[j], np.sqrt(1 - rho[i, j] ** 2))
            np.testing.assert_allclose(measured, expected, rtol=1e-8)


@pytest.mark.parametrize("make", [problem, collinear_problem])
def test_exact_loss_and_gradient_agree_with_a_million_noise_draws(make):
    w1, w2, x = make()
    draws, chunk, deviations = 1_000_000, 50_000, 5
    random = np.random.RandomState(5)
    entries = [(0, 0), (1, 1), (2, 2), (3, 3)]
    collected = []
    for _ in range(draws // chunk):
        per_draw = np.zeros((chunk, 1 + 2 * len(entries)))
        for sample in x:
            y = sample + SIGMA * random.normal(size=(chunk, len(sample)))
            a = y @ w1
            h = np.maximum(a, 0)
            error = h @ w2.T - sample
            back = 2 * (error @ w2) * (a > 0)
            columns = [np.sum(error**2, axis=1)]
            columns += [y[:, row] * back[:, unit] for row, unit in entries]
            columns += [2 * error[:, row] * h[:, unit] for row, unit in entries]
            per_draw += np.stack(columns, axis=1) / len(x)
        collected.append(np.stack([per_draw.mean(axis=0), per_draw.var(axis=0)]))
    mean, variance = np.mean(collected, axis=0)
    standard_error = np.sqrt(variance / draws)
    loss, (slope1, slope2) = value_and_grad(w1, w2, x, SIGMA, 0.0)
    exact = [loss, *(slope1[e] for e in entries), *(slope2[e] for e in entries)]
    assert np.all(np.abs(mean - np.array(exact)) < deviations * standard_error)
    assert standard_error[0] < 2e-3 * loss


@pytest.mark.parametrize("make", [problem, collinear_problem])
def test_exact_gradient_equals_central_differences(make):
    w1, w2, x = make()

    def loss(a, b):
        return value_and_grad(a, b, x, SIGMA, LAM)[0]

    _, (slope1, slope2) = value_and_grad(w1, w2, x, SIGMA, LAM)
    step = 1e-5
    for index in np.ndindex(w1.shape):
        shift = np.zeros_like(w1)
        shift[index] = step
        difference1 = (loss(w1 + shift, w2) - loss(w1 - shift, w2)) / (2 * step)
        difference2 = (loss(w1, w2 + shift) - loss(w1, w2 - shift)) / (2 * step)
        np.testing.assert_allclose(slope1[index], difference1, atol=1e-7)
        np.testing.assert_allclose(slope2[index], difference2, atol=1e-7)


@pytest.mark.parametrize("make", [problem, collinear_problem])
def test_hessian_product_equals_central_differences_of_the_gradient(make):
    w1, w2, x = make()
    random = np.random.RandomState(6)
    # Collinear units stay collinear along this direction: across it the Hessian has a kink.
    direction1 = random.normal(size=(len(w1), 1)) * np.linalg.norm(w1, axis=0)
    if make is collinear_problem:
        direction1[:, 2] *= -1
    else:
        direction1 = random.normal(size=w1.shape)
    direction2 = random.normal(size=w2.shape)

    def gradient(a, b):
        return np.stack(value_and_grad(a, b, x, SIGMA, LAM)[1])

    product = hessian_product(w1, w2, x, direction1, direction2, SIGMA, LAM)
    step = 1e-5
    ahead = gradient(w1 + step * direction1, w2 + step * direction2)
    behind = gradient(w1 - step * direction1, w2 - step * direction2)
    np.testing.assert_allclose(product, (ahead - behind) / (2 * step), atol=1e-7, rtol=1e-7)


def test_hessian_product_at_collinear_units_is_the_limit_of_differences():
    # Off the collinear line the gradient has a term in t|t|, so differences converge at first
    # order: the error of a difference with step t is proportional to t.
    w1, w2, x = collinear_problem()
    direction = np.random.RandomState(7).normal(size=w1.shape)
    product = hessian_product(w1, w2, x, direction, np.zeros_like(w2), SIGMA, LAM)
    steps = np.array([1e-3, 1e-4, 1e-5])
    errors = []
    for step in steps:
        ahead, behind = (
            np.stack(value_and_grad(w1 + s * direction, w2, x, SIGMA, LAM)[1])
            for s in (step, -step)
        )
        errors.append(np.max(np.abs((ahead - behind) / (2 * step) - product)))
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope > 0.9
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("share", [0.37, 0.6])
def test_compiling_with_constants_changes_no_gradient_of_split_units(share):
    # With sigma known at compile time XLA contracts its division into other operations, and
    # collinear units then differ by rounding: that must not reach the gradient.
    w1, w2, x = problem()
    rest = np.sqrt(1 - share**2)
    split = [np.column_stack([share * w[:, 0], rest * w[:, 0], w[:, 1:]]) for w in (w1, w2)]
    gradient = jax.jit(lambda a, b: jax.grad(exact_loss, argnums=(0, 1))(a, b, x, SIGMA, LAM))
    _, whole = value_and_grad(w1, w2, x, SIGMA, LAM)
    # A part of a unit moves the loss by its share of what the whole unit does.
    for slope, expected in zip(gradient(*split), whole, strict=True):
        parts = [share * expected[:, 0], rest * expected[:, 0], expected[:, 1:]]
        np.testing.assert_allclose(slope, np.column_stack(parts), atol=1e-12)


def test_splitting_a_unit_changes_nothing():
    w1, w2, x = problem()
    share, rest = 0.6, 0.8  # 0.6² + 0.8² = 1
    split = [np.column_stack([share * w[:, 0], rest * w[:, 0], w[:, 1:]]) for w in (w1, w2)]
    whole = exact_loss(w1, w2, x, SIGMA, LAM)
    np.testing.assert_allclose(exact_loss(*split, x, SIGMA, LAM), whole, rtol=1e-12)


def test_zero_columns_change_nothing_and_have_zero_gradient():
    w1, w2, x = problem()
    padded = [np.pad(w, ((0, 0), (0, 2))) for w in (w1, w2)]
    loss, slopes = value_and_grad(*padded, x, SIGMA, LAM)
    np.testing.assert_allclose(loss, exact_loss(w1, w2, x, SIGMA, LAM), rtol=1e-13)
    for slope in slopes:
        assert np.all(np.isfinite(slope))
        np.testing.assert_array_equal(slope[:, -2:], 0.0)


def test_sample_weights_act_like_duplicated_samples():
    w1, w2, x = problem()
    repeats = np.array([3, 1, 2])
    weighted = exact_loss(w1, w2, x, SIGMA, LAM, repeats / repeats.sum())
    duplicated = exact_loss(w1, w2, np.repeat(x, repeats, axis=0), SIGMA, LAM)
    np.testing.assert_allclose(weighted, duplicated, rtol=1e-13)
    expected = quadrature_loss(w1, w2, x, SIGMA, LAM, repeats / repeats.sum())
    np.testing.assert_allclose(weighted, expected, rtol=1e-10)


def test_loss_is_invariant_under_permutation_and_rotation():
    w1, w2, x = problem()
    whole = exact_loss(w1, w2, x, SIGMA, LAM)
    random = np.random.RandomState(8)
    order = random.permutation(w1.shape[1])
    np.testing.assert_allclose(
        exact_loss(w1[:, order], w2[:, order], x, SIGMA, LAM), whole, rtol=1e-13
    )
    rotation = np.linalg.qr(random.normal(size=(4, 4)))[0]
    rotated = exact_loss(rotation @ w1, rotation @ w2, x @ rotation.T, SIGMA, LAM)
    np.testing.assert_allclose(rotated, whole, rtol=1e-12)


def test_loss_tends_to_the_noiseless_loss_as_sigma_squared():
    w1, w2, x = problem()
    residual = np.maximum(x @ w1, 0) @ w2.T - x
    noiseless = np.mean(np.sum(residual**2, axis=1))
    sigmas = np.array([3e-3, 1e-3, 3e-4])
    excess = [float(exact_loss(w1, w2, x, sigma, 0.0)) - noiseless for sigma in sigmas]
    slope = np.polyfit(np.log(sigmas), np.log(excess), 1)[0]
    np.testing.assert_allclose(slope, 2.0, atol=0.01)
    np.testing.assert_allclose(exact_loss(w1, w2, x, 1e-9, 0.0), noiseless, rtol=1e-12)


def test_zero_weights_give_the_power_of_the_data():
    _, _, x = problem()
    zeros = np.zeros((4, 5))
    expected = np.mean(np.sum(x**2, axis=1))
    np.testing.assert_allclose(exact_loss(zeros, zeros, x, SIGMA, LAM), expected, rtol=1e-14)


def test_weight_penalty_has_no_factor_one_half():
    assert float(weight_penalty(np.ones((2, 3)), 2 * np.ones((2, 3)), 0.5)) == 0.5 * (6 + 24)


def test_representation_moments_equal_quadrature():
    w1, _, x = problem()
    mean, second = representation_moments(w1, x, SIGMA)
    cov = SIGMA**2 * w1.T @ w1
    scale = np.sqrt(np.diag(cov))
    a = x @ w1
    np.testing.assert_allclose(mean, a * ndtr(a / scale) + scale * density(a / scale), rtol=1e-12)
    expected = np.mean(
        [
            [
                [quadrature_pair(r[i], r[j], cov[np.ix_([i, j], [i, j])]) for j in range(5)]
                for i in range(5)
            ]
            for r in a
        ],
        axis=0,
    )
    np.testing.assert_allclose(second, expected, rtol=1e-10)


def test_sampled_loss_equals_a_loop():
    w1, w2, x = problem()
    random = np.random.RandomState(9)
    noise = random.normal(size=(2, *x.shape))
    weights = np.array([0.5, 0.2, 0.3])
    total = 0.0
    for draw in noise:
        for weight, sample, epsilon in zip(weights, x, draw, strict=True):
            y = sample + SIGMA * epsilon
            output = sum(w2[:, j] * max(w1[:, j] @ y, 0.0) for j in range(w1.shape[1]))
            total += weight * np.sum((output - sample) ** 2) / len(noise)
    total += LAM * (np.sum(w1**2) + np.sum(w2**2))
    measured = sampled_loss(w1, w2, x, noise, SIGMA, LAM, weights)
    np.testing.assert_allclose(measured, total, rtol=1e-13)


def near_orthogonal_problem():
    """Units at small cosines, as the expansion likes them."""
    random = np.random.RandomState(10)
    basis = np.linalg.qr(random.normal(size=(8, 8)))[0][:, :6]
    w1 = basis + 0.25 * random.normal(size=basis.shape) / np.sqrt(8)
    return w1, w1 + 0.1 * random.normal(size=w1.shape), random.normal(size=(7, 8)) / 2


def test_mehler_loss_is_within_its_error_bound_and_the_bound_shrinks():
    w1, w2, x = near_orthogonal_problem()
    exact = float(exact_loss(w1, w2, x, SIGMA, LAM))
    bounds = []
    for terms in (1, 3, 8):
        loss, bound = expanded_loss(w1, w2, x, SIGMA, LAM, terms=terms)
        assert abs(float(loss) - exact) <= float(bound)
        bounds.append(float(bound))
    assert np.all(np.diff(bounds) < 0)
    assert bounds[-1] < 1e-4 * exact


def test_mehler_loss_converges_to_the_exact_loss():
    w1, w2, x = near_orthogonal_problem()
    np.testing.assert_allclose(
        expanded_loss(w1, w2, x, SIGMA, LAM, terms=24).loss,
        exact_loss(w1, w2, x, SIGMA, LAM),
        rtol=1e-13,
    )


def test_mehler_bound_is_not_vacuous():
    w1, w2, x = near_orthogonal_problem()
    exact = float(exact_loss(w1, w2, x, SIGMA, LAM))
    loss, bound = expanded_loss(w1, w2, x, SIGMA, LAM, terms=3)
    assert float(bound) < 1000 * abs(float(loss) - exact)


@pytest.mark.parametrize("terms", [1, 3])
def test_mehler_bound_of_a_pair_is_a_power_of_its_cosine_times_its_tails(terms):
    w1, w2, x = near_orthogonal_problem()
    w1, w2 = w1[:, :2], w2[:, :2]
    norms = np.linalg.norm(w1, axis=0)
    weights = np.full((1, len(x)), 1 / len(x))
    tails = _unit_tails(jnp.asarray(x @ w1 / (SIGMA * norms))[None], jnp.asarray(weights), terms)
    cosine = w1[:, 0] @ w1[:, 1] / np.prod(norms)
    size = abs(w2[:, 0] @ w2[:, 1]) * SIGMA**2 * np.prod(norms)
    expected = 2 * size * abs(cosine) ** (terms + 1) * np.sqrt(np.prod(tails))
    found = mehler_loss(w1, w2, x, SIGMA, LAM, terms=terms).error_bound
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("terms", [1, 3])
def test_what_the_series_leaves_out_is_the_energy_of_higher_hermite_terms(terms):
    """E h² less the squares of E h He_k/√k!, k up to ``terms``, by quadrature."""
    z, weights = np.array([-0.8, 0.3, 1.1]), np.array([0.2, 0.3, 0.5])
    left_out = 0.0
    for margin, weight in zip(z, weights, strict=True):
        g = -margin + 6 * (NODES + 1)
        measure = 6 * NODE_WEIGHTS * np.exp(-(g**2) / 2) / np.sqrt(2 * np.pi)
        hermite = hermevander(g, terms) / np.sqrt(factorial(np.arange(terms + 1)))
        energy = np.sum(measure * (margin + g) ** 2)
        left_out += weight * (energy - np.sum((measure * (margin + g) @ hermite) ** 2))
    found = _unit_tails(jnp.asarray(z)[None, :, None], jnp.asarray(weights)[None], terms)
    np.testing.assert_allclose(found, [left_out], rtol=1e-9)


def test_exact_pairs_handle_collinear_units():
    w1, w2, x = collinear_problem()
    exact = float(exact_loss(w1, w2, x, SIGMA, LAM))
    without = expanded_loss(w1, w2, x, SIGMA, LAM, terms=4)
    assert abs(float(without.loss) - exact) > 1e-5
    assert abs(float(without.loss) - exact) <= float(without.error_bound)
    some = expanded_loss(
        w1, w2, x, SIGMA, LAM, terms=24, exact_pairs=3
    )  # pairs among units 0, 1, 2
    assert abs(float(some.loss) - exact) <= float(some.error_bound) + 1e-14
    assert float(some.error_bound) < float(without.error_bound)
    every = expanded_loss(w1, w2, x, SIGMA, LAM, terms=4, exact_pairs=100)
    np.testing.assert_allclose(every.loss, exact, rtol=1e-13)
    assert float(every.error_bound) == 0.0


@pytest.mark.parametrize("exact_pairs", [0, 4])
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_and_padding_change_nothing(chunk, exact_pairs):
    w1, w2, x = near_orthogonal_problem()
    weights = np.arange(1.0, 8) / 28
    options = {"terms": 6, "exact_pairs": exact_pairs}
    whole = expanded_loss(w1, w2, x, SIGMA, LAM, weights, **options)
    chunked = expanded_loss(w1, w2, x, SIGMA, LAM, weights, chunk=chunk, **options)
    np.testing.assert_allclose(chunked.loss, whole.loss, rtol=1e-13)
    np.testing.assert_allclose(chunked.error_bound, whole.error_bound, rtol=1e-6)


def test_mehler_gradient_equals_the_exact_gradient():
    w1, w2, x = near_orthogonal_problem()

    def expanded(a, b):
        return expanded_loss(a, b, x, SIGMA, LAM, terms=12, exact_pairs=4, chunk=3).loss

    measured = jax.grad(expanded, argnums=(0, 1))(w1, w2)
    _, expected = value_and_grad(w1, w2, x, SIGMA, LAM)
    for slope, exact in zip(measured, expected, strict=True):
        np.testing.assert_allclose(slope, exact, atol=1e-8)


def test_mehler_hessian_product_equals_the_exact_one():
    w1, w2, x = near_orthogonal_problem()
    direction1, direction2 = np.random.RandomState(13).normal(size=(2, *w1.shape))

    def gradient(a, b):
        def expanded(a, b):
            return mehler_loss(a, b, x, SIGMA, LAM, terms=16, exact_pairs=4, chunk=3).loss

        return jnp.stack(jax.grad(expanded, argnums=(0, 1))(a, b))

    measured = jax.jit(lambda a, b: jax.jvp(gradient, (a, b), (direction1, direction2))[1])(w1, w2)
    expected = hessian_product(w1, w2, x, direction1, direction2, SIGMA, LAM)
    np.testing.assert_allclose(measured, expected, atol=1e-7)


@pytest.mark.parametrize("argument", ["samples", "sample weights"])
def test_mehler_derivatives_in_the_data_equal_the_exact_ones(argument):
    w1, w2, x = near_orthogonal_problem()
    weights = np.arange(1.0, 8) / 28
    index = {"samples": 2, "sample weights": 5}[argument]

    def expanded(*arguments):
        return mehler_loss(*arguments, terms=12, chunk=3).loss

    measured, expected = (
        jax.jit(jax.grad(function, argnums=index))(w1, w2, x, SIGMA, LAM, weights)
        for function in (expanded, exact_loss)
    )
    np.testing.assert_allclose(measured, expected, atol=1e-8)


def test_mehler_loss_of_zero_columns_is_finite():
    w1, w2, x = near_orthogonal_problem()
    padded = [np.pad(w, ((0, 0), (0, 2))) for w in (w1, w2)]
    loss, slopes = jax.value_and_grad(
        lambda a, b: expanded_loss(a, b, x, SIGMA, LAM, terms=24).loss, argnums=(0, 1)
    )(*padded)
    np.testing.assert_allclose(loss, exact_loss(w1, w2, x, SIGMA, LAM), rtol=1e-13)
    assert np.all(np.isfinite(slopes))


def test_float32_inputs_stay_float32_and_agree():
    arrays = near_orthogonal_problem()
    w1, w2, x = (jnp.asarray(a, jnp.float32) for a in arrays)
    noise = np.random.RandomState(11).normal(size=(2, *x.shape))
    exact = exact_loss(*arrays, SIGMA, LAM)
    single = exact_loss(w1, w2, x, SIGMA, LAM)
    expanded = expanded_loss(w1, w2, x, SIGMA, LAM, terms=12, exact_pairs=2).loss
    sampled = sampled_loss(w1, w2, x, jnp.asarray(noise, jnp.float32), SIGMA, LAM)
    np.testing.assert_allclose([single, expanded], exact, rtol=1e-4)
    np.testing.assert_allclose(sampled, sampled_loss(*arrays, noise, SIGMA, LAM), rtol=1e-4)
    assert {single.dtype, expanded.dtype, sampled.dtype} == {jnp.dtype("float32")}


@pytest.mark.filterwarnings("error")
def test_float32_weights_on_float64_samples_give_a_float64_loss():
    w1, w2, x = problem()
    single1, single2 = (jnp.asarray(w, jnp.float32) for w in (w1, w2))
    mixed = exact_loss(single1, single2, x, SIGMA, LAM)
    assert mixed.dtype == jnp.dtype("float64")
    np.testing.assert_allclose(mixed, exact_loss(w1, w2, x, SIGMA, LAM), rtol=1e-6)


def test_many_units_are_taken_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    w1, w2 = rng.standard_normal((2, 6, 37))
    w1[:, 3], w1[:, 5] = 0, 2 * w1[:, 4]
    arguments = (w1, w2, rng.standard_normal((4, 6)), 0.3, 0.01, np.array([0.1, 0.2, 0.3, 0.4]))
    whole = jax.jit(jax.value_and_grad(exact_loss.__wrapped__))(*arguments)
    monkeypatch.setattr(loss_module, "FLOATS_AT_ONCE", 1)
    monkeypatch.setattr(loss_module, "PART_FLOATS", 5 * 37 * (24 * 4 + 6))  # five units a part
    parts = jax.jit(jax.value_and_grad(exact_loss.__wrapped__))(*arguments)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-13)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-10, atol=1e-12)
