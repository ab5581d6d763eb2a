"""Moments of pairs of rectified Gaussians against mpmath quadrature and SciPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from dae_theory.relu.gaussian_moments import (
    cdf,
    pair_correlations,
    pair_moments,
    relu_mean,
    relu_square,
    unit_columns,
)

TOLERANCE = 1e-12
INFINITY = 14  # noise beyond this many standard deviations weighs less than 1e-44
FIELDS = ("relu_relu", "gate_relu", "relu_gate", "both_active")


def mpmath_moments(h, k, rho, q):
    """The four moments by one-dimensional quadrature over g_j = y, in 30 digits.

    Given y, unit i sees a Gaussian of mean m = h + rho y and standard deviation q.
    """
    with mpmath.workdps(30):
        h, k, rho, q = map(mpmath.mpf, (h, k, rho, q))
        # Of rho and q the smaller one is exact; the other follows from it.
        if abs(rho) > 0.7:
            rho = mpmath.sign(rho) * mpmath.sqrt(1 - q**2)
        else:
            q = mpmath.sqrt(1 - rho**2)

        @functools.cache
        def gate_and_relu(y):
            m = h + rho * y
            if q == 0:
                return mpmath.npdf(y) * (m > 0), mpmath.npdf(y) * max(m, 0)
            gate = mpmath.ncdf(m / q)
            density = mpmath.npdf(y)
            return density * gate, density * (m * gate + q * mpmath.npdf(m / q))

        low, high = max(-k, -INFINITY), INFINITY
        if low >= high:
            return np.zeros(4)
        cuts = {low, high} | {mpmath.mpf(c) for c in (-4, -1, 0, 2, 5)}
        if rho != 0:
            cuts |= {-h / rho + step * q / abs(rho) for step in (-12, -4, -1, 0, 1, 4, 12)}
        cuts = sorted(c for c in cuts if low <= c <= high)

        def integral(weight, which):
            return mpmath.quad(lambda y: weight(y) * gate_and_relu(y)[which], cuts, maxdegree=6)

        relu, gate = (lambda y: k + y), (lambda y: 1)
        values = integral(relu, 1), integral(relu, 0), integral(gate, 1), integral(gate, 0)
        return np.array([float(v) for v in values])


compiled_moments = jax.jit(pair_moments)


def moments(h, k, rho, q):
    arrays = (jnp.asarray(v, jnp.float64) for v in (h, k, rho, q))
    return np.array(compiled_moments(*arrays))


@jax.jit
def moments_of_correlation(h, k, rho):
    return pair_moments(h, k, rho, jnp.sqrt(1 - rho**2))


derivatives = jax.jit(jax.jacfwd(moments_of_correlation, argnums=(0, 1, 2)))


def assert_close(measured, expected):
    np.testing.assert_allclose(measured, expected, rtol=TOLERANCE, atol=TOLERANCE)


GENERIC = [
    (0.3, -0.7, 0.4),
    (-1.2, 0.5, -0.6),
    (1.7, 2.1, 0.9),
    (2.0, -1.5, 0.95),
    (-0.4, -0.9, -0.95),
    (0.8, 0.0, 0.2),
    (0.0, -1.1, -0.3),
    (1.1, 1.1, 0.0),
    (0.6, -0.6, 1e-9),
]


@pytest.mark.parametrize(("h", "k", "rho"), GENERIC)
def test_moments_equal_quadrature_at_generic_points(h, k, rho):
    q = np.sqrt(1 - rho**2)
    assert_close(moments(h, k, rho, q), mpmath_moments(h, k, rho, q))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("distance", [1e-2, 1e-5, 1e-10])
@pytest.mark.parametrize(
    ("h", "k"), [(0.5, 0.5), (0.5, -0.5), (0.5, 0.50001), (-1.0, 0.999), (0.0, 0.0), (1.3, 0.2)]
)
def test_moments_equal_quadrature_near_perfect_correlation(h, k, sign, distance):
    rho, q = sign * (1 - distance), np.sqrt(distance * (2 - distance))
    assert_close(moments(h, k, rho, q), mpmath_moments(h, k, rho, q))


@pytest.mark.parametrize("rho", [1.0, -1.0])
@pytest.mark.parametrize(
    ("h", "k"), [(0.5, 0.5), (0.5, -0.5), (0.8, -0.3), (-0.2, 1.4), (0.0, 0.0), (-1.0, -2.0)]
)
def test_moments_equal_quadrature_at_perfect_correlation(h, k, rho):
    # On the line h = -rho k the two gates switch at one point, where each counts one half or one;
    # the gate convention has measure zero, so quadrature is the truth.
    assert_close(moments(h, k, rho, 0.0), mpmath_moments(h, k, rho, 0.0))


def test_moments_at_the_origin_equal_the_arcsine_formulas():
    for rho in (-1.0, -0.8, -0.1, 0.0, 0.5, 0.99, 1.0):
        q = np.sqrt(1 - rho**2)
        both = 0.25 + np.arcsin(rho) / (2 * np.pi)
        single = (1 + rho) / (2 * np.sqrt(2 * np.pi))
        expected = [rho * both + q / (2 * np.pi), single, single, both]
        assert_close(moments(0.0, 0.0, rho, q), expected)


@pytest.mark.parametrize(
    ("h", "k", "rho"),
    [
        (12.0, 9.0, 0.5),
        (9.0, -3.0, -0.4),
        (-8.0, -7.0, 0.3),
        (-11.0, 2.0, 0.99),
        (-30.0, 30.0, -0.2),
        (11.0, 12.0, -0.999),
    ],
)
def test_moments_equal_quadrature_at_large_preactivations(h, k, rho):
    q = np.sqrt(1 - rho**2)
    assert_close(moments(h, k, rho, q), mpmath_moments(h, k, rho, q))


def test_moments_of_open_gates_are_those_of_plain_gaussians():
    for h, k, rho in ((50.0, 80.0, 0.3), (1e4, 2e3, -0.9), (1e6, 1e6, 1.0)):
        expected = [h * k + rho, k, h, 1.0]
        measured = moments(h, k, rho, np.sqrt(1 - rho**2))
        np.testing.assert_allclose(measured, expected, rtol=TOLERANCE)


def test_moments_of_a_closed_gate_vanish():
    for other in (-1e5, -3.0, 0.0, 4.0, 1e5):
        for rho in (-1.0, -0.5, 0.0, 0.7, 1.0):
            measured = moments(-1e3, other, rho, np.sqrt(1 - rho**2))
            np.testing.assert_allclose(measured, 0.0, atol=TOLERANCE)


def test_both_active_equals_scipy_bivariate_normal():
    random = np.random.RandomState(0)
    for h, k, rho in zip(
        *random.normal(size=(2, 20)), random.uniform(-0.95, 0.95, 20), strict=True
    ):
        expected = multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([h, k])
        assert_close(moments(h, k, rho, np.sqrt(1 - rho**2))[3], expected)


def test_moments_of_one_unit_equal_the_pair_with_itself():
    z = np.linspace(-6, 6, 25)
    itself = moments(z, z, 1.0, 0.0)
    assert_close(itself[0], (1 + z**2) * norm.cdf(z) + z * norm.pdf(z))
    assert_close(relu_square(jnp.asarray(z)), itself[0])
    assert_close(relu_mean(jnp.asarray(z)), itself[1])
    assert_close(itself[3], norm.cdf(z))


def test_cdf_keeps_relative_precision_in_the_lower_tail():
    x = np.linspace(-37, 8, 91)
    np.testing.assert_allclose(cdf(jnp.asarray(x)), norm.cdf(x), rtol=2e-13)


@pytest.mark.parametrize("argument", [0, 1, 2])
@pytest.mark.parametrize(("h", "k", "rho"), [p for p in GENERIC if abs(p[2]) > 1e-6])
def test_first_derivatives_equal_central_differences(h, k, rho, argument):
    step = 1e-5
    point = np.array([h, k, rho])
    shift = step * np.eye(3)[argument]
    found = derivatives(*point)
    forward, backward = (
        moments_of_correlation(*(point + shift)),
        moments_of_correlation(*(point - shift)),
    )
    for field in FIELDS:
        expected = (getattr(forward, field) - getattr(backward, field)) / (2 * step)
        np.testing.assert_allclose(getattr(found, field)[argument], expected, rtol=1e-7, atol=1e-8)


def relu_relu(arguments):
    """E h_i h_j as the loss uses it: q is not differentiated."""
    h, k, rho = arguments
    return pair_moments(h, k, rho, jax.lax.stop_gradient(jnp.sqrt(1 - rho**2))).relu_relu


gradient = jax.jit(jax.grad(relu_relu))


@pytest.mark.parametrize("argument", [0, 1, 2])
@pytest.mark.parametrize(("h", "k", "rho"), GENERIC)
def test_second_derivatives_equal_central_differences_of_the_gradient(h, k, rho, argument):
    step = 1e-5
    point, direction = jnp.array([h, k, rho]), jnp.eye(3)[argument]
    _, product = jax.jvp(gradient, (point,), (direction,))
    expected = (gradient(point + step * direction) - gradient(point - step * direction)) / (
        2 * step
    )
    np.testing.assert_allclose(product, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("sign", [1, -1])
def test_gradient_near_perfect_correlation_is_given_by_prices_theorem(sign):
    h, k, distance = 0.4, 0.1, 1e-8
    q = np.sqrt(distance * (2 - distance))
    slopes = jax.grad(lambda *a: pair_moments(*a).relu_relu, argnums=(0, 1, 2))
    _, *expected = mpmath_moments(h, k, sign * (1 - distance), q)
    assert_close(slopes(h, k, sign * (1 - distance), q), expected)


def test_values_and_derivatives_are_finite_everywhere():
    levels = np.array([-1e8, -50.0, -5.0, -1e-200, 0.0, 1e-12, 0.3, 6.0, 40.0, 1e8])
    distances = (0.0, 1e-300, 1e-16, 1e-10, 1e-3, 1.0)
    grid = np.array(
        [
            (h, k, sign * (1 - distance), np.sqrt(distance * (2 - distance)))
            for h, k in itertools.product(levels, levels)
            for distance in distances
            for sign in (1, -1)
        ]
    )
    columns = tuple(jnp.asarray(grid.T))

    def value(h, k, rho, q):
        return pair_moments(h, k, rho, q).relu_relu

    def slopes(h, k, rho, q):
        return jnp.stack(jax.grad(value, argnums=(0, 1, 2))(h, k, rho, q))

    second = jax.jacfwd(slopes, argnums=(0, 1, 2))
    assert np.all(np.isfinite(compiled_moments(*columns)))
    assert np.all(np.isfinite(jax.jit(jax.vmap(slopes))(*columns)))
    assert np.all(np.isfinite(jax.jit(jax.vmap(second))(*columns)))
    both = compiled_moments(*columns).both_active
    assert np.all((both >= 0) & (both <= 1))


def test_float32_stays_float32_and_agrees():
    random = np.random.RandomState(1)
    h, k = random.normal(size=(2, 50))
    rho = random.uniform(-1, 1, 50)
    arguments = (h, k, rho, np.sqrt(1 - rho**2))
    single = pair_moments(*(jnp.asarray(a, jnp.float32) for a in arguments))
    for field, expected in zip(FIELDS, moments(*arguments), strict=True):
        assert getattr(single, field).dtype == jnp.float32
        np.testing.assert_allclose(getattr(single, field), expected, atol=2e-6)


def test_unit_columns_normalizes_and_leaves_a_zero_column():
    w = np.array([[3.0, 0.0, 1e-150], [4.0, 0.0, 0.0]])
    u, norms = unit_columns(jnp.asarray(w))
    np.testing.assert_allclose(norms, [5.0, 0.0, 1e-150], rtol=1e-15)
    np.testing.assert_allclose(u, [[0.6, 0.0, 1.0], [0.8, 0.0, 0.0]], rtol=1e-15)
    slope = jax.grad(lambda w: jnp.sum(unit_columns(w)[1]))(jnp.asarray(w))
    np.testing.assert_allclose(slope[:, 1], 0.0)


@pytest.mark.parametrize("angle", [1e-9, 1e-6, 1e-3, 0.5, np.pi / 2, np.pi - 1e-7])
def test_pair_correlations_keep_the_sine_of_tiny_angles(angle):
    u = np.array([[1.0, np.cos(angle)], [0.0, np.sin(angle)]])
    rho, q = pair_correlations(jnp.asarray(u))
    np.testing.assert_allclose(rho[0, 1], np.cos(angle), rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(q[0, 1], np.sin(angle), rtol=1e-8)
    np.testing.assert_array_equal(np.diag(q), 0.0)


def test_a_zero_column_is_uncorrelated_with_everything():
    rho, q = pair_correlations(jnp.asarray([[1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(rho[:, 1], 0.0)
    np.testing.assert_array_equal(q[:, 1], 1.0)
