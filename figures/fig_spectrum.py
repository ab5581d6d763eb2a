"""All eigenvalues of the exact Hessian at the closed forms, beside those of frozen gates.

Eigenvalues over λ, ascending, by their share of the spectrum: points are the exact Hessian, lines
the closed form. Rotations inside blocks cost nothing: their eigenvalues are zero up to rounding
and are drawn at the lower edge; the gray band is what counts as zero. The legend counts them.
"""

import numpy as np
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
from proofs_checks.certify.closed_forms import FLAT

ID = "spectrum"
REGIMES = ("certify",)
PROBLEMS = {
    "simplex": ("simplex (5)", MEMORIZING),
    "faces": ("faces (5)", DUPLICATES),
    "mixture": ("clusters (4)", GENERALIZING),
}
PARTS = ("values", "multiplicities", "predicted", "predicted_multiplicities", "lam")
NEEDS = tuple(f"certify/{name}/spectrum_{part}" for name in PROBLEMS for part in PARTS)
LOWEST = 1e-6  # eigenvalues over λ below this are drawn there
POINTS = 60


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    figure = new_figure(TWO_COLUMNS, 2.5)
    panels = figure.subplots(1, len(PROBLEMS))
    for axes, letter, (name, (title, colour)) in zip(panels, "abc", PROBLEMS.items(), strict=True):
        values, counts, predicted, predicted_counts, lam = (
            results[f"certify/{name}/spectrum_{part}"] for part in PARTS
        )
        exact = np.sort(np.repeat(values, counts)) / lam
        closed = np.sort(np.repeat(predicted, predicted_counts)) / lam
        zeros = int(np.sum(np.abs(exact) <= FLAT))
        share = (np.arange(len(exact)) + 0.5) / len(exact)
        axes.axhspan(LOWEST, FLAT, color=NEUTRAL, alpha=0.2, lw=0)
        axes.semilogy(share, np.maximum(closed, LOWEST), color=THEORY, lw=0.8, label="closed form")
        few = np.unique(np.linspace(0, len(exact) - 1, POINTS).astype(int))
        axes.semilogy(
            share[few],
            np.maximum(exact[few], LOWEST),
            "o",
            color=colour,
            mfc="white",
            ms=3.5,
            label=f"exact, {zeros} of {len(exact)} zero",
        )
        axes.set(xlabel="share of eigenvalues", ylabel="Hessian eigenvalue / λ")
        axes.set_ylim(LOWEST / 3, None)
        axes.legend(loc="upper left")
        panel_title(axes, letter, title)
    return figure
