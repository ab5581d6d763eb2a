"""What a claim is, and how a verdict follows from what was measured.

A claim is data: a sentence with its source, the assumptions it requires, a measurement, a
tolerance, and mutants: changes to the experiment (perturbed weights, wrong σ, a misprinted
formula) on which its verdict must be `fails`. A claim that cannot fail says nothing.
"""

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dae_theory.statistics import Interval, bootstrap_mean


class Verdict(StrEnum):
    """Outcome of a claim on the data at hand."""

    HOLDS = "holds"
    FAILS = "fails"
    VACUOUS = "vacuous"
    INCONCLUSIVE = "inconclusive"


class Kind(StrEnum):
    """What a verdict is worth as evidence.

    EXACT: nothing is random, and the tolerance is rounding. CONFIRMATORY: the tolerance was fixed
    before the data that judge it were looked at. EXPLORATORY: it was chosen after looking; the
    claim is reported, and never counted as evidence.
    """

    EXACT = "exact"
    CONFIRMATORY = "confirmatory"
    EXPLORATORY = "exploratory"


@dataclass(frozen=True)
class Requirement:
    """An assumption of a claim.

    Attributes:
      name, required: what is measured, and what is required of it in words.
      value: measures it on the experiment.
      met: whether a measured value meets it.
      needs_others: it is measured only where the requirements before it are met, because it is
        expensive or looks at trained nets.
      advice: what to do where it is not met, in words.
    """

    name: str
    required: str
    value: Callable[[Any], float]
    met: Callable[[float], bool]
    needs_others: bool = False
    advice: Callable[[Any], str] | None = None


def at_least(
    name: str, bound: float, value: Callable[[Any], float], needs_others: bool = False
) -> Requirement:
    """The value must be ``bound`` or more."""
    return Requirement(name, f">= {bound:g}", value, lambda v: v >= bound, needs_others)


def above(
    name: str, bound: float, value: Callable[[Any], float], needs_others: bool = False
) -> Requirement:
    """The value must be more than ``bound``."""
    return Requirement(name, f"> {bound:g}", value, lambda v: v > bound, needs_others)


def below(
    name: str, bound: float, value: Callable[[Any], float], needs_others: bool = False
) -> Requirement:
    """The value must be less than ``bound``."""
    return Requirement(name, f"< {bound:g}", value, lambda v: v < bound, needs_others)


def given(
    name: str, required: str, is_given: Callable[[Any], bool], needs_others: bool = False
) -> Requirement:
    """Something must be there: ``required`` says what, in words."""
    return Requirement(name, required, lambda e: float(is_given(e)), bool, needs_others)


@dataclass(frozen=True)
class Measured:
    """What a claim's measurement found.

    Attributes:
      measured, predicted: the quantity in question, averaged over seeds.
      errors: (S,) distance between the two (or shortfall), one entry an independent seed; a
        single entry is a deterministic measurement. Never negative.
      seeds: the seeds averaged over; empty when no randomness is left.
      note: one line for the reader.
    """

    measured: float
    predicted: float
    errors: Float[np.ndarray, " S"]
    seeds: tuple[int, ...] = ()
    note: str = ""

    @property
    def error(self) -> float:
        """Mean error over seeds."""
        return float(np.mean(self.errors)) if np.size(self.errors) else float("nan")

    @property
    def interval(self) -> Interval | None:
        """95% interval of the mean error over seeds; None for fewer than two."""
        return bootstrap_mean(self.errors)


def average(values: Sequence[float]) -> float:
    """The mean; NaN of nothing, with which no claim holds."""
    return float(np.mean(values)) if len(values) else float("nan")


NOT_MEASURED = Measured(np.nan, np.nan, np.array([np.nan]))


@dataclass(frozen=True)
class Mutant:
    """A change of what a claim is about, under which the claim must fail."""

    name: str
    apply: Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence of the theory and how it is checked.

    Attributes:
      id, statement: unique name, and the sentence.
      source: link to where the theory says so, docs/THEORY.md#anchor.
      requires: assumptions; where one is not met the verdict is vacuous.
      measure: the measurement, on the experiment or on its ``part``.
      tolerance: largest error with which the claim holds.
      mutants: changes on which it must fail.
      kind: what its verdict is worth as evidence.
      expected: the verdict we believe in.
      part: attribute of the regime's experiment that the claim is about; empty for all of it.
      slow: checking it takes a minute or more on two cores; its tests are run by hand.
    """

    id: str
    statement: str
    source: str
    measure: Callable[[Any], Measured]
    tolerance: float
    mutants: tuple[Mutant, ...]
    kind: Kind
    requires: tuple[Requirement, ...] = ()
    expected: Verdict = Verdict.HOLDS
    part: str = ""
    slow: bool = False

    @property
    def location(self) -> str:
        """file:line of the measurement, beside which the claim stands."""
        code = inspect.unwrap(self.measure).__code__
        root = Path(__file__).resolve().parents[1]
        return f"{Path(code.co_filename).relative_to(root)}:{code.co_firstlineno}"


@dataclass(frozen=True)
class Assumption:
    """Measured value of a requirement, whether it is met, and what to do where it is not."""

    value: float
    required: str
    met: bool
    advice: str = ""


@dataclass(frozen=True)
class Result:
    """A claim with what was measured and its verdict.

    Attributes:
      wall_s: seconds to check it, training included where this claim was the first to ask for nets.
      may_be_vacuous: the claim need not speak of these data, because the user chose them.
    """

    claim: Claim
    assumptions: dict[str, Assumption]
    measured: Measured
    verdict: Verdict
    wall_s: float
    may_be_vacuous: bool = True

    @property
    def as_expected(self) -> bool:
        """The verdict is the expected one, or the claim says nothing on data that it need not
        speak of."""
        is_vacuous = self.verdict is Verdict.VACUOUS
        return self.may_be_vacuous if is_vacuous else self.verdict is self.claim.expected

    @property
    def unmet(self) -> dict[str, Assumption]:
        """The assumptions that are not met."""
        return {name: a for name, a in self.assumptions.items() if not a.met}


def check(
    claim: Claim, experiment: Any, mutant: Mutant | None = None, *, may_be_vacuous: bool = True
) -> Result:
    """Check one claim on its regime's experiment, changed by a mutant if one is given.

    Assumptions are measured on the experiment as it is: a mutant is an error that somebody makes
    where they are met, and must not escape its judgement by breaking one.
    """
    start = time.monotonic()
    subject = getattr(experiment, claim.part) if claim.part else experiment
    assumptions = measure_assumptions(claim.requires, subject)
    if all(assumption.met for assumption in assumptions.values()):
        measured = claim.measure(subject if mutant is None else mutant.apply(subject))
        verdict = judge(measured, claim.tolerance)
    else:
        advice = "; ".join(a.advice for a in assumptions.values() if a.advice)
        measured, verdict = replace(NOT_MEASURED, note=advice), Verdict.VACUOUS
    wall_s = time.monotonic() - start
    return Result(claim, assumptions, measured, verdict, wall_s, may_be_vacuous)


def measure_assumptions(requires: Sequence[Requirement], subject: Any) -> dict[str, Assumption]:
    """Every requirement by name, but for those that need others which are not met."""
    assumptions: dict[str, Assumption] = {}
    for requirement in requires:
        if requirement.needs_others and not all(a.met for a in assumptions.values()):
            continue
        value = float(requirement.value(subject))
        met = bool(requirement.met(value))
        gives_advice = not met and requirement.advice is not None
        advice = requirement.advice(subject) if gives_advice else ""
        assumptions[requirement.name] = Assumption(value, requirement.required, met, advice)
    return assumptions


def judge(measured: Measured, tolerance: float) -> Verdict:
    """By the mean error, or by its 95% interval over seeds."""
    if not np.isfinite(measured.error):
        return Verdict.FAILS
    interval = measured.interval
    low, high = (measured.error,) * 2 if interval is None else (interval.low, interval.high)
    if high <= tolerance:
        return Verdict.HOLDS
    return Verdict.FAILS if low > tolerance else Verdict.INCONCLUSIVE
