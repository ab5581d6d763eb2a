"""Where memorization turns into generalization: (n, p) and (n, σ) phase diagrams of a sweep.

Left: mean gain of the training samples relative to (5), 1 where the weights store each of them.
Middle: exact error on training samples over that on held-out ones, 1 where nothing is memorized.
Right: units that a noised training sample activates (participation ratio, collinear units merged),
1 where the representation is spiky. Colours are means over seeds. Points: the n at which the mean
crosses the level of its panel, interpolated in log n, with its 95% jackknife interval over seeds.
Dashed: n = p, the most samples that (5) can store. Dotted: n = K of a mixture, beyond which
samples share clusters and (2) takes the place of (5). What is not an axis is where the theory is
at its best: the largest p, the smallest σ and λ.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

from dae_theory.checks import InputError
from dae_theory.statistics import mean_interval
from dae_theory.sweep.plan import SweepConfig
from figures.style import (
    GENERALIZING,
    MEMORIZING,
    NEUTRAL,
    THEORY,
    TWO_COLUMNS,
    new_figure,
    panel_title,
)
from figures.sweeps import SweepResults

ID = "phases"
SOURCE = SweepResults
REGIMES: tuple[str, ...] = ()
NEEDS: tuple[str, ...] = ()
AXES = {"p": "units p", "sigma": "noise level σ"}
SYMBOLS = {"p": "p", "sigma": "σ"}
TO_BLUE = LinearSegmentedColormap.from_list("to_blue", [MEMORIZING, "white", GENERALIZING])
MOST_TICKS = 5


class Measure(NamedTuple):
    """What a panel shows: a column, or the ratio of two; its boundary, if it has one, is where it
    falls, or ``rises``, through a ``level``."""

    title: str
    column: str
    over: str | None = None
    level: float | None = None
    rises: bool = False


MEASURES = (
    Measure("gain / gain of (5)", "gain_mean", level=0.75),
    Measure("train / test error", "train_mse", "test_mse", level=0.5, rises=True),
    Measure("active units", "train_merged_participation_ratio"),
)


class Diagram(NamedTuple):
    """Rows are values of an axis: ``values`` (A), ``n`` (N), and what is ``fixed`` at what."""

    axis: str
    values: np.ndarray
    n: np.ndarray
    fixed: dict[str, float]


def diagrams(results: SweepResults) -> list[Diagram]:
    """The diagrams that a sweep has the grid for; InputError when there is none."""
    grid = {name: np.array(sorted(getattr(results.config, name))) for name in ("n", "lam", *AXES)}
    if len(grid["n"]) < 2:
        raise InputError(f"figure {ID} needs at least two values of n, {results.folder} has one")
    found = []
    for axis in AXES:
        if len(grid[axis]) > 1:
            fixed = {"p": grid["p"][-1], "sigma": grid["sigma"][0], "lam": grid["lam"][0]}
            del fixed[axis]
            found.append(Diagram(axis, grid[axis], grid["n"], fixed))
    if not found:
        raise InputError(
            f"figure {ID} needs at least two values of p or of sigma, {results.folder} has one "
            "of each"
        )
    return found


def values_of(results: SweepResults, diagram: Diagram, measure: Measure) -> np.ndarray:
    """A measure (A, N, S) over the diagram and seeds, NaN where a cell is missing."""
    value = results[measure.column]
    if measure.over is not None:
        value = value / results[measure.over]
    values = np.full((len(diagram.values), len(diagram.n), results.config.seeds), np.nan)
    chosen = np.all([results[name] == v for name, v in diagram.fixed.items()], axis=0)
    row = np.searchsorted(diagram.values, results[diagram.axis][chosen])
    column = np.searchsorted(diagram.n, results["n"][chosen])
    values[row, column, results["seed"][chosen]] = value[chosen]
    return values


def crossing(log_n: np.ndarray, curve: np.ndarray, level: float, rises: bool) -> float:
    """log n up to which a curve stays above a level, or, if it ``rises``, from which on it does;
    infinite when it is on one side all along."""
    if rises:
        return -crossing(-log_n[::-1], curve[::-1], level, False)
    below = np.flatnonzero(curve < level)
    if len(below) == 0:
        return np.inf
    i = below[0]
    if i == 0:
        return -np.inf
    share = (curve[i - 1] - level) / (curve[i - 1] - curve[i])
    return log_n[i - 1] + share * (log_n[i] - log_n[i - 1])


def boundary(n: np.ndarray, values_NS: np.ndarray, measure: Measure) -> tuple[float, float, float]:
    """Where the mean over seeds crosses the level, and its 95% interval by the jackknife, cut
    off at the grid's edge. All NaN when it does not cross on the grid; the interval is NaN for one
    seed. Seeds without all values of n are left out."""
    values_NS = values_NS[:, np.all(np.isfinite(values_NS), axis=0)]
    log_n, seeds = np.log(n), values_NS.shape[1]

    def cross(chosen) -> float:
        return crossing(log_n, values_NS[:, chosen].mean(axis=1), measure.level, measure.rises)

    centre = cross(np.arange(seeds)) if seeds else np.inf
    if not np.isfinite(centre):
        return np.nan, np.nan, np.nan
    if seeds == 1:
        return float(np.exp(centre)), np.nan, np.nan
    without_S = np.array([cross(np.delete(np.arange(seeds), seed)) for seed in range(seeds)])
    without_S = np.clip(without_S, log_n[0], log_n[-1])
    pseudo = mean_interval(seeds * centre - (seeds - 1) * without_S)
    reach = np.array([pseudo.low, pseudo.high]) - pseudo.value
    low, high = np.exp(np.clip(centre + reach, log_n[0], log_n[-1]))
    return float(np.exp(centre)), float(low), float(high)


def mean_over_seeds(values_ANS: np.ndarray) -> np.ma.MaskedArray:
    """Mean of the finite values (A, N), masked where there are none."""
    return np.ma.masked_invalid(values_ANS).mean(axis=2)


def draw(results: SweepResults) -> Figure:
    """The figure for one sweep."""
    found = diagrams(results)
    figure = new_figure(TWO_COLUMNS, 2.0 * len(found) + 0.2)
    grid = figure.subplots(len(found), len(MEASURES), squeeze=False, sharex=True, sharey="row")
    for column, measure in zip(grid.T, MEASURES, strict=True):
        values = [values_of(results, diagram, measure) for diagram in found]
        look = _colours(measure, [mean_over_seeds(v) for v in values])
        for axes, diagram, values_ANS in zip(column, found, values, strict=True):
            _draw_colours(axes, diagram, mean_over_seeds(values_ANS), look)
            _draw_theory(axes, diagram, results.config)
            if measure.level is not None:
                _draw_boundary(axes, diagram, values_ANS, measure)
            bar = figure.colorbar(axes.collections[0], ax=axes, pad=0.02, aspect=15)
            _plain_ticks(bar.ax.yaxis, _bar_ticks(look["norm"]))
            axes.set_xlabel("samples n")
    for axes, letter, measure in zip(grid.flat, "abcdef", MEASURES * len(found), strict=False):
        panel_title(axes, letter, measure.title)
    for axes, diagram in zip(grid[:, 0], found, strict=True):
        axes.set_ylabel(AXES[diagram.axis] + _fixed_text(diagram))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _fixed_text(diagram: Diagram) -> str:
    (name,) = set(AXES) - {diagram.axis}
    return f"  ({SYMBOLS[name]} = {diagram.fixed[name]:g})"


def cell_edges(values: np.ndarray) -> np.ndarray:
    """Edges of the cells around values, half way between them on a logarithmic axis."""
    log = np.log(values)
    steps = np.diff(log)
    return np.exp([log[0] - steps[0] / 2, *(log[:-1] + steps / 2), log[-1] + steps[-1] / 2])


def _colours(measure: Measure, means: list[np.ma.MaskedArray]) -> dict:
    """Norm and colour map; white is the level, vermillion the side of memorization."""
    if measure.level is None:
        highest = max(float(mean.filled(0).max()) for mean in means)
        return {"norm": LogNorm(1, max(2.0, highest)), "cmap": "cividis"}
    cmap = TO_BLUE if measure.rises else TO_BLUE.reversed()
    return {"norm": TwoSlopeNorm(measure.level, 0, 1), "cmap": cmap}


def _bar_ticks(norm) -> np.ndarray:
    if isinstance(norm, LogNorm):
        return 2.0 ** np.arange(np.floor(np.log2(norm.vmax)) + 1)
    return np.linspace(0, 1, 5)


def _draw_colours(axes: Axes, diagram: Diagram, means_AN: np.ndarray, look: dict) -> None:
    edges = cell_edges(diagram.n), cell_edges(diagram.values)
    axes.pcolormesh(*edges, means_AN, rasterized=True, **look)
    axes.set(xscale="log", yscale="log", facecolor=NEUTRAL)
    _plain_ticks(axes.xaxis, diagram.n)
    _plain_ticks(axes.yaxis, diagram.values)


def _plain_ticks(axis, values: np.ndarray) -> None:
    axis.set_major_locator(FixedLocator(values[:: -(-len(values) // MOST_TICKS)]))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def _draw_boundary(axes: Axes, diagram: Diagram, values_ANS, measure) -> None:
    found = np.array([boundary(diagram.n, row_NS, measure) for row_NS in values_ANS])
    centre, low, high = found.T
    look = {"fmt": "o", "color": THEORY, "mfc": "white", "ms": 4, "elinewidth": 0.9, "zorder": 3}
    look["label"] = "boundary, 95% interval"
    axes.errorbar(centre, diagram.values, xerr=[centre - low, high - centre], **look)


def _draw_theory(axes: Axes, diagram: Diagram, config: SweepConfig) -> None:
    limits = axes.get_xlim(), axes.get_ylim()
    line = {"color": THEORY, "lw": 0.9}
    as_many = {"ls": "--", "label": "n = p", **line}
    if diagram.axis == "p":
        axes.plot(limits[0], limits[0], **as_many)
    else:
        axes.axvline(diagram.fixed["p"], **as_many)
    if config.data == "mixture":
        axes.axvline(config.clusters, ls=":", label=f"n = K = {config.clusters}", **line)
    axes.set(xlim=limits[0], ylim=limits[1])
