"""Error of denoisers of real images by noise level, on known, new and generated images.

Mean squared error per pixel, relative to σ², which is what doing nothing costs. The Wiener filter,
local PCA and f_emp are fitted to the many training images of the generalizing net. f_emp is
perfect on the images it knows and no better than the nearest of them elsewhere; a memorizing net
does the same with its few images. Shades are 95% intervals over seeds.
"""

import numpy as np
from matplotlib.figure import Figure

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

ID = "denoisers"
REGIMES = ("diffusion",)
PANELS = {
    "many": "many training images",
    "few": "few training images",
    "test": "new images",
    "generated": "generated images",
}
LINES = {
    "wiener": ("Wiener filter", NEUTRAL, ":"),
    "local_pca": ("local PCA", NEUTRAL, "--"),
    "empirical": (r"$f_{emp}$ of many", THEORY, "-"),
    "empirical_few": (r"$f_{emp}$ of few", THEORY, ":"),
    "generalizing-unet": ("net of many images", GENERALIZING, "-"),
    "memorizing-unet": ("net of few images", MEMORIZING, "-"),
    "hybrid-unet": ("hybrid net", DUPLICATES, "-"),
}
PREFIX = "diffusion/denoisers/"
NEEDS = (
    PREFIX + "sigmas",
    *(f"{PREFIX}errors/{points}/{name}" for points in PANELS for name in LINES),
)
PIXELS = 14**2
LEAST = 1e-4  # smaller relative errors are drawn here


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    sigma_T = results[PREFIX + "sigmas"]
    figure = new_figure(TWO_COLUMNS, 2.4)
    panels = figure.subplots(1, len(PANELS), sharex=True, sharey=True)
    for axes, letter, (points, title) in zip(panels, "abcd", PANELS.items(), strict=True):
        for name, (label, color, style) in LINES.items():
            error_ST = results[f"{PREFIX}errors/{points}/{name}"] / (PIXELS * sigma_T**2)
            error_ST = np.maximum(error_ST, LEAST)
            ends_T = [mean_of_seeds(error_S)[1:] for error_S in error_ST.T]
            axes.loglog(sigma_T, error_ST.mean(axis=0), color=color, ls=style, label=label)
            axes.fill_between(sigma_T, *np.transpose(ends_T), color=color, alpha=0.25, lw=0)
        axes.set(ylim=(LEAST, 30), xlabel=r"noise level $\sigma$", ylabel=r"error / $D\sigma^2$")
        panel_title(axes, letter, title)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7
    )
    return figure
