"""The folder of a ladder: config.json, one part a finished rung, and at the end two small files,
ladder.csv, one row a net, and ladder.json, which says how it was made.

The package brings the ladder of docs/RESULTS.md, in `MEASURED`.
"""

import contextlib
import csv
import dataclasses
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError
from dae_theory.data.dataset import Dataset
from dae_theory.deep.ladder.data import pool
from dae_theory.deep.ladder.nets import PLAIN
from dae_theory.deep.ladder.rungs import LadderConfig, Rung
from dae_theory.files import (
    check_described,
    damaged_unless_read,
    read_settings,
    reserve_folder,
    write_described,
    write_settings,
)

TABLE, CARD = "ladder.csv", "ladder.json"
MEASURED = Path(__file__).parent / "measured"
KEYS = ("data", "n", "kind", "depth", "seed")
DIGITS = 5
SCHEMA = 1


@dataclass(frozen=True)
class Ladder:
    """What was measured: ``rows``, a net each, with KEYS and the quantities that it has."""

    ORIGIN: ClassVar[str] = "a ladder, the --out of python -m dae_theory.deep.ladder"

    folder: Path
    card: dict
    rows: tuple[dict, ...]

    @staticmethod
    def found_in(folder: Path) -> bool:
        """Whether a folder holds a finished ladder."""
        return (folder / CARD).is_file()

    @staticmethod
    def load(folder: Path = MEASURED) -> "Ladder":
        """Read ladder.json and ladder.csv.

        Raises:
          InputError: when one is missing or damaged, or the table is not the one of the card.
        """
        card = read_settings(folder / CARD, ("schema", "command", "sha256", "data"))
        path = folder / TABLE
        if not path.is_file():
            raise InputError(f"{path}: no such file; run python -m dae_theory.deep.ladder again")
        check_described(path, CARD, card["sha256"], "table")
        with damaged_unless_read(path):
            text = path.read_bytes().decode()
            return Ladder(folder, card, tuple(map(_parsed, csv.DictReader(io.StringIO(text)))))

    @property
    def config(self) -> LadderConfig:
        """The config that it was made with."""
        fields = self.card["config"]
        return LadderConfig(**fields | {"groups": tuple(fields["groups"])})

    def values(
        self, quantity: str, data: str, n: int, kind: str = PLAIN, depth: int = 3
    ) -> Float[np.ndarray, " S"]:
        """A quantity of all nets of a rung.

        Raises:
          InputError: when the ladder has no such rung, or the rung no such quantity.
        """
        rung = {"data": data, "n": n, "kind": kind, "depth": depth}
        found = [
            row[quantity]
            for row in self.rows
            if quantity in row and all(row[key] == value for key, value in rung.items())
        ]
        if not found:
            raise InputError(f"ladder: {self.folder} has no {quantity} of {rung}")
        return np.array(found)

    def seeds(self, data: str, n: int, kind: str = PLAIN, depth: int = 3) -> tuple[int, ...]:
        """The seeds of a rung."""
        return tuple(int(s) for s in self.values("seed", data, n, kind, depth))


def _parsed(row: dict[str, str]) -> dict:
    read = {"data": str, "kind": str, "n": int, "depth": int, "seed": int}
    return {name: read.get(name, float)(value) for name, value in row.items() if value}


@contextlib.contextmanager
def open_folder(out: Path, config: LadderConfig) -> Iterator[None]:
    """Make or check the folder of a ladder, and hold it.

    Raises:
      InputError: when it holds a ladder of another config, or another run is in it.
    """
    (out / "parts").mkdir(parents=True, exist_ok=True)
    with reserve_folder(out, {"schema": SCHEMA} | dataclasses.asdict(config), "ladder"):
        yield


def part_path(out: Path, rung: Rung) -> Path:
    """Where what was measured of a rung is kept."""
    return out / "parts" / f"{rung.name}.json"


def write_part(
    out: Path, rung: Rung, config: LadderConfig, rows: list[dict], wall_s: float
) -> None:
    """Keep what was measured of a rung."""
    keys = dataclasses.asdict(rung)
    full = [keys | {"seed": seed} | row for seed, row in zip(config.seed_list, rows, strict=True)]
    write_settings(part_path(out, rung), {"rows": full, "wall_s": wall_s})


def command_of(config: LadderConfig) -> str:
    """The command line of a config, without its folder; options at their default are left out."""
    usual, words = LadderConfig(), ["python -m dae_theory.deep.ladder"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != getattr(usual, field.name):
            words.append(f"--{field.name}={','.join(value) if field.name == 'groups' else value}")
    return " ".join(words)


def merge(out: Path, config: LadderConfig) -> tuple[int, int]:
    """Write ladder.csv and ladder.json of the rungs that are done; returns how many, of how many.

    Raises:
      InputError: for a damaged part.
    """
    parts = [
        read_settings(part_path(out, rung), ("rows", "wall_s"))
        for rung in config.rungs
        if part_path(out, rung).exists()
    ]
    rows = [row for part in parts for row in part["rows"]]
    table = _csv(rows)
    sources = sorted({row["data"] for row in rows})
    card = {
        "schema": SCHEMA,
        "command": command_of(config),
        "config": dataclasses.asdict(config),
        "rungs": {"done": len(parts), "of": len(config.rungs)},
        "data": {name: Dataset(name, pool(name).training).sha256 for name in sources},
        "wall_s": round(sum(part["wall_s"] for part in parts), 1),
    }
    write_described(out / TABLE, table, out / CARD, card)
    return len(parts), len(config.rungs)


def _csv(rows: list[dict]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _shown(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _shown(value: float | int | str) -> str:
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)
