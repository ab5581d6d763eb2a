"""The census of a quick run: verdicts, mutants, and starts against what is said of them."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory.minima.census import KINDS
from dae_theory.theory.closed_forms import predict_memorization
from proofs_checks import certify_census as study_claims
from proofs_checks import certify_census_evidence as measured
from proofs_checks.claims import Verdict, judge

CLAIMS = {claim.id.removeprefix("certify/census-"): claim for claim in study_claims.CLAIMS}
SEEDS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def study():
    return study_claims.build(SEEDS, quick=True)


# --- claims ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLAIMS)
def test_verdict_is_expected_and_note_is_short(study, name):
    evidence = CLAIMS[name].check(study)
    assert judge(evidence) is CLAIMS[name].expected
    assert np.isfinite([evidence.measured, evidence.predicted, evidence.error]).all()
    assert 0 < len(evidence.note) <= 95
    assert np.all(evidence.errors >= 0)


@pytest.mark.parametrize(
    ("claim", "mutant"),
    [pytest.param(c, m, id=f"{c.id}: {m.name}") for c in study_claims.CLAIMS for m in c.mutants],
)
def test_mutant_fails(study, claim, mutant):
    assert judge(claim.check(mutant.apply(study))) is Verdict.FAILS


def test_every_claim_has_a_mutant():
    assert all(claim.mutants for claim in study_claims.CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_without_minima_or_without_starts_the_claim_is_vacuous(study, name):
    def unsettled(endings):
        return [end._replace(settled=False) for end in endings]

    assert judge(CLAIMS[name].check(replace(study, relabel=unsettled))) is Verdict.VACUOUS
    assert judge(CLAIMS[name].check(replace(study, relabel=lambda _: ()))) is Verdict.VACUOUS


# --- starts and endings ----------------------------------------------------------------------


def test_a_full_census_has_enough_starts_of_every_kind():
    starts = study_claims.build(SEEDS, quick=False).runs.starts
    assert len(set(starts)) == len(starts) >= 256
    for field, values in (("scale", measured.SCALES), ("optimizer", measured.OPTIMIZERS)):
        assert {getattr(start, field) for start in starts} == set(values)
    assert {start.ratio for start in starts} == set(measured.DRAWS)
    assert min(start.cosine for start in starts) < 0 < max(start.cosine for start in starts)


def test_starts_are_drawn_afresh_and_have_their_scale(study):
    widest = measured.N * max(measured.DRAWS)
    weights = {start: measured.draw_start(start, widest)[0] for start in study.runs.starts}
    assert len({w.tobytes() for w in weights.values()}) == len(weights)
    for scale in measured.SCALES:
        columns = [w[:, :, 0] for start, w in weights.items() if start.scale == scale]
        mean_square = np.mean(np.sum(np.square(columns), axis=-1))
        assert mean_square == pytest.approx(scale**2, rel=0.1)
    for start, w in weights.items():
        assert not w[:, :, start.ratio * measured.N :].any()


@pytest.mark.parametrize("cosine", measured.COSINES)
def test_samples_have_the_cosine_and_margin(cosine):
    x = measured.equiangular(cosine)
    off_diagonal = ~np.eye(len(x), dtype=bool)
    np.testing.assert_allclose((x @ x.T)[off_diagonal], cosine, atol=1e-12)
    np.testing.assert_allclose(np.diag(x @ x.T), 1, rtol=1e-12)
    expected = min(1.0, -cosine) / measured.SIGMA
    assert measured.margin(cosine) == pytest.approx(expected, abs=1e-9)


def test_descents_lower_the_loss_and_keep_zero_columns(study):
    for optimizer in ("adam", "sgd"):
        starts = [s for s in study.runs.starts if s.optimizer == optimizer and s.seed == 0]
        for start, end in zip(starts, measured.descended(starts, optimizer), strict=True):
            assert np.isfinite(end).all()
            assert not end[:, :, start.ratio * measured.N :].any()
            before = loss_of(measured.draw_start(start, end.shape[2])[0], start.cosine)
            assert loss_of(end, start.cosine) < before


def loss_of(weights, cosine):
    """Mean over 64 draws of the noise, in NumPy."""
    x = measured.equiangular(cosine)
    noise = np.random.default_rng(0).standard_normal((64, *x.shape))
    output = np.maximum((x + measured.SIGMA * noise) @ weights[0], 0) @ weights[1].T
    square = np.mean(np.sum((output - x) ** 2, axis=-1))
    return square + measured.LAM * np.sum(weights**2)


def test_an_ending_does_not_depend_on_the_others(study):
    alone = next(
        end
        for end in study.endings
        if end.start.optimizer == "lbfgs" and end.minimum.kind == "split"
    )
    (weights,) = measured.descended([alone.start], "lbfgs")
    again = measured.ending(alone.start, weights)
    assert again.settled
    assert again.minimum.loss == pytest.approx(alone.minimum.loss, rel=1e-10)
    assert again.minimum.gates == alone.minimum.gates


@pytest.mark.parametrize("stored", [0, 1, 3, 4])
def test_loss_of_a_subset_is_that_of_the_net_without_the_other_columns(stored):
    x = measured.equiangular(-0.2)
    prediction = predict_memorization(x, measured.SIGMA, measured.LAM)
    keep = np.arange(len(x)) < stored
    net = replace(prediction, w1=prediction.w1 * keep, w2=prediction.w2 * keep)
    predicted = measured.subset_loss(prediction, keep)
    assert measured.net_loss(net, x) == pytest.approx(predicted, rel=1e-9)


def test_kinds_and_losses_of_the_endings_are_as_the_figure_shows_them(study):
    arrays = study_claims.results(study)
    assert {len(array) for array in arrays.values()} == {len(study.runs.starts)}
    assert all(array.dtype.kind in "fib" for array in arrays.values())
    assert arrays["settled"].all()
    assert set(np.unique(arrays["optimizer"])) == {0, 1, 2}
    forgetful = arrays["kind"] == KINDS.index("forgetful")
    assert not np.any(forgetful & arrays["memorizes_output"])
    stored = arrays["memorizes_weights"]
    assert not stored[arrays["cosine"] > 0].any()
    assert np.all(np.abs(arrays["excess"][stored & (arrays["cosine"] < 0)]) < 1e-6)


def test_shares_are_counts_of_the_arrays(study):
    arrays = study_claims.results(study)
    chosen = (arrays["ratio"] == 1) & (arrays["cosine"] < 0)
    share = study.share(measured.of_ratio(1, measured.is_negative), lambda m: m.memorizes_weights)
    assert (share.count, share.total) == (arrays["memorizes_weights"][chosen].sum(), chosen.sum())
    shares = [
        np.mean(arrays["memorizes_weights"][chosen & (arrays["seed"] == seed)]) for seed in SEEDS
    ]
    evidence = CLAIMS["untypical-n"].check(study)
    np.testing.assert_allclose(evidence.errors, shares)
