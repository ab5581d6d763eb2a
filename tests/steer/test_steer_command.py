"""``python -m dae_theory.steer`` on a shipped model, few samples and steps."""

import csv

import numpy as np
import pytest
from PIL import Image

from dae_theory.deep.captions import GARMENTS
from dae_theory.steer import __main__ as command
from dae_theory.steer.directions import load_direction

FAST = ("--model=memorizing-unet", "--concept=bag", "--count=2", "--steps=2", "--references=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("steered")
    status = command.main(["steer", *FAST, "--strengths=.4,0,-.4", f"--out={out}"])
    assert status == 0
    return out


def test_it_writes_pictures_numbers_and_the_direction(folder):
    with (folder / "steering.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["start"], row["strength"]) for row in rows] == [
        (start, strength) for start in "01" for strength in ("-0.4", "0", "0.4")
    ]
    assert [float(row["distance"]) for row in rows[1::3]] == [0, 0]
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)
    assert float(rows[0]["distance"]) > 1e-3
    assert np.asarray(Image.open(folder / "strip.png")).std() > 0
    card = load_direction(folder / "direction.npz").card
    assert (card["concept"], card["kind"], card["references"]) == ("bag", "mean", 4)


def test_a_direction_serves_again_and_another_model_refuses_it(folder, tmp_path, capsys):
    given = f"--direction={folder / 'direction.npz'}"
    assert command.main(["steer", *FAST, given, "--strengths=.4", f"--out={tmp_path}"]) == 0
    first, again = ((f / "steering.csv").read_text().splitlines() for f in (folder, tmp_path))
    assert first[3] == again[1]
    other = [given, "--model=hybrid-unet", f"--out={tmp_path}"]
    assert command.main(["steer", *FAST, *other]) == 2
    assert "direction: it is of memorizing-unet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--concept=hat"], f"concept: expected one of {', '.join(GARMENTS)}, got 'hat'"),
        (["--layers=up9"], "layers: memorizing-unet has no 'up9'; it has down0/units"),
        (["--strengths=1,nan"], "strengths: expected finite numbers"),
        (["--strengths=1e38"], "are not finite; take smaller ones"),
        (["--strengths=x"], "strengths: expected numbers separated by commas"),
        (["--model=nothing"], "checkpoint: no file"),
        (["--caption=a dark bag"], "caption: memorizing-unet was trained without captions"),
        (["--first=3"], "first, last: expected 0 <= first < last <= 2"),
        (["--branch=x"], "branch: expected conditional or both"),
        (["--kind=x"], "kind: expected one of mean"),
        (["--references=1000"], "references: must be at most"),
        (["--count=0"], "count: must be at least 1"),
        (["--direction=x.npz"], "x.npz: no such file"),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, given, message):
    assert command.main(["steer", *FAST, *given, f"--out={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("missing", ["model", "concept", "out"])
def test_what_is_missing_is_named(capsys, missing):
    usual = {"model": "memorizing-unet", "concept": "bag", "out": "x"}
    given = [f"--{name}={value}" for name, value in usual.items() if name != missing]
    assert command.main(["steer", *given]) == 2
    assert f"{missing}: is missing" in capsys.readouterr().err
