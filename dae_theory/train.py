"""Training by stochastic gradients: a pure step, scanned over time, vmapped over seeds and data.

A `TrainConfig` fixes everything but the data and the key. `train` trains one net; `train_many`
trains every seed on every data set in one compiled call, data sets of different size being
padded and masked (`pad_samples`).
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dae_theory.errors import InputError, check_count, check_noise_and_decay, check_samples
from dae_theory.loss import exact_loss, sampled_loss, weight_penalty
from dae_theory.model import init_weights

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "linear", "cosine")
GRADIENTS = ("sampled", "exact")
CPU_CACHED_WEIGHTS = 2**16  # weights per matrix that a core works on at once without cache misses
LIVE_FRACTION = 1e-3  # a unit is live when ‖w1‖‖w2‖ exceeds this fraction of the largest


@dataclass(frozen=True)
class TrainConfig:
    """How to train one net.

    Attributes:
      width: number of units P.
      sigma: noise level σ, in data units.
      lam: weight decay λ of objective (1), without ½. 'adamw' instead applies it decoupled
        from the gradient, as weight decay 2λ (4λ tied), and so stops at a different point.
      steps: optimizer steps.
      optimizer: 'adam', 'adamw', 'rmsprop' or 'sgd' (plain).
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


class Trace(NamedTuple):
    """What was seen at the recorded times (T): ``steps`` done, training ``loss`` of the last
    step before (one noise draw), number of ``live`` units."""

    steps: Int[Array, " T"]
    loss: Float[Array, " T"]
    live: Int[Array, " T"]


class TrainResult(NamedTuple):
    """Trained weights ``w1``, ``w2`` (..., D, P) and the ``trace`` of training (..., T)."""

    w1: Float[Array, "D P"]
    w2: Float[Array, "D P"]
    trace: Trace


def live_units(w1_DP: Float[Array, "*B D P"], w2_DP: Float[Array, "*B D P"]) -> Array:
    """Boolean mask (P) of the units with ‖w1_j‖‖w2_j‖ > 1e-3 of the largest (THEORY.md §9)."""
    xp = jnp if isinstance(w1_DP, jax.Array) else np
    product = xp.linalg.norm(w1_DP, axis=-2) * xp.linalg.norm(w2_DP, axis=-2)
    return product > LIVE_FRACTION * xp.max(product, axis=-1, keepdims=True)


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """The optax optimizer a config describes."""
    rate = config.learning_rate
    if config.schedule == "linear":
        rate = optax.linear_schedule(rate, 0.0, config.steps)
    elif config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, config.steps)
    if config.optimizer == "adamw":
        # The gradient of λ (‖W1‖² + ‖W2‖²); a tied matrix counts twice.
        return optax.adamw(rate, weight_decay=(4 if config.tied else 2) * config.lam)
    return {"adam": optax.adam, "rmsprop": optax.rmsprop, "sgd": optax.sgd}[config.optimizer](rate)


def _objective(params, key, x_ND, weight_N, config: TrainConfig) -> Array:
    """Training loss of one step; ``params`` is (W1, W2), or (W1,) when tied."""
    w1_DP, w2_DP = params[0], params[-1]
    decay = 0.0 if config.optimizer == "adamw" else config.lam
    sample_key, noise_key = jax.random.split(key)
    if config.batch_size is not None:
        chosen = jax.random.choice(sample_key, len(x_ND), (config.batch_size,), p=weight_N)
        x_ND = x_ND[chosen]
        weight_N = jnp.full(config.batch_size, 1 / config.batch_size, x_ND.dtype)
    if config.gradient == "exact":
        loss = exact_loss(w1_DP, w2_DP, x_ND, config.sigma, 0.0, weight_N)
    else:
        noise = jax.random.normal(noise_key, (config.draws, *x_ND.shape), x_ND.dtype)
        loss = sampled_loss(w1_DP, w2_DP, x_ND, noise, config.sigma, 0.0, weight_N)
    if config.tied:
        return loss + 2 * decay * jnp.sum(w1_DP**2)
    return loss + weight_penalty(w1_DP, w2_DP, decay)


def train_step(carry, step_key, x_ND, weight_N, config: TrainConfig):
    """One optimizer step: ``carry`` is (params, optimizer state); returns it and the loss."""
    params, state = carry
    loss, gradient = jax.value_and_grad(_objective)(params, step_key, x_ND, weight_N, config)
    updates, state = make_optimizer(config).update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), loss


def record_stride(config: TrainConfig) -> tuple[int, int]:
    """Number of records and steps between two: the most records, up to ``config.records``, that
    divide ``config.steps``."""
    records = min(config.records, config.steps)
    while config.steps % records:
        records -= 1
    return records, config.steps // records


class _Net(NamedTuple):
    """State of one net in training; ``which`` is the index of its data set."""

    params: tuple[Array, ...]
    optimizer: optax.OptState
    key: PRNGKeyArray
    which: Array


def _init_net(key, which, n_features: int, config: TrainConfig) -> _Net:
    init_key, run_key = jax.random.split(key)
    weights = init_weights(
        init_key,
        n_features,
        config.width,
        tied=config.tied,
        scale=config.init_scale,
        dtype=jnp.dtype(config.dtype),
    )
    params = weights[:1] if config.tied else weights
    return _Net(params, make_optimizer(config).init(params), run_key, which)


def _advance_net(net: _Net, first_step, x_END, weight_EN, config: TrainConfig):
    """One stretch between two records: the net, its last loss and its number of live units."""
    x_ND, weight_N = x_END[net.which], weight_EN[net.which]

    def step(carry, step_index):
        return train_step(carry, jax.random.fold_in(net.key, step_index), x_ND, weight_N, config)

    _, stride = record_stride(config)
    (params, state), losses = jax.lax.scan(
        step, (net.params, net.optimizer), first_step + jnp.arange(stride)
    )
    net = net._replace(params=params, optimizer=state)
    return net, losses[-1], jnp.sum(live_units(params[0], params[-1]))


def _nets_per_batch(config: TrainConfig, n_features: int) -> int:
    """How many nets to vmap together: all on an accelerator, on a CPU what its cache holds."""
    if jax.default_backend() != "cpu":
        return 4096
    return max(1, CPU_CACHED_WEIGHTS // (n_features * config.width))


@functools.partial(jax.jit, static_argnames=("config", "n_features"))
def _init_nets(keys_B, which_B, n_features: int, config: TrainConfig) -> _Net:
    return jax.vmap(lambda key, which: _init_net(key, which, n_features, config))(keys_B, which_B)


@functools.partial(jax.jit, static_argnames=("config", "mesh"), donate_argnums=0)
def _advance_nets(nets_B, first_step, x_END, weight_EN, config: TrainConfig, mesh: Mesh):
    batch = _nets_per_batch(config, x_END.shape[-1])

    def advance_share(nets_B, first_step, x_END, weight_EN):
        return jax.lax.map(
            lambda net: _advance_net(net, first_step, x_END, weight_EN, config),
            nets_B,
            batch_size=min(batch, len(nets_B.which)),
        )

    advance = jax.shard_map(
        advance_share,
        mesh=mesh,
        in_specs=(P("nets"), P(), P(), P()),
        out_specs=P("nets"),
        check_vma=False,
    )
    return advance(nets_B, first_step, x_END, weight_EN)


def pad_samples(
    data_sets: Sequence[Float[np.ndarray, "N D"]],
) -> tuple[Float[np.ndarray, "B N D"], Float[np.ndarray, "B N"]]:
    """Stack data sets of different size: zero rows are added, with sample weight 0.

    Weights sum to 1 over the true samples of each data set.
    """
    data_sets = [check_samples(x) for x in data_sets]
    widths = {x.shape[1] for x in data_sets}
    if len(widths) != 1:
        raise InputError(f"data sets must have the same number of features, got {sorted(widths)}")
    largest = max(len(x) for x in data_sets)
    padded = np.stack([np.pad(x, ((0, largest - len(x)), (0, 0))) for x in data_sets])
    weights = np.stack(
        [np.r_[np.full(len(x), 1 / len(x)), np.zeros(largest - len(x))] for x in data_sets]
    )
    return padded, weights


def train_many(
    keys_S: PRNGKeyArray,
    data_sets: Sequence[Float[np.ndarray, "N D"]],
    config: TrainConfig,
    progress: Callable[[int], None] | None = None,
) -> TrainResult:
    """Train every seed on every data set, in one compiled program, on all local devices.

    Args:
      keys_S: S random keys, one per seed (initialization, minibatches and noise).
      data_sets: E arrays (N_e, D); sizes may differ.
      config: the same for all.
      progress: called with the number of steps done after every record.

    Returns:
      TrainResult with leading axes (E, S).

    Raises:
      InputError: for unusable data, or when training diverges to NaN.
    """
    x_END, weight_EN = pad_samples(data_sets)
    n_nets = len(data_sets) * len(keys_S)
    n_devices = min(jax.local_device_count(), n_nets)
    # Every device trains equally many nets: the last few may be repeats, dropped afterwards.
    net_B = np.arange(-(-n_nets // n_devices) * n_devices) % n_nets
    mesh = Mesh(np.array(jax.local_devices()[:n_devices]), ("nets",))
    spread, shared = NamedSharding(mesh, P("nets")), NamedSharding(mesh, P())
    which_B = jnp.asarray(net_B // len(keys_S))
    nets_B = _init_nets(keys_S[net_B % len(keys_S)], which_B, x_END.shape[-1], config)
    nets_B = jax.device_put(nets_B, spread)
    dtype = jnp.dtype(config.dtype)
    x_END, weight_EN = (
        jax.device_put(jnp.asarray(array, dtype), shared) for array in (x_END, weight_EN)
    )

    records, stride = record_stride(config)
    losses, lives = [], []
    for record in range(records):
        nets_B, loss_B, live_B = _advance_nets(
            nets_B, record * stride, x_END, weight_EN, config, mesh
        )
        losses.append(loss_B)
        lives.append(live_B)
        if progress is not None:
            jax.block_until_ready(loss_B)
            progress((record + 1) * stride)
    loss_BT, live_BT = jnp.stack(losses, axis=-1), jnp.stack(lives, axis=-1)
    if not jnp.all(jnp.isfinite(loss_BT[:n_nets])):
        raise InputError(
            f"training diverged (loss is not finite); lower learning_rate={config.learning_rate}"
        )
    steps_BT = jnp.broadcast_to(stride * (1 + jnp.arange(records)), loss_BT.shape)
    result = TrainResult(nets_B.params[0], nets_B.params[-1], Trace(steps_BT, loss_BT, live_BT))
    grid = (len(data_sets), len(keys_S))
    return jax.tree.map(lambda leaf: leaf[:n_nets].reshape(*grid, *leaf.shape[1:]), result)


def train(key: PRNGKeyArray, x_ND: Float[Array, "N D"], config: TrainConfig) -> TrainResult:
    """Train one net from a random start; see `train_many`. Equal keys give equal nets."""
    result = train_many(key[None], [x_ND], config)
    return jax.tree.map(lambda leaf: leaf[0, 0], result)
