"""Training: reproducible, masked, independent of devices, and it reduces the exact loss."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dae_theory import InputError, TrainConfig, data, exact_loss, live_units, train, train_many
from dae_theory.relu.batch import advance_nets, free_memory, pad_samples, padded_weights
from dae_theory.relu.model import init_weights
from dae_theory.relu.optimize import _drawn_noise, make_optimizer, record_stride

CONFIG = TrainConfig(width=6, sigma=0.1, lam=1e-3, steps=40, learning_rate=1e-2, records=4)
X = data.simplex(4, 6).x
compiled_slopes = jax.jit(jax.grad(exact_loss, argnums=(0, 1)))


def variant(**changes):
    return TrainConfig(**{**CONFIG.__dict__, **changes})


def loss_of(result, config, x=X):
    arrays = (jnp.asarray(a, jnp.float64) for a in (result.w1, result.w2, x))
    return float(exact_loss(*arrays, config.sigma, config.lam))


def test_equal_keys_give_equal_nets_and_other_keys_others():
    first, again = (train(jax.random.key(0), X, CONFIG) for _ in range(2))
    other = train(jax.random.key(1), X, CONFIG)
    np.testing.assert_array_equal(first.w1, again.w1)
    np.testing.assert_array_equal(first.w2, again.w2)
    assert np.max(np.abs(first.w1 - other.w1)) > 0.1
    assert first.w1.dtype == jnp.float32


def test_seeds_and_data_sets_lie_on_the_leading_axes():
    keys = jax.random.split(jax.random.key(2), 3)
    result = train_many(keys, [X, X[:, ::-1]], CONFIG)
    assert result.w1.shape == result.w2.shape == (2, 3, 6, 6)
    assert result.trace.loss.shape == result.trace.live.shape == (2, 3, 4)
    np.testing.assert_array_equal(result.trace.steps[1, 2], [10, 20, 30, 40])
    for e, x in enumerate((X, X[:, ::-1])):
        alone = train(keys[1], x, CONFIG)
        np.testing.assert_allclose(result.w1[e, 1], alone.w1, atol=1e-5)


def test_data_sets_may_have_keys_and_levels_of_their_own():
    keys = jax.random.split(jax.random.key(2), 4).reshape(2, 2)
    levels = [(0.1, 0.002), (0.2, 0.01)]
    together = train_many(keys, [X, X[:3]], CONFIG, levels=levels)
    for e, (x, (sigma, lam)) in enumerate(zip((X, X[:3]), levels, strict=True)):
        alone = train_many(keys[e], [x], variant(sigma=sigma, lam=lam))
        np.testing.assert_allclose(together.w1[e], alone.w1[0], atol=1e-5)
        np.testing.assert_allclose(together.trace.loss[e], alone.trace.loss[0], rtol=1e-4)


@pytest.mark.parametrize("gradient", ["exact", "sampled"])
def test_padding_and_masks_are_harmless(gradient):
    config = variant(gradient=gradient, dtype="float64", draws=2)
    keys = jax.random.split(jax.random.key(3), 2)
    small, large = X[:2], X
    together = train_many(keys, [small, large], config)
    alone = train_many(keys, [small], config)
    np.testing.assert_allclose(together.w1[0], alone.w1[0], atol=1e-9)
    np.testing.assert_allclose(together.w2[0], alone.w2[0], atol=1e-9)
    np.testing.assert_allclose(together.trace.loss[0], alone.trace.loss[0], rtol=1e-9)
    alone = train_many(keys, [large], config)
    np.testing.assert_allclose(together.w1[1], alone.w1[0], atol=1e-9)


def test_minibatches_never_draw_padding():
    # Of a data set with one sample every minibatch is that sample, padded or not.
    # The noise, drawn in other shapes, is made negligible.
    config = variant(sigma=1e-13, dtype="float64", batch_size=3)
    whole = variant(sigma=1e-13, dtype="float64")
    key = jax.random.key(4)
    padded = train_many(key[None], [X[:1], X], config)
    alone = train(key, X[:1], whole)
    np.testing.assert_allclose(padded.w1[0, 0], alone.w1, atol=1e-9)


def test_exact_gradient_step_is_plain_gradient_descent():
    config = variant(
        gradient="exact", dtype="float64", optimizer="sgd", schedule="constant", steps=1
    )
    tiny = variant(
        dtype="float64", optimizer="sgd", schedule="constant", steps=1, learning_rate=1e-300
    )
    start, after = (train(jax.random.key(5), X, c) for c in (tiny, config))
    np.testing.assert_allclose(after.trace.loss[0], loss_of(start, config), rtol=1e-12)
    slopes = compiled_slopes(start.w1, start.w2, X, config.sigma, config.lam)
    np.testing.assert_allclose(after.w1, start.w1 - 0.01 * slopes[0], atol=1e-12)
    np.testing.assert_allclose(after.w2, start.w2 - 0.01 * slopes[1], atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_tied_step_decays_the_one_matrix_as_both(optimizer):
    plain = {"dtype": "float64", "tied": True, "schedule": "constant", "steps": 1}
    config = variant(gradient="exact", optimizer=optimizer, lam=0.1, **plain)
    tiny = variant(optimizer="sgd", learning_rate=1e-300, **plain)
    start, after = (train(jax.random.key(5), X, c) for c in (tiny, config))
    undecayed = train(jax.random.key(5), X, variant(**config.__dict__ | {"lam": 0.0}))
    # The gradient of λ (‖W‖² + ‖W‖²) is 4λW.
    decay = config.learning_rate * 4 * config.lam * start.w1
    np.testing.assert_allclose(after.w1, undecayed.w1 - decay, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_adamw_decays_by_the_gradient_of_the_penalty(tied):
    config = variant(optimizer="adamw", tied=tied, lam=0.1, schedule="constant", dtype="float64")
    optimizer, w = make_optimizer(config), jnp.array([1.0, -2.0, 3.0])
    updates, _ = optimizer.update(jnp.zeros(3), optimizer.init(w), w)
    slope = jax.grad(lambda w: config.lam * (2 if tied else 1) * jnp.sum(w**2))(w)
    np.testing.assert_allclose(updates, -config.learning_rate * slope, rtol=1e-12)


def test_rmsprop_has_the_constants_of_pytorch():
    # square ← .99 square + .01 g²; w ← w − rate g/(√square + 1e-8)
    name = "".join(["rms", "prop"])  # as from a command line: equal to the word in the code, not it
    config = variant(optimizer=name, schedule="constant", steps=3, dtype="float64")
    optimizer, rate = make_optimizer(config), config.learning_rate
    w = expected = np.array([1.0, -2.0, 3.0])
    state, square = optimizer.init(w), np.zeros(3)
    for gradient in np.array([[1.0, 2.0, 1e-8], [-1.0, 0.5, 1e-8], [3.0, 0.1, -1e-8]]):
        updates, state = optimizer.update(gradient, state, w)
        w = w + updates
        square = 0.99 * square + 0.01 * gradient**2
        expected = expected - rate * gradient / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(w, expected, rtol=1e-9)


def test_noise_is_standard_normal_and_new_for_every_sample_and_draw():
    noise = np.asarray(_drawn_noise(jax.random.key(0), (50, 4, 101), jnp.float64)).ravel()
    assert scipy.stats.kstest(noise, "norm").pvalue > 1e-3
    assert len(np.unique(noise)) == noise.size


def test_sampled_gradient_is_unbiased():
    # The mean over seeds of the recorded loss, at a start that does not move, is the exact loss.
    config = variant(
        optimizer="sgd", schedule="constant", steps=400, records=400, learning_rate=1e-30
    )
    result = train(jax.random.key(6), X, config)
    losses = np.asarray(result.trace.loss, np.float64)
    error = losses.std() / np.sqrt(len(losses))
    assert len(np.unique(losses)) > 390
    assert abs(losses.mean() - loss_of(result, config)) < 5 * error


@pytest.mark.parametrize(
    ("optimizer", "schedule", "learning_rate"),
    [
        ("adam", "cosine", 1e-2),
        ("adamw", "constant", 1e-2),
        ("rmsprop", "linear", 1e-2),
        ("sgd", "constant", 3e-2),
    ],
)
def test_every_optimizer_reduces_the_exact_loss(optimizer, schedule, learning_rate):
    config = variant(
        optimizer=optimizer, schedule=schedule, learning_rate=learning_rate, steps=200, draws=2
    )
    frozen = variant(steps=1, learning_rate=1e-30)
    start, result = (train(jax.random.key(7), X, c) for c in (frozen, config))
    assert loss_of(result, config) < 0.5 * loss_of(start, config)


def test_minibatches_reduce_the_exact_loss():
    config = variant(batch_size=2, steps=400)
    frozen = variant(steps=1, learning_rate=1e-30)
    start, result = (train(jax.random.key(8), X, c) for c in (frozen, config))
    assert loss_of(result, config) < 0.5 * loss_of(start, config)


def test_tied_training_keeps_one_matrix():
    config = variant(tied=True, steps=200)
    result = train(jax.random.key(9), X, config)
    np.testing.assert_array_equal(result.w1, result.w2)
    frozen = variant(tied=True, steps=1, learning_rate=1e-30)
    start = train(jax.random.key(9), X, frozen)
    assert loss_of(result, config) < 0.5 * loss_of(start, config)


def test_the_best_of_several_long_trainings_reaches_the_memorizing_prediction():
    config = variant(sigma=0.05, steps=3000, records=1)
    results = train_many(jax.random.split(jax.random.key(10), 6), [X], config)
    weights = zip(results.w1[0], results.w2[0], strict=True)
    best = min(float(exact_loss(w1, w2, X, config.sigma, config.lam)) for w1, w2 in weights)
    square, n = 1.0, 4
    predicted = square - (square - n * config.lam) ** 2 / (square + config.sigma**2)
    np.testing.assert_allclose(best, predicted, rtol=0.02)


def test_default_steps_are_small_and_lower_the_loss():
    loss = train(jax.random.key(0), X, TrainConfig(6, 0.1, 1e-3, steps=1000, records=5)).trace.loss
    assert loss[0] > 0.5 > loss[-1]  # from about 1 at the start


def test_free_memory_of_an_accelerator_is_what_it_says():
    class Accelerator:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 100, "bytes_in_use": 30}

    assert free_memory([Accelerator(), Accelerator()]) == 140
    assert free_memory(jax.devices()) > 1e6


def test_records_are_of_the_step_that_they_name():
    every, tenth = (
        train(jax.random.key(3), X, variant(records=records)).trace for records in (40, 4)
    )
    np.testing.assert_array_equal(tenth.steps, every.steps[9::10])
    np.testing.assert_allclose(tenth.loss, every.loss[9::10], rtol=1e-4)
    assert np.all(np.abs(np.diff(every.loss)) > 1e-3 * every.loss[1:].min())


@pytest.mark.parametrize("tied", [False, True])
def test_a_narrow_net_among_wide_ones_starts_as_it_would_alone(tied):
    config, key = variant(tied=tied, init_scale=0.3), jax.random.key(4)
    padded = padded_weights(key, 5, jnp.asarray(4), config)
    alone = init_weights(key, 5, 4, tied=tied, scale=0.3)
    assert len(padded) == (1 if tied else 2)
    for wide_DP, narrow_DP in zip(padded, alone, strict=False):
        np.testing.assert_array_equal(wide_DP[:, :4], narrow_DP)
        np.testing.assert_array_equal(wide_DP[:, 4:], 0.0)


def test_trace_records_divide_the_steps():
    assert record_stride(variant(steps=12, records=5)) == (4, 3)
    assert record_stride(variant(steps=7, records=3)) == (1, 7)
    assert record_stride(variant(steps=3, records=20)) == (3, 1)
    seen = []
    result = train_many(jax.random.key(11)[None], [X], CONFIG, progress=seen.append)
    assert seen == [10, 20, 30, 40]
    expected = int(np.sum(live_units(result.w1[0, 0], result.w2[0, 0])))
    assert int(result.trace.live[0, 0, -1]) == expected


def test_live_units_by_hand():
    w1 = np.array([[1.0, 1e-3, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    w2 = np.array([[1.0, 1.0, 2.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
    expected = [True, False, True, False]  # products 1, .001, 4, 0
    np.testing.assert_array_equal(live_units(w1, w2), expected)
    np.testing.assert_array_equal(live_units(jnp.asarray(w1), jnp.asarray(w2)), expected)
    np.testing.assert_array_equal(live_units(np.zeros((2, 3)), np.zeros((2, 3))), False)


def test_other_data_of_the_same_shape_do_not_recompile():
    train(jax.random.key(12), X, CONFIG)
    before = advance_nets._cache_size()
    train(jax.random.key(13), 2 * X, CONFIG)
    assert advance_nets._cache_size() == before
    train(jax.random.key(13), X[:3], CONFIG)
    assert advance_nets._cache_size() > before


MANY_SEEDS = """
import jax, json
from dae_theory import TrainConfig, data, train_many
config = TrainConfig(width=6, sigma=0.1, lam=1e-3, steps=40, learning_rate=1e-2, records=4)
result = train_many(jax.random.split(jax.random.key(14), 3), [data.simplex(4, 6).x], config)
print(json.dumps([jax.local_device_count(), result.w1.tolist(), result.trace.loss.tolist()]))
"""


def test_one_and_two_devices_give_the_same_numbers(run_python):
    one, w1_one, loss_one = json.loads(run_python(MANY_SEEDS, devices=1))
    two, w1_two, loss_two = json.loads(run_python(MANY_SEEDS, devices=2))
    assert (one, two) == (1, 2)
    assert np.shape(w1_one) == (1, 3, 6, 6)
    np.testing.assert_allclose(w1_one, w1_two, atol=1e-5)
    np.testing.assert_allclose(loss_one, loss_two, rtol=1e-5)


def test_divergence_is_reported():
    config = variant(optimizer="sgd", learning_rate=1e6, schedule="constant")
    with pytest.raises(InputError, match=r"training diverged .* learning rate 1e\+06; lower that"):
        train(jax.random.key(15), X, config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width: must be at least 1, got 0"),
        ({"steps": 0}, "steps: must be at least 1"),
        ({"draws": 0}, "draws: must be at least 1"),
        ({"records": 0}, "records: must be at least 1"),
        ({"batch_size": 0}, "batch_size: must be at least 1"),
        ({"sigma": 0.0}, "sigma: the noise level"),
        ({"lam": -1.0}, "lam: the weight decay"),
        ({"optimizer": "lion"}, "optimizer: expected one of adam, adamw, rmsprop, sgd, got 'lion'"),
        ({"schedule": "step"}, "schedule: expected one of"),
        ({"gradient": "none"}, "gradient: expected one of"),
        ({"learning_rate": 0.0}, "learning_rate: must be finite and > 0"),
        ({"learning_rate": float("nan")}, "learning_rate: must be finite and > 0"),
    ],
)
def test_unusable_configurations_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        variant(**changes)


def test_unusable_data_are_refused():
    with pytest.raises(InputError, match=r"same number of features, got \[5, 6\]"):
        train_many(jax.random.key(0)[None], [X, X[:, :5]], CONFIG)
    with pytest.raises(InputError, match="NaN or infinite"):
        train(jax.random.key(0), X * np.nan, CONFIG)


def test_padded_samples_have_no_weight():
    padded, weights = pad_samples([np.ones((1, 2)), np.ones((3, 2))])
    np.testing.assert_array_equal(padded[0], [[1, 1], [0, 0], [0, 0]])
    np.testing.assert_allclose(weights, [[1, 0, 0], [1 / 3] * 3])
