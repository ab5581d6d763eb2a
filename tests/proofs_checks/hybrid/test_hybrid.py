"""The hybrid regime beyond its verdicts: clusters that are found, data that make it vacuous."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory import InputError
from dae_theory.weights.read import SavedWeights
from proofs_checks import hybrid
from proofs_checks.blocks import TIGHT_MARGIN, predict_on
from proofs_checks.claims import Verdict, check
from proofs_checks.config import RunConfig
from proofs_checks.hybrid.experiment import (
    COUNTS,
    NORMS,
    REPEATED_DECAY,
    REPEATED_SIGMA,
    build,
    duplicated_clusters,
    from_weights,
    hybrid_labels,
    hybrid_widths,
    repeated_problem,
)
from proofs_checks.monte_carlo import TRAINED_MARGIN
from proofs_checks.nets import Nets, with_scaled_columns


def built(**settings):
    return build(RunConfig("hybrid", quick=True, **settings), lambda what, done, total: None)


@pytest.fixture(scope="module")
def experiment():
    return built().draws[0]


def test_duplicates_are_clusters_of_their_own(experiment):
    x_ND = experiment.problem.x[np.random.default_rng(0).permutation(200)]
    labels_N, note = hybrid_labels(x_ND, None)
    assert note.startswith("2 duplicated samples found")
    duplicated_K = duplicated_clusters(x_ND, labels_N)
    assert duplicated_K[:2].all()
    assert not duplicated_K[2:].any()
    assert [len(np.unique(x_ND[labels_N == k], axis=0)) for k in range(2)] == [1, 1]


def test_the_default_data_have_a_name():
    by_name = built(data="mixture", n=30).draws[0]
    np.testing.assert_array_equal(by_name.problem.x, built(n=30).draws[0].problem.x)
    assert by_name.tight is not by_name.problem


def test_one_unit_for_each_duplicate():
    mixed = np.array([True, False, True, False])
    assert hybrid_widths(9, mixed) == (1, 4, 1, 3)
    assert hybrid_widths(1, mixed) == (1, 0, 1, 0)
    assert hybrid_widths(7, np.array([True, True])) == (1, 1)


def test_positively_correlated_data_are_vacuous_and_train_nothing(experiment):
    x_ND = 1 + 0.1 * np.random.default_rng(0).standard_normal((30, 12))
    problem = replace(experiment.problem, x=x_ND, labels=np.arange(30) % 4)
    correlated = replace(experiment, problem=problem, tight=problem, repeated=None)
    for claim in hybrid.CLAIMS:
        result = check(claim, correlated)
        assert result.verdict is Verdict.VACUOUS
        assert result.assumptions["beta"].value > 0
    assert not correlated.training.done


def test_without_duplicates_or_without_a_rest_nothing_is_claimed(experiment):
    for duplicated in (False, True):
        one_kind = replace(experiment, duplicated=np.full(4, duplicated))
        for claim in hybrid.CLAIMS:
            assert "share of duplicated clusters" in check(claim, one_kind).unmet
    assert not experiment.training.done


def test_weights_by_the_formula_are_verified(experiment):
    p = predict_on(experiment.tight)
    given = from_weights(SavedWeights(p.w1, p.w2, replace(experiment.tight, widths=None)))
    assert given.problem.widths == experiment.tight.widths
    assert all(check(claim, given).verdict is claim.expected for claim in hybrid.CLAIMS)
    assert given.arrays["duplicated"].tolist() == [True, True, False, False]


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match="n: 4 unequal clusters need five times as many, got 7"):
        built(n=7)


def test_repeated_samples_occur_unequally_often():
    p = repeated_problem(3)
    assert np.bincount(p.labels).tolist() == list(COUNTS)
    assert len(np.unique(p.x, axis=0)) == len(COUNTS)
    np.testing.assert_allclose(np.unique(np.linalg.norm(p.x, axis=1).round(9)), NORMS)
    # nλ/n_ℓ of the rarest, relative to its squared norm.
    shrinkage = len(p.x) * p.lam / COUNTS[0] / NORMS[0] ** 2
    np.testing.assert_allclose(shrinkage, REPEATED_DECAY)
    assert predict_on(p).margin > TRAINED_MARGIN


def test_gains_of_duplicates_require_a_minimum_of_their_own_nets(experiment):
    """Nets on the repeated samples are not judged short of a minimum, wherever others are."""
    p, tight = experiment.repeated, experiment.tight_stored
    np.testing.assert_allclose(predict_on(tight).margin, TIGHT_MARGIN)
    ends = predict_on(p)
    nets = Nets(ends.w1[None], ends.w2[None])
    (claim,) = (c for c in hybrid.CLAIMS if c.id == "cor3.4/duplicate-gains")
    others = with_scaled_columns(nets, np.ones((1, ends.w1.shape[1]), bool), 1.1, 1.1)
    for stored, verdict in ((nets, Verdict.HOLDS), (others, Verdict.VACUOUS)):
        result = check(claim, replace(experiment, replaced_repeated=stored))
        assert result.verdict is verdict
    assert list(result.unmet) == ["movement left on repeated samples"]
    assert not experiment.training.done


def test_both_data_sets_of_a_draw_are_trained_together():
    drawn = built(seeds=3)
    training = drawn.draws[0].training
    assert [len(x_ND) for x_ND in training.data_sets] == [200, 168] * 3
    assert training.levels[1] == (REPEATED_SIGMA, drawn.draws[0].repeated.lam)
    assert not training.done
