"""Sweeps over seeds × n × σ × λ × p, on one device or many: ``python -m dae_theory.sweep``.

Kill it at any moment and start it again with the same options: finished batches are kept. On
several hosts each computes its share of the cells; ``--merge`` joins them.
Exit status 0 when all is computed, 2 on bad input or a full disk.
"""

import os
import sys
from dataclasses import fields
from pathlib import Path

import jax
from absl import flags
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from dae_theory.checks import InputError
from dae_theory.commands import parse_options
from dae_theory.sweep import store as store
from dae_theory.sweep.plan import SweepConfig
from dae_theory.sweep.precision import precision_lines, precision_report
from dae_theory.sweep.run import BATCH_CELLS, run_sweep

LONGEST_WAIT_S = 30 * 24 * 3600


class Rate(ProgressColumn):
    """Cells per second."""

    def render(self, task) -> Text:
        """As the bar shows it."""
        return Text("" if task.speed is None else f"{task.speed:.3g} cells/s")


LISTS = {"n": int, "sigma": float, "lam": float, "p": int}
HELP = {
    "n": "Training samples, separated by commas.",
    "sigma": "Noise levels, in data units, separated by commas.",
    "lam": "Weight decays λ of objective (1), separated by commas.",
    "p": "Units, separated by commas.",
    "seeds": "Seeds 0 … seeds−1: of weights, training samples and noise.",
    "data": "mixture, simplex, faces, patches, fashion_mnist, FILE.npy, FILE.npz or a folder.",
    "dimension": "Features of synthetic data.",
    "clusters": "Clusters of the mixture.",
    "alpha": "Spread of a cluster of the mixture, relative to its mean.",
    "size": "Side of patches, or to which the images of a folder are resized.",
    "limit": "Most samples that training and held-out samples are taken from.",
    "center": "Subtract the mean of image and file data.",
    "held_out": "Most samples held out for tests, at most a fifth of all.",
    "steps": "Optimizer steps.",
    "optimizer": "adam, adamw, rmsprop or sgd.",
    "learning_rate": "At the start.",
    "schedule": "constant, linear or cosine decay of the learning rate.",
    "batch": "Samples in a step; default all.",
    "draws": "Noise draws for each sample and step.",
    "gradient": "sampled noise, or the exact expected gradient.",
    "tied": "One weight matrix, W2 = W1.",
    "init_scale": "Norm of a column at the start.",
    "save_weights": "Keep the weights of every cell, in weights/*.npz.",
}
TYPES = {int: flags.DEFINE_integer, float: flags.DEFINE_float, bool: flags.DEFINE_bool}


def command_line() -> flags.FlagValues:
    """The command's options, unset."""
    values = flags.FlagValues()
    both = {"flag_values": values}
    for field in fields(SweepConfig):
        name = _flag(field.name)
        if name in LISTS:
            flags.DEFINE_list(name, [str(v) for v in field.default], HELP[name], **both)
        else:
            kind = int if field.default is None else type(field.default)
            define = TYPES.get(kind, flags.DEFINE_string)
            define(name, field.default, HELP[name], **both)
    flags.DEFINE_string("out", None, "Folder of the results.", **both)
    flags.DEFINE_bool("csv", False, "Write results.csv as well as results.parquet.", **both)
    flags.DEFINE_bool("merge", False, "Join the parts of all processes in --out and stop.", **both)
    flags.DEFINE_float("memory_gb", None, "GB for a batch; default half of what is free.", **both)
    flags.DEFINE_integer("batch_cells", BATCH_CELLS, "Most cells in a batch.", **both)
    flags.DEFINE_bool("precision_check", False, "Compare cell 0 with float64, and stop.", **both)
    flags.DEFINE_bool("distributed", False, "Several hosts, found by JAX (TPU, Slurm, …).", **both)
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 of several.", **both)
    flags.DEFINE_integer("num_processes", None, "Processes, with --coordinator.", **both)
    flags.DEFINE_integer("process_id", None, "0 … num_processes−1, with --coordinator.", **both)
    flags.DEFINE_bool("help", False, "Print this help and stop.", **both)
    return values


def _flag(field: str) -> str:
    return "batch" if field == "batch_size" else field


def parse_config(options: flags.FlagValues) -> SweepConfig:
    """The config that the options describe."""
    values = {field.name: options[_flag(field.name)].value for field in fields(SweepConfig)}
    for name, kind in LISTS.items():
        try:
            values[name] = tuple(kind(text) for text in values[name])
        except ValueError:
            raise InputError(
                f"{name}: expected numbers separated by commas, got {','.join(values[name])!r}"
            ) from None
    return SweepConfig(**values)


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    out = None
    try:
        options = command_line()
        if not parse_options(options, argv, __doc__):
            return 0
        config = parse_config(options)
        if options.precision_check:
            print("\n".join(precision_lines(precision_report(config))))
            return 0
        if options.out is None:
            raise InputError("out: give a folder for the results, --out=DIR")
        out = Path(options.out)
        if options.merge:
            print_merged(out, options.csv)
            return 0
        join_processes(options)
        return sweep_and_merge(config, out, options)
    except (InputError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: out: cannot write to {out} ({error.strerror or error}); what is finished is "
            "kept: make room and run again",
            file=sys.stderr,
        )
        return 2


def join_processes(options: flags.FlagValues) -> None:
    """Connect to the other processes, if there are any."""
    # Who finishes first waits for the rest: JAX would end them all once one has left.
    patience = {"shutdown_timeout_seconds": LONGEST_WAIT_S}
    given = (options.coordinator, options.num_processes, options.process_id)
    if all(value is None for value in given):
        if options.distributed:
            jax.distributed.initialize(**patience)
        return
    if any(value is None for value in given):
        raise InputError("coordinator: give --coordinator, --num_processes and --process_id")
    jax.distributed.initialize(*given, **patience)


def sweep_and_merge(config: SweepConfig, out: Path, options: flags.FlagValues) -> int:
    """Run the sweep under a progress bar; a process alone also merges."""
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} cells"),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=0)
        summary = run_sweep(
            config,
            out,
            memory_gb=options.memory_gb,
            batch_cells=options.batch_cells,
            announce=lambda line: print(line, flush=True),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    seconds = summary.wall_s - summary.compile_s
    print(
        f"{summary.computed} cells in {summary.wall_s:.1f} s, {summary.compile_s:.1f} s of it to "
        f"compile; {summary.computed / seconds:.3g} cells/s"
    )
    if jax.process_count() == 1:
        print_merged(out, options.csv)
    return 0


def print_merged(out: Path, csv: bool) -> None:
    """Merge and say what there is."""
    merged = store.merge(out, csv=csv)
    found = merged.table["status"].to_pylist()
    counts = ", ".join(f"{found.count(s)} {s}" for s in store.STATUSES if s in found)
    missing = f", {merged.missing} missing (run again)" if merged.missing else ""
    files = "results.parquet, results.csv" if csv else "results.parquet"
    print(f"{out}: {files}: {len(found)} cells: {counts}{missing}")


def configure_jax() -> None:
    """JAX settings of the entry point: a device for each core."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


if __name__ == "__main__":
    configure_jax()
    sys.exit(main(sys.argv))
