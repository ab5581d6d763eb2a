"""What a run of `proofs_checks` left behind: its arrays and its report."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from dae_theory.checks import InputError
from dae_theory.files import read_npz, read_settings
from dae_theory.statistics import Interval, mean_interval
from proofs_checks.report import SCHEMA


def mean_of_seeds(values_S: np.ndarray) -> Interval:
    """`mean_interval`; without width where there is only one seed."""
    return mean_interval(values_S) or Interval(*3 * [float(np.mean(values_S))])


@dataclass(frozen=True)
class RunResults:
    """Arrays of results.npz by key, such as ``memorize/w1``, and report.json as plain data."""

    ORIGIN: ClassVar[str] = "a run, the --out of python -m proofs_checks.run"

    folder: Path
    arrays: dict[str, np.ndarray]
    report: dict

    def __getitem__(self, key: str) -> np.ndarray:
        """The array saved under a key."""
        return self.arrays[key]

    def number(self, key: str) -> float:
        """The single number saved under a key."""
        return float(self.arrays[key])

    def pairs(self, regime: str, prefix: str = "") -> list[tuple[np.ndarray, np.ndarray]]:
        """(W1, W2) of each net saved by a regime."""
        w1, w2 = (self.arrays[f"{regime}/{prefix}{name}"] for name in ("w1", "w2"))
        return list(zip(w1, w2, strict=True))

    def tolerance(self, claim_id: str) -> float | None:
        """Tolerance of a claim; None if the run did not check it."""
        for claim in self.report["claims"]:
            if claim["id"] == claim_id:
                return float(claim["tolerance"])
        return None

    def require(self, figure_id: str, regimes: tuple[str, ...], keys: tuple[str, ...]) -> None:
        """InputError that says what a figure needs and this run lacks, if anything."""
        ran = self.report["config"]["resolved"]
        missing = [regime for regime in regimes if regime not in ran]
        if missing:
            raise InputError(
                f"figure {figure_id} needs regime {', '.join(missing)}, but {self.folder} has "
                f"only {', '.join(ran) or 'none'}"
            )
        absent = [key for key in keys if key not in self.arrays]
        if absent:
            raise InputError(
                f"figure {figure_id} needs {', '.join(absent)}, which the run in {self.folder} "
                "did not produce"
            )


def load(folder: Path) -> RunResults:
    """Read results.npz and report.json of a run.

    Raises:
      InputError: when one of them is missing, truncated or of another schema.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it should be the --out of a run")
    return RunResults(folder, read_npz(folder / "results.npz"), read_report(folder / "report.json"))


def read_report(path: Path) -> dict:
    """report.json as plain data."""
    report = read_settings(path)
    if report.get("schema") != SCHEMA:
        raise InputError(f"{path}: not a report of schema {SCHEMA}")
    try:
        complete = isinstance(report["claims"], list) and isinstance(
            report["config"]["resolved"], dict
        )
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise InputError(f"{path}: claims or the resolved config are missing")
    return report
