"""The folder of a sweep: config.json, one part file per finished batch, and the merged table.

Files are written under a temporary name, synced and renamed: whatever the moment of a kill, a
file under its own name is whole. Every process of a sweep writes parts of its own.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from dae_theory.checks import InputError
from dae_theory.files import npz_bytes, read_settings, reserve_folder, write_whole
from dae_theory.sweep.measure import MEASURES
from dae_theory.sweep.plan import Cell, Source, SweepConfig, grid_cells

SCHEMA_VERSION = 1
STATUSES = ("ok", "nan", "failed")
COLUMNS = pa.schema(
    [
        ("cell", pa.int32()),
        ("seed", pa.int32()),
        ("n", pa.int32()),
        ("sigma", pa.float64()),
        ("lam", pa.float64()),
        ("p", pa.int32()),
        ("status", pa.string()),
        ("train_loss", pa.float64()),
        *((name, pa.float64()) for name in MEASURES),
        ("wall_s", pa.float64()),
        ("note", pa.string()),
    ]
)


class Merged(NamedTuple):
    """The whole table, sorted by cell, and the number of cells still missing."""

    table: pa.Table
    missing: int


def identity(config: SweepConfig, source: Source) -> dict:
    """Everything that a result depends on."""
    return {
        "schema": SCHEMA_VERSION,
        "config": dataclasses.asdict(config),
        "data_sha256": source.digest,
    }


@contextlib.contextmanager
def open_folder(
    out: Path, config: SweepConfig, source: Source, process: int, processes: int
) -> Iterator[None]:
    """Make or check the folder of a sweep, hold it, and remove what a killed run left half done.

    Raises:
      InputError: when the folder holds a sweep with another config or other data, or when another
        sweep is running in it.
      OSError: when the folder cannot be written.
    """
    (out / "parts").mkdir(parents=True, exist_ok=True)
    (out / "weights").mkdir(exist_ok=True)
    with reserve_folder(out, identity(config, source), "sweep", process):
        # Other processes of this sweep may be writing: only one alone may clean up after all.
        owner = "*" if processes == 1 else str(process)
        for leftover in out.glob(f"**/.*.{owner}.tmp"):
            leftover.unlink(missing_ok=True)
        yield


def read_identity(out: Path) -> dict:
    """What config.json of a sweep's folder says."""
    path = out / "config.json"
    if not path.is_file():
        raise InputError(f"out: {out} holds no sweep (no config.json)")
    return read_settings(path, ("schema", "config", "data_sha256"))


def read_config(out: Path) -> SweepConfig:
    """The config of the sweep in a folder."""
    fields = read_identity(out)["config"]
    try:
        return SweepConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{out / 'config.json'}: of another version ({error})") from error


def part_name(cells: Sequence[Cell]) -> str:
    """Name of a part, without suffix: its first cell, and a digest of all of them."""
    indices = np.array([cell.index for cell in cells], "<i8")
    return f"{indices[0]:06d}-{hashlib.sha256(indices.tobytes()).hexdigest()[:12]}"


def write_part(
    out: Path,
    cells: Sequence[Cell],
    columns: dict[str, Sequence],
    weights: dict[str, np.ndarray] | None,
    process: int,
) -> None:
    """Keep the results of a batch, and before them its weights (B, D, P), so that a part without
    its weights never exists. Raises OSError when there is no room; nothing is left behind then."""
    name = part_name(cells)
    if weights is not None:
        arrays = {"cell": np.array([cell.index for cell in cells])} | weights
        content = npz_bytes(arrays, compress=False)
        write_whole(out / "weights" / f"{name}.npz", content, process)
    axes = {"cell": [cell.index for cell in cells]}
    axes |= {axis: [getattr(cell, axis) for cell in cells] for axis in Cell._fields[1:]}
    write_whole(out / "parts" / f"{name}.parquet", _parquet(axes | columns), process)


def _parquet(columns: dict[str, Sequence] | pa.Table, metadata: dict | None = None) -> bytes:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns, schema=COLUMNS)
    if metadata is not None:
        table = table.replace_schema_metadata({"sweep": json.dumps(metadata)})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def read_parts(out: Path) -> pa.Table:
    """All results so far, one row a cell, sorted; of a cell computed again after it had failed, the
    result that did not fail.

    Raises InputError for a damaged part.
    """
    tables = []
    for path in sorted((out / "parts").glob("*.parquet")):
        try:
            tables.append(pq.read_table(path).cast(COLUMNS))
        except (pa.ArrowInvalid, ValueError, OSError) as error:
            raise InputError(
                f"{path}: damaged or of another version ({error}); delete it and run again"
            ) from error
    if not tables:
        return COLUMNS.empty_table()
    table = pa.concat_tables(tables)
    failed = pc.equal(table["status"], "failed")
    table = table.append_column("failed", failed).sort_by(
        [("cell", "ascending"), ("failed", "ascending")]
    )
    index = table["cell"].to_numpy()
    return table.drop_columns("failed").filter(np.r_[True, index[1:] != index[:-1]])


def finished_cells(out: Path) -> set[int]:
    """Indices of the cells that need not be computed again: all kept ones that did not fail."""
    table = read_parts(out)
    return set(table.filter(pc.not_equal(table["status"], "failed"))["cell"].to_pylist())


def merge(out: Path, *, csv: bool = False) -> Merged:
    """Join the parts of all processes into results.parquet (and results.csv).

    The config is in the metadata of the Parquet schema, under 'sweep'.

    Raises:
      InputError: when the folder holds no sweep, or a damaged part.
      OSError: when there is no room.
    """
    config = read_config(out)
    table = read_parts(out)
    write_whole(out / "results.parquet", _parquet(table, read_identity(out)))
    if csv:
        sink = io.BytesIO()
        pa.csv.write_csv(table, sink)
        write_whole(out / "results.csv", sink.getvalue())
    return Merged(table, len(grid_cells(config)) - len(table))
