"""How a verdict follows from what was measured, and which assumptions are looked at."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest

from proofs_checks.claims import (
    Claim,
    Kind,
    Measured,
    Mutant,
    Verdict,
    above,
    at_least,
    below,
    check,
    given,
    judge,
)


def verdict_of(errors, tolerance=1.0):
    return judge(Measured(0.0, 0.0, np.array(errors, float)), tolerance)


def test_verdict_follows_the_interval():
    assert verdict_of([0.5]) is Verdict.HOLDS
    assert verdict_of([1.5]) is Verdict.FAILS
    assert verdict_of([0.5, 0.6, 0.7]) is Verdict.HOLDS
    assert verdict_of([1.5, 1.6, 1.7]) is Verdict.FAILS
    assert verdict_of([0.2, 1.9, 0.4, 1.8]) is Verdict.INCONCLUSIVE
    # All far above, by different factors: the interval of their mean reaches below 1.
    assert verdict_of([4.0, 4.5, 5.0, 16.0]) is Verdict.FAILS
    assert verdict_of([np.nan]) is Verdict.FAILS
    assert verdict_of([]) is Verdict.FAILS


def measured(errors, **fields):
    return Measured(0.0, 0.0, np.array(errors, float), **fields)


def test_signed_errors_are_judged_by_the_size_of_their_mean():
    differences = [0.9, -1.0, 0.8, -0.7, 1.1, -0.9, 0.6, -0.8]
    assert judge(measured(differences, signed=True), 0.9) is Verdict.HOLDS
    assert judge(measured(np.abs(differences)), 0.9) is not Verdict.HOLDS
    assert judge(measured([-2.0, -2.1, -1.9], signed=True), 1.0) is Verdict.FAILS
    assert judge(measured([-2.0, -2.1, -1.9], signed=True), 2.0) is Verdict.INCONCLUSIVE
    assert judge(measured([-2.0], signed=True), 1.0) is Verdict.FAILS
    found = measured([-2.0, -2.2], signed=True)
    assert found.error == pytest.approx(-2.1)
    assert found.interval.low < -2.1 < found.interval.high < 0


def test_counts_of_none_have_an_interval():
    assert measured(np.zeros(8), cases=1).interval.high == pytest.approx(1 - 0.025 ** (1 / 8))
    assert judge(measured(np.zeros(8), cases=1), 0.3) is Verdict.INCONCLUSIVE
    # Nobody told the last ones that they are counts: the registry lets no such claim pass.
    assert measured(np.zeros(8)).interval == (0, 0, 0)


def test_areas_of_one_have_an_interval():
    of_eight = measured(np.zeros(8), pairs=(16, 400))
    assert 0 < of_eight.interval.high < 0.1
    assert judge(of_eight, 0.05) is Verdict.INCONCLUSIVE
    assert judge(of_eight, 0.1) is Verdict.HOLDS
    alone = measured([0.0], pairs=(16, 400))
    assert alone.interval == of_eight.interval
    assert measured([0.0]).interval is measured([0.0], cases=4).interval is None
    assert judge(measured([np.nan], pairs=(16, 400)), 1.0) is Verdict.FAILS


def test_a_note_has_its_details():
    assert measured([0.0], note="{a:.1f} of {{1, 2}}", details={"a": 0.5}).words == "0.5 of {1, 2}"
    assert measured([0.0], note="{a}").words == "{a}"


@dataclass(frozen=True)
class Experiment:
    size: float
    nets_allowed: bool = True

    @cached_property
    def nets(self):
        assert self.nets_allowed, "trained although an assumption is not met"
        return self.size

    @property
    def half(self):
        return replace(self, size=self.size / 2)


def measure(e: Experiment) -> Measured:
    return Measured(e.size, 1.0, np.array([abs(e.size - 1)]))


CLAIM = Claim(
    id="topic/claim",
    statement="The size is 1.",
    source="docs/THEORY.md#setup",
    requires=(
        at_least("size", 0.5, lambda e: e.size),
        above("nets", 0, lambda e: e.nets, needs_others=True),
    ),
    measure=measure,
    tolerance=0.1,
    mutants=(Mutant("twice the size", lambda e: replace(e, size=2 * e.size)),),
    kind=Kind.EXACT,
)


def test_a_claim_is_judged_on_its_part_and_fails_on_its_mutant():
    assert check(CLAIM, Experiment(1.0)).verdict is Verdict.HOLDS
    assert check(CLAIM, Experiment(1.0), CLAIM.mutants[0]).verdict is Verdict.FAILS
    of_half = replace(CLAIM, part="half")
    assert check(of_half, Experiment(2.0)).verdict is Verdict.HOLDS
    assert check(of_half, Experiment(2.0), CLAIM.mutants[0]).verdict is Verdict.FAILS


def test_an_unmet_assumption_is_vacuous_and_trains_nothing():
    result = check(CLAIM, Experiment(0.4, nets_allowed=False))
    assert result.verdict is Verdict.VACUOUS
    assert list(result.assumptions) == list(result.unmet) == ["size"]
    assert result.as_expected
    assert np.isnan(result.measured.error)


def test_any_verdict_is_expected_of_a_claim_that_is_left_open_but_none():
    left_open = replace(CLAIM, expected=Verdict.INCONCLUSIVE)
    assert check(left_open, Experiment(1.0)).as_expected
    assert check(left_open, Experiment(1.0), CLAIM.mutants[0]).as_expected
    assert not check(left_open, Experiment(0.4), may_be_vacuous=False).as_expected


@dataclass(frozen=True)
class Several:
    draws: tuple[Experiment, ...]


def test_a_claim_is_judged_over_data_sets_that_meet_its_assumptions():
    sizes = (1.0, 1.02, 0.3, 1.01)
    result = check(CLAIM, Several(tuple(map(Experiment, sizes))))
    assert result.verdict is Verdict.HOLDS
    np.testing.assert_allclose(result.measured.errors, [0, 0.02, 0.01])
    assert result.measured.words == "3 data sets, 1 left out: not met there"
    twice = check(CLAIM, Several(tuple(map(Experiment, sizes))), CLAIM.mutants[0])
    assert twice.verdict is Verdict.FAILS
    assert twice.measured.errors.size == 3  # assumptions are measured before a mutant is applied


def test_where_most_data_sets_meet_no_assumption_nothing_is_said():
    few = Several(tuple(map(Experiment, (1.0, 0.2, 0.3))))
    assert check(CLAIM, few).verdict is Verdict.VACUOUS


def test_errors_of_one_data_set_are_averaged_over_its_seeds():
    def two_seeds(e: Experiment) -> Measured:
        note, details = "{size:.2f}", {"size": e.size}
        return Measured(e.size, 1.0, np.array([e.size, 0.0]), (1, 2), note, details=details)

    claim = replace(CLAIM, measure=two_seeds)
    found = check(claim, Several((Experiment(1.0), Experiment(3.0)))).measured
    assert found.errors.tolist() == [0.5, 1.5]
    assert found.words == "2.00; 2 data sets"
    assert check(claim, Several((Experiment(1.0),))).measured.errors.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("requirement", "met", "unmet", "words"),
    [
        (at_least("a", 6.0, lambda v: v), 6.0, 5.9, ">= 6"),
        (above("a", 0, lambda v: v), 0.1, 0.0, "> 0"),
        (below("a", 1, lambda v: v), 0.9, 1.0, "< 1"),
        (given("a", "known", lambda v: v is not None), 1, None, "known"),
    ],
)
def test_requirements_say_what_they_demand(requirement, met, unmet, words):
    assert requirement.required == words
    assert requirement.met(requirement.value(met))
    assert not requirement.met(requirement.value(unmet))


def test_a_claim_says_where_its_measurement_stands():
    path, _, line = CLAIM.location.rpartition(":")
    assert path == "tests/proofs_checks/test_claims.py"
    assert int(line) == measure.__code__.co_firstlineno
