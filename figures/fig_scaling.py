"""How sweeps scale: wall time and peak memory against the number of cells.

(a): warm wall time of each sweep (points: every run, line: power law fitted to the medians). (b):
cells/s of the same runs, and the most that other devices could do by the roofline of
`benchmarks.scaling`, on paper. (c): peak memory of the process, which imports and compilation
dominate.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from figures.style import (
    GENERALIZING,
    MEMORIZING,
    NEUTRAL,
    THEORY,
    TWO_COLUMNS,
    new_figure,
    panel_title,
)
from figures.sweeps import ScalingResults

ID = "scaling"
SOURCE = ScalingResults
REGIMES: tuple[str, ...] = ()
NEEDS: tuple[str, ...] = ()


def draw(results: ScalingResults) -> Figure:
    """The figure for one benchmark."""
    report = results.report
    sweeps = report["sweeps"]
    cells = np.array([sweep["cells"] for sweep in sweeps])
    seconds = np.array([sweep["wall_s"] for sweep in sweeps])
    runs = [(c, s) for c, sweep in zip(cells, sweeps, strict=True) for s in sweep["warm_s"]]
    run_cells, run_seconds = np.array(runs).T
    figure = new_figure(TWO_COLUMNS, 2.2)
    time, rate, memory = figure.subplots(1, 3)
    look = {"color": GENERALIZING, "mfc": "white", "ls": "none", "marker": "o"}

    slope, offset = np.polyfit(np.log(cells), np.log(seconds), 1)
    time.plot(run_cells, run_seconds, **look)
    label = f"cells$^{{{slope:.2f}}}$"
    time.plot(cells, np.exp(offset) * cells**slope, color=THEORY, ls="--", label=label)
    time.legend()
    _finish(time, cells, "wall time, warm (s)")
    panel_title(time, "a", "wall time")

    rate.plot(run_cells, run_cells / run_seconds, label="measured here", **look)
    for bound, colour, style in zip(report["rooflines"], (MEMORIZING, NEUTRAL), "-:", strict=False):
        rate.axhline(bound["cells_per_s"], color=colour, ls=style, label=f"{bound['device']} bound")
    rate.legend()
    _finish(rate, cells, "cells/s")
    panel_title(rate, "b", "throughput")

    peaks = [sweep["peak_mib"] for sweep in sweeps]
    memory.plot(cells, peaks, **look)
    _finish(memory, cells, "peak memory (MiB)")
    memory.set(yscale="linear", ylim=(0, 1.2 * max(peaks)))
    panel_title(memory, "c", "memory")
    return figure


def _finish(axes: Axes, cells: np.ndarray, label: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel="cells of the sweep", ylabel=label)
    axes.set_xticks(cells, [str(c) for c in cells])
    axes.xaxis.set_minor_locator(NullLocator())
