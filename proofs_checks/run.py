"""Check the theory, claim by claim: ``python -m proofs_checks.run --regime=memorize``.

Exit status 0 when every verdict is as expected, or vacuous on data or settings of your own; 1 when
one is not; 2 on bad input; 3 on an unforeseen error.
"""

import contextlib
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from dae_theory.checks import InputError
from dae_theory.commands import ProgressBar, configure_jax, option, run_main
from dae_theory.weights.read import read_weights
from proofs_checks.claims import Claim, Kind, Result, Verdict, check
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.regimes import Regime, chosen_regimes
from proofs_checks.report import (
    CONSOLE_WIDTH,
    as_dict,
    print_table,
    summary_lines,
    write_files,
)
from proofs_checks.stationarity import is_about_nets

NOTHING_CHECKED = "{} was checked: see 'not met' above for what claims need"


@dataclass(frozen=True)
class Options:
    """What the command is asked to do."""

    config: RunConfig = field(default_factory=RunConfig)
    out: str | None = option(None, "Folder for the report, the results and the figures.")
    claim: str | None = option(None, "Check this claim only.")
    list: bool = option(False, "List the claims and stop.")
    verbose: bool = option(False, "Print statements, assumptions, notes, and tracebacks.")


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""

    def command(options: Options) -> int:
        if options.list:
            print_claims(options.config, options.verbose)
            return 0
        return run(
            options.config,
            shlex.join(["python", "-m", "proofs_checks.run", *argv[1:]]),
            claim_id=options.claim,
            verbose=options.verbose,
            out=None if options.out is None else Path(options.out),
        )

    return run_main(command, Options, argv, __doc__)


def print_claims(config: RunConfig, verbose: bool) -> None:
    """Every claim of the chosen regimes; ``verbose`` adds what it takes to judge it."""
    for regime in chosen_regimes(config):
        for claim in regime.claims_for(config):
            print(f"{claim.id:28} {claim.expected:6} {claim.statement}")
            if verbose:
                required = ", ".join(f"{r.name} {r.required}" for r in claim.requires)
                tolerance = f"tolerance {claim.tolerance:g}, {claim.tolerance_from}"
                print(f"    {claim.kind}; {tolerance}; {claim.source}")
                print(f"    requires {required or 'nothing'}")
                print(f"    {len(claim.mutants)} mutants; {claim.location}")


def chosen_claims(
    config: RunConfig, claim_id: str | None
) -> list[tuple[Regime, tuple[Claim, ...]]]:
    """Regimes with the claims to check; InputError for an id that no chosen regime has."""
    claims = [(regime, regime.claims_for(config)) for regime in chosen_regimes(config)]
    if claim_id is None:
        return claims
    matching = [
        (regime, tuple(claim for claim in listed if claim.id == claim_id))
        for regime, listed in claims
    ]
    matching = [(regime, listed) for regime, listed in matching if listed]
    if not matching:
        raise InputError(
            f"claim: no claim {claim_id!r} in regime {config.regime}; --list shows them all"
        )
    return matching


def run(
    config: RunConfig,
    command: str,
    *,
    claim_id: str | None = None,
    verbose: bool = False,
    out: Path | None = None,
) -> int:
    """Check every chosen claim, print the tables, write the files; returns the exit status.

    Files are written after each regime, and before a refusal, so that what was found is not lost.
    """
    start = time.monotonic()
    claims = chosen_claims(config, claim_id)
    saved = None if config.weights is None else read_weights(config.weights)
    results: list[Result] = []
    settings: dict[str, dict] = {}
    data: dict[str, tuple[DataUsed, ...]] = {}
    arrays: dict[str, np.ndarray] = {}
    for regime, listed in claims:
        found: list[Result] = []
        refused: InputError | None = None
        with contextlib.closing(ProgressBar()) as bar:
            experiment = regime.build(config, bar) if saved is None else regime.from_weights(saved)
            try:
                for done, claim in enumerate(listed):
                    bar(f"checking {regime.name}", done, len(listed))
                    found.append(check(claim, experiment, may_be_vacuous=not config.is_default))
            except InputError as error:
                refused = error
        results += found
        settings[regime.name] = experiment.settings
        data[regime.name] = experiment.data
        read = [f"{used.name}: {used.read}" for used in data[regime.name] if used.read]
        print_regime(regime.name, settings[regime.name], read, found, verbose)
        if out is not None:
            arrays |= {f"{regime.name}/{name}": a for name, a in experiment.arrays.items()}
            wall_s = time.monotonic() - start
            write_files(out, as_dict(results, config, command, settings, data, wall_s), arrays)
        if refused is not None:
            raise refused
    return finish(results, time.monotonic() - start, out)


def print_regime(
    regime: str, settings: dict, read: list[str], found: list[Result], verbose: bool
) -> None:
    """The table of one regime under a line that says what was checked, and lines on what was read
    of the user's files."""
    console = Console(width=CONSOLE_WIDTH, highlight=False)
    console.print()
    console.print(f"{regime}", style="bold", end=" ")
    text = ", ".join(
        f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in settings.items()
    )
    for line in (text, *dict.fromkeys(read)):
        console.print(line, markup=False)
    print_table(found, verbose, console)


def finish(results: list[Result], wall_s: float, out: Path | None) -> int:
    """Print the summary, have the figures drawn; returns the exit status."""
    first, *by_kind = summary_lines(results)
    print("\n".join(["", f"{first}; {wall_s:.1f} s", *by_kind]))
    on_nets = [result for result in results if is_about_nets(result.claim)]
    if all(result.verdict is Verdict.VACUOUS for result in results):
        print(NOTHING_CHECKED.format("nothing"))
    elif on_nets and all(result.verdict is Verdict.VACUOUS for result in on_nets):
        print(NOTHING_CHECKED.format("no claim about nets"))
    elif all(r.claim.kind is Kind.EXPLORATORY for r in results):
        print("no evidence: every claim checked is exploratory, which proves and fails nothing")
    unexpected = [r for r in results if r.claim.kind is not Kind.EXPLORATORY and not r.as_expected]
    for result in unexpected:
        print(f"unexpected: {result.claim.id} {result.verdict}, expected {result.claim.expected}")
    if out is not None:
        drawn = draw_figures(out)
        print(f"{out}: report.json, report.html, report.tex, results.npz, {drawn} figures")
    return 1 if unexpected else 0


def draw_figures(out: Path) -> int:
    """Draw the figures that these results have data for; returns how many.

    In a process of their own: figures are built on the checks, not the checks on figures.

    Raises:
      InputError: when that process fails; what it said is on stderr.
    """
    options = ["--all", f"--from={out}", f"--out={out / 'figures'}"]
    command = [sys.executable, "-m", "figures.make", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"figures: not drawn; the report in {out} is complete")
    return sum(line.endswith(".pdf") for line in done.stdout.splitlines())


if __name__ == "__main__":
    configure_jax(float64=True)
    sys.exit(main(sys.argv))
