"""Where steering takes samples of trained nets: the theory's lines, and points that were measured.

Left, inside a block: the part of the end that lies along the concept, for generalized samples and
for stored samples that share a block, both straight. Right, across blocks: cosine of the end with
another stored sample, for each pair; the further apart the two, the sharper the switch. Every curve
is one net, averaged over starts.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.results import RunResults
from figures.style import GENERALIZING, MEMORIZING, THEORY, TWO_COLUMNS, new_figure

ID = "steering"
REGIMES = ("steer",)
CURVES = ("strengths", "measured", "predicted")
NEEDS = (
    *(f"steer/{part}/{name}" for part in ("clusters", "shared", "pairs") for name in CURVES),
    "steer/pairs/cosines",
)


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    figure = new_figure(TWO_COLUMNS, 2.6)
    within, across = figure.subplots(1, 2)
    draw_part(within, results, "clusters", GENERALIZING, "generalized")
    draw_part(within, results, "shared", MEMORIZING, "stored, in one block")
    within.set(title="within a block", ylabel="part along the concept")
    cosines = results["steer/pairs/cosines"]
    words = f"stored, at cosines {cosines.min():.2f} to {cosines.max():.2f}"
    draw_part(across, results, "pairs", MEMORIZING, words)
    across.set(title="across blocks", ylabel="cosine with the other sample")
    for axes in (within, across):
        axes.plot([], [], color=THEORY, lw=0.7, label="theory")
        axes.set(xlabel="strength a")
        axes.legend()
    return figure


def draw_part(axes: Axes, results: RunResults, part: str, colour: str, label: str) -> None:
    """Lines of the theory and points of each net."""
    strengths, measured, predicted = (results[f"steer/{part}/{name}"] for name in CURVES)
    axes.plot(strengths, predicted.T, color=THEORY, lw=0.7, zorder=1)
    at = np.tile(strengths, len(measured))
    axes.plot(at, measured.ravel(), "o", color=colour, mfc="white", ms=2.5, mew=0.7, label=label)
