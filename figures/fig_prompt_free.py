"""When detection without a caption works: areas of detectors against the share of free copies.

A point is a trained model at one of its two steps: AUROC of planted against other training images
of their class (test split). The abscissa is the share of copies of planted images among samples
made without a caption. Filled: models that judge, hollow: those of development; squares have no
text. Line: no separation.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dae_theory.detect.evaluate import area
from dae_theory.detect.study.report import TRAINING, question
from dae_theory.detect.study.store import Model, Study
from figures.style import (
    DUPLICATES,
    GENERALIZING,
    MEMORIZING,
    NEUTRAL,
    TWO_COLUMNS,
    new_figure,
    panel_title,
)

ID = "prompt_free"
SOURCE = Study
REGIMES: tuple[str, ...] = ()
NEEDS: tuple[str, ...] = ()
PANELS = {
    "std": ("std", MEMORIZING),
    "std, right caption": ("std, right caption", MEMORIZING),
    "guidance_norm": ("Wen, right caption", NEUTRAL),
    "denoising_error": ("denoising error", GENERALIZING),
    "jacobian_trace": ("trace of the Jacobian", GENERALIZING),
    "chosen": ("best layer and statistic", DUPLICATES),
}


def draw(results: Study) -> Figure:
    """The figure for one study."""
    figure = new_figure(TWO_COLUMNS, 3.8)
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, letter, (detector, (title, colour)) in zip(
        grid.flat, "abcdef", PANELS.items(), strict=True
    ):
        _points(axes, results.models, detector, colour)
        panel_title(axes, letter, title)
    for axes in grid[1]:
        axes.set_xlabel("copies without a caption")
    for axes in grid[:, 0]:
        axes.set_ylabel("AUROC")
    return figure


def _points(axes: Axes, models: Sequence[Model], detector: str, colour: str) -> None:
    for model in models:
        asked = question(model, detector, TRAINING)
        if asked is not None:
            axes.plot(
                model.free_share,
                area(asked),
                marker="o" if model.facts["text"] else "s",
                mec=colour,
                mfc=colour if model.judging else "none",
                ls="none",
            )
    axes.axhline(0.5, color=NEUTRAL, lw=0.6, ls=":")
    axes.set_ylim(0, 1.05)
