"""Checkpoint files and their cards: exported from trainings, verified when loaded."""

import dataclasses
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import flags
from conftest import needs_images

from dae_theory import InputError
from dae_theory.commands import config_from_flags, define_flags
from dae_theory.deep import export, training
from dae_theory.deep.checkpoints import SHIPPED, export_training, load_checkpoint, write_checkpoint
from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.training import DeepConfig, options_of, read_metrics, train_deep
from dae_theory.files import reserve_folder

NETWORK = NetworkConfig("dit", size=4, width=8, depth=1, heads=2, text=True)
CONFIG = DeepConfig(NETWORK, images=20, planted=2, steps=200, batch_size=8, checkpoint_every=200)
MOST_BYTES = 10e6


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, train_deep(CONFIG, folder)


@pytest.fixture(scope="module")
def checkpoint(trained):
    return export_training(trained[0], trained[0].parent / "tiny.npz")


@pytest.fixture
def exported(checkpoint, trained, tmp_path):
    """The checkpoint, and a copy of its file."""
    for suffix in (".npz", ".json"):
        shutil.copy(trained[0].parent / f"tiny{suffix}", tmp_path)
    return checkpoint, tmp_path / "tiny.npz"


def parsed(options):
    values = flags.FlagValues()
    define_flags(training.Options, values)
    values(["training", *options])
    return config_from_flags(training.Options, values).config


@pytest.mark.parametrize("config", [CONFIG, DeepConfig(), DeepConfig(learning_rate=3e-4, seed=5)])
def test_options_say_a_config(config):
    assert parsed(options_of(config)) == config


@needs_images
def test_an_exported_average_comes_back_within_its_rounding(trained, exported):
    checkpoint, _ = exported
    assert checkpoint.config == CONFIG

    def close(loaded, average):
        np.testing.assert_allclose(loaded, average, rtol=2**-11, atol=2**-24)

    jax.tree.map(close, checkpoint.params, trained[1].average)
    assert checkpoint.training_set().planted == 2


@needs_images
def test_a_card_says_how_the_weights_were_made(trained, exported):
    card = exported[0].card
    assert parsed(card["command"].split()[4:]) == CONFIG
    rows = read_metrics(trained[0])
    assert card["loss_curve"] == [
        [row["step"], pytest.approx(row["loss"], abs=1e-5)] for row in rows
    ]
    assert card["wall_s"] == pytest.approx(rows[-1]["seconds"], abs=0.1)
    leaves = jax.tree.leaves(trained[1].average)
    assert card["weights"]["parameters"] == sum(leaf.size for leaf in leaves)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def lose_card(path):
    path.with_suffix(".json").unlink()


def cut_card(path):
    cut(path.with_suffix(".json"))


def other_network(path):
    card = json.loads(path.with_suffix(".json").read_text())
    card["config"]["network"]["width"] = 16
    path.with_suffix(".json").write_text(json.dumps(card))


@needs_images
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "truncated or altered"),
        (alter, "truncated or altered"),
        (lose_card, "no file"),
        (cut_card, "damaged"),
        (other_network, "do not fit"),
    ],
)
def test_damaged_files_are_refused(exported, damage, message):
    path = exported[1]
    damage(path)
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)


@needs_images
def test_other_data_than_those_trained_on_are_refused(exported):
    checkpoint, path = exported
    card = checkpoint.card | {"data": checkpoint.card["data"] | {"sha256": "0" * 64}}
    write_checkpoint(path, checkpoint.params, card)
    with pytest.raises(InputError, match="differs"):
        load_checkpoint(path).training_set()


def test_a_name_that_is_neither_shipped_nor_a_file_is_refused():
    with pytest.raises(InputError, match=", ".join(SHIPPED)):
        load_checkpoint("stable-diffusion")


@needs_images
def test_an_unfinished_training_is_not_exported_and_says_how_to_go_on(trained, tmp_path):
    unfinished = tmp_path / "run"
    with reserve_folder(unfinished, dataclasses.asdict(CONFIG), "training"):
        pass
    with pytest.raises(InputError, match=r"step 0 of 200; go on with python.*--planted=2"):
        export_training(unfinished, tmp_path / "tiny.npz")
    with pytest.raises(InputError, match="no config"):
        export_training(tmp_path, tmp_path / "tiny.npz")
    with pytest.raises(InputError, match=r"ends in \.npz"):
        export_training(trained[0], tmp_path / "tiny")


@needs_images
def test_the_command_writes_what_it_measured(trained, exported, tmp_path):
    out = tmp_path / "measured.npz"
    options = [
        f"--training={trained[0]}",
        f"--out={out}",
        f"--reference={exported[1]}",
        "--samples=4",
    ]
    command = [sys.executable, "-m", "dae_theory.deep.export", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = load_checkpoint(out).card["evaluation"]
    assert found["test_loss"]["low"] < found["test_loss"]["value"] < found["test_loss"]["high"]
    assert found["test_loss_ratio"] == {"value": 1, "low": 1, "high": 1, "to": "tiny"}
    assert {kind: row["samples"] for kind, row in found["copies"].items()} == {
        "planted captions": 4,
        "other captions": 4,
    }


@pytest.mark.parametrize(
    "options", [(), ("--training=nowhere", "--out=a.npz"), ("--samples=0",), ("--samples=x",)]
)
def test_the_command_refuses_bad_input_in_one_line(options, capsys):
    assert export.main(["export", *options]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
