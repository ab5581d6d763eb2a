"""``python -m dae_theory.steer`` on a drawn network, few samples and steps."""

import csv

import numpy as np
import pytest
from drawn_networks import drawn_params
from PIL import Image

from dae_theory.deep.captions import GARMENTS
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.images import TrainingSet
from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.training import DeepConfig
from dae_theory.steer import __main__ as command
from dae_theory.steer.apply import steer_samples
from dae_theory.steer.directions import References, concept_direction, load_direction
from dae_theory.steer.garments import first_images, load_garment_model
from dae_theory.steer.relu_nets import of_relu
from dae_theory.weights.read import read_weights

FAST = ("--model=drawn", "--concept=bag", "--count=2", "--steps=2", "--references=4")


class Drawn(Checkpoint):
    """Random weights, trained on three images."""

    def known_images(self):
        return TrainingSet(first_images().rows[:3].reshape(3, 14, 14, 1), ["a dark bag"] * 3, 0)


def drawn(name):
    """A network of the size of garments by its name: equal names are equal networks."""
    if not name.startswith("drawn"):
        return load_garment_model(name)
    network = NetworkConfig("dit", width=8, depth=1, heads=2, patch=7, text=True)
    config = DeepConfig(network, images=3)
    return Drawn(name, config, drawn_params(network, seed=len(name)), {})


@pytest.fixture(autouse=True, scope="module")
def networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "load_garment_model", drawn)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, networks):
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


def numbers(path):
    with path.open(newline="") as file:
        return [[float(word) for word in row[:-1]] for row in list(csv.reader(file))[1:]]


def test_distances_are_to_what_the_same_guidance_makes(tmp_path):
    options = ("--caption=a dark bag", "--strengths=0,.4", "--guidance=3", f"--out={tmp_path}")
    assert command.main(["steer", *FAST, *options]) == 0
    distances = [row[4] for row in numbers(tmp_path / "steering.csv")]
    assert distances[::2] == [0, 0]
    assert min(distances[1::2]) > 1e-3


def test_a_direction_serves_again_and_another_model_refuses_it(folder, tmp_path, capsys):
    given = f"--direction={folder / 'direction.npz'}"
    assert command.main(["steer", *FAST, given, "--strengths=.4", f"--out={tmp_path}"]) == 0
    first, again = (numbers(f / "steering.csv") for f in (folder, tmp_path))
    # A probability near 0 is the exponential of large log-odds, and has their rounding many times.
    np.testing.assert_allclose(first[2::3], again, rtol=1e-4, atol=1e-30)
    other = [given, "--model=drawn too", f"--out={tmp_path}"]
    assert command.main(["steer", *FAST, *other]) == 2
    assert "direction: it is of drawn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--concept=hat"], f"concept: expected one of {', '.join(GARMENTS)}, got 'hat'"),
        (["--layers=up9"], "layers: drawn has no 'up9'; it has block0/attention, block0/units"),
        (["--strengths=1,nan"], "strengths: expected finite numbers"),
        (["--strengths=1e38"], "are not finite; take smaller ones"),
        (["--strengths=x"], "strengths: expected numbers separated by commas"),
        (["--model=nothing"], "model: no file nothing"),
        (["--caption=a dark hat"], "caption: unknown word 'hat'"),
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
    usual = {"model": "drawn", "concept": "bag", "out": "x"}
    given = [f"--{name}={value}" for name, value in usual.items() if name != missing]
    assert command.main(["steer", *given]) == 2
    assert f"{missing}: is missing" in capsys.readouterr().err


def test_a_relu_net_is_steered_from_python_as_the_message_says(capsys, tmp_path):
    random = np.random.default_rng(0)
    w1_DP, x_ND = random.standard_normal((6, 4)), random.standard_normal((3, 6))
    path = tmp_path / "net.npz"
    np.savez(path, W1=w1_DP, W2=w1_DP / 9, X=x_ND, sigma=0.1, lam=0.01)
    assert command.main(["steer", *FAST, f"--model={path}", f"--out={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert f"model: {path} holds a ReLU net" in error
    assert error.count("\n") == 1
    saved = read_weights(path)
    model = of_relu([(saved.w1, saved.w2)], np.geomspace(2, 0.1, 5))
    direction = concept_direction(model, "first sample", References(saved.problem.x[:1]))
    made = steer_samples(model, direction, [0.0, 0.5], model.starts(0, 2))
    assert made.shape == (2, 2, 6)
    assert np.abs(made[1] - made[0]).max() > 1e-3
