"""Deep denoisers: a network with EDM's preconditioning, as a module and as a `Denoiser`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dae_theory.checks import InputError, check_count
from dae_theory.commands import option
from dae_theory.deep.dit import DiT
from dae_theory.deep.unet import UNet
from dae_theory.diffusion.denoisers import Denoiser
from dae_theory.diffusion.schedules import edm_coefficients

SIGMA_DATA = 0.5  # EDM's scale of the data; images are in [−1, 1]


@dataclass(frozen=True)
class NetworkConfig:
    """What fixes the parameters' shapes.

    Attributes:
      architecture: one of ARCHITECTURES.
      size: pixels a side.
      width: channels (of the U-Net's upper resolution).
      depth, heads, patch: of the transformer.
      text: conditioned on captions.
    """

    architecture: str = option("dit", "dit or unet.")
    size: int = option(14, "Of the network.")
    width: int = option(128, "Of the network.")
    depth: int = option(4, "Of the network.")
    heads: int = option(4, "Of the network.")
    patch: int = option(2, "Of the network.")
    text: bool = option(False, "Condition on captions.")

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            known = " or ".join(ARCHITECTURES)
            raise InputError(f"architecture: expected {known}, got {self.architecture!r}")
        for name in ("size", "width", "depth", "heads", "patch"):
            check_count(getattr(self, name), name)
        if self.architecture == "dit" and (self.size % self.patch or self.width % self.heads):
            raise InputError("size must be a multiple of patch, and width of heads")
        if self.architecture == "unet" and (self.size % 2 or self.width % 8):
            raise InputError("unet: size must be even and width a multiple of 8")


ARCHITECTURES: Mapping[str, Callable[[NetworkConfig], nn.Module]] = MappingProxyType(
    {
        "dit": lambda c: DiT(c.patch, c.width, c.depth, c.heads, c.text),
        "unet": lambda c: UNet(c.width, c.text),
    }
)


def make_network(config: NetworkConfig) -> nn.Module:
    """The Flax module, without preconditioning."""
    return ARCHITECTURES[config.architecture](config)


def denoise_images(
    network: nn.Module,
    variables: dict,
    noisy: Float[Array, "B H W C"],
    sigma_B: Float[Array, " B"],
    tokens_BL: Int[Array, "B L"] | None = None,
    mutable: bool | list[str] = False,
):
    """D(y, σ) = c_skip y + c_out F(c_in y, log σ); with ``mutable`` also the new variables.

    ``variables`` may hold 'patches', 'shifts' and 'shares', and ``mutable=['activations']`` returns
    the activations; see `layers.exposed`.
    """
    coefficients = edm_coefficients(sigma_B, SIGMA_DATA)
    c_skip, c_out, c_in = (c_B[:, None, None, None] for c_B in coefficients)
    out = network.apply(variables, c_in * noisy, jnp.log(sigma_B), tokens_BL, mutable=mutable)
    out, changed = out if mutable else (out, None)
    denoised = c_skip * noisy + c_out * out
    return (denoised, changed) if mutable else denoised


def deep_denoiser(
    config: NetworkConfig, variables: dict, tokens_BL: Int[Array, "B L"] | None = None
) -> Denoiser:
    """The network as a `Denoiser` of rows (B, H·W).

    ``tokens_BL`` are the captions of the rows, which must then be B; one caption (1, L) serves any
    number of rows.

    Raises:
      InputError: when a network with text is given no captions.
    """
    if config.text and tokens_BL is None:
        raise InputError("tokens: this network is conditioned on text; give tokenize(captions)")
    network = make_network(config)

    def denoiser(y_BD: Array, sigma) -> Array:
        shape = (len(y_BD), config.size, config.size, -1)
        sigma_B = jnp.broadcast_to(jnp.asarray(sigma, y_BD.dtype), len(y_BD))
        tokens = None
        if config.text:
            tokens = jnp.broadcast_to(tokens_BL, (len(y_BD), jnp.shape(tokens_BL)[1]))
        images = denoise_images(network, variables, y_BD.reshape(shape), sigma_B, tokens)
        return images.reshape(y_BD.shape)

    return denoiser
