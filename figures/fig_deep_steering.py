"""What the strength of steering does in deep models: probability of the concept, by kind of sample.

A panel a model with text. Thick lines are means over concepts along the mean of the concept's
references, thin ones the concepts; dashed, along the difference of means; dotted, along random
directions of equal norm, one a start. Every other start is under a caption of the concept.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dae_theory.steer.metrics import probability
from dae_theory.steer.study.settings import (
    DIFFERENCE,
    GENERALIZED,
    MAIN,
    MEMORIZED,
    RANDOM,
    SUBJECTS,
    TEXT,
)
from dae_theory.steer.study.store import Case, Study
from figures.style import GENERALIZING, MEMORIZING, NEUTRAL, TWO_COLUMNS, new_figure, panel_title

ID = "deep_steering"
SOURCE = Study
REGIMES: tuple[str, ...] = ()
NEEDS: tuple[str, ...] = ()
TEXT_MODELS = tuple(subject.name for subject in SUBJECTS if subject.layers == (TEXT,))
KINDS = (
    (MAIN, GENERALIZED, GENERALIZING, "-", "generalized"),
    (MAIN, MEMORIZED, MEMORIZING, "-", "memorized"),
    (DIFFERENCE, GENERALIZED, GENERALIZING, "--", "difference of means"),
    (RANDOM, GENERALIZED, NEUTRAL, ":", "random directions"),
)


def draw(results: Study) -> Figure:
    """The figure for one study."""
    models = [m for m in dict.fromkeys(c.model for c in results.cases) if m in TEXT_MODELS]
    figure = new_figure(TWO_COLUMNS, 2.1)
    grid = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axes, letter, model in zip(grid, "abcdefgh", models, strict=False):
        draw_model(axes, [case for case in results.cases if case.model == model])
        panel_title(axes, letter, model)
        axes.set_xlabel("strength, of the activation")
    grid[0].set(ylabel="probability of the concept", ylim=(0, 1))
    grid[0].legend()
    return figure


def draw_model(axes: Axes, cases: list[Case]) -> None:
    """Curves of one model."""
    for variant, group, colour, line, label in KINDS:
        some = [case for case in cases if (case.variant, case.group) == (variant, group)]
        if some:
            curves = [probability(c.arrays["log_odds"].astype(float)).mean(axis=1) for c in some]
            strengths = some[0].strengths
            if variant == MAIN:
                axes.plot(strengths, np.transpose(curves), line, color=colour, lw=0.5, alpha=0.4)
            axes.plot(strengths, np.mean(curves, axis=0), line, color=colour, lw=1.6, label=label)
