"""Claims on deep models: values by hand on made-up cases; verdicts and mutants on the study."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dae_theory.steer.metrics import probability
from dae_theory.steer.study.settings import GENERALIZED, MAIN, MEMORIZED
from dae_theory.steer.study.store import Case
from proofs_checks.claims import Verdict, check
from proofs_checks.steer import deep_models, deep_study


class Regime:
    """What the claims look at."""

    deep = deep_study.build()


CLAIMS = {claim.id: claim for claim in deep_models.CLAIMS}


@pytest.mark.parametrize("name", CLAIMS)
def test_verdicts_are_as_expected_and_every_mutant_fails(name):
    claim = CLAIMS[name]
    assert claim.part == "deep"
    assert check(claim, Regime()).verdict is claim.expected
    for mutant in claim.mutants:
        assert check(claim, Regime(), mutant).verdict is Verdict.FAILS, mutant.name


def made_up(score, path, copied=False):
    odds = np.array(score, float)[:, None] * np.ones((1, 2))
    arrays = {
        "log_odds": odds,
        "path": np.array(path, float)[:, None] * np.ones((1, 2)),
        "copy": np.full(odds.shape, copied),
        "realism": np.zeros(len(odds)),
    }
    return Case("m", MAIN, GENERALIZED, "bag", (-1.0, -0.5, 0.0, 0.5, 1.0), arrays)


def test_values_of_a_case():
    case = made_up([0, 1, 2, 4, 3], [1, 1, 1, 3])
    assert deep_study.trajectories(case) == pytest.approx(0.9)
    assert deep_study.curve(case) == pytest.approx(0.9)
    assert deep_study.first_share(case) == pytest.approx(0.25)
    assert deep_study.largest_share(case) == pytest.approx(0.5)
    copied = made_up([0] * 5, [1] * 4, copied=True)
    copied.arrays["copy"][3] = False
    assert deep_study.left_at(0.5, 1.0)(copied) == pytest.approx(0.5)
    assert deep_study.left_at(0.5, -1.0)(copied) == 1  # all too far from real images
    assert deep_study.left_at(0.5, 1.0)(deep_study.made_noise(copied)) == 1
    assert deep_study.sign_flipped(case).arrays["log_odds"][:, 0].tolist() == [3, 4, 2, 1, 0]
    assert deep_study.groups_exchanged(case).group == MEMORIZED


def test_values_of_probabilities():
    # One start falls where the classifier cannot tell, the other half as often as it rises.
    odds = np.array([[-9.0, -1], [-10, 0], [-2, 1], [1, 0.5], [2, 0]])
    case = replace(made_up([0] * 5, [1] * 4), arrays={"log_odds": odds})
    rises = [1, (6 - 3) / 9]  # of the second start's ten pairs three fall and one does not differ
    assert deep_study.changes(case) == pytest.approx(np.mean(rises))
    ends = probability(odds[[0, -1]])
    assert deep_study.gain(case) == pytest.approx(np.mean(ends[1] - ends[0]))
    flipped = deep_study.sign_flipped(case)
    assert deep_study.gain(flipped) == pytest.approx(-deep_study.gain(case))
    assert deep_study.gain_either_way(flipped) == pytest.approx(deep_study.gain(case))


def test_the_farthest_from_real_images_is_in_units_of_similar_garments():
    near, far = (
        Case("told-dit", MAIN, GENERALIZED, name, (0.0, 1.0), {"realism": np.array([0.1, end])})
        for name, end in (("bag", 1.0), ("dress", 3.0))
    )
    study = SimpleNamespace(cases=(near, far), similar=4.0)
    assert deep_study.farthest(SimpleNamespace(study=study)) == pytest.approx(0.5)


def test_shares_of_concepts_are_counted_by_model():
    found = {("a", "bag"): 0.8, ("a", "coat"): 1.0, ("b", "bag"): 0.9, ("b", "coat"): 0.95}
    mostly = deep_study.mostly_at_least(found, 0.9)
    assert mostly.errors.tolist() == [0.5, 0]
    assert mostly.cases == 2


def test_shortfalls_are_of_models_and_signed():
    found = {("a", "bag"): 0.8, ("a", "coat"): 1.2, ("b", "bag"): 0.7}
    least, most = deep_study.at_least_by(found, 0.9), deep_study.at_most_by(found, 0.9)
    np.testing.assert_allclose(least.errors, [-0.1, 0.2])  # of each model
    np.testing.assert_allclose(most.errors, [0.1, -0.2])
    assert least.measured == most.measured == pytest.approx(1.7 / 2)
    assert least.note == most.note == "a 1.000, b 0.700"
    assert deep_study.difference(found, {("a", "bag"): 0.5}) == pytest.approx({("a", "bag"): 0.3})
