"""The command: its files, exit statuses, error messages, and weights trained elsewhere."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dae_theory.data import simplex
from proofs_checks import memorize
from proofs_checks.config import RunConfig
from proofs_checks.memorize.experiment import TRAINED
from proofs_checks.regimes import all_regimes, chosen_regimes
from proofs_checks.report import CONSOLE_WIDTH
from proofs_checks.run import main


def command(*arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "proofs_checks.run", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **kwargs,
    )


def test_report_has_the_agreed_schema(tmp_path, capsys):
    out = tmp_path / "run"
    status = main(
        [
            "run",
            "--regime=memorize",
            "--data=simplex",
            "--n=3",
            "--p=18",
            "--seeds=6",
            f"--out={out}",
        ]
    )
    assert status in (0, 1)  # of six nets at a quarter of the units, not all claims hold
    report = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)
    assert set(report) == {"schema", "command", "config", "environment", "wall_s", "claims"}
    assert report["schema"] == 2
    assert [claim["id"] for claim in report["claims"]] == [c.id for c in memorize.CLAIMS]
    for claim in report["claims"]:
        assert set(claim) == {
            *("id", "kind", "statement", "source", "expected", "verdict", "measured"),
            *(
                "predicted",
                "error",
                "tolerance",
                "tolerance_origin",
                "ci95",
                "assumptions",
                "seeds",
                "wall_s",
                "note",
            ),
        }
        assert all(set(a) == {"value", "required", "met"} for a in claim["assumptions"].values())
    (used,) = report["config"]["resolved"]["memorize"]["data_sets"]
    assert used["name"] == "simplex"
    assert used["sha256"] == used["selected_sha256"] == simplex(3, 64).sha256
    assert used["selection"] == "all 3 samples"
    assert report["environment"]["precision"] == "float64"
    html = (out / "report.html").read_text()
    assert all(claim.id in html for claim in memorize.CLAIMS)
    assert "tabular" in (out / "report.tex").read_text()
    with np.load(out / "results.npz") as results:
        assert results["memorize/w1"].shape == (6, 64, 18)
    lines = [line for line in capsys.readouterr().out.splitlines() if str(out) not in line]
    assert max(map(len, lines)) <= CONSOLE_WIDTH


def test_one_claim_only_skips_training(capsys):
    assert main(["run", "--regime=memorize", "--claim=cor3.2/stationary"]) == 0
    assert "seeds=0" in capsys.readouterr().out


def test_list_names_every_claim(capsys):
    assert main(["run", "--list"]) == 0
    listed = capsys.readouterr().out
    claims = [claim for regime in all_regimes() for claim in regime.claims]
    assert all(claim.id in listed for claim in claims)
    assert main(["run", "--list", "--verbose"]) == 0
    verbose = capsys.readouterr().out
    for claim in claims:
        assert all(text in verbose for text in (claim.id, claim.location, claim.source))
        assert all(f"{r.name} {r.required}" in verbose for r in claim.requires)


def test_exact_trainer_reaches_the_prediction(capsys):
    arguments = ["--data=simplex", "--n=3", "--p=18", "--seeds=6", "--trainer=exact"]
    assert main(["run", "--regime=memorize", *arguments]) == 0
    assert "vacuous" in capsys.readouterr().out  # no steps were watched


# --- weights trained elsewhere ---------------------------------------------------------------


def numpy_gradient_descent(x, width, sigma, lam, steps=4000, rate=0.2, draws=32, seed=0):
    """Objective (1) by plain NumPy gradient descent with fresh noise at every step."""
    rng = np.random.default_rng(seed)
    n, d = x.shape
    w1, w2 = 0.3 * rng.standard_normal((2, d, width))
    for step in range(steps):
        y = x + sigma * rng.standard_normal((draws, n, d))
        h = np.maximum(y @ w1, 0)
        residual = h @ w2.T - x
        scale = 2 / (n * draws)
        gradient2 = scale * np.einsum("mnd,mnp->dp", residual, h) + 2 * lam * w2
        back = (residual @ w2) * (h > 0)
        gradient1 = scale * np.einsum("mnd,mnp->dp", y, back) + 2 * lam * w1
        step_size = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        w1 -= step_size * gradient1
        w2 -= step_size * gradient2
    return w1, w2


@pytest.fixture(scope="module")
def numpy_weights():
    x = simplex(3, 8).x
    sigma, lam = 0.1, 0.02 / 3
    w1, w2 = numpy_gradient_descent(x, 6, sigma, lam)
    return {"W1": w1, "W2": w2, "X": x, "sigma": sigma, "lam": lam}


def check_weights_file(tmp_path, arrays):
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    return main(["run", "--regime=memorize", f"--weights={path}"])


def test_weights_trained_with_numpy_are_verified(tmp_path, numpy_weights, capsys):
    assert check_weights_file(tmp_path, numpy_weights) == 0
    out = capsys.readouterr().out
    trained = [claim.id for claim in memorize.CLAIMS if set(TRAINED) <= set(claim.requires)]
    held = [line for line in out.splitlines() if line.startswith("holds")]
    assert sum(any(claim_id in line for line in held) for claim_id in trained) == len(trained) - 2
    assert "gradient training = 0" in out


def assert_not_at_a_minimum(tmp_path, arrays, capsys):
    """Nothing is said about the nets, rather than that the theory fails on them."""
    assert check_weights_file(tmp_path, arrays) == 0
    out = capsys.readouterr().out
    assert "movement left to a minimum" in " ".join(out.split())  # the console breaks lines
    verdicts = {line.split()[1]: line.split()[0] for line in out.splitlines() if "/" in line}
    assert {verdicts[c.id] for c in memorize.CLAIMS if set(TRAINED) <= set(c.requires)} == {
        "vacuous"
    }


@pytest.mark.parametrize("seed", range(3))
def test_one_column_perturbed_by_ten_percent(tmp_path, numpy_weights, seed, capsys):
    rng = np.random.default_rng(seed)
    w1 = numpy_weights["W1"].copy()
    j = np.argmax(np.linalg.norm(w1, axis=0))
    direction = rng.standard_normal(len(w1))
    w1[:, j] += 0.1 * np.linalg.norm(w1[:, j]) * direction / np.linalg.norm(direction)
    assert_not_at_a_minimum(tmp_path, numpy_weights | {"W1": w1}, capsys)


def test_one_column_scaled_by_ten_percent_in_both_layers(tmp_path, numpy_weights, capsys):
    scaled = numpy_weights | {}
    j = np.argmax(np.linalg.norm(numpy_weights["W1"], axis=0))
    for key in ("W1", "W2"):
        scaled[key] = numpy_weights[key].copy()
        scaled[key][:, j] *= 1.1
    assert_not_at_a_minimum(tmp_path, scaled, capsys)


def test_missing_sample(tmp_path, numpy_weights, capsys):
    assert_not_at_a_minimum(tmp_path, numpy_weights | {"X": numpy_weights["X"][:2]}, capsys)


def test_forgotten_sample_fails(tmp_path, numpy_weights):
    x, w1, w2 = (numpy_weights[key] for key in ("X", "W1", "W2"))
    stores_first = (x @ w1).argmax(axis=0) == 0
    forgotten = {"W1": np.where(stores_first, 0, w1), "W2": np.where(stores_first, 0, w2)}
    assert check_weights_file(tmp_path, numpy_weights | forgotten) == 1


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_wrong_sigma(tmp_path, numpy_weights, factor, capsys):
    wrong = numpy_weights | {"sigma": factor * numpy_weights["sigma"]}
    assert_not_at_a_minimum(tmp_path, wrong, capsys)


def bad(key, value):
    return lambda arrays: arrays | {key: value}


BAD_WEIGHTS = {
    "W1: has 7 rows": bad("W1", np.ones((7, 6))),
    "W1 and W2 differ in shape": bad("W2", np.ones((8, 5))),
    "expected a (N, D) array": bad("W1", np.ones(8)),
    "contains NaN": bad("W2", np.full((8, 6), np.nan)),
    "need at least one sample": bad("X", np.ones((0, 8))),
    "sigma: the noise level must be": bad("sigma", -0.1),
    "lam: the weight decay must be": bad("lam", -1e-3),
    "sigma must be one number": bad("sigma", np.ones(2)),
    "key 'W1' is missing": lambda arrays: {k: v for k, v in arrays.items() if k != "W1"},
    "labels have shape": bad("labels", np.zeros(7)),
    "labels contain NaN": bad("labels", np.full(3, np.nan)),
}


@pytest.mark.parametrize("message", list(BAD_WEIGHTS))
def test_bad_weights_give_one_clear_line(tmp_path, numpy_weights, capsys, message):
    assert check_weights_file(tmp_path, BAD_WEIGHTS[message](numpy_weights)) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert captured.count("\n") == 1


def test_truncated_weights_file(tmp_path, numpy_weights, capsys):
    path = tmp_path / "weights.npz"
    np.savez(path, **numpy_weights)
    path.write_bytes(path.read_bytes()[:-300])
    assert main(["run", f"--weights={path}"]) == 2
    assert "truncated" in capsys.readouterr().err


BAD_COMMANDS = {
    "unknown regime 'forget'": ["--regime=forget"],
    "no claim 'cor9.9/none'": ["--claim=cor9.9/none"],
    "Unknown command line flag": ["--bogus=1"],
    "n: must be at least 1, got 0": ["--n=0"],
    "p: must be at least 1, got -1": ["--p=-1"],
    "seeds: must be at least 1": ["--seeds=0"],
    "sigma: the noise level must be finite and > 0, got -1.0": ["--sigma=-1"],
    "got nan": ["--sigma=nan"],
    "lam: the weight decay must be": ["--lam=-1"],
    "no such file": ["--data=missing.npz"],
    "no such file ": ["--weights=missing.npz"],
    "expected an .npy or .npz file": ["--data=missing.txt"],
    "asked for 500": ["--regime=memorize", "--data=faces", "--n=500"],
    "trainer: expected one of": ["--trainer=magic"],
    "unexpected argument": ["memorize"],
}


@pytest.mark.parametrize("message", list(BAD_COMMANDS))
def test_bad_command_gives_one_clear_line(capsys, message):
    assert main(["run", *BAD_COMMANDS[message]]) == 2
    captured = capsys.readouterr().err
    assert message.strip() in captured
    assert captured.count("\n") == 1


def test_exit_statuses_of_a_real_process(tmp_path):
    elsewhere = {"cwd": tmp_path}
    assert command("--regime=memorize", "--claim=cor3.2/stationary", **elsewhere).returncode == 0
    wrong = command("--regime=nonsense", **elsewhere)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)


def names_of(config):
    return [regime.name for regime in chosen_regimes(config)]


def test_all_regimes_leave_out_those_that_say_nothing_of_the_users_data():
    everything = names_of(RunConfig("all"))
    assert everything == [regime.name for regime in all_regimes()]
    assert set(everything) - set(names_of(RunConfig("all", data="x.npy"))) == {
        "diffusion",
        "detect",
        "steer",
    }
    assert set(everything) - set(names_of(RunConfig("all", weights="w.npz"))) == {
        "diffusion",
        "detect",
        "steer",
        "errata",
    }
    assert names_of(RunConfig("diffusion", data="x.npy")) == ["diffusion"]


@pytest.mark.parametrize("regime", ["diffusion", "detect", "steer"])
def test_weights_are_refused_by_regimes_of_their_own_nets(tmp_path, capsys, regime):
    w = np.eye(4)
    np.savez(tmp_path / "w.npz", W1=w, W2=w, X=w, sigma=0.1, lam=0.01)
    assert main(["run", f"--regime={regime}", f"--weights={tmp_path / 'w.npz'}"]) == 2
    assert "memorize, generalize" in capsys.readouterr().err


def test_later_failure_and_kill_lose_no_finished_regime(tmp_path):
    out = tmp_path / "run"
    small = ["--quick", "--seeds=2", "--data=simplex", "--n=3", "--p=6"]
    process = subprocess.Popen(
        [sys.executable, "-m", "proofs_checks.run", *small, f"--out={out}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (out / "results.npz").exists():
        assert process.poll() is None
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    report = json.loads((out / "report.json").read_text())
    count = len(memorize.CLAIMS)
    assert [claim["id"] for claim in report["claims"]][:count] == [c.id for c in memorize.CLAIMS]
    with np.load(out / "results.npz") as results:
        assert np.isfinite(results["memorize/w1"]).all()


@pytest.mark.parametrize(
    ("regime", "samples"),
    [
        ("memorize", np.zeros((4, 6))),
        ("memorize", np.ones((1, 6))),
        ("all", np.ones((8, 5))),
    ],
    ids=["zero", "single", "identical"],
)
def test_degenerate_data_are_vacuous_and_reported(tmp_path, regime, samples):
    path, out = tmp_path / "x.npy", tmp_path / "run"
    np.save(path, samples)
    assert main(["run", f"--regime={regime}", f"--data={path}", "--quick", f"--out={out}"]) == 0
    report = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)
    assert report["claims"]


def test_without_decay_nothing_is_claimed_of_trained_nets():
    arguments = ["--data=simplex", "--n=3", "--p=6", "--lam=0", "--quick"]
    assert main(["run", "--regime=memorize", *arguments]) == 0


def test_unwritable_folder_gives_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"
    assert main(["run", "--regime=memorize", "--claim=cor3.2/stationary", f"--out={out}"]) == 2
    assert "cannot read or write" in capsys.readouterr().err
