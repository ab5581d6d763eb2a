"""A diffusion transformer (Peebles & Xie 2023): patches are tokens, norms adapt to conditions."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dae_theory.deep.layers import Condition, attend, exposed


def modulated(x_BTC: Array, shift_BC: Array, scale_BC: Array) -> Array:
    """Normalized over channels, then scaled and shifted by the condition."""
    normal_BTC = nn.LayerNorm(use_bias=False, use_scale=False)(x_BTC)
    return normal_BTC * (1 + scale_BC[:, None]) + shift_BC[:, None]


class Block(nn.Module):
    """Attention and MLP, each behind an adaptive norm and a gate that starts closed.

    Exposes 'attention' (B, T, C) and 'units' (B, T, 4C), the MLP's hidden units.
    """

    heads: int

    @nn.compact
    def __call__(
        self, x_BTC: Float[Array, "B T C"], condition_BC: Float[Array, "B C"]
    ) -> Float[Array, "B T C"]:
        """Same shape."""
        width = x_BTC.shape[-1]
        six = nn.Dense(6 * width, kernel_init=nn.initializers.zeros)(condition_BC)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = jnp.split(six, 6, axis=1)
        parts = jnp.split(nn.Dense(3 * width)(modulated(x_BTC, shift_a, scale_a)), 3, axis=-1)
        attention = nn.Dense(width)(attend(*parts, self.heads))
        x_BTC = x_BTC + gate_a[:, None] * exposed(self, "attention", attention)
        units = nn.gelu(nn.Dense(4 * width)(modulated(x_BTC, shift_m, scale_m)))
        return x_BTC + gate_m[:, None] * nn.Dense(width)(exposed(self, "units", units))


class DiT(nn.Module):
    """Transformer over ``patch``² patches of a square image.

    ``apply(variables, images (B, H, W, C), log_sigma (B,), tokens (B, L))`` returns (B, H, W, C).
    """

    patch: int = 2
    width: int = 128
    depth: int = 4
    heads: int = 4
    text: bool = False

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "B H W C"],
        log_sigma_B: Float[Array, " B"],
        tokens_BL: Int[Array, "B L"] | None = None,
    ) -> Float[Array, "B H W C"]:
        """Output of the network, without preconditioning."""
        count, height, across, channels = images.shape
        rows, columns, q = height // self.patch, across // self.patch, self.patch
        patches = images.reshape(count, rows, q, columns, q, channels).swapaxes(2, 3)
        patches = patches.reshape(count, rows * columns, q * q * channels)
        places = self.param("places", nn.initializers.normal(0.02), (rows * columns, self.width))
        x_BTC = nn.Dense(self.width)(patches) + places
        condition_BC = Condition(self.width, self.text, name="condition")(log_sigma_B, tokens_BL)
        for index in range(self.depth):
            x_BTC = Block(self.heads, name=f"block{index}")(x_BTC, condition_BC)
        shift, scale = jnp.split(
            nn.Dense(2 * self.width, kernel_init=nn.initializers.zeros)(condition_BC), 2, axis=1
        )
        out = nn.Dense(q * q * channels, kernel_init=nn.initializers.zeros)(
            modulated(x_BTC, shift, scale)
        )
        out = out.reshape(count, rows, columns, q, q, channels).swapaxes(2, 3)
        return out.reshape(images.shape)
