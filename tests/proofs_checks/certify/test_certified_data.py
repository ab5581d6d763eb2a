"""Certificates of a user's data and weights, from the command and from an experiment."""

import json

import numpy as np
import pytest

from dae_theory import predict_memorization
from dae_theory.data import simplex
from dae_theory.theory.problem import Problem
from dae_theory.weights.read import SavedWeights
from proofs_checks import certify
from proofs_checks.certify.certified import EXACT
from proofs_checks.certify.closed_forms import flat_directions
from proofs_checks.certify.experiment import build, from_weights
from proofs_checks.claims import Verdict, check, measure_assumptions
from proofs_checks.config import RunConfig
from proofs_checks.run import main

X, SIGMA, LAM, P = simplex(4, 8).x, 0.03, 0.01, 6
of_weights = pytest.mark.xdist_group("certify-weights-trained")


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Exit status and claims, by id, of the command with these arguments."""
    monkeypatch.setattr("proofs_checks.run.draw_figures", lambda out: 0)

    def run(*arguments):
        out = tmp_path / "run"
        status = main(["run", "--regime=certify", *arguments, f"--out={out}"])
        claims = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)["claims"]
        return status, {claim["id"]: claim for claim in claims}

    return run


# --- data ------------------------------------------------------------------------------------


@pytest.mark.xdist_group("certify-data-clusters")
def test_rotations_inside_the_clusters_of_a_file_are_counted(experiment_of):
    assert flat_directions(experiment_of("certify", "data").clusters).measured == 18


def test_a_mixture_is_separable_as_samples_and_as_clusters():
    config = RunConfig("certify", data="mixture", sigma=0.01, n=3)
    experiment = build(config, lambda what, done, total: None)
    for part in (experiment.samples, experiment.clusters):
        assert all(assumption.met for assumption in measure_assumptions(EXACT, part).values())
    assert len(experiment.samples.problem.x) == 3
    assert len(experiment.clusters.problem.widths) == 3


def test_noisy_data_are_vacuous(report):
    status, claims = report("--data=simplex", "--n=4", "--sigma=0.5")
    assert status == 0
    assert set(claims) == {claim.id for claim in certify.REGIME.data_claims}
    assert {claim["verdict"] for claim in claims.values()} == {"vacuous"}


@pytest.mark.parametrize("samples", [np.zeros((4, 6)), np.ones((1, 6)), np.ones((8, 5))])
def test_degenerate_data_are_vacuous(report, tmp_path, samples):
    path = tmp_path / "x.npy"
    np.save(path, samples)
    status, claims = report(f"--data={path}")
    assert status == 0
    assert claims


def test_too_few_units_for_the_clusters(capsys):
    assert main(["run", "--regime=certify", "--data=mixture", "--p=2"]) == 2
    assert "p: 2 units cannot serve 3 clusters" in capsys.readouterr().err


# --- weights ---------------------------------------------------------------------------------


def weights_file(tmp_path, **changes):
    p = predict_memorization(X, SIGMA, LAM, P)
    path = tmp_path / "weights.npz"
    arrays = {"W1": p.w1, "W2": p.w2, "X": X, "sigma": SIGMA, "lam": LAM}
    np.savez(path, **(arrays | changes))
    return f"--weights={path}"


@of_weights
def test_weights_next_to_a_minimum_are_certified():
    rng = np.random.default_rng(0)
    p = predict_memorization(X, SIGMA, LAM, P)
    live = np.any(p.w1 != 0, axis=0)
    noisy = [w + 0.001 * live * rng.standard_normal(w.shape) for w in (p.w1, p.w2)]
    experiment = from_weights(SavedWeights(*noisy, Problem(X, SIGMA, LAM)))
    found = [check(claim, experiment) for claim in certify.REGIME.weights_claims]
    assert {result.verdict for result in found} == {Verdict.HOLDS}
    assert "solving moved the weights" in found[0].measured.note


@of_weights
def test_weights_that_miss_a_sample_want_another_unit(report, tmp_path):
    p = predict_memorization(X, SIGMA, LAM, P)
    kept = {"W1": p.w1 * (np.arange(P) > 0), "W2": p.w2 * (np.arange(P) > 0)}
    status, claims = report(weights_file(tmp_path, **kept))
    assert status == 1
    assert claims["certify/weights/minimum"]["verdict"] == "holds"
    assert claims["certify/weights/dead-units"]["verdict"] == "fails"
    assert claims["certify/weights/dead-units"]["measured"] > 2


def test_without_decay_weights_are_not_judged(report, tmp_path):
    status, claims = report(weights_file(tmp_path, lam=0.0))
    assert status == 0
    assert {claim["verdict"] for claim in claims.values()} == {"vacuous"}
