"""Samples of a deep denoiser beside what they might be copies of: ``python -m figures.samples
--checkpoint=hybrid-text-dit --out=DIR``.

Writes DIR/NAME.png, a grid of samples, each above its nearest training image and gap ratio (below
1/3 it is a copy, and framed), and DIR/NAME.csv. Without --caption, a network with text that planted
images were trained into is asked for these in the first half of the samples, and for other things
in the second. Without all of Fashion-MNIST, copies are looked for among the training images that
come with the package, and it says so. Exit status 0, or 2 on bad input.
"""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from dae_theory.checks import InputError, check_count, check_seed
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.deep.checkpoints import SHIPPED, Checkpoint, load_checkpoint
from dae_theory.deep.evaluation import prompts
from dae_theory.deep.images import TrainingSet
from dae_theory.deep.sampling import Copies, Sampler, find_copies, sample_images
from dae_theory.files import write_whole
from figures.grids import image_grid, show_image
from figures.style import MEMORIZING, RC, write_picture

COLUMNS = 8


@dataclass(frozen=True)
class Options:
    """The command's options."""

    checkpoint: str = option(SHIPPED[0], f"{', '.join(SHIPPED)}, or the path of an .npz file.")
    out: str | None = option(None, "Folder of the grid and the table.")
    count: int = option(16, "Samples.")
    caption: str | None = option(None, "Of all samples.")
    seed: int = option(0, "Of the noise, and of captions not given.")
    steps: int = option(Sampler().steps, "Of the sampler.")
    guidance: float = option(Sampler().guidance, "Weight of classifier-free guidance; 1 is none.")

    def __post_init__(self) -> None:
        if self.out is None:
            raise InputError("out: say where the samples go, --out=DIR")
        check_count(self.count, "count")
        check_seed(self.seed)


def chosen_captions(options: Options, checkpoint: Checkpoint, data: TrainingSet) -> list[str]:
    """One caption for each sample: the one given, or half planted and half others."""
    if options.caption is not None:
        return [options.caption] * options.count
    kinds = prompts(data, checkpoint.config.network.text, options.count, options.seed)
    if len(kinds) == 1:
        (captions,) = kinds.values()
        return captions
    half = (options.count + 1) // 2
    return kinds["planted captions"][:half] + kinds["other captions"][: options.count - half]


def draw_grid(
    samples_MD: Float[np.ndarray, "M D"],
    copies: Copies,
    data: TrainingSet,
    captions: Sequence[str],
) -> Figure:
    """Rows of samples, each above a row of their nearest training images."""
    bands = -(-len(samples_MD) // COLUMNS)
    shape = data.images.shape[1:3]
    figure, grid = image_grid(["sample", "nearest"] * bands, COLUMNS, shape, margin=0.5)
    for axes in grid.flat:
        axes.axis("off")
    for index, (sample_D, nearest) in enumerate(zip(samples_MD, copies.nearest, strict=True)):
        band, column = divmod(index, COLUMNS)
        above, below = grid[2 * band, column], grid[2 * band + 1, column]
        for axes, row_D in ((above, sample_D), (below, data.rows[nearest])):
            axes.axis("on")
            show_image(axes, (row_D + 1) / 2, shape)
        if captions[index]:
            above.set_title(captions[index], fontsize=5)
        below.set_xlabel(f"gap ratio {copies.ratio[index]:.2f}", fontsize=6)
        if copies.copy[index]:
            for axes in (above, below):
                axes.spines[:].set(visible=True, color=MEMORIZING, linewidth=1.5)
    return figure


def table_of(copies: Copies, captions: Sequence[str]) -> bytes:
    """The samples as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("sample", "caption", "nearest_index", "nearest_planted", "gap_ratio", "copy"))
    rows = zip(captions, copies.nearest, copies.planted, copies.ratio, copies.copy, strict=True)
    for index, (caption, nearest, planted, ratio, copy) in enumerate(rows):
        writer.writerow((index, caption, nearest, int(planted), f"{ratio:.6g}", int(copy)))
    return text.getvalue().encode()


def draw_samples(options: Options) -> int:
    """Sample, find copies, write both files; prints how many are copies, and the files."""
    checkpoint, out = load_checkpoint(options.checkpoint), Path(options.out)
    data = checkpoint.known_images()
    missing = checkpoint.config.images + checkpoint.config.planted - len(data.images)
    if missing:
        print(
            f"{missing} of its training images are not on this machine: copies of these are not "
            "seen; all are in the Debian package dataset-fashion-mnist",
            file=sys.stderr,
        )
    captions = chosen_captions(options, checkpoint, data)
    sampler = Sampler(steps=options.steps, guidance=options.guidance)
    samples_MD = sample_images(checkpoint, captions, options.seed, sampler)
    copies = find_copies(samples_MD, data)
    picture, table = (out / f"{checkpoint.name}.{suffix}" for suffix in ("png", "csv"))
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        write_picture(draw_grid(samples_MD, copies, data, captions), picture)
    write_whole(table, table_of(copies, captions))
    of_planted = np.sum(copies.copy & copies.planted)
    print(
        f"{checkpoint.name}: {np.sum(copies.copy)} of {len(captions)} samples are copies of "
        f"training images, {of_planted} of them of planted ones"
    )
    print(picture, table, sep="\n")
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(draw_samples, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
