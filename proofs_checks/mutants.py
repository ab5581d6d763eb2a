"""Plausible errors that serve in several regimes: misprinted formulas, and nets that are not what
they seem.

A misprint changes an argument of the formula under test, which is a field of the experiment
(``predict`` unless said otherwise); ``instead`` puts another formula there. A changed net replaces
the trained ones (``replaced``).
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dae_theory.data import Mixture
from dae_theory.theory.closed_forms import population_spectra
from proofs_checks.claims import Mutant
from proofs_checks.nets import untrained


def with_arguments(
    formula: Callable[..., Any], changes: dict[str, Callable[[Any], Any]]
) -> Callable[..., Any]:
    """The formula with some of its arguments changed, by name."""
    signature = inspect.signature(formula)

    def changed(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, change in changes.items():
            bound.arguments[name] = change(bound.arguments[name])
        return formula(*bound.args, **bound.kwargs)

    changed.__signature__ = signature
    return changed


def misprint(name: str, field: str = "predict", **changes: Callable[[Any], Any]) -> Mutant:
    """The formula in a field of the experiment, with some of its arguments changed."""

    def apply(experiment: Any) -> Any:
        wrong = with_arguments(getattr(experiment, field), changes)
        return replace(experiment, **{field: wrong})

    return Mutant(name, apply)


def instead(name: str, field: str, formula: Callable[..., Any]) -> Mutant:
    """Another formula in a field of the experiment."""
    return Mutant(name, lambda experiment: replace(experiment, **{field: formula}))


def printed_test_loss(mixture: Mixture, widths: Sequence[int], sigma: float) -> float:
    """(7) with its first term as printed, e σ⁴/(e+σ²)²: the bias alone (docs/THEORY.md#errata)."""
    return float(
        sum(
            prior * (np.sum(e[:width] * sigma**4 / (e[:width] + sigma**2) ** 2) + e[width:].sum())
            for (prior, e), width in zip(population_spectra(mixture), widths, strict=True)
        )
    )


DOUBLE_SIGMA = misprint("σ twice as large", sigma=lambda sigma: 2 * sigma)
PRINTED_SIGMA = misprint("σ for σ²", sigma=np.sqrt)
HALF_LAMBDA = misprint("λ/2 for λ", lam=lambda lam: lam / 2)
DOUBLE_LAMBDA = misprint("λ twice as large", lam=lambda lam: 2 * lam)
UNTRAINED = Mutant("untrained nets", lambda e: replace(e, replaced=untrained(e.nets)))
