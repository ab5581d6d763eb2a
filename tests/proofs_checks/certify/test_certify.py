"""The certificates: verdicts, mutants, problems from data and weights, and what they measure."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg

from dae_theory import predict_memorization
from dae_theory.data.mixtures import equiangular_directions, simplex
from proofs_checks import certify
from proofs_checks import certify_evidence as evidence
from proofs_checks.blocks import at_margin, predict_on
from proofs_checks.claims import Verdict, judge
from proofs_checks.config import RunConfig
from proofs_checks.nets import read_weights
from proofs_checks.probes import exact_loss_value
from proofs_checks.run import main

CLAIMS = {claim.id.removeprefix("certify/"): claim for claim in certify.OWN_CLAIMS}


@pytest.fixture(scope="module")
def experiment():
    return certify.build(RunConfig("certify", quick=True), None, False, lambda *_: None)


def with_problem(experiment, name, **changes):
    changed = replace(experiment.problems[name], **changes)
    return replace(experiment, problems=experiment.problems | {name: changed})


# --- claims ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLAIMS)
def test_verdict_is_expected(experiment, name):
    found = CLAIMS[name].check(experiment)
    assert judge(found) is CLAIMS[name].expected
    assert np.isfinite([found.measured, found.predicted, found.error]).all()
    assert found.note


@pytest.mark.parametrize(
    ("claim", "mutant"),
    [pytest.param(c, m, id=f"{c.id}: {m.name}") for c in certify.OWN_CLAIMS for m in c.mutants],
)
def test_mutant_fails(experiment, claim, mutant):
    assert judge(claim.check(mutant.apply(experiment))) is Verdict.FAILS


@pytest.mark.parametrize("name", ["simplex", "mixture", "faces"])
def test_theory_does_not_apply_without_a_margin(experiment, name):
    noisy = at_margin(experiment.problems[name].blocks, 1.5)
    changed = with_problem(experiment, name, blocks=noisy)
    for kind in ("stationary", "remainder", "spectrum", "flat-directions", "minimum", "exists"):
        found = CLAIMS[f"{name}/{kind}"].check(changed)
        assert judge(found) is Verdict.VACUOUS
        assert found.assumptions["gate margin z"].value == pytest.approx(1.5)
    assert not certify.results(
        replace(changed, problems={name: changed.problems[name]}, census=None, reach=None)
    )


@pytest.mark.parametrize("name", ["simplex", "mixture", "faces"])
@pytest.mark.parametrize("z", [6.0, 6.5])
def test_all_certificates_hold_from_margin_six_on(experiment, name, z):
    changed = with_problem(
        experiment, name, blocks=at_margin(experiment.problems[name].blocks, z + 1e-6)
    )
    for kind in ("stationary", "flat-directions", "minimum", "exists"):
        assert judge(CLAIMS[f"{name}/{kind}"].check(changed)) is Verdict.HOLDS


def test_a_pair_at_negative_cosine_is_stationary(experiment):
    apart = replace(experiment.pair, x=equiangular_directions(2, 16, -0.3))
    changed = replace(experiment, pair=apart)
    assert judge(CLAIMS["positive-cosine"].check(changed)) is Verdict.HOLDS


def test_losses_of_the_pair_at_positive_cosine(experiment):
    pair = experiment.pair
    p = predict_memorization(pair.x, pair.sigma, pair.lam)
    assert exact_loss_value(p.w1, p.w2, pair.x, 0.02, 0.01) == pytest.approx(0.123, abs=5e-4)
    assert pair.nearby.converged
    assert pair.nearby.loss == pytest.approx(0.0403, abs=5e-5)


def test_saddle_is_named_with_the_drop_of_its_loss(experiment):
    (saddle,) = (m for m in CLAIMS["mixture/minimum"].mutants if "saddle" in m.name)
    changed = saddle.apply(experiment)
    found = CLAIMS["mixture/minimum"].check(changed)
    assert found.note.startswith("saddle")
    assert "the loss falls by" in found.note
    problem = changed.problems["mixture"]
    verdict, at = problem.second_order, problem.minimizer
    b = problem.blocks

    def loss(step):
        w1, w2 = at.w1 + step * verdict.direction[0], at.w2 + step * verdict.direction[1]
        return exact_loss_value(w1, w2, b.x, b.sigma, b.lam)

    step = 0.01
    curvature = (loss(step) - 2 * loss(0.0) + loss(-step)) / step**2
    assert curvature == pytest.approx(verdict.lowest, rel=0.05)
    assert min(loss(step), loss(-step)) < loss(0.0)


# --- measurements ----------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.3])
def test_remainder_law_is_recovered_from_made_up_curves(exponent):
    z = evidence.MARGINS
    curve = 3 * np.exp(-(z**2) / 2) ** exponent
    flips = np.exp(-(z**2) / 2)

    curves = {"z": z, "flips": flips, "gradient": curve, "weights": curve, "operator": curve}
    found = evidence.measure_remainder(SimpleNamespace(remainder=curves))
    assert found["measured"] == pytest.approx(exponent)
    assert f"{-exponent / 2:.3f} ± 0.000" in found["note"]


def test_margin_that_an_error_needs():
    z = np.array([2.0, 3.0, 4.0, 5.0])
    error = np.exp(-(z**2))
    assert evidence.margin_needed(z, error, np.exp(-12.25)) == "3.5"
    assert evidence.margin_needed(z, error, 0.5) == "<2.0"
    assert evidence.margin_needed(z, error, 1e-12) == ">5.0"
    unknown = np.where(z == 2, np.nan, error)
    assert evidence.margin_needed(z, unknown, 0.5) == "3.0"


def test_rotations_leave_the_loss_formula_alone_and_move_the_loss(experiment):
    b = at_margin(experiment.rotations.blocks[0], 4.0)
    p = predict_on(b)
    generator = np.triu(np.random.default_rng(0).standard_normal((4, 4)), 1)
    turn = scipy.linalg.expm(0.2 * (generator - generator.T))
    w = np.hstack([p.w1[:, p.blocks == k] @ turn for k in range(3)])
    even, turned = (exact_loss_value(v, v, b.x, b.sigma, b.lam) for v in (p.w1, w))
    assert np.allclose(w @ w.T, p.w1 @ p.w1.T)
    assert turned - p.loss > 10 * (even - p.loss) > 0


# --- the command -----------------------------------------------------------------------------


def report(tmp_path, *arguments):
    out = tmp_path / "run"
    status = main(["run", "--regime=certify", *arguments, f"--out={out}"])
    claims = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)["claims"]
    return status, {claim["id"]: claim for claim in claims}


def test_data_are_certified_as_samples_and_as_clusters(tmp_path):
    status, claims = report(tmp_path, "--data=mixture", "--sigma=0.01", "--n=3")
    assert status == 0
    assert set(claims) == {claim.id for claim in certify.DATA_CLAIMS}
    assert claims["certify/clusters/flat-directions"]["measured"] == 18
    assert claims["certify/clusters/minimum"]["verdict"] == "holds"
    assert claims["certify/samples/exists"]["verdict"] == "holds"


def test_noisy_data_are_vacuous(tmp_path):
    status, claims = report(tmp_path, "--data=simplex", "--n=4", "--sigma=0.5")
    assert status == 0
    assert {claim["verdict"] for claim in claims.values()} == {"vacuous"}


def weights_file(tmp_path, **changes):
    x, sigma, lam = simplex(4, 8).x, 0.03, 0.01
    p = predict_memorization(x, sigma, lam, 6)
    path = tmp_path / "weights.npz"
    arrays = {"W1": p.w1, "W2": p.w2, "X": x, "sigma": sigma, "lam": lam}
    np.savez(path, **(arrays | changes))
    return f"--weights={path}"


def test_weights_next_to_a_minimum_are_certified(tmp_path):
    rng = np.random.default_rng(0)
    p = predict_memorization(simplex(4, 8).x, 0.03, 0.01, 6)
    live = np.any(p.w1 != 0, axis=0)
    noisy = {
        key: w + 0.01 * live * rng.standard_normal(w.shape)
        for key, w in (("W1", p.w1), ("W2", p.w2))
    }
    status, claims = report(tmp_path, weights_file(tmp_path, **noisy))
    assert status == 0
    assert {claim["verdict"] for claim in claims.values()} == {"holds"}
    assert "solving moved the weights" in claims["certify/weights/minimum"]["note"]


def test_weights_that_miss_a_sample_want_another_unit(tmp_path):
    p = predict_memorization(simplex(4, 8).x, 0.03, 0.01, 6)
    kept = {"W1": p.w1 * (np.arange(6) > 0), "W2": p.w2 * (np.arange(6) > 0)}
    status, claims = report(tmp_path, weights_file(tmp_path, **kept))
    assert status == 1
    assert claims["certify/weights/minimum"]["verdict"] == "holds"
    assert claims["certify/weights/dead-units"]["verdict"] == "fails"
    assert claims["certify/weights/dead-units"]["measured"] > 2


def test_mutants_of_weights_fail(tmp_path):
    path = weights_file(tmp_path).removeprefix("--weights=")
    experiment = certify.from_weights(read_weights(path))
    for claim in certify.WEIGHTS_CLAIMS:
        assert judge(claim.check(experiment)) is Verdict.HOLDS
        for mutant in claim.mutants:
            assert judge(claim.check(mutant.apply(experiment))) is Verdict.FAILS


def test_without_decay_weights_are_not_judged(tmp_path):
    status, claims = report(tmp_path, weights_file(tmp_path, lam=0.0))
    assert status == 0
    assert {claim["verdict"] for claim in claims.values()} == {"vacuous"}


@pytest.mark.parametrize("samples", [np.zeros((4, 6)), np.ones((1, 6)), np.ones((8, 5))])
def test_degenerate_data_are_vacuous(tmp_path, samples):
    path = tmp_path / "x.npy"
    np.save(path, samples)
    status, claims = report(tmp_path, f"--data={path}")
    assert status == 0
    assert claims


def test_too_few_units_for_the_clusters(tmp_path, capsys):
    assert main(["run", "--regime=certify", "--data=mixture", "--p=2"]) == 2
    assert "p: 2 units cannot serve 3 clusters" in capsys.readouterr().err
