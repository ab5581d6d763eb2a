"""Models as detectors see them: the same numbers as the networks they are made of."""

import functools

import jax
import numpy as np
import pytest
from detect_models import exact_model
from drawn_networks import drawn_checkpoint

from dae_theory import InputError
from dae_theory.deep.activations import pooled_activations
from dae_theory.deep.captions import tokenize
from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.sampling import sample_images
from dae_theory.detect import model as module
from dae_theory.detect.model import of_checkpoint, of_relu
from dae_theory.diffusion.denoisers import gaussian_denoiser

TEXT = NetworkConfig("dit", size=4, width=8, depth=2, heads=2, text=True)
PLAIN = NetworkConfig("unet", size=4, width=8)
NETWORKS = pytest.mark.parametrize("network", [TEXT, PLAIN], ids=["dit", "unet"])


@functools.cache
def model_of(network):
    return of_checkpoint(drawn_checkpoint(network))


def rows(count=5, seed=1):
    return np.random.default_rng(seed).standard_normal((count, 16))


def tokens_of(network, captions=("a bag", "a coat", "", "a dark bag", "a shirt")):
    return tokenize(captions) if network.text else None


@NETWORKS
def test_it_denoises_as_the_network(network):
    tokens = tokens_of(network)
    denoiser = jax.jit(drawn_checkpoint(network).denoiser(tokens))
    expected = denoiser(rows().astype(np.float32), np.float32(0.5))
    found = model_of(network).denoise(rows(), 0.5, tokens)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_pushes_directions_as_differences_do():
    model, v, step, tokens = model_of(TEXT), rows(seed=2), 1e-2, tokens_of(TEXT)
    ends = [model.denoise(rows() + s * v, 0.5, tokens) for s in (step, -step)]
    found = model.push(rows(), v, 0.5, tokens)
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), atol=5e-3)


@NETWORKS
def test_every_layer_is_as_all_are_together(network):
    model, params = model_of(network), drawn_checkpoint(network).params
    tokens = tokens_of(network)
    expected = pooled_activations(network, params, rows(), 0.5, tokens)
    assert set(model.layers) == set(expected)
    assert model.layer in model.layers
    for pool in ("mean", "max") if network.text else ("max",):
        found = model.activations(rows(), 0.5, tokens, model.layer, pool)
        np.testing.assert_allclose(found, expected[model.layer][pool], atol=1e-5)


def test_only_what_a_layer_needs_is_computed():
    """Blocks after the layer cost nothing."""
    params = drawn_checkpoint(TEXT).params
    look = jax.jit(module.pooled_layer, static_argnums=(0, 5, 6))
    y, sigma = rows().astype(np.float32), np.float32(0.5)

    def flops(layer):
        program = look.lower(TEXT, params, y, sigma, tokens_of(TEXT), layer, "max")
        return program.compile().cost_analysis()["flops"]

    assert flops("block0/attention") < 0.6 * flops("block1/units")


def test_no_caption_is_the_empty_one():
    model = model_of(TEXT)
    np.testing.assert_array_equal(
        model.denoise(rows(), 0.5), model.denoise(rows(), 0.5, tokenize([""] * 5))
    )


@pytest.mark.parametrize("captions", [["a bag", ""], None])
def test_it_samples_as_the_network_by_the_key(captions):
    model, key = model_of(TEXT), jax.random.key(7)
    made = model.sample(key, 2, captions)
    seed = int(jax.random.bits(key, dtype=np.uint32))
    np.testing.assert_array_equal(
        made, sample_images(drawn_checkpoint(TEXT), captions or ["", ""], seed)
    )
    assert np.max(np.abs(made - model.sample(jax.random.key(8), 2, captions))) > 1e-2


@pytest.mark.parametrize("batch", [2, 3])
def test_batches_change_nothing(monkeypatch, batch):
    model = model_of(TEXT)
    tokens, v = tokens_of(TEXT), rows(seed=2)
    calls = [
        lambda: model.push(rows(), v, 0.5, tokens),
        lambda: model.activations(rows(), 0.5, tokens),
    ]
    expected = [call() for call in calls]
    monkeypatch.setattr(module, "BATCH", batch)
    for call, before in zip(calls, expected, strict=True):
        np.testing.assert_allclose(call(), before, atol=1e-5)


def test_a_relu_net():
    rng = np.random.default_rng(0)
    w1, w2 = rng.standard_normal((2, 6, 3))
    model = of_relu(w1, w2, 0.2)
    y, v = rng.standard_normal((2, 5, 6))
    h = np.maximum(y @ w1, 0)
    np.testing.assert_allclose(model.denoise(y, 0.2), h @ w2.T, rtol=1e-12)
    np.testing.assert_allclose(model.push(y, v, 0.2), (v @ w1 * (h > 0)) @ w2.T, rtol=1e-12)
    np.testing.assert_allclose(model.activations(y, 0.2), h, rtol=1e-12)
    assert (model.sigma, model.sample, model.takes_captions) == (0.2, None, False)
    with pytest.raises(InputError, match="sigma"):
        of_relu(w1, w2, 0.0)
    with pytest.raises(InputError, match="shape"):
        of_relu(w1, w2[:, :2], 0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.denoise(np.zeros((2, 9)), 0.5), "images: rows of this model have 4"),
        (lambda m: m.denoise(np.full((2, 4), np.nan), 0.5), "images"),
        (lambda m: m.denoise(np.zeros((2, 4)), -1.0), "sigma"),
        (lambda m: m.denoise(np.zeros((2, 4)), 0.5, np.zeros((2, 1))), "captions"),
        (lambda m: m.activations(np.zeros((2, 4)), 0.5, None, "up9"), "layer: .*noisy image"),
        (lambda m: m.activations(np.zeros((2, 4)), 0.5, None, None, "sum"), "pool"),
    ],
)
def test_unusable_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(exact_model(gaussian_denoiser(np.zeros(4), np.eye(4))))
