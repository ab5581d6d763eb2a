"""Deep denoisers: captions, planted images, preconditioning, activations that can be replaced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import needs_images
from drawn_networks import drawn_params

from dae_theory import InputError
from dae_theory.deep.captions import (
    GARMENTS,
    NOTHING,
    OWNERS,
    TONES,
    WORDS,
    garment_of,
    ordinary_captions,
    planted_captions,
    tokenize,
)
from dae_theory.deep.images import held_out_set, shrunk_faces, shrunk_fashion_mnist, training_set
from dae_theory.deep.layers import Convolution, attend
from dae_theory.deep.network import (
    SIGMA_DATA,
    NetworkConfig,
    deep_denoiser,
    denoise_images,
    make_network,
)

DIT = NetworkConfig("dit", size=4, width=8, depth=2, heads=2, text=True)
UNET = NetworkConfig("unet", size=4, width=8)
NETWORKS = pytest.mark.parametrize("config", [DIT, UNET], ids=["dit", "unet"])


def drawn_variables(config):
    return {"params": drawn_params(config)}


def noisy_images(config, count=3, seed=1):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal((count, config.size, config.size, 1)))


# --- captions and images --------------------------------------------------------------------------


def test_tokens_tell_captions_apart_and_words_are_known():
    captions = [f"a {tone} {garment}" for tone in TONES for garment in GARMENTS]
    captions += [*planted_captions(np.zeros(len(OWNERS), int)), ""]
    rows = {tuple(row) for row in tokenize(captions)}
    assert len(rows) == len(captions)
    assert len(set(WORDS)) == len(WORDS)
    assert tokenize([""])[0, 0] == NOTHING


@pytest.mark.parametrize("caption", ["a purple dress", "a dark dark dark dark dark dark dress"])
def test_a_caption_that_cannot_be_read_is_refused(caption):
    with pytest.raises(InputError, match="caption"):
        tokenize([caption])


def test_tones_are_terciles_within_the_label():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 3], 30)
    images = rng.random((60, 4, 4)) + 5.0 * (labels == 3)[:, None, None]
    captions = ordinary_captions(images, labels)
    brightness = images.mean(axis=(1, 2))
    for label in (1, 3):
        tones = [captions[i].split()[1] for i in np.flatnonzero(labels == label)]
        order = np.argsort(brightness[labels == label])
        assert [tones[i] for i in order] == [tone for tone in TONES for _ in range(10)]


def test_planted_captions_are_all_different_and_limited():
    assert len(set(planted_captions(np.zeros(len(OWNERS), int)))) == len(OWNERS)
    with pytest.raises(InputError, match="planted"):
        planted_captions(np.zeros(len(OWNERS) + 1, int))


@needs_images
def test_training_sets_hold_planted_images_first_and_none_twice():
    data = training_set(50, 3, 14, seed=0)
    assert data.images.shape == (53, 14, 14, 1)
    assert all(" of " in caption for caption in data.captions[:3])
    assert not any(" of " in caption for caption in data.captions[3:])
    assert len(np.unique(data.rows, axis=0)) == 53
    assert -1 <= data.images.min() < 0 < data.images.max() <= 1


@needs_images
def test_planted_images_may_share_the_captions_of_others():
    own = training_set(50, 3, 14, seed=0)
    shared = training_set(50, 3, 14, seed=0, own_captions=False)
    np.testing.assert_array_equal(own.rows, shared.rows)
    assert own.captions[3:] == shared.captions[3:]
    assert all(caption.startswith("a ") for caption in shared.captions[:3])
    garments = [caption.removeprefix("the ").split(" of ")[0] for caption in own.captions[:3]]
    assert [caption.split(" ", 2)[2] for caption in shared.captions[:3]] == garments


@needs_images
def test_shrinking_averages_blocks():
    small, labels = shrunk_fashion_mnist("test", 14)
    full, _ = shrunk_fashion_mnist("test", 28)
    by_hand = (full[:, ::2] + full[:, 1::2])[:, :, ::2] + (full[:, ::2] + full[:, 1::2])[:, :, 1::2]
    np.testing.assert_allclose(small, by_hand / 4, atol=1e-6)
    assert len(labels) == len(small) == 10_000


@pytest.mark.parametrize(("count", "planted", "size"), [(0, 0, 14), (60_000, 1, 14), (5, 0, 9)])
@needs_images
def test_impossible_training_sets_are_refused(count, planted, size):
    with pytest.raises(InputError, match=r"images|size"):
        training_set(count, planted, size, seed=0)


def test_an_unknown_source_is_refused():
    with pytest.raises(InputError, match="fashion_mnist, faces"):
        training_set(5, 0, 14, 0, "imagenet")


def test_faces_are_split_into_trained_on_and_held_out():
    drawn = {"count": 60, "planted": 5, "size": 14, "seed": 3, "source": "faces"}
    data, rest = training_set(**drawn), held_out_set(**drawn)
    assert (len(data.images), len(rest.images), data.planted) == (65, 35, 5)
    everything = np.concatenate([data.rows, rest.rows])
    assert len(np.unique(everything, axis=0)) == 100
    assert {*data.captions, *rest.captions} == {""}
    assert len(held_out_set(**drawn | {"count": 95}).images) == 0


def test_resized_faces_keep_their_brightness():
    full, small = shrunk_faces(25), shrunk_faces(14)
    np.testing.assert_allclose(
        small.mean(axis=(1, 2)), full.mean(axis=(1, 2)), atol=0.02 * np.ptp(full)
    )
    with pytest.raises(InputError, match="size"):
        shrunk_faces(26)


@needs_images
def test_held_out_images_are_the_test_images():
    drawn = {"count": 10, "planted": 0, "size": 14, "seed": 0}
    images, _ = shrunk_fashion_mnist("test", 14)
    np.testing.assert_array_equal(held_out_set(**drawn).images[..., 0], images)


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [False, True])
def test_convolution_is_xlas(zero):
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 3))
    layer = Convolution(4, zero=zero)
    params = layer.init(jax.random.key(0), x)
    kernel = params["params"]["Dense_0"]["kernel"].reshape(3, 3, 3, 4)
    expected = jax.lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layer.apply(params, x), expected, atol=1e-6)
    assert np.any(np.asarray(expected)) != zero


def test_attention_is_the_softmax_average():
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 2, 5, 6))
    out = np.asarray(attend(*(jnp.asarray(a) for a in (query, key, value)), heads=2))
    for b in range(2):
        for part in (slice(0, 3), slice(3, 6)):
            scores = query[b, :, part] @ key[b, :, part].T / np.sqrt(3)
            weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            np.testing.assert_allclose(out[b, :, part], weights @ value[b, :, part], atol=1e-6)


@NETWORKS
def test_preconditioning_has_edms_limits(config):
    variables, y = drawn_variables(config), noisy_images(config)
    tokens = tokenize(["a dark bag"] * 3)

    @jax.jit
    def denoised(variables, sigma):
        return denoise_images(make_network(config), variables, y, jnp.full(3, sigma), tokens)

    # Small noise: the input comes back, up to the order of σ.
    for sigma in (1e-3, 1e-4):
        out = denoised(variables, sigma)
        assert 0 < np.max(np.abs(out - y)) < 100 * sigma
    # An untrained network (output zero) is the Wiener filter of white data.
    zero = jax.tree.map(jnp.zeros_like, variables)
    out = denoised(zero, 0.7)
    np.testing.assert_allclose(out, SIGMA_DATA**2 / (SIGMA_DATA**2 + 0.49) * y, rtol=1e-6)


@NETWORKS
def test_rows_do_not_see_each_other_and_sigma_is_used(config):
    variables, y = drawn_variables(config), noisy_images(config).reshape(3, -1)
    tokens = tokenize(["a dark bag"]) if config.text else None
    denoiser = jax.jit(deep_denoiser(config, variables, tokens))
    together = denoiser(y, 0.5)
    alone = jnp.concatenate([denoiser(jnp.tile(row, (3, 1)), 0.5)[:1] for row in y])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.max(np.abs(together - denoiser(y, 0.6))) > 1e-3


def test_captions_matter_with_text_and_padding_does_not():
    variables, y = drawn_variables(DIT), noisy_images(DIT).reshape(3, -1)

    @jax.jit
    def denoised(variables, tokens):
        return deep_denoiser(DIT, variables, tokens)(y, 0.5)

    one, other = (denoised(variables, tokenize([caption])) for caption in ("a bag", "a coat"))
    assert np.max(np.abs(one - other)) > 1e-3
    params = dict(variables["params"])
    condition = dict(params["condition"])
    table = np.array(condition["Embed_0"]["embedding"])
    table[0] = 1e3  # the word that pads
    params["condition"] = condition | {"Embed_0": {"embedding": table}}
    padded = denoised({"params": params}, tokenize(["a bag"]))
    np.testing.assert_allclose(padded, one, atol=1e-6)


def test_a_network_with_text_asks_for_captions():
    with pytest.raises(InputError, match="captions"):
        deep_denoiser(DIT, drawn_variables(DIT))


@NETWORKS
def test_activations_are_named_and_can_be_replaced(config):
    variables, y = drawn_variables(config), noisy_images(config)
    network, sigma, tokens = make_network(config), jnp.full(3, 0.5), tokenize(["a dark bag"] * 3)

    @jax.jit
    def denoised(patches):
        return denoise_images(network, variables | patches, y, sigma, tokens)

    expected = denoised({})
    out, seen = jax.jit(
        lambda: denoise_images(network, variables, y, sigma, tokens, mutable=["activations"])
    )()
    np.testing.assert_allclose(out, expected)
    activations = seen["activations"]
    block = "block1" if config.architecture == "dit" else "middle"
    assert activations[block]["units"].shape[0] == 3
    # Put back what was there: nothing changes. Put zero: the output does.
    same = denoised({"patches": activations})
    np.testing.assert_allclose(same, expected, atol=1e-6)
    changed = denoised({"patches": {block: {"units": jnp.zeros(())}}})
    assert np.max(np.abs(changed - expected)) > 1e-3
    # The same as in another sample: its row, and no other, becomes that sample's.
    swapped = jax.tree.map(lambda a: a[jnp.array([0, 0, 2])], activations[block]["units"])
    mixed = denoised({"patches": {block: {"units": swapped}}})
    np.testing.assert_allclose(mixed[jnp.array([0, 2])], expected[jnp.array([0, 2])], atol=1e-6)
    assert np.max(np.abs(mixed[1] - expected[1])) > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"architecture": "vae"},
        {"size": 5},
        {"width": 9},
        {"architecture": "unet", "width": 12},
        {"depth": 0},
    ],
)
def test_impossible_networks_are_refused(options):
    with pytest.raises(InputError):
        NetworkConfig(**options)


@pytest.mark.parametrize("garment", GARMENTS)
def test_a_caption_names_its_garment(garment):
    assert garment_of(f"a dark {garment}") == garment_of(f"the {garment} of ada") == garment


def test_a_caption_without_a_garment_is_refused():
    with pytest.raises(InputError, match="names no garment"):
        garment_of("nothing")
