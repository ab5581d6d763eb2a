"""What the commands of this project have in common."""

from collections.abc import Sequence

from absl import flags

from dae_theory.checks import InputError


def parse_options(options: flags.FlagValues, argv: Sequence[str], description: str) -> bool:
    """Set the options from the command line; on --help print it, and return False.

    Raises:
      InputError: for an argument that is no option.
      flags.Error: for an unknown option or a value of the wrong kind.
    """
    rest = options(argv)
    if len(rest) > 1:
        raise InputError(f"unexpected argument {rest[1]!r}; options start with --")
    if options.help:
        print(description)
        print(options.get_help())
        return False
    return True
