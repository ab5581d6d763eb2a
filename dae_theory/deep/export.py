"""A finished training as a checkpoint with a card: ``python -m dae_theory.deep.export
--training=DIR --out=NAME.npz``.

Writes NAME.npz, and NAME.json with what the network does: loss on test images, share of copies
among its samples. Exit status 0, or 2 on bad input.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from dae_theory.checks import InputError, check_count
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.deep.checkpoints import export_training, load_checkpoint, write_checkpoint
from dae_theory.deep.evaluation import evaluate_checkpoint


@dataclass(frozen=True)
class Options:
    """The command's options."""

    training: str | None = option(None, "Folder of a finished training.")
    out: str | None = option(None, "NAME.npz, the checkpoint to write.")
    reference: str | None = option(None, "Checkpoint whose test loss this one's is divided by.")
    samples: int = option(1000, "Samples of each kind of caption.")

    def __post_init__(self) -> None:
        for name in ("training", "out"):
            if getattr(self, name) is None:
                raise InputError(f"{name}: is missing; give --training=DIR --out=NAME.npz")
        check_count(self.samples, "samples")


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(export, Options, argv, __doc__)


def export(options: Options) -> int:
    """Export, measure, and write what was measured into the card."""
    reference = None if options.reference is None else load_checkpoint(options.reference)
    checkpoint = export_training(options.training, options.out)
    found = evaluate_checkpoint(checkpoint, checkpoint.training_set(), reference, options.samples)
    write_checkpoint(Path(options.out), checkpoint.params, checkpoint.card | {"evaluation": found})
    print(found)
    return 0


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
