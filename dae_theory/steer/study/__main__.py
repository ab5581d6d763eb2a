"""Steering, measured: ``python -m dae_theory.steer.study --out=DIR``.

Steers memorized and generalized samples of models whose copies are known equally strongly towards
concepts (docs/THEORY.md#steering), and tries what else there is: other directions, references,
layers, windows, and ways of making no copies. DIR gets study.npz and study.json; --show prints
tables of them. --stage=development looks at other concepts and starts, on which everything was
chosen. Kill it at any moment and start it again with the same options: it goes on. Exit status 0
when all is done, 2 on bad input.

The study in the package is that of docs/RESULTS.md.
"""

import contextlib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from dae_theory.checks import InputError
from dae_theory.commands import ProgressBar, configure_jax, option, run_main
from dae_theory.files import reserve_folder
from dae_theory.steer.study import report
from dae_theory.steer.study.measure import most_similar
from dae_theory.steer.study.run import (
    DEVELOPING,
    JUDGING,
    ablations_of,
    looks,
    measure,
    mitigation_names,
    nulls,
)
from dae_theory.steer.study.settings import ABLATIONS, SAMPLER, SUBJECTS, WIDE
from dae_theory.steer.study.store import MEASURED, Study, merge

STAGES = {"development": DEVELOPING, "judging": JUDGING}
NAMES = tuple(subject.name for subject in SUBJECTS)


@dataclass(frozen=True)
class Options:
    """The command's options."""

    models: tuple[str, ...] = option(NAMES, f"Of {', '.join(NAMES)}.")
    stage: str = option("judging", f"{' or '.join(STAGES)}.")
    out: str | None = option(None, "Folder of the study.")
    show: bool = option(False, "Print the tables of --out, or of the study in the package.")

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in NAMES]
        if unknown or not self.models:
            raise InputError(f"models: expected some of {', '.join(NAMES)}, got {self.models}")
        if self.stage not in STAGES:
            raise InputError(f"stage: expected {' or '.join(STAGES)}, got {self.stage!r}")


def study(options: Options) -> int:
    """Measure what is not measured, and write the two files."""
    if options.show:
        print(report.text(Study.load(Path(options.out) if options.out else MEASURED)))
        return 0
    if options.out is None:
        raise InputError("out: say where the study goes, --out=DIR")
    out, plan = Path(options.out), STAGES[options.stage]
    subjects = [subject for subject in SUBJECTS if subject.name in options.models]
    fixed = {
        "stage": options.stage,
        "plan": plan._asdict(),
        "sampler": asdict(SAMPLER),
        "subjects": [asdict(subject) for subject in SUBJECTS],
        "wide": [asdict(variant) for variant in WIDE],
        "ablations": [asdict(variant) for variant in ABLATIONS],
    }
    with reserve_folder(out, fixed, "study"):
        with contextlib.closing(ProgressBar()) as bar:
            measure(out, subjects, plan, bar)
        names = [look.name for s in SUBJECTS for look in looks(s, plan) if look.main]
        mitigated = [name for s in SUBJECTS for name in mitigation_names(s, plan)]
        ablations = ablations_of(out, SUBJECTS, plan)
        null = nulls((*plan.concepts, *plan.wide), plan.starts)
        similar = round(most_similar(), 5)
        done = merge(out, names, mitigated, command_of(options), ablations, null, similar)
    print(f"{out}: {done} parts")
    return 0


def command_of(options: Options) -> str:
    """The command line, without its folder."""
    words = ["python -m dae_theory.steer.study"]
    if options.models != NAMES:
        words.append(f"--models={','.join(options.models)}")
    if options.stage != "judging":
        words.append(f"--stage={options.stage}")
    return " ".join(words)


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(study, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
