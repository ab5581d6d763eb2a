"""The Colab notebook runs from top to bottom, on a tiny grid and without a network."""

from pathlib import Path

import nbformat
import pyarrow.parquet as pq
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "sweep_colab.ipynb"
TINY = {"N": "2,8", "P": "4,8", "SIGMA": "0.1", "SEEDS": "2", "STEPS": "50", "SOURCE": "nowhere"}


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_outputs_are_cleared(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    nbformat.validate(notebook)


def test_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    for name, value in TINY.items():
        monkeypatch.setenv(f"DAE_{name}", value)
    monkeypatch.setenv("DAE_OUT", str(tmp_path / "sweep"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    resources = {"metadata": {"path": str(tmp_path)}}
    executed = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources)
    executed.execute()
    table = pq.read_table(tmp_path / "sweep" / "results.parquet")
    assert table["status"].to_pylist() == ["ok"] * 8
    assert (tmp_path / "sweep" / "results.csv").is_file()
    assert (tmp_path / "sweep" / "figures" / "phases.pdf").is_file()
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert any("image/png" in output.get("data", {}) for output in last.outputs)
