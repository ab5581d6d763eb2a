"""Memorization beyond its verdicts: data on which the theory says nothing, and a converse."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory.data.mixtures import simplex
from proofs_checks import memorize
from proofs_checks.claims import Verdict, check
from proofs_checks.config import RunConfig
from proofs_checks.draws import drawn_samples
from proofs_checks.memorize.experiment import build
from proofs_checks.monte_carlo import EXACT_MARGIN, TRAINED_MARGIN


@pytest.fixture(scope="module")
def experiment():
    config = RunConfig("memorize", quick=True, data="simplex", n=4, p=40, sigma=0.02, lam=0.005)
    return build(config, lambda what, done, total: None)


@pytest.mark.slow  # nets are trained for it
def test_claim_expected_to_fail_holds_where_it_should(experiment):
    (claim,) = (c for c in memorize.CLAIMS if c.id == "unseen/f-emp-off-data")
    on_data = replace(experiment, unseen=experiment.problem.x)
    assert check(claim, on_data).verdict is Verdict.HOLDS


ALIKE = 1 + 0.1 * np.random.default_rng(0).standard_normal((5, 12))
ONE_PAIR = np.vstack([simplex(4, 12).x, simplex(4, 12).x[:1] + 0.1])  # most cosines are negative


@pytest.mark.parametrize("x_ND", [ALIKE, ONE_PAIR], ids=["alike", "one pair"])
def test_positively_correlated_data_are_vacuous_and_train_nothing(experiment, x_ND):
    correlated = replace(
        experiment,
        problem=replace(experiment.problem, x=x_ND, lam=1e-3),
        tight=replace(experiment.problem, x=x_ND, lam=1e-3),
        training=replace(experiment.training, data_sets=(x_ND,)),
    )
    for claim in memorize.CLAIMS:
        result = check(claim, correlated)
        assert result.verdict is Verdict.VACUOUS
        assert result.assumptions["beta"].value > 0
    assert not correlated.training.done


def test_fewer_units_than_samples_are_vacuous():
    config = RunConfig("memorize", quick=True, data="simplex", n=4, p=3)
    narrow = build(config, lambda what, done, total: None)
    assert {check(claim, narrow).verdict for claim in memorize.CLAIMS} == {Verdict.VACUOUS}
    assert narrow.arrays.keys() >= {"x", "sigma", "lam"}


def test_default_data_sets_are_drawn_from_two_kinds_and_separable():
    drawn = build(RunConfig("memorize", seeds=2), lambda what, done, total: None)
    faces, patches = drawn.draws
    assert (faces.dataset.name, patches.dataset.name) == ("faces", "patches")
    assert faces.problem.x.shape == patches.problem.x.shape == (5, 625)
    for draw in drawn.draws:
        assert draw.z > TRAINED_MARGIN
        assert draw.tight_z > EXACT_MARGIN
        assert not any(np.all(draw.unseen == x_D, axis=1).any() for x_D in draw.problem.x)
    assert not faces.training.done
    assert drawn.settings["z"].startswith(f"{np.median([faces.z, patches.z]):.2f} (median of 2")
    assert len(drawn.data) == 2


def test_pools_differ_between_seeds():
    (faces, first), (_, second) = drawn_samples(0, 5), drawn_samples(2, 5)
    assert faces.name == "faces"
    assert set(first) != set(second)
