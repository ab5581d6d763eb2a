"""Claim by claim, do two runs agree? ``python -m benchmarks.compare_reports --old=DIR --new=DIR``.

Claims are matched by id, else by their statement, else by the last part of their id. Prints a
Markdown table; exit status 0 when every verdict is the same and every number within the tolerance,
1 when one is not, 2 on bad input. With ``--verdicts`` it is a table of old verdict, new verdict and
what changed in how the claim is judged, and the status is 0.
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

    old: str | None = option(None, "Folder of the earlier run, or several with commas between.")
    new: str | None = option(None, "Folder of the later run, or several.")
    relative: float = option(1e-6, "Largest relative difference that counts as rounding.")
    verdicts: bool = option(False, "Compare verdicts and how they came about, not numbers.")
    absolute: float = option(1e-10, "Largest absolute difference that counts as rounding.")


def claims_of(folders: str | None) -> list[dict]:
    """The claims of the reports of runs; schema 1 and 2 agree on what is compared."""
    if folders is None:
        raise InputError("give both --old=DIR and --new=DIR")
    reports = [read_settings(Path(folder) / "report.json") for folder in folders.split(",")]
    return [claim for report in reports for claim in report["claims"]]


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


def matched(old: list[dict], new: list[dict]) -> list[tuple[dict | None, dict]]:
    """Each later claim with the earlier one, None for a new one."""
    by_id = {claim["id"]: claim for claim in old}
    by_statement = {claim["statement"]: claim for claim in old}
    ids = {claim["id"] for claim in new}
    by_name = {claim["id"].split("/")[-1]: claim for claim in old if claim["id"] not in ids}

    def earlier(claim: dict) -> dict | None:
        name = claim["id"].split("/")[-1]
        return by_id.get(claim["id"], by_statement.get(claim["statement"], by_name.get(name)))

    return [(earlier(claim), claim) for claim in new]


def reasons(before: dict, claim: dict) -> str:
    """What changed in how a claim is judged, in words."""
    found = []
    for name in ("kind", "expected", "tolerance"):
        if name in before and before[name] != claim[name]:
            found.append(f"{name} {before[name]} → {claim[name]}")
    if before["statement"] != claim["statement"]:
        found.append(f"now says: {claim['statement']}")
    if claim["verdict"] == "vacuous":
        unmet = [name for name, a in claim["assumptions"].items() if not a["met"]]
        found.append(f"not met: {', '.join(unmet)}")
    return "; ".join(found)


def compare_verdicts(options: Options) -> int:
    """Print the table of verdicts that changed or are judged otherwise; returns the exit status."""
    print("| claim | kind | before | now | error | tolerance | what changed |")
    print("|---|---|---|---|---|---|---|")
    unchanged: dict[str, list[str]] = {}
    for before, claim in matched(claims_of(options.old), claims_of(options.new)):
        numbers = (f"{claim['error']:.2g}" if claim["error"] is not None else "–",)
        numbers += (f"{claim['tolerance']:g}",)
        was, why = ("–", "new") if before is None else (before["verdict"], reasons(before, claim))
        if was == claim["verdict"] and not why:
            unchanged.setdefault(was, []).append(claim["id"])
            continue
        row = [claim["id"], claim["kind"], was, claim["verdict"], *numbers, why]
        print("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |")
    print("\nSame verdict, judged as before:")
    for verdict, ids in unchanged.items():
        print(f"{len(ids)} {verdict}: {', '.join(ids)}")
    return 0


def compare(options: Options) -> int:
    """Print the table; returns the exit status."""
    if options.verdicts:
        return compare_verdicts(options)
    old, new = claims_of(options.old), claims_of(options.new)
    print("| claim | before | verdict | measured | before | error | before | differs |")
    print("|---|---|---|---|---|---|---|---|")
    unequal, unmatched = 0, {claim["id"] for claim in old}
    for before, claim in matched(old, new):
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
