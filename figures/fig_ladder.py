"""From the theory to deep nets: what their Jacobians keep, by number of images and by architecture.

Plain ReLU nets without biases, mean and 95% interval over nets, each on images of its own. (a) How
many directions are kept at training images, by depth. (b) |Cosine| of the direction kept most, of
outputs and of inputs, with the image, and (thin) with another image. (c) Gain along the image;
line: (5). (d) Cosine of the Jacobian at held-out images with S(S + σ²)⁻¹ of neighbourhoods of
training images. (e) One change of the net at a time, at 30 images: gain, and cosines of the top
direction of outputs and inputs with the image; above the line, exact denoisers of the same images.
(f) Their traces.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dae_theory.checks import InputError
from dae_theory.deep.ladder.measure import NEIGHBOURS
from dae_theory.deep.ladder.nets import PLAIN
from dae_theory.deep.ladder.rungs import (
    COUNTS,
    DEPTHS,
    DIFFERENT,
    F_EMP,
    FEW,
    FIVE,
    HOMOGENEOUS,
    UNTRAINED,
)
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
EXACT = (F_EMP, HOMOGENEOUS, FIVE)
KINDS = (*EXACT, PLAIN, *DIFFERENT, UNTRAINED)
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
    _changes(grid[1, 1], results, {"gain": "gain", "left": "outputs", "right": "inputs"})
    grid[1, 1].set(xlabel="gain; |cosine| of top direction", xlim=(-0.1, 1.2))
    panel_title(grid[1, 1], "e", f"one change, {FEW} images")
    _changes(grid[1, 2], results, {"trace": "trace of J"})
    grid[1, 2].set(xlabel="trace of J", xscale="symlog", xlim=(-0.1, None))
    grid[1, 2].set_yticklabels([])
    panel_title(grid[1, 2], "f", "the same: directions kept")
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


def _changes(axes: Axes, results: Ladder, quantities: dict[str, str]) -> None:
    """Quantities of each kind of denoiser, from above, by the names that the legend gives them."""
    looks = zip(quantities.items(), (THEORY, MEMORIZING, GENERALIZING), strict=False)
    for row, ((quantity, name), colour) in enumerate(looks):
        places, found = [], []
        for place, kind in enumerate(KINDS):
            try:
                values_S = results.values(f"training/{quantity}", DATA, FEW, kind)
            except InputError:  # a ladder cut short
                continue
            places.append(-place + 0.2 - 0.2 * row)
            found.append(mean_of_seeds(values_S))
        means, low, high = np.array(found).T.reshape(3, -1)
        reach = np.abs([means - low, high - means])
        look = {"color": colour, "marker": "o", "ms": 2.5, "lw": 0.8, "ls": "none"}
        axes.errorbar(means, places, xerr=reach, label=name, **look)
    axes.set_yticks([-place for place in range(len(KINDS))], KINDS)
    axes.axhline(-len(EXACT) + 0.5, color=NEUTRAL, lw=0.6)
    axes.axvline(1, color=THEORY, ls=":", lw=0.8)
    if len(quantities) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.17), ncols=3)
