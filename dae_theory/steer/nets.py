"""Deep networks of this package as steering sees them."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dae_theory.checks import InputError, check_count, check_noise_and_decay
from dae_theory.deep.captions import tokenize
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.layers import ACTIVATIONS, PATCHES, SHARES, SHIFTS
from dae_theory.deep.network import NetworkConfig, denoise_images, make_network
from dae_theory.deep.sampling import BATCH, Sampler, sample_batch, starts
from dae_theory.diffusion.samplers import sample_ode
from dae_theory.diffusion.schedules import edm_schedule
from dae_theory.steer.model import (
    BOTH,
    LOW_NOISE,
    Change,
    SteerModel,
    checked_change,
    hash_of_parameters,
)

TEXT = "condition/text"  # layer of the caption
# Where directions moved samples most evenly in development; of U-Nets nothing was judged.
DEFAULT_LAYER = {"unet": "middle/units", "dit": "block{middle}/attention"}


def _activation(
    network: NetworkConfig, params: dict, y_BD: Array, sigma: Array, tokens_BL: Array
) -> dict[str, Array]:
    """All activations of noisy images that have channels, by layer."""
    noisy = y_BD.reshape(len(y_BD), network.size, network.size, -1)
    sigma_B = jnp.broadcast_to(sigma, len(noisy))
    _, seen = denoise_images(
        make_network(network), {"params": params}, noisy, sigma_B, tokens_BL, mutable=[ACTIVATIONS]
    )
    layers = flax.traverse_util.flatten_dict(seen[ACTIVATIONS], sep="/")
    return {name: value for name, value in layers.items() if value.shape[-1] > 1}


@functools.partial(jax.jit, static_argnames=("network", "layer"))
def _pooled_batch(params, y_BD, sigma, tokens_BL, network: NetworkConfig, layer: str) -> Array:
    value = _activation(network, params, y_BD, sigma, tokens_BL)[layer]
    return value.reshape(len(value), -1, value.shape[-1]).mean(axis=1)


def layer_shapes(network: NetworkConfig, params: dict) -> dict[str, tuple[int, ...]]:
    """Shapes of the activations that can be steered, batch left out: (*space, C)."""
    look = functools.partial(_activation, network)
    y_BD = jax.ShapeDtypeStruct((1, network.size**2), jnp.float32)
    found = jax.eval_shape(look, params, y_BD, jnp.float32(1), tokenize([""]))
    return {name: value.shape[1:] for name, value in found.items()}


@functools.partial(jax.jit, static_argnames=("network", "sampler", "relative", "both", "guided"))
def _changed_batch(
    params,
    start_BD,
    tokens_BL,
    nothing_BL,
    changes: tuple[dict, dict],
    window: Array,
    guidance: Array,
    *,
    network: NetworkConfig,
    sampler: Sampler,
    relative: bool,
    both: bool,
    guided: bool,
) -> Array:
    """Strengths, windows and the weight of guidance are data: one program serves all of them."""
    shifts, patches = changes
    levels_T = jnp.asarray(edm_schedule(sampler.sigma_max, sampler.sigma_min, sampler.steps))
    levels_T = levels_T.astype(start_BD.dtype)
    module, shape = make_network(network), (len(start_BD), network.size, network.size, -1)

    def call(y_BD, sigma, tokens, steered: bool):
        index = jnp.sum(levels_T > sigma)
        on = (window[0] <= index) & (index < window[1])
        variables = {"params": params}
        if patches:
            variables[PATCHES] = _nested(patches)
        if steered and shifts:
            switched = {name: jnp.where(on, shift, 0) for name, shift in shifts.items()}
            variables[SHARES if relative else SHIFTS] = _nested(switched)
        sigma_B = jnp.broadcast_to(sigma, len(y_BD))
        images = denoise_images(module, variables, y_BD.reshape(shape), sigma_B, tokens)
        return images.reshape(y_BD.shape)

    def denoiser(y_BD, sigma):
        conditional_BD = call(y_BD, sigma, tokens_BL, True)
        if not guided:
            return conditional_BD
        without_BD = call(y_BD, sigma, nothing_BL, both)
        return without_BD + guidance * (conditional_BD - without_BD)

    return sample_ode(denoiser, start_BD, levels_T)


def _nested(by_path: Mapping[str, Array]) -> dict:
    return flax.traverse_util.unflatten_dict(dict(by_path), sep="/")


def of_checkpoint(checkpoint: Checkpoint, sampler: Sampler | None = None) -> SteerModel:
    """A trained deep network; rows are images in [−1, 1]. Its layers are all that
    `layers.exposed` names and that have channels, the caption's ('condition/text') included.

    ``sampler`` (default `Sampler()`) says levels and steps; guidance is that of a `Change`.
    """
    network, params, name = checkpoint.config.network, checkpoint.params, checkpoint.name
    sampler = Sampler() if sampler is None else sampler
    leaves = flax.traverse_util.flatten_dict(params, sep="/")
    shapes = layer_shapes(network, params)

    def tokens_of(captions, count):
        if captions is not None and not network.text and any(captions):
            raise InputError(f"caption: {name} was trained without captions; leave it out")
        if captions is not None and len(captions) != count:
            raise InputError(f"captions: {count} samples have {len(captions)} captions")
        return tokenize([""] * count if captions is None else captions)

    @jax.enable_x64(False)
    def activations(y_ND, sigma, captions=None, layer=None):
        (layer,) = model.checked_layers([layer] if layer else [])
        check_noise_and_decay(sigma, 0.0)
        rows, tokens = np.asarray(y_ND, np.float32), tokens_of(captions, len(y_ND))
        return _in_batches(
            lambda y, t: _pooled_batch(params, y, np.float32(sigma), t, network, layer),
            (rows, tokens),
        )

    @jax.enable_x64(False)
    def sample(start_ND, captions=None, change=None):
        change = checked_change(model, Change() if change is None else change, len(start_ND))
        if change.guidance != 1 and not network.text:
            raise InputError(f"guidance: {name} was trained without captions; leave it out")
        rows = (np.asarray(start_ND, np.float32), tokens_of(captions, len(start_ND)))
        layers = tuple(change.shifts)
        rows += tuple(np.asarray(change.shifts[layer], np.float32) for layer in layers)
        # NaN leaves a unit as it is.
        patches = {
            layer: np.where(blocked, 0, np.nan).astype(np.float32)
            for layer, blocked in change.blocked.items()
        }
        last = sampler.steps if change.last is None else change.last

        def program(start_BD, tokens_BL, *shifts):
            if not (shifts or patches):
                plain = replace(sampler, guidance=change.guidance)
                return sample_batch(params, start_BD, tokens_BL, network, plain)
            spread = {
                layer: shift.reshape(len(shift), *[1] * (len(shapes[layer]) - 1), -1)
                for layer, shift in zip(layers, shifts, strict=True)
            }
            nothing_BL = np.broadcast_to(tokenize([""]), tokens_BL.shape)
            window = np.array([change.first, last], np.int32)
            return _changed_batch(
                params,
                start_BD,
                tokens_BL,
                nothing_BL,
                (spread, patches),
                window,
                np.float32(change.guidance),
                network=network,
                sampler=sampler,
                relative=change.relative,
                both=change.branch == BOTH,
                guided=change.guidance != 1,
            )

        return _in_batches(program, rows)

    usual = DEFAULT_LAYER[network.architecture].format(middle=(network.depth - 1) // 2)
    model = SteerModel(
        name=name,
        sha256=hash_of_parameters(leaves),
        size=network.size**2,
        image_shape=(network.size, network.size),
        pixel_range=(-1.0, 1.0),
        layers=MappingProxyType({layer: shape[-1] for layer, shape in shapes.items()}),
        layer=TEXT if network.text else usual,
        sigma=LOW_NOISE,
        levels=sampler.steps,
        takes_captions=network.text,
        activations=activations,
        starts=lambda seed, count: starts(seed, count, network, sampler),
        sample=sample,
    )
    return model


def _in_batches(program, columns: tuple[np.ndarray, ...]) -> np.ndarray:
    """One shape, one compilation: the last batch is filled with rows that are not used."""
    count, parts = len(columns[0]), []
    check_count(count, "number of samples")
    for first in range(0, count, BATCH):
        index = np.arange(first, first + BATCH) % count
        parts.append(np.asarray(program(*(column[index] for column in columns))))
    return np.concatenate(parts)[:count]
