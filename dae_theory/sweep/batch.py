"""One batch of a sweep: build its nets and data, compile, train, measure."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dae_theory.diffusion.denoisers import spectral_mixture_denoiser
from dae_theory.relu.batch import Net, NetSpec, advance_nets, init_nets, pad_samples
from dae_theory.relu.optimize import Level, TrainConfig, record_stride
from dae_theory.sweep.measure import MEASURES, Blocks, Problem, cluster_blocks, measure_net
from dae_theory.sweep.plan import (
    Batch,
    Cell,
    Source,
    SweepConfig,
    measured_at_once,
    train_config,
    training_samples,
)


class Inputs(NamedTuple):
    """Data of a batch on the devices: E data sets (E, N, D) with weights (E, N) and, where they
    are known, clusters; the held-out samples (T, D); the arguments of `spectral_mixture_denoiser`
    where the mixture is known."""

    x: jax.Array
    weight: jax.Array
    blocks: Blocks | None
    held_out: jax.Array
    mixture: tuple[jax.Array, ...] | None


def local_mesh() -> Mesh:
    """The devices of this process, in a row."""
    return Mesh(np.array(jax.local_devices()), ("nets",))


def measure_nets(nets_B: Net, inputs: Inputs, mesh: Mesh, group: int) -> dict[str, jax.Array]:
    """MEASURES of B nets, spread over the mesh, ``group`` at once on each device."""

    def measure(net: Net, inputs: Inputs, truth):
        which = net.spec.which
        blocks = jax.tree.map(lambda leaf: leaf[which], inputs.blocks)
        problem = Problem(inputs.x[which], inputs.weight[which], net.spec.level, blocks)
        # No training step has this number.
        key = jax.random.fold_in(net.spec.key, 2**32 - 1)
        w1, w2 = net.params[0], net.params[-1]
        return measure_net(key, w1, w2, net.spec.width, problem, inputs.held_out, truth)

    def measure_share(nets_B, inputs):
        truth = None if inputs.mixture is None else spectral_mixture_denoiser(*inputs.mixture)
        return jax.lax.map(lambda net: measure(net, inputs, truth), nets_B, batch_size=group)

    return jax.shard_map(
        measure_share, mesh=mesh, in_specs=(P("nets"), P()), out_specs=P("nets"), check_vma=False
    )(nets_B, inputs)


measure_nets_jit = jax.jit(measure_nets, static_argnames=("mesh", "group"))


def batch_nets(batch: Batch, cells: Sequence[Cell], settings: TrainConfig, mesh: Mesh) -> Net:
    """The nets of a batch at their starts; the last are repeats when there are fewer cells."""
    rows = [cells[i % len(cells)] for i in range(batch.size)]
    data_sets = _data_sets(cells)
    keys = jax.vmap(jax.random.key)(jnp.array([cell.seed for cell in rows], jnp.uint32))
    level = Level(
        jnp.array([cell.sigma for cell in rows], jnp.float32),
        jnp.array([cell.lam for cell in rows], jnp.float32),
    )
    which = jnp.array([data_sets.index((cell.seed, cell.n)) for cell in rows])
    specs = NetSpec(keys, which, jnp.array([cell.p for cell in rows]), level)
    return jax.device_put(init_nets(specs, batch.sizes.d, settings), NamedSharding(mesh, P("nets")))


def _data_sets(cells: Sequence[Cell]) -> list[tuple[int, int]]:
    return sorted({(cell.seed, cell.n) for cell in cells})


def batch_inputs(batch: Batch, cells: Sequence[Cell], source: Source, mesh: Mesh) -> Inputs:
    """The data of a batch, padded to its static sizes, on all devices."""
    keys = _data_sets(cells)
    keys += keys[:1] * (batch.data_sets - len(keys))
    samples = [training_samples(source, seed, n) for seed, n in keys]
    # A data set of the largest size, dropped again, sets the padded length.
    filler = np.zeros((batch.sizes.n, batch.sizes.d))
    x_END, weight_EN = (a[:-1] for a in pad_samples([*(x for x, _ in samples), filler]))
    blocks = None
    if source.mixture is not None:
        clusters = len(source.mixture.priors)
        found = [cluster_blocks(x, labels, clusters, batch.sizes.n) for x, labels in samples]
        blocks = Blocks(*(np.stack(arrays) for arrays in zip(*found, strict=True)))
    mixture = source.mixture
    if mixture is not None:
        # On the host: LAPACK calls on several CPU devices at once can wait for each other forever.
        mixture = (mixture.means, *np.linalg.eigh(mixture.covs), mixture.priors)
    arrays = Inputs(x_END, weight_EN, blocks, source.held_out, mixture)
    arrays = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), arrays)
    return jax.device_put(arrays, NamedSharding(mesh, P()))


class Programs(NamedTuple):
    """The compiled programs of a batch shape: one stretch of training, and the measurement."""

    advance: jax.stages.Compiled
    measure: jax.stages.Compiled


def compile_programs(
    batch: Batch, nets_B: Net, inputs: Inputs, settings: TrainConfig, mesh: Mesh
) -> Programs:
    """Compile for the shapes of this batch; batches of the same shape share the programs."""
    group = measured_at_once(batch.sizes, batch.size // mesh.size)
    advance = advance_nets.lower(
        nets_B, jnp.int32(0), inputs.x, inputs.weight, settings, mesh, batch.group
    )
    measure = measure_nets_jit.lower(nets_B, inputs, mesh, group)
    return Programs(advance.compile(), measure.compile())


def run_batch(
    batch: Batch,
    cells: Sequence[Cell],
    nets_B: Net,
    inputs: Inputs,
    programs: Programs,
    settings: TrainConfig,
    tick: Callable[[float], None],
) -> tuple[dict[str, Sequence], dict[str, np.ndarray]]:
    """Train and measure; returns the columns of the table and the weights (B, D, P).

    A net that is not finite is marked 'nan' and has no measures; the others do not notice.
    ``tick`` is told the share of the batch that is done.
    """
    records, stride = record_stride(settings)
    for record in range(records):
        nets_B, loss_B, _ = programs.advance(
            nets_B, jnp.int32(record * stride), inputs.x, inputs.weight
        )
        jax.block_until_ready(loss_B)
        tick((record + 1) / (records + 1))
    count = len(cells)
    measures, loss_B, params = jax.device_get(
        (programs.measure(nets_B, inputs), loss_B, nets_B.params)
    )
    w1, w2 = (np.asarray(params[i][:count]) for i in (0, -1))
    finite = np.isfinite(loss_B[:count])
    finite &= np.all(np.isfinite(w1), axis=(1, 2)) & np.all(np.isfinite(w2), axis=(1, 2))
    columns: dict[str, Sequence] = {
        name: np.where(finite, values[:count], np.nan).astype(float)
        for name, values in ({"train_loss": loss_B} | measures).items()
    }
    columns["status"] = np.where(finite, "ok", "nan").tolist()
    columns["note"] = ["" if ok else "weights or loss not finite" for ok in finite]
    return columns, {"w1": w1, "w2": w2}


def failed_columns(count: int, error: Exception) -> dict[str, Sequence]:
    """The columns of cells that could not be computed."""
    nothing = np.full(count, np.nan)
    note = (str(error).splitlines() or [type(error).__name__])[0][:200]
    columns: dict[str, Sequence] = dict.fromkeys(("train_loss", *MEASURES), nothing)
    return columns | {"status": ["failed"] * count, "note": [note] * count}


def compute_batch(
    batch: Batch,
    cells: Sequence[Cell],
    config: SweepConfig,
    source: Source,
    mesh: Mesh,
    programs: dict,
    tick: Callable[[float], None],
) -> tuple[dict[str, Sequence], dict[str, np.ndarray] | None, float]:
    """Columns, weights, and seconds until the programs of a new shape are there; ``programs`` keeps
    those compiled before.

    When the device gives up (out of memory, say) the cells are marked 'failed'.
    """
    settings = train_config(config, batch.sizes.p)
    start = time.monotonic()
    compile_s, weights = 0.0, None
    try:
        shape = (batch.sizes, batch.size, batch.data_sets)
        nets_B = batch_nets(batch, cells, settings, mesh)
        inputs = batch_inputs(batch, cells, source, mesh)
        if shape not in programs:
            programs[shape] = compile_programs(batch, nets_B, inputs, settings, mesh)
            compile_s = time.monotonic() - start
        columns, weights = run_batch(batch, cells, nets_B, inputs, programs[shape], settings, tick)
    except jax.errors.JaxRuntimeError as error:
        columns = failed_columns(len(cells), error)
    wall_s = time.monotonic() - start - compile_s
    return columns | {"wall_s": np.full(len(cells), wall_s / len(cells))}, weights, compile_s
