"""Sampling from deep networks, copies among the samples, losses on test images, and the grid."""

import csv
import dataclasses
import functools
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from conftest import needs_images
from drawn_networks import drawn_checkpoint

from dae_theory import InputError
from dae_theory.deep.checkpoints import Checkpoint, hash_of_images, write_checkpoint
from dae_theory.deep.evaluation import evaluate_checkpoint, held_out_losses, prompts, summary_of
from dae_theory.deep.images import TrainingSet, shrunk_fashion_mnist, training_set
from dae_theory.deep.network import SIGMA_DATA, NetworkConfig
from dae_theory.deep.sampling import BATCH, Sampler, find_copies, sample_images
from dae_theory.deep.training import LOG_SIGMA_MEAN, LOG_SIGMA_STD, DeepConfig
from dae_theory.diffusion import samplers as diffusion
from dae_theory.statistics import mean_interval
from figures import samples

TEXT = NetworkConfig("dit", size=4, width=8, depth=1, heads=2, text=True)
PLAIN = NetworkConfig("unet", size=4, width=8)
SMALL = NetworkConfig("dit", size=4, width=8, depth=1, heads=2)
SAMPLER = Sampler(steps=4)


# --- sampling -------------------------------------------------------------------------------------


def test_samples_of_white_data_follow_the_closed_form():
    checkpoint, count = drawn_checkpoint(TEXT, scale=0.0), BATCH + 7
    sampler = Sampler(steps=60)
    made = sample_images(checkpoint, [""] * count, seed=3, sampler=sampler)
    # y/√(σ² + σ_data²) is constant along the flow.
    starts = [
        diffusion.start_noise(
            jax.random.fold_in(jax.random.key(3), b), BATCH, 16, sampler.sigma_max, jnp.float32
        )
        for b in range(2)
    ]
    shrunk = SIGMA_DATA / np.hypot(sampler.sigma_max, SIGMA_DATA)
    np.testing.assert_allclose(made, shrunk * np.concatenate(starts)[:count], rtol=2e-3)


def test_a_sample_depends_on_its_place_and_caption_only():
    checkpoint = drawn_checkpoint(TEXT)
    captions = ["a dark bag", "a bright coat", "", "a gray dress"]
    few = sample_images(checkpoint, captions[:2], 1, SAMPLER)
    many = sample_images(checkpoint, captions, 1, SAMPLER)
    np.testing.assert_allclose(few, many[:2], atol=1e-5)
    other = sample_images(checkpoint, captions[:2], 2, SAMPLER)
    assert np.max(np.abs(few - other)) > 1e-2
    swapped = sample_images(checkpoint, captions[1::-1], 1, SAMPLER)
    assert np.max(np.abs(few - swapped)) > 1e-3


def test_guidance_of_zero_forgets_the_caption_and_one_is_none():
    checkpoint, captions = drawn_checkpoint(TEXT), ["a dark bag"] * 3

    def made(captions, weight):
        sampler = dataclasses.replace(SAMPLER, guidance=weight)
        return sample_images(checkpoint, captions, 0, sampler)

    np.testing.assert_allclose(made(captions, 0.0), made([""] * 3, 1.0), atol=1e-5)
    half, ends = made(captions, 0.5), (made(captions, 0.0), made(captions, 1.0))
    assert all(np.max(np.abs(half - end)) > 1e-4 for end in ends)


@pytest.mark.parametrize(
    ("network", "captions", "sampler"),
    [
        (TEXT, [], SAMPLER),
        (TEXT, ["a purple bag"], SAMPLER),
        (PLAIN, ["a dark bag"], SAMPLER),
        (PLAIN, [""], Sampler(steps=4, guidance=2.0)),
    ],
)
def test_captions_that_cannot_be_used_are_refused(network, captions, sampler):
    with pytest.raises(InputError, match=r"caption|samples"):
        sample_images(drawn_checkpoint(network), captions, 0, sampler)


@pytest.mark.parametrize("options", [{"steps": 0}, {"sigma_min": -1.0}, {"guidance": np.nan}])
def test_impossible_samplers_are_refused(options):
    with pytest.raises(InputError):
        Sampler(**options)


# --- copies ---------------------------------------------------------------------------------------


def random_images(count, planted, seed=0):
    images = np.random.default_rng(seed).uniform(-1, 1, (count, 4, 4, 1)).astype(np.float32)
    names = [f"the bag of {name}" for name in ("ada", "ben", "cleo")][:planted]
    return TrainingSet(images, names + ["a dark bag"] * (count - planted), planted)


def test_copies_are_found_and_belong_to_their_images():
    data = random_images(40, planted=3)
    rng = np.random.default_rng(1)
    copied = np.array([2, 0, 17])
    samples = np.concatenate(
        [data.rows[copied] + 0.01 * rng.standard_normal((3, 16)), rng.uniform(-1, 1, (5, 16))]
    )
    copies = find_copies(samples, data)
    np.testing.assert_array_equal(copies.copy, np.arange(8) < 3)
    np.testing.assert_array_equal(copies.nearest[:3], copied)
    np.testing.assert_array_equal(copies.planted[:3], copied < 3)
    summary = summary_of(copies)
    assert (summary["copies"], summary["of_planted_images"]) == (3, 2)
    assert summary["distinct_images_copied"] == 3
    assert summary["low"] < summary["fraction"] == 3 / 8 < summary["high"]


def test_an_image_held_twice_can_be_copied():
    data = random_images(40, planted=0)
    doubled = data._replace(images=np.concatenate([data.images, data.images[:1]]))
    assert find_copies(data.rows[:1] + 0.01, doubled).copy.all()


def test_prompts_use_planted_captions_equally_and_others_at_random():
    data = random_images(40, planted=3)
    kinds = prompts(data, text=True, count=9)
    assert [kinds["planted captions"].count(name) for name in data.captions[:3]] == [3, 3, 3]
    assert set(kinds["other captions"]) == {"a dark bag"}
    assert prompts(data, text=False, count=2) == {"no caption": ["", ""]}
    assert set(prompts(random_images(5, 0), text=True, count=2)) == {"other captions"}


# --- losses on the test set -----------------------------------------------------------------------


@needs_images
def test_loss_of_the_wiener_filter_is_its_closed_form():
    images, draws = 2000, 8
    losses = held_out_losses(drawn_checkpoint(TEXT, scale=0.0), images, draws)
    x, _ = shrunk_fashion_mnist("test", 4)
    mean_square = np.mean(x[:images].reshape(images, -1) ** 2, axis=1)

    def loss(log_sigma, square):
        sigma2, data2 = np.exp(2 * log_sigma), SIGMA_DATA**2
        keep = data2 / (sigma2 + data2)
        error = (1 - keep) ** 2 * square + keep**2 * sigma2
        return error * (sigma2 + data2) / (sigma2 * data2)

    density = scipy.stats.norm(LOG_SIGMA_MEAN, LOG_SIGMA_STD).pdf
    expected, _ = scipy.integrate.quad(
        lambda t: density(t) * loss(t, mean_square.mean()), -12, 10, limit=200
    )
    interval = mean_interval(losses)
    assert interval.low - (interval.high - interval.low) < expected
    assert expected < interval.high + (interval.high - interval.low)
    assert interval.high - interval.low < 0.1 * expected


@needs_images
def test_networks_are_compared_on_equal_noise():
    checkpoint = drawn_checkpoint(TEXT)
    np.testing.assert_array_equal(
        held_out_losses(checkpoint, 500, 1), held_out_losses(checkpoint, 500, 1)
    )
    assert np.any(
        held_out_losses(checkpoint, 500, 1, seed=1) != held_out_losses(checkpoint, 500, 1)
    )


def test_a_network_that_saw_all_images_has_no_loss_on_others():
    config, params = DeepConfig(SMALL, "faces", images=100), drawn_checkpoint(SMALL).params
    checkpoint = Checkpoint("all", config, params, {})
    data = training_set(**config.drawn_as)
    assert set(evaluate_checkpoint(checkpoint, data, samples=2)) == {"sampler", "copies"}
    fewer = Checkpoint("some", DeepConfig(SMALL, "faces", images=40), params, {})
    assert len(held_out_losses(fewer, draws=1)) == 60


@pytest.mark.parametrize("options", [{"images": 0}, {"images": 10_500}, {"draws": 0}])
@needs_images
def test_impossible_test_sets_are_refused(options):
    with pytest.raises(InputError):
        held_out_losses(drawn_checkpoint(PLAIN), **options)


# --- the grid -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Function that writes the drawn checkpoint of a network, and returns its path."""

    @functools.cache
    def write(network):
        checkpoint = drawn_checkpoint(network)
        config = checkpoint.config
        data = training_set(**config.drawn_as)
        card = {"config": dataclasses.asdict(config), "data": {"sha256": hash_of_images(data)}}
        path = tmp_path_factory.mktemp("written") / "drawn.npz"
        write_checkpoint(path, checkpoint.params, card)
        return path

    return write


@needs_images
@pytest.mark.parametrize("network", [TEXT, PLAIN], ids=["text", "plain"])
def test_the_command_writes_a_grid_and_its_table(written, tmp_path, network):
    path, out = written(network), tmp_path / "samples"
    options = [f"--checkpoint={path}", f"--out={out}", "--count=11", "--steps=3"]
    command = [sys.executable, "-m", "figures.samples", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (out / "drawn.png").read_bytes().startswith(b"\x89PNG")
    with (out / "drawn.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11
    planted = [" of " in row["caption"] for row in rows]
    assert sum(planted) == (6 if network.text else 0)
    assert all(0 <= float(row["gap_ratio"]) <= 1 for row in rows)
    assert all((float(row["gap_ratio"]) < 1 / 3) == (row["copy"] == "1") for row in rows)
    copies = sum(row["copy"] == "1" for row in rows)
    assert f"drawn: {copies} of 11 samples are copies" in result.stdout


def test_the_command_looks_for_copies_of_what_comes_with_the_package(
    without_fashion_mnist, tmp_path, capsys
):
    options = ["--checkpoint=hybrid-unet", f"--out={tmp_path}", "--count=2", "--steps=2"]
    assert samples.main(["samples", *options]) == 0
    said = capsys.readouterr()
    missing = re.match(r"(\d+) of its training images are not on this machine", said.err)
    assert 50_000 < int(missing[1]) < 59_000
    assert "of 2 samples are copies" in said.out


@needs_images
@pytest.mark.parametrize(
    "options",
    [
        ("--count=0",),
        ("--seed=-1",),
        ("--caption=a purple bag",),
        ("--checkpoint=nowhere.npz",),
        ("--guidance=nan",),
        ("--steps=0",),
        ("--out=/proc/no",),
    ],
)
def test_the_command_refuses_bad_input_in_one_line(written, tmp_path, options, capsys):
    path = written(TEXT)
    assert samples.main(["samples", f"--checkpoint={path}", f"--out={tmp_path}", *options]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
