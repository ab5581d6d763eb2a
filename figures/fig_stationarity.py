"""How nearly the closed forms (5) and (4) are stationary, as the noise level moves the gates.

Relative gradient norm of the exact loss at the closed form. (a): against the gate margin z, with
C exp(−z²/2) drawn through the middle point of each regime. (b): against the flip weight
F = Σ exp(−z_ij²/2) over all gates, of which exp(−z²/2) is the limit, with lines of slope 1 through
the same points; κ is the exponent of F that is left after a power of z is fitted, 1 in theory.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dae_theory.theory.remainder import fit_flip_exponent
from figures.results import RunResults
from figures.style import GENERALIZING, MEMORIZING, THEORY, TWO_COLUMNS, new_figure, panel_title

ID = "stationarity"
REGIMES = ("memorize", "generalize")
NEEDS = ("memorize/residual", "generalize/residual")
STYLES = {
    "memorize": ("memorization (5)", MEMORIZING, "o"),
    "generalize": ("blocks (4), tight clusters", GENERALIZING, "s"),
}
GRADIENT_LABEL = r"$\|\nabla L\|\,/\,\mathrm{mean}\,\|x\|^2$ (dimensionless)"


def through_middle(theory: np.ndarray, measured: np.ndarray) -> float:
    """The factor that makes theory and measurement agree at the middle point."""
    middle = len(measured) // 2
    return float(measured[middle] / theory[middle])


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    figure = new_figure(TWO_COLUMNS, 2.7)
    against_z, against_flips = figure.subplots(1, 2)
    for regime, (name, colour, marker) in STYLES.items():
        z, flips, residual = results[f"{regime}/residual"]
        look = {"color": colour, "marker": marker, "ls": "none", "mfc": "white"}
        kappa = fit_flip_exponent(z, flips, residual)

        gaussian = np.exp(-(z**2) / 2)
        against_z.semilogy(z, residual, label=name, zorder=3, **look)
        _theory_line(against_z, z, through_middle(gaussian, residual) * gaussian)
        against_flips.loglog(
            flips, residual, label=rf"{name}: $\kappa$ = {kappa:.2f}", zorder=3, **look
        )
        _theory_line(against_flips, flips, through_middle(flips, residual) * flips)
    against_z.plot([], [], color=THEORY, ls="--", lw=0.8, label="$C\\,e^{-z^2/2}$, middle point")
    against_flips.plot([], [], color=THEORY, ls="--", lw=0.8, label="slope 1, middle point")
    against_z.set(xlabel="gate margin $z$ (noise standard deviations)", ylabel=GRADIENT_LABEL)
    against_flips.set(
        xlabel=r"flip weight $F = \Sigma\,e^{-z_{ij}^2/2}$ (dimensionless)", ylabel=GRADIENT_LABEL
    )
    against_z.legend(loc="upper right")
    against_flips.legend(loc="upper left")
    panel_title(against_z, "a", "against the smallest margin")
    panel_title(against_flips, "b", "against all gates")
    return figure


def _theory_line(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axes.plot(x, y, color=THEORY, ls="--", lw=0.8, zorder=1)
