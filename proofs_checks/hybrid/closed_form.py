"""Are one unit for each duplicate, and the blocks of the rest, a stationary point with loss (3)?"""

import numpy as np

from dae_theory.theory.closed_forms import predict_hybrid_gain
from proofs_checks.blocks import loss_formula, predict_on, stationary
from proofs_checks.claims import Claim, Kind, Measured
from proofs_checks.hybrid.experiment import COUNTS, TIGHT, TIGHT_STORED, Hybrid
from proofs_checks.monte_carlo import relative_gradient
from proofs_checks.mutants import BLOCK_MISPRINTS, instead, misprint


def stored_stationary(e: Hybrid) -> Measured:
    """Relative gradient norm where columns of duplicates have the squared length (8)."""
    b = e.tight_stored
    p = predict_on(b)
    w_DP = p.w1.copy()
    for k, gain in zip(e.stored_clusters, e.gains(b), strict=True):
        w_DP[:, p.blocks == k] *= np.sqrt(gain / p.gains[k][0])
    relative = relative_gradient(w_DP, w_DP, b.x, b.sigma, b.lam)
    note = "‖∇L‖ of the exact loss, relative to the mean of ‖x‖²; less noise than in training"
    return Measured(relative, 0.0, np.array([relative]), note=note)


def noise_over_count(norm: float, count: int, n: int, sigma: float, lam: float) -> float:
    """(8) with σ²/n_ℓ for σ²."""
    return predict_hybrid_gain(norm, count, n, sigma / count**0.5, lam)


GAIN_MISPRINTS = (  # of (8)
    misprint("σ for σ²", "predict_gain", sigma=np.sqrt),
    misprint("nλ/n for nλ/n_ℓ", "predict_gain", count=lambda count: sum(COUNTS)),
    instead("gain 1", "predict_gain", lambda norm, count, n, sigma, lam: 1.0),
    instead("σ²/n_ℓ for σ²", "predict_gain", noise_over_count),
    misprint("no σ²", "predict_gain", sigma=lambda sigma: 0.0),
    misprint("λ/2 for λ", "predict_gain", lam=lambda lam: lam / 2),
    misprint("1 for ‖x‖²", "predict_gain", norm=lambda norm: 1.0),
)

CLAIMS = (
    Claim(
        id="cor3.4/stationary",
        statement="With duplicated samples, one unit each beside the blocks of the rest is "
        "stationary.",
        source="docs/THEORY.md#cor-3.4",
        requires=TIGHT,
        measure=stationary,
        tolerance=1e-8,
        mutants=BLOCK_MISPRINTS,
        kind=Kind.EXACT,
    ),
    Claim(
        id="cor3.4/loss-formula",
        statement="The loss there is (3).",
        source="docs/THEORY.md#eq-3",
        requires=TIGHT,
        measure=loss_formula,
        tolerance=1e-8,
        mutants=BLOCK_MISPRINTS,
        kind=Kind.EXACT,
    ),
    Claim(
        id="cor3.4/gain-stationary",
        statement="Columns r_ℓ x_ℓ of repeated samples, with r_ℓ² from (8), are stationary.",
        source="docs/THEORY.md#eq-8",
        requires=TIGHT_STORED,
        measure=stored_stationary,
        tolerance=1e-8,
        mutants=GAIN_MISPRINTS,
        kind=Kind.EXACT,
    ),
)
