"""The paper's detector in nets whose theory is known: predicted against measured AUROC.

Each point is one setting: a stored sample against a cluster of one net, at one noise of the
detector; bars are 95% intervals over draws of samples and noise. Colours tell whether the cluster
has more units than the stored sample, which is when the std over units can find it, or not: the net
computes the same function however many units share a sample. Marks tell the sample's length beside
that of the cluster's mean.
"""

import numpy as np
from matplotlib.figure import Figure

from figures.results import RunResults
from figures.style import GENERALIZING, MEMORIZING, ONE_COLUMN, THEORY, new_figure

ID = "detectors"
REGIMES = ("detect",)
COLUMNS = ("predicted", "measured", "low", "high", "stored_units", "cluster_units", "norm")
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
    figure = new_figure(ONE_COLUMN, 3.7)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=THEORY, lw=0.8, ls="--", zorder=1, label="theory: equal")
    for units, colour, of_units in GROUPS:
        for length, mark, of_length in MARKS:
            chosen = of_units(column["stored_units"], column["cluster_units"])
            chosen &= np.vectorize(of_length, otypes=[bool])(column["norm"])
            if not chosen.any():
                continue
            predicted, measured = column["predicted"][chosen], column["measured"][chosen]
            reach = np.abs([column["low"][chosen] - measured, column["high"][chosen] - measured])
            look = {"fmt": mark, "color": colour, "mfc": "white", "ms": 3.5, "elinewidth": 0.7}
            label = f"{units}, {length} ({chosen.sum()})"
            axes.errorbar(predicted, measured, yerr=reach, label=label, zorder=3, **look)
    axes.set(xlabel="predicted AUROC of the std", ylabel="measured AUROC", aspect="equal")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    figure.legend(loc="outside lower center", ncols=1)
    return figure
