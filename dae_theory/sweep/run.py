"""All cells of a sweep that its folder does not hold yet: compute, write, go on after a kill."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from dae_theory.checks import InputError
from dae_theory.relu.batch import MEMORY_SHARE, free_memory
from dae_theory.sweep import store as store
from dae_theory.sweep.batch import compute_batch, local_mesh
from dae_theory.sweep.plan import Batch, Cell, SweepConfig, load_source, plan_batches

BATCH_CELLS = 256


class Summary(NamedTuple):
    """What `run_sweep` did: cells ``computed`` now and ``kept`` from before, of all cells of this
    process; the time it took, and of it the time to compile."""

    computed: int
    kept: int
    total: int
    wall_s: float
    compile_s: float


def unfinished(
    batches: Sequence[Batch], finished: set[int]
) -> list[tuple[Batch, tuple[Cell, ...]]]:
    """Batches with those of their cells that are still to be computed, if there are any."""
    left = [(b, tuple(cell for cell in b.cells if cell.index not in finished)) for b in batches]
    return [(batch, cells) for batch, cells in left if cells]


def run_sweep(
    config: SweepConfig,
    out: str | Path,
    *,
    memory_gb: float | None = None,
    batch_cells: int = BATCH_CELLS,
    announce: Callable[[str], None] = lambda line: None,
    progress: Callable[[float, int], None] = lambda done, total: None,
) -> Summary:
    """Compute all cells of a sweep that its folder does not hold yet, in float32.

    Under `jax.distributed` each process computes its share of the cells on its own devices and
    writes its own parts; `store.merge` joins them.

    Args:
      out: the folder; see `store`.
      memory_gb: memory of this host that a batch may take (`plan.memory_bytes`); default
        half of what is free.
      batch_cells: most cells of a batch, the unit of what is kept.
      announce: called with a line that says what is going to be done.
      progress: called with the number of cells done, possibly in part, and to do.

    Raises:
      InputError: for unusable data, a cell that does not fit the memory, or a folder that holds
        another sweep.
      OSError: when the folder cannot be written; what is there is kept.
    """
    start = time.monotonic()
    source = load_source(config)
    process, processes = jax.process_index(), jax.process_count()
    mesh = local_mesh()
    free = MEMORY_SHARE * free_memory(mesh.devices.flat)
    memory = free if memory_gb is None else memory_gb * 1e9
    if not memory > 0:
        raise InputError(f"memory_gb: must be > 0, got {memory_gb}")
    batches = plan_batches(config, source, mesh.size, memory, batch_cells, process, processes)
    total = sum(len(batch.cells) for batch in batches)
    out = Path(out)
    with (
        jax.enable_x64(False),
        jax.default_matmul_precision("highest"),
        store.open_folder(out, config, source, process, processes),
    ):
        if source.note:
            announce(f"{source.name}: {source.note}")
        work = unfinished(batches, store.finished_cells(out))
        count = sum(len(cells) for _, cells in work)
        largest = max((batch.cost for batch in batches), default=0)
        announce(
            f"{count} cells to compute, {total - count} kept, in {len(work)} batches on "
            f"{mesh.size} {jax.local_devices()[0].platform} devices; about {largest / 1e9:.3g} GB "
            f"of {memory / 1e9:.3g} GB a batch"
        )
        done, compile_s, programs = 0, 0.0, {}
        for batch, cells in work:
            columns, weights, seconds = compute_batch(
                batch,
                cells,
                config,
                source,
                mesh,
                programs,
                functools.partial(_report_share, progress, done, len(cells), count),
            )
            compile_s += seconds
            kept_weights = weights if config.save_weights else None
            store.write_part(out, cells, columns, kept_weights, process)
            done += len(cells)
            progress(done, count)
    return Summary(count, total - count, total, time.monotonic() - start, compile_s)


def _report_share(progress, done: int, count: int, total: int, share: float) -> None:
    progress(done + share * count, total)
