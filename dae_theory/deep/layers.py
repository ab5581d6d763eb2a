"""What the deep denoisers share: conditioning, activations by name, convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dae_theory.deep.captions import LENGTH, PADDING, WORDS

FREQUENCIES = 32  # of the embedding of log σ
# Collections of variables, by the path of an activation; see `exposed`.
ACTIVATIONS, PATCHES, SHIFTS, SHARES = "activations", "patches", "shifts", "shares"


def exposed(module: nn.Module, name: str, value: Array) -> Array:
    """An activation under a name: readable, replaceable, and steerable.

    It is sown, as it is used downstream, into the collection 'activations', to be asked for with
    ``mutable``. A variable of the same path in one of three collections changes it, broadcast: in
    'patches' it is put in its place, but for entries that are NaN; in 'shifts' it is then added;
    in 'shares' it is added after multiplication by the size of the sample's activation, the root
    of the mean over space of its squared norm over channels.
    """
    if module.has_variable(PATCHES, name):
        patch = jnp.broadcast_to(module.get_variable(PATCHES, name), value.shape)
        value = jnp.where(jnp.isnan(patch), value, patch)
    if module.has_variable(SHIFTS, name):
        value = value + jnp.broadcast_to(module.get_variable(SHIFTS, name), value.shape)
    if module.has_variable(SHARES, name):
        share = jnp.broadcast_to(module.get_variable(SHARES, name), value.shape)
        value = value + share * activation_size(value)
    module.sow(ACTIVATIONS, name, value, reduce_fn=lambda _, new: new)
    return value


def activation_size(value: Float[Array, "B *space C"]) -> Float[Array, "B ..."]:
    """Root of the mean over space of the squared norm over channels, with axes of length 1."""
    squared = jnp.sum(value**2, axis=-1, keepdims=True)
    return jnp.sqrt(jnp.mean(squared, axis=tuple(range(1, value.ndim)), keepdims=True))


class Condition(nn.Module):
    """One vector (B, width) from the noise level and, with ``text``, the caption."""

    width: int
    text: bool

    @nn.compact
    def __call__(
        self, log_sigma_B: Float[Array, " B"], tokens_BL: Int[Array, "B L"] | None
    ) -> Float[Array, "B C"]:
        """``tokens_BL`` is not looked at without ``text``."""
        frequencies = np.exp(np.linspace(np.log(0.1), np.log(10), FREQUENCIES))
        phase_BF = log_sigma_B[:, None] * frequencies
        waves = jnp.concatenate([jnp.cos(phase_BF), jnp.sin(phase_BF)], axis=1)
        noise_BC = nn.Dense(self.width)(nn.silu(nn.Dense(self.width)(waves)))
        if not self.text:
            return nn.silu(noise_BC)
        words_BLC = nn.Embed(len(WORDS), self.width)(tokens_BL)
        places_LC = self.param("places", nn.initializers.normal(0.02), (LENGTH, self.width))
        words_BLC = nn.silu(nn.Dense(self.width)(words_BLC + places_LC))
        used_BL1 = (tokens_BL != PADDING)[..., None]
        text_BC = jnp.sum(words_BLC * used_BL1, axis=1) / jnp.sum(used_BL1, axis=1)
        return nn.silu(noise_BC + exposed(self, "text", nn.Dense(self.width)(text_BC)))


class Convolution(nn.Module):
    """3×3 convolution with zero padding, as one matrix product over the nine shifted images.

    On a CPU, XLA's own gradient of a convolution is slow.
    """

    features: int
    zero: bool = False
    use_bias: bool = True

    @nn.compact
    def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W F"]:
        """Same height and width."""
        height, width = x_BHWC.shape[1:3]
        padded = jnp.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        mix = nn.Dense(self.features, self.use_bias, kernel_init=init)
        return mix(jnp.concatenate(shifted, axis=-1))


def attend(
    query: Float[Array, "B T C"], key: Float[Array, "B T C"], value: Float[Array, "B T C"], heads
) -> Float[Array, "B T C"]:
    """Softmax attention of ``heads`` equal parts of the channels."""
    split = [a.reshape(*a.shape[:2], heads, -1) for a in (query, key, value)]
    return jax.nn.dot_product_attention(*split).reshape(query.shape)
