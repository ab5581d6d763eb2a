"""Models on which detectors are judged: ``python -m dae_theory.detect.study --out=DIR``.

Trains small text DiTs, a U-Net and DiTs without text, all with planted images, and asks every
detector about their training images, samples and unseen images (docs/THEORY.md#detection). DIR
gets scores.npz, a row an image, and study.json; --show prints tables of them. ``--choose`` only
finds the layer and noise levels with the highest areas on the validation images of development
models, which `settings` keeps. Kill it at any moment and start it again with the same options: it
goes on. Exit status 0 when all is done, 2 on bad input.

The study in the package is that of docs/RESULTS.md.
"""

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from dae_theory.checks import InputError
from dae_theory.commands import ProgressBar, configure_jax, option, run_main
from dae_theory.detect.study import report
from dae_theory.detect.study.run import GROUPS, choose, measure, said_choice, trained
from dae_theory.detect.study.settings import STEPS
from dae_theory.detect.study.store import MEASURED, Study, merge
from dae_theory.detect.study.train import train_models


@dataclass(frozen=True)
class Options:
    """The command's options."""

    groups: tuple[str, ...] = option(tuple(GROUPS), f"Of models: {', '.join(GROUPS)}.")
    out: str | None = option(None, "Folder of the study.")
    choose: bool = option(False, "Train development models, print the best choice, and stop.")
    show: bool = option(False, "Print the tables of --out, or of the study in the package.")

    def __post_init__(self) -> None:
        unknown = [group for group in self.groups if group not in GROUPS]
        if unknown or not self.groups:
            raise InputError(f"groups: expected some of {', '.join(GROUPS)}, got {self.groups}")


def study(options: Options) -> int:
    """Train, choose or measure what is not done, and write the table."""
    if options.show:
        print(report.text(Study.load(Path(options.out) if options.out else MEASURED)))
        return 0
    if options.out is None:
        raise InputError("out: say where the study goes, --out=DIR")
    out = Path(options.out)
    groups = ("development", "shipped") if options.choose else options.groups
    with contextlib.closing(ProgressBar()) as bar:
        train_models(
            out,
            trained(groups),
            lambda name, step, loss: bar("steps", step, STEPS, f"{name}, loss {loss:.4f}"),
        )
        if options.choose:
            print(json.dumps(choose(out, bar), indent=1))
            return 0
        names = measure(out, groups, bar)
    done = merge(out, names, command_of(options), said_choice())
    print(f"{out}: {done} of {len(names)} models")
    return 0


def command_of(options: Options) -> str:
    """The command line, without its folder."""
    words = ["python -m dae_theory.detect.study"]
    if options.groups != tuple(GROUPS):
        words.append(f"--groups={','.join(options.groups)}")
    return " ".join(words)


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(study, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
