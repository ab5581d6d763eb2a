"""The paper's detector in nets whose theory is known: predicted against measured AUROC (a), and
the share it finds at a false-positive rate of 1% (b).

Each point is one setting: a stored sample against a cluster of one net, at one noise of the
detector; bars in (a) are 95% intervals over draws of samples and noise. Colours tell whether the
cluster has more units than the stored sample, which is when the std over units can find it, or not:
the net computes the same function however many units share a sample. Marks tell the sample's length
beside that of the cluster's mean.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.results import RunResults
from figures.style import (
    GENERALIZING,
    MEMORIZING,
    THEORY,
    TWO_COLUMNS,
    new_figure,
    panel_title,
)

ID = "detectors"
REGIMES = ("detect",)
PANELS = (("predicted", "measured", "AUROC"), ("predicted_tpr", "measured_tpr", "TPR at 1% FPR"))
COLUMNS = ("predicted", "measured", "low", "high", "predicted_tpr", "measured_tpr")
COLUMNS += ("stored_units", "cluster_units", "norm")
NEEDS = tuple(f"detect/std/{name}" for name in COLUMNS)
EQUAL = 1e-9  # norms this near are equal
GROUPS = (
    ("more units in the cluster", MEMORIZING, lambda stored, cluster: stored < cluster),
    ("no more in the cluster", GENERALIZING, lambda stored, cluster: stored >= cluster),
)
MARKS = (
    ("shorter", "v", lambda norm: norm < 1 - EQUAL),
    ("of equal length", "o", lambda norm: abs(norm - 1) <= EQUAL),
    ("longer", "^", lambda norm: norm > 1 + EQUAL),
)


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    column = {name: results[f"detect/std/{name}"] for name in COLUMNS}
    figure = new_figure(TWO_COLUMNS, 4.1)
    panels = figure.subplots(1, 2)
    for axes, letter, (predicted, measured, what) in zip(panels, "ab", PANELS, strict=True):
        axes.plot([0, 1], [0, 1], color=THEORY, lw=0.8, ls="--", zorder=1, label="theory: equal")
        reach = np.abs([column[end] - column["measured"] for end in ("low", "high")])
        _points(axes, column, column[predicted], column[measured], reach if letter == "a" else None)
        axes.set(xlabel=f"predicted {what} of the std", ylabel=f"measured {what}", aspect="equal")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        panel_title(axes, letter, what)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _points(
    axes: Axes, column: dict, x: np.ndarray, y: np.ndarray, reach: np.ndarray | None
) -> None:
    for units, colour, of_units in GROUPS:
        for length, mark, of_length in MARKS:
            chosen = of_units(column["stored_units"], column["cluster_units"])
            chosen &= np.vectorize(of_length, otypes=[bool])(column["norm"])
            if chosen.any():
                bars = None if reach is None else reach[:, chosen]
                look = {"fmt": mark, "color": colour, "mfc": "white", "ms": 3.5, "elinewidth": 0.7}
                label = f"{units}, {length} ({chosen.sum()})"
                axes.errorbar(x[chosen], y[chosen], yerr=bars, label=label, zorder=3, **look)
