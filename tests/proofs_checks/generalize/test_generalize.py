"""Generalization beyond its verdicts: its data, and data on which the theory says little."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dae_theory import InputError
from dae_theory.data import separable_mixture
from dae_theory.weights.read import SavedWeights
from proofs_checks import generalize
from proofs_checks.blocks import predict_on
from proofs_checks.claims import Verdict, check
from proofs_checks.config import RunConfig
from proofs_checks.generalize.experiment import build, from_weights
from proofs_checks.report import as_dict


def built(**settings):
    return build(RunConfig("generalize", quick=True, **settings), lambda what, done, total: None)


@pytest.fixture(scope="module")
def experiment():
    return built().draws[0]


def test_default_samples_are_those_of_unequal_known_mixtures():
    drawn = built(seeds=2, first_seed=7)
    for seed, draw in zip((7, 8), drawn.draws, strict=True):
        mixture = separable_mixture(
            3, 48, rank=4, beta=-0.5, alpha=0.15, priors=(0.5, 0.3, 0.2), seed=seed
        )
        x_ND, labels_N = mixture.sample(seed, 160)
        np.testing.assert_array_equal(draw.problem.x, x_ND)
        np.testing.assert_array_equal(draw.problem.labels, labels_N)
        assert np.bincount(labels_N).tolist() == [80, 48, 32]
        np.testing.assert_array_equal(draw.mixture.covs, mixture.covs)
    assert drawn.draws[0].training is drawn.draws[1].training
    assert drawn.draws[0].training.seeds == ((7,),) * 4 + ((8,),) * 4


def test_fresh_samples_of_two_draws_are_others():
    first, second = built(seeds=2).draws
    seeds = {draw.sample_seed(i) for draw in (first, second) for i in range(300)}
    assert len(seeds) == 600
    assert not np.array_equal(first.fresh[0][0], second.fresh[0][0])


def test_the_default_data_have_a_name():
    by_name = built(data="mixture", n=30).draws[0]
    np.testing.assert_array_equal(by_name.problem.x, built(n=30).draws[0].problem.x)
    assert by_name.mixture is not None
    assert by_name.tight is not by_name.problem


def test_positively_correlated_data_are_vacuous_and_train_nothing(experiment):
    x_ND = 1 + 0.1 * np.random.default_rng(0).standard_normal((30, 12))
    problem = replace(experiment.problem, x=x_ND, labels=np.arange(30) % 3)
    correlated = replace(experiment, problem=problem, tight=problem)
    for claim in generalize.CLAIMS:
        result = check(claim, correlated)
        assert result.verdict is Verdict.VACUOUS
        assert result.assumptions["beta"].value > 0
    assert not correlated.training.done


def test_one_sample_a_cluster_is_as_expected_and_reported(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    experiment = built(data=str(tmp_path / "x.npy"), seeds=2)
    results = [check(claim, experiment) for claim in generalize.CLAIMS]
    assert all(result.as_expected for result in results)
    config, by_regime = RunConfig("generalize"), {"generalize": experiment.settings}
    report = as_dict(results, config, "run", by_regime, {"generalize": experiment.data}, 0.0)
    assert len(json.loads(json.dumps(report, allow_nan=False))["claims"]) == len(results)


def test_weights_are_compared_where_their_distribution_and_training_do_not_matter(experiment):
    p = predict_on(experiment.tight)
    given = from_weights(SavedWeights(p.w1, p.w2, replace(experiment.tight, widths=None)))
    assert given.problem.widths == experiment.tight.widths
    for claim in generalize.CLAIMS:
        expected = Verdict.HOLDS if claim.id.startswith("thm3.1/") else Verdict.VACUOUS
        assert check(claim, given).verdict is expected, claim.id
    assert "memorizing_w1" not in given.arrays


def test_too_few_samples_are_refused(tmp_path):
    with pytest.raises(InputError, match="n: 3 clusters need at least as many samples, got 2"):
        built(n=2)
    np.save(tmp_path / "x.npy", np.ones((1, 4)))
    single = built(data=str(tmp_path / "x.npy"), center=False)
    with pytest.raises(InputError, match="n: two disjoint halves need at least two samples"):
        _ = single.nets
