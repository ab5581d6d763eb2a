"""Grids of small images and of curves, for figures that put samples beside what a net stores."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import NEUTRAL, ONE_COLUMN, TWO_COLUMNS, new_figure

MOST_IN_ONE_COLUMN = 5
CURVES_PER_ROW = 4


def image_grid(
    rows: list[str], n_columns: int, shape: tuple[int, ...], margin: float
) -> tuple[Figure, np.ndarray]:
    """Figure and axes (rows, columns) without ticks or frames, each row named at its left.

    ``margin`` in inches is what the names take.
    """
    width = ONE_COLUMN if n_columns <= MOST_IN_ONE_COLUMN else TWO_COLUMNS
    side = (width - margin) / n_columns
    figure = new_figure(width, len(rows) * side * shape[0] / shape[1] + 0.25)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    grid = figure.subplots(len(rows), n_columns, squeeze=False)
    for axes, name in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure, grid


def show_image(axes: Axes, values_D: np.ndarray, shape: tuple[int, ...]) -> None:
    """An image from black, 0, to white, 1; what is outside is cut off."""
    image = np.clip(values_D, 0, 1).reshape(shape)
    if image.ndim == 3 and image.shape[2] != 3:
        image = image.mean(axis=2)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)


def curve_grid(x_ND: np.ndarray, ylabel: str) -> tuple[Figure, list[Axes]]:
    """Figure and one axes per sample, which is drawn over the feature index."""
    across = min(len(x_ND), CURVES_PER_ROW)
    down = -(-len(x_ND) // across)
    figure = new_figure(TWO_COLUMNS, 1.3 * down + 0.45)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for axes, x_D in zip(grid.flat, x_ND, strict=False):
        axes.plot(np.arange(len(x_D)), x_D, color=NEUTRAL, lw=2.5, label="sample")
    for axes in grid.flat[len(x_ND) :]:
        axes.set_visible(False)
    figure.supxlabel("feature index", fontsize=8)
    figure.supylabel(ylabel, fontsize=8)
    return figure, list(grid.flat[: len(x_ND)])


def name_curves(figure: Figure, axes: Axes) -> None:
    """One legend for all axes of a curve grid, from the curves of one."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
