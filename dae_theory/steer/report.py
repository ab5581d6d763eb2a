"""What the command leaves behind: strip.png and steering.csv."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dae_theory.files import write_whole
from dae_theory.memorization.copies import COPY_RATIO
from dae_theory.steer.metrics import probability

COLUMNS = ("start", "strength", "log_odds", "probability", "distance", "gap_ratio", "copy")
SHOWN = 6  # starts whose pictures are shown
BLUE = "#0072B2"


@dataclass(frozen=True)
class Strip:
    """Samples of S strengths and N starts, and what was measured of them.

    Attributes:
      concept: its name.
      strengths: (S,), increasing.
      samples: (S, N, D), in [−1, 1].
      image_shape: of a row.
      log_odds: of the concept, by the classifier.
      distance: to the unsteered sample, in units of the rows.
      ratio: gap ratio to the training images that are on this machine; below COPY_RATIO is a copy.
    """

    concept: str
    strengths: Float[np.ndarray, " S"]
    samples: Float[np.ndarray, "S N D"]
    image_shape: tuple[int, ...]
    log_odds: Float[np.ndarray, "S N"]
    distance: Float[np.ndarray, "S N"]
    ratio: Float[np.ndarray, "S N"]


def write_strip(strip: Strip, out: Path) -> None:
    """Write both files into a folder."""
    write_whole(out / "steering.csv", table(strip).encode())
    write_whole(out / "strip.png", draw(strip))


def table(strip: Strip) -> str:
    """COLUMNS, a line a sample, starts in their order."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for n in range(strip.samples.shape[1]):
        for s, strength in enumerate(strip.strengths):
            odds, ratio = strip.log_odds[s, n], strip.ratio[s, n]
            numbers = (strength, odds, probability(odds), strip.distance[s, n], ratio)
            words = [f"{number:.6g}" for number in numbers]
            writer.writerow([n, *words, str(bool(ratio < COPY_RATIO)).lower()])
    return text.getvalue()


def draw(strip: Strip) -> bytes:
    """Pictures, a column a strength, above the probability of the concept, as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # most of a second to load
    from matplotlib.figure import Figure

    count, rows = len(strip.strengths), min(SHOWN, strip.samples.shape[1])
    figure = Figure(figsize=(0.7 * count + 1.2, 0.7 * rows + 2.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows + 1, count, height_ratios=[1] * rows + [2.5])
    for s, strength in enumerate(strip.strengths):
        for n in range(rows):
            axes = figure.add_subplot(grid[n, s])
            picture = strip.samples[s, n].reshape(strip.image_shape)
            axes.imshow(picture, cmap="gray", vmin=-1, vmax=1)
            axes.set(xticks=[], yticks=[])
            if n == 0:
                axes.set_title(f"{strength:g}", fontsize=8)
    axes = figure.add_subplot(grid[rows, :])
    chance = probability(strip.log_odds)
    axes.plot(strip.strengths, chance, color=BLUE, alpha=0.25, lw=0.8)
    axes.plot(strip.strengths, chance.mean(axis=1), color=BLUE, marker="o", label="mean")
    axes.set(xlabel="strength", ylabel=f"probability of {strip.concept}", ylim=(-0.03, 1.03))
    axes.legend(frameon=False, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()
