"""Measure: ``python -m benchmarks.run --out=DIR [--quick] [--case=RECIPE/CONTENDER,...]``.

Needs ``pip install '.[bench]'`` and the whole machine: nothing else should run. On the same images
and from the same starts, each case in a process of its own, two threads each:

- torch: a plain PyTorch loop (docs/THEORY.md#reference-experiment), all steps;
- sgd: our training, same optimizer and steps (drawn noise and starts differ);
- sweep: the same, --seeds seeds × 4 sample counts in one call, fewer steps;
- solver: ours on the exact objective, from random starts; to the minimum for memorization, below
  the loss of the loop for generalization;
- evaluation: one loss and gradient of that objective on all images, generalization only;
- stationary: the solver to a stationary point, generalization only.

Final losses are exact, in float64, at the λ that makes (1) and the loop's objective equal
(`Recipe.lam`). ``--quick`` times fewer steps and extrapolates. Writes DIR/results.json and prints
a table. Exit status 0, or 2 on bad input.
"""

import dataclasses
import importlib.util
import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.cases import CONTENDERS
from benchmarks.recipes import GENERALIZATION, MEMORIZATION, Recipe
from dae_theory.checks import InputError, check_count
from dae_theory.commands import option, run_main
from dae_theory.files import read_settings, write_settings, write_whole

RECIPES = {recipe.name: recipe for recipe in (MEMORIZATION, GENERALIZATION)}
CASES = tuple(
    f"{recipe}/{contender}"
    for recipe in RECIPES
    for contender in CONTENDERS
    if recipe == "generalization" or contender not in ("evaluation", "stationary")
)
QUICK_STEPS = 2000
SWEEP_STEPS = {"memorization": 5000, "generalization": 500}


@dataclass(frozen=True)
class Options:
    """The command's options."""

    out: str | None = option(None, "Folder for results.json and the files of each case.")
    quick: bool = option(False, "Time a fraction of the steps and extrapolate.")
    case: tuple[str, ...] = option(CASES, "Cases to run, RECIPE/CONTENDER.")
    seeds: int = option(16, "Seeds of a sweep.")
    steps: int = option(MEMORIZATION.steps, "Steps of the recipes.")
    n: int = option(GENERALIZATION.n, "Images of 'generalization'.")
    p: int = option(MEMORIZATION.width, "Units.")
    image_size: int = option(MEMORIZATION.size, "Pixels a side.")

    def __post_init__(self) -> None:
        unknown = [case for case in self.case if case not in CASES]
        if unknown:
            raise InputError(f"case: unknown case {unknown[0]!r}; known are {', '.join(CASES)}")
        if self.out is None:
            raise InputError("out: say where the results go, --out=DIR")
        for name in ("seeds", "steps", "n", "p"):
            check_count(getattr(self, name), name)

    def recipes(self) -> dict[str, Recipe]:
        """The recipes, as these options change them."""
        return {
            name: dataclasses.replace(
                recipe,
                width=self.p,
                steps=self.steps,
                size=self.image_size,
                n=self.n if name == "generalization" else recipe.n,
            )
            for name, recipe in RECIPES.items()
        }


def run_case(recipe: Recipe, contender: str, data: Path, steps: int, seeds: int) -> dict:
    """Run one case in a fresh process, files beside the data; returns its result."""
    stem = data.parent / f"{recipe.name}-{contender}"
    spec, result = stem.with_suffix(".spec.json"), stem.with_suffix(".json")
    content = {
        "recipe": dataclasses.asdict(recipe),
        "contender": contender,
        "data": str(data),
        "steps": steps,
        "seeds": seeds,
        "result": str(result),
    }
    write_settings(spec, content)
    command = [sys.executable, "-m", "benchmarks.cases", str(spec)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise InputError(f"{recipe.name}/{contender} failed: {done.stderr.strip()[-2000:]}")
    return read_settings(result)


def compare(results: dict[str, dict]) -> dict[str, float]:
    """Ratios of wall times against the loop, where both cases were run and have the same aim."""
    ratios = {}
    for case, result in results.items():
        recipe, contender = case.split("/")
        loop = results.get(f"{recipe}/torch")
        if loop is None or contender in ("torch", "evaluation", "stationary"):
            continue
        if contender == "sweep":
            per_step = "milliseconds_per_net_step"
            ratios[f"{case} per step"] = loop[per_step] / result[per_step]
        else:
            for kind in ("warm", "cold"):
                key = f"{kind}_seconds"
                ratios[f"{case} {kind}"] = loop[key] / result[key]
    return ratios


def table(results: dict[str, dict]) -> str:
    """One line a case."""
    columns = {
        "cold_seconds": ("cold s", "{:.2f}"),
        "warm_seconds": ("warm s", "{:.3f}"),
        "milliseconds_per_net_step": ("ms/step", "{:.3f}"),
        "gflops": ("GFLOP/s", "{:.0f}"),
        "matmul_gflops": ("peak", "{:.0f}"),
        "exact_loss": ("exact loss", "{:.6f}"),
        "gain_error": ("gain error", "{:.1e}"),
        "grad_norm": ("|grad|", "{:.1e}"),
        "error_bound": ("bound", "{:.0e}"),
        "evaluations": ("evals", "{:d}"),
        "peak_memory_mib": ("MiB", "{:.0f}"),
        "load_average": ("load", "{:.1f}"),
    }
    rows = [["case", *(title for title, _ in columns.values())]]
    for case, result in results.items():
        cells = [
            form.format(result[key]) if key in result else "" for key, (_, form) in columns.items()
        ]
        cells[0] += "*" if result.get("extrapolated") else ""
        rows.append([case, *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        row[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    if any(result.get("extrapolated") for result in results.values()):
        lines.append("* seconds of all steps extrapolated from fewer; losses are those after fewer")
    return "\n".join(lines)


def run(
    cases: Sequence[str], recipes: dict[str, Recipe], seeds: int, quick: bool, out: Path
) -> dict:
    """Run the cases one after the other; returns the report, written after every case."""
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for case in cases:
        recipe_name, contender = case.split("/")
        recipe = recipes[recipe_name]
        if contender == "torch" and importlib.util.find_spec("torch") is None:
            print(f"left out: {case} needs PyTorch, pip install '.[bench]'")
            continue
        data = out / f"{recipe_name}.npy"
        if not data.exists():
            content = io.BytesIO()
            np.save(content, recipe.samples())
            write_whole(data, content.getvalue())
        steps = (
            min(recipe.steps, SWEEP_STEPS[recipe_name]) if contender == "sweep" else recipe.steps
        )
        if quick:
            steps = min(
                steps, SWEEP_STEPS[recipe_name] // 5 if contender == "sweep" else QUICK_STEPS
            )
        results[case] = run_case(recipe, contender, data, steps, seeds)
        print(f"{case}: {results[case]['cold_seconds']:.2f} s cold", flush=True)
        write_settings(out / "results.json", report(recipes, results))
    return report(recipes, results)


def report(recipes: dict[str, Recipe], results: dict[str, dict]) -> dict:
    """What results.json holds: command, machine, recipes, cases, ratios of wall times."""
    return {
        "command": " ".join(["python -m benchmarks.run", *sys.argv[1:]]),
        "machine": machine.describe(),
        "recipes": {
            name: dataclasses.asdict(recipe) | {"lam": recipe.lam}
            for name, recipe in recipes.items()
        },
        "cases": results,
        "times_faster_than_torch": compare(results),
    }


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(run_cases, Options, argv, __doc__)


def run_cases(options: Options) -> int:
    """Run the cases and print what they took."""
    out = Path(options.out)
    results = run(options.case, options.recipes(), options.seeds, options.quick, out)
    print(table(results["cases"]))
    for name, ratio in results["times_faster_than_torch"].items():
        print(f"{name}: {ratio:.2f} times faster than the PyTorch loop")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
