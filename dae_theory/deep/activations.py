"""Spikiness of every layer of a deep denoiser, and how well it tells two groups of images apart.

The paper's detector (docs/THEORY.md#detection), without its choice of a layer: noise an image, pool
an activation over space, take a statistic over channels; high = memorized.
"""

import functools
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dae_theory.checks import InputError, check_count, check_noise_and_decay, check_samples
from dae_theory.deep.captions import tokenize
from dae_theory.deep.layers import ACTIVATIONS
from dae_theory.deep.network import NetworkConfig, denoise_images, make_network
from dae_theory.relu.units import spikiness
from dae_theory.statistics import Interval, area_under_roc_interval

BATCH = 128
POOLS = {"max": jnp.max, "mean": jnp.mean}
# +1 where a spiky representation scores high, fixed by the definitions and not by any data. Units
# here are never exactly 0, so that `n_active` says nothing.
SPIKY_SIGNS = {"std": 1, "l4_l2": 1, "participation_ratio": -1, "hoyer": 1, "top1_share": 1}


class LayerStatistics(NamedTuple):
    """``values[layer]["pool/statistic"]`` (S, N) for S noise levels ``sigmas`` and N images.

    Layers are paths such as 'up1/units' and 'block3/attention'; pools are max and mean over space,
    statistics those of `representation.spikiness`, averaged over noise.
    """

    sigmas: tuple[float, ...]
    values: dict[str, dict[str, Float[np.ndarray, "S N"]]]


def _activations(params, noisy, sigma, tokens_BL, network: NetworkConfig) -> dict[str, Array]:
    """Activations by layer, space flattened: (B, T, C)."""
    _, seen = denoise_images(
        make_network(network),
        {"params": params},
        noisy,
        jnp.broadcast_to(sigma, len(noisy)),
        tokens_BL,
        mutable=[ACTIVATIONS],
    )
    return {
        layer: value.reshape(len(value), -1, value.shape[-1])
        for layer, value in flax.traverse_util.flatten_dict(seen[ACTIVATIONS], sep="/").items()
        if value.ndim > 2 and value.shape[-1] > 1  # not the caption's, not the output
    }


@functools.partial(jax.jit, static_argnames="network")
def _pooled(params, noisy, sigma, tokens_BL, network: NetworkConfig) -> dict:
    """Pooled activations (B, C) by layer and pool."""
    return {
        layer: {name: pool(value_BTC, axis=1) for name, pool in POOLS.items()}
        for layer, value_BTC in _activations(params, noisy, sigma, tokens_BL, network).items()
    }


def pooled_layer(
    network: NetworkConfig,
    params: dict,
    y_BD: Float[Array, "B D"],
    sigma: Float[Array, ""],
    tokens_BL: Int[Array, "B L"] | None,
    layer: str,
    pool: str,
) -> Float[Array, "B C"]:
    """One layer of `pooled_activations` alone, traceable: compiled, it is all that is computed."""
    noisy = y_BD.reshape(len(y_BD), network.size, network.size, -1)
    return POOLS[pool](_activations(params, noisy, sigma, tokens_BL, network)[layer], axis=1)


def layer_names(network: NetworkConfig, params: dict) -> tuple[str, ...]:
    """The layers that `pooled_activations` looks at."""
    noisy = jax.ShapeDtypeStruct((1, network.size, network.size, 1), jnp.float32)
    look = functools.partial(_activations, network=network)
    sigma = jax.ShapeDtypeStruct((), jnp.float32)
    return tuple(jax.eval_shape(look, params, noisy, sigma, tokenize([""])))


def pooled_activations(
    network: NetworkConfig,
    params: dict,
    y_ND: Float[Array, "N D"],
    sigma: float,
    tokens_NL: Int[Array, "N L"] | None = None,
) -> dict[str, dict[str, Float[np.ndarray, "N C"]]]:
    """Activations of noisy images, pooled over space: ``[layer][pool]``, pool 'max' or 'mean'.

    Activations without space (the caption's) or with one channel (the output) are left out.

    Raises:
      InputError: for images that are no rows of the network's size, or unusable σ.
    """
    check_samples(y_ND, "images")
    check_noise_and_decay(sigma, 0.0)
    n, size = len(y_ND), network.size
    if np.shape(y_ND)[1] != size**2:
        raise InputError(f"images: rows of this network have {size}² pixels, got {np.shape(y_ND)}")
    tokens_NL = tokenize([""]) if tokens_NL is None else tokens_NL
    tokens_NL = np.broadcast_to(tokens_NL, (n, np.shape(tokens_NL)[1]))
    images = np.asarray(y_ND, np.float32).reshape(n, size, size, 1)
    batch, parts = min(BATCH, n), []
    for first in range(0, n, batch):
        # The last batch is filled up with images of the one before: one shape, one compile.
        part = slice(min(first, n - batch), min(first, n - batch) + batch)
        pooled = _pooled(params, images[part], np.float32(sigma), tokens_NL[part], network)
        parts.append(jax.tree.map(lambda a, skip=first - part.start: np.asarray(a)[skip:], pooled))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def layer_statistics(
    key: PRNGKeyArray,
    network: NetworkConfig,
    params: dict,
    x_ND: Float[Array, "N D"],
    sigmas: tuple[float, ...],
    tokens_NL: Int[Array, "N L"] | None = None,
    draws: int = 4,
) -> LayerStatistics:
    """Spikiness of every layer at each noise level, averaged over noise.

    Args:
      key: of the noise, equal at all levels; equal keys give equal results.
      network: what ``params`` are parameters of.
      params: as `checkpoints.Checkpoint` holds them.
      x_ND: clean images, as rows.
      sigmas: noise levels, in units of the images.
      tokens_NL: captions, N or 1; None is the empty caption, as in the paper's detector.
      draws: of noise, over which each statistic is averaged.

    Raises:
      InputError: as `pooled_activations`; unless there are a noise level and a draw.
    """
    check_count(draws, "draws")
    check_count(len(sigmas), "number of noise levels")
    x_ND = check_samples(x_ND, "images").astype(np.float32)
    noise_MND = np.asarray(jax.random.normal(key, (draws, *x_ND.shape), jnp.float32))
    values: dict[str, dict[str, np.ndarray]] = {}
    for level, sigma in enumerate(sigmas):
        for noise_ND in noise_MND:
            pooled = pooled_activations(network, params, x_ND + sigma * noise_ND, sigma, tokens_NL)
            for layer, pools in pooled.items():
                rows = values.setdefault(layer, {})
                for pool, h_NC in pools.items():
                    found = spikiness(h_NC)
                    for name in SPIKY_SIGNS:
                        zeros = np.zeros((len(sigmas), len(x_ND)))
                        rows.setdefault(f"{pool}/{name}", zeros)[level] += found[name] / draws
    return LayerStatistics(tuple(sigmas), values)


def separate_groups(
    statistics: LayerStatistics, memorized_N: Bool[Array, " N"]
) -> dict[str, dict[str, list[Interval]]]:
    """AUROC with which each statistic tells memorized images from the others, a σ each.

    The spikier image counts as memorized, whichever group turns out to be: a value below ½ says
    that the others are spikier.

    Raises:
      InputError: unless both groups have images with finite statistics.
    """
    memorized_N = np.asarray(memorized_N, bool)
    return {
        layer: {
            name: [
                area_under_roc_interval(score_N[memorized_N], score_N[~memorized_N])
                for score_N in SPIKY_SIGNS[name.rpartition("/")[2]] * value_SN
            ]
            for name, value_SN in by_name.items()
        }
        for layer, by_name in statistics.values.items()
    }
