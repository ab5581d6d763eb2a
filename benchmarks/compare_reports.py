"""Claim by claim, do two runs agree? ``python -m benchmarks.compare_reports --old=DIR --new=DIR``.

Claims are matched by id, else by their statement. Prints a Markdown table; exit status 0 when every
verdict is the same and every number within the tolerance, 1 when one is not, 2 on bad input.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from dae_theory.checks import InputError
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.files import read_settings

NUMBERS = ("measured", "predicted", "error")


@dataclass(frozen=True)
class Options:
    """What is compared."""

    old: str | None = option(None, "Folder of the earlier run.")
    new: str | None = option(None, "Folder of the later run.")
    relative: float = option(1e-6, "Largest relative difference that counts as rounding.")
    absolute: float = option(1e-10, "Largest absolute difference that counts as rounding.")


def claims_of(folder: str | None) -> list[dict]:
    """The claims of a run's report; schema 1 and 2 agree on what is compared."""
    if folder is None:
        raise InputError("give both --old=DIR and --new=DIR")
    return read_settings(Path(folder) / "report.json")["claims"]


def differing(old: dict, new: dict, relative: float, absolute: float) -> list[str]:
    """What differs by more than rounding."""

    def same(a: float | None, b: float | None) -> bool:
        if a is None or b is None:
            return a is b
        return math.isclose(a, b, rel_tol=relative, abs_tol=absolute)

    names = [name for name in NUMBERS if not same(old[name], new[name])]
    return names + [name for name in ("verdict", "tolerance") if old[name] != new[name]]


def shown(value: float | None) -> str:
    """A number as the table has it."""
    return "–" if value is None else f"{value:.6g}"


def compare(options: Options) -> int:
    """Print the table; returns the exit status."""
    old, new = claims_of(options.old), claims_of(options.new)
    by_id = {claim["id"]: claim for claim in old}
    by_statement = {claim["statement"]: claim for claim in old}
    print("| claim | before | verdict | measured | before | error | before | differs |")
    print("|---|---|---|---|---|---|---|---|")
    unequal, unmatched = 0, set(by_id)
    for claim in new:
        before = by_id.get(claim["id"]) or by_statement.get(claim["statement"])
        if before is None:
            print(f"| {claim['id']} | new | {claim['verdict']} | | | | | |")
            continue
        unmatched.discard(before["id"])
        differs = differing(before, claim, options.relative, options.absolute)
        unequal += bool(differs)
        name = "same" if before["id"] == claim["id"] else before["id"]
        numbers = [shown(side[key]) for key in ("measured", "error") for side in (claim, before)]
        row = [claim["id"], name, claim["verdict"], *numbers, ", ".join(differs)]
        print("| " + " | ".join(row) + " |")
    print(f"\n{len(new)} claims, {unequal} that differ, {len(unmatched)} only before", end="")
    print(f": {', '.join(sorted(unmatched))}" if unmatched else "")
    return 1 if unequal or unmatched else 0


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(compare, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=True)
    sys.exit(main(sys.argv))
