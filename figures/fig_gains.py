"""Measured gains against the closed forms (5), (2) and (8), on the identity line.

A gain is the diagonal of W2 W1ᵀ, summed over the units of a cluster, along a direction that the
theory keeps: the sample itself (memorization, duplicates) or an eigenvector of the cluster. Gains
crowd below 1, so (a) shows their distance from it, 1 − gain, on logarithmic axes (linear below
0.001, where a gain above 1 can still be seen); that magnifies deviations of gains near 1. (b)
shows the relative deviation of the gains themselves, with the tolerance of the gain claims. Points
are means over nets, bars 95% intervals over seeds. As in the claims, nets of the blocks
with a unit active on two clusters are left out; the legend counts the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dae_theory.theory.closed_forms import predict_hybrid_gain, predict_memorization
from dae_theory.theory.problem import Problem
from dae_theory.weights.compare import Comparison, compare_weights
from figures.results import RunResults, mean_of_seeds
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
from proofs_checks.blocks import compare_at_measured_widths
from proofs_checks.nets import Nets

ID = "gains"
REGIMES = ("memorize", "generalize", "hybrid")
NEEDS = (
    *(f"memorize/{name}" for name in ("x", "sigma", "lam", "w1", "w2")),
    *(f"generalize/{name}" for name in ("x", "labels", "widths", "sigma", "lam", "w1", "w2")),
    *(f"hybrid/{name}" for name in ("x", "labels", "widths", "sigma", "lam", "w1", "w2")),
    "hybrid/duplicated",
)
LINEAR_BELOW = 1e-3
GAIN_CLAIM = "cor3.2/gains"


@dataclass(frozen=True)
class Gain:
    """A predicted gain and the measured ones (S,), one for each net."""

    predicted: float
    measured: np.ndarray


@dataclass(frozen=True)
class Series:
    """Gains of one regime; ``used`` of its ``total`` nets are in them."""

    name: str
    gains: list[Gain]
    used: int
    total: int


def memorized_gains(results: RunResults) -> Series:
    """Each training sample's summed gain; none when there are fewer units than samples."""
    x_ND, pairs = results["memorize/x"], results.pairs("memorize")
    width = pairs[0][0].shape[1]
    if width < len(x_ND):
        return Series("memorized samples, (5)", [], 0, len(pairs))
    prediction = predict_memorization(
        x_ND, results.number("memorize/sigma"), results.number("memorize/lam"), width
    )
    comparisons = [compare_weights(w1, w2, prediction, x_ND) for w1, w2 in pairs]
    gains = [
        Gain(float(predicted), np.array([c.gains[i][0] for c in comparisons]))
        for i, predicted in enumerate(prediction.gains)
        if predicted > 0
    ]
    return Series("memorized samples, (5)", gains, len(pairs), len(pairs))


def _blocks(results: RunResults, regime: str) -> Problem:
    return Problem(
        results[f"{regime}/x"],
        results.number(f"{regime}/sigma"),
        results.number(f"{regime}/lam"),
        results[f"{regime}/labels"],
        tuple(results[f"{regime}/widths"].tolist()),
    )


def _comparisons(results: RunResults, regime: str) -> list[Comparison]:
    """Comparisons of the nets that keep each unit to one cluster."""
    nets = Nets(results[f"{regime}/w1"], results[f"{regime}/w2"])
    compared = compare_at_measured_widths(nets, _blocks(results, regime))
    return [comparison for comparison in compared if comparison.entangled == 0]


def block_gains(results: RunResults) -> Series:
    """The gain of each cluster along each eigenvector that at least one net's block keeps."""
    kept = _comparisons(results, "generalize")
    gains = []
    for k in range(len(results["generalize/widths"])):
        most = max((int(np.sum(c.predicted_gains[k] > 0)) for c in kept), default=0)
        for j in range(most):
            having = [c for c in kept if len(c.gains[k]) > j]
            measured = np.array([c.gains[k][j] for c in having])
            gains.append(Gain(float(having[0].predicted_gains[k][j]), measured))
    return Series("directions of blocks, (2)", gains, len(kept), len(results["generalize/w1"]))


def duplicate_gains(results: RunResults) -> Series:
    """The summed gain of each duplicated sample; zero where a net does not store it."""
    kept, b = _comparisons(results, "hybrid"), _blocks(results, "hybrid")
    gains = []
    for k in np.flatnonzero(results["hybrid/duplicated"]):
        members = b.x[b.labels == k]
        norm = float(np.linalg.norm(members[0]))
        predicted = predict_hybrid_gain(norm, len(members), len(b.x), b.sigma, b.lam)
        measured = np.array([c.gains[k][0] if len(c.gains[k]) else 0.0 for c in kept])
        if kept and predicted > 0:
            gains.append(Gain(predicted, measured))
    return Series("duplicated samples, (8)", gains, len(kept), len(results["hybrid/w1"]))


def all_series(results: RunResults) -> list[Series]:
    """The gains of the three regimes."""
    return [memorized_gains(results), block_gains(results), duplicate_gains(results)]


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    figure = new_figure(TWO_COLUMNS, 3.0)
    shortfall, deviation = figure.subplots(1, 2, width_ratios=[1, 1.15])
    styles = ((MEMORIZING, "o"), (GENERALIZING, "s"), (DUPLICATES, "^"))
    series = all_series(results)
    for one, (colour, marker) in zip(series, styles, strict=True):
        label = f"{one.name}\n({len(one.gains)} gains, {one.used} of {one.total} nets)"
        x = np.array([1 - gain.predicted for gain in one.gains])
        look = {"fmt": marker, "color": colour, "mfc": "white", "ms": 4.5, "elinewidth": 0.8}
        _error_bars(shortfall, x, one, lambda g: 1 - g.measured, look | {"label": label})
        _error_bars(deviation, x, one, lambda g: 100 * (g.measured / g.predicted - 1), look)
    limits = _shortfall_limits(shortfall, series)
    _finish_shortfall(shortfall, limits)
    _finish_deviation(deviation, limits, results.tolerance(GAIN_CLAIM))
    figure.legend(*shortfall.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _error_bars(
    axes: Axes, x: np.ndarray, series: Series, value: Callable[[Gain], np.ndarray], look: dict
) -> None:
    means, below, above = [], [], []
    for gain in series.gains:
        mean, low, high = mean_of_seeds(value(gain))
        means.append(mean)
        below.append(max(mean - low, 0.0))
        above.append(max(high - mean, 0.0))
    axes.errorbar(x, means, yerr=[below, above], zorder=3, **look)


def _shortfall_limits(axes: Axes, series: list[Series]) -> tuple[float, float]:
    """Limits that hold all points and bars, predicted and measured."""
    predicted = [1 - gain.predicted for one in series for gain in one.gains]
    low = min([axes.dataLim.y0, *predicted, 0.1])
    high = max([axes.dataLim.y1, *predicted, 0.1])
    return (low / 1.4 if low > 0 else 1.4 * low - LINEAR_BELOW, 1.4 * high)


def _logarithmic_x(axes: Axes, limits: tuple[float, float]) -> None:
    axes.set_xscale("symlog", linthresh=LINEAR_BELOW, subs=range(2, 10))
    axes.set_xlim(limits)
    axes.set_xlabel("predicted 1 − gain (dimensionless)")


def _finish_shortfall(axes: Axes, limits: tuple[float, float]) -> None:
    _logarithmic_x(axes, limits)
    axes.set_yscale("symlog", linthresh=LINEAR_BELOW, subs=range(2, 10))
    axes.set_ylim(limits)
    axes.set_ylabel("measured 1 − gain (dimensionless)")
    axes.plot(limits, limits, color=THEORY, lw=0.8, ls="--", label="theory: equal", zorder=1)
    axes.set_aspect("equal")
    panel_title(axes, "a", "distance of the gains from 1")


def _finish_deviation(axes: Axes, limits: tuple[float, float], tolerance: float | None) -> None:
    _logarithmic_x(axes, limits)
    axes.axhline(0, color=THEORY, lw=0.8, ls="--", zorder=1)
    if tolerance is not None:
        axes.axhspan(-100 * tolerance, 100 * tolerance, color=NEUTRAL, alpha=0.2, lw=0, zorder=0)
        axes.annotate(
            f"tolerance of the gain claims, ±{100 * tolerance:g}%",
            (0.02, 100 * tolerance),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=7,
        )
    axes.set_ylabel("measured/predicted gain − 1 (%)")
    panel_title(axes, "b", "relative deviation of the gains")
