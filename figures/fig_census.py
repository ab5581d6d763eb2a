"""What random starts end in: shares of the kinds of minima, and how far above (5) their loss is.

(a): for every cosine between the samples and every p/n, the shares of starts that end in a
minimum of each kind; the mark is the share of those whose outputs memorize. A minimum is sparse
(one unit a sample), split (collinear units for a sample), entangled (a unit active on several
samples) or forgetful (a sample activates no unit). (b): loss relative to that of (5), linear below
1e-6, a point for each start.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dae_theory.minima.census import KINDS
from figures.results import RunResults
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

ID = "census"
REGIMES = ("certify",)
ARRAYS = ("cosine", "ratio", "kind", "excess", "memorizes_output")
NEEDS = tuple(f"certify/census/{name}" for name in ARRAYS)
COLOURS = {
    "sparse": MEMORIZING,
    "split": DUPLICATES,
    "entangled": GENERALIZING,
    "forgetful": NEUTRAL,
}
LINEAR_BELOW = 1e-6
SPREAD = 0.35  # of the points beside each other


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    cosine, ratio, kind, excess, in_output = (results[key] for key in NEEDS)
    figure = new_figure(TWO_COLUMNS, 2.9)
    shares, losses = figure.subplots(1, 2, width_ratios=[1.9, 1])
    _draw_shares(shares, cosine, ratio, kind, in_output)
    _draw_losses(losses, kind, excess)
    figure.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _draw_shares(axes: Axes, cosine, ratio, kind, in_output) -> None:
    cosines, ratios = np.unique(cosine), np.unique(ratio)
    cells = [(cosine == c) & (ratio == r) for c in cosines for r in ratios]
    width = len(ratios) + 1  # a gap between cosines
    at = np.array([width * i + j for i in range(len(cosines)) for j in range(len(ratios))], float)
    bottom = np.zeros(len(cells))
    for index, name in enumerate(KINDS):
        share = np.array([np.mean(kind[cell] == index) for cell in cells])
        axes.bar(at, share, 0.9, bottom, color=COLOURS[name], label=name)
        bottom += share
    output = [np.mean(in_output[cell]) for cell in cells]
    look = {"color": THEORY, "mfc": "white", "ls": "none", "marker": "D", "ms": 3.5}
    axes.plot(at, output, label="output memorizes", clip_on=False, zorder=3, **look)
    axes.set_xticks(at, [f"{r:g}" for _ in cosines for r in ratios])
    middle = width * np.arange(len(cosines)) + (len(ratios) - 1) / 2
    for x, cosine in zip(middle, cosines, strict=True):
        text = f"{cosine:.2f}".replace("-", "−")
        axes.annotate(
            text,
            (x, 0),
            (0, -14),
            ("data", "axes fraction"),
            "offset points",
            ha="center",
            va="top",
            fontsize=7,
            annotation_clip=False,
        )
    axes.set(ylim=(0, 1), ylabel="share of random starts")
    axes.set_xlabel("above: p/n; below: cosine between samples", labelpad=11)
    panel_title(axes, "a", "kinds of minima")


def _draw_losses(axes: Axes, kind, excess) -> None:
    for index, name in enumerate(KINDS):
        values = np.sort(excess[kind == index])
        beside = index + np.linspace(-SPREAD, SPREAD, len(values))
        axes.plot(beside, values, ".", color=COLOURS[name], ms=2.5, clip_on=False)
    axes.set_yscale("symlog", linthresh=LINEAR_BELOW)
    low, high = min(excess.min(), -LINEAR_BELOW), max(excess.max(), LINEAR_BELOW)
    axes.set_ylim(3 * low, 3 * high)
    axes.axhline(0, color=THEORY, lw=0.8, ls="--", zorder=1)
    axes.set_xticks(range(len(KINDS)), KINDS)
    axes.set_ylabel("loss / loss of (5) − 1 (dimensionless)")
    axes.set_xlabel("kind of minimum")
    panel_title(axes, "b", "loss of each minimum, sorted")
