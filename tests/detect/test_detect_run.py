"""The command and `detect_memorized`: verdicts, what is left out, messages, kills."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from detect_models import exact_model
from PIL import Image

import dae_theory as dt
from dae_theory import DetectConfig, InputError, ScoreSettings, detect_memorized
from dae_theory.detect.__main__ import main
from dae_theory.detect.images import read_captions, read_images
from dae_theory.detect.load import load_model
from dae_theory.detect.model import of_relu
from dae_theory.detect.report import COLUMNS
from dae_theory.diffusion.denoisers import gaussian_denoiser

SIDE, STORED = 4, 4
ROOT = Path(__file__).resolve().parents[2]


def pictures(count, seed=0):
    """Bytes (N, 4, 4)."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A net that answers each of four orthogonal images with itself, and nothing else."""
    folder = tmp_path_factory.mktemp("net")
    x = np.zeros((STORED, SIDE**2))
    for i in range(STORED):
        x[i, 4 * i : 4 * i + 4] = 1.0
    w = x.T / 2
    path = folder / "net.npz"
    np.savez(path, W1=w, W2=w, X=x, sigma=0.1, lam=0.0)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory, weights):
    """Images asked about, of which four are stored ones, and images that are not."""
    folder = tmp_path_factory.mktemp("images")
    stored = np.load(weights)["X"].reshape(-1, SIDE, SIDE) * 255
    for name, images in (
        ("asked", np.concatenate([stored.astype(np.uint8), pictures(26)])),
        ("calibration", pictures(60, seed=1)),
    ):
        (folder / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{i:02d}.png")
    return folder


def command(weights, folders, out, *more):
    options = [f"--model={weights}", f"--images={folders / 'asked'}", f"--out={out}"]
    return main(["detect", *options, "--score=denoising_error", *more])


def error_of(capsys):
    """The one line that was said."""
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


# --- the command ----------------------------------------------------------------------------------


def test_stored_images_are_flagged(weights, folders, tmp_path, capsys):
    options = [f"--calibration={folders / 'calibration'}", "--fpr=0.05", "--training=own"]
    assert command(weights, folders, tmp_path, *options) == 0
    answer = capsys.readouterr().out.splitlines()[-1]
    rows = pyarrow.csv.read_csv(tmp_path / "scores.csv").to_pylist()
    flagged = {row["image"] for row in rows if row["verdict"] == "memorized"}
    assert flagged >= {f"{i:02d}.png" for i in range(STORED)}
    assert answer.startswith(f"{len(flagged)} of 30 images flagged as memorized by denoising_error")
    # k = ⌊.05·61⌋ = 3.
    assert f"expected false alarms: up to {30 * 3 / 61:.2g}, at most" in answer
    assert sorted(row["rank"] for row in rows) == list(range(1, 31))
    for i, row in enumerate(rows[:STORED]):
        assert (row["nearest_training_image"], row["copy"], row["p_value"]) == (i, True, 1 / 61)
    assert not any(row["copy"] for row in rows[STORED:])
    scores = [row["score"] for row in sorted(rows, key=lambda row: row["rank"])]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("mirrored", [False, True])
def test_mirror_images_of_training_images_are_copies_on_demand(weights, tmp_path, mirrored):
    for name, images in (("training", pictures(5)), ("asked", pictures(5)[:, :, ::-1])):
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    options = [f"--training={tmp_path / 'training'}"] + ["--mirrored"] * mirrored
    assert command(weights, tmp_path, tmp_path / "out", *options) == 0
    rows = pyarrow.csv.read_csv(tmp_path / "out" / "scores.csv").to_pylist()
    assert [row["copy"] for row in rows] == [mirrored] * 5
    if mirrored:
        assert [row["nearest_training_image"] for row in rows] == list(range(5))


def test_what_is_written(weights, folders, tmp_path):
    assert command(weights, folders, tmp_path, "--training=own") == 0
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.schema.names == COLUMNS.names
    assert b"denoising_error" in table.schema.metadata[b"detection"]
    assert table["p_value"].null_count == 30
    assert set(table["verdict"].to_pylist()) == {"ranked only"}
    with Image.open(tmp_path / "scores.png") as picture:
        assert min(picture.size) > 200
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64") == 1 + 2 * 30
    assert "no calibration images" in page
    assert "00.png" in page


def test_without_calibration_it_can_only_rank(weights, folders, tmp_path, capsys):
    assert command(weights, folders, tmp_path) == 0
    answer = capsys.readouterr().out.splitlines()[-1]
    assert answer.startswith("30 images ranked by denoising_error, 0")
    assert "without calibration images none can be called memorized" in answer


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(weights, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for i, image in enumerate(pictures(3)):
        Image.fromarray(image).save(folder / f"good{i}.png")
    (folder / "broken.png").write_bytes((folder / "good0.png").read_bytes()[:40])
    (folder / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(folder / "tall.png")
    (folder / "notes.txt").write_text("not an image")
    options = [f"--model={weights}", f"--images={folder}"]
    assert main(["detect", *options, f"--out={tmp_path / 'out'}"]) == 0
    printed = capsys.readouterr()
    said = printed.err.splitlines()
    assert [line.split(": ")[1] for line in said] == ["broken.png", "empty.jpg", "tall.png"]
    assert "is 5×4 pixels, net takes 4×4; --resize" in said[2]
    assert "3 images left out" in printed.out
    assert "3 images ranked" in printed.out
    assert str(folder) not in printed.err
    assert main(["detect", *options, f"--out={tmp_path / 'resized'}", "--resize"]) == 0
    assert "4 images ranked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": "EMPTY"}, "holds no image"),
        ({"images": "BROKEN"}, "none of 1 images can be used; a.png cannot be read"),
        ({"images": "nowhere"}, "images: no file or folder nowhere"),
        ({"images": "wide.npy"}, "holds images of 9, net takes 4×4"),
        ({"model": "nothing.npz"}, "model: no file nothing.npz; give one of hybrid-text-dit"),
        ({"model": None}, "model: is missing; --model=NAME"),
        ({"layer": "up1"}, "layer: net has no 'up1'; it has units"),
        ({"layer": "units", "score": "denoising_error"}, "looks at none"),
        ({"score": "magic"}, "score: expected one of std"),
        ({"score": "guidance_norm"}, "takes none"),
        ({"score": "activation_outlier"}, "calibration: activation_outlier is fitted"),
        ({"score": "training_gap"}, "training: training_gap compares"),
        ({"captions": "captions.txt"}, "captions: net was trained without"),
        ({"captions": "short.txt"}, "has 1 lines for 3 images"),
        ({"captions": "missing.txt"}, "captions: no file missing.txt"),
        ({"calibration": "few.npy"}, "fpr=0.01 needs at least 99 images that are not memorized"),
        ({"calibration": "EMPTY"}, "holds no image"),
        ({"sigma": "0"}, "sigma"),
        ({"fpr": "2"}, "fpr: must be between 0 and 1"),
        ({"draws": "0"}, "draws: must be at least 1"),
        ({"pool": "sum"}, "pool: expected max or mean"),
        ({"seed": "-1"}, "seed"),
        ({"mirrored": "true"}, "mirrored: needs training images"),
    ],
)
def test_bad_input_is_one_line(changes, words, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("asked.npy", pictures(3))
    np.save("few.npy", pictures(5))
    np.save("wide.npy", np.zeros((2, 9)))
    Path("captions.txt").write_text("one\ntwo\nthree\n")
    Path("short.txt").write_text("one\n")
    Path("EMPTY").mkdir()
    Path("BROKEN").mkdir()
    Path("BROKEN/a.png").write_bytes(b"nonsense")
    options = {"model": weights, "images": "asked.npy", "out": "out"} | changes
    assert main(["detect", *(f"--{k}={v}" for k, v in options.items() if v is not None)]) == 2
    assert words in error_of(capsys)


def test_another_question_needs_another_folder(weights, folders, tmp_path, capsys):
    assert command(weights, folders, tmp_path) == 0
    capsys.readouterr()
    assert command(weights, folders, tmp_path, "--seed=1") == 2
    assert "seed was 0, now 1" in error_of(capsys)
    assert command(weights, folders, tmp_path) == 0


def test_it_goes_on_after_a_kill(weights, tmp_path):
    """SIGKILL after the first part: what is kept is not computed again, and nothing changes."""
    np.save(tmp_path / "asked.npy", pictures(1500))
    words = [sys.executable, "-m", "dae_theory.detect", f"--model={weights}"]
    words += [f"--images={tmp_path / 'asked.npy'}", "--draws=150"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(out, kill):
        process = subprocess.Popen(
            [*words, f"--out={out}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while kill and not list((out / "parts").glob("*.npz")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        if kill:
            process.send_signal(signal.SIGKILL)
        printed, said = process.communicate()
        assert process.returncode == (-signal.SIGKILL if kill else 0), said
        return printed

    out = tmp_path / "killed"
    run(out, kill=True)
    kept = {path: path.stat().st_mtime_ns for path in (out / "parts").glob("*.npz")}
    assert 0 < len(kept) < 6
    assert not (out / "scores.csv").exists()
    answer = run(out, kill=False)
    assert answer.splitlines()[-1].startswith("1500 images ranked by std")
    assert len(list((out / "parts").glob("*.npz"))) == 6
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert run(tmp_path / "whole", kill=False) == answer
    scores = [(folder / "scores.csv").read_bytes() for folder in (out, tmp_path / "whole")]
    assert scores[0] == scores[1]


# --- from Python ----------------------------------------------------------------------------------


def gaussian(size=4):
    return exact_model(gaussian_denoiser(np.zeros(size), np.diag(np.arange(1.0, size + 1))))


def test_python_and_command_agree(weights, folders, tmp_path):
    assert command(weights, folders, tmp_path / "out") == 0
    found = dt.detect_memorized(
        weights, folders / "asked", config=DetectConfig("denoising_error"), training="own"
    )
    table = pq.read_table(tmp_path / "out" / "scores.parquet")
    np.testing.assert_allclose(table["score"].to_numpy(), found.scores, rtol=1e-12)
    assert (found.p_values, found.flagged, found.calibration) == (None, None, None)
    np.testing.assert_array_equal(found.copied.nearest[:STORED], np.arange(STORED))


def test_arrays_are_in_the_models_own_range(weights, tmp_path):
    bytes_NHW = pictures(6)
    model = dataclasses.replace(load_model(weights).model, pixel_range=(-1.0, 1.0))
    np.save(tmp_path / "bytes.npy", bytes_NHW)
    np.save(tmp_path / "rows.npy", bytes_NHW.reshape(6, -1) / 127.5 - 1)
    found = [read_images(tmp_path / f"{name}.npy", model).rows for name in ("bytes", "rows")]
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)
    Image.fromarray(bytes_NHW[2]).save(tmp_path / "one.png")
    one = read_images(tmp_path / "one.png", model)
    np.testing.assert_allclose(one.rows[0], found[0][2], atol=1e-12)
    assert one.names == ("one.png",)


@pytest.mark.parametrize("score", ["std", "activation_outlier"])
def test_images_like_the_calibration_images_are_flagged_as_promised(score):
    """Also by a score that is fitted on half of these."""
    model, rng = gaussian(), np.random.default_rng(1002)
    config = DetectConfig(score, fpr=0.1, settings=ScoreSettings(draws=1))
    shares = []
    for _ in range(60):
        drawn = rng.standard_normal((100, 4))
        found = detect_memorized(model, drawn[:60], calibration=drawn[60:], config=config)
        shares.append(found.flagged.mean())
    error = np.std(shares) / 60**0.5
    assert np.mean(shares) <= 0.1 + 3 * error
    assert np.mean(shares) >= found.calibration.rate - 3 * error


def test_a_fitted_score_is_calibrated_on_other_images():
    rng = np.random.default_rng(0)
    config = DetectConfig("activation_outlier", fpr=0.2)
    found = detect_memorized(
        gaussian(),
        rng.standard_normal((3, 4)),
        calibration=rng.standard_normal((21, 4)),
        config=config,
    )
    assert len(found.calibration.scores) == 11
    assert any("fitted the score" in note for note in found.notes)


def test_images_that_calibrated_are_told_apart():
    x = np.random.default_rng(0).standard_normal((20, 4))
    found = detect_memorized(gaussian(), x[:3], calibration=x, config=DetectConfig(fpr=0.1))
    assert any("3 of the images are calibration images" in note for note in found.notes)


def test_noise_is_of_the_image_and_not_that_of_the_calibration():
    """Equal images at equal places get other noise in the two sets."""
    x = np.random.default_rng(0).standard_normal((20, 4))
    found = detect_memorized(gaussian(), x, calibration=x, config=DetectConfig(fpr=0.1))
    assert len(np.intersect1d(found.scores, found.calibration.scores)) == 0
    again = detect_memorized(gaussian(), x[:7], config=DetectConfig())
    assert again.scores.shape == (7,)


def test_captions_come_with_both_sets_or_with_none():
    model = exact_model(
        gaussian_denoiser(np.zeros(4), np.eye(4)), gaussian_denoiser(np.ones(4), np.eye(4))
    )
    x = np.random.default_rng(0).standard_normal((20, 4))
    config = DetectConfig("guidance_norm", fpr=0.1)
    with pytest.raises(InputError, match="calibration_captions"):
        detect_memorized(model, x, captions=["a"] * 20, calibration=x, config=config)
    found = detect_memorized(
        model,
        x,
        captions=["a"] * 10 + [""] * 10,
        calibration=x + 1,
        calibration_captions=[""] * 20,
        config=config,
    )
    np.testing.assert_array_equal(found.flagged, np.arange(20) < 10)


def test_captions_by_name_or_by_line(tmp_path):
    names = ["a.png", "b.png"]
    (tmp_path / "c.txt").write_text("first\nsecond\n")
    (tmp_path / "c.csv").write_text('image,caption\nb.png,"two, yes"\na.png,one\n')
    (tmp_path / "bad.csv").write_text("name,caption\na.png,one\n")
    (tmp_path / "few.csv").write_text("image,caption\na.png,one\n")
    assert read_captions(tmp_path / "c.txt", names) == {"a.png": "first", "b.png": "second"}
    assert read_captions(tmp_path / "c.csv", names) == {"a.png": "one", "b.png": "two, yes"}
    with pytest.raises(InputError, match="no column 'image'"):
        read_captions(tmp_path / "bad.csv", names)
    with pytest.raises(InputError, match=r"none for 'b\.png'"):
        read_captions(tmp_path / "few.csv", names)


def test_captions_of_images_that_are_left_out_are_left_out(tmp_path):
    model = exact_model(*(gaussian_denoiser(np.zeros(16), np.eye(16)) for _ in range(2)), size=16)
    model = dataclasses.replace(model, image_shape=(SIDE, SIDE))
    for i, image in enumerate(pictures(3)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"broken")
    (tmp_path / "captions.txt").write_text("zero\none\ntwo\n")
    found = read_images(tmp_path, model, captions=tmp_path / "captions.txt")
    assert (found.names, found.captions) == (("0.png", "2.png"), ("zero", "two"))


def test_any_model_can_be_asked_and_one_of_unknown_data_says_so():
    net = of_relu(np.eye(4), np.eye(4), 0.1)
    assert detect_memorized(net, np.eye(4)).scores.shape == (4,)
    with pytest.raises(InputError, match="does not say what it was trained on"):
        detect_memorized(net, np.eye(4), training="own")
    with pytest.raises(InputError, match="rows of ReLU net have 4"):
        detect_memorized(net, np.eye(3))
    broken = dataclasses.replace(net, activations=lambda *a: np.full((4, 2), np.nan))
    with pytest.raises(InputError, match="score of 0 is not finite"):
        detect_memorized(broken, np.eye(4))
