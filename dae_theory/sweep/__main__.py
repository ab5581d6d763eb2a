"""Sweeps over seeds × n × σ × λ × p, on one device or many: ``python -m dae_theory.sweep``.

Kill it at any moment and start it again with the same options: finished batches are kept. On
several hosts each computes its share of the cells; ``--merge`` joins them.
Exit status 0 when all is computed, 2 on bad input or a full disk, 3 on an unforeseen error.
"""

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import jax

from dae_theory.checks import InputError
from dae_theory.commands import ProgressBar, configure_jax, option, run_main
from dae_theory.sweep import store
from dae_theory.sweep.hosts import checked_meeting, meet
from dae_theory.sweep.plan import SweepConfig
from dae_theory.sweep.precision import precision_lines, precision_report
from dae_theory.sweep.run import BATCH_CELLS, run_sweep

LONGEST_WAIT_S = 30 * 24 * 3600


@dataclass(frozen=True)
class Options:
    """The command's options."""

    config: SweepConfig = field(default_factory=SweepConfig)
    out: str | None = option(None, "Folder of the results.")
    csv: bool = option(False, "Write results.csv as well as results.parquet.")
    merge: bool = option(False, "Join the parts of all processes in --out and stop.")
    memory_gb: float | None = option(None, "GB for a batch; default half of what is free.")
    batch_cells: int = option(BATCH_CELLS, "Most cells in a batch.")
    precision_check: bool = option(False, "Compare cell 0 with float64, and stop.")
    distributed: bool = option(False, "Several hosts, found by JAX (TPU, Slurm, …).")
    coordinator: str | None = option(None, "HOST:PORT of process 0 of several.")
    num_processes: int | None = option(None, "Processes, with --coordinator.")
    process_id: int | None = option(None, "0 … num_processes−1, with --coordinator.")
    wait_s: int = option(300, "Seconds to wait for the other processes, with --coordinator.")


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(sweep, Options, argv, __doc__)


def sweep(options: Options) -> int:
    """Check the precision, merge, or compute what is missing; returns the exit status."""
    if options.precision_check:
        print("\n".join(precision_lines(precision_report(options.config))))
        return 0
    if options.out is None:
        raise InputError("out: give a folder for the results, --out=DIR")
    out = Path(options.out)
    try:
        if not options.merge:
            join_processes(options)
            compute(options, out)
        if options.merge or jax.process_count() == 1:
            print_merged(out, options.csv)
    except OSError as error:
        raise InputError(
            f"out: cannot write to {out} ({error.strerror or error}); what is finished is kept: "
            "make room and run again"
        ) from error
    return 0


def join_processes(options: Options) -> None:
    """Connect to the other processes, if there are any.

    Raises:
      InputError: when they cannot be found; see `hosts.meet`.
    """
    # Who finishes first waits for the rest: JAX would end them all once one has left.
    patience = {"shutdown_timeout_seconds": LONGEST_WAIT_S}
    given = (options.coordinator, options.num_processes, options.process_id)
    if all(value is None for value in given):
        if options.distributed:
            try:
                jax.distributed.initialize(**patience)
            except (ValueError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"distributed: JAX finds no other hosts here ({reason}); give --coordinator, "
                    "--num_processes and --process_id"
                ) from error
        return
    if any(value is None for value in given):
        raise InputError("coordinator: give --coordinator, --num_processes and --process_id")
    meeting = checked_meeting(*given, options.wait_s)
    meet(meeting, lambda line: print(line, flush=True))
    jax.distributed.initialize(*given, initialization_timeout=options.wait_s, **patience)


def compute(options: Options, out: Path) -> None:
    """Run the sweep under a progress bar, and say how long it took."""
    with contextlib.closing(ProgressBar(rate="cells/s", after_s=0)) as bar:
        summary = run_sweep(
            options.config,
            out,
            memory_gb=options.memory_gb,
            batch_cells=options.batch_cells,
            announce=lambda line: print(line, flush=True),
            progress=lambda done, total: bar("cells", done, total),
        )
    seconds = summary.wall_s - summary.compile_s
    print(
        f"{summary.computed} cells in {summary.wall_s:.1f} s, {summary.compile_s:.1f} s of it to "
        f"compile; {summary.computed / seconds:.3g} cells/s"
    )


def print_merged(out: Path, csv: bool) -> None:
    """Merge and say what there is."""
    merged = store.merge(out, csv=csv)
    found = merged.table["status"].to_pylist()
    counts = ", ".join(f"{found.count(s)} {s}" for s in store.STATUSES if s in found)
    missing = f", {merged.missing} missing (run again)" if merged.missing else ""
    files = "results.parquet, results.csv" if csv else "results.parquet"
    print(f"{out}: {files}: {len(found)} cells: {counts}{missing}")


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
