"""What a claim is, what counts as evidence for it, and how a verdict follows.

A claim's `check` takes the experiment of its regime and returns Evidence. Its mutants are changes
to the experiment (perturbed weights, wrong σ, a misprinted formula) on which the verdict must be
`fails`: a claim that cannot fail says nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import scipy.stats

BOOTSTRAP_DRAWS = 2000


class Verdict(StrEnum):
    """Outcome of a claim on the data at hand."""

    HOLDS = "holds"
    FAILS = "fails"
    VACUOUS = "vacuous"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Assumption:
    """Measured value of an assumption, what is required of it in words, and whether it is met."""

    value: float
    required: str
    met: bool


@dataclass(frozen=True)
class Evidence:
    """Measurement behind a verdict.

    Attributes:
      measured, predicted: the quantity in question, averaged over seeds.
      errors: distance between the two (or shortfall), one entry per seed; a single entry is a
        deterministic claim. Never negative.
      tolerance: largest error with which the claim holds.
      assumptions: by name.
      seeds: the seeds averaged over; empty when no randomness is left.
      note: one line for the reader.
    """

    measured: float
    predicted: float
    errors: np.ndarray
    tolerance: float
    assumptions: dict[str, Assumption] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    note: str = ""

    @property
    def error(self) -> float:
        """Mean error over seeds."""
        return float(np.mean(self.errors)) if np.size(self.errors) else float("nan")


@dataclass(frozen=True)
class Mutant:
    """A change of the experiment under which the claim must fail."""

    name: str
    apply: Callable[[Any], Any]


@dataclass(frozen=True)
class Claim:
    """One sentence of the theory and how it is checked.

    ``uses_nets`` says whether ``check`` looks at trained nets (so that training can be skipped);
    ``expected`` is the verdict we believe in.
    """

    id: str
    statement: str
    source: str
    check: Callable[[Any], Evidence]
    mutants: tuple[Mutant, ...]
    expected: Verdict = Verdict.HOLDS
    uses_nets: bool = False


def confidence_interval(values: np.ndarray) -> tuple[float, float] | None:
    """95% percentile-bootstrap interval of the mean over seeds; None for fewer than two."""
    values = np.asarray(values, float)
    if values.size < 2 or not np.all(np.isfinite(values)):
        return None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    result = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=BOOTSTRAP_DRAWS,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def unmet(assumptions: dict[str, Assumption]) -> dict[str, Assumption]:
    """The assumptions that are not met."""
    return {name: assumption for name, assumption in assumptions.items() if not assumption.met}


def measure_or_vacuous(
    experiment: Any,
    assumptions: dict[str, Assumption],
    measure: Callable[[Any], dict],
    tolerance: float,
    extra: Sequence[Callable[[Any], dict[str, Assumption]]] = (),
) -> Evidence:
    """Evidence from ``measure``, or empty evidence where an assumption is not met.

    ``extra`` assumptions may need nets, which are there only when the others are met.
    """
    for assume in extra:
        if not unmet(assumptions):
            assumptions = assumptions | assume(experiment)
    if unmet(assumptions):
        return Evidence(np.nan, np.nan, np.array([np.nan]), tolerance, assumptions)
    return Evidence(tolerance=tolerance, assumptions=assumptions, **measure(experiment))


def judge(evidence: Evidence) -> Verdict:
    """Vacuous when an assumption is not met; otherwise by the error, or by its 95% interval."""
    if unmet(evidence.assumptions):
        return Verdict.VACUOUS
    if not np.isfinite(evidence.error):
        return Verdict.FAILS
    interval = confidence_interval(evidence.errors)
    low, high = (evidence.error, evidence.error) if interval is None else interval
    if high <= evidence.tolerance:
        return Verdict.HOLDS
    return Verdict.FAILS if low > evidence.tolerance else Verdict.INCONCLUSIVE


def fit_flip_exponent(z: np.ndarray, flip_weight: np.ndarray, residual: np.ndarray) -> float:
    """κ of residual = C z^b F^κ, by least squares on the logarithm, where F = Σ exp(−z_ij²/2).

    F sums over all gates with their own margins z_ij and tends to a multiple of exp(−z²/2) as the
    smallest, z, comes to dominate; with F instead of that limit the law shows at moderate z.
    """
    design = np.stack([np.log(flip_weight), np.log(z), np.ones_like(z)], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, np.log(residual), rcond=None)
    return float(coefficients[0])


def flip_weight(w1_DP: np.ndarray, x_ND: np.ndarray, sigma: float) -> float:
    """F = Σ_ij exp(−z_ij²/2) over samples and live units, z_ij = w_jᵀx_i/(σ‖w_j‖)."""
    norms_P = np.linalg.norm(w1_DP, axis=0)
    z_NP = x_ND @ (w1_DP[:, norms_P > 0] / norms_P[norms_P > 0]) / sigma
    return float(np.sum(np.exp(-(z_NP**2) / 2)))


def log_log_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Exponent a of y ~ x^a by regression on logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
