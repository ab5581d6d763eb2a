"""Training by stochastic gradients: a pure step, scanned over time, vmapped over seeds and data.

A `TrainConfig` fixes everything but the data and the key. `train` trains one net; `train_many`
trains every seed on every data set in one compiled call, data sets of different size being
padded and masked (`pad_samples`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dae_theory.checks import InputError, check_count, check_noise_and_decay
from dae_theory.relu.loss import exact_loss, sampled_error, weight_penalty

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "linear", "cosine")
GRADIENTS = ("sampled", "exact")


@dataclass(frozen=True)
class TrainConfig:
    """How to train one net.

    Attributes:
      width: number of units P.
      sigma: noise level σ, in data units.
      lam: weight decay λ of objective (1), without ½. 'adamw' instead applies it decoupled
        from the gradient, as weight decay 2λ (4λ tied), and so stops at a different point.
      steps: optimizer steps.
      optimizer: 'adam', 'adamw', 'rmsprop' (with the constants of PyTorch) or 'sgd' (plain).
      learning_rate: at the start.
      schedule: 'constant', or 'linear' or 'cosine' decay to 0 over ``steps``.
      batch_size: samples per step, drawn with replacement; None means all of them.
      draws: noise draws per sample and step.
      gradient: 'sampled' noise, or the 'exact' expected gradient (needs no noise; slower).
      tied: one weight matrix, W2 = W1.
      init_scale: norm of a column at the start.
      records: how many equally spaced times the trace holds.
      dtype: of weights and arithmetic.
    """

    width: int
    sigma: float
    lam: float
    steps: int = 4000
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    batch_size: int | None = None
    draws: int = 1
    gradient: str = "sampled"
    tied: bool = False
    init_scale: float = 1.0
    records: int = 20
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("width", "steps", "draws", "records"):
            check_count(getattr(self, name), name)
        if self.batch_size is not None:
            check_count(self.batch_size, "batch_size")
        check_noise_and_decay(self.sigma, self.lam)
        for name, allowed in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("gradient", GRADIENTS),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning_rate: must be finite and > 0, got {self.learning_rate}")


class Level(NamedTuple):
    """Noise level σ and weight decay λ of one net, scalars that may be traced."""

    sigma: Float[Array, ""]
    lam: Float[Array, ""]


def level_of(config: TrainConfig) -> Level:
    """σ and λ of the config, in its dtype."""
    dtype = jnp.dtype(config.dtype)
    return Level(jnp.asarray(config.sigma, dtype), jnp.asarray(config.lam, dtype))


def make_optimizer(
    config: TrainConfig, lam: Float[Array, ""] | None = None
) -> optax.GradientTransformation:
    """The optax optimizer a config describes; ``lam``, if given, replaces the config's λ."""
    lam = config.lam if lam is None else lam
    rate = config.learning_rate
    if config.schedule == "linear":
        rate = optax.linear_schedule(rate, 0.0, config.steps)
    elif config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, config.steps)
    if config.optimizer == "adamw":
        # The gradient of λ (‖W1‖² + ‖W2‖²); a tied matrix counts twice.
        return optax.adamw(rate, weight_decay=(4 if config.tied else 2) * lam)
    if config.optimizer == "rmsprop":
        return optax.rmsprop(rate, decay=0.99, eps_in_sqrt=False)
    return {"adam": optax.adam, "sgd": optax.sgd}[config.optimizer](rate)


def _drawn_noise(key, shape: tuple[int, int, int], dtype) -> Float[Array, "N M D"]:
    """Standard normal numbers; those of a sample do not depend on how many samples there are."""
    n_samples, draws, n_features = shape
    keys_N = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n_samples))
    # Half the work: the default hashes once per number, this once per two. What the default is
    # for, one array spread over devices, does not happen here: a net lives on one device.
    with jax.threefry_partitionable(False):
        return jax.vmap(lambda key: jax.random.normal(key, (draws, n_features), dtype))(keys_N)


def _objective(
    params_PD, sample_key, noise_key, x_ND, weight_N, config: TrainConfig, level: Level
) -> Array:
    """Training loss of one step; ``params_PD`` is (W1ᵀ, W2ᵀ), or (W1ᵀ,) when tied.

    No random number depends on how many samples are padding.
    """
    w1_DP, w2_DP = params_PD[0].T, params_PD[-1].T
    sigma, decay = level.sigma, 0.0 if config.optimizer == "adamw" else level.lam
    if config.batch_size is not None:
        count = jnp.sum(weight_N > 0)
        x_ND = x_ND[jax.random.randint(sample_key, (config.batch_size,), 0, count)]
        weight_N = jnp.full(config.batch_size, 1 / config.batch_size, x_ND.dtype)
    if config.gradient == "exact":
        loss = exact_loss(w1_DP, w2_DP, x_ND, sigma, 0.0, weight_N)
    else:
        n_samples, n_features = x_ND.shape
        noise_NMD = _drawn_noise(noise_key, (n_samples, config.draws, n_features), x_ND.dtype)
        noise_MND = jnp.moveaxis(noise_NMD, 0, 1)
        loss = sampled_error(w1_DP, w2_DP, x_ND, noise_MND, sigma, weight_N)
    # Of the transposed matrices: it is the same, and its gradient needs no transposing.
    return loss + weight_penalty(params_PD[0], params_PD[-1], decay)


def _transposed(leaf: Array) -> Array:
    return leaf.T if leaf.ndim == 2 else leaf


def train_steps(
    key: PRNGKeyArray,
    params: tuple[Float[Array, "D P"], ...],
    state: optax.OptState,
    steps_T: Int[Array, " T"],
    x_ND: Float[Array, "N D"],
    weight_N: Float[Array, " N"],
    config: TrainConfig,
    level: Level | None = None,
) -> tuple[tuple[Float[Array, "D P"], ...], optax.OptState, Float[Array, " T"]]:
    """The optimizer steps of these numbers; returns parameters, optimizer state and losses.

    Args:
      key: of the net; a step's number is folded in.
      params: (W1, W2), or (W1,) when tied.
      state: of `make_optimizer`.
      weight_N: sample weights, equal but for padding, which comes last and has weight 0.
      level: replaces σ and λ of the config, and may be traced.
    """
    level = level_of(config) if level is None else level
    optimizer = make_optimizer(config, level.lam)

    def step(carry, keys):
        params_PD, state = carry
        loss, gradient = jax.value_and_grad(_objective)(
            params_PD, *keys, x_ND, weight_N, config, level
        )
        updates, state = optimizer.update(gradient, state, params_PD)
        return (optax.apply_updates(params_PD, updates), state), loss

    # Units as rows: on a CPU the products of a step then take a third of the time.
    start = jax.tree.map(_transposed, (params, state))
    # All at once: a hash of a few numbers in every step would take longer.
    keys_T2 = jax.vmap(lambda number: jax.random.split(jax.random.fold_in(key, number)))(steps_T)
    carry, losses_T = jax.lax.scan(step, start, keys_T2)
    return *jax.tree.map(_transposed, carry), losses_T


def record_stride(config: TrainConfig) -> tuple[int, int]:
    """Number of records and steps between two: the most records, up to ``config.records``, that
    divide ``config.steps``."""
    records = min(config.records, config.steps)
    while config.steps % records:
        records -= 1
    return records, config.steps // records
