"""How many small errors do the tests of a room notice?

    python -m benchmarks.mutation --room=relu

Errors are those of cosmic-ray in a copy of the package, a random sample of them: an operator
(+, −, ·, /, power; comparisons; and, or, not; True, False), a number off by one, a loop left out.
Each is first shown to the tests of its module, then to those of its room, then to all others that
call the function it is in. Left out: annotations, decorators, and operators that floating-point
numbers do not have. A run that was cut short goes on where it stopped.
"""

import ast
import functools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

from dae_theory.checks import InputError, check_count
from dae_theory.commands import option, run_main
from dae_theory.statistics import share_interval

ROOT = Path(__file__).resolve().parents[1]
ARITHMETIC = {"Add", "Sub", "Mul", "Div", "Pow"}
LEFT_OUT = ("core/RemoveDecorator", "core/Variable")
TIMEOUT_S = 900  # of one file's tests: an error may never end
NO_TESTS = 5  # pytest's exit status where all are slow


@dataclass(frozen=True)
class Options:
    """Which errors to try."""

    room: str = option("theory", "Folder of dae_theory.")
    sample: int = option(40, "Errors to try.")
    seed: int = option(0, "Of the sample.")
    out: str = option("mutation", "Folder for what was found, a line of JSON an error.")


@dataclass(frozen=True)
class Site:
    """One error: an operator of cosmic-ray at its ``occurrence`` in a ``module`` of dae_theory."""

    module: str
    operator: str
    occurrence: int
    line: int
    function: str | None


def sites_of(path: Path) -> Iterator[Site]:
    """All errors that may be put into a file."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.ast.ast_query import ASTQuery

    annotated = annotations_of(path)
    tree = get_ast_from_path(path)
    for name in plugins.operator_names():
        if name.startswith(LEFT_OUT) or not is_for_numbers(name):
            continue
        operator = plugins.get_operator(name)()
        positions = (
            (node, start)
            for node in ast_nodes(tree)
            for start, _ in operator.mutation_positions(node)
        )
        for occurrence, (node, start) in enumerate(positions):
            if not any(first <= start < last for first, last in annotated):
                function = ASTQuery(node).get_definition_name()
                module = str(path.relative_to(ROOT / "dae_theory"))
                yield Site(module, name, occurrence, start[0], function)


def is_for_numbers(operator: str) -> bool:
    """Not the exchange of an operator for one that floating-point numbers do not have."""
    if "ReplaceBinaryOperator" not in operator:
        return True
    return set(operator.split("Operator_")[1].split("_")) <= ARITHMETIC


def annotations_of(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Beginnings and ends (line, column) of the annotations in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if part is not None:
                ends = (part.end_lineno, part.end_col_offset)
                found.append(((part.lineno, part.col_offset), ends))
    return found


def tests_for(site: Site) -> list[tuple[Path, ...]]:
    """Test files in the order in which they see an error: of its module, its room, all others that
    call its function."""
    room, stem = Path(site.module).parent.name, Path(site.module).stem
    own = [ROOT / "tests" / room / f"test_{stem}.py"]
    others = sorted((ROOT / "tests" / room).glob("test_*.py"))
    call = rf"(?<!\w){site.function}\("
    naming = [
        path
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if site.function and re.search(call, path.read_text())
    ]
    steps, seen = [], set()
    for files in (own, others, naming):
        new = tuple(path for path in files if path.exists() and path not in seen)
        seen |= set(new)
        if new:
            steps.append(new)
    return steps


def try_error(site: Site, copy: Path) -> dict:
    """The error shown to one step of tests after the other: its text, and what noticed it."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import use_mutation

    path = copy / "dae_theory" / site.module
    operator = plugins.get_operator(site.operator)()
    noticed = None
    for step in tests_for(site):
        with use_mutation(path, operator, site.occurrence) as (old, new):
            fails = not passes(step, copy)
        if fails and passes_unchanged(step, copy):
            noticed = step[0].name
            break
    lines = zip(old.splitlines(), new.splitlines(), strict=False)
    was, now = next(((a.strip(), b.strip()) for a, b in lines if a != b), ("", ""))
    return asdict(site) | {"was": was, "now": now, "by": noticed}


def passes(files: tuple[Path, ...], copy: Path) -> bool:
    """All tests of the files pass in the copy, and end."""
    names = [str(path.relative_to(ROOT)) for path in files]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(copy), "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, *names],
            cwd=copy,
            env=environment,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode in (0, NO_TESTS)


passes_unchanged = functools.cache(passes)


def try_errors(options: Options) -> int:
    """Try the sample, print what was not noticed; returns the exit status."""
    folder = ROOT / "dae_theory" / options.room
    check_count(options.sample, "sample")
    if not folder.is_dir():
        raise InputError(f"room: there is no folder dae_theory/{options.room}")
    sites = [site for path in sorted(folder.glob("*.py")) for site in sites_of(path)]
    chosen = random.Random(options.seed).sample(sites, min(options.sample, len(sites)))
    results = Path(options.out) / f"{options.room}-{options.seed}.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.touch()
    found = [json.loads(line) for line in results.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        copytree(ROOT, copy, ignore=ignore_patterns(".git", ".venv", "build", "*.jsonl"))
        for site in chosen[len(found) :]:
            found.append(try_error(site, copy))
            with results.open("a") as file:
                file.write(json.dumps(found[-1]) + "\n")
    survivors = [one for one in found if one["by"] is None]
    share = share_interval(len(found) - len(survivors), len(found))
    print(f"{options.room}: {len(sites)} errors, {len(found)} tried, {len(survivors)} not noticed;")
    print(f"noticed: {share.shown(3)}")
    for one in survivors:
        print(f"{one['module']}:{one['line']}\n  - {one['was']}\n  + {one['now']}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(try_errors, Options, sys.argv, __doc__))
