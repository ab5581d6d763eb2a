"""Columns of W1 beside the training samples they store (Corollary 3.2, equation (5)).

For each sample, the strongest live unit among those that answer to it most; below it the cosine
between column and sample. The net is trained on centred samples, so a column is to be compared
with the sample minus the mean; both are shown on a gray scale that is symmetric about zero and
scaled to their own largest entry. Samples that are not images are drawn as curves, at unit norm.
The net is the first of the run, the samples its first eight.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dae_theory.weights.compare import assign_blocks
from figures.grids import curve_grid, image_grid, name_curves, show_image
from figures.results import RunResults
from figures.style import MEMORIZING

ID = "stored-columns"
REGIMES = ("memorize",)
NEEDS = ("memorize/x", "memorize/w1", "memorize/w2")
MOST_SAMPLES = 8


def strongest_units(w1_DP: np.ndarray, w2_DP: np.ndarray, x_ND: np.ndarray) -> list[int | None]:
    """For each sample the unit of largest ‖w1‖‖w2‖ among those that belong to it; None if none."""
    blocks_P = assign_blocks(w1_DP, w2_DP, x_ND, np.arange(len(x_ND)))
    strength_P = np.linalg.norm(w1_DP, axis=0) * np.linalg.norm(w2_DP, axis=0)
    return [
        int(np.argmax(np.where(blocks_P == i, strength_P, -1.0))) if np.any(blocks_P == i) else None
        for i in range(len(x_ND))
    ]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    x_ND = results["memorize/x"]
    w1_DP, w2_DP = results.pairs("memorize")[0]
    units = strongest_units(w1_DP, w2_DP, x_ND)[:MOST_SAMPLES]
    columns = [None if unit is None else w1_DP[:, unit] for unit in units]
    x_ND = x_ND[: len(units)]
    if "memorize/image_shape" not in results.arrays:
        return _draw_curves(x_ND, columns)
    shape = tuple(results["memorize/image_shape"].tolist())
    return _draw_images(x_ND, columns, results.arrays.get("memorize/offset"), shape)


def _draw_images(
    x_ND: np.ndarray,
    columns: list[np.ndarray | None],
    offset_D: np.ndarray | None,
    shape: tuple[int, ...],
) -> Figure:
    centred = offset_D is not None and np.any(offset_D != 0)
    rows = ["training\nimage", *(["minus\nmean"] if centred else []), "column\nof $W_1$"]
    figure, grid = image_grid(list(rows), len(x_ND), shape, margin=0.55)
    for i, (x_D, column_D) in enumerate(zip(x_ND, columns, strict=True)):
        image_D = x_D if offset_D is None else x_D + offset_D
        _show_image(grid[0, i], image_D, shape)
        if centred:
            _show_signed(grid[1, i], x_D, shape)
        if column_D is None:
            grid[-1, i].set_xlabel("not stored", fontsize=7)
        else:
            _show_signed(grid[-1, i], column_D, shape)
            grid[-1, i].set_xlabel(_cosine_text(column_D, x_D, short=i > 0), fontsize=7)
    return figure


def _show_image(axes: Axes, values_D: np.ndarray, shape: tuple[int, ...]) -> None:
    """An image from black, 0, to white, 1; stretched from least to most if it leaves [0, 1]."""
    low, high = float(values_D.min()), float(values_D.max())
    if low < -1e-6 or high > 1 + 1e-6:
        values_D = (values_D - low) / max(high - low, np.finfo(float).tiny)
    show_image(axes, values_D, shape)


def _show_signed(axes: Axes, values_D: np.ndarray, shape: tuple[int, ...]) -> None:
    """A signed image, zero in middle gray; colour channels are averaged."""
    image = values_D.reshape(shape)
    if image.ndim == 3:
        image = image.mean(axis=2)
    largest = np.max(np.abs(image))
    axes.imshow(image, cmap="gray", vmin=-largest, vmax=largest)


def _draw_curves(x_ND: np.ndarray, columns: list[np.ndarray | None]) -> Figure:
    norms = np.linalg.norm(x_ND, axis=1, keepdims=True)
    figure, grid = curve_grid(x_ND / norms, "entry, at unit norm")
    features = np.arange(x_ND.shape[1])
    for axes, x_D, column_D in zip(grid, x_ND, columns, strict=True):
        if column_D is None:
            axes.set_title("not stored", fontsize=7)
            continue
        unit_D = column_D / np.linalg.norm(column_D)
        axes.plot(features, unit_D, color=MEMORIZING, lw=0.8, label="column of $W_1$")
        axes.set_title(_cosine_text(column_D, x_D), fontsize=7)
    name_curves(figure, grid[0])
    return figure


def _cosine_text(column_D: np.ndarray, x_D: np.ndarray, short: bool = False) -> str:
    value = f"{cosine(column_D, x_D):.4f}"
    return value if short else f"cos {value}"
