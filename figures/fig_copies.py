"""Which samples of deep models are copies: gap ratios to their training images (Corollary 3.4).

For each shipped model, the share of samples whose gap ratio (distance to the nearest training image
over that to the second nearest) lies below the value on the horizontal axis. Left of the dotted
line, 1/3, a sample is a copy. Hybrid models were trained on planted images, shown far more often
than others: under their captions the model with text returns them, under other captions it makes
new images. Shades are 95% intervals over seeds.
"""

import numpy as np
from matplotlib.figure import Figure

from dae_theory.memorization.copies import COPY_RATIO
from figures.results import RunResults, mean_of_seeds
from figures.style import (
    DUPLICATES,
    GENERALIZING,
    MEMORIZING,
    NEUTRAL,
    ONE_COLUMN,
    THEORY,
    new_figure,
)

ID = "copies"
REGIMES = ("diffusion",)
NAMES = {
    "memorizing": ("trained on few images", MEMORIZING, "-"),
    "planted": ("hybrid, planted captions", DUPLICATES, "-"),
    "hybrid": ("hybrid, no captions", DUPLICATES, "--"),
    "other": ("hybrid, other captions", NEUTRAL, "-"),
    "generalizing": ("trained on many images", GENERALIZING, "-"),
}
PREFIX = "diffusion/deep/gap_ratio/"
NEEDS = tuple(PREFIX + name for name in NAMES)
GRID = np.linspace(0, 1, 101)


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    figure = new_figure(ONE_COLUMN, 2.4)
    axes = figure.subplots()
    axes.axvline(COPY_RATIO, color=THEORY, lw=0.8, ls=":")
    for name, (label, color, style) in NAMES.items():
        below_SG = np.mean(results[PREFIX + name][:, :, None] < GRID, axis=1)
        ends_G = [mean_of_seeds(below_S)[1:] for below_S in below_SG.T]
        axes.plot(GRID, below_SG.mean(axis=0), color=color, ls=style, label=label)
        axes.fill_between(GRID, *np.transpose(ends_G), color=color, alpha=0.25, lw=0)
    axes.set(xlabel="gap ratio", ylabel="share of samples below", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left", bbox_to_anchor=(0.36, 0.96), fontsize=6)
    return figure
