"""ReLU denoising autoencoders as steering sees them."""

import functools
from collections.abc import Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.checks import InputError, check_weights
from dae_theory.diffusion.samplers import sample_ode, start_noise
from dae_theory.relu.model import encode
from dae_theory.steer.model import Change, SteerModel, checked_change, hash_of_parameters

UNITS = "units"  # the layer of a ReLU net


def of_relu(
    nets: Sequence[tuple[Float[Array, "D P"], Float[Array, "D P"]]],
    levels_T: Float[np.ndarray, " T"],
    *,
    name: str = "ReLU nets",
    image_shape: tuple[int, ...] | None = None,
    pixel_range: tuple[float, float] = (0.0, 1.0),
) -> SteerModel:
    """Two-layer ReLU DAEs as a model that samples by Heun's method along decreasing ``levels_T``,
    the last of which may be 0.

    Args:
      nets: (w1_DP, w2_DP), one for all noise levels, or one for each positive level in their order.
        One net has the layer 'units'; several have layers 'units0', 'units1', …, each at its level.
      levels_T: T noise levels, T − 1 steps.
      name, image_shape, pixel_range: as in `SteerModel`.

    Raises:
      InputError: for unusable weights or levels, or nets of different shapes.
    """
    levels_T = np.asarray(levels_T, float)
    positive = levels_T[levels_T > 0]
    if len(levels_T) < 2 or np.any(np.diff(levels_T) >= 0) or len(positive) < len(levels_T) - 1:
        raise InputError("levels: expected two or more decreasing noise levels >= 0")
    if len(nets) not in (1, len(positive)):
        raise InputError(f"nets: expected 1 or {len(positive)}, one a level, got {len(nets)}")
    for w1_DP, w2_DP in nets:
        check_weights(np.asarray(w1_DP), np.asarray(w2_DP), np.shape(nets[0][0])[0])
    if len({np.shape(w1_DP) for w1_DP, _ in nets}) > 1:
        raise InputError("nets: those of all levels must have as many units")
    w1_SDP, w2_SDP = (np.stack([np.asarray(net[i]) for net in nets]) for i in range(2))
    several, (size, units) = len(nets) > 1, w1_SDP.shape[1:]
    layers = tuple(f"{UNITS}{i}" for i in range(len(nets))) if several else (UNITS,)

    def activations(y_ND, sigma, captions=None, layer=None):
        (layer,) = model.checked_layers([layer] if layer else [])
        _without_captions(name, captions)
        return np.asarray(encode(w1_SDP[layers.index(layer)], np.asarray(y_ND)))

    @functools.partial(jax.jit, static_argnames="relative")
    def sampled(start_ND, shift_SNP, keep_SP, window, relative):
        def denoiser(y_ND, sigma):
            index = jnp.sum(jnp.asarray(positive, y_ND.dtype) > sigma)
            on = (window[0] <= index) & (index < window[1])
            net = index if several else 0
            h_NP = encode(jnp.asarray(w1_SDP)[net], y_ND) * keep_SP[net]
            shift_NP = jnp.where(on, shift_SNP[net], 0)
            if relative:
                shift_NP *= jnp.linalg.norm(h_NP, axis=1, keepdims=True)
            return (h_NP + shift_NP) @ jnp.asarray(w2_SDP)[net].T

        return sample_ode(denoiser, start_ND, levels_T)

    def sample(start_ND, captions=None, change=None):
        change = checked_change(model, Change() if change is None else change, len(start_ND))
        _without_captions(name, captions)
        if change.guidance != 1:
            raise InputError(f"guidance: {name} takes no captions; leave it out")
        start_ND = np.asarray(start_ND, float)
        none_NP = np.zeros((len(start_ND), units))
        shift_SNP = np.stack([change.shifts.get(layer, none_NP) for layer in layers])
        blocked_SP = [change.blocked.get(layer, np.zeros(units, bool)) for layer in layers]
        last = len(positive) if change.last is None else change.last
        window = np.array([change.first, last])
        return np.asarray(
            sampled(start_ND, shift_SNP, 1.0 - np.stack(blocked_SP), window, change.relative)
        )

    def starting(seed, count):
        return np.asarray(start_noise(jax.random.key(seed), count, size, float(levels_T[0])))

    arrays = {f"{i}/{which}": w for i, net in enumerate(nets) for which, w in enumerate(net)}
    model = SteerModel(
        name=name,
        sha256=hash_of_parameters(arrays),
        size=size,
        image_shape=(size,) if image_shape is None else image_shape,
        pixel_range=pixel_range,
        layers=MappingProxyType(dict.fromkeys(layers, units)),
        layer=layers[-1],
        sigma=float(positive[-1]),
        levels=len(positive),
        takes_captions=False,
        activations=activations,
        starts=starting,
        sample=sample,
    )
    return model


def _without_captions(name: str, captions) -> None:
    if captions is not None and any(captions):
        raise InputError(f"caption: {name} takes none; leave it out")
