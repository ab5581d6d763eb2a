"""Claims, their mutants, and the command with its files and exit statuses."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from dae_theory.data.dataset import centred
from dae_theory.data.images import faces
from dae_theory.data.mixtures import simplex
from dae_theory.theory.closed_forms import predict_memorization
from proofs_checks import errata, generalize, hybrid, memorize, run
from proofs_checks.claims import (
    Assumption,
    Evidence,
    Verdict,
    confidence_interval,
    fit_flip_exponent,
    judge,
    log_log_slope,
)
from proofs_checks.config import RunConfig
from proofs_checks.report import CONSOLE_WIDTH
from proofs_checks.run import MODULES, main

ALL_CLAIMS = [(regime, claim) for regime, module in MODULES.items() for claim in module.CLAIMS]
ELSEWHERE = ("certify", "diffusion")  # test_certify*.py, test_diffusion_*.py
HERE = [(regime, claim) for regime, claim in ALL_CLAIMS if regime not in ELSEWHERE]
ALL_MUTANTS = [
    pytest.param(regime, claim, mutant, id=f"{claim.id}: {mutant.name}")
    for regime, claim in HERE
    for mutant in claim.mutants
]


def no_progress(*_):
    return None


@pytest.fixture(scope="module")
def experiments():
    """One quick experiment a regime, on its default data."""
    quick = {regime: RunConfig(regime, quick=True) for regime in MODULES}
    return {
        "memorize": memorize.build(quick["memorize"], centred(faces()), True, no_progress),
        "generalize": generalize.build(quick["generalize"], None, True, no_progress),
        "hybrid": hybrid.build(quick["hybrid"], None, True, no_progress),
        "errata": errata.build(quick["errata"], None, False, no_progress),
    }


# --- registry --------------------------------------------------------------------------------


def test_claim_ids_are_unique_and_every_claim_has_a_mutant():
    ids = [claim.id for _, claim in ALL_CLAIMS]
    assert len(set(ids)) == len(ids)
    assert all(claim.mutants for _, claim in ALL_CLAIMS)


@pytest.mark.parametrize(("regime", "claim"), [pytest.param(r, c, id=c.id) for r, c in HERE])
def test_claim_has_its_expected_verdict_on_default_data(experiments, regime, claim):
    assert judge(claim.check(experiments[regime])) is claim.expected


@pytest.mark.parametrize(("regime", "claim", "mutant"), ALL_MUTANTS)
def test_mutant_fails(experiments, regime, claim, mutant):
    assert judge(claim.check(mutant.apply(experiments[regime]))) is Verdict.FAILS


def test_claim_expected_to_fail_holds_where_it_should(experiments):
    (claim,) = (c for c in memorize.CLAIMS if c.expected is Verdict.FAILS)
    on_data = replace(experiments["memorize"], unseen=experiments["memorize"].x)
    assert judge(claim.check(on_data)) is Verdict.HOLDS


@pytest.mark.parametrize("regime", ["memorize", "generalize", "hybrid"])
def test_positively_correlated_data_are_vacuous(regime, experiments):
    rng = np.random.default_rng(0)
    x = 1 + 0.1 * rng.standard_normal((30, 12))
    if regime == "memorize":
        prediction = predict_memorization(x[:5], 0.05, 1e-3, 100)
        experiment = replace(experiments[regime], x=x[:5], prediction=prediction)
    else:
        labels = np.arange(30) % len(experiments[regime].blocks.widths)
        blocks = replace(experiments[regime].blocks, x=x, labels=labels)
        experiment = replace(experiments[regime], blocks=blocks, tight=blocks)
    for claim in MODULES[regime].CLAIMS:
        evidence = claim.check(experiment)
        assert judge(evidence) is Verdict.VACUOUS
        assert evidence.assumptions["beta"].value > 0


# --- verdicts --------------------------------------------------------------------------------


def evidence(errors, tolerance=1.0, met=True):
    assumed = {"a": Assumption(0.0, "anything", met)}
    return Evidence(0.0, 0.0, np.array(errors, float), tolerance, assumed)


def test_verdict_follows_the_interval():
    assert judge(evidence([0.5])) is Verdict.HOLDS
    assert judge(evidence([1.5])) is Verdict.FAILS
    assert judge(evidence([0.5, 0.6, 0.7])) is Verdict.HOLDS
    assert judge(evidence([1.5, 1.6, 1.7])) is Verdict.FAILS
    assert judge(evidence([0.2, 1.9, 0.4, 1.8])) is Verdict.INCONCLUSIVE
    assert judge(evidence([np.nan])) is Verdict.FAILS
    assert judge(evidence([0.5], met=False)) is Verdict.VACUOUS


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = confidence_interval(rng.standard_normal(30))
        covered += low <= 0 <= high
    assert 0.88 < covered / 200 < 0.99


def test_regressions_recover_known_exponents():
    z = np.linspace(3, 5, 9)
    flips = np.exp(-(z**2) / 2) + 5 * np.exp(-((1.3 * z) ** 2) / 2)
    assert fit_flip_exponent(z, flips, 7 * flips**0.8 * z**-3) == pytest.approx(0.8, abs=1e-9)
    n = np.array([10.0, 100.0, 1000.0])
    assert log_log_slope(n, 3 * n**-0.5) == pytest.approx(-0.5, abs=1e-12)


# --- the command -----------------------------------------------------------------------------


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
            "--p=6",
            "--seeds=2",
            f"--out={out}",
        ]
    )
    assert status == 0
    report = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)
    assert set(report) == {"schema", "command", "config", "environment", "wall_s", "claims"}
    assert report["schema"] == 1
    assert [claim["id"] for claim in report["claims"]] == [c.id for c in memorize.CLAIMS]
    for claim in report["claims"]:
        assert set(claim) == {
            *("id", "statement", "source", "expected", "verdict", "measured", "predicted"),
            *("error", "tolerance", "ci95", "assumptions", "seeds", "wall_s", "note"),
        }
        assert all(set(a) == {"value", "required", "met"} for a in claim["assumptions"].values())
    html = (out / "report.html").read_text()
    assert all(claim.id in html for claim in memorize.CLAIMS)
    assert "tabular" in (out / "report.tex").read_text()
    with np.load(out / "results.npz") as results:
        assert results["memorize/w1"].shape == (2, 64, 6)
    lines = [line for line in capsys.readouterr().out.splitlines() if str(out) not in line]
    assert max(map(len, lines)) <= CONSOLE_WIDTH
    assert sum(line.split()[:1] == ["holds"] for line in lines) == len(memorize.CLAIMS) - 1


def test_one_claim_only_skips_training(capsys):
    assert main(["run", "--regime=memorize", "--claim=cor3.2/stationary"]) == 0
    assert "seeds=0" in capsys.readouterr().out


def test_list_names_every_claim(capsys):
    assert main(["run", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(claim.id in listed for _, claim in ALL_CLAIMS)


def test_exact_trainer_reaches_the_prediction(capsys):
    arguments = ["--data=simplex", "--n=3", "--p=6", "--seeds=2", "--trainer=exact"]
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
    trained = [claim.id for claim in memorize.CLAIMS if claim.uses_nets]
    held = [line for line in out.splitlines() if line.startswith("holds")]
    assert sum(any(claim_id in line for line in held) for claim_id in trained) == len(trained) - 2
    assert "gradient training = 0" in out


@pytest.mark.parametrize("seed", range(3))
def test_one_column_perturbed_by_ten_percent_fails(tmp_path, numpy_weights, seed):
    rng = np.random.default_rng(seed)
    w1 = numpy_weights["W1"].copy()
    j = np.argmax(np.linalg.norm(w1, axis=0))
    direction = rng.standard_normal(len(w1))
    w1[:, j] += 0.1 * np.linalg.norm(w1[:, j]) * direction / np.linalg.norm(direction)
    assert check_weights_file(tmp_path, numpy_weights | {"W1": w1}) == 1


def test_one_column_scaled_by_ten_percent_in_both_layers_fails(tmp_path, numpy_weights):
    scaled = numpy_weights | {}
    j = np.argmax(np.linalg.norm(numpy_weights["W1"], axis=0))
    for key in ("W1", "W2"):
        scaled[key] = numpy_weights[key].copy()
        scaled[key][:, j] *= 1.1
    assert check_weights_file(tmp_path, scaled) == 1


def test_missing_sample_fails(tmp_path, numpy_weights):
    fewer = numpy_weights | {"X": numpy_weights["X"][:2]}
    assert check_weights_file(tmp_path, fewer) == 1


def test_forgotten_sample_fails(tmp_path, numpy_weights):
    x, w1, w2 = (numpy_weights[key] for key in ("X", "W1", "W2"))
    stores_first = (x @ w1).argmax(axis=0) == 0
    forgotten = {"W1": np.where(stores_first, 0, w1), "W2": np.where(stores_first, 0, w2)}
    assert check_weights_file(tmp_path, numpy_weights | forgotten) == 1


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_wrong_sigma_fails(tmp_path, numpy_weights, factor):
    wrong = numpy_weights | {"sigma": factor * numpy_weights["sigma"]}
    assert check_weights_file(tmp_path, wrong) == 1


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


def test_all_regimes_leave_out_those_that_say_nothing_of_the_users_data():
    everything = run.chosen_regimes(RunConfig("all"))
    assert set(everything) == set(MODULES)
    assert set(everything) - set(run.chosen_regimes(RunConfig("all", data="x.npy"))) == {
        "diffusion"
    }
    assert set(everything) - set(run.chosen_regimes(RunConfig("all", weights="w.npz"))) == {
        "diffusion",
        "errata",
    }
    assert run.chosen_regimes(RunConfig("diffusion", data="x.npy")) == ("diffusion",)


def test_weights_are_refused_by_regime_diffusion(tmp_path, capsys):
    w = np.eye(4)
    np.savez(tmp_path / "w.npz", W1=w, W2=w, X=w, sigma=0.1, lam=0.01)
    assert main(["run", "--regime=diffusion", f"--weights={tmp_path / 'w.npz'}"]) == 2
    assert "memorize, generalize" in capsys.readouterr().err


def test_later_failure_and_kill_lose_no_finished_regime(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "proofs_checks.run", "--quick", "--seeds=2", f"--out={out}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not (out / "results.npz").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    report = json.loads((out / "report.json").read_text())
    assert [claim["id"] for claim in report["claims"]][:15] == [c.id for c in memorize.CLAIMS]
    with np.load(out / "results.npz") as results:
        assert np.isfinite(results["memorize/w1"]).all()


@pytest.mark.parametrize(
    ("regime", "samples"),
    [
        ("memorize", np.zeros((4, 6))),
        ("memorize", np.ones((1, 6))),
        ("all", np.ones((8, 5))),
        ("generalize", np.eye(3)),
    ],
    ids=["zero", "single", "identical", "one-per-cluster"],
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
    assert "cannot write" in capsys.readouterr().err
