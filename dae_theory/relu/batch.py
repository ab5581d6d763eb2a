"""Many nets in one compiled program: padding of samples and units, spreading over devices."""

import functools
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dae_theory.checks import InputError, check_samples
from dae_theory.relu.model import init_weights
from dae_theory.relu.optimize import Level, TrainConfig, make_optimizer, record_stride, train_steps
from dae_theory.relu.units import live_units

MEMORY_SHARE = 0.5  # of what is free, taken unless the user says otherwise
CPU_CACHED_WEIGHTS = 2**16  # weights per matrix that a core works on at once without cache misses


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
        spec.key,
        net.params,
        net.optimizer,
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


def free_memory(devices: Iterable[jax.Device]) -> float:
    """Bytes free on these devices of this host."""
    devices = list(devices)
    if devices[0].platform == "cpu":
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    stats = [device.memory_stats() or {} for device in devices]
    return float(sum(s.get("bytes_limit", 0) - s.get("bytes_in_use", 0) for s in stats))
