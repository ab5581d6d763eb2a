"""A small U-Net of two resolutions, with attention at the lower one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dae_theory.deep.layers import Condition, Convolution, attend, exposed

GROUPS = 8


class Residual(nn.Module):
    """Two convolutions around an adaptive norm; exposes 'units' (B, H, W, features)."""

    features: int

    @nn.compact
    def __call__(
        self, x_BHWC: Float[Array, "B H W C"], condition_BC: Float[Array, "B C"]
    ) -> Float[Array, "B H W F"]:
        """Same height and width."""
        hidden = Convolution(self.features)(nn.silu(nn.GroupNorm(GROUPS)(x_BHWC)))
        shift, scale = jnp.split(nn.Dense(2 * self.features)(condition_BC), 2, axis=1)
        hidden = nn.GroupNorm(GROUPS)(hidden) * (1 + scale[:, None, None]) + shift[:, None, None]
        hidden = Convolution(self.features, zero=True)(exposed(self, "units", nn.silu(hidden)))
        if x_BHWC.shape[-1] != self.features:
            x_BHWC = nn.Dense(self.features)(x_BHWC)
        return x_BHWC + hidden


class Attention(nn.Module):
    """Self-attention over all pixels; exposes 'attention' (B, HW, C)."""

    heads: int = 4

    @nn.compact
    def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Same shape."""
        count, height, across, channels = x_BHWC.shape
        x_BTC = nn.GroupNorm(GROUPS)(x_BHWC).reshape(count, height * across, channels)
        parts = jnp.split(nn.Dense(3 * channels)(x_BTC), 3, axis=-1)
        out = nn.Dense(channels, kernel_init=nn.initializers.zeros)(attend(*parts, self.heads))
        return x_BHWC + exposed(self, "attention", out).reshape(x_BHWC.shape)


class UNet(nn.Module):
    """Encoder, bottleneck and decoder; called like `dit.DiT`. Height and width must be even."""

    width: int = 32
    text: bool = False

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "B H W C"],
        log_sigma_B: Float[Array, " B"],
        tokens_BL: Int[Array, "B L"] | None = None,
    ) -> Float[Array, "B H W C"]:
        """Output of the network, without preconditioning."""
        fine, coarse = self.width, 2 * self.width
        condition_BC = Condition(2 * coarse, self.text, name="condition")(log_sigma_B, tokens_BL)
        x = Convolution(fine)(images)
        across = x = Residual(fine, name="down0")(x, condition_BC)
        x = nn.avg_pool(x, (2, 2), (2, 2))
        below = x = Residual(coarse, name="down1")(x, condition_BC)
        x = Attention(name="middle_attention")(x)
        x = Residual(coarse, name="middle")(x, condition_BC)
        x = Residual(coarse, name="up1")(jnp.concatenate([x, below], axis=-1), condition_BC)
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        x = Residual(fine, name="up0")(jnp.concatenate([x, across], axis=-1), condition_BC)
        out = Convolution(images.shape[-1], zero=True)(jax.nn.silu(nn.GroupNorm(GROUPS)(x)))
        return exposed(self, "output", out)
