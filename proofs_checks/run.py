"""Check the theory, claim by claim: ``python -m proofs_checks.run --regime=memorize``.

Exit status 0 when every verdict is as expected or vacuous, 1 when one is not, 2 on bad input.
"""

import os
import shlex
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dae_theory.checks import InputError
from dae_theory.commands import parse_options
from dae_theory.data.dataset import Dataset, centred
from dae_theory.data.files import load_path
from dae_theory.data.images import faces, fashion_mnist, patches
from dae_theory.data.mixtures import separable_mixture, simplex
from proofs_checks import certify, diffusion, errata, generalize, hybrid, memorize
from proofs_checks.claims import Claim
from proofs_checks.config import REGIMES, TRAINERS, RunConfig
from proofs_checks.nets import read_weights
from proofs_checks.report import (
    CONSOLE_WIDTH,
    Result,
    as_dict,
    evaluate,
    print_table,
    write_files,
)

MODULES: dict[str, ModuleType] = {
    "memorize": memorize,
    "generalize": generalize,
    "hybrid": hybrid,
    "certify": certify,
    "diffusion": diffusion,
    "errata": errata,
}
WITHOUT_WEIGHTS = ("diffusion", "errata")
DATA_OF_ITS_OWN = ("certify", "diffusion")  # unless the user names some
SIMPLEX_DIMENSION = 64


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
            print_claims(config)
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


def print_claims(config: RunConfig) -> None:
    """Every claim of the chosen regimes: id, expected verdict, statement."""
    for regime in chosen_regimes(config):
        for claim in claims_of(regime, config):
            print(f"{claim.id:26} {claim.expected:6} {claim.statement}")


def chosen_regimes(config: RunConfig) -> tuple[str, ...]:
    """The regimes a run goes through: of all, those that say something about data and weights
    brought by the user."""
    if config.regime != "all":
        return (config.regime,)
    left_out = WITHOUT_WEIGHTS if config.weights is not None else ()
    left_out += ("diffusion",) if config.data is not None else ()  # mostly of shipped models
    return tuple(regime for regime in REGIMES if regime not in left_out)


def claims_of(regime: str, config: RunConfig) -> tuple[Claim, ...]:
    """The claims of a regime; certificates differ for data and weights that the user brings."""
    return certify.claims(config) if regime == "certify" else MODULES[regime].CLAIMS


def chosen_claims(config: RunConfig, claim_id: str | None) -> dict[str, tuple[Claim, ...]]:
    """Claims by regime; InputError for an id that no chosen regime has."""
    claims = {regime: claims_of(regime, config) for regime in chosen_regimes(config)}
    if claim_id is None:
        return claims
    matching = {
        regime: tuple(claim for claim in listed if claim.id == claim_id)
        for regime, listed in claims.items()
    }
    matching = {regime: listed for regime, listed in matching.items() if listed}
    if not matching:
        raise InputError(
            f"claim: no claim {claim_id!r} in regime {config.regime}; --list shows them all"
        )
    return matching


def load_data(config: RunConfig, regime: str) -> Dataset | None:
    """The data set of a regime; None stands for the regime's own synthetic data."""
    if regime == "errata" or (regime in DATA_OF_ITS_OWN and config.data is None):
        return None
    name = config.data or (memorize.DEFAULT_DATA if regime == "memorize" else "mixture")
    n = config.n or MODULES[regime].DEFAULT_N
    if name == "mixture":
        if regime != "memorize":
            return None
        mixture = separable_mixture(
            generalize.N_CLUSTERS,
            generalize.DIMENSION,
            rank=generalize.RANK,
            beta=generalize.BETA,
            alpha=generalize.ALPHA,
        )
        x_ND, labels_N = mixture.sample(0, config.limit)
        return Dataset("mixture", x_ND, labels=labels_N)
    if name == "simplex":
        return simplex(n, max(SIMPLEX_DIMENSION, n))
    if name == "faces":
        dataset = faces()
    elif name == "patches":
        dataset = patches(max(config.limit, n))
    elif name == "fashion_mnist":
        dataset = fashion_mnist()
    else:
        dataset = load_path(name, size=config.size, gray=config.gray)
    if len(dataset.x) < n and config.n is not None:
        raise InputError(f"n: {name} has {len(dataset.x)} samples, asked for {n}")
    dataset = first_samples(dataset, max(config.limit, n))
    return centred(dataset) if config.center else dataset


def first_samples(dataset: Dataset, count: int) -> Dataset:
    """The first ``count`` samples of a data set."""
    labels = None if dataset.labels is None else dataset.labels[:count]
    return replace(dataset, x=dataset.x[:count], labels=labels)


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
    file = None if config.weights is None else read_weights(config.weights)
    results: list[Result] = []
    settings: dict[str, dict] = {}
    arrays: dict[str, np.ndarray] = {}
    for regime, listed in claims.items():
        module = MODULES[regime]
        bar = ProgressBar(Console(stderr=True))
        try:
            if file is not None:
                experiment = module.from_weights(file)
            else:
                needs_nets = any(claim.uses_nets for claim in listed)
                experiment = module.build(config, load_data(config, regime), needs_nets, bar)
            found = []
            for done, claim in enumerate(listed):
                bar(f"checking {regime}", done, len(listed))
                found.append(evaluate(claim, experiment, time.monotonic))
        finally:
            bar.close()
        results += found
        settings[regime] = module.settings(experiment)
        print_regime(regime, settings[regime], found, verbose)
        if out is not None:
            arrays |= {f"{regime}/{name}": a for name, a in module.results(experiment).items()}
            wall_s = time.monotonic() - start
            write_files(out, as_dict(results, config, command, settings, wall_s), arrays)
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
    """Print the summary, write the figures next to the report; returns the exit status."""
    unexpected = [result for result in results if not result.as_expected]
    counts = {}
    for result in results:
        counts[result.verdict] = counts.get(result.verdict, 0) + 1
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    print(f"\n{len(results)} claims: {summary}; {wall_s:.1f} s")
    for result in unexpected:
        print(f"unexpected: {result.claim.id} {result.verdict}, expected {result.claim.expected}")
    if out is not None:
        # The entry point, not the library, reaches up to the figures: --out promises them.
        from figures.make import draw_all

        drawn = draw_all(out, out / "figures")
        print(f"{out}: report.json, report.html, report.tex, results.npz, {drawn} figures")
    return 1 if unexpected else 0


def configure_jax() -> None:
    """JAX settings of the entry points: float64, exact products, a device for each core."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


if __name__ == "__main__":
    configure_jax()
    sys.exit(main(sys.argv))
