"""Samples of a deep denoiser beside what they might be copies of: ``python -m figures.samples
--checkpoint=hybrid-text-dit --out=DIR``.

Writes DIR/NAME.png, a grid of samples, each above its nearest training image and gap ratio (below
1/3 it is a copy, and framed), and DIR/NAME.csv. Without --caption, a network with text that planted
images were trained into is asked for these in the first half of the samples, and for other things
in the second. Exit status 0, or 2 on bad input.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from absl import flags
from jaxtyping import Float
from matplotlib.figure import Figure

from dae_theory.checks import InputError, check_count
from dae_theory.commands import parse_options
from dae_theory.deep.checkpoints import SHIPPED, Checkpoint, load_checkpoint
from dae_theory.deep.evaluation import prompts
from dae_theory.deep.images import TrainingSet
from dae_theory.deep.sampling import Copies, Sampler, find_copies, sample_images
from dae_theory.files import write_whole
from figures.grids import image_grid, show_image
from figures.style import DPI, MEMORIZING, RC

COLUMNS = 8
FLAGS = flags.FlagValues()


def _define_flags() -> None:
    both = {"flag_values": FLAGS}
    sampler = Sampler()
    flags.DEFINE_string(
        "checkpoint", SHIPPED[0], f"{', '.join(SHIPPED)}, or the path of an .npz file.", **both
    )
    flags.DEFINE_string("out", None, "Folder of the grid and the table.", **both)
    flags.DEFINE_integer("count", 16, "Samples.", **both)
    flags.DEFINE_string("caption", None, "Of all samples.", **both)
    flags.DEFINE_integer("seed", 0, "Of the noise, and of captions not given.", **both)
    flags.DEFINE_integer("steps", sampler.steps, "Of the sampler.", **both)
    flags.DEFINE_float(
        "guidance", sampler.guidance, "Weight of classifier-free guidance; 1 is none.", **both
    )
    flags.DEFINE_bool("help", False, "Print this help and stop.", **both)


_define_flags()


def chosen_captions(checkpoint: Checkpoint, data: TrainingSet) -> list[str]:
    """One caption for each sample: the one given, or half planted and half others."""
    if FLAGS.caption is not None:
        return [FLAGS.caption] * FLAGS.count
    kinds = prompts(data, checkpoint.config.network.text, FLAGS.count, FLAGS.seed)
    if len(kinds) == 1:
        (captions,) = kinds.values()
        return captions
    half = (FLAGS.count + 1) // 2
    return kinds["planted captions"][:half] + kinds["other captions"][: FLAGS.count - half]


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


def draw_samples(checkpoint: Checkpoint, out: Path) -> list[Path]:
    """Sample, find copies, write both files; prints how many are copies."""
    data = checkpoint.training_set()
    captions = chosen_captions(checkpoint, data)
    sampler = Sampler(steps=FLAGS.steps, guidance=FLAGS.guidance)
    samples_MD = sample_images(checkpoint, captions, FLAGS.seed, sampler)
    copies = find_copies(samples_MD, data)
    picture, table = (out / f"{checkpoint.name}.{suffix}" for suffix in ("png", "csv"))
    out.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    with mpl.rc_context(RC):
        figure = draw_grid(samples_MD, copies, data, captions)
        figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_whole(picture, content.getvalue())
    write_whole(table, table_of(copies, captions))
    of_planted = np.sum(copies.copy & copies.planted)
    print(
        f"{checkpoint.name}: {np.sum(copies.copy)} of {len(captions)} samples are copies of "
        f"training images, {of_planted} of them of planted ones"
    )
    return [picture, table]


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    try:
        FLAGS.unparse_flags()
        if not parse_options(FLAGS, argv, __doc__):
            return 0
        if FLAGS.out is None:
            raise InputError("out: say where the samples go, --out=DIR")
        check_count(FLAGS.count, "count")
        for path in draw_samples(load_checkpoint(FLAGS.checkpoint), Path(FLAGS.out)):
            print(path)
    except (InputError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: out: cannot write there ({error})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
