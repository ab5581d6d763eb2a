"""Memorization beyond its verdicts: data on which the theory says nothing, and a converse."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory import InputError
from dae_theory.data import Dataset
from dae_theory.data.mixtures import simplex
from dae_theory.diffusion.denoisers import empirical_denoiser
from dae_theory.relu.model import denoise
from dae_theory.theory.problem import Problem
from proofs_checks import memorize
from proofs_checks.claims import Verdict, check
from proofs_checks.config import FIRST_JUDGING_SEED, RunConfig
from proofs_checks.draws import DEVELOPED, DEVELOPMENT, chosen_by, drawn_samples
from proofs_checks.memorize.experiment import (
    DEFAULT_N,
    NOISY_SHARE,
    Memorization,
    build,
    gaussian_inputs,
    on_noisy_samples,
    shrinkage_and_noise,
)
from proofs_checks.monte_carlo import EXACT_MARGIN, TRAINED_MARGIN, noised


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
    assert len(drawn.data) == 4  # each with noisy samples beside it


def test_pools_differ_between_seeds():
    (faces, first), (_, second) = drawn_samples(0, 5), drawn_samples(2, 5)
    assert faces.name == "faces"
    assert set(first) != set(second)


def test_judging_seeds_choose_no_image_that_development_chose():
    assert chosen_by(DEVELOPMENT, DEFAULT_N) == DEVELOPED
    seeds = RunConfig("memorize").data_seeds
    assert min(seeds) == FIRST_JUDGING_SEED
    for seed in seeds:
        dataset, pool_M = drawn_samples(seed, 5)
        assert not set(pool_M) & set(DEVELOPED[dataset.name])


def test_more_samples_than_development_left_are_refused():
    assert len(drawn_samples(0, 100)[1]) == 100
    with pytest.raises(InputError, match="n: faces has 66 samples, asked for 67"):
        drawn_samples(FIRST_JUDGING_SEED, 67)


def test_noisy_samples_differ_and_stay_separable():
    first, second = on_noisy_samples(0), on_noisy_samples(1)
    for e in (first, second):
        assert e.noise > NOISY_SHARE
        assert e.z > TRAINED_MARGIN
        assert len(set(np.linalg.norm(e.problem.x, axis=1).round(6))) == len(e.problem.x)
    assert not np.allclose(
        first.problem.x @ first.problem.x.T, second.problem.x @ second.problem.x.T
    )


def test_both_halves_of_the_distance_to_the_empirical_denoiser_are_those_of_samples():
    """Mean and spread, over noise, of the distance of (5) to f_emp, where both are large."""
    x_ND = simplex(3, 6).x * np.array([[1.0], [1.3], [1.7]])
    problem = Problem(x_ND, 0.1, 0.02)
    e = Memorization(problem, problem, 3, gaussian_inputs(x_ND), Dataset("", x_ND), "")
    y = noised(x_ND, problem.sigma, draws=40_000)
    answers = denoise(e.prediction.w1, e.prediction.w2, y)
    distance = np.asarray(answers - empirical_denoiser(x_ND)(y, problem.sigma)).reshape(-1, 3, 6)
    shrinkage, noise = np.mean(distance, axis=0), np.std(distance, axis=0)
    measured = [np.linalg.norm(half) / np.linalg.norm(x_ND) for half in (shrinkage, noise)]
    np.testing.assert_allclose(shrinkage_and_noise(e), measured, rtol=0.02)
