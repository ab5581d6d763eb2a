"""Check the theory, claim by claim: ``python -m proofs_checks.run --regime=memorize``.

Exit status 0 when every verdict is as expected or vacuous, 1 when one is not, 2 on bad input.
"""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dae_theory.checks import InputError
from dae_theory.commands import parse_options
from dae_theory.weights.read import read_weights
from proofs_checks.claims import Claim, Result, check
from proofs_checks.config import REGIMES, TRAINERS, DataUsed, RunConfig
from proofs_checks.regimes import Regime, chosen_regimes
from proofs_checks.report import (
    CONSOLE_WIDTH,
    as_dict,
    print_table,
    summary_lines,
    write_files,
)


def command_line() -> flags.FlagValues:
    """The command's options, unset."""
    config = RunConfig("all")
    values = flags.FlagValues()
    both = {"flag_values": values}
    flags.DEFINE_string("regime", "all", f"{', '.join(REGIMES)}, or all.", **both)
    flags.DEFINE_string(
        "data",
        None,
        "simplex, mixture, faces, patches, fashion_mnist, FILE.npy, FILE.npz or a folder of "
        "images; default: faces for memorize and diffusion, a synthetic mixture for generalize and "
        "hybrid, all three for certify.",
        **both,
    )
    flags.DEFINE_integer("n", None, "Training samples.", **both)
    flags.DEFINE_integer("p", None, "Units.", **both)
    flags.DEFINE_float("sigma", None, "Noise level, in data units.", **both)
    flags.DEFINE_float("lam", None, "Weight decay λ of objective (1).", **both)
    flags.DEFINE_integer("seeds", config.seeds, "Random starts.", **both)
    flags.DEFINE_string("trainer", config.trainer, f"One of {', '.join(TRAINERS)}.", **both)
    flags.DEFINE_bool("quick", False, "Fewer random starts.", **both)
    flags.DEFINE_bool("center", True, "Subtract the mean of image and file data.", **both)
    flags.DEFINE_integer("size", None, "Side to which the images of a folder are resized.", **both)
    flags.DEFINE_bool("gray", True, "Read a folder of images as gray.", **both)
    flags.DEFINE_integer("limit", config.limit, "Most samples looked at to choose from.", **both)
    flags.DEFINE_string("weights", None, "FILE.npz with W1, W2, X, sigma, lam to check.", **both)
    flags.DEFINE_string("out", None, "Folder for the report, the results and the figures.", **both)
    flags.DEFINE_string("claim", None, "Check this claim only.", **both)
    flags.DEFINE_bool("list", False, "List the claims and stop.", **both)
    flags.DEFINE_bool("verbose", False, "Print statements, assumptions and notes.", **both)
    flags.DEFINE_bool("help", False, "Print this help and stop.", **both)
    return values


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    try:
        options = command_line()
        if not parse_options(options, argv, __doc__):
            return 0
        config = RunConfig(**{field.name: options[field.name].value for field in fields(RunConfig)})
        if options.list:
            print_claims(config, options.verbose)
            return 0
        return run(
            config,
            shlex.join(["python", "-m", "proofs_checks.run", *argv[1:]]),
            claim_id=options.claim,
            verbose=options.verbose,
            out=None if options.out is None else Path(options.out),
        )
    except (InputError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: out: cannot write there ({error})", file=sys.stderr)
        return 2


def print_claims(config: RunConfig, verbose: bool) -> None:
    """Every claim of the chosen regimes; ``verbose`` adds what it takes to judge it."""
    for regime in chosen_regimes(config):
        for claim in regime.claims_for(config):
            print(f"{claim.id:28} {claim.expected:6} {claim.statement}")
            if verbose:
                required = ", ".join(f"{r.name} {r.required}" for r in claim.requires)
                print(f"    {claim.kind}; tolerance {claim.tolerance:g}; {claim.source}")
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

    Files are written after each regime, so that a later one that stops loses nothing.
    """
    start = time.monotonic()
    claims = chosen_claims(config, claim_id)
    saved = None if config.weights is None else read_weights(config.weights)
    results: list[Result] = []
    settings: dict[str, dict] = {}
    data: dict[str, tuple[DataUsed, ...]] = {}
    arrays: dict[str, np.ndarray] = {}
    for regime, listed in claims:
        bar = ProgressBar(Console(stderr=True))
        try:
            experiment = (
                regime.build(config, bar) if saved is None else regime.from_weights(saved)
            )
            found = []
            for done, claim in enumerate(listed):
                bar(f"checking {regime.name}", done, len(listed))
                found.append(check(claim, experiment))
        finally:
            bar.close()
        results += found
        settings[regime.name] = experiment.settings
        data[regime.name] = experiment.data
        print_regime(regime.name, experiment.settings, found, verbose)
        if out is not None:
            arrays |= {f"{regime.name}/{name}": a for name, a in experiment.arrays.items()}
            wall_s = time.monotonic() - start
            write_files(out, as_dict(results, config, command, settings, data, wall_s), arrays)
    return finish(results, time.monotonic() - start, out)


def print_regime(regime: str, settings: dict, found: list[Result], verbose: bool) -> None:
    """The table of one regime under a line that says what was checked."""
    console = Console(width=CONSOLE_WIDTH, highlight=False)
    console.print()
    console.print(f"{regime}", style="bold", end=" ")
    text = ", ".join(
        f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in settings.items()
    )
    console.print(text, markup=False)
    print_table(found, verbose, console)


def finish(results: list[Result], wall_s: float, out: Path | None) -> int:
    """Print the summary, have the figures drawn; returns the exit status."""
    first, *by_kind = summary_lines(results)
    print("\n".join(["", f"{first}; {wall_s:.1f} s", *by_kind]))
    unexpected = [result for result in results if not result.as_expected]
    for result in unexpected:
        print(f"unexpected: {result.claim.id} {result.verdict}, expected {result.claim.expected}")
    if out is not None:
        print(f"{out}: report.json, report.html, report.tex, results.npz", flush=True)
        draw_figures(out)
    return 1 if unexpected else 0


def draw_figures(out: Path) -> None:
    """Draw the figures of these results, in a process of their own: figures are built on the
    checks, not the checks on figures."""
    options = ["--all", f"--from={out}", f"--out={out / 'figures'}"]
    subprocess.run([sys.executable, "-m", "figures.make", *options], check=True)


class ProgressBar:
    """A bar on stderr that appears only once something has taken two seconds."""

    def __init__(self, console: Console) -> None:
        self._columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._console = console
        self._start = time.monotonic()
        self._bar: Progress | None = None
        self._tasks: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``what`` are done."""
        if self._bar is None:
            if time.monotonic() - self._start < 2 or not self._console.is_terminal:
                return
            self._bar = Progress(*self._columns, console=self._console, transient=True)
            self._bar.start()
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


def configure_jax() -> None:
    """JAX settings of the entry points: float64, exact products, a device for each core."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


if __name__ == "__main__":
    configure_jax()
    sys.exit(main(sys.argv))
