"""Schedules and samplers against closed forms: Gaussian flows, basins, training samples."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import kstest, norm

from dae_theory import InputError, empirical_denoiser, gaussian_denoiser, mixture_denoiser
from dae_theory.diffusion.samplers import guided, sample_ode, sample_sde, start_noise
from dae_theory.diffusion.schedules import (
    edm_schedule,
    geometric_schedule,
    log_normal_sigmas,
    log_uniform_sigmas,
)

NAN, INF = float("nan"), float("inf")
VALUES = np.array([4.0, 0.5, 0.05])
VECTORS = np.linalg.qr(np.random.RandomState(0).normal(size=(3, 3)))[0]
MEAN = np.array([1.0, -0.5, 2.0])
COV = (VECTORS * VALUES) @ VECTORS.T
GAUSSIAN = gaussian_denoiser(MEAN, COV)
LINE = np.array([-1.0, 0.2, 2.0])  # training samples on a line, not symmetric
POINTS = np.random.RandomState(0).normal(size=(6, 3))


def slope(x, y):
    return np.polyfit(np.log(x), np.log(np.abs(y)), 1)[0]


def nearest_distance(y, x=POINTS):
    return np.min(np.linalg.norm(np.asarray(y)[:, None] - x, axis=-1), axis=1)


def each(sampler, schedules):
    """Results of sampler(sigmas) for each schedule, compiled once.

    The shorter schedules begin with steps of no length, which change nothing.
    """
    longest = max(len(sigmas) for sigmas in schedules)
    compiled = jax.jit(sampler)
    return [np.asarray(compiled(np.pad(s, (longest - len(s), 0), "edge"))) for s in schedules]


# Schedules and noise levels


@pytest.mark.parametrize("schedule", [geometric_schedule, edm_schedule])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_schedules_fall_from_the_highest_level_to_the_lowest_and_then_to_zero(schedule, steps):
    sigmas = schedule(80.0, 0.002, steps)
    assert sigmas.shape == (steps + 1,)
    assert np.all(np.diff(sigmas) < 0)
    np.testing.assert_allclose(sigmas[0], 80.0)
    assert sigmas[-1] == 0
    if steps > 1:
        np.testing.assert_allclose(sigmas[-2], 0.002)


def test_schedules_equal_their_formulas():
    sigmas = geometric_schedule(2.0, 0.02, 60)
    np.testing.assert_allclose(sigmas[1:-1] / sigmas[:-2], 0.01 ** (1 / 59))
    n, rho = 18, 7.0
    expected = [
        (80 ** (1 / rho) + i / (n - 1) * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
        for i in range(n)
    ]
    np.testing.assert_allclose(edm_schedule(80.0, 0.002, n), [*expected, 0.0])
    np.testing.assert_allclose(
        edm_schedule(2.0, 0.02, 9, rho=1e6), geometric_schedule(2.0, 0.02, 9), rtol=1e-4
    )
    np.testing.assert_allclose(edm_schedule(2.0, 1.0, 3, rho=1.0), [2.0, 1.5, 1.0, 0.0])


@pytest.mark.parametrize("schedule", [geometric_schedule, edm_schedule])
@pytest.mark.parametrize(
    ("sigma_max", "sigma_min", "steps"),
    [
        (1, 0, 5),
        (1, -1, 5),
        (1, 1, 5),
        (1, 2, 5),
        (-1, -2, 5),
        (NAN, 0.1, 5),
        (1, NAN, 5),
        (INF, 0.1, 5),
        (1, 0.1, 0),
    ],
)
def test_unusable_schedules_are_refused(schedule, sigma_max, sigma_min, steps):
    with pytest.raises(InputError, match=r"sigma_min|steps"):
        schedule(sigma_max, sigma_min, steps)


@pytest.mark.parametrize(
    "call",
    [
        lambda key: edm_schedule(2.0, 0.1, 5, rho=0.0),
        lambda key: edm_schedule(2.0, 0.1, 5, rho=NAN),
        lambda key: log_uniform_sigmas(key, (3,), 1.0, 0.0),
        lambda key: log_normal_sigmas(key, (3,), 0.0, 0.0),
        lambda key: log_normal_sigmas(key, (3,), NAN, 1.0),
        lambda key: start_noise(key, 0, 2, 1.0),
        lambda key: start_noise(key, 2, 0, 1.0),
        lambda key: start_noise(key, 2, 2, NAN),
        lambda key: sample_ode(GAUSSIAN, np.ones((1, 3)), [1.0, 0.0], method="rk4"),
    ],
)
def test_unusable_arguments_are_refused(call):
    with pytest.raises(InputError):
        call(jax.random.key(0))


def test_noise_levels_have_their_distributions():
    key, shape = jax.random.key(1), (100, 40)
    uniform = np.log(log_uniform_sigmas(key, shape, 2.0, 0.02))
    normal = np.log(log_normal_sigmas(key, shape, -1.2, 1.2))
    assert uniform.shape == normal.shape == shape
    assert kstest(uniform.ravel(), "uniform", (np.log(0.02), np.log(100))).pvalue > 1e-3
    assert kstest(normal.ravel(), "norm", (-1.2, 1.2)).pvalue > 1e-3
    # A mutant: σ itself uniform.
    assert kstest(np.log(uniform - uniform.min() + 1e-9).ravel(), "uniform").pvalue < 1e-6
    assert log_uniform_sigmas(key, (2,), 1.0, 0.1, jnp.float32).dtype == jnp.float32


# Gaussian data: the flow keeps eigenvectors and scales by √((λ + σ²)/(λ + σ_0²))


def exact_flow(start, sigma_from, sigma_to):
    factor = np.sqrt((VALUES + sigma_to**2) / (VALUES + sigma_from**2))
    return MEAN + ((start - MEAN) @ VECTORS * factor) @ VECTORS.T


def no_corrector(denoiser, start, sigmas):
    return sample_ode(denoiser, start, sigmas, "euler")


def late_corrector(denoiser, start, sigmas):
    """Mutant of Heun whose second slope is divided by the level it came from."""

    def step(y, levels):
        sigma, following = levels
        here = (y - denoiser(y, sigma)) / sigma
        euler = y + (following - sigma) * here
        there = (euler - denoiser(euler, following)) / sigma
        return y + (following - sigma) * (here + there) / 2, None

    return jax.lax.scan(step, start, (sigmas[:-1], sigmas[1:]))[0]


def wrong_level(denoiser, start, sigmas):
    return sample_ode(lambda y, sigma: denoiser(y, 1.05 * sigma), start, sigmas)


def flow_order(sampler):
    start, steps = 3.0 * np.random.RandomState(1).normal(size=(20, 3)), np.array([24, 48, 96, 192])
    exact = exact_flow(start, 3.0, 0.1)
    schedules = [np.geomspace(3.0, 0.1, n + 1) for n in steps]
    results = each(lambda sigmas: sampler(GAUSSIAN, start, sigmas), schedules)
    return -slope(steps, [np.max(np.abs(result - exact)) for result in results])


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_the_flow_converges_at_the_order_of_the_method(method, order):
    measured = flow_order(lambda *args: sample_ode(*args, method))
    assert abs(measured - order) < 0.3


@pytest.mark.parametrize("mutant", [no_corrector, late_corrector, wrong_level])
def test_wrong_samplers_miss_the_second_order(mutant):
    assert abs(flow_order(mutant) - 2) > 0.6


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_a_step_to_zero_returns_the_denoised_sample(method):
    start = np.random.RandomState(2).normal(size=(5, 3))
    result = sample_ode(GAUSSIAN, start, [0.7, 0.0], method)
    np.testing.assert_allclose(result, GAUSSIAN(start, 0.7), rtol=1e-12)
    result = sample_sde(jax.random.key(0), GAUSSIAN, start, [0.7, 0.0])
    np.testing.assert_allclose(result, GAUSSIAN(start, 0.7), rtol=1e-12)


def ancestral_variance(values, start_variance, sigmas):
    """Variances along eigenvectors after the ancestral steps: a linear recursion."""
    variance = start_variance
    for sigma, following in itertools.pairwise(sigmas):
        wiener = values / (values + sigma**2)
        gain = wiener + (following / sigma) ** 2 * (1 - wiener)
        variance = gain**2 * variance + following**2 * (1 - (following / sigma) ** 2)
    return variance


def draw_gaussian(sampler, sigmas, n=20_000):
    start = start_noise(jax.random.key(3), n, 3, sigmas[0])
    if sampler == "sde":
        return np.asarray(sample_sde(jax.random.key(4), GAUSSIAN, start, sigmas))
    return np.asarray(sample_ode(GAUSSIAN, start, sigmas, sampler))


def deviations(samples, variances):
    """Mean and covariance minus the true ones along the eigenvectors, in standard errors."""
    n, coefficient = len(samples), (samples - MEAN) @ VECTORS
    mean = coefficient.mean(axis=0) / np.sqrt(variances / n)
    scale = np.sqrt(np.outer(variances, variances) / n) * (1 + np.eye(3) * (np.sqrt(2) - 1))
    return np.abs(mean).max(), np.abs((np.cov(coefficient.T) - np.diag(variances)) / scale).max()


@pytest.mark.parametrize("sampler", ["heun", "sde"])
def test_samplers_reproduce_mean_and_covariance(sampler):
    # The starts lack the data's mean and covariance, which biases results by less than noise.
    samples = draw_gaussian(sampler, geometric_schedule(800.0, 0.01, 400))
    assert max(deviations(samples, VALUES)) < 5
    # Mutants: half and twice the variance in one direction.
    assert max(deviations(samples, VALUES * [1, 1, 2])) > 5
    assert max(deviations(samples, VALUES * [0.5, 1, 1])) > 5


def test_ancestral_steps_have_the_predicted_covariance_however_long():
    sigmas = geometric_schedule(800.0, 0.01, 12)
    expected = ancestral_variance(VALUES, 800.0**2, sigmas)
    samples = draw_gaussian("sde", sigmas)
    assert deviations(samples, expected)[1] < 5
    assert deviations(samples, VALUES)[1] > 5


def test_ancestral_covariance_converges_at_first_order():
    steps = np.array([100, 200, 400, 800])
    errors = [
        ancestral_variance(VALUES, VALUES + 50.0**2, geometric_schedule(50.0, 1e-3, n)) - VALUES
        for n in steps
    ]
    for error in np.transpose(errors):
        assert abs(slope(steps, error) + 1) < 0.3


def test_ancestral_steps_are_exact_for_a_single_point():
    point = np.array([[1.0, -2.0]])
    start = point + 5 * np.random.RandomState(5).normal(size=(20_000, 2))
    result = sample_sde(jax.random.key(5), empirical_denoiser(point), start, [5.0, 3.0, 0.5])
    assert abs(np.std(np.asarray(result) - point) / 0.5 - 1) < 5 / np.sqrt(2 * result.size)


# Mixtures: how many samples of each mode


@pytest.mark.parametrize("sampler", ["euler", "heun", "sde"])
@pytest.mark.parametrize("priors", [(0.3, 0.7), (0.5, 0.3, 0.2)])
def test_modes_get_their_weights(sampler, priors):
    means = np.array([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])[: len(priors)]
    denoiser = mixture_denoiser(means, np.full((len(priors), 1, 1), 0.04) * np.eye(2), priors)
    n, sigmas = 4000, geometric_schedule(200.0, 0.01, 150)
    start = start_noise(jax.random.key(6), n, 2, sigmas[0])
    if sampler == "sde":
        samples = sample_sde(jax.random.key(7), denoiser, start, sigmas)
    else:
        samples = sample_ode(denoiser, start, sigmas, sampler)
    distances = np.linalg.norm(np.asarray(samples)[:, None] - means, axis=-1)
    assert np.min(distances, axis=1).max() < 0.2 * 6
    counts = np.bincount(np.argmin(distances, axis=1), minlength=len(priors))
    spread = np.sqrt(n * np.array(priors) * (1 - np.array(priors)))
    assert np.all(np.abs(counts - n * np.array(priors)) < 5 * spread)
    # A mutant: the weights of two modes exchanged.
    assert np.any(np.abs(counts - n * np.array(priors)[::-1]) > 5 * spread)


# Empirical denoiser: sampling returns training samples


@functools.cache
def sample_line(method):
    """Sampler of the line's training samples, compiled once for all tests."""
    denoiser = empirical_denoiser(LINE[:, None])
    return jax.jit(lambda start, sigmas: sample_ode(denoiser, start, sigmas, method))


def boundary(method, sigmas, between):
    """Start on the line above which samples end above ``between``, by ever finer grids."""
    low, high = -30.0, 30.0
    for _ in range(3):
        grid = np.linspace(low, high, 1001)
        ends = np.asarray(sample_line(method)(grid[:, None], sigmas))[:, 0]
        first = np.argmax(ends > between)
        low, high = grid[first - 1], grid[first]
    return (low + high) / 2


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("sample", [1, 2])
def test_basins_of_training_samples_have_their_exact_boundaries(method, order, sample):
    # The flow keeps order on a line, so a fraction k/n of the noisy density lies below basin k.
    steps, sigma = np.array([32, 64, 128]), 10.0
    exact = brentq(lambda y: np.mean(norm.cdf((y - LINE) / sigma)) - sample / 3, -100, 100)
    between = (LINE[sample - 1] + LINE[sample]) / 2
    # Steps of no length first: all schedules then have one length, and compile once.
    schedules = [np.r_[[sigma] * (128 - n), geometric_schedule(sigma, 0.02, n)] for n in steps]
    errors = [boundary(method, sigmas, between) - exact for sigmas in schedules]
    assert abs(-slope(steps, errors) - order) < 0.3


def starts():
    return start_noise(jax.random.key(8), 500, 3, 10.0)


def test_with_the_empirical_denoiser_samples_are_training_samples():
    denoiser, start = empirical_denoiser(POINTS), starts()
    schedules = [geometric_schedule(10.0, 0.02, steps) for steps in (8, 64)]
    for sampler in (
        lambda sigmas: sample_ode(denoiser, start, sigmas, "euler"),
        lambda sigmas: sample_ode(denoiser, start, sigmas, "heun"),
        lambda sigmas: sample_sde(jax.random.key(9), denoiser, start, sigmas),
    ):
        for result in each(sampler, schedules):
            assert nearest_distance(result).max() < 1e-12
    # A denoiser that generalizes, the Gaussian with their mean and covariance, gives new ones.
    general = gaussian_denoiser(POINTS.mean(axis=0), np.cov(POINTS.T))
    assert np.median(nearest_distance(sample_ode(general, start, schedules[-1]))) > 0.1


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_before_the_last_step_the_distance_converges_at_the_order_of_the_method(method, order):
    denoiser, start, steps = empirical_denoiser(POINTS), starts(), np.array([16, 32, 64, 128])
    schedules = [np.geomspace(10.0, 0.5, n + 1) for n in (*steps, 2048)]
    results = each(lambda sigmas: sample_ode(denoiser, start, sigmas, method), schedules)
    *distances, exact = (nearest_distance(result) for result in results)
    errors = [np.mean(np.abs(distance - exact)) for distance in distances]
    assert abs(-slope(steps, errors) - order) < 0.3


def test_before_the_last_step_the_distance_is_proportional_to_the_noise_left():
    levels = np.array([0.08, 0.04, 0.02, 0.01])
    denoiser, start = empirical_denoiser(POINTS), starts()
    schedules = [np.geomspace(10.0, level, 65) for level in levels]
    results = each(lambda sigmas: sample_ode(denoiser, start, sigmas), schedules)
    assert abs(slope(levels, [nearest_distance(r).mean() for r in results]) - 1) < 0.02


@pytest.mark.parametrize("sampler", ["euler", "heun", "sde"])
def test_an_error_of_the_denoiser_moves_samples_off_by_as_much(sampler):
    exact, sigmas = empirical_denoiser(POINTS), geometric_schedule(10.0, 0.02, 32)
    errors = np.array([0.001, 0.003, 0.01, 0.03])

    @jax.jit
    def sample(error):
        def denoiser(y, sigma):
            # One norm, a direction that depends on y.
            direction = jnp.cos(y + 1)
            return exact(y, sigma) + error * direction / jnp.linalg.norm(
                direction, axis=1, keepdims=True
            )

        if sampler == "sde":
            return sample_sde(jax.random.key(10), denoiser, starts(), sigmas)
        return sample_ode(denoiser, starts(), sigmas, sampler)

    distances = [nearest_distance(sample(error)).mean() for error in errors]
    assert abs(slope(errors, distances) - 1) < 0.02
    np.testing.assert_allclose(distances, errors, rtol=0.02)


# Guidance, averages, determinism


def test_guidance_interpolates_and_overshoots():
    y = np.random.RandomState(11).normal(size=(4, 3))
    conditional, unconditional = GAUSSIAN, empirical_denoiser(POINTS)
    c, u = np.asarray(conditional(y, 0.5)), np.asarray(unconditional(y, 0.5))
    for weight, expected in ((0.0, u), (1.0, c), (3.0, u + 3 * (c - u))):
        np.testing.assert_allclose(
            guided(conditional, unconditional, weight)(y, 0.5), expected, rtol=1e-10
        )
    # At weight 1 it samples the conditional distribution, of one training sample.
    one = empirical_denoiser(POINTS[:1])
    sigmas = geometric_schedule(10.0, 0.02, 32)
    samples = sample_ode(guided(one, unconditional, 1.0), starts(), sigmas)
    np.testing.assert_allclose(samples, np.tile(POINTS[:1], (500, 1)), atol=1e-9)


def test_sampling_compiles_and_depends_on_the_key_alone():
    sigmas, start = edm_schedule(10.0, 0.02, 12), starts()

    def sde(key, start):
        return sample_sde(key, GAUSSIAN, start, sigmas)

    first, compiled = sde(jax.random.key(12), start), jax.jit(sde)
    np.testing.assert_allclose(compiled(jax.random.key(12), start), first, rtol=1e-10)
    assert np.max(np.abs(first - compiled(jax.random.key(13), start))) > 0.1
    np.testing.assert_array_equal(start, starts())
    ode = jax.jit(lambda start, sigmas: sample_ode(GAUSSIAN, start, sigmas))(start, sigmas)
    np.testing.assert_allclose(ode, sample_ode(GAUSSIAN, start, sigmas), rtol=1e-10)
    stacked = jax.vmap(lambda start: sample_ode(GAUSSIAN, start, sigmas))(jnp.stack([start, start]))
    np.testing.assert_allclose(stacked[1], ode, rtol=1e-10)
    single = jax.ShapeDtypeStruct(start.shape, jnp.float32)
    sampled = jax.eval_shape(lambda start: sample_ode(GAUSSIAN, start, sigmas), single)
    assert sampled.dtype == jnp.float32
    assert jax.eval_shape(sde, jax.random.key(12), single).dtype == jnp.float32


def test_scaled_data_give_scaled_samples():
    sigmas, scale = geometric_schedule(10.0, 0.02, 12), 255.0
    small = sample_sde(jax.random.key(14), GAUSSIAN, starts(), sigmas)
    large = sample_sde(
        jax.random.key(14),
        gaussian_denoiser(scale * MEAN, scale**2 * COV),
        scale * starts(),
        scale * sigmas,
    )
    np.testing.assert_allclose(large, scale * small, rtol=1e-9)
