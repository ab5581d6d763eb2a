"""What nets without biases sample: directions of training images, of any length (Corollary 3.2).

Each dot is a sample: its cosine to the training sample nearest in direction, and its length over
that of this training sample. A copy would lie at (1, 1). (a) Memorizing nets, one for each noise
level, on five images: most samples lie along a training image, but their lengths follow the start
noise, because twice the noise gives twice the sample. (b) The same kind of nets trained on many
samples of a mixture: directions are new ones.
"""

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

ID = "rays"
REGIMES = ("diffusion",)
PANELS = {
    "images/set": ("memorizing nets", MEMORIZING),
    "many/set": ("generalizing nets", GENERALIZING),
}
PREFIX = "diffusion/relu/"
NEEDS = tuple(f"{PREFIX}{name}/{what}" for name in PANELS for what in ("cosines", "lengths"))


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    figure = new_figure(TWO_COLUMNS, 2.4)
    panels = figure.subplots(1, len(PANELS), sharex=True, sharey=True)
    for axes, letter, (name, (title, color)) in zip(panels, "ab", PANELS.items(), strict=True):
        cosine, length = (results[f"{PREFIX}{name}/{what}"] for what in ("cosines", "lengths"))
        axes.axhline(1, color=THEORY, lw=0.6, ls=":")
        axes.axvline(1, color=THEORY, lw=0.6, ls=":")
        axes.plot(length.ravel(), cosine.ravel(), ".", color=color, ms=2, alpha=0.5)
        axes.set(xlabel="length, over the training sample's", ylabel="cosine with it")
        panel_title(axes, letter, title)
    return figure
