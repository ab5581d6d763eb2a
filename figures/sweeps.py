"""What a sweep (`dae_theory.sweep`) or its scaling benchmark left behind."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dae_theory.checks import InputError
from dae_theory.files import read_settings
from dae_theory.sweep.plan import SweepConfig
from dae_theory.sweep.store import COLUMNS, read_config


@dataclass(frozen=True)
class SweepResults:
    """The cells of a sweep that ended well, one entry a cell in each column."""

    ORIGIN: ClassVar[str] = "a sweep, the --out of python -m dae_theory.sweep"

    folder: Path
    config: SweepConfig
    columns: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        """A column."""
        return self.columns[name]

    @staticmethod
    def found_in(folder: Path) -> bool:
        """Whether a folder holds a sweep, finished or not."""
        return (folder / "config.json").is_file()

    @staticmethod
    def load(folder: Path) -> "SweepResults":
        """Read config.json and results.parquet.

        Raises:
          InputError: when one is missing or damaged, or when no cell ended well.
        """
        config = read_config(folder)
        path = folder / "results.parquet"
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; run python -m dae_theory.sweep --merge --out={folder}"
            )
        try:
            table = pq.read_table(path).cast(COLUMNS)
        except (pa.ArrowInvalid, ValueError, OSError) as error:
            raise InputError(f"{path}: damaged, or of another version ({error})") from error
        table = table.filter(pc.equal(table["status"], "ok"))
        if not len(table):
            raise InputError(f"{path}: no cell of this sweep ended well")
        columns = {name: table[name].to_numpy() for name in table.column_names if name != "note"}
        return SweepResults(folder, config, columns)


@dataclass(frozen=True)
class ScalingResults:
    """scaling.json of the scaling benchmark as plain data."""

    ORIGIN: ClassVar[str] = "a benchmark, the --out of python -m benchmarks.scaling"

    folder: Path
    report: dict

    @staticmethod
    def found_in(folder: Path) -> bool:
        """Whether a folder holds the benchmark."""
        return (folder / "scaling.json").is_file()

    @staticmethod
    def load(folder: Path) -> "ScalingResults":
        """Read scaling.json; InputError when it is damaged."""
        path = folder / "scaling.json"
        report = read_settings(path, ("sweeps", "exponent", "cells_per_s"))
        return ScalingResults(folder, report)
