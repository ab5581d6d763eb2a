"""Errata: statements as printed, expected to fail, beside the corrected ones, which hold.

All on fixed examples, each against a measurement that uses neither formula: fits to noisy
samples, numerical minimizers, quadrature, finite differences. The formulas under test are fields
of the experiment.
"""

from dataclasses import replace

import numpy as np

from dae_theory.checks import InputError
from dae_theory.data.dataset import Dataset
from dae_theory.theory.closed_forms import predict_generalization
from proofs_checks.claims import Claim, Evidence, Mutant, Verdict, measure_or_vacuous
from proofs_checks.config import RunConfig
from proofs_checks.errata_evidence import (
    RATIO_SIGMAS,
    SMOOTHINGS,
    STORED_LAM,
    STORED_SIGMA,
    Errata,
    column_scale,
    gaussian_samples,
    kl_to_smoothed,
    loss_ratios,
    measure_blocks,
    measure_integral,
    measure_kl_atomic,
    measure_kl_bound,
    measure_ratio,
    measure_score,
    measure_test_loss,
    measure_test_loss_bound,
    measure_weights,
    nothing,
    separated,
    two_points,
)
from proofs_checks.generalize_evidence import limit_test_loss, printed_test_loss
from proofs_checks.nets import Progress, WeightsFile


def build(
    config: RunConfig, dataset: Dataset | None, needs_nets: bool, progress: Progress
) -> Errata:
    """The fixed examples; of the config only the seeds matter, and no net is trained."""
    return Errata(config.seed_list)


def from_weights(file: WeightsFile) -> Errata:
    """There is nothing in a file of weights that errata could be checked on."""
    raise InputError("weights: errata check formulas, not weights; choose another regime")


SAMPLED = (measure_test_loss, measure_test_loss_bound, measure_ratio)  # one error for each seed


def _claim(
    name, statement, source, tested, measure, tolerance, mutants, assume=nothing, fails=False
) -> Claim:
    """A claim about the formula in the field ``tested``; ``mutants`` are others in its place."""

    def check(experiment: Errata) -> Evidence:
        def evidence(experiment: Errata) -> dict:
            found, predicted, errors, note = measure(experiment, getattr(experiment, tested))
            seeds = experiment.seeds if measure in SAMPLED else ()
            return {
                "measured": float(found),
                "predicted": float(predicted),
                "errors": errors,
                "seeds": seeds,
                "note": note,
            }

        return measure_or_vacuous(experiment, assume(experiment), evidence, tolerance)

    changes = tuple(
        Mutant(what, lambda experiment, formula=formula: replace(experiment, **{tested: formula}))
        for what, formula in mutants.items()
    )
    expected = Verdict.FAILS if fails else Verdict.HOLDS
    return Claim(f"errata/{name}", statement, source, check, changes, expected)


CLAIMS = (
    _claim(
        "test-loss",
        "For n → ∞, λ → 0 the test loss is Σ_{j≤p} eσ²/(e+σ²) + Σ_{j>p} e.",
        "Corollary 3.3, (7)",
        "test_loss",
        measure_test_loss,
        0.01,
        {
            "eσ⁴/(e+σ²)², as printed": printed_test_loss,
            "σ twice as large": lambda mixture, p, s: limit_test_loss(mixture, p, 2 * s),
        },
    ),
    _claim(
        "test-loss-printed",
        "As printed: it is at most Σ_{j≤p} eσ⁴/(e+σ²)² + Σ_{j>p} e.",
        "Corollary 3.3",
        "printed_test_loss",
        measure_test_loss_bound,
        0.01,
        {"σ half as large": lambda mixture, p, s: printed_test_loss(mixture, p, s / 2)},
        fails=True,
    ),
    _claim(
        "test-loss-ratio",
        "No constant repairs the print: without a tail the test loss exceeds it like 1/σ².",
        "Corollary 3.3",
        "printed_test_loss",
        measure_ratio,
        0.05,
        {"(7) for the print": limit_test_loss},
    ),
    _claim(
        "blocks",
        "The blocks of many samples have gains (e − λ/ρ)_+/(e + σ²).",
        "Corollary 3.3, (6)",
        "population",
        measure_blocks,
        1e-8,
        {
            "σ for σ², as printed": Errata.printed_population,
            "λ/2 for λ": lambda m, c, r, w, s, lam: predict_generalization(m, c, r, w, s, lam / 2),
        },
    ),
    _claim(
        "blocks-printed",
        "As printed: with σI in place of σ²I.",
        "Corollary 3.3, (6)",
        "printed_population",
        measure_blocks,
        1e-8,
        {"no noise": lambda m, c, r, w, s, lam: predict_generalization(m, c, r, w, 1e-9, lam)},
        fails=True,
    ),
    _claim(
        "integral",
        "∫ L(σ)/σ² dσ over all σ > 0 is (π/2) mean‖x‖, L the loss of Corollary 3.2 at λ = 0.",
        "Corollary 3.2, sampling",
        "integral",
        measure_integral,
        1e-6,
        {
            "max for mean": lambda norms_N: np.pi / 2 * np.max(norms_N),
            "π for π/2": lambda norms_N: np.pi * np.mean(norms_N),
        },
        separated,
    ),
    _claim(
        "kl-printed",
        "As printed: KL(sampled, training samples) ≤ (π/2) max‖x‖, here smoothed to be finite.",
        "Corollary 3.2, sampling",
        "printed_kl_bound",
        measure_kl_bound,
        1e-6,
        {
            "2π for π/2": lambda x, std, width: 2 * np.pi * np.max(np.abs(x)),
            "max‖x‖² for max‖x‖": lambda x, std, width: np.pi / 2 * np.max(x**2),
        },
        gaussian_samples,
        fails=True,
    ),
    _claim(
        "kl-atomic",
        "That KL is infinite: against samples smoothed to width τ it grows like 1/τ².",
        "Corollary 3.2, sampling",
        "kl_growth",
        measure_kl_atomic,
        0.02,
        {
            "like 1/τ": lambda width: 1 / width,
            "like log 1/τ": lambda width: -np.log(width),
        },
        gaussian_samples,
    ),
    _claim(
        "weights",
        "Column scales r² = (‖x‖²−nλ)/(‖x‖⁴+σ²‖x‖²) are stationary, whatever the norms.",
        "Corollary 3.2, (5)",
        "scale",
        measure_weights,
        1e-8,
        {
            "nλ/2 for nλ": Errata.half_decay_scale,
            "‖x‖₄⁴ for ‖x‖⁴": Errata.four_norm_scale,
            "σ for σ²": lambda x, s, lam: column_scale(x, np.sqrt(s), lam),
        },
        separated,
    ),
    _claim(
        "lambda-half",
        "A variant: they are with nλ/2 in place of nλ.",
        "secondary sources",
        "half_decay_scale",
        measure_weights,
        1e-8,
        {"2nλ for nλ": lambda x, s, lam: column_scale(x, s, 2 * lam)},
        separated,
        fails=True,
    ),
    _claim(
        "norm-four",
        "A variant: they are with ‖x‖₄⁴, the sum of fourth powers, in place of ‖x‖⁴.",
        "secondary sources",
        "four_norm_scale",
        measure_weights,
        1e-8,
        {"‖x‖² for ‖x‖⁴": lambda x, s, lam: column_scale(x, s, lam, np.sum(x**2, axis=1))},
        separated,
        fails=True,
    ),
    _claim(
        "score",
        "∇log p_σ(y) = (E[x|y] − y)/σ².",
        "THEORY §1",
        "score",
        measure_score,
        1e-6,
        {
            "opposite sign, as printed": Errata.printed_score,
            "σ for σ²": lambda denoised, y, s: (denoised - y) / s,
        },
    ),
    _claim(
        "score-printed",
        "As printed: ∇log p_σ(y) = (y − E[x|y])/σ².",
        "THEORY §1",
        "printed_score",
        measure_score,
        1e-6,
        {"σ for σ²": lambda denoised, y, s: (y - denoised) / s},
        fails=True,
    ),
)


def results(experiment: Errata) -> dict[str, np.ndarray]:
    """Arrays behind the figures: measured loss over printed against σ, KL against width."""
    ratios_ST = loss_ratios(experiment, experiment.printed_test_loss)
    kl_T = [kl_to_smoothed(1.0, two_points(1.0), width) for width in SMOOTHINGS]
    return {
        "x": experiment.stored,
        "ratio": np.stack([RATIO_SIGMAS, ratios_ST.mean(axis=0), 1 + RATIO_SIGMAS**-2]),
        "kl": np.stack([SMOOTHINGS, kl_T]),
    }


def settings(experiment: Errata) -> dict:
    """What was checked, for the report."""
    return {
        "n": len(experiment.stored),
        "d": experiment.stored.shape[1],
        "sigma": STORED_SIGMA,
        "lam": STORED_LAM,
        "seeds": len(experiment.seeds),
        "data": "fixed examples, whatever the options say",
    }
