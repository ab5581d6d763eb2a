"""A ReLU denoiser for all noise levels at once: docs/THEORY.md#multi-sigma.

x̂ = W2 (h ⊙ exp(g(log σ))) + s·y with h = [W1^T y]_+, g a small MLP with one output per unit and
s a learned scalar. `MultiSigmaDAE` is that net, `PreconditionedDAE` puts EDM's preconditioning
around it (Karras et al. 2022, table 1).
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.checks import InputError, check_count, check_samples
from dae_theory.diffusion.denoisers import Denoiser
from dae_theory.diffusion.schedules import (
    check_noise_range,
    edm_coefficients,
    log_uniform_sigmas,
)
from dae_theory.relu.loss import weight_penalty
from dae_theory.relu.model import encode

Sigma = float | Float[Array, ""] | Float[Array, " N"]


class MultiSigmaDAE(nn.Module):
    """x̂ = W2 (h ⊙ exp(g(log σ))) + s·y, at the start a plain `ReluDAE`: g = 0 and s = 0.

    Attributes:
      width: number of units P.
      hidden: number of hidden units of g.

    ``init(key, y, sigma)`` returns ``{'params': ...}`` with 'w1', 'w2' (D, P), 'skip' () and the
    layers of g; ``apply(variables, y, sigma)`` maps y (N, D) and σ, () or (N,), to x̂ (N, D), and
    ``apply(variables, y, sigma, method='encode')`` to the scaled units h ⊙ exp(g) (N, P).
    """

    width: int
    hidden: int = 64

    @nn.compact
    def _parts(self, y_ND, sigma) -> tuple[Array, Array, Array]:
        dtype, shape = y_ND.dtype, (y_ND.shape[-1], self.width)
        column_init = nn.initializers.normal(shape[0] ** -0.5)
        w1_DP = self.param("w1", column_init, shape, dtype)
        w2_DP = self.param("w2", column_init, shape, dtype)
        skip = self.param("skip", nn.initializers.zeros, (), dtype)
        log_sigma_N1 = jnp.log(jnp.asarray(sigma, dtype)).reshape(-1, 1)
        # tanh: bounded, so that the gain neither vanishes nor explodes at levels not trained on.
        hidden_NH = nn.tanh(nn.Dense(self.hidden, param_dtype=dtype, name="gain_in")(log_sigma_N1))
        gain_NP = nn.Dense(
            self.width, kernel_init=nn.initializers.zeros, param_dtype=dtype, name="gain_out"
        )(hidden_NH)
        return encode(w1_DP, y_ND) * jnp.exp(gain_NP), w2_DP, skip

    def __call__(self, y_ND: Float[Array, "N D"], sigma: Sigma) -> Float[Array, "N D"]:
        """Denoised samples x̂ (N, D)."""
        scaled_NP, w2_DP, skip = self._parts(y_ND, sigma)
        return scaled_NP @ w2_DP.T + skip * y_ND

    def encode(self, y_ND: Float[Array, "N D"], sigma: Sigma) -> Float[Array, "N P"]:
        """The units as the decoder sees them, h ⊙ exp(g(log σ))."""
        return self._parts(y_ND, sigma)[0]


class PreconditionedDAE(nn.Module):
    """x̂ = c_skip y + c_out F(c_in y, σ/σ_data) with F a `MultiSigmaDAE` (EDM, table 1).

    c_skip = σ_data²/(σ² + σ_data²), c_out = σ σ_data/√(σ² + σ_data²), c_in = 1/√(σ² + σ_data²):
    input and target of F have variance 1 at every σ, and x̂ → y as σ → 0. F sees σ relative to
    σ_data (EDM: σ itself), so that data, σ and σ_data times a constant give x̂ times it.

    Attributes:
      sigma_data: standard deviation of a feature, in data units; the data have zero mean.
      width, hidden: of F.

    ``init`` and ``apply`` as for `MultiSigmaDAE`; the parameters of F lie under 'net'.
    """

    sigma_data: float
    width: int
    hidden: int = 64

    def setup(self):
        """The net inside."""
        self.net = MultiSigmaDAE(self.width, self.hidden)

    def __call__(self, y_ND: Float[Array, "N D"], sigma: Sigma) -> Float[Array, "N D"]:
        """Denoised samples x̂ (N, D)."""
        sigma = jnp.asarray(sigma, y_ND.dtype)
        coefficients = edm_coefficients(sigma, self.sigma_data)
        c_skip, c_out, c_in = (c.reshape(-1, 1) for c in coefficients)
        return c_skip * y_ND + c_out * self.net(c_in * y_ND, sigma / self.sigma_data)

    def encode(self, y_ND: Float[Array, "N D"], sigma: Sigma) -> Float[Array, "N P"]:
        """The units of F as its decoder sees them."""
        sigma = jnp.asarray(sigma, y_ND.dtype)
        _, _, c_in = edm_coefficients(sigma, self.sigma_data)
        return self.net.encode(c_in.reshape(-1, 1) * y_ND, sigma / self.sigma_data)


def multi_sigma_denoiser(module: nn.Module, params: dict) -> Denoiser:
    """Either net as a denoiser; ``params`` as trained (`MultiSigmaResult`)."""
    return lambda y_ND, sigma: module.apply({"params": params}, jnp.asarray(y_ND), sigma)


@dataclass(frozen=True)
class MultiSigmaConfig:
    """How to train a multi-σ net: Adam, learning rate falling to 0 as a cosine.

    Attributes:
      width: number of units P.
      sigma_max, sigma_min: log σ is uniform between their logarithms, data units; a new σ for
        every sample and step.
      hidden: hidden units of g.
      preconditioned: train a `PreconditionedDAE` with EDM's loss weight 1/c_out², in place of a
        `MultiSigmaDAE` with the plain error.
      sigma_data: of the preconditioning; None takes the root mean square of a feature.
      lam: weight decay λ of W1 and W2, as in objective (1); g and s have none.
      steps: optimizer steps.
      learning_rate: at the start.
      batch_size: samples per step, drawn with replacement; None means all of them.
      ema_decay: of the moving average of the parameters.
      dtype: of weights and arithmetic.
    """

    width: int
    sigma_max: float
    sigma_min: float
    hidden: int = 64
    preconditioned: bool = False
    sigma_data: float | None = None
    lam: float = 0.0
    steps: int = 10_000
    learning_rate: float = 1e-3
    batch_size: int | None = None
    ema_decay: float = 0.999
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("width", "hidden", "steps"):
            check_count(getattr(self, name), name)
        if self.batch_size is not None:
            check_count(self.batch_size, "batch_size")
        check_noise_range(self.sigma_max, self.sigma_min)
        if not (np.isfinite(self.lam) and self.lam >= 0):
            raise InputError(f"lam: must be finite and >= 0, got {self.lam}")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay: must be in [0, 1), got {self.ema_decay}")
        for name in ("learning_rate", "sigma_data"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"{name}: must be finite and > 0, got {value}")


class MultiSigmaResult(NamedTuple):
    """The ``module``, its trained ``params``, their moving ``average`` and the training ``loss``
    of every step, one noise draw (steps,)."""

    module: nn.Module
    params: dict
    average: dict
    loss: Float[Array, " steps"]


def _make_module(x_ND: np.ndarray, config: MultiSigmaConfig) -> nn.Module:
    if not config.preconditioned:
        return MultiSigmaDAE(config.width, config.hidden)
    sigma_data = config.sigma_data or float(np.sqrt(np.mean(x_ND**2)))
    if sigma_data == 0:
        raise InputError("samples: all are zero; preconditioning needs data that vary")
    return PreconditionedDAE(sigma_data, config.width, config.hidden)


def _objective(params, key, x_ND, module: nn.Module, config: MultiSigmaConfig) -> Array:
    """Mean over samples of the weighted squared error, summed over features, plus decay."""
    sample_key, level_key, noise_key = jax.random.split(key, 3)
    if config.batch_size is not None:
        x_ND = x_ND[jax.random.randint(sample_key, (config.batch_size,), 0, len(x_ND))]
    sigma_N = log_uniform_sigmas(
        level_key, (len(x_ND),), config.sigma_max, config.sigma_min, x_ND.dtype
    )
    noise_ND = jax.random.normal(noise_key, x_ND.shape, x_ND.dtype)
    error_ND = module.apply({"params": params}, x_ND + sigma_N[:, None] * noise_ND, sigma_N) - x_ND
    error_N = jnp.sum(error_ND**2, axis=1)
    if config.preconditioned:
        error_N /= edm_coefficients(sigma_N, module.sigma_data)[1] ** 2
    weights = params["net"] if config.preconditioned else params
    return jnp.mean(error_N) + weight_penalty(weights["w1"], weights["w2"], config.lam)


@functools.partial(jax.jit, static_argnames=("module", "config"))
def _run(key, x_ND, module: nn.Module, config: MultiSigmaConfig) -> tuple[dict, dict, Array]:
    init_key, run_key = jax.random.split(key)
    params = module.init(init_key, x_ND[:1], config.sigma_max)["params"]
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))

    def step(carry, number):
        params, average, state = carry
        loss, gradient = jax.value_and_grad(_objective)(
            params, jax.random.fold_in(run_key, number), x_ND, module, config
        )
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        average = optax.incremental_update(params, average, 1 - config.ema_decay)
        return (params, average, state), loss

    carry = (params, params, optimizer.init(params))
    (params, average, _), loss_T = jax.lax.scan(step, carry, jnp.arange(config.steps))
    return params, average, loss_T


def train_multi_sigma(
    key: PRNGKeyArray, x_ND: Float[np.ndarray, "N D"], config: MultiSigmaConfig
) -> MultiSigmaResult:
    """Train one multi-σ net from a random start, in one compiled call. Equal keys, equal nets.

    Args:
      key: of initialization, minibatches, noise levels and noise.
      x_ND: training samples; any scale, but `PreconditionedDAE` expects zero mean.
      config: see `MultiSigmaConfig`.

    Raises:
      InputError: for unusable data, or when training diverges to NaN.
    """
    x_ND = check_samples(x_ND)
    module = _make_module(x_ND, config)
    params, average, loss_T = _run(key, jnp.asarray(x_ND, config.dtype), module, config)
    leaves = [loss_T, *jax.tree.leaves(params)]
    if not all(jnp.all(jnp.isfinite(leaf)) for leaf in leaves):
        raise InputError(
            f"training diverged (not finite); lower learning_rate={config.learning_rate}"
        )
    return MultiSigmaResult(module, params, average, loss_T)
