"""The nets of the ladder: a plain deep ReLU net without biases, and the same with one change.

A plain net of depth 1 is the theory's (docs/THEORY.md#setup) with untied weights; any depth is
positively homogeneous, D(cy) = c D(y) for c > 0, so that J(y) y = D(y)
(docs/THEORY.md#deep-homogeneous).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dae_theory.checks import InputError, check_count
from dae_theory.deep.layers import Condition, Convolution, attend, exposed
from dae_theory.diffusion.schedules import edm_coefficients

SIDE = 14  # pixels of the images
GROUPS, TOKENS, CHANNELS = 8, 16, 8
SIGMA_DATA = 0.5  # EDM's scale of the data; images are in [−1, 1] before their mean is taken off
PLAIN = "plain"
NORMS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "rms norm": lambda: nn.RMSNorm(),
        "layer norm": lambda: nn.LayerNorm(use_bias=False),
        "group norm": lambda: nn.GroupNorm(GROUPS, use_bias=False),
    }
)
CONDITIONED = ("conditioned gains", "conditioned shifts")
CHANGES = (
    "biases",
    "skip",
    *NORMS,
    "smooth",
    "attention",
    "convolution",
    *CONDITIONED,
)


@dataclass(frozen=True)
class NetConfig:
    """What fixes a net's parameters.

    Attributes:
      depth: hidden layers.
      width: units of each.
      change: PLAIN, or one of CHANGES:
        'biases' in all layers;
        'skip', EDM's preconditioning around the net;
        a norm before each activation;
        'smooth', SiLU for ReLU;
        'attention' among 16 groups of units, added to each layer before the activation;
        'convolution', 3×3 with 8 channels in all hidden layers but the last;
        'conditioned gains' and 'conditioned shifts', functions of the noise level by which units
        are multiplied, or which are added to them before the activation.
    """

    depth: int = 3
    width: int = 128
    change: str = PLAIN

    def __post_init__(self) -> None:
        check_count(self.depth, "depth")
        check_count(self.width, "width")
        if self.change not in (PLAIN, *CHANGES):
            raise InputError(f"change: unknown {self.change!r}; known: {', '.join(CHANGES)}")
        if self.width % (TOKENS * GROUPS):
            raise InputError(f"width: must be a multiple of {TOKENS * GROUPS}, got {self.width}")


class LadderNet(nn.Module):
    """The denoiser (N, D) → (N, D) of a `NetConfig`, D = SIDE²; exposes 'hidden1', 'hidden2', …"""

    config: NetConfig

    @nn.compact
    def __call__(self, y_ND: Float[Array, "N D"], sigma_N: Float[Array, " N"]) -> Array:
        """Denoised images at noise levels of their own."""
        if self.config.change != "skip":
            return self._plain(y_ND, sigma_N)
        c_skip, c_out, c_in = (c_N[:, None] for c_N in edm_coefficients(sigma_N, SIGMA_DATA))
        return c_skip * y_ND + c_out * self._plain(c_in * y_ND, sigma_N)

    def _plain(self, y_ND: Array, sigma_N: Array) -> Array:
        config, change = self.config, self.config.change
        activate = nn.silu if change == "smooth" else nn.relu
        condition_NP = None
        if change in CONDITIONED:
            condition_NP = Condition(config.width, False, name="condition")(jnp.log(sigma_N), None)
        hidden = y_ND
        for layer in range(1, config.depth + 1):
            if change == "convolution" and layer < config.depth:
                images = hidden.reshape(len(y_ND), SIDE, SIDE, -1)
                hidden = Convolution(CHANNELS, use_bias=False)(images)
                hidden = hidden.reshape(len(y_ND), -1)
            else:
                hidden = self._linear(config.width)(hidden)
            if change in NORMS:
                hidden = NORMS[change]()(hidden)
            if change == "attention":
                hidden = hidden + self._mixed(hidden)
            if change == "conditioned shifts":
                hidden = hidden + self._linear(config.width)(condition_NP)
            hidden = activate(hidden)
            if change == "conditioned gains":
                hidden = hidden * (1 + self._linear(config.width)(condition_NP))
            hidden = exposed(self, f"hidden{layer}", hidden)
        return self._linear(y_ND.shape[1])(hidden)

    def _linear(self, features: int) -> nn.Dense:
        return nn.Dense(features, use_bias=self.config.change == "biases")

    def _mixed(self, hidden_NP: Array) -> Array:
        """Self-attention among TOKENS groups of units."""
        tokens_NTC = hidden_NP.reshape(len(hidden_NP), TOKENS, -1)
        projected = nn.Dense(3 * tokens_NTC.shape[-1], use_bias=False)(tokens_NTC)
        query, key, value = jnp.split(projected, 3, axis=-1)
        return attend(query, key, value, 1).reshape(hidden_NP.shape)


def init_params(key: Array, config: NetConfig) -> dict:
    """Random parameters."""
    like = jnp.ones((1, SIDE**2), jnp.float32)
    return LadderNet(config).init(key, like, jnp.ones(1, jnp.float32))["params"]


def denoise(config: NetConfig, params: dict, y_ND: Float[Array, "N D"], sigma: float) -> Array:
    """Denoised images."""
    sigma_N = jnp.full(len(y_ND), sigma, y_ND.dtype)
    return LadderNet(config).apply({"params": params}, y_ND, sigma_N)


def hidden_layers(
    config: NetConfig, params: dict, y_ND: Float[Array, "N D"], sigma: float
) -> dict[str, Float[Array, "N P"]]:
    """Activations of each hidden layer, by name."""
    sigma_N = jnp.full(len(y_ND), sigma, y_ND.dtype)
    _, seen = LadderNet(config).apply({"params": params}, y_ND, sigma_N, mutable=["activations"])
    return {k: v for k, v in seen["activations"].items() if k.startswith("hidden")}


def jacobian(config: NetConfig, params: dict, y_D: Float[Array, " D"], sigma: float) -> Array:
    """∂D/∂y at one point, row = output."""
    return jax.jacfwd(lambda y: denoise(config, params, y[None], sigma)[0])(y_D)
