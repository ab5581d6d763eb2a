"""Errata: a check passes what is right, and its measurements give what they must."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory.checks import InputError
from dae_theory.theory.closed_forms import predict_generalization, predict_memorization
from proofs_checks import errata
from proofs_checks.claims import Verdict, check
from proofs_checks.config import RunConfig
from proofs_checks.errata import experiment as module
from proofs_checks.errata import population_limit, sampled_density, score, stored_samples
from proofs_checks.mutants import instead

CLAIMS = {claim.id.removeprefix("errata/"): claim for claim in errata.CLAIMS}
PRINTED = {name for name, claim in CLAIMS.items() if claim.expected is Verdict.FAILS}


def convex_kl_bound(x_N1, std, width):
    """mean_i KL(N(0, std²), N(x_i, width²)): at least the KL to their mixture, and unit-free."""
    return np.mean(np.log(width / std) + (std**2 + x_N1**2) / (2 * width**2) - 0.5)


CORRECTED = {
    "test-loss-printed": ("printed_loss", population_limit.limit_test_loss),
    "blocks-printed": ("printed_blocks", predict_generalization),
    "kl-printed": ("bound", convex_kl_bound),
    "lambda-half": ("half_decay", stored_samples.column_scale),
    "norm-four": ("four_norm", stored_samples.column_scale),
    "score-printed": ("printed", score.right_score),
}


@pytest.fixture(scope="module")
def experiment():
    return module.build(RunConfig("errata", quick=True), lambda *_: None)


def test_numbers_are_finite_and_notes_short(experiment):
    for claim in CLAIMS.values():
        measured = check(claim, experiment).measured
        assert np.isfinite([measured.measured, measured.predicted, measured.error]).all()
        assert 0 < len(measured.note) <= 95
    assert all(np.isfinite(array).all() for array in experiment.arrays.values())
    assert experiment.settings["seeds"] == 4


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_printed_claim_would_hold_with_the_right_formula(experiment, name):
    right = instead("the right formula", *CORRECTED[name])
    assert check(CLAIMS[name], experiment, right).verdict is Verdict.HOLDS


def test_a_generous_bound_on_the_test_loss_holds(experiment):
    generous = instead(
        "twice (7)", "printed_loss", lambda *args: 2 * population_limit.limit_test_loss(*args)
    )
    assert check(CLAIMS["test-loss-printed"], experiment, generous).verdict is Verdict.HOLDS


def test_numbers_of_the_theory_document(experiment):
    example = population_limit.SPREAD, (population_limit.WIDTH,), population_limit.SPREAD_SIGMA
    assert population_limit.printed_test_loss(*example) == pytest.approx(1.411, abs=1e-3)
    assert population_limit.limit_test_loss(*example) == pytest.approx(2.8)
    assert population_limit.loss_of_6(population_limit.SPREAD) == pytest.approx(2.8)
    fits = [population_limit.fitted_loss(example[0], example[2], seed) for seed in experiment.seeds]
    assert np.mean(fits) == pytest.approx(2.8, abs=0.01)


def test_spectra_are_drawn_by_seed(experiment):
    right, blocks = (check(CLAIMS[name], experiment).measured for name in ("test-loss", "blocks"))
    assert (right.seeds, blocks.seeds) == ((1000, 1001, 1002, 1003), ())
    spectra = [np.linalg.eigvalsh(c.covs[0]) for c in experiment.population.fits.clusters]
    assert len({float(values[0]) for values in spectra}) == 4
    ends = population_limit.SPECTRUM[-1], population_limit.SPECTRUM[0]
    assert np.all((np.array(spectra) > ends[0]) & (np.array(spectra) < ends[1]))


def test_overlapping_samples_are_vacuous(experiment):
    x_ND = experiment.storage.samples.x
    cone = instead("a cone", "samples", stored_samples.StoredSamples(1 + 0.1 * x_ND))
    for name in ("integral", "weights", "lambda-half", "norm-four"):
        claim = replace(CLAIMS[name], part="")
        assert check(claim, cone.apply(experiment.storage)).verdict is Verdict.VACUOUS


def test_no_weights():
    with pytest.raises(InputError, match="not weights"):
        module.from_weights(None)


# --- the measurements against what they must give --------------------------------------------


def test_equation_7_and_its_print_by_hand():
    e, tail, variance = np.array([5, 2, 1.0]), 0.8, 0.49
    arguments = population_limit.SPREAD, (3,), 0.7
    right, printed = e * variance / (e + variance), e * variance**2 / (e + variance) ** 2
    assert population_limit.limit_test_loss(*arguments) == pytest.approx(right.sum() + tail)
    assert population_limit.printed_test_loss(*arguments) == pytest.approx(printed.sum() + tail)


def test_proximal_minimum_meets_its_optimality_conditions():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 5))
    s_DD, sigma, lam = root @ root.T, 0.7, 0.4
    without = population_limit.proximal_minimum(s_DD, sigma, 0.0)
    np.testing.assert_allclose(without @ (s_DD + sigma**2 * np.eye(5)), s_DD, atol=1e-10)
    m_DD = population_limit.proximal_minimum(s_DD, sigma, lam)
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
        kl = sampled_density.kl_to_smoothed(scale, x, 0.5 * scale)
        assert kl == pytest.approx(convex_kl_bound(x, scale, 0.5 * scale), rel=1e-9)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_two_opposite_samples_are_best_stored_by_the_corollary_at_every_sigma(sigma):
    x = sampled_density.two_points(1.0)
    gains = stored_samples.minimum_gains(x, sigma, 0.0)
    np.testing.assert_allclose(gains, predict_memorization(x, sigma, 0.0).gains, rtol=1e-5)


def test_the_sampler_turns_noise_into_a_gaussian_of_the_samples_norm():
    std, departure = sampled_density.sampled_gaussian(2.0)
    assert std == pytest.approx(2.0, rel=1e-3)
    assert departure < 1e-12


def test_score_of_one_gaussian():
    mixture = population_limit.one_cluster(np.array([2.0, 0.5, 0.0]))
    y = np.random.default_rng(0).standard_normal((6, 3))
    exact = -np.linalg.solve(mixture.covs[0] + 0.09 * np.eye(3), y.T).T
    np.testing.assert_allclose(score.score_by_differences(mixture, y, 0.3), exact, atol=1e-7)


def test_column_scales_are_those_of_the_prediction(experiment):
    x = experiment.storage.samples.x
    gains = predict_memorization(x, 0.3, 0.02).gains
    square = np.sum(x**2, axis=1)
    scales = stored_samples.column_scale(x, 0.3, 0.02)
    np.testing.assert_allclose(scales * square, gains, rtol=1e-12)
    np.testing.assert_allclose(
        scales * (square**2 + 0.09 * square), square - len(x) * 0.02, rtol=1e-12
    )
    half = stored_samples.half_decay_scale(x, 0.3, 0.02)
    np.testing.assert_allclose(half * (square + 0.09) * square, square - len(x) * 0.01, rtol=1e-12)
