"""The folder of the study: parts/ with what was measured of each case, and at the end two small
files: study.npz, the cases of the main comparison and the outcomes of mitigation, and study.json,
which says how they were made and holds the other cases in a few numbers.

The package brings the study of docs/RESULTS.md, in `MEASURED`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool

from dae_theory.files import (
    check_described,
    damaged_unless_read,
    npz_bytes,
    read_npz,
    read_settings,
    write_described,
    write_settings,
    write_whole,
)

TABLE, CARD = "study.npz", "study.json"
MEASURED = Path(__file__).parent / "measured"
SCHEMA = 2
CASE = ("model", "variant", "group", "concept")  # what a case is known by
COLUMNS = ("log_odds", "distance", "cosine", "path", "copy", "realism")
OUTCOME = ("copy", "faithful", "realism")


@dataclass(frozen=True)
class Case:
    """One model's samples of one group, steered towards one concept in one way.

    Attributes:
      model, variant, group, concept: names.
      strengths: (S,), increasing.
      arrays: COLUMNS, as `measure.case` returns them: (S, N), 'path' (S − 1, N), 'realism' (S,).
    """

    model: str
    variant: str
    group: str
    concept: str
    strengths: tuple[float, ...]
    arrays: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Mitigated:
    """Samples of a model under planted captions, in one way at one strength.

    ``choosing`` says whether they are of the starts on which strengths are chosen.
    """

    model: str
    way: str
    strength: float
    choosing: bool
    copy: Bool[np.ndarray, " N"]
    faithful: Bool[np.ndarray, " N"]
    realism: float


@dataclass(frozen=True)
class Study:
    """All cases, and how the study was made."""

    ORIGIN: ClassVar[str] = "a study, the --out of python -m dae_theory.steer.study"

    folder: Path
    card: dict
    cases: tuple[Case, ...]
    mitigated: tuple[Mitigated, ...]

    @staticmethod
    def found_in(folder: Path) -> bool:
        """Whether a folder holds a finished study."""
        return all((folder / name).is_file() for name in (TABLE, CARD))

    @staticmethod
    def load(folder: Path = MEASURED) -> "Study":
        """Read study.json and study.npz.

        Raises:
          InputError: when one is missing or damaged, or the numbers are not those of the card.
        """
        keys = ("schema", "command", "sha256", "cases", "mitigated", "ablations", "null", "similar")
        card = read_settings(folder / CARD, keys)
        path = folder / TABLE
        table = read_npz(path)
        check_described(path, CARD, card["sha256"], "numbers")
        with damaged_unless_read(folder / CARD):
            cases = tuple(
                Case(
                    *(facts[name] for name in CASE),
                    tuple(facts["strengths"]),
                    {name: table[f"{facts['shape']}/{name}"][facts["row"]] for name in COLUMNS},
                )
                for facts in card["cases"]
            )
            mitigated = tuple(
                Mitigated(
                    facts["model"],
                    setting["way"],
                    setting["strength"],
                    facts["choosing"],
                    *(table[f"{facts['shape']}/{name}"][row] for name in OUTCOME),
                )
                for facts in card["mitigated"]
                for row, setting in enumerate(facts["settings"])
            )
        return Study(folder, card, cases, mitigated)

    @property
    def similar(self) -> float:
        """The smallest energy distance between real images of two garments."""
        return self.card["similar"]

    def null(self, concept: str) -> float:
        """What the energy distance of real images of a concept to others exceeds in 5%."""
        return self.card["null"][concept]


def part_path(out: Path, name: str) -> Path:
    """Where a part is kept: facts in NAME.json, arrays in NAME.npz."""
    plain = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)
    return out / "parts" / f"{plain}.json"


def write_part(out: Path, name: str, facts: dict, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep what was measured; the facts are written last, and a part without them is not there."""
    path = part_path(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path.with_suffix(".npz"), npz_bytes(arrays))
    write_settings(path, facts)


def read_part(out: Path, name: str, keys: Sequence[str]) -> tuple[dict, dict[str, np.ndarray]]:
    """What `write_part` kept.

    Raises:
      InputError: for a damaged part.
    """
    path = part_path(out, name)
    return read_settings(path, keys), read_npz(path.with_suffix(".npz"))


def merge(
    out: Path,
    names: Sequence[str],
    mitigated: Sequence[str],
    command: str,
    ablations: Sequence[dict],
    null: Mapping[str, float],
    similar: float,
) -> int:
    """Write study.npz and study.json of the parts that are there; returns how many.

    Raises:
      InputError: for a damaged part.
    """
    rows: dict[str, list[np.ndarray]] = {}
    cases, outcomes = [], []
    for name in (name for name in names if part_path(out, name).exists()):
        facts, arrays = read_part(out, name, ("model", "shape"))
        if not facts["shape"]:  # no samples of this kind
            continue
        first = f"{facts['shape']}/{COLUMNS[0]}"
        cases.append(facts | {"row": len(rows.get(first, ()))})
        for column in COLUMNS:
            rows.setdefault(f"{facts['shape']}/{column}", []).append(arrays[column])
    table = {name: np.stack(column) for name, column in rows.items()}
    for name in (name for name in mitigated if part_path(out, name).exists()):
        facts, arrays = read_part(out, name, ("model", "choosing", "settings"))
        shape = f"mitigation-{len(outcomes)}"
        outcomes.append(facts | {"shape": shape})
        table |= {f"{shape}/{column}": arrays[column] for column in OUTCOME}
    card = {
        "schema": SCHEMA,
        "command": command,
        "null": dict(null),
        "similar": similar,
        "cases": cases,
        "mitigated": outcomes,
        "ablations": list(ablations),
    }
    write_described(out / TABLE, npz_bytes(table), out / CARD, card)
    return len(cases) + len(outcomes) + len(ablations)


def shape_name(arrays: Mapping[str, np.ndarray]) -> str:
    """Cases of one shape share the arrays of the table: strengths x starts."""
    return "x".join(map(str, arrays[COLUMNS[0]].shape))
