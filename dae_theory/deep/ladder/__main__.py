"""From the theory to deep nets, rung by rung: ``python -m dae_theory.deep.ladder --out=DIR``.

Trains plain deep ReLU nets of depth 1 to 4 on 10 to 10,000 images, then nets that differ from them
in one thing each, and measures what the theory speaks of (docs/THEORY.md#deep-homogeneous). DIR
gets ladder.csv and ladder.json; --show prints tables of them. Kill it at any moment and start it
again with the same options: it goes on with the rung at which it was. Exit status 0 when all is
done, 2 on bad input.

The ladder in the package is that of docs/RESULTS.md; its ladder.json says which rungs it has and
how long they took.
"""

import contextlib
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from dae_theory.checks import InputError
from dae_theory.commands import ProgressBar, configure_jax, option, run_main
from dae_theory.deep.ladder import report
from dae_theory.deep.ladder.run import run_rung
from dae_theory.deep.ladder.rungs import LadderConfig
from dae_theory.deep.ladder.store import (
    MEASURED,
    Ladder,
    merge,
    open_folder,
    part_path,
    write_part,
)


@dataclass(frozen=True)
class Options:
    """The command's options."""

    config: LadderConfig = field(default_factory=LadderConfig)
    out: str | None = option(None, "Folder of the ladder.")
    merge: bool = option(False, "Write the table of the rungs that are done, and stop.")
    show: bool = option(False, "Print the tables of --out, or of the ladder in the package.")


def climb(options: Options) -> int:
    """Measure all rungs that are not done, and write the table."""
    if options.show:
        print(report.text(Ladder.load(Path(options.out) if options.out else MEASURED)))
        return 0
    if options.out is None:
        raise InputError("out: say where the ladder goes, --out=DIR")
    out, config = Path(options.out), options.config
    with open_folder(out, config), contextlib.closing(ProgressBar()) as bar:
        todo = [rung for rung in config.rungs if not part_path(out, rung).exists()]
        for index, rung in enumerate([] if options.merge else todo):
            bar("rungs", len(config.rungs) - len(todo) + index, len(config.rungs), rung.name)
            start = time.monotonic()
            rows = run_rung(rung, config)
            write_part(out, rung, config, rows, time.monotonic() - start)
        done, total = merge(out, config)
    print(f"{out}: {done} of {total} rungs")
    return 0


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(climb, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
