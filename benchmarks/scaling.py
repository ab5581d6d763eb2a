"""How sweeps scale: ``python -m benchmarks.scaling --out=DIR [--cells=16,64,256,1024]``.

Each size is a sweep in a fresh process, run once cold and then ``--repeats`` times warm: the
median of the warm wall times, the exponent of time against cells, the start-up (cold minus warm,
mostly compilation) and the peak memory of the process. From the largest sweep: cells/s, the time
for 10,000 cells, and what one A100 and a v5e-8 could do at most. Few small nets do not fill the
cores, so that time grows more slowly than cells; ``--n=64 --p=64 --dimension=64 --steps=500`` are
nets that do.

That bound is a roofline on paper, for the training steps alone: a step of a cell takes at least
`step_flops` over the peak, and `step_bytes` over the memory bandwidth if each array goes through
memory once. Peaks are vendor figures: NVIDIA's A100 datasheet (40 GB, SXM: float32 19.5 TFLOP/s
without tensor cores, 1,555 GB/s); Google Cloud's "TPU v5e" page (197 TFLOP/s in bfloat16, of which
a float32 product of precision 'highest' takes six passes, and 819 GB/s a chip). A TPU pads arrays
to tiles of 8×128; the bound counts the padding, as if nets shared no tile. Neither machine was
used. Writes DIR/scaling.json (figure 'scaling') and prints a table. Exit status 0, or 2 on bad
input.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from benchmarks import machine
from dae_theory.checks import InputError, check_count
from dae_theory.commands import parse_options
from dae_theory.sweep.__main__ import configure_jax
from dae_theory.sweep.plan import BYTES, OPTIMIZER_COPIES, SweepConfig
from dae_theory.sweep.run import run_sweep

MANY = 10_000  # cells
FLAGS = flags.FlagValues()


def _define_flags() -> None:
    both = {"flag_values": FLAGS}
    flags.DEFINE_string("out", None, "Folder for scaling.json.", **both)
    flags.DEFINE_list("cells", ["16", "64", "256", "1024"], "Cells of each sweep.", **both)
    flags.DEFINE_integer("steps", 2000, "Optimizer steps.", **both)
    flags.DEFINE_integer("n", 16, "Training samples.", **both)
    flags.DEFINE_integer("p", 16, "Units.", **both)
    flags.DEFINE_integer("dimension", 32, "Features.", **both)
    flags.DEFINE_integer("repeats", 3, "Warm runs of each sweep.", **both)
    flags.DEFINE_bool("help", False, "Print this help and stop.", **both)


_define_flags()


class Device(NamedTuple):
    """Peaks of one chip, per second; arrays are padded to ``tile`` in their last two dimensions."""

    name: str
    chips: int
    flops: float
    bytes: float
    tile: tuple[int, int]


DEVICES = (
    Device("A100", 1, 19.5e12, 1555e9, (1, 1)),
    Device("v5e-8", 8, 197e12 / 6, 819e9, (8, 128)),
)


def _padded(size: int, tile: int) -> int:
    return -(-size // tile) * tile


def step_flops(config: SweepConfig, tile: tuple[int, int] = (1, 1)) -> int:
    """FLOP of the five matrix products of one training step of a cell (h, x̂, the gradients of
    both matrices and of h), 2 B D P each; B draws of a minibatch."""
    rows = (config.batch_size or max(config.n)) * config.draws
    return (
        10
        * _padded(rows, tile[0])
        * _padded(config.dimension, tile[1])
        * _padded(max(config.p), tile[1])
    )


def step_bytes(config: SweepConfig, tile: tuple[int, int] = (1, 1)) -> int:
    """Bytes of one training step of a cell, each array written and read once.

    Weights, gradients and optimizer moments, D P for each matrix; samples (only read), noise and
    residual, B D; h and its gradient, B P.
    """
    rows = (config.batch_size or max(config.n)) * config.draws
    d, p = config.dimension, max(config.p)
    weights = (1 if config.tied else 2) * _padded(d, tile[0]) * _padded(p, tile[1])
    arrays = (2 + OPTIMIZER_COPIES[config.optimizer]) * weights
    samples = _padded(rows, tile[0]) * _padded(d, tile[1])
    hidden = _padded(rows, tile[0]) * _padded(p, tile[1])
    return BYTES * (2 * (arrays + 2 * samples + 2 * hidden) + samples)


def roofline(config: SweepConfig, device: Device) -> dict:
    """Most cells/s that a device can train, and what limits it."""
    flops, moved = step_flops(config, device.tile), step_bytes(config, device.tile)
    seconds = {"arithmetic": flops / device.flops, "memory": moved / device.bytes}
    limit = max(seconds, key=seconds.get)
    return {
        "device": device.name,
        "flop_per_step": flops,
        "bytes_per_step": moved,
        "limit": limit,
        "cells_per_s": device.chips / (seconds[limit] * config.steps),
    }


def sweep_config(cells: int) -> SweepConfig:
    """A sweep of so many seeds, of what the options say."""
    return SweepConfig(
        n=(FLAGS.n,),
        p=(FLAGS.p,),
        seeds=cells,
        steps=FLAGS.steps,
        dimension=FLAGS.dimension,
    )


def measure_sweep(config: SweepConfig, repeats: int) -> dict:
    """Run a sweep of this process cold and then warm, each in a new folder."""
    seconds = []
    for _ in range(repeats + 1):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            summary = run_sweep(config, folder)
            seconds.append(time.perf_counter() - begin)
    return {
        "cells": summary.total,
        "cold_s": seconds[0],
        "warm_s": seconds[1:],
        "wall_s": float(np.median(seconds[1:])),
        "startup_s": seconds[0] - float(np.median(seconds[1:])),
        "peak_mib": machine.peak_memory_mib(),
        "load_average": machine.load_average(),
    }


def measure_apart(config: SweepConfig, repeats: int) -> dict:
    """`measure_sweep` in a fresh process, which is this module given a specification."""
    spec = json.dumps({"config": dataclasses.asdict(config), "repeats": repeats})
    command = [sys.executable, "-m", "benchmarks.scaling", spec]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"sweep of {config.seeds} cells failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_specification(spec: str) -> None:
    """What the fresh process does: measure and print."""
    fields = json.loads(spec)
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in fields["config"].items()}
    configure_jax()
    print(json.dumps(measure_sweep(SweepConfig(**lists), fields["repeats"])))


def exponent(cells: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of log time against log cells, by least squares."""
    return float(np.polyfit(np.log(cells), np.log(seconds), 1)[0])


def report_of(config: SweepConfig, sweeps: list[dict], matmul_gflops: float) -> dict:
    """All results; ``config`` is that of the largest sweep, the last one."""
    largest = sweeps[-1]
    rate = largest["cells"] / largest["wall_s"]
    gflops = rate * config.steps * step_flops(config) / 1e9
    return {
        "command": " ".join(["python -m benchmarks.scaling", *sys.argv[1:]]),
        "machine": machine.describe() | {"matmul_gflops": matmul_gflops},
        "config": dataclasses.asdict(config),
        "sweeps": sweeps,
        "exponent": exponent([s["cells"] for s in sweeps], [s["wall_s"] for s in sweeps]),
        "memory_growth": largest["peak_mib"] / sweeps[0]["peak_mib"],
        "cells_per_s": rate,
        "many_cells": MANY,
        "many_cells_s": largest["startup_s"] + MANY / rate,
        "gflops": gflops,
        "share_of_matmul_peak": gflops / matmul_gflops,
        "rooflines": [roofline(config, device) for device in DEVICES],
    }


def lines_of(report: dict) -> list[str]:
    """The report as text."""
    lines = [f"{'cells':>6} {'warm s':>8} {'cells/s':>8} {'start-up s':>10} {'MiB':>6} {'load':>5}"]
    lines += [
        f"{s['cells']:6d} {s['wall_s']:8.2f} {s['cells'] / s['wall_s']:8.1f} "
        f"{s['startup_s']:10.1f} {s['peak_mib']:6.0f} {s['load_average']:5.1f}"
        for s in report["sweeps"]
    ]
    lines += [
        f"time ~ cells^{report['exponent']:.3f}; peak memory of the largest over the smallest "
        f"{report['memory_growth']:.2f}",
        f"{report['cells_per_s']:.3g} cells/s, {report['many_cells']} cells in "
        f"{report['many_cells_s']:.0f} s; {report['gflops']:.3g} GFLOP/s in products, "
        f"{100 * report['share_of_matmul_peak']:.1f}% of a large product's",
    ]
    lines += [
        f"{r['device']}, on paper: at most {r['cells_per_s']:.3g} cells/s, limited by {r['limit']} "
        f"({r['flop_per_step']:.3g} FLOP and {r['bytes_per_step']:.3g} bytes a step)"
        for r in report["rooflines"]
    ]
    return lines


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    try:
        FLAGS.unparse_flags()
        if not parse_options(FLAGS, argv, __doc__):
            return 0
        if FLAGS.out is None:
            raise InputError("out: say where the results go, --out=DIR")
        check_count(FLAGS.repeats, "repeats")
        cells = parse_cells(FLAGS.cells)
        configs = [sweep_config(count) for count in cells]
        out = Path(FLAGS.out)
        out.mkdir(parents=True, exist_ok=True)
        sweeps = []
        for config in configs:
            sweeps.append(measure_apart(config, FLAGS.repeats))
            print(f"{config.seeds} cells: {sweeps[-1]['wall_s']:.2f} s warm", flush=True)
        report = report_of(configs[-1], sweeps, machine.matmul_gflops())
        (out / "scaling.json").write_text(json.dumps(report, indent=1))
        print("\n".join(lines_of(report)))
    except (InputError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse_cells(texts: Sequence[str]) -> list[int]:
    """Increasing numbers of cells, at least two."""
    try:
        cells = [int(text) for text in texts]
    except ValueError:
        raise InputError(f"cells: expected whole numbers, got {','.join(texts)!r}") from None
    if len(cells) < 2 or cells != sorted(set(cells)) or cells[0] < 1:
        raise InputError(f"cells: need at least two increasing numbers, got {','.join(texts)}")
    return cells


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        run_specification(sys.argv[1])
    else:
        sys.exit(main(sys.argv))
