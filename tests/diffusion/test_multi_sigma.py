"""Multi-σ nets: their formulas, EDM's preconditioning, and training against the Wiener filter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory import InputError, denoise, gaussian_denoiser
from dae_theory.diffusion.denoisers import denoising_errors
from dae_theory.diffusion.multi_sigma import (
    MultiSigmaConfig,
    MultiSigmaDAE,
    PreconditionedDAE,
    multi_sigma_denoiser,
    train_multi_sigma,
)
from dae_theory.diffusion.samplers import sample_ode, start_noise
from dae_theory.diffusion.schedules import geometric_schedule

Y = np.random.RandomState(0).normal(size=(7, 4))
STDS = np.array([2.0, 0.5])
X = np.random.RandomState(1).normal(size=(4000, 2)) * STDS
SMALL = MultiSigmaConfig(
    width=8, sigma_min=0.02, sigma_max=2.0, hidden=8, steps=50, dtype="float64"
)
LEARNED = MultiSigmaConfig(
    width=32,
    sigma_min=0.02,
    sigma_max=20.0,
    hidden=16,
    preconditioned=True,
    steps=2000,
    learning_rate=1e-2,
    batch_size=256,
    ema_decay=0.99,
)


def variant(config, **changes):
    return MultiSigmaConfig(**{**config.__dict__, **changes})


PLAIN = variant(LEARNED, preconditioned=False, sigma_max=2.0, learning_rate=3e-3)


def random_params(module, seed=2):
    """Parameters that are all different from their start, in which g = s = 0."""
    params = module.init(jax.random.key(seed), Y, 0.5)["params"]
    leaves, tree = jax.tree.flatten(params)
    random = np.random.RandomState(seed)
    return jax.tree.unflatten(tree, [random.normal(size=leaf.shape) / 2 for leaf in leaves])


def by_hand(params, y, sigma):
    """W2 (h ⊙ exp(g(log σ))) + s·y, and the scaled units, sample by sample."""
    results, units = [], []
    for row, level in zip(y, np.broadcast_to(sigma, len(y)), strict=True):
        inner = params["gain_in"]["kernel"][0] * np.log(level) + params["gain_in"]["bias"]
        gain = params["gain_out"]["kernel"].T @ np.tanh(inner) + params["gain_out"]["bias"]
        units.append(np.maximum(params["w1"].T @ row, 0) * np.exp(gain))
        results.append(params["w2"] @ units[-1] + params["skip"] * row)
    return np.array(results), np.array(units)


@pytest.mark.parametrize("sigma", [0.3, np.linspace(0.1, 2.0, 7)], ids=["one", "per sample"])
def test_the_net_equals_its_formula(sigma):
    module = MultiSigmaDAE(6, hidden=5)
    params = random_params(module)
    expected, units = by_hand(params, Y, sigma)
    measured = module.apply({"params": params}, Y, sigma)
    np.testing.assert_allclose(measured, expected, rtol=1e-10)
    measured = module.apply({"params": params}, Y, sigma, method="encode")
    np.testing.assert_allclose(measured, units, rtol=1e-10)
    # A mutant: no skip.
    assert np.max(np.abs(expected - units @ params["w2"].T)) > 0.1


@pytest.mark.parametrize("sigma", [0.3, np.linspace(0.1, 2.0, 7)], ids=["one", "per sample"])
def test_the_preconditioned_net_equals_its_formula(sigma):
    scale = 0.7
    module = PreconditionedDAE(scale, 6, hidden=5)
    params = random_params(module)
    level = np.broadcast_to(sigma, 7)[:, None]
    total = level**2 + scale**2
    inner, units = by_hand(params["net"], Y / np.sqrt(total), sigma / scale)
    expected = scale**2 / total * Y + level * scale / np.sqrt(total) * inner
    measured = module.apply({"params": params}, Y, sigma)
    np.testing.assert_allclose(measured, expected, rtol=1e-10)
    measured = module.apply({"params": params}, Y, sigma, method="encode")
    np.testing.assert_allclose(measured, units, rtol=1e-10)


def test_at_the_start_the_net_is_a_relu_dae():
    module = MultiSigmaDAE(6)
    params = module.init(jax.random.key(0), Y, 0.5)["params"]
    for sigma in (0.01, 3.0):
        expected = denoise(params["w1"], params["w2"], Y)
        np.testing.assert_allclose(module.apply({"params": params}, Y, sigma), expected)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_preconditioning_gives_the_target_unit_variance(scale):
    random = np.random.RandomState(3)
    for sigma in (0.01 * scale, scale, 50 * scale):
        x = scale * random.normal(size=100_000)
        y = x + sigma * random.normal(size=x.size)
        module = PreconditionedDAE(scale, 3)
        params = module.init(jax.random.key(0), y[:, None], sigma)["params"]
        zero = jax.tree.map(jnp.zeros_like, params)
        skipped = module.apply({"params": zero}, y[:, None], sigma)[:, 0]
        # Variance of (x − c_skip y)/c_out, the target of F.
        weight = 1 / sigma**2 + 1 / scale**2
        assert abs(weight * np.mean((x - skipped) ** 2) - 1) < 0.03


def test_preconditioned_denoisers_keep_samples_without_noise():
    module = PreconditionedDAE(0.7, 6)
    denoiser = multi_sigma_denoiser(module, random_params(module))
    levels = np.array([1e-4, 1e-5, 1e-6])
    errors = [np.max(np.abs(denoiser(Y, level) - Y)) for level in levels]
    # c_out ∝ σ, and the gain is bounded.
    assert abs(np.polyfit(np.log(levels), np.log(errors), 1)[0] - 1) < 0.1


@pytest.mark.parametrize("sigma", [1e-12, 1e12])
def test_gains_are_bounded_at_levels_never_trained_on(sigma):
    module = MultiSigmaDAE(6)
    params = random_params(module)
    ratio = module.apply({"params": params}, Y, sigma, method="encode")
    ratio = ratio / np.where(ratio > 0, Y @ params["w1"], 1.0)
    reach = np.abs(params["gain_out"]["kernel"]).sum(axis=0) + np.abs(params["gain_out"]["bias"])
    assert np.all(ratio <= np.exp(reach))


def test_per_sample_levels_are_those_of_separate_calls():
    for module in (MultiSigmaDAE(6), PreconditionedDAE(0.7, 6)):
        params, levels = random_params(module), np.linspace(0.1, 2.0, 7)
        together = module.apply({"params": params}, Y, levels)
        apart = [
            multi_sigma_denoiser(module, params)(row[None], level)[0]
            for row, level in zip(Y, levels, strict=True)
        ]
        np.testing.assert_allclose(together, apart, rtol=1e-10)


@functools.cache
def small(preconditioned):
    """A net of few steps, for tests that compare others with it."""
    config = variant(SMALL, preconditioned=preconditioned)
    return train_multi_sigma(jax.random.key(3), X[:50], config)


@functools.cache
def learned(config):
    """A net that was trained until it denoises well."""
    return train_multi_sigma(jax.random.key(4), X, config)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(LEARNED, id="preconditioned", marks=pytest.mark.slow),
    ],
)
def test_equal_keys_give_equal_nets_and_other_keys_others(config):
    first = learned(config)
    again, other = (train_multi_sigma(jax.random.key(seed), X, config) for seed in (4, 1))
    assert first.loss.shape == (config.steps,)
    assert first.loss.dtype == jnp.float32
    assert jax.tree.all(jax.tree.map(jnp.array_equal, first.params, again.params))
    assert np.max(np.abs(first.loss - other.loss)) > 1e-3
    assert jax.tree.structure(first.average) == jax.tree.structure(first.params)


def test_training_is_equivariant_to_the_scale_of_the_data():
    config = variant(SMALL, preconditioned=True)
    large = variant(config, sigma_min=100 * config.sigma_min, sigma_max=100 * config.sigma_max)
    small_net, large_net = small(True), train_multi_sigma(jax.random.key(3), 100 * X[:50], large)
    np.testing.assert_allclose(large_net.loss, small_net.loss, rtol=1e-6)
    small_result, large_result = (
        multi_sigma_denoiser(net.module, net.params)(scale * X[:5], scale * 0.5)
        for net, scale in ((small_net, 1.0), (large_net, 100.0))
    )
    np.testing.assert_allclose(large_result, 100 * small_result, rtol=1e-6)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_weight_decay_is_that_of_the_objective(preconditioned):
    # One tiny step, so that the parameters returned are those of the loss; the loss without decay
    # is the first of a net that started from them.
    still = variant(SMALL, steps=1, learning_rate=1e-12, preconditioned=preconditioned, lam=0.5)
    heavy = train_multi_sigma(jax.random.key(3), X[:50], still)
    weights = heavy.params["net"] if preconditioned else heavy.params
    expected = 0.5 * (np.sum(weights["w1"] ** 2) + np.sum(weights["w2"] ** 2))
    difference = heavy.loss - small(preconditioned).loss[:1]
    np.testing.assert_allclose(difference, [expected], rtol=1e-8)


def test_without_decay_the_average_is_the_last_net_and_else_lags_behind():
    last = train_multi_sigma(jax.random.key(3), X[:50], variant(SMALL, ema_decay=0.0))
    lagging = small(False)
    np.testing.assert_allclose(last.average["w1"], last.params["w1"], atol=1e-6)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, last.params, lagging.params))
    assert np.max(np.abs(lagging.average["w1"] - lagging.params["w1"])) > 1e-3


def test_the_trained_net_approaches_the_wiener_filter_and_samples_the_gaussian():
    result = learned(LEARNED)
    sigmas, key = np.array([0.05, 0.3, 1.0, 3.0, 15.0]), jax.random.key(5)
    new = np.random.RandomState(6).normal(size=(4000, 2)) * STDS
    best = denoising_errors(key, gaussian_denoiser(np.zeros(2), np.diag(STDS**2)), new, sigmas)

    @jax.jit
    def errors(params, factor):
        denoiser = multi_sigma_denoiser(result.module, params)
        return denoising_errors(key, lambda y, s: denoiser(y, factor * s), new, sigmas).mean

    assert np.all(errors(result.average, 1.0) < 1.01 * best.mean)
    # Mutants: told another level, and untrained.
    assert np.any(errors(result.average, 2.0) > 1.05 * best.mean)
    untrained = result.module.init(key, np.float32(X[:1]), 1.0)["params"]
    assert np.any(errors(untrained, 1.0) > 1.05 * best.mean)
    denoiser = multi_sigma_denoiser(result.module, result.average)
    samples = sample_ode(
        denoiser, start_noise(key, 4000, 2, 20.0, jnp.float32), geometric_schedule(20.0, 0.02, 60)
    )
    np.testing.assert_allclose(np.std(samples, axis=0), STDS, rtol=0.05)


def test_the_plain_net_learns_to_denoise_at_high_and_low_noise():
    result = learned(PLAIN)
    sigmas, key = np.array([0.05, 0.5, 2.0]), jax.random.key(8)
    best = denoising_errors(key, gaussian_denoiser(np.zeros(2), np.diag(STDS**2)), X, sigmas)
    errors = denoising_errors(key, multi_sigma_denoiser(result.module, result.average), X, sigmas)
    assert np.all(errors.mean[1:] < 1.1 * best.mean[1:])
    assert np.mean(result.loss[-100:]) < 0.5 * np.mean(result.loss[:5])


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0},
        {"hidden": 0},
        {"steps": 0},
        {"batch_size": 0},
        {"sigma_min": 0.0},
        {"sigma_max": 0.01},
        {"sigma_max": np.nan},
        {"lam": -1.0},
        {"ema_decay": 1.0},
        {"learning_rate": 0.0},
        {"learning_rate": np.nan},
        {"sigma_data": 0.0},
    ],
    ids=str,
)
def test_unusable_configs_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        variant(SMALL, **changes)


def test_divergence_and_unusable_data_are_refused():
    key = jax.random.key(9)
    with pytest.raises(InputError, match="lower learning_rate"):
        train_multi_sigma(key, X, variant(SMALL, learning_rate=1e30))
    with pytest.raises(InputError, match="NaN"):
        train_multi_sigma(key, X * np.nan, SMALL)
    with pytest.raises(InputError, match="all are zero"):
        train_multi_sigma(key, 0 * X, variant(SMALL, preconditioned=True))
