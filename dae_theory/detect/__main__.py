"""Which images does a model know by heart? ``python -m dae_theory.detect --model=NAME|FILE
--images=FOLDER|FILE --out=DIR``.

Gives each image a score, high = memorized. With --calibration, images that the model does not know
and that are otherwise like those asked about, also p-values and verdicts at a promised rate of
false positives, --fpr; without, it can only rank. DIR gets scores.csv, scores.parquet, scores.png
and report.html. Kill it at any moment and start it again with the same options: it goes on.

--model is the name of a shipped model, a checkpoint NAME.npz beside its card, or the .npz file of a
ReLU net (W1, W2, X, sigma, lam). Images are a folder, one file, or an .npy or .npz array, in which
bytes go from black to white and other numbers are in the model's own range. Captions are a text
file, a line an image by name, or a .csv file with columns image and caption. 'own' images, or
training images, are those that the model was trained on, as far as they are on this machine.

Exit status 0, also when some images could not be used; 2 when none could, or on other bad input.
"""

import contextlib
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from dae_theory.checks import InputError
from dae_theory.commands import ProgressBar, configure_jax, option, run_main
from dae_theory.detect.report import write_report
from dae_theory.detect.run import DetectConfig, detect_memorized

MOST_NAMED = 20  # unusable images


@dataclass(frozen=True)
class Options:
    """The command's options."""

    model: str | None = option(None, "Name of a shipped model, or an .npz file.")
    images: str | None = option(None, "Folder or file of the images asked about, or 'own'.")
    captions: str | None = option(None, "File of their captions.")
    calibration: str | None = option(None, "Folder or file of images that are not memorized.")
    calibration_captions: str | None = option(None, "File of their captions.")
    training: str | None = option(None, "Folder or file of the training images, or 'own'.")
    mirrored: bool = option(False, "Mirror images of training images are copies, too.")
    resize: bool = option(False, "Resize images of another size, instead of leaving them out.")
    out: str | None = option(None, "Folder of the results.")
    config: DetectConfig = field(default_factory=DetectConfig)

    def __post_init__(self) -> None:
        for name, words in (("model", "NAME"), ("images", "FOLDER"), ("out", "DIR")):
            if getattr(self, name) is None:
                raise InputError(f"{name}: is missing; --{name}={words}")


def detect(options: Options) -> int:
    """Judge the images, write the report, and print the answer."""
    with contextlib.closing(ProgressBar()) as bar:
        found = detect_memorized(
            options.model,
            options.images,
            captions=options.captions,
            calibration=options.calibration,
            calibration_captions=options.calibration_captions,
            training=options.training,
            mirrored=options.mirrored,
            resize=options.resize,
            out=options.out,
            config=options.config,
            progress=bar,
        )
    write_report(found, Path(options.out), _command())
    left_out = list(found.images.left_out.items())
    for name, reason in left_out[:MOST_NAMED]:
        print(f"left out: {name}: {reason}", file=sys.stderr)
    if len(left_out) > MOST_NAMED:
        print(f"left out: {len(left_out) - MOST_NAMED} more, see report.html", file=sys.stderr)
    for note in found.notes:
        print(note)
    print(found.answer)
    return 0


def _command() -> str:
    return shlex.join(["python", "-m", "dae_theory.detect", *sys.argv[1:]])


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(detect, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
