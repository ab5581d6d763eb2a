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
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import machine
from dae_theory.checks import InputError, check_count
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.files import write_settings
from dae_theory.statistics import log_log_slope
from dae_theory.sweep.plan import BYTES, OPTIMIZER_COPIES, SweepConfig
from dae_theory.sweep.run import run_sweep

MANY = 10_000  # cells


@dataclass(frozen=True)
class Options:
    """The command's options."""

    out: str | None = option(None, "Folder for scaling.json.")
    cells: tuple[int, ...] = option((16, 64, 256, 1024), "Cells of each sweep.")
    steps: int = option(2000, "Optimizer steps.")
    n: int = option(16, "Training samples.")
    p: int = option(16, "Units.")
    dimension: int = option(32, "Features.")
    repeats: int = option(3, "Warm runs of each sweep.")

    def __post_init__(self) -> None:
        if self.out is None:
            raise InputError("out: say where the results go, --out=DIR")
        check_count(self.repeats, "repeats")
        cells = self.cells
        if len(cells) < 2 or list(cells) != sorted(set(cells)) or cells[0] < 1:
            raise InputError(
                f"cells: need at least two increasing numbers, got {','.join(map(str, cells))}"
            )

    def sweep(self, cells: int) -> SweepConfig:
        """A sweep of so many seeds."""
        return SweepConfig(
            n=(self.n,), p=(self.p,), seeds=cells, steps=self.steps, dimension=self.dimension
        )


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
    print(json.dumps(measure_sweep(SweepConfig(**lists), fields["repeats"])))


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
        "exponent": log_log_slope([s["cells"] for s in sweeps], [s["wall_s"] for s in sweeps]),
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
    return run_main(measure_sizes, Options, argv, __doc__)


def measure_sizes(options: Options) -> int:
    """Measure each size, write the report and print it."""
    configs = [options.sweep(cells) for cells in options.cells]
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    sweeps = []
    for config in configs:
        sweeps.append(measure_apart(config, options.repeats))
        print(f"{config.seeds} cells: {sweeps[-1]['wall_s']:.2f} s warm", flush=True)
    report = report_of(configs[-1], sweeps, machine.matmul_gflops())
    write_settings(out / "scaling.json", report)
    print("\n".join(lines_of(report)))
    return 0


if __name__ == "__main__":
    configure_jax(float64=False, compilation_cache=False)
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        run_specification(sys.argv[1])
    else:
        sys.exit(main(sys.argv))
