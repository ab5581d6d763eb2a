"""Results of a run for people and programs: console table, JSON, HTML, LaTeX."""

import json
import math
import os
import platform
import subprocess
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import jax
import jinja2
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dae_theory.files import npz_bytes, write_whole
from proofs_checks.claims import Kind, Result, Verdict
from proofs_checks.config import DataUsed, RunConfig

SCHEMA = 2
CONSOLE_WIDTH = 100
STYLES = {
    Verdict.HOLDS: "green",
    Verdict.FAILS: "red",
    Verdict.VACUOUS: "yellow",
    Verdict.INCONCLUSIVE: "magenta",
}
PACKAGES = ("dae-theory", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")


def environment() -> dict[str, str | int | None]:
    """Where the run took place, in which precision, and of which commit the code is."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count() or 0,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "precision": "float64" if jax.config.jax_enable_x64 else "float32",
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "commit": commit(),
    } | {name: version(name) for name in PACKAGES}


def commit() -> str | None:
    """The checked-out commit, marked where files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def as_dict(
    results: list[Result],
    config: RunConfig,
    command: str,
    settings: dict[str, dict],
    data: dict[str, tuple[DataUsed, ...]],
    wall_s: float,
) -> dict:
    """The report as plain data (schema 2); numbers that are not finite become null.

    ``settings`` and ``data`` are by regime: what was checked, and on which samples.
    """
    return {
        "schema": SCHEMA,
        "command": command,
        "config": asdict(config)
        | {
            "resolved": {
                name: _finite_values(values) | {"data_sets": [asdict(used) for used in data[name]]}
                for name, values in settings.items()
            }
        },
        "environment": environment(),
        "wall_s": round(wall_s, 3),
        "claims": [_claim_dict(result) for result in results],
    }


def _claim_dict(result: Result) -> dict:
    claim, measured = result.claim, result.measured
    interval = measured.interval
    return {
        "id": claim.id,
        "kind": str(claim.kind),
        "statement": claim.statement,
        "source": claim.source,
        "expected": str(claim.expected),
        "verdict": str(result.verdict),
        "measured": _finite(measured.measured),
        "predicted": _finite(measured.predicted),
        "error": _finite(measured.error),
        "tolerance": claim.tolerance,
        "tolerance_origin": str(claim.tolerance_from),
        "ci95": None if interval is None else [interval.low, interval.high],
        "assumptions": {
            name: {"value": _finite(a.value), "required": a.required, "met": a.met}
            for name, a in result.assumptions.items()
        },
        "seeds": list(measured.seeds),
        "wall_s": round(result.wall_s, 3),
        "note": measured.words,
    }


def _finite_values(values: dict) -> dict:
    """The values, with numbers that are not finite replaced by None."""
    return {k: _finite(v) if isinstance(v, float) else v for k, v in values.items()}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def print_table(results: list[Result], verbose: bool, console: Console | None = None) -> None:
    """One line a claim in at most 100 columns; ``verbose`` adds statement, assumptions, note."""
    console = console or Console(width=CONSOLE_WIDTH, highlight=False)
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for heading, justify in (
        ("verdict", "left"),
        ("claim", "left"),
        ("measured", "right"),
        ("predicted", "right"),
        ("error", "right"),
        ("95% interval", "right"),
        ("tolerance", "right"),
    ):
        table.add_column(heading, justify=justify, no_wrap=True)
    for result in results:
        measured = result.measured
        interval = measured.interval
        mark = _mark(result)
        table.add_row(
            Text(f"{result.verdict}{mark}", style=STYLES[result.verdict]),
            result.claim.id,
            _number(measured.measured),
            _number(measured.predicted),
            _number(measured.error, digits=2),
            "" if interval is None else f"{interval.low:.1e}…{interval.high:.1e}",
            _number(result.claim.tolerance, digits=2),
        )
    console.print(table)
    if any(_mark(result) == " *" for result in results):
        console.print("* as we expect: a statement that the theory does not make or gets wrong")
    unmet = _unmet_assumptions(results)
    if unmet:
        console.print("not met: " + "; ".join(unmet), style="yellow")
    if verbose:
        for result in results:
            _print_details(result, console)


def _mark(result: Result) -> str:
    """'!' for an unexpected verdict, '*' for an expected one other than holds."""
    if not result.as_expected:
        return " !"
    return " *" if result.verdict is result.claim.expected is not Verdict.HOLDS else ""


def _unmet_assumptions(results: list[Result]) -> list[str]:
    """Each assumption that made a claim vacuous, once, with its measured value."""
    lines: dict[str, str] = {}
    for result in results:
        for name, assumption in result.unmet.items():
            text = f"{name} = {assumption.value:.4g}, required {assumption.required}"
            advice = f" ({assumption.advice})" if assumption.advice else ""
            lines.setdefault(name, text + advice)
    return list(lines.values())


def _print_details(result: Result, console: Console) -> None:
    claim = result.claim
    console.print()
    console.print(f"{claim.id}  [{result.verdict}]", style="bold", markup=False)
    console.print(f"  {claim.statement}  ({claim.source}; {claim.kind})", markup=False)
    for name, assumption in result.assumptions.items():
        met = "met" if assumption.met else "NOT MET"
        console.print(
            f"  {name} = {assumption.value:.4g}, required {assumption.required}: {met}",
            markup=False,
        )
    if result.measured.note:
        console.print(f"  {result.measured.words}", markup=False)


def _number(value: float, digits: int = 4) -> str:
    return "-" if not math.isfinite(value) else f"{value:.{digits}g}"


def write_files(folder: Path, report: dict, arrays: dict[str, np.ndarray]) -> None:
    """report.json, report.html, report.tex and results.npz, each replaced in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("proofs_checks", "."),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters["number"] = lambda value: "–" if value is None else f"{value:.4g}"
    write_whole(folder / "report.json", json.dumps(report, indent=1, allow_nan=False).encode())
    for name in ("report.html", "report.tex"):
        write_whole(folder / name, templates.get_template(name).render(report=report).encode())
    write_whole(folder / "results.npz", npz_bytes(arrays))


def summary_lines(results: list[Result]) -> list[str]:
    """How many claims have which verdict: all, and by kind, since only some are evidence."""
    lines = [f"{len(results)} claims: {_counts(results)}"]
    for kind in Kind:
        of_kind = [result for result in results if result.claim.kind is kind]
        if of_kind:
            lines.append(f"  {kind}: {_counts(of_kind)}")
    return lines


def _counts(results: list[Result]) -> str:
    counts = Counter(result.verdict for result in results)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
