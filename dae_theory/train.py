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
from dae_theory.loss import exact_loss, sampled_error, weight_penalty
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


class Level(NamedTuple):
    """Noise level σ and weight decay λ of one net, scalars that may be traced."""

    sigma: Float[Array, ""]
    lam: Float[Array, ""]


def _level(config: TrainConfig) -> Level:
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
    params: tuple[Float[Array, "D P"], ...],
    state: optax.OptState,
    key: PRNGKeyArray,
    steps_T: Int[Array, " T"],
    x_ND: Float[Array, "N D"],
    weight_N: Float[Array, " N"],
    config: TrainConfig,
    level: Level | None = None,
) -> tuple[tuple[Float[Array, "D P"], ...], optax.OptState, Float[Array, " T"]]:
    """The optimizer steps of these numbers; returns parameters, optimizer state and losses.

    Args:
      params: (W1, W2), or (W1,) when tied.
      state: of `make_optimizer`.
      key: of the net; a step's number is folded in.
      weight_N: sample weights, equal but for padding, which comes last and has weight 0.
      level: replaces σ and λ of the config, and may be traced.
    """
    level = _level(config) if level is None else level
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


class NetSpec(NamedTuple):
    """What distinguishes the nets of one call: random key, index of its data set, number of units
    (at most the config's width) and (σ, λ); each with a leading axis (B) for B nets."""

    key: PRNGKeyArray
    which: Int[Array, "*B"]
    width: Int[Array, "*B"]
    level: Level


class Net(NamedTuple):
    """State of one net in training; ``spec.key`` is the key of its steps."""

    params: tuple[Array, ...]
    optimizer: optax.OptState
    spec: NetSpec


def padded_weights(
    key: PRNGKeyArray, n_features: int, width: Int[Array, ""], config: TrainConfig
) -> tuple[Float[Array, "D P"], ...]:
    """Initial (W1, W2), or (W1,) when tied: ``width`` columns, then zero ones up to the config's.

    The columns are those of `init_weights` at that width: its random numbers fill the matrix row
    by row, so a narrower matrix holds the first of them. Zero columns never train: their gradient
    is zero.
    """
    wide = init_weights(
        key,
        n_features,
        config.width,
        tied=config.tied,
        scale=config.init_scale,
        dtype=jnp.dtype(config.dtype),
    )
    column_P = jnp.arange(config.width)
    flat_DP = jnp.arange(n_features)[:, None] * width + column_P

    def narrow(w_DP):
        return jnp.where(column_P < width, w_DP.ravel()[flat_DP], 0.0)

    return tuple(narrow(w_DP) for w_DP in (wide[:1] if config.tied else wide))


def _init_net(spec: NetSpec, n_features: int, config: TrainConfig) -> Net:
    init_key, run_key = jax.random.split(spec.key)
    params = padded_weights(init_key, n_features, spec.width, config)
    return Net(params, make_optimizer(config).init(params), spec._replace(key=run_key))


def _advance_net(net: Net, first_step, x_END, weight_EN, config: TrainConfig):
    """One stretch between two records: the net, its last loss and its number of live units."""
    spec = net.spec
    _, stride = record_stride(config)
    params, state, losses = train_steps(
        net.params,
        net.optimizer,
        spec.key,
        first_step + jnp.arange(stride),
        x_END[spec.which],
        weight_EN[spec.which],
        config,
        spec.level,
    )
    net = net._replace(params=params, optimizer=state)
    return net, losses[-1], jnp.sum(live_units(params[0], params[-1]))


def nets_per_batch(config: TrainConfig, n_features: int) -> int:
    """How many nets to vmap together: all on an accelerator, on a CPU what its cache holds."""
    if jax.default_backend() != "cpu":
        return 4096
    return max(1, CPU_CACHED_WEIGHTS // (n_features * config.width))


@functools.partial(jax.jit, static_argnames=("n_features", "config"))
def init_nets(specs_B: NetSpec, n_features: int, config: TrainConfig) -> Net:
    """B nets at their random starts."""
    return jax.vmap(lambda spec: _init_net(spec, n_features, config))(specs_B)


@functools.partial(jax.jit, static_argnames=("config", "mesh", "group"), donate_argnums=0)
def advance_nets(
    nets_B: Net,
    first_step: Int[Array, ""],
    x_END: Float[Array, "E N D"],
    weight_EN: Float[Array, "E N"],
    config: TrainConfig,
    mesh: Mesh,
    group: int | None = None,
) -> tuple[Net, Float[Array, " B"], Int[Array, " B"]]:
    """B nets one stretch of `record_stride` steps further, their last losses and live units.

    Nets are spread over the axis 'nets' of the mesh, which must divide B, and trained ``group`` at
    once on each device (default `nets_per_batch`).
    """
    group = nets_per_batch(config, x_END.shape[-1]) if group is None else group

    def advance_share(nets_B, first_step, x_END, weight_EN):
        def advance_net(net):
            return _advance_net(net, first_step, x_END, weight_EN, config)

        # A batch of one net would still be a batched product, slower than a plain one.
        at_once = min(group, len(nets_B.spec.which))
        return jax.lax.map(advance_net, nets_B, batch_size=at_once if at_once > 1 else None)

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
    widths_B = jnp.full(len(net_B), config.width)
    level_B = jax.tree.map(lambda value: jnp.full(len(net_B), value), _level(config))
    specs_B = NetSpec(keys_S[net_B % len(keys_S)], which_B, widths_B, level_B)
    nets_B = jax.device_put(init_nets(specs_B, x_END.shape[-1], config), spread)
    dtype = jnp.dtype(config.dtype)
    x_END, weight_EN = (
        jax.device_put(jnp.asarray(array, dtype), shared) for array in (x_END, weight_EN)
    )

    records, stride = record_stride(config)
    losses, lives = [], []
    for record in range(records):
        nets_B, loss_B, live_B = advance_nets(
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
