"""Figures of sweeps and of the scaling benchmark, from made-up tables whose answers are known."""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pyarrow.parquet as pq
import pytest

from dae_theory.checks import InputError
from dae_theory.statistics import mean_interval
from dae_theory.sweep import store as store
from dae_theory.sweep.measure import MEASURES
from dae_theory.sweep.plan import SweepConfig, grid_cells, load_source
from figures import fig_phases, fig_scaling
from figures.make import load_any, main
from figures.style import RC
from figures.sweeps import ScalingResults, SweepResults

GAIN, RATIO, UNITS = fig_phases.MEASURES
GRID = SweepConfig(n=(2, 4, 8, 16, 32), p=(4, 8, 16), sigma=(0.1, 0.2), lam=(1e-3, 1e-2), seeds=5)


def made_up(cell) -> dict[str, float]:
    """Gains p/n once n > p; errors equal from n = 4p; all of it other at other λ and seeds."""
    factor = (1 + 0.02 * cell.seed) * (1 if cell.lam == 1e-3 else 0.1)
    return dict.fromkeys(MEASURES, 1.0) | {
        "gain_mean": factor * min(1.0, cell.p / cell.n),
        "train_mse": 2 * min(1.0, cell.n / (4 * cell.p)),
        "test_mse": 2.0,
        "train_merged_participation_ratio": 1 + cell.p * cell.sigma,
    }


def write_sweep(folder: Path, config: SweepConfig, status=lambda cell: "ok", skip=()) -> Path:
    """A sweep's folder with the made-up table."""
    with store.open_folder(folder, config, load_source(config), 0, 1):
        cells = [cell for cell in grid_cells(config) if cell.index not in skip]
        rows = [made_up(cell) for cell in cells]
        columns = {name: [row[name] for row in rows] for name in MEASURES}
        columns["status"] = [status(cell) for cell in cells]
        columns |= {"train_loss": [1.0] * len(cells), "wall_s": [1.0] * len(cells)}
        store.write_part(folder, cells, columns | {"note": [""] * len(cells)}, None, 0)
    store.merge(folder)
    return folder


@pytest.fixture(scope="module")
def sweep_dir(tmp_path_factory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep"), GRID)


@pytest.fixture(scope="module")
def results(sweep_dir) -> SweepResults:
    return SweepResults.load(sweep_dir)


@pytest.fixture(autouse=True)
def paper_style():
    with mpl.rc_context(RC):
        yield


def scaling_report(exponent: float = 1.0) -> dict:
    """A made-up benchmark with a known power law."""
    sweeps = [
        {"cells": c, "wall_s": 0.1 * c**exponent, "warm_s": [0.1 * c**exponent], "peak_mib": 500}
        for c in (16, 64, 256)
    ]
    bounds = [{"device": "A", "cells_per_s": 1e5}, {"device": "B", "cells_per_s": 2e5}]
    return {"sweeps": sweeps, "exponent": exponent, "cells_per_s": 10.0, "rooflines": bounds}


@pytest.fixture
def scaling_dir(tmp_path) -> Path:
    (tmp_path / "scaling.json").write_text(json.dumps(scaling_report()))
    return tmp_path


# --- values ----------------------------------------------------------------------------------


def test_diagrams_are_at_the_largest_p_and_the_smallest_sigma_and_lam(results):
    of_p, of_sigma = fig_phases.diagrams(results)
    assert (of_p.axis, of_p.fixed) == ("p", {"sigma": 0.1, "lam": 1e-3})
    assert (of_sigma.axis, of_sigma.fixed) == ("sigma", {"p": 16, "lam": 1e-3})
    assert of_p.values.tolist() == [4, 8, 16]
    assert of_p.n.tolist() == list(GRID.n)


@pytest.mark.parametrize("measure", fig_phases.MEASURES)
@pytest.mark.parametrize("which", [0, 1])
def test_values_are_those_of_their_cells(results, which, measure):
    diagram = fig_phases.diagrams(results)[which]
    values = fig_phases.values_of(results, diagram, measure)
    expected = np.full(values.shape, np.nan)
    for cell in grid_cells(GRID):
        if all(getattr(cell, name) == value for name, value in diagram.fixed.items()):
            row = diagram.values.tolist().index(getattr(cell, diagram.axis))
            row_of_cell = made_up(cell)
            over = 1 if measure.over is None else row_of_cell[measure.over]
            expected[row, GRID.n.index(cell.n), cell.seed] = row_of_cell[measure.column] / over
    np.testing.assert_array_equal(values, expected)
    assert np.all(np.isfinite(values))


def test_rows_may_come_in_any_order(results):
    order = np.random.default_rng(0).permutation(len(results["n"]))
    shuffled = replace(results, columns={k: v[order] for k, v in results.columns.items()})
    diagram = fig_phases.diagrams(results)[0]
    for measure in fig_phases.MEASURES:
        np.testing.assert_array_equal(
            fig_phases.values_of(results, diagram, measure),
            fig_phases.values_of(shuffled, diagram, measure),
        )


def test_missing_and_failed_cells_are_left_out(tmp_path):
    config = replace(GRID, lam=(1e-3,))
    folder = write_sweep(
        tmp_path, config, lambda cell: "nan" if cell.seed == 1 and cell.n == 8 else "ok", skip={0}
    )
    results = SweepResults.load(folder)
    diagram = fig_phases.diagrams(results)[0]
    values = fig_phases.values_of(results, diagram, GAIN)
    assert np.all(np.isnan(values[:, 2, 1]))
    assert np.isnan(values[0, 0, 0])
    assert np.sum(np.isnan(values)) == 4
    means = fig_phases.mean_over_seeds(values)
    np.testing.assert_allclose(means, np.nanmean(values, axis=2))
    rest = values[1][:, [0, 2, 3, 4]]
    assert fig_phases.boundary(diagram.n, values[1], GAIN) == fig_phases.boundary(
        diagram.n, rest, GAIN
    )


# --- boundaries ------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.2, 0.5, 0.75])
@pytest.mark.parametrize("rises", [False, True])
def test_crossing_of_a_line_in_log_n_is_exact(level, rises):
    n = 2.0 ** np.arange(1, 9)
    curve = np.log(n) / np.log(512)
    curve = curve if rises else 1 - curve
    expected = np.log(512) * (level if rises else 1 - level)
    assert fig_phases.crossing(np.log(n), curve, level, rises) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("curve", "rises", "expected"),
    [
        ([1, 1, 1, 1], False, np.inf),
        ([0, 0, 1, 0], False, -np.inf),
        ([1, 0, 1, 0], False, 0.5),  # the first fall: up to there every n is above
        ([0, 1, 0, 1], True, 2.5),  # the last rise: from there on every n is above
        ([0, 0, 0, 0], True, np.inf),
        ([1, 1, 1, 1], True, -np.inf),
    ],
)
def test_crossing_of_other_curves(curve, rises, expected):
    found = fig_phases.crossing(np.arange(4.0), np.array(curve, float), 0.5, rises)
    assert found == expected


def test_interval_covers_the_truth_as_often_as_it_says():
    n, seeds, slope = 2.0 ** np.arange(1, 8), 12, 0.2
    random = np.random.default_rng(0)
    truth = np.log(2) * 3.5  # where 1 − slope (log2 n − 1) is one half
    covered = []
    for _ in range(60):
        shift_S = 0.05 * random.standard_normal(seeds)
        values_NS = 1 - slope * (np.log2(n)[:, None] - 1) + shift_S
        centre, low, high = fig_phases.boundary(n, values_NS, RATIO._replace(rises=False))
        assert low <= centre <= high
        covered.append(low <= np.exp(truth) <= high)
        # The curves are parallel lines: the crossing is linear in the mean shift.
        _, *ends = mean_interval(shift_S)
        np.testing.assert_allclose(np.log2([low, high]), 3.5 + np.array(ends) / slope, atol=1e-6)
    assert np.mean(covered) > 0.85


def test_boundary_of_one_seed_has_no_interval():
    values_NS = np.array([[1.0], [0.0]])
    centre, low, high = fig_phases.boundary(np.array([2, 8]), values_NS, GAIN._replace(level=0.5))
    assert centre == pytest.approx(4)
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("values", [np.ones((3, 4)), np.full((3, 4), np.nan)])
def test_no_boundary_without_a_crossing_or_data(values):
    assert np.isnan(fig_phases.boundary(np.array([2, 4, 8]), values, GAIN)).all()


def test_drawn_boundary_is_that_of_the_table(results):
    axes = fig_phases.draw(results).axes[0]
    (points,) = (container[0].get_xydata() for container in axes.containers)
    diagram = fig_phases.diagrams(results)[0]
    assert points[:, 1].tolist() == [4, 8, 16]
    for p, x in zip(diagram.values, points[:, 0], strict=True):
        # Gains 1.04 p/n on average: from 1.04 at n = p to .52 at n = 2p.
        assert x == pytest.approx(p * 2 ** ((1.04 - 0.75) / 0.52))


def test_theory_lines_are_drawn(results):
    figure = fig_phases.draw(results)
    of_p, of_sigma = (
        {line.get_label(): line for line in figure.axes[i].lines} for i in (0, len(GRID.p))
    )
    np.testing.assert_array_equal(of_p["n = p"].get_xdata(), of_p["n = p"].get_ydata())
    assert set(of_sigma["n = p"].get_xdata()) == {max(GRID.p)}
    assert set(of_p["n = K = 3"].get_xdata()) == {GRID.clusters}


def test_colours_are_means_over_seeds(results):
    axes = fig_phases.draw(results).axes[0]
    diagram = fig_phases.diagrams(results)[0]
    expected = fig_phases.values_of(results, diagram, GAIN).mean(axis=2)
    np.testing.assert_allclose(axes.collections[0].get_array(), expected)


@pytest.mark.parametrize(("name", "rows"), [("p", 1), ("sigma", 1), (None, 2)])
def test_one_axis_gives_one_diagram(name, rows, tmp_path):
    config = replace(GRID, **({name: getattr(GRID, name)[:1]} if name else {}))
    figure = fig_phases.draw(SweepResults.load(write_sweep(tmp_path, config)))
    panels = [axes for axes in figure.axes if axes.get_xlabel()]
    assert len(panels) == 3 * rows
    assert figure.get_size_inches()[0] == 6.8


def test_scaling_draws_the_fit_and_every_run():
    figure = fig_scaling.draw(ScalingResults(Path(), scaling_report(1.25)))
    assert "1.25" in figure.axes[0].get_legend().get_texts()[0].get_text()
    assert figure.axes[0].lines[0].get_xdata().tolist() == [16, 64, 256]
    bounds = [line.get_ydata()[0] for line in figure.axes[1].lines[1:]]
    assert bounds == [1e5, 2e5]
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)


# --- the command -----------------------------------------------------------------------------


def test_all_draws_what_the_folder_has(sweep_dir, scaling_dir, tmp_path, capsys):
    for folder, name in ((sweep_dir, "phases"), (scaling_dir, "scaling")):
        for copy in ("first", "second"):
            assert main(["make", "--all", f"--from={folder}", f"--out={tmp_path / copy}"]) == 0
        printed = capsys.readouterr().out.split()
        assert printed[:2] == [str(tmp_path / f"first/{name}.{kind}") for kind in ("pdf", "png")]
        for kind in ("pdf", "png"):
            first, second = (tmp_path / copy / f"{name}.{kind}" for copy in ("first", "second"))
            assert first.read_bytes() == second.read_bytes()


def test_folders_are_told_apart(sweep_dir, scaling_dir):
    assert isinstance(load_any(sweep_dir), SweepResults)
    assert isinstance(load_any(scaling_dir), ScalingResults)


def refused(*arguments: str, capsys) -> str:
    assert main(["make", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("name", ["n", "p"])
def test_missing_grid_is_exit_2(name, tmp_path, capsys):
    few = {name: getattr(GRID, name)[:1]} | {"sigma": (0.1,)}
    folder = write_sweep(tmp_path / "sweep", replace(GRID, **few))
    error = refused(
        "--figure=phases", f"--from={folder}", f"--out={tmp_path / 'out'}", capsys=capsys
    )
    assert f"values of {name}" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("figure", "origin"), [("gains", "a sweep"), ("scaling", "a sweep"), ("phases", "a benchmark")]
)
def test_results_of_another_kind_are_exit_2(
    figure, origin, sweep_dir, scaling_dir, tmp_path, capsys
):
    folder = sweep_dir if origin == "a sweep" else scaling_dir
    error = refused(f"--figure={figure}", f"--from={folder}", f"--out={tmp_path}", capsys=capsys)
    assert f"holds {origin}" in error


@pytest.mark.parametrize("figure", ["phases", "scaling"])
def test_without_from_nothing_is_run(figure, tmp_path, capsys):
    assert "--from=DIR" in refused(f"--figure={figure}", f"--out={tmp_path}", capsys=capsys)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sweeps": []}'])
def test_damaged_benchmarks_are_exit_2(content, tmp_path, capsys):
    (tmp_path / "scaling.json").write_text(content)
    error = refused("--all", f"--from={tmp_path}", f"--out={tmp_path}", capsys=capsys)
    assert "scaling.json" in error


def test_damaged_and_unmerged_sweeps_are_refused(sweep_dir, tmp_path):
    (tmp_path / "config.json").write_bytes((sweep_dir / "config.json").read_bytes())
    with pytest.raises(InputError, match="--merge"):
        SweepResults.load(tmp_path)
    whole = (sweep_dir / "results.parquet").read_bytes()
    (tmp_path / "results.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        SweepResults.load(tmp_path)
    table = pq.read_table(sweep_dir / "results.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "results.parquet")
    with pytest.raises(InputError, match="no cell"):
        SweepResults.load(tmp_path)
    pq.write_table(table.drop_columns("gain_mean"), tmp_path / "results.parquet")
    with pytest.raises(InputError, match="another version"):
        SweepResults.load(tmp_path)
