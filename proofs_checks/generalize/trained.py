"""Do nets trained from random starts keep their units to one cluster, and hold (2) in blocks?"""

from dataclasses import replace

import numpy as np

from dae_theory.weights.compare import assign_blocks
from proofs_checks.blocks import SOME_LIVE, gate_share, kept_comparisons, seeds_that_follow
from proofs_checks.claims import Claim, Kind, Measured, Mutant, average
from proofs_checks.generalize.experiment import FOLLOWING, TRAINED, Generalization
from proofs_checks.mutants import DOUBLE_SIGMA, PRINTED_SIGMA, UNTRAINED
from proofs_checks.nets import with_scaled_columns


def block_structure(e: Generalization) -> Measured:
    """Share of live units that are active on several clusters."""
    entangled = np.array([c.entangled / max(c.live.sum(), 1) for c in e.comparisons])
    note = f"share of live units; {gate_share(e)}"
    return Measured(1 - float(np.mean(entangled)), 1.0, entangled, e.nets.seeds, note)


def trained_blocks(e: Generalization) -> Measured:
    """Worst relative error of a block operator at its own width."""
    errors = np.array([float(np.max(c.operator_errors)) for c in kept_comparisons(e)])
    note = f"worst block's relative error at its own width; {gate_share(e)}"
    return Measured(average(errors), 0.0, errors, seeds_that_follow(e), note)


def trained_loss(e: Generalization) -> Measured:
    """Relative distance of the loss of trained nets to the predicted one."""
    kept = kept_comparisons(e)
    return Measured(
        average([c.loss for c in kept]),
        average([c.predicted_loss for c in kept]),
        np.array([c.loss_error for c in kept]),
        seeds_that_follow(e),
        f"prediction at the measured widths; {gate_share(e)}",
    )


def scaled_block(e: Generalization) -> Generalization:
    """One cluster's units scaled by 1.1 in both layers."""
    x_ND, labels_N = e.problem.x, e.problem.labels
    chosen_SP = np.stack([assign_blocks(w1, w2, x_ND, labels_N) == 0 for w1, w2 in e.nets.pairs])
    return replace(e, replaced=with_scaled_columns(e.nets, chosen_SP, 1.1, 1.1))


SCALED = Mutant("first cluster's units scaled by 1.1", scaled_block)

CLAIMS = (
    Claim(
        id="thm3.1/block-structure",
        statement="From random starts, units end up active on one cluster only (90% of them).",
        source="docs/THEORY.md#thm-3.1",
        requires=(*TRAINED, SOME_LIVE),
        measure=block_structure,
        tolerance=0.1,
        mutants=(UNTRAINED,),
        kind=Kind.CONFIRMATORY,
    ),
    Claim(
        id="thm3.1/trained-blocks",
        statement="Trained nets whose units keep to one cluster hold the block operators (2).",
        source="docs/THEORY.md#eq-2",
        requires=FOLLOWING,
        measure=trained_blocks,
        tolerance=0.05,
        mutants=(SCALED, PRINTED_SIGMA, UNTRAINED),
        kind=Kind.CONFIRMATORY,
    ),
    Claim(
        id="thm3.1/trained-loss",
        statement="Such nets reach the loss (3).",
        source="docs/THEORY.md#eq-3",
        requires=FOLLOWING,
        measure=trained_loss,
        tolerance=2e-3,
        mutants=(SCALED, DOUBLE_SIGMA, UNTRAINED),
        kind=Kind.CONFIRMATORY,
    ),
)
