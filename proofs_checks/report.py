"""Results of a run for people and programs: console table, JSON, HTML, LaTeX."""

import json
import math
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import jax
import jinja2
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proofs_checks.claims import Claim, Evidence, Verdict, confidence_interval, judge, unmet
from proofs_checks.config import RunConfig

SCHEMA = 1
CONSOLE_WIDTH = 100
STYLES = {
    Verdict.HOLDS: "green",
    Verdict.FAILS: "red",
    Verdict.VACUOUS: "yellow",
    Verdict.INCONCLUSIVE: "magenta",
}
PACKAGES = ("dae-theory", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")


@dataclass(frozen=True)
class Result:
    """A claim with its evidence and verdict; ``wall_s`` seconds to check it, training excluded."""

    claim: Claim
    evidence: Evidence
    verdict: Verdict
    wall_s: float

    @property
    def as_expected(self) -> bool:
        """The verdict is the expected one, or the claim says nothing on these data."""
        return self.verdict in (self.claim.expected, Verdict.VACUOUS)


def evaluate(claim: Claim, experiment, wall_clock) -> Result:
    """Check one claim; ``wall_clock`` returns seconds."""
    start = wall_clock()
    evidence = claim.check(experiment)
    return Result(claim, evidence, judge(evidence), wall_clock() - start)


def environment() -> dict[str, str | int]:
    """Where the run took place."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count() or 0,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    } | {name: version(name) for name in PACKAGES}


def as_dict(
    results: list[Result], config: RunConfig, command: str, settings: dict, wall_s: float
) -> dict:
    """The report as plain data (schema 1); numbers that are not finite become null."""
    return {
        "schema": SCHEMA,
        "command": command,
        "config": asdict(config) | {"resolved": _finite_settings(settings)},
        "environment": environment(),
        "wall_s": round(wall_s, 3),
        "claims": [_claim_dict(result) for result in results],
    }


def _claim_dict(result: Result) -> dict:
    claim, evidence = result.claim, result.evidence
    interval = confidence_interval(evidence.errors)
    return {
        "id": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "expected": str(claim.expected),
        "verdict": str(result.verdict),
        "measured": _finite(evidence.measured),
        "predicted": _finite(evidence.predicted),
        "error": _finite(evidence.error),
        "tolerance": evidence.tolerance,
        "ci95": None if interval is None else list(interval),
        "assumptions": {
            name: {
                "value": _finite(assumption.value),
                "required": assumption.required,
                "met": bool(assumption.met),
            }
            for name, assumption in evidence.assumptions.items()
        },
        "seeds": list(evidence.seeds),
        "wall_s": round(result.wall_s, 3),
        "note": evidence.note,
    }


def _finite_settings(settings: dict) -> dict:
    """Settings by regime with numbers that are not finite replaced by None."""
    return {
        regime: {
            name: _finite(value) if isinstance(value, float) else value
            for name, value in values.items()
        }
        for regime, values in settings.items()
    }


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
        evidence = result.evidence
        interval = confidence_interval(evidence.errors)
        mark = _mark(result)
        table.add_row(
            Text(f"{result.verdict}{mark}", style=STYLES[result.verdict]),
            result.claim.id,
            _number(evidence.measured),
            _number(evidence.predicted),
            _number(evidence.error, digits=2),
            "" if interval is None else f"{interval[0]:.1e}…{interval[1]:.1e}",
            _number(evidence.tolerance, digits=2),
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
        for name, assumption in unmet(result.evidence.assumptions).items():
            text = f"{name} = {assumption.value:.4g}, required {assumption.required}"
            lines.setdefault(name, text)
    return list(lines.values())


def _print_details(result: Result, console: Console) -> None:
    claim, evidence = result.claim, result.evidence
    console.print()
    console.print(f"{claim.id}  [{result.verdict}]", style="bold", markup=False)
    console.print(f"  {claim.statement}  ({claim.source})", markup=False)
    for name, assumption in evidence.assumptions.items():
        met = "met" if assumption.met else "NOT MET"
        console.print(
            f"  {name} = {assumption.value:.4g}, required {assumption.required}: {met}",
            markup=False,
        )
    if evidence.note:
        console.print(f"  {evidence.note}", markup=False)


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
    _replace(folder / "report.json", json.dumps(report, indent=1, allow_nan=False).encode())
    for name in ("report.html", "report.tex"):
        _replace(folder / name, templates.get_template(name).render(report=report).encode())
    partial = folder / "results.npz.part"
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    partial.replace(folder / "results.npz")


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    partial.replace(path)
