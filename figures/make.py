"""Draw figures: ``python -m figures.make --figure=ID|--all --out=DIR [--from=DIR]``.

--from is the --out of an earlier `proofs_checks.run`, `dae_theory.sweep`, `dae_theory.deep.ladder`,
`dae_theory.detect.study`, `dae_theory.steer.study` or `benchmarks.scaling`. Without it, the regimes
that the figures need are run first, into OUT/run; the figures of the ladder and of the studies are
drawn from those that come with the package. Exit status 0 when the figures are drawn, 2 on bad
input.
"""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import jax
import matplotlib as mpl

import figures
from dae_theory.checks import InputError
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.deep.ladder.store import MEASURED, Ladder
from dae_theory.detect.study.store import MEASURED as DETECTION_MEASURED
from dae_theory.detect.study.store import Study as Detection
from dae_theory.steer.study.store import MEASURED as STEERING_MEASURED
from dae_theory.steer.study.store import Study as Steering
from figures.results import RunResults, load
from figures.style import RC, save
from figures.sweeps import ScalingResults, SweepResults

Results = RunResults | SweepResults | ScalingResults | Ladder | Detection | Steering
IN_THE_PACKAGE = {
    Ladder: MEASURED,
    Detection: DETECTION_MEASURED,
    Steering: STEERING_MEASURED,
}


@dataclass(frozen=True)
class Options:
    """The command's options."""

    figure: str | None = option(None, "Draw this figure only.")
    all: bool = option(False, "Draw every figure that --from has data for.")
    list: bool = option(False, "List the figures and stop.")
    out: str | None = option(None, "Folder for the figures, PDF and PNG.")
    source: str | None = option(None, "Folder of an earlier run, sweep or benchmark.", flag="from")
    quick: bool = option(False, "Without --from: run with fewer seeds and steps.")


def known_figures() -> dict[str, ModuleType]:
    """Every module figures/fig_*.py by its ID."""
    names = sorted(info.name for info in pkgutil.iter_modules(figures.__path__))
    modules = [
        importlib.import_module(f"figures.{name}") for name in names if name.startswith("fig_")
    ]
    return {module.ID: module for module in modules}


def source_of(module: ModuleType) -> type[Results]:
    """What a figure is drawn from: a run of proofs_checks unless its module says otherwise."""
    return getattr(module, "SOURCE", RunResults)


def load_any(folder: Path) -> Results:
    """Read what a folder holds, a run or the like; InputError when there is nothing."""
    for source in (Ladder, Detection, Steering, SweepResults, ScalingResults):
        if source.found_in(folder):
            return source.load(folder)
    return load(folder)


def draw_one(module: ModuleType, results: Results, out_dir: Path) -> list[Path]:
    """Draw and save one figure; returns the files. InputError when the results lack its data."""
    source = source_of(module)
    if not isinstance(results, source):
        raise InputError(
            f"figure {module.ID} is drawn from {source.ORIGIN}; {results.folder} holds "
            f"{type(results).ORIGIN}"
        )
    if source is RunResults:
        results.require(module.ID, module.REGIMES, module.NEEDS)
    with mpl.rc_context(RC):
        return save(module.draw(results), out_dir, module.ID)


def drawn_from(source: type[Results]) -> list[ModuleType]:
    """The figures that are drawn from such results."""
    return [module for module in known_figures().values() if source_of(module) is source]


def run_regimes(regimes: set[str], run_dir: Path, quick: bool) -> None:
    """Run the checks of these regimes; InputError when the run could not start."""
    regime = next(iter(regimes)) if len(regimes) == 1 else "all"
    command = [sys.executable, "-m", "proofs_checks.run", f"--regime={regime}", f"--out={run_dir}"]
    command += ["--quick"] if quick else []
    command += [] if jax.config.jax_enable_compilation_cache else ["--nocompilation_cache"]
    status = subprocess.run(command, check=False).returncode
    if status not in (0, 1):
        raise InputError(f"the run of regime {regime} ended with exit status {status}")
    if status == 1:
        print("some verdicts of the run were not as expected; drawing its results all the same")


def chosen_figure(figure_id: str | None, everything: bool) -> ModuleType | None:
    """The module that --figure stands for, None for --all."""
    known = known_figures()
    if everything == (figure_id is not None):
        raise InputError(f"choose either --all or --figure, one of {', '.join(known)}")
    if everything:
        return None
    if figure_id not in known:
        raise InputError(f"figure: unknown figure {figure_id!r}; known are {', '.join(known)}")
    return known[figure_id]


def run_for(chosen: ModuleType | None, run_dir: Path, quick: bool) -> None:
    """Run what a figure (None: every figure) is drawn from."""
    modules = drawn_from(RunResults) if chosen is None else [chosen]
    for module in modules:
        source = source_of(module)
        if source is not RunResults:
            raise InputError(f"from: figure {module.ID} needs {source.ORIGIN}: --from=DIR")
    run_regimes({regime for module in modules for regime in module.REGIMES}, run_dir, quick)


def make(chosen: ModuleType | None, results: Results, out_dir: Path) -> None:
    """Draw one figure, or (None) all that these results have data for, and print each file."""
    skip_missing = chosen is None
    for module in drawn_from(type(results)) if skip_missing else [chosen]:
        try:
            files = draw_one(module, results, out_dir)
        except InputError as error:
            if not skip_missing:
                raise
            print(f"left out: {error}")
            continue
        for path in files:
            print(path)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(list_or_make, Options, argv, __doc__)


def list_or_make(options: Options) -> int:
    """List the figures, or draw what was asked for."""
    if options.list:
        for figure_id, module in known_figures().items():
            print(f"{figure_id:16} {module.__doc__.splitlines()[0]}")
        return 0
    chosen = chosen_figure(options.figure, options.all)
    if options.out is None:
        raise InputError("out: say where the figures go, --out=DIR")
    out_dir = Path(options.out)
    if options.source is not None:
        folder = Path(options.source)
    elif chosen is not None and source_of(chosen) in IN_THE_PACKAGE:
        folder = IN_THE_PACKAGE[source_of(chosen)]
    else:
        folder = out_dir / "run"
        run_for(chosen, folder, options.quick)
    make(chosen, load_any(folder), out_dir)
    return 0


if __name__ == "__main__":
    configure_jax(float64=True)
    sys.exit(main(sys.argv))
