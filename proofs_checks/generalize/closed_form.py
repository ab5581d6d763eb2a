"""Is (4) a stationary point, what does it miss, and is its loss what (3) says?"""

import numpy as np

from proofs_checks.blocks import loss_formula, stationary
from proofs_checks.claims import FIXED, Claim, Kind, Measured
from proofs_checks.generalize.experiment import TIGHT, Generalization
from proofs_checks.monte_carlo import POINTS_SEEN, residual_exponent
from proofs_checks.mutants import BLOCK_MISPRINTS, DOUBLE_SIGMA, PRINTED_SIGMA, misprint


def residual_decay(e: Generalization) -> Measured:
    """Exponent of what (4) misses of stationarity."""
    return residual_exponent(*e.residual)


SHUFFLED = misprint(
    "cluster labels shuffled",
    labels_N=lambda labels_N: np.random.default_rng(0).permutation(labels_N),
)

CLAIMS = (
    Claim(
        id="thm3.1/stationary",
        statement="The block weights (4) are a stationary point of the exact loss.",
        source="docs/THEORY.md#eq-4",
        requires=TIGHT,
        measure=stationary,
        tolerance=1e-8,
        mutants=(*BLOCK_MISPRINTS, SHUFFLED),
        kind=Kind.EXACT,
    ),
    Claim(
        id="thm3.1/residual-decay",
        statement="What (4) misses of stationarity falls like exp(−z²/2), up to a power of z.",
        source="docs/THEORY.md#remainder",
        requires=(*TIGHT, POINTS_SEEN),
        measure=residual_decay,
        tolerance=0.1,
        mutants=(DOUBLE_SIGMA,),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="thm3.1/loss-formula",
        statement="The loss at (4) is (1/n) Σ_k [Σ s − Σ_{j≤p_k} (s−nλ)²/(s+n_kσ²)].",
        source="docs/THEORY.md#eq-3",
        requires=TIGHT,
        measure=loss_formula,
        tolerance=1e-8,
        mutants=(*BLOCK_MISPRINTS, PRINTED_SIGMA),
        kind=Kind.EXACT,
    ),
)
