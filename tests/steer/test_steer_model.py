"""What steering does inside a model, against a sampler written out here."""

import dataclasses
import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from steer_models import SAMPLER, drawn_model, small_checkpoint

from dae_theory.checks import InputError
from dae_theory.deep.captions import tokenize
from dae_theory.deep.layers import ACTIVATIONS, PATCHES
from dae_theory.deep.network import denoise_images, make_network
from dae_theory.deep.sampling import Sampler, sample_images
from dae_theory.diffusion.schedules import edm_schedule
from dae_theory.steer.model import Change, hash_of_parameters
from dae_theory.steer.nets import of_checkpoint
from dae_theory.steer.relu_nets import of_relu

CAPTIONS = ["a dark bag", "the coat of ada", ""]


@functools.partial(jax.jit, static_argnames="config")
def asked(variables, images, sigma, tokens, config):
    return denoise_images(
        make_network(config), variables, images, sigma, tokens, mutable=[ACTIVATIONS]
    )


def by_hand(checkpoint, start, captions, layer, change):
    """Heun's method, one call at a time; a shifted activation is one that is patched."""
    config = checkpoint.config.network
    levels, side = edm_schedule(SAMPLER.sigma_max, SAMPLER.sigma_min, SAMPLER.steps), 4
    last = SAMPLER.steps if change.last is None else change.last

    def call(y, level, tokens, steered):
        images = jnp.asarray(y, jnp.float32).reshape(-1, side, side, 1)
        sigma = jnp.full(len(y), levels[level], jnp.float32)
        variables = {"params": checkpoint.params}
        out, seen = asked(variables, images, sigma, tokens, config)
        if steered and change.first <= level < last:
            value = flax.traverse_util.flatten_dict(seen[ACTIVATIONS], sep="/")[layer]
            shift = change.shifts[layer].reshape(len(y), *[1] * (value.ndim - 2), -1)
            if change.relative:
                norms = np.sum(np.asarray(value) ** 2, axis=-1).reshape(len(y), -1)
                size = np.sqrt(norms.mean(axis=1))
                shift = shift * size.reshape(-1, *[1] * (value.ndim - 1))
            patch = flax.traverse_util.unflatten_dict({layer: value + shift}, sep="/")
            variables |= {PATCHES: patch}
            out, _ = asked(variables, images, sigma, tokens, config)
        return np.asarray(out, np.float64).reshape(len(y), -1)

    def denoised(y, level):
        tokens = tokenize(captions)
        conditional = call(y, level, tokens, True)
        if change.guidance == 1:
            return conditional
        without = call(y, level, tokenize([""] * len(y)), change.branch == "both")
        return without + change.guidance * (conditional - without)

    y = np.asarray(start, np.float64)
    for t in range(SAMPLER.steps):
        step = levels[t + 1] - levels[t]
        here = (y - denoised(y, t)) / levels[t]
        moved = y + step * here
        if levels[t + 1] > 0:
            there = (moved - denoised(moved, t + 1)) / levels[t + 1]
            moved = y + step * (here + there) / 2
        y = moved
    return y


@pytest.mark.parametrize(
    ("architecture", "layer", "settings"),
    [
        ("dit", "block0/attention", {"relative": True, "first": 1}),
        ("dit", "condition/text", {"guidance": 2.0, "branch": "both", "last": 2}),
        ("dit", "block1/units", {"guidance": 2.0, "branch": "conditional"}),
        ("unet", "up1/units", {"relative": True}),
    ],
)
def test_a_change_is_what_a_sampler_by_hand_does(architecture, layer, settings):
    text = architecture == "dit"
    checkpoint, model = (f(architecture, text) for f in (small_checkpoint, drawn_model))
    captions = CAPTIONS if text else [""] * 3
    shift = np.random.default_rng(1).standard_normal((3, model.layers[layer]))
    change, start = Change({layer: shift}, **settings), model.starts(5, 3)
    made = model.sample(start, captions, change)
    np.testing.assert_allclose(made, by_hand(checkpoint, start, captions, layer, change), atol=2e-4)
    assert np.abs(made - model.sample(start, captions)).max() > 1e-2


def test_without_a_change_it_samples_as_the_library_does_bit_for_bit():
    checkpoint, model = small_checkpoint(), drawn_model()
    for guidance in (1.0, 2.0):
        sampler = dataclasses.replace(SAMPLER, guidance=guidance)
        made = model.sample(model.starts(5, 3), CAPTIONS, Change(guidance=guidance))
        np.testing.assert_array_equal(made, sample_images(checkpoint, CAPTIONS, 5, sampler))


def test_a_row_does_not_depend_on_the_others():
    model = drawn_model()
    start, shift = model.starts(0, 60), np.ones((60, model.layers["block1/units"]))
    every = model.sample(start, ["a dark bag"] * 60, Change({"block1/units": shift}))
    some = model.sample(start[55:], ["a dark bag"] * 5, Change({"block1/units": shift[55:]}))
    np.testing.assert_array_equal(every[55:], some)


def test_blocked_units_are_zero_and_others_stay():
    checkpoint, model = small_checkpoint(), drawn_model()
    blocked = np.arange(model.layers["block1/units"]) < 5
    made = model.sample(model.starts(0, 3), CAPTIONS, Change(blocked={"block1/units": blocked}))
    cut = flax.traverse_util.flatten_dict(checkpoint.params, sep="/")
    kernel = np.array(cut["block1/Dense_4/kernel"])  # what the hidden units are read by
    assert len(kernel) == len(blocked)
    kernel[blocked] = 0
    params = flax.traverse_util.unflatten_dict(cut | {"block1/Dense_4/kernel": kernel}, sep="/")
    without = of_checkpoint(dataclasses.replace(checkpoint, params=params), SAMPLER)
    np.testing.assert_allclose(made, without.sample(model.starts(0, 3), CAPTIONS), atol=1e-5)


def test_layers_are_those_with_channels_and_activations_are_means_over_space():
    checkpoint, model = small_checkpoint(), drawn_model()
    assert set(model.layers) == {
        *(f"block{i}/{name}" for i in (0, 1) for name in ("attention", "units")),
        "condition/text",
    }
    y = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    _, seen = asked(
        {"params": checkpoint.params},
        y.reshape(3, 4, 4, 1),
        jnp.full(3, jnp.float32(0.2)),
        tokenize(CAPTIONS),
        checkpoint.config.network,
    )
    expected = seen[ACTIVATIONS]["block1"]["units"].mean(axis=1)
    found = model.activations(y, 0.2, CAPTIONS, "block1/units")
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change({"block9/units": np.ones((2, 3))}), "has no 'block9/units'; it has block0"),
        (Change({"block1/units": np.ones((2, 3))}), "takes"),
        (Change(blocked={"block1/units": np.ones(3, bool)}), "takes"),
        (Change(branch="left"), "branch: expected conditional or both"),
        (Change(guidance=np.nan), "guidance: must be finite"),
        (Change(first=2, last=2), "first, last: expected 0 <= first < last <= 3"),
        (Change(last=4), "first, last"),
    ],
)
def test_a_change_that_does_not_fit_is_one_line(change, message):
    model = drawn_model()
    with pytest.raises(InputError, match=message):
        model.sample(model.starts(0, 2), ["", ""], change)


def test_captions_and_guidance_need_a_model_with_text():
    model = drawn_model("unet", False)
    with pytest.raises(InputError, match="caption: drawn was trained without captions"):
        model.sample(model.starts(0, 1), ["a dark bag"])
    with pytest.raises(InputError, match="guidance: drawn was trained without captions"):
        model.sample(model.starts(0, 1), None, Change(guidance=2.0))
    with pytest.raises(InputError, match="captions: 2 samples have 1 captions"):
        drawn_model().sample(drawn_model().starts(0, 2), ["a dark bag"])


def test_parameters_are_told_apart_by_their_hash():
    arrays = {"a": np.zeros((2, 3)), "b": np.ones(2)}
    found = {
        hash_of_parameters(arrays),
        hash_of_parameters({"a": arrays["a"].T, "b": arrays["b"]}),
        hash_of_parameters({"b": arrays["a"], "a": arrays["b"]}),
        hash_of_parameters(arrays | {"b": np.ones(2) + 1e-9}),
    }
    assert len(found) == 4


# --- ReLU nets -----------------------------------------------------------------------------------


def relu_by_hand(nets, levels, y, change, several):
    last = np.sum(levels > 0) if change.last is None else change.last
    for t in range(len(levels) - 1):

        def slope(y, level):
            net = level if several else 0
            w1, w2 = nets[net]
            h = np.maximum(y @ w1, 0)
            name = f"units{net}" if several else "units"
            if change.first <= level < last and name in change.shifts:
                shift = change.shifts[name]
                if change.relative:
                    shift = shift * np.linalg.norm(h, axis=1, keepdims=True)
                h = h + shift
            return (y - h @ w2.T) / levels[level]

        step, here = levels[t + 1] - levels[t], slope(y, t)
        euler = y + step * here
        corrected = levels[t + 1] > 0
        y = y + step * (here + slope(euler, t + 1)) / 2 if corrected else euler
    return y


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"relative": True, "first": 1, "last": 2}], ids=["all", "window"]
)
def test_relu_nets_are_sampled_as_by_hand(several, settings):
    rng, levels = np.random.default_rng(0), np.array([3.0, 1.0, 0.2, 0.0])
    nets = [tuple(rng.standard_normal((2, 4, 6)) / 3) for _ in range(3 if several else 1)]
    model = of_relu(nets, levels)
    layers = ("units0", "units2") if several else ("units",)
    change = Change({name: rng.standard_normal((5, 6)) for name in layers}, **settings)
    start = model.starts(2, 5)
    made = model.sample(start, None, change)
    expected = relu_by_hand(nets, levels, np.array(start), change, several)
    np.testing.assert_allclose(made, expected, rtol=1e-9)
    w1 = nets[2 if several else 0][0]
    np.testing.assert_allclose(
        model.activations(start, 0.2, None, layers[-1]), np.maximum(start @ w1, 0)
    )


def test_relu_nets_that_do_not_fit_are_one_line():
    net = (np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(InputError, match="nets: expected 1 or 2"):
        of_relu([net] * 3, [2.0, 1.0, 0.0])
    with pytest.raises(InputError, match="levels: expected two or more decreasing"):
        of_relu([net], [1.0, 2.0])
    with pytest.raises(InputError, match="as many units"):
        of_relu([net, (np.ones((2, 4)), np.ones((2, 4)))], [2.0, 1.0, 0.0])
    model = of_relu([net], [2.0, 1.0])
    with pytest.raises(InputError, match="caption: ReLU nets takes none"):
        model.sample(model.starts(0, 1), ["a bag"])
    with pytest.raises(InputError, match="guidance: ReLU nets takes no captions"):
        model.sample(model.starts(0, 1), None, Change(guidance=2.0))


def test_the_default_sampler_is_the_library_s():
    assert of_checkpoint(small_checkpoint()).levels == Sampler().steps
