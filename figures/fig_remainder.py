"""What the closed forms miss: distance of (5) and (4) from the true minimizer, by gate margin.

The noise level is varied so that the smallest gate margin takes the values on the axis; Newton's
method finds the minimizer from the closed form, modulo symmetry. (a): ‖∇L‖ at the closed form.
(b): distance of the weights, ‖R‖, relative to ‖W‖. (c): largest error of an operator W2 W1ᵀ of a
cluster; dotted: 1%, .1% and 1e-6. Dashed: C exp(−z²/2) through the middle point. A point is missing
where Newton's method finds no minimizer near by.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
from proofs_checks.certify.closed_forms import LEVELS

ID = "remainder"
REGIMES = ("certify",)
PROBLEMS = {
    "simplex": ("simplex (5)", MEMORIZING, "o"),
    "faces": ("faces (5)", DUPLICATES, "^"),
    "mixture": ("clusters (4)", GENERALIZING, "s"),
}
PANELS = {
    "gradient": r"$\|\nabla L\|\,/\,\mathrm{mean}\,\|x\|^2$",
    "weights": r"$\|R\|\,/\,\|W\|$, modulo symmetry",
    "operator": "operator error (relative)",
}
NEEDS = tuple(f"certify/{name}/{key}" for name in PROBLEMS for key in ("z", *PANELS))


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    figure = new_figure(TWO_COLUMNS, 2.6)
    panels = figure.subplots(1, len(PANELS))
    for axes, letter, (kind, label) in zip(panels, "abc", PANELS.items(), strict=True):
        for name, (title, colour, marker) in PROBLEMS.items():
            z, values = results[f"certify/{name}/z"], results[f"certify/{name}/{kind}"]
            look = {"color": colour, "marker": marker, "mfc": "white", "ls": "none"}
            axes.semilogy(z, values, label=title, zorder=3, **look)
            _gaussian(axes, z, values)
        axes.set(xlabel="gate margin $z$", ylabel=label)
        panel_title(axes, letter, kind)
    for level in LEVELS:
        panels[2].axhline(level, color=NEUTRAL, lw=0.6, ls=":", zorder=0)
    panels[0].plot([], [], color=THEORY, ls="--", lw=0.8, label="$C\\,e^{-z^2/2}$")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _gaussian(axes: Axes, z: np.ndarray, values: np.ndarray) -> None:
    middle = len(z) // 2
    curve = values[middle] * np.exp((z[middle] ** 2 - z**2) / 2)
    axes.plot(z, curve, color=THEORY, ls="--", lw=0.8, zorder=1)
