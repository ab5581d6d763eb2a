"""What a claim is, and how a verdict follows from what was measured.

A claim is data: a sentence with its source, the assumptions it requires, a measurement, a
tolerance, and mutants: changes to the experiment (perturbed weights, wrong σ, a misprinted
formula) on which its verdict must be `fails`. A claim that cannot fail says nothing.
"""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dae_theory.statistics import (
    Interval,
    grouped_area_interval,
    grouped_share_interval,
    mean_interval,
)


class Verdict(StrEnum):
    """Outcome of a claim on the data at hand."""

    HOLDS = "holds"
    FAILS = "fails"
    VACUOUS = "vacuous"
    INCONCLUSIVE = "inconclusive"


class Kind(StrEnum):
    """What a verdict is worth as evidence.

    EXACT: nothing is random, and the tolerance is rounding, derived, or an accuracy that was asked
    for. CONFIRMATORY: the tolerance was fixed before the data that judge it were looked at.
    EXPLORATORY: it was chosen after looking, or the data were, or they are those of few models; the
    claim is reported, and never counted as evidence.
    """

    EXACT = "exact"
    CONFIRMATORY = "confirmatory"
    EXPLORATORY = "exploratory"


@dataclass(frozen=True)
class Origin:
    """Where a tolerance comes from: ``how`` it came about, and ``where`` that can be looked up."""

    how: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.how} {self.where}".strip()


ROUNDING = Origin("rounding of float64")
FLOAT32 = Origin("rounding of float32")
ACCURACY = Origin("accuracy that was asked for")
LOOKED = Origin("chosen after looking")
# The commit that fixed tolerances, counts of seeds and settings of generators, with seeds below
# FIRST_JUDGING_SEED, before data sets and starts of any later seed were looked at.
FIXED = Origin(
    "fixed before the judging seeds were used, at commit",
    "fa5815a38db64f108f34fec879e8c3d1af01a020",
)


def derived(link: str) -> Origin:
    """A tolerance that follows from a formula: the link to it, docs/THEORY.md#anchor."""
    return Origin("derived", link)


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
      errors: (S,) distance between the two, or what is missing to a bound (negative where more is
        there than needs be), one entry an independent seed; a single entry is a deterministic
        measurement.
      seeds: the seeds averaged over; empty when no randomness is left.
      note: one line for the reader, in which ``details`` are filled in by name.
      signed: errors are differences with their sign, and so is their mean, of which the tolerance
        bounds the size.
      cases: each error is a share of this many yes-or-no cases (on average); 0 when it is none.
      pairs: positives and negatives of all seeds together, where each error is one minus an area
        under the ROC curve.
      details: numbers of the note, averaged over data sets where there are several.
    """

    measured: float
    predicted: float
    errors: Float[np.ndarray, " S"]
    seeds: tuple[int, ...] = ()
    note: str = ""
    signed: bool = False
    cases: float = 0
    pairs: tuple[int, int] | None = None
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """Mean error over seeds."""
        return average(self.errors)

    @property
    def interval(self) -> Interval | None:
        """95% interval of the error over seeds; None for fewer than two, but of an area, which is
        uncertain in one model, too."""
        if not (np.size(self.errors) and np.all(np.isfinite(self.errors))):
            return None
        if self.pairs:
            area, low, high = grouped_area_interval(1 - np.asarray(self.errors), *self.pairs)
            return Interval(1 - area, 1 - high, 1 - low)
        if self.cases and np.size(self.errors) > 1:
            return grouped_share_interval(self.errors, self.cases)
        return mean_interval(self.errors, symmetric=self.signed)

    @property
    def words(self) -> str:
        """The note with its details."""
        return self.note.format(**self.details) if self.details else self.note


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
      origin: where the tolerance comes from; confirmatory claims must say it, and exact ones
        whose tolerance is not rounding.
      expected: the verdict we believe in; inconclusive leaves the claim open.
      part: attribute of the regime's experiment that the claim is about; empty for all of it.
      slow: checking it takes long for a test that always runs; its tests are run by hand.
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
    origin: Origin | None = None

    @property
    def tolerance_from(self) -> Origin | None:
        """Origin of the tolerance: unless it is given, rounding where nothing is random, and
        looking where the claim is exploratory."""
        by_kind = {Kind.EXACT: ROUNDING, Kind.EXPLORATORY: LOOKED}
        return by_kind.get(self.kind) if self.origin is None else self.origin

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
        """The verdict is the expected one, or any where the claim is left open, or the claim says
        nothing on data that it need not speak of."""
        if self.verdict is Verdict.VACUOUS:
            return self.may_be_vacuous
        return self.claim.expected in (self.verdict, Verdict.INCONCLUSIVE)

    @property
    def unmet(self) -> dict[str, Assumption]:
        """The assumptions that are not met."""
        return {name: a for name, a in self.assumptions.items() if not a.met}


def check(
    claim: Claim, experiment: Any, mutant: Mutant | None = None, *, may_be_vacuous: bool = True
) -> Result:
    """Check one claim on its regime's experiment, changed by a mutant if one is given.

    An experiment with several ``draws``, one a data set, is judged on those that meet the
    assumptions; where fewer than half do, the verdict is vacuous. Assumptions are measured on the
    experiment as it is: a mutant is an error that somebody makes where they are met, and must not
    escape its judgement by breaking one.
    """
    start = time.monotonic()
    whole = getattr(experiment, claim.part) if claim.part else experiment
    draws = getattr(whole, "draws", (whole,))
    assumed = [measure_assumptions(claim.requires, draw) for draw in draws]
    meets = [all(assumption.met for assumption in found.values()) for found in assumed]
    if 2 * sum(meets) >= len(meets):
        usable = [draw for draw, met in zip(draws, meets, strict=True) if met]
        subjects = usable if mutant is None else [mutant.apply(draw) for draw in usable]
        measured = over_data_sets([claim.measure(s) for s in subjects], len(draws))
        verdict = judge(measured, claim.tolerance)
        assumptions = assumed[meets.index(True)]
    else:
        assumptions = assumed[meets.index(False)]
        advice = "; ".join(a.advice for a in assumptions.values() if a.advice)
        measured, verdict = replace(NOT_MEASURED, note=advice), Verdict.VACUOUS
    wall_s = time.monotonic() - start
    return Result(claim, assumptions, measured, verdict, wall_s, may_be_vacuous)


def over_data_sets(found: Sequence[Measured], drawn: int) -> Measured:
    """What was measured on each usable data set of those drawn, as one: an error a data set, the
    mean over its seeds. One data set alone keeps an error a seed."""
    if drawn == 1:
        return found[0]
    first = found[0]
    left_out = drawn - len(found)
    note = f"{len(found)} data sets" + (f", {left_out} left out: not met there" * (left_out > 0))
    return replace(
        first,
        measured=float(np.mean([m.measured for m in found])),
        predicted=float(np.mean([m.predicted for m in found])),
        errors=np.array([average(m.errors) for m in found]),
        seeds=tuple(seed for m in found for seed in m.seeds),
        note=f"{first.note}; {note}" if first.note else note,
        pairs=first.pairs and tuple(np.sum([m.pairs for m in found], axis=0).tolist()),
        details={name: float(np.mean([m.details[name] for m in found])) for name in first.details},
    )


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
    """By the error, or by its 95% interval over seeds.

    A claim fails, too, where the interval of the errors' geometric mean is above the tolerance:
    the mean is no smaller, and errors that differ by factors leave its own interval wide.
    """
    if not np.isfinite(measured.error):
        return Verdict.FAILS
    interval = measured.interval
    if interval is None:
        error = abs(measured.error) if measured.signed else measured.error
        return Verdict.HOLDS if error <= tolerance else Verdict.FAILS
    low, high = interval.low, interval.high
    if measured.signed:  # of the size of the error
        low, high = max(low, -high), max(high, -low)
    if high <= tolerance:
        return Verdict.HOLDS
    is_of_size = not (measured.signed or measured.cases or measured.pairs)
    if is_of_size and np.all(measured.errors > 0):
        low = max(low, float(np.exp(mean_interval(np.log(measured.errors), symmetric=True).low)))
    return Verdict.FAILS if low > tolerance else Verdict.INCONCLUSIVE
