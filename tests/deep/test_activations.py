"""Spikiness of layers: pooling by hand, batches, noise, and groups told apart."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_networks import drawn_params

from dae_theory import InputError, spikiness
from dae_theory.deep import activations as module
from dae_theory.deep.activations import (
    SPIKY_SIGNS,
    LayerStatistics,
    layer_statistics,
    pooled_activations,
    separate_groups,
)
from dae_theory.deep.captions import tokenize
from dae_theory.deep.network import NetworkConfig, denoise_images, make_network

DIT = NetworkConfig("dit", size=4, width=8, depth=2, heads=2, text=True)
UNET = NetworkConfig("unet", size=4, width=8)
NETWORKS = pytest.mark.parametrize("config", [DIT, UNET], ids=["dit", "unet"])
SIGMAS = (0.1, 1.0)


def images(count=5, seed=1):
    return np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)


@NETWORKS
def test_pooling_by_hand(config):
    params, y, tokens = drawn_params(config), images(), tokenize(["a dark bag"] * 5)
    pooled = pooled_activations(config, params, y, 0.5, tokens)
    _, seen = jax.jit(denoise_images, static_argnums=(0, 5))(
        make_network(config),
        {"params": params},
        y.reshape(5, 4, 4, 1),
        jnp.full(5, np.float32(0.5)),
        tokens,
        ("activations",),
    )
    block = "block1" if config is DIT else "up1"
    raw = np.asarray(seen["activations"][block]["units"])
    space = tuple(range(1, raw.ndim - 1))
    for name, by_hand in (("max", raw.max(axis=space)), ("mean", raw.mean(axis=space))):
        np.testing.assert_allclose(pooled[f"{block}/units"][name], by_hand, atol=1e-5)
    # One caption for all serves, too; those without space, and the output, have no statistics.
    again = pooled_activations(config, params, y, 0.5, tokens[:1])
    jax.tree.map(np.testing.assert_array_equal, again, pooled)
    assert not {"condition/text", "output"} & set(pooled)
    assert len(pooled) == (4 if config is DIT else 6)


@pytest.mark.parametrize("batch", [2, 3])
def test_batches_change_nothing(monkeypatch, batch):
    params, y = drawn_params(DIT), images()
    tokens = tokenize(["a bag", "a coat", "", "a dark bag", "a shirt"])
    expected = pooled_activations(DIT, params, y, 0.5, tokens)
    monkeypatch.setattr(module, "BATCH", batch)
    found = pooled_activations(DIT, params, y, 0.5, tokens)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


def test_statistics_are_averages_over_noise():
    params, x, key = drawn_params(UNET), images(), jax.random.key(3)
    found = layer_statistics(key, UNET, params, x, SIGMAS, draws=3)
    noise = np.asarray(jax.random.normal(key, (3, *x.shape), jnp.float32))
    for level, sigma in enumerate(SIGMAS):
        scores = [
            spikiness(pooled_activations(UNET, params, x + sigma * e, sigma)["up1/units"]["max"])
            for e in noise
        ]
        for name in SPIKY_SIGNS:
            expected = np.mean([score[name] for score in scores], axis=0)
            measured = found.values["up1/units"][f"max/{name}"][level]
            np.testing.assert_allclose(measured, expected, rtol=1e-5)


def test_noise_is_that_of_the_key():
    params, x = drawn_params(DIT), images()
    first, same, other = (
        layer_statistics(jax.random.key(k), DIT, params, x, SIGMAS, draws=1).values["block0/units"]
        for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first["max/std"], same["max/std"])
    assert np.all(first["max/std"] != other["max/std"])


@NETWORKS
def test_areas_of_exchanged_groups_add_up_to_one(config):
    params = drawn_params(config)
    found = layer_statistics(jax.random.key(0), config, params, images(), SIGMAS, draws=2)
    areas = separate_groups(found, np.arange(5) < 2)
    swapped = separate_groups(found, np.arange(5) >= 2)
    for layer, by_name in areas.items():
        for name, by_sigma in by_name.items():
            for area, other in zip(by_sigma, swapped[layer][name], strict=True):
                assert area.low <= area.value <= area.high
                assert area.value == pytest.approx(1 - other.value)
    json.dumps(areas)


def test_spiky_counts_as_memorized_and_no_sign_is_flipped():
    rng = np.random.default_rng(0)
    balanced = 1 + 0.1 * rng.random((6, 8))
    spiky = np.eye(8)[:4] * 5 + 0.1 * rng.random((4, 8))
    scores = spikiness(np.concatenate([spiky, balanced]))
    values = {"layer": {f"max/{name}": scores[name][None] for name in SPIKY_SIGNS}}
    statistics = LayerStatistics((0.1,), values)
    memorized = np.arange(10) < 4
    for name in values["layer"]:
        assert separate_groups(statistics, memorized)["layer"][name][0].value == 1
        assert separate_groups(statistics, ~memorized)["layer"][name][0].value == 0


@pytest.mark.parametrize(
    ("x", "sigmas", "draws", "word"),
    [
        (np.zeros((2, 9)), (0.1,), 1, "images"),
        (np.full((2, 16), np.nan), (0.1,), 1, "images"),
        (np.zeros((2, 16)), (-0.1,), 1, "sigma"),
        (np.zeros((2, 16)), (), 1, "noise levels"),
        (np.zeros((2, 16)), (0.1,), 0, "draws"),
    ],
)
def test_unusable_input_is_refused(x, sigmas, draws, word):
    with pytest.raises(InputError, match=word):
        layer_statistics(jax.random.key(0), UNET, drawn_params(UNET), x, sigmas, draws=draws)


@pytest.mark.parametrize("memorized", [np.zeros(5, bool), np.ones(5, bool)])
def test_groups_must_not_be_empty(memorized):
    statistics = LayerStatistics((0.1,), {"layer": {"max/std": np.arange(5.0)[None]}})
    with pytest.raises(InputError, match=r"positive|negative"):
        separate_groups(statistics, memorized)
