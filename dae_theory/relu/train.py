"""relu.train."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dae_theory.checks import InputError
from dae_theory.relu.batch import Net, NetSpec, advance_nets, init_nets, pad_samples
from dae_theory.relu.optimize import Level, TrainConfig, record_stride


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


def train_many(
    keys: PRNGKeyArray,
    data_sets: Sequence[Float[np.ndarray, "N D"]],
    config: TrainConfig,
    progress: Callable[[int], None] | None = None,
    *,
    levels: Sequence[tuple[float, float]] | None = None,
) -> TrainResult:
    """Train every seed on every data set, in one compiled program, on all local devices.

    Args:
      keys: random keys (initialization, minibatches and noise), one per seed: (S,) for all data
        sets, or (E, S) for each its own.
      data_sets: E arrays (N_e, D); sizes may differ.
      config: the same for all.
      progress: called with the number of steps done after every record.
      levels: noise level σ and weight decay λ of each data set, instead of the config's.

    Returns:
      TrainResult with leading axes (E, S).

    Raises:
      InputError: for unusable data, or when training diverges to NaN.
    """
    x_END, weight_EN = pad_samples(data_sets)
    grid = (len(data_sets), keys.shape[-1])
    n_nets = grid[0] * grid[1]
    n_devices = min(jax.local_device_count(), n_nets)
    # Every device trains equally many nets: the last few may be repeats, dropped afterwards.
    net_B = np.arange(-(-n_nets // n_devices) * n_devices) % n_nets
    mesh = Mesh(np.array(jax.local_devices()[:n_devices]), ("nets",))
    spread, shared = NamedSharding(mesh, P("nets")), NamedSharding(mesh, P())
    levels = [(config.sigma, config.lam)] * grid[0] if levels is None else levels
    level_E = Level(*np.asarray(levels, config.dtype).T)
    nets_B = jax.device_put(_at_start(keys, net_B, level_E, grid, x_END.shape[-1], config), spread)
    x_END, weight_EN = (
        jax.device_put(np.asarray(array, config.dtype), shared) for array in (x_END, weight_EN)
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
    loss_BT, live_BT = (np.stack(jax.device_get(seen), axis=-1) for seen in (losses, lives))
    if not np.all(np.isfinite(loss_BT[:n_nets])):
        raise InputError(
            "training diverged (its loss is not finite) at learning rate "
            f"{config.learning_rate:g}; lower that, or divide the data and the noise level"
        )
    steps_BT = np.broadcast_to(stride * (1 + np.arange(records)), loss_BT.shape)
    result = TrainResult(nets_B.params[0], nets_B.params[-1], Trace(steps_BT, loss_BT, live_BT))
    return jax.tree.map(lambda leaf: leaf[:n_nets].reshape(*grid, *leaf.shape[1:]), result)


@functools.partial(jax.jit, static_argnames=("grid", "n_features", "config"))
def _at_start(
    keys: PRNGKeyArray,
    net_B: Int[Array, " B"],
    level_E: Level,
    grid: tuple[int, int],
    n_features: int,
    config: TrainConfig,
) -> Net:
    """Chosen nets of a grid of data sets and seeds, at their random starts."""
    which_B = net_B // grid[1]
    specs_B = NetSpec(
        jnp.broadcast_to(keys, grid).ravel()[net_B],
        which_B,
        jnp.full(len(net_B), config.width),
        jax.tree.map(lambda value_E: value_E[which_B], level_E),
    )
    return init_nets(specs_B, n_features, config)


def train(key: PRNGKeyArray, x_ND: Float[Array, "N D"], config: TrainConfig) -> TrainResult:
    """Train one net from a random start; see `train_many`. Equal keys give equal nets."""
    result = train_many(key[None], [x_ND], config)
    return jax.tree.map(lambda leaf: leaf[0, 0], result)
