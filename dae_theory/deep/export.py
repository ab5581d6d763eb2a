"""A finished training as a checkpoint with a card: ``python -m dae_theory.deep.export
--training=DIR --out=NAME.npz``.

Writes NAME.npz, and NAME.json with what the network does: loss on test images, share of copies
among its samples. Exit status 0, or 2 on bad input.
"""

import sys
from pathlib import Path

from absl import flags

from dae_theory.checks import InputError, check_count
from dae_theory.commands import parse_options
from dae_theory.deep.checkpoints import export_training, load_checkpoint, write_checkpoint
from dae_theory.deep.evaluation import evaluate_checkpoint

FLAGS = flags.FlagValues()


def _define_flags() -> None:
    both = {"flag_values": FLAGS}
    flags.DEFINE_string("training", None, "Folder of a finished training.", **both)
    flags.DEFINE_string("out", None, "NAME.npz, the checkpoint to write.", **both)
    flags.DEFINE_string(
        "reference", None, "Checkpoint whose test loss this one's is divided by.", **both
    )
    flags.DEFINE_integer("samples", 1000, "Samples of each kind of caption.", **both)
    flags.DEFINE_bool("help", False, "Print this help and stop.", **both)


_define_flags()


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    try:
        FLAGS.unparse_flags()
        if not parse_options(FLAGS, argv, __doc__):
            return 0
        for name in ("training", "out"):
            if FLAGS[name].value is None:
                raise InputError(f"{name}: is missing; give --training=DIR --out=NAME.npz")
        check_count(FLAGS.samples, "samples")
        reference = None if FLAGS.reference is None else load_checkpoint(FLAGS.reference)
        checkpoint = export_training(FLAGS.training, FLAGS.out)
        found = evaluate_checkpoint(checkpoint, checkpoint.training_set(), reference, FLAGS.samples)
        write_checkpoint(
            Path(FLAGS.out), checkpoint.params, checkpoint.card | {"evaluation": found}
        )
        print(found)
    except (InputError, OSError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
