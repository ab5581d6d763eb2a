"""The two-layer ReLU denoising autoencoder f(x) = W2 [W1^T x]_+ (docs/THEORY.md#setup)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


@jax.jit
def encode(w1_DP: Float[Array, "D P"], x_ND: Float[Array, "N D"]) -> Float[Array, "N P"]:
    """Representation h(x) = [W1^T x]_+, one row per sample."""
    return jax.nn.relu(x_ND @ w1_DP)


@jax.jit
def denoise(
    w1_DP: Float[Array, "D P"], w2_DP: Float[Array, "D P"], x_ND: Float[Array, "N D"]
) -> Float[Array, "N D"]:
    """Denoised samples f(x) = W2 h(x), one row per sample."""
    return encode(w1_DP, x_ND) @ w2_DP.T


class ReluDAE(nn.Module):
    """Two-layer ReLU denoising autoencoder as a Flax module.

    Attributes:
      width: number of units P.
      tied: share one weight matrix between encoder and decoder (W2 = W1).
      init_scale: standard deviation of a unit's initial norm scale; the columns start as
        ``init_scale * N(0, I/D)``.

    ``init(key, x)`` returns ``{'params': {'w1': (D, P), 'w2': (D, P)}}`` (only ``w1`` when
    tied); ``apply(variables, x)`` maps x (N, D) to x̂ (N, D), and
    ``apply(variables, x, method='encode')`` to h (N, P).
    """

    width: int
    tied: bool = False
    init_scale: float = 1.0

    @nn.compact
    def _weights(self, x_ND: Float[Array, "N D"]) -> tuple[Array, Array]:
        shape = (x_ND.shape[-1], self.width)
        column_init = nn.initializers.normal(self.init_scale / shape[0] ** 0.5)
        w1_DP = self.param("w1", column_init, shape, x_ND.dtype)
        if self.tied:
            return w1_DP, w1_DP
        return w1_DP, self.param("w2", column_init, shape, x_ND.dtype)

    def __call__(self, x_ND: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """Denoised samples x̂ (N, D)."""
        return denoise(*self._weights(x_ND), x_ND)

    def encode(self, x_ND: Float[Array, "N D"]) -> Float[Array, "N P"]:
        """Representation h (N, P)."""
        return encode(self._weights(x_ND)[0], x_ND)


def init_weights(
    key: PRNGKeyArray,
    n_features: int,
    width: int,
    *,
    tied: bool = False,
    scale: float = 1.0,
    dtype: jnp.dtype = jnp.float32,
) -> tuple[Float[Array, "D P"], Float[Array, "D P"]]:
    """Random W1, W2 with columns ``scale * N(0, I/D)``, of norm about ``scale``."""
    model = ReluDAE(width, tied=tied, init_scale=scale)
    params = model.init(key, jnp.zeros((1, n_features), dtype))["params"]
    return params["w1"], params.get("w2", params["w1"])
