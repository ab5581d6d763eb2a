"""Training samples beside what the weights alone give back, in absolute scale (Corollary 3.2).

`dae_theory.extract_samples` reads directions and gains off W1 and W2 and turns the gains into
norms by equation (5); it is told σ, λ and the number of samples, and never sees one. The mean that
was subtracted before training is added to the extracted samples. Rows: training image, extracted
image, ten times their difference around middle gray; below, the peak signal-to-noise ratio.
Samples that are not images are drawn as curves. The net is the first of the run, the samples its
first eight.
"""

import numpy as np
from matplotlib.figure import Figure

from dae_theory.weights.extract import extract_samples, match_samples, psnr
from figures.grids import curve_grid, image_grid, name_curves, show_image
from figures.results import RunResults
from figures.style import MEMORIZING

ID = "extraction"
REGIMES = ("memorize",)
NEEDS = ("memorize/x", "memorize/w1", "memorize/w2", "memorize/sigma", "memorize/lam")
MOST_SAMPLES = 8
MAGNIFIED = 10


def extracted_for(results: RunResults) -> list[np.ndarray | None]:
    """For each training sample what the first net gives back of it; None if nothing is matched."""
    x_ND = results["memorize/x"]
    w1_DP, w2_DP = results.pairs("memorize")[0]
    extraction = extract_samples(
        w1_DP,
        w2_DP,
        results.number("memorize/sigma"),
        results.number("memorize/lam"),
        len(x_ND),
    )
    match = match_samples(extraction.samples, x_ND)
    found: list[np.ndarray | None] = [None] * len(x_ND)
    for k, i, cosine in zip(match.extracted, match.true, match.cosines, strict=True):
        if cosine > 0:
            found[i] = extraction.samples[k]
    return found


def pixel_range(images_ND: np.ndarray) -> tuple[float, float]:
    """Black and white: 0 and 1, or the least and the most if the images leave [0, 1]."""
    low, high = float(images_ND.min()), float(images_ND.max())
    return (0.0, 1.0) if low >= -1e-6 and high <= 1 + 1e-6 else (low, high)


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    found = extracted_for(results)[:MOST_SAMPLES]
    x_ND = results["memorize/x"][: len(found)]
    if "memorize/image_shape" not in results.arrays:
        return _draw_curves(x_ND, found)
    shape = tuple(results["memorize/image_shape"].tolist())
    offset_D = results.arrays.get("memorize/offset", np.zeros(x_ND.shape[1]))
    return _draw_images(x_ND, found, offset_D, shape)


def _draw_images(
    x_ND: np.ndarray, found: list[np.ndarray | None], offset_D: np.ndarray, shape: tuple[int, ...]
) -> Figure:
    rows = ("training\nimage", "from the\nweights", f"difference\n×{MAGNIFIED}")
    figure, grid = image_grid(list(rows), len(x_ND), shape, margin=0.6)
    low, high = pixel_range(x_ND + offset_D)
    for i, (x_D, found_D) in enumerate(zip(x_ND, found, strict=True)):
        drawn = {0: (x_D + offset_D - low) / (high - low)}
        text = "not stored"
        if found_D is not None:
            drawn[1] = (found_D + offset_D - low) / (high - low)
            drawn[2] = 0.5 + MAGNIFIED * (found_D - x_D) / (high - low)
            text = f"{psnr(x_D, found_D, high - low):.1f}" + (" dB" if i == 0 else "")
        for row, values_D in drawn.items():
            show_image(grid[row, i], values_D, shape)
        grid[-1, i].set_xlabel(text, fontsize=7)
    return figure


def _draw_curves(x_ND: np.ndarray, found: list[np.ndarray | None]) -> Figure:
    figure, grid = curve_grid(x_ND, "entry, in data units")
    features = np.arange(x_ND.shape[1])
    for axes, x_D, found_D in zip(grid, x_ND, found, strict=True):
        if found_D is None:
            axes.set_title("not stored", fontsize=7)
            continue
        axes.plot(features, found_D, color=MEMORIZING, lw=0.8, label="from the weights")
        error = np.linalg.norm(found_D - x_D) / np.linalg.norm(x_D)
        axes.set_title(f"relative error {error:.2g}", fontsize=7)
    name_curves(figure, grid[0])
    return figure
