"""From the theory to deep nets: what their Jacobians keep, by number of images and by architecture.

Plain ReLU nets without biases, mean and 95% interval over nets, each on images of its own. (a) How
many directions are kept at training images, by depth. (b) |Cosine| of the direction kept most, of
outputs and of inputs, with the image, and (thin) with another image. (c) Gain along the image;
line: (5). (d) Cosine of the Jacobian at held-out images with S(S + σ²)⁻¹ of neighbourhoods of
training images. (e), (f) One change of the net at a time, at few and at many images; above the
line, exact denoisers of the same images.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dae_theory.checks import InputError
from dae_theory.deep.ladder.measure import NEIGHBOURS
from dae_theory.deep.ladder.nets import CHANGES, PLAIN
from dae_theory.deep.ladder.rungs import COUNTS, DEPTHS, EXACT, FEW, MANY, UNTRAINED
from dae_theory.deep.ladder.store import Ladder
from figures.results import mean_of_seeds
from figures.style import (
    DUPLICATES,
    GENERALIZING,
    MEMORIZING,
    NEUTRAL,
    THEORY,
    TWO_COLUMNS,
    new_figure,
    panel_title,
)

ID = "ladder"
SOURCE = Ladder
REGIMES: tuple[str, ...] = ()
NEEDS: tuple[str, ...] = ()
DATA = "fashion_mnist"
DEPTH_COLOURS = dict(zip(DEPTHS, (NEUTRAL, DUPLICATES, GENERALIZING, MEMORIZING), strict=True))
SHOWN_COUNTS = (30, 300, 3000, 10_000)
KINDS = (*EXACT, PLAIN, *CHANGES, UNTRAINED)
NEIGHBOURHOODS = (*map(str, NEIGHBOURS), "label", "all")


def draw(results: Ladder) -> Figure:
    """The figure for one ladder."""
    figure = new_figure(TWO_COLUMNS, 5.2)
    grid = figure.subplots(2, 3, height_ratios=[1, 1.25])
    _by_count(grid[0, 0], results, "training/trace")
    grid[0, 0].set(ylabel="trace of J", yscale="log")
    grid[0, 0].axhline(1, color=THEORY, ls=":", lw=0.8)
    panel_title(grid[0, 0], "a", "directions kept")
    _directions(grid[0, 1], results)
    panel_title(grid[0, 1], "b", "top direction, depth 3")
    _by_count(grid[0, 2], results, "training/gain")
    gain = _over_counts(results, "training/gain_of_5", 3)
    grid[0, 2].plot(gain[0], gain[1], color=THEORY, ls=":", lw=0.8)
    grid[0, 2].set(ylabel="gain along the image", ylim=(0, None))
    panel_title(grid[0, 2], "c", "gain")
    _neighbourhoods(grid[1, 0], results)
    panel_title(grid[1, 0], "d", "held-out images, depth 3")
    _changes(grid[1, 1], results, FEW, ("gain", "left", "right"))
    panel_title(grid[1, 1], "e", f"{FEW} images")
    _changes(grid[1, 2], results, MANY, ("gain", "left", "right"))
    grid[1, 2].set_yticklabels([])
    panel_title(grid[1, 2], "f", f"{MANY:,} images")
    return figure


def _over_counts(
    results: Ladder, quantity: str, depth: int
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Numbers of images, means and the reach (2, N) of their intervals, of the rungs there."""
    counts, found = [], []
    for n in COUNTS:
        try:
            found.append(mean_of_seeds(results.values(quantity, DATA, n, PLAIN, depth)))
        except InputError:  # a ladder cut short
            continue
        counts.append(n)
    means, low, high = np.array(found).T.reshape(3, -1)
    return counts, means, np.abs([means - low, high - means])


def _by_count(axes: Axes, results: Ladder, quantity: str) -> None:
    for depth, colour in DEPTH_COLOURS.items():
        counts, means, reach = _over_counts(results, quantity, depth)
        axes.errorbar(counts, means, reach, color=colour, marker="o", ms=3, label=f"depth {depth}")
    axes.set(xscale="log", xlabel="training images")
    axes.legend()


def _directions(axes: Axes, results: Ladder) -> None:
    for name, colour in (("left", MEMORIZING), ("right", GENERALIZING)):
        side = {"left": "outputs", "right": "inputs"}[name]
        counts, means, reach = _over_counts(results, f"training/{name}", 3)
        axes.errorbar(counts, means, reach, color=colour, marker="o", ms=3, label=side)
        counts, means, _ = _over_counts(results, f"training/other_{name}", 3)
        axes.plot(counts, means, color=colour, lw=0.6, ls="--")
    axes.set(xscale="log", xlabel="training images", ylabel="|cosine| with the image", ylim=(0, 1))
    axes.legend()


def _neighbourhoods(axes: Axes, results: Ladder) -> None:
    shades = np.linspace(0.35, 1, len(SHOWN_COUNTS))
    for n, shade in zip(SHOWN_COUNTS, shades, strict=True):
        places, means = [], []
        for place, name in enumerate(NEIGHBOURHOODS):
            try:
                values = results.values(f"held_out/second moment/{name}/cosine", DATA, n)
            except InputError:  # more neighbours than images
                continue
            places.append(place)
            means.append(np.mean(values))
        axes.plot(places, means, "o-", color=GENERALIZING, alpha=shade, ms=3, label=f"n = {n:,}")
    axes.set_xticks(range(len(NEIGHBOURHOODS)), NEIGHBOURHOODS)
    axes.set(xlabel="neighbourhood", ylabel="cosine with $S(S+σ^2)^{-1}$", ylim=(0, 1))
    axes.legend()


def _changes(axes: Axes, results: Ladder, n: int, quantities: tuple[str, ...]) -> None:
    looks = zip(quantities, (THEORY, MEMORIZING, GENERALIZING), (0.2, 0, -0.2), strict=True)
    for quantity, colour, offset in looks:
        for place, kind in enumerate(KINDS):
            try:
                values = results.values(f"training/{quantity}", DATA, n, kind)
            except InputError:  # a ladder cut short
                continue
            mean, low, high = mean_of_seeds(values)
            axes.errorbar(
                mean,
                -place + offset,
                xerr=[[max(mean - low, 0)], [max(high - mean, 0)]],
                color=colour,
                marker="o",
                ms=2.5,
                lw=0.8,
                label=quantity if kind == PLAIN else None,
            )
    axes.set_yticks([-place for place in range(len(KINDS))], KINDS)
    axes.axhline(-len(EXACT) + 0.5, color=NEUTRAL, lw=0.6)
    axes.axvline(1, color=THEORY, ls=":", lw=0.8)
    axes.set(xlabel="gain; |cosine| of top direction", xlim=(-0.2, 1.4))
    axes.legend(loc="lower right")
