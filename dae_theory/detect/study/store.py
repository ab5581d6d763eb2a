"""The folder of the study: models/, parts/ with what was measured of each model, and at the end two
small files: scores.npz, a row an image, and study.json, which says how it was made.

The package brings the study of docs/RESULTS.md, in `MEASURED`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.detect.study.choose import KEYS, STATISTICS, best
from dae_theory.detect.study.images import FREE, Labelled
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

TABLE, CARD = "scores.npz", "study.json"
MEASURED = Path(__file__).parent / "measured"
SCHEMA = 1
SCORE = "score/"  # in front of the names of detectors among the arrays


@dataclass(frozen=True)
class Model:
    """What was measured of one model.

    Attributes:
      name: of its training.
      step: of its training, at which it was looked at.
      last: whether the training ended there: then there are all groups of images.
      facts: of its training: seed, architecture, text, own_captions, no_caption_share,
        planted_share; and 'copies', as `images.Labelled.copies`.
      group, planted: as in `images.Labelled`.
      reproduced: for each planted image, how many samples were copies of it.
      scores: by the detector's name, high = memorized.
    """

    name: str
    step: int
    last: bool
    facts: dict
    group: Int[np.ndarray, " N"]
    planted: Int[np.ndarray, " N"]
    reproduced: Int[np.ndarray, " K"]
    scores: dict[str, Float[np.ndarray, " N"]]

    @property
    def judging(self) -> bool:
        """Whether it was trained after everything was chosen."""
        return self.facts["judging"]

    @property
    def free_share(self) -> float:
        """Share of copies of planted images among samples made without a caption."""
        copies, samples = self.facts["copies"][FREE]
        return copies / samples

    @property
    def test(self) -> Bool[np.ndarray, " N"]:
        """Which images are of the test split: of development models those of planted images of odd
        index, of judging models all; images of no planted image are of both."""
        return (self.planted < 0) | (self.planted % 2 == 1) | self.judging


@dataclass(frozen=True)
class Study:
    """All models, and how the study was made."""

    ORIGIN: ClassVar[str] = "a study, the --out of python -m dae_theory.detect.study"

    folder: Path
    card: dict
    models: tuple[Model, ...]

    @staticmethod
    def found_in(folder: Path) -> bool:
        """Whether a folder holds a finished study."""
        return all((folder / name).is_file() for name in (TABLE, CARD))

    @staticmethod
    def load(folder: Path = MEASURED) -> "Study":
        """Read study.json and scores.npz.

        Raises:
          InputError: when one is missing or damaged, or the scores are not those of the card.
        """
        card = read_settings(folder / CARD, ("schema", "command", "sha256", "models", "chosen"))
        path = folder / TABLE
        arrays = read_npz(path)
        check_described(path, CARD, card["sha256"], "scores")
        with damaged_unless_read(folder / CARD):
            models = tuple(_model(i, facts, arrays) for i, facts in enumerate(card["models"]))
        return Study(folder, card, models)


def _model(index: int, facts: dict, arrays: dict[str, np.ndarray]) -> Model:
    rows = arrays["model"] == index
    scores = {
        name.removeprefix(SCORE): column[rows].astype(float)
        for name, column in arrays.items()
        if name.startswith(SCORE) and np.isfinite(column[rows]).all()
    }
    return Model(
        facts["name"],
        facts["step"],
        facts["last"],
        facts,
        arrays["group"][rows].astype(int),
        arrays["planted"][rows].astype(int),
        np.array(facts["reproduced"]),
        scores,
    )


def part_path(out: Path, name: str) -> Path:
    """Where what was measured of a model, or of the candidates on it, is kept: .npz and .json."""
    return out / "parts" / f"{name}.json"


def write_part(out: Path, name: str, facts: dict, images: Labelled, scores: dict) -> None:
    """Keep what was measured of a model at a step."""
    path = part_path(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {SCORE + key: np.float32(score_N) for key, score_N in scores.items()}
    arrays |= {"group": np.int8(images.group), "planted": np.int8(images.planted)}
    write_whole(path.with_suffix(".npz"), npz_bytes(arrays))
    of_images = {"reproduced": images.reproduced.tolist(), "copies": images.copies}
    write_settings(path, facts | of_images)


def merge(out: Path, names: Sequence[str], command: str, chosen: dict) -> int:
    """Write scores.npz and study.json of the parts that are there; returns how many.

    Raises:
      InputError: for a damaged part.
    """
    facts, parts = [], []
    for name in names:
        if part_path(out, name).exists():
            facts.append(read_settings(part_path(out, name), ("name", "step", "last", "copies")))
            parts.append(read_npz(part_path(out, name).with_suffix(".npz")))
    columns = list(dict.fromkeys(name for part in parts for name in part))
    arrays = {
        column: np.concatenate(
            [part.get(column, np.full(len(part["group"]), np.nan, np.float32)) for part in parts]
        )
        for column in columns
    }
    counts = [len(part["group"]) for part in parts]
    arrays["model"] = np.repeat(np.arange(len(parts), dtype=np.int8), counts)
    card = {
        "schema": SCHEMA,
        "command": command,
        "chosen": chosen,
        "models": facts,
    }
    write_described(out / TABLE, npz_bytes(arrays), out / CARD, card)
    return len(parts)


def chosen_of(rows_by_family: dict[str, list[dict]], scores: Sequence[str]) -> dict:
    """The best candidate of each family for the spikiness of activations, and of all models for
    each of the other scores, with their mean areas; also the best of each statistic."""
    every = [row for rows in rows_by_family.values() for row in rows]
    return {
        "keys": list(KEYS),
        "activations": {name: best(rows, STATISTICS) for name, rows in rows_by_family.items()},
        "std": {name: best(rows, ("std",)) for name, rows in rows_by_family.items()},
        "others": {score: best(every, (score,)) for score in scores},
    }
