"""Errata: printed statements fail, corrected ones hold; a check passes what is right."""

import time
from dataclasses import replace

import numpy as np
import pytest

from dae_theory.checks import InputError
from dae_theory.theory.closed_forms import predict_generalization, predict_memorization
from proofs_checks import errata
from proofs_checks import errata_evidence as measured
from proofs_checks.claims import Verdict, judge
from proofs_checks.config import RunConfig
from proofs_checks.generalize_evidence import limit_test_loss

CLAIMS = {claim.id.removeprefix("errata/"): claim for claim in errata.CLAIMS}
PRINTED = {name for name, claim in CLAIMS.items() if claim.expected is Verdict.FAILS}


def convex_kl_bound(x_N1, std, width):
    """mean_i KL(N(0, std²), N(x_i, width²)): at least the KL to their mixture, and unit-free."""
    return np.mean(np.log(width / std) + (std**2 + x_N1**2) / (2 * width**2) - 0.5)


CORRECTED = {
    "test-loss-printed": {"printed_test_loss": limit_test_loss},
    "blocks-printed": {"printed_population": predict_generalization},
    "kl-printed": {"printed_kl_bound": convex_kl_bound},
    "lambda-half": {"half_decay_scale": measured.column_scale},
    "norm-four": {"four_norm_scale": measured.column_scale},
    "score-printed": {"printed_score": measured.score},
}


@pytest.fixture(scope="module")
def experiment():
    config = RunConfig("all", quick=True)
    return errata.build(config, None, False, lambda *_: None)


def run(name, experiment):
    return CLAIMS[name].check(experiment)


@pytest.mark.parametrize("name", CLAIMS)
def test_verdict_is_expected_and_note_is_short(experiment, name):
    evidence = run(name, experiment)
    assert judge(evidence) is CLAIMS[name].expected
    assert np.isfinite([evidence.measured, evidence.predicted, evidence.error]).all()
    assert 0 < len(evidence.note) <= 95


@pytest.mark.parametrize(
    ("claim", "mutant"),
    [pytest.param(c, m, id=f"{c.id}: {m.name}") for c in errata.CLAIMS for m in c.mutants],
)
def test_mutant_fails(experiment, claim, mutant):
    assert judge(claim.check(mutant.apply(experiment))) is Verdict.FAILS


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_printed_claim_would_hold_with_the_right_formula(experiment, name):
    assert judge(run(name, replace(experiment, **CORRECTED[name]))) is Verdict.HOLDS


def test_a_generous_bound_on_the_test_loss_holds(experiment):
    generous = replace(experiment, printed_test_loss=lambda *args: 2 * limit_test_loss(*args))
    assert judge(run("test-loss-printed", generous)) is Verdict.HOLDS


def test_numbers_of_the_theory_document(experiment):
    printed, right = run("test-loss-printed", experiment), run("test-loss", experiment)
    assert printed.predicted == pytest.approx(1.411, abs=1e-3)
    assert right.predicted == pytest.approx(2.8)
    assert right.measured == pytest.approx(2.8, abs=0.01)
    assert right.seeds == (0, 1, 2, 3)
    assert run("blocks", experiment).seeds == ()


def test_overlapping_samples_are_vacuous(experiment):
    cone = replace(experiment, stored=1 + 0.1 * experiment.stored)
    for name in ("integral", "weights", "lambda-half", "norm-four"):
        assert judge(run(name, cone)) is Verdict.VACUOUS


def test_no_weights():
    with pytest.raises(InputError, match="not weights"):
        errata.from_weights(None)


def test_everything_is_fast_and_results_are_finite(experiment):
    start = time.perf_counter()
    for name in CLAIMS:
        run(name, experiment)
    assert time.perf_counter() - start < 15
    arrays = errata.results(experiment)
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert errata.settings(experiment)["seeds"] == 4


# --- the measurements against what they must give --------------------------------------------


def test_proximal_minimum_meets_its_optimality_conditions():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 5))
    s_DD, sigma, lam = root @ root.T, 0.7, 0.4
    without = measured.proximal_minimum(s_DD, sigma, 0.0)
    np.testing.assert_allclose(without @ (s_DD + sigma**2 * np.eye(5)), s_DD, atol=1e-10)
    m_DD = measured.proximal_minimum(s_DD, sigma, lam)
    # −∇/(2λ) is a subgradient of the nuclear norm: UVᵀ on the range, norm at most 1 elsewhere.
    subgradient = ((np.eye(5) - m_DD) @ s_DD - sigma**2 * m_DD) / lam
    u, singular, vt = np.linalg.svd(m_DD)
    rank = int(np.sum(singular > 1e-9))
    assert 0 < rank < 5
    np.testing.assert_allclose(u[:, :rank].T @ subgradient, vt[:rank], atol=1e-8)
    assert np.linalg.norm(subgradient, 2) <= 1 + 1e-8


def test_kl_of_two_gaussians_and_its_invariance():
    for scale in (1e-3, 1.0, 50.0):
        x = np.array([[0.3 * scale]])
        kl = measured.kl_to_smoothed(scale, x, 0.5 * scale)
        assert kl == pytest.approx(convex_kl_bound(x, scale, 0.5 * scale), rel=1e-9)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_two_opposite_samples_are_best_stored_by_the_corollary_at_every_sigma(sigma):
    x = measured.two_points(1.0)
    gains = measured.minimum_gains(x, sigma, 0.0)
    np.testing.assert_allclose(gains, predict_memorization(x, sigma, 0.0).gains, rtol=1e-5)


def test_the_sampler_turns_noise_into_a_gaussian_of_the_samples_norm():
    std, departure = measured.sampled_gaussian(2.0)
    assert std == pytest.approx(2.0, rel=1e-3)
    assert departure < 1e-12


def test_score_of_one_gaussian():
    mixture = measured._one_cluster(np.array([2.0, 0.5, 0.0]))
    y = np.random.default_rng(0).standard_normal((6, 3))
    exact = -np.linalg.solve(mixture.covs[0] + 0.09 * np.eye(3), y.T).T
    np.testing.assert_allclose(measured.score_by_differences(mixture, y, 0.3), exact, atol=1e-7)


def test_column_scales_are_those_of_the_prediction(experiment):
    x, n = experiment.stored, len(experiment.stored)
    gains = predict_memorization(x, 0.3, 0.02).gains
    square = np.sum(x**2, axis=1)
    np.testing.assert_allclose(measured.column_scale(x, 0.3, 0.02) * square, gains, rtol=1e-12)
    half = experiment.half_decay_scale(x, 0.3, 0.02)
    np.testing.assert_allclose(half * (square + 0.09) * square, square - n * 0.01, rtol=1e-12)
