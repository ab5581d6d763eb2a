"""The ladder's figure and tables, from a made-up ladder whose answers are known."""

import hashlib
import json

import matplotlib as mpl
import numpy as np
import pytest

from dae_theory.deep.ladder import report
from dae_theory.deep.ladder.measure import NEIGHBOURS
from dae_theory.deep.ladder.nets import PLAIN
from dae_theory.deep.ladder.rungs import COUNTS, DEPTHS, DIFFERENT, EXACT, FEW, MANY
from dae_theory.deep.ladder.store import CARD, TABLE, Ladder
from figures import fig_ladder
from figures.make import load_any, main
from figures.style import RC

SEEDS = range(1000, 1005)


def made_up(n, kind, depth, seed):
    """Traces n/10, gains by the number of the seed, cosines .5."""
    offset = 0.01 * (seed - 1002)
    row = {"training/trace": n / 10 + offset, "training/gain": 0.9 + offset}
    row |= {"training/gain_of_5": 1.0}
    row |= {
        f"training/{prefix}{side}": 0.5 for prefix in ("", "other_") for side in ("left", "right")
    }
    names = [str(k) for k in NEIGHBOURS if k <= n] + ["label", "all"]
    row |= {f"held_out/second moment/{name}/cosine": 0.5 for name in names}
    keys = {"data": "fashion_mnist", "n": n, "kind": kind, "depth": depth, "seed": seed}
    return keys | row


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rungs = [(n, PLAIN, depth) for n in COUNTS for depth in DEPTHS]
    rungs += [(n, kind, 3) for n in (FEW, MANY) for kind in (*EXACT, *DIFFERENT)]
    rows = [made_up(*rung, seed) for rung in rungs for seed in SEEDS]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names)]
    lines += [",".join(str(row.get(name, "")) for name in names) for row in rows]
    out = tmp_path_factory.mktemp("ladder")
    table = ("\n".join(lines) + "\n").encode()
    (out / TABLE).write_bytes(table)
    card = {"schema": 1, "command": "made up", "data": {}}
    (out / CARD).write_text(json.dumps(card | {"sha256": hashlib.sha256(table).hexdigest()}))
    return out


def test_the_figure_shows_the_means_of_the_rungs(folder):
    with mpl.rc_context(RC):
        figure = fig_ladder.draw(Ladder.load(folder))
    trace, directions, gain, around, changes, traces = figure.axes
    lines = {line.get_label(): line for line in trace.containers}
    assert sorted(lines) == [f"depth {depth}" for depth in DEPTHS]
    counts, means = lines["depth 3"].lines[0].get_data(orig=False)
    np.testing.assert_allclose(counts, COUNTS)
    np.testing.assert_allclose(means, np.array(COUNTS) / 10)
    assert len(directions.lines) > 2
    gains = gain.containers[0].lines[0].get_data(orig=False)[1]
    np.testing.assert_allclose(gains, 0.9)
    assert [len(line.get_xdata()) for line in around.lines] == [4, 5, 6, 6]
    assert [label.get_text() for label in changes.get_yticklabels()] == list(fig_ladder.KINDS)
    assert len(changes.containers) == 3
    drawn = [container.lines[0].get_xdata(orig=False) for container in traces.containers]
    np.testing.assert_allclose(drawn, [[FEW / 10] * (len(fig_ladder.KINDS) - 1)])  # none untrained


def test_the_command_draws_it_from_a_folder_and_from_the_package(folder, tmp_path, capsys):
    assert isinstance(load_any(folder), Ladder)
    for number, source in enumerate(([f"--from={folder}"], [])):
        out = tmp_path / str(number)
        assert main(["make", "--figure=ladder", f"--out={out}", *source]) == 0
        assert (out / "ladder.pdf").stat().st_size > 10_000
    assert main(["make", "--figure=gains", f"--from={folder}", f"--out={tmp_path}"]) == 2
    assert "a ladder" in capsys.readouterr().err


def test_tables_have_means_and_t_intervals(folder):
    ladder = Ladder.load(folder)
    mean, reach = report.mean_and_reach(np.array([0.88, 0.89, 0.9, 0.91, 0.92]))
    assert mean == pytest.approx(0.9)
    assert reach == pytest.approx(2.776445 * 0.01581139 / 5**0.5)
    assert np.isnan(report.mean_and_reach(np.ones(1))[1])
    first = report.tables(ladder)["Depth and number of images"]
    assert first[2].startswith("| fashion_mnist | 10 | plain, depth 1 | 1.00 ± 0.02 | ")
    assert len(first) == 2 + len(COUNTS) * len(DEPTHS)
    assert len(report.tables(ladder)["Other images"]) == 2  # none of those were measured
    assert "#### One change of a net of depth 3" in report.text(ladder)
