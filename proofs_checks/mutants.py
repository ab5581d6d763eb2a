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
from dae_theory.theory.closed_forms import (
    Prediction,
    block_eigenvalues,
    population_spectra,
    predict_blocks,
)
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


def block_gains_instead(name: str, gains: Callable[..., np.ndarray]) -> Mutant:
    """(2) with other gains: ``gains`` of a cluster's eigenvalues s, of nλ and nσ² for all samples,
    of its share of them, and of the number of clusters."""

    def formula(x_ND, labels_N, widths, sigma, lam) -> Prediction:
        p, n = predict_blocks(x_ND, labels_N, widths, sigma, lam), len(x_ND)
        w_DP, changed = p.w1.copy(), []
        for k, values in enumerate(block_eigenvalues(x_ND, labels_N)):
            old = np.asarray(p.gains[k])
            new, share = np.zeros(len(old)), float(np.mean(labels_N == k))
            s = values[: len(old)]
            new[: len(s)] = gains(s, n * lam, n * sigma**2, share, len(widths))
            scale = np.sqrt(np.where(old > 0, new, 0.0) / np.where(old > 0, old, 1.0))
            u_DR, units_P = p.directions[k][:, : len(old)], p.blocks == k
            w_DP[:, units_P] = u_DR @ (scale[:, None] * (u_DR.T @ w_DP[:, units_P]))
            changed.append(new)
        return replace(p, gains=tuple(changed), w1=w_DP, w2=w_DP.copy())

    return instead(name, "predict", formula)


def printed_test_loss(mixture: Mixture, widths: Sequence[int], sigma: float) -> float:
    """(7) with its first term as printed, e σ⁴/(e+σ²)²: the bias alone (docs/THEORY.md#errata)."""
    return float(
        sum(
            prior * (np.sum(e[:width] * sigma**4 / (e[:width] + sigma**2) ** 2) + e[width:].sum())
            for (prior, e), width in zip(population_spectra(mixture), widths, strict=True)
        )
    )


UNIT_GAINS = block_gains_instead("gain 1", lambda s, decay, noise, share, k: np.ones(len(s)))
AVERAGE_NOISE = block_gains_instead(
    "nσ²/K for n_kσ²",
    lambda s, decay, noise, share, k: (s - decay).clip(0) / (s + noise / k),
)
CLUSTER_DECAY = block_gains_instead(
    "n_kλ for nλ",
    lambda s, decay, noise, share, k: (s - share * decay).clip(0) / (s + share * noise),
)
NO_NOISE = block_gains_instead(
    "no σ²", lambda s, decay, noise, share, k: (s - decay).clip(0) / s.clip(1e-300)
)
DOUBLE_SIGMA = misprint("σ twice as large", sigma=lambda sigma: 2 * sigma)
PRINTED_SIGMA = misprint("σ for σ²", sigma=np.sqrt)
HALF_LAMBDA = misprint("λ/2 for λ", lam=lambda lam: lam / 2)
BLOCK_MISPRINTS = (  # of (2), and of (8) where clusters are repeated samples
    UNIT_GAINS,
    AVERAGE_NOISE,
    NO_NOISE,
    CLUSTER_DECAY,
    DOUBLE_SIGMA,
    HALF_LAMBDA,
)
DOUBLE_LAMBDA = misprint("λ twice as large", lam=lambda lam: 2 * lam)
UNTRAINED = Mutant("untrained nets", lambda e: replace(e, replaced=untrained(e.nets)))
