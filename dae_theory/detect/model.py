"""All that a detector sees of a model: plain functions on rows of pixels.

Whatever can fill in a `DetectorModel`, in any framework, can be asked by every score that needs no
more than it offers. `of_function` makes one of any JAX function (y, σ, tokens) → x̂;
`of_checkpoint` and `of_relu` of what this package trains.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dae_theory.checks import InputError, check_noise_and_decay, check_samples, check_weights
from dae_theory.deep.activations import layer_names, pooled_layer
from dae_theory.deep.captions import tokenize
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.network import deep_denoiser
from dae_theory.deep.sampling import Sampler, sample_images
from dae_theory.relu.model import denoise, encode
from dae_theory.relu.units import collinear_groups

BATCH = 128  # rows that go through a network at once
POOLS = ("max", "mean")
# What the paper's score reads: what the second convolution gets of the last residual block of the
# first block of the decoder; of a transformer, the units of the last block.
PAPER_LAYER = {"unet": "up1/units", "dit": "block{last}/units"}
LOW_NOISE = 0.1  # of images in [−1, 1], about t = 25 of 1000 in Stable Diffusion
UNITS = "units"  # the only layer of a ReLU net

Tokens = Array | np.ndarray
Function = Callable[[Any, Array, Array, Tokens | None], Array]  # (params, y, σ, tokens) → x̂


@dataclass(frozen=True)
class DetectorModel:
    """A model as detectors see it. Arrays go in and come out as NumPy's; rows are independent.

    Attributes:
      name: for messages and reports.
      size: D, numbers of a row.
      image_shape: of a row as an image, (height, width) or (height, width, channels); (D,) when a
        row is no image.
      pixel_range: the values of black and of white in the rows.
      sigma: noise level at which a score asks the model where none is given.
      sigma_max, sigma_min: noise levels between which it samples.
      denoise: (y_ND, sigma, tokens_NL or None) → x̂_ND; None is the empty caption.
      push: (y_ND, v_ND, sigma, tokens_NL or None) → J v, the product of the Jacobian of `denoise`
        in y with a direction; None where there are no derivatives.
      activations: (y_ND, sigma, tokens_NL or None, layer, pool) → h_NC, one layer, pooled over
        space by 'max' or 'mean'.
      layers: names that `activations` knows; empty where no layer can be looked at.
      layer: the one of the paper's score.
      takes_captions: whether captions change what it does.
      tokens: captions (N) → tokens_NL, of a model that takes them.
      sample: (key, count, captions (N) or None) → rows (N, D) that it generates; None where it
        cannot sample.
      passes_a_sample: forward passes of one row that it generates.
      groups: by layer, which units are collinear (−1: dead), of layers with units ≥ 0 that can be
        merged.
    """

    name: str
    size: int
    image_shape: tuple[int, ...]
    pixel_range: tuple[float, float]
    sigma: float
    sigma_max: float
    sigma_min: float
    denoise: Callable[..., Float[np.ndarray, "N D"]]
    push: Callable[..., Float[np.ndarray, "N D"]] | None = None
    activations: Callable[..., Float[np.ndarray, "N C"]] | None = None
    layers: tuple[str, ...] = ()
    layer: str = ""
    takes_captions: bool = False
    tokens: Callable[[Sequence[str]], Int[np.ndarray, "N L"]] | None = None
    sample: Callable[..., Float[np.ndarray, "N D"]] | None = None
    passes_a_sample: int = 0
    groups: Mapping[str, Int[np.ndarray, " C"]] = field(default_factory=dict)

    def checked_layer(self, layer: str | None) -> str:
        """``layer``, or the paper's for None.

        Raises:
          InputError: for a name that the model does not have; the message lists those it has.
        """
        if not self.layers:
            raise InputError(f"layer: no activation of {self.name} can be looked at")
        layer = self.layer if layer is None else layer
        if layer not in self.layers:
            raise InputError(
                f"layer: {self.name} has no {layer!r}; it has {', '.join(self.layers)}"
            )
        return layer


def of_function(
    function: Function,
    params: Any,
    *,
    name: str,
    image_shape: tuple[int, ...],
    activation: Callable[[Any, Array, Array, Tokens | None, str, str], Array] | None = None,
    dtype: type = np.float64,
    **rest: Any,
) -> DetectorModel:
    """A model from a traceable function of (params, y_BD, σ, tokens_BL or None).

    ``activation`` (params, y, σ, tokens, layer, pool) → (B, C) is compiled for each layer alone, so
    that XLA leaves out whatever the layer does not need. ``rest`` are fields of `DetectorModel`.
    """
    forward = jax.jit(function)

    @jax.jit
    def derivative(params, y_BD, v_BD, sigma, tokens_BL):
        return jax.jvp(lambda y: function(params, y, sigma, tokens_BL), (y_BD,), (v_BD,))[1]

    size = int(np.prod(image_shape))
    tokens_of = rest.get("tokens") if rest.get("takes_captions") else None

    def asked(program, rows, sigma, tokens_NL):
        rows = [_checked_rows(row_ND, size, dtype) for row_ND in rows]
        check_noise_and_decay(sigma, 0.0)
        if tokens_of is not None:
            tokens_NL = tokens_of([""]) if tokens_NL is None else np.asarray(tokens_NL)
            tokens_NL = np.broadcast_to(tokens_NL, (len(rows[0]), tokens_NL.shape[1]))
        elif tokens_NL is not None:
            raise InputError(f"captions: {name} takes none; leave them out")
        return _in_batches(program, rows, dtype(sigma), tokens_NL)

    def denoise_rows(y_ND, sigma, tokens_NL=None):
        program = lambda rows, s, t: forward(params, *rows, s, t)  # noqa: E731
        return asked(program, [y_ND], sigma, tokens_NL)

    def push_rows(y_ND, v_ND, sigma, tokens_NL=None):
        program = lambda rows, s, t: derivative(params, *rows, s, t)  # noqa: E731
        return asked(program, [y_ND, v_ND], sigma, tokens_NL)

    look = None if activation is None else jax.jit(activation, static_argnums=(4, 5))

    def activations(y_ND, sigma, tokens_NL=None, layer=None, pool="max"):
        layer = model.checked_layer(layer)
        if pool not in POOLS:
            raise InputError(f"pool: expected {' or '.join(POOLS)}, got {pool!r}")
        program = lambda rows, s, t: look(params, *rows, s, t, layer, pool)  # noqa: E731
        return asked(program, [y_ND], sigma, tokens_NL)

    model = DetectorModel(
        name=name,
        size=size,
        image_shape=image_shape,
        denoise=denoise_rows,
        push=push_rows,
        activations=None if activation is None else activations,
        **rest,
    )
    return model


def of_checkpoint(checkpoint: Checkpoint) -> DetectorModel:
    """A trained deep network; its rows are images in [−1, 1], its layers those of
    `activations.pooled_activations`."""
    network = checkpoint.config.network
    sampler = Sampler()

    def function(params, y_BD, sigma, tokens_BL):
        return deep_denoiser(network, {"params": params}, tokens_BL)(y_BD, sigma)

    def activation(params, y_BD, sigma, tokens_BL, layer, pool):
        return pooled_layer(network, params, y_BD, sigma, tokens_BL, layer, pool)

    def sample(key: PRNGKeyArray, count: int, captions: Sequence[str] | None = None):
        seed = int(jax.random.bits(key, dtype=jnp.uint32))
        return sample_images(checkpoint, [""] * count if captions is None else captions, seed)

    return of_function(
        function,
        checkpoint.params,
        name=checkpoint.name,
        image_shape=(network.size, network.size),
        activation=activation,
        dtype=np.float32,
        pixel_range=(-1.0, 1.0),
        sigma=LOW_NOISE,
        sigma_max=sampler.sigma_max,
        sigma_min=sampler.sigma_min,
        layers=layer_names(network, checkpoint.params),
        layer=PAPER_LAYER[network.architecture].format(last=network.depth - 1),
        takes_captions=network.text,
        tokens=tokenize if network.text else None,
        sample=sample,
        passes_a_sample=sampler.passes,
    )


def of_relu(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    sigma: float,
    *,
    name: str = "ReLU net",
    image_shape: tuple[int, ...] | None = None,
    pixel_range: tuple[float, float] = (0.0, 1.0),
) -> DetectorModel:
    """A two-layer ReLU DAE trained at one ``sigma``; its only layer is 'units', h = [W1ᵀy]_+.

    It cannot sample: it knows one noise level.

    Raises:
      InputError: for unusable weights or σ.
    """
    w1_DP, w2_DP = np.asarray(w1_DP), np.asarray(w2_DP)
    check_weights(w1_DP, w2_DP, len(w1_DP) if w1_DP.ndim else 0)
    check_noise_and_decay(sigma, 0.0)
    return of_function(
        lambda params, y_BD, sigma, tokens_BL: denoise(*params, y_BD),
        (w1_DP, w2_DP),
        name=name,
        image_shape=(len(w1_DP),) if image_shape is None else image_shape,
        activation=lambda params, y_BD, sigma, tokens_BL, layer, pool: encode(params[0], y_BD),
        dtype=np.result_type(w1_DP.dtype, np.float32).type,
        pixel_range=pixel_range,
        sigma=sigma,
        sigma_max=sigma,
        sigma_min=sigma,
        layers=(UNITS,),
        layer=UNITS,
        groups=MappingProxyType({UNITS: collinear_groups(w1_DP, w2_DP)}),
    )


def _checked_rows(y_ND, size: int, dtype: type) -> np.ndarray:
    y_ND = check_samples(y_ND, "images")
    if y_ND.shape[1] != size:
        raise InputError(f"images: rows of this model have {size} numbers, got {y_ND.shape[1]}")
    return y_ND.astype(dtype)


def _in_batches(program, rows: list[np.ndarray], sigma, tokens_NL) -> np.ndarray:
    """The last batch is filled up with rows of the one before: one shape, one compilation."""
    n, parts = len(rows[0]), []
    batch = min(BATCH, n)
    for first in range(0, n, batch):
        begin = min(first, n - batch)
        part = slice(begin, begin + batch)
        tokens = None if tokens_NL is None else tokens_NL[part]
        out = program([row_ND[part] for row_ND in rows], sigma, tokens)
        parts.append(np.asarray(out)[first - begin :])
    return np.concatenate(parts)
