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
    assert verdict_of([np.nan]) is Verdict.FAILS
    assert verdict_of([]) is Verdict.FAILS


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
