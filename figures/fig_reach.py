"""How far the closed forms reach: error at the minimizer next to them as one quantity is swept.

Largest error of a cluster's operator W2 W1ᵀ, relative to the largest operator, over what is swept;
points are means over seeds of the data and bars 95% intervals. Gray: the gate margin z of
the closed form is below 3. Dotted: 1%. (h): gains beside the soft threshold (s − nλ)_+/(s + σ²).
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.results import RunResults, mean_of_seeds
from figures.style import (
    GENERALIZING,
    MEMORIZING,
    NEUTRAL,
    THEORY,
    TWO_COLUMNS,
    new_figure,
    panel_title,
)
from proofs_checks.certify.reach import ACCURATE, REACH_MARGIN

ID = "reach"
REGIMES = ("certify",)
PANELS = {
    "beta": ("stored: cosine β", "β", MEMORIZING),
    "alpha": ("clusters: spread α", "α", GENERALIZING),
    "sigma": ("faces: noise σ", "σ", MEMORIZING),
    "sigma-clusters": ("tight clusters: σ", "σ", GENERALIZING),
    "width": ("units a block, rank 2", "$p_k$", GENERALIZING),
    "labels": ("wrong labels", "share of labels", GENERALIZING),
    "shared": ("shared variation", "cosine of directions", GENERALIZING),
}
NEEDS = (
    *(f"certify/reach/{name}/{part}" for name in PANELS for part in ("values", "z", "error")),
    *(f"certify/reach/lambda/{part}" for part in ("values", "gains", "predicted_gains")),
)
ROUNDING = 1e-12  # errors below are drawn there


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    figure = new_figure(TWO_COLUMNS, 3.9)
    grid = figure.subplots(2, 4)
    for axes, letter, (name, (title, label, colour)) in zip(
        grid.flat, "abcdefg", PANELS.items(), strict=False
    ):
        values, z, error = (
            results[f"certify/reach/{name}/{part}"] for part in ("values", "z", "error")
        )
        _shade(axes, values, np.mean(z, axis=1) < REACH_MARGIN)
        _with_intervals(axes, values, np.maximum(error, ROUNDING), colour)
        axes.axhline(ACCURATE, color=NEUTRAL, lw=0.6, ls=":")
        axes.set_yscale("log")
        axes.set(xlabel=label, ylabel="operator error")
        panel_title(axes, letter, title)
    _soft_threshold(grid.flat[-1], results)
    return figure


def _shade(axes: Axes, values: np.ndarray, below: np.ndarray) -> None:
    """A gray band over the values below the margin, up to half way to the others."""
    edges = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:]])
    for low, high, is_below in zip(edges, edges[1:], below, strict=False):
        if is_below:
            axes.axvspan(low, high, color=NEUTRAL, alpha=0.2, lw=0)


def _with_intervals(axes: Axes, x: np.ndarray, values_VS: np.ndarray, colour: str) -> None:
    means, *ends = np.transpose([mean_of_seeds(values_S) for values_S in values_VS])
    bars = np.abs(ends - means)
    look = {"fmt": "o-", "color": colour, "mfc": "white", "ms": 3.5, "lw": 0.8, "elinewidth": 0.8}
    axes.errorbar(x, means, yerr=bars, **look)


def _soft_threshold(axes: Axes, results: RunResults) -> None:
    values, gains, predicted = (
        results[f"certify/reach/lambda/{part}"] for part in ("values", "gains", "predicted_gains")
    )
    order = np.argsort(values)
    axes.plot(values[order], np.mean(predicted, axis=(1, 2))[order], color=THEORY, ls="--", lw=0.8)
    _with_intervals(axes, values, np.mean(gains, axis=2), MEMORIZING)
    axes.set(xlabel="nλ / smallest s", ylabel="mean gain")
    panel_title(axes, "h", "decay λ")
