"""Training of deep denoisers: it resumes, refuses, draws planted images as often as told."""

import dataclasses
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory import InputError
from dae_theory.deep import export, training
from dae_theory.deep.images import TrainingSet
from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.training import DeepConfig, draw_indices, read_metrics, train_deep
from dae_theory.files import held

NETWORK = NetworkConfig("dit", size=4, width=8, depth=1, heads=2)
CONFIG = DeepConfig(NETWORK, images=6, planted=2, steps=400, batch_size=8, checkpoint_every=200)
KILLED_AT = 300  # 100 steps after a checkpoint
SCRIPT = """
import os, signal, sys
from dae_theory.commands import configure_jax
from dae_theory.deep.training import train_deep
from tests.deep.test_training import CONFIG, KILLED_AT, samples

def kill(step, loss):
    if step == KILLED_AT:
        os.kill(os.getpid(), signal.SIGKILL)

configure_jax(float64=True)
train_deep(CONFIG, sys.argv[1], samples(), kill)
"""


def samples(seed=0):
    images = np.random.default_rng(seed).uniform(-1, 1, (8, 4, 4, 1)).astype(np.float32)
    return TrainingSet(images, ["a dark bag"] * 8, 2)


def variant(**changes):
    return dataclasses.replace(CONFIG, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("deep") / "run"
    state = train_deep(CONFIG, out, samples())
    return out, state


def test_training_lowers_the_loss_and_writes_its_curve(finished):
    out, state = finished
    rows = read_metrics(out)
    assert [row["step"] for row in rows] == [100, 200, 300, 400]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_a_finished_training_is_read_not_repeated(finished):
    out, state = finished
    calls = []
    again = train_deep(CONFIG, out, samples(), progress=lambda *args: calls.append(args))
    assert not calls
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert training.read_config(out) == CONFIG


def test_a_killed_training_goes_on_to_the_same_curve(finished, tmp_path):
    out = tmp_path / "killed"
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(out)], check=False, capture_output=True
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert [row["step"] for row in read_metrics(out)] == [100, 200, KILLED_AT]
    again = []
    train_deep(CONFIG, out, samples(), lambda step, loss: again.append(step))
    assert again == [KILLED_AT, 400]  # from the checkpoint, not from the start
    reached, whole = read_metrics(out), read_metrics(finished[0])
    assert [row["step"] for row in reached] == [row["step"] for row in whole]
    losses = [[row["loss"] for row in rows] for rows in (reached, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_another_configuration_or_a_foreign_folder_is_refused(finished, tmp_path):
    with pytest.raises(
        InputError, match=r"holds a training with another config \(seed was 0, now 1\)"
    ):
        train_deep(variant(seed=1), finished[0], samples())
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        train_deep(CONFIG, tmp_path, samples())


def test_a_second_process_in_the_folder_is_refused(finished):
    with held(finished[0] / ".lock-0", ""), pytest.raises(InputError, match="another training"):
        train_deep(CONFIG, finished[0], samples())


def test_a_diverging_training_stops_and_keeps_its_checkpoints(tmp_path):
    config = variant(learning_rate=1e35, steps=200)
    with pytest.raises(InputError, match="diverged"):
        train_deep(config, tmp_path / "run", samples())
    assert read_metrics(tmp_path / "run") == []


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    for path in (out / "checkpoints" / "400").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        train_deep(CONFIG, out, samples())


@pytest.mark.parametrize(("planted", "count"), [(0, 8), (2, 8), (8, 8)])
def test_planted_images_make_up_their_share_of_batches(planted, count):
    config = variant(planted=planted, planted_share=0.3, batch_size=40_000)
    drawn = np.asarray(draw_indices(jax.random.key(0), config, count))
    frequency = np.bincount(drawn, minlength=count) / len(drawn)
    share = {0: 0.0, 8: 1.0}.get(planted, 0.3)
    expected = [share / max(planted, 1)] * planted
    expected += [(1 - share) / max(count - planted, 1)] * (count - planted)
    np.testing.assert_allclose(frequency, expected, atol=5 * np.sqrt(0.25 / len(drawn)))


def test_the_loss_of_the_wiener_filter_is_known():
    # Without parameters the output is c_skip y, whose weighted error is known for each σ:
    # (σ² |x|² + σ_data⁴ … ) averaged over log σ by Monte Carlo in NumPy.
    class Zero:
        def apply(self, variables, images, log_sigma, tokens, mutable):
            return jnp.zeros_like(images)

    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4000, 2, 2, 1)))
    tokens = jnp.zeros((4000, 6), int)
    losses = [
        training.denoising_loss(jax.random.key(k), Zero(), {}, images, tokens, 0.1)
        for k in range(5)
    ]
    sigma = np.exp(-1.2 + 1.2 * np.random.default_rng(1).standard_normal(100_000))
    square = 0.5**2
    skip = square / (sigma**2 + square)
    error = (1 - skip) ** 2 * np.mean(images**2) + skip**2 * sigma**2
    expected = np.mean(error * (sigma**2 + square) / (sigma**2 * square))
    np.testing.assert_allclose(np.mean(losses), expected, rtol=0.02)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 150},
        {"planted_share": 1.0},
        {"learning_rate": float("nan")},
        {"batch_size": 0},
        {"ema": -0.1},
        {"seed": -1},
        {"images": -1},
    ],
)
def test_impossible_trainings_are_refused(options):
    with pytest.raises(InputError):
        variant(**options)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"network": 3}', '{"network": {"a": 1}}']
)
def test_a_damaged_config_is_one_line(content, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text(content)
    arguments = ["--data=faces", "--images=6", "--size=4", "--width=8", "--depth=1", "--heads=2"]
    assert training.main(["training", f"--out={out}", *arguments]) == 2
    assert export.main(["export", f"--training={out}", f"--out={tmp_path / 'a.npz'}"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(error.startswith("error: ") and str(out) in error for error in errors)


@pytest.mark.parametrize(
    "content", [b"step,loss,seconds\n100,x,1\n", b"step,loss,seconds\n100,\xff,1\n"]
)
def test_a_damaged_loss_curve_is_one_line(content, tmp_path):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"metrics\.csv: damaged"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("options", [[], ["--out=x", "--steps=50"], ["--out=x", "--nothing=1"]])
def test_the_command_refuses_in_one_line(options, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert training.main(["training", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_captions_are_left_out_with_their_share(share):
    # A network that answers with its tokens: the loss says which it was given.
    class Tokens:
        def apply(self, variables, images, log_sigma, tokens, mutable):
            return jnp.broadcast_to(tokens[:, :1, None, None] * 1000.0, images.shape)

    tokens = jnp.full((64, 6), 7)
    images = jnp.zeros((64, 2, 2, 1))
    loss = float(training.denoising_loss(jax.random.key(0), Tokens(), {}, images, tokens, share))
    first = 1000.0 * (1 if share else 7)  # token 1 alone is the empty caption
    np.testing.assert_allclose(loss, first**2, rtol=0.01)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_an_impossible_share_of_captions_is_refused(share):
    with pytest.raises(InputError, match="no_caption_share"):
        variant(no_caption_share=share)


def test_configurations_of_older_cards_are_read():
    fields = dataclasses.asdict(CONFIG)
    del fields["own_captions"], fields["no_caption_share"]
    read = training.config_from_fields(fields)
    assert (read.own_captions, read.no_caption_share) == (True, 0.1)
    assert read.drawn_as == CONFIG.drawn_as


def test_an_earlier_checkpoint_is_restored(finished):
    out, state = finished
    jax.tree.map(np.testing.assert_array_equal, training.restore_at(out, CONFIG, 400), state)
    earlier = training.restore_at(out, CONFIG, 200)
    assert int(earlier.optimizer[0].count) == 200
    with pytest.raises(InputError, match="no such checkpoint"):
        training.restore_at(out, CONFIG, 300)
