"""What the command says of a user's files: each case is one that somebody met with some tool."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from dae_theory.sweep.plan import SweepConfig, load_source
from proofs_checks.run import main

RNG = np.random.default_rng(0)
MARGIN = ("--regime=memorize", "--claim=separability/margin", "--n=2", "--p=8")


def ran(capsys, *options):
    status = main(["run", *MARGIN, *map(str, options)])
    captured = capsys.readouterr()
    assert captured.err.count("\n") <= 1
    return status, " ".join(captured.out.split()), captured.err


def images(folder, n=5):
    for i in range(n):
        pixels = RNG.integers(0, 256, (12, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"img{i}.png")


def test_a_folder_with_gray_and_alpha_and_what_is_left_out(tmp_path, capsys):
    images(tmp_path)
    gray = Image.fromarray(RNG.integers(0, 256, (12, 12)).astype(np.uint8))
    gray.convert("LA").save(tmp_path / "la.png")
    gray.save(tmp_path / "z.gif")
    (tmp_path / "._img0.png").write_bytes(b"x")
    status, out, _ = ran(capsys, f"--data={tmp_path}")
    assert status == 0
    assert f"{tmp_path.name}: 6 of 6 images read; left out: 1 hidden, 1 .gif" in out


def test_a_limit_is_passed_on_to_a_folder(tmp_path, capsys, monkeypatch):
    images(tmp_path, 30)
    decoded, open_image = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path: decoded.append(path) or open_image(path))
    status, out, _ = ran(capsys, f"--data={tmp_path}", "--limit=10")
    assert status == 0
    assert "10 of 30 images read" in out
    assert len(decoded) == 10
    source = load_source(SweepConfig(n=(2,), data=str(tmp_path), limit=12))
    assert source.note == "12 of 30 images read"
    assert len(decoded) == 22


def test_samples_as_guided_diffusion_writes_them(tmp_path, capsys):
    pixels = RNG.integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "guided.npz", pixels, RNG.integers(0, 10, 40))
    status, out, _ = ran(capsys, f"--data={tmp_path / 'guided.npz'}")
    assert status == 0
    assert "guided: bytes 0 to 255 read as 0 to 1" in out


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((0, 6, 6)), "need at least one sample"),
        (np.zeros((4, 3), "m8[s]"), "expected real numbers"),
        (1e30 * RNG.standard_normal((9, 5)), r"data: has values up to .*e\+30, too large"),
        (1e160 * RNG.standard_normal((9, 5)), r"data: has values up to .*e\+160, too large"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, capsys, samples, said):
    np.save(tmp_path / "x.npy", samples)
    status, out, err = ran(capsys, f"--data={tmp_path / 'x.npy'}")
    assert (status, out) == (2, "")
    assert re.search(said, err)


def test_nothing_is_left_of_equal_samples(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.full((6, 5), 0.3))
    status, out, _ = ran(capsys, f"--data={tmp_path / 'x.npy'}")
    assert status == 0
    assert "nothing is left of them without their mean; --nocenter keeps it" in out
    assert "centre the data" not in out


def test_biases_in_a_weights_file_are_named(tmp_path, capsys):
    w = RNG.standard_normal((5, 8))
    path = tmp_path / "net.npz"
    np.savez(path, W1=w, W2=w, X=w.T, sigma=0.1, lam=0.1, b1=np.zeros(8), b2=np.zeros(5))
    status, _, err = ran(capsys, f"--weights={path}")
    assert status == 2
    assert "b1, b2: unknown" in err
    assert "without biases" in err


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_output_that_is_not_utf_8_loses_signs_but_no_results(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    assert main(["run", "--list", "--verbose"]) == 0
    assert main(["run", *MARGIN, "--data=simplex"]) == 0
    assert b"separability/margin" in stream.buffer.getvalue()
