"""The census of a quick run: what must be true of its starts and endings, whatever they claim."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory.minima.census import KINDS
from dae_theory.theory.closed_forms import predict_memorization
from proofs_checks.certify import census_starts as starts
from proofs_checks.certify import census_study as studies
from proofs_checks.certify.census import CLAIMS as ALL_CLAIMS
from proofs_checks.certify.census_losses import subset_loss
from proofs_checks.claims import Verdict, check

pytestmark = pytest.mark.xdist_group("certify-default-census")

CLAIMS = {claim.id.removeprefix("certify/census-"): replace(claim, part="") for claim in ALL_CLAIMS}
SEEDS = (1000, 1001, 1002, 1003)


@pytest.fixture(scope="module")
def study(experiment_of):
    return experiment_of("certify", "default").census


# --- claims ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLAIMS)
def test_numbers_are_finite_and_the_note_is_short(study, name):
    measured = CLAIMS[name].measure(study)
    assert np.isfinite([measured.measured, measured.predicted, measured.error]).all()
    assert 0 < len(measured.note) <= 95
    assert measured.signed or np.all(measured.errors >= 0)


@pytest.mark.parametrize("name", CLAIMS)
def test_without_minima_or_without_starts_the_claim_is_vacuous(study, name):
    def unsettled(endings):
        return [end._replace(settled=False) for end in endings]

    for relabel in (unsettled, lambda endings: ()):
        changed = replace(study, relabel=relabel)
        assert check(CLAIMS[name], changed).verdict is Verdict.VACUOUS


# --- starts and endings ----------------------------------------------------------------------


def test_a_full_census_has_enough_starts_of_every_kind():
    every = studies.build(SEEDS, quick=False).runs.starts
    assert len(set(every)) == len(every) >= 256
    for field, values in (("scale", starts.SCALES), ("optimizer", starts.OPTIMIZERS)):
        assert {getattr(start, field) for start in every} == set(values)
    assert {start.ratio for start in every} == set(starts.DRAWS)
    assert min(start.cosine for start in every) < 0 < max(start.cosine for start in every)


def test_starts_are_drawn_afresh_and_have_their_scale(study):
    widest = starts.N * max(starts.DRAWS)
    weights = {start: starts.draw_start(start, widest)[0] for start in study.runs.starts}
    assert len({w.tobytes() for w in weights.values()}) == len(weights)
    for scale in starts.SCALES:
        columns = [w[:, :, 0] for start, w in weights.items() if start.scale == scale]
        mean_square = np.mean(np.sum(np.square(columns), axis=-1))
        assert mean_square == pytest.approx(scale**2, rel=0.1)
    for start, w in weights.items():
        assert not w[:, :, start.width :].any()


@pytest.mark.parametrize("cosine", starts.COSINES)
def test_samples_have_the_cosine_and_margin(cosine):
    x = starts.equiangular(cosine)
    off_diagonal = ~np.eye(len(x), dtype=bool)
    np.testing.assert_allclose((x @ x.T)[off_diagonal], cosine, atol=1e-12)
    np.testing.assert_allclose(np.diag(x @ x.T), 1, rtol=1e-12)
    expected = min(1.0, -cosine) / starts.SIGMA
    prediction = predict_memorization(x, starts.SIGMA, starts.LAM)
    assert prediction.margin == pytest.approx(expected, abs=1e-9)
    assert studies.margin(cosine) == pytest.approx(expected, abs=1e-12)


def test_descents_lower_the_loss_and_keep_zero_columns(study):
    for start, end in study.runs.reached.items():
        if start.optimizer == "lbfgs" or start.seed > 0:
            continue
        assert np.isfinite(end).all()
        assert not end[:, :, start.width :].any()
        before = loss_of(starts.draw_start(start, end.shape[2])[0], start.cosine)
        assert loss_of(end, start.cosine) < before


def loss_of(weights, cosine):
    """Mean over 64 draws of the noise, in NumPy."""
    x = starts.equiangular(cosine)
    noise = np.random.default_rng(0).standard_normal((64, *x.shape))
    output = np.maximum((x + starts.SIGMA * noise) @ weights[0], 0) @ weights[1].T
    square = np.mean(np.sum((output - x) ** 2, axis=-1))
    return square + starts.LAM * np.sum(weights**2)


def test_an_ending_does_not_depend_on_the_others(study):
    alone = next(
        end
        for end in study.endings
        if end.start.optimizer == "lbfgs" and end.minimum.kind == "split"
    )
    (again,) = starts.solved([alone.start], [study.runs.reached[alone.start]])
    assert again.settled
    assert again.minimum.loss == pytest.approx(alone.minimum.loss, rel=1e-10)
    assert again.minimum.gates == alone.minimum.gates


@pytest.mark.parametrize("stored", [0, 1, 3, 4])
def test_loss_of_a_subset_is_that_of_the_net_without_the_other_columns(stored):
    x = starts.equiangular(-0.2)
    prediction = predict_memorization(x, starts.SIGMA, starts.LAM)
    keep = np.arange(len(x)) < stored
    net = replace(prediction, w1=prediction.w1 * keep, w2=prediction.w2 * keep)
    predicted = subset_loss(prediction, keep)
    assert studies.net_loss(net, x) == pytest.approx(predicted, rel=1e-9)


def test_kinds_and_losses_of_the_endings_are_as_the_figure_shows_them(study):
    arrays = study.arrays
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
    arrays = study.arrays
    chosen = (arrays["ratio"] == 1) & (arrays["cosine"] < 0)
    flags = study.flags(studies.of_ratio(1, studies.is_negative), studies.in_weights)
    assert flags == arrays["memorizes_weights"][chosen].tolist()
    others = arrays["kind"] != KINDS.index("forgetful")
    shares = [np.mean(others[chosen & (arrays["seed"] == seed)]) for seed in SEEDS]
    measured = CLAIMS["untypical-n"].measure(study)
    np.testing.assert_allclose(measured.errors, shares)
    assert measured.cases * len(SEEDS) == np.sum(chosen)
