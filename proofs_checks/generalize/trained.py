"""Do nets trained from random starts keep their units to one cluster, and hold (2) in blocks?"""

from dataclasses import replace

import numpy as np

from proofs_checks.blocks import SHARE_NOTE, SOME_LIVE, share_details, worst_of_separate
from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant, average
from proofs_checks.generalize.experiment import SEPARATE, TRAINED, Generalization
from proofs_checks.monte_carlo import exact_loss_value
from proofs_checks.mutants import (
    AVERAGE_NOISE,
    CLUSTER_DECAY,
    DOUBLE_SIGMA,
    HALF_LAMBDA,
    PRINTED_SIGMA,
    UNIT_GAINS,
    UNTRAINED,
)
from proofs_checks.nets import with_scaled_columns


def block_structure(e: Generalization) -> Measured:
    """Share of live units that are active on several clusters."""
    entangled = np.array([c.entangled / max(c.live.sum(), 1) for c in e.comparisons])
    return Measured(
        1 - float(np.mean(entangled)),
        1.0,
        entangled,
        e.nets.seeds,
        f"share of live units; {SHARE_NOTE}",
        details=share_details(e),
    )


def trained_blocks(e: Generalization) -> Measured:
    """Worst relative error of the operator of a cluster with units of its own."""
    errors = worst_of_separate(e, lambda c: c.operator_errors)
    note = f"worst relative error at the block's own width; {SHARE_NOTE}"
    return Measured(average(errors), 0.0, errors, e.nets.seeds, note, details=share_details(e))


def trained_gains(e: Generalization) -> Measured:
    """Worst relative error of a gain of a cluster with units of its own."""
    errors = worst_of_separate(e, lambda c: c.gain_errors)
    note = f"worst relative error of a direction's gain; {SHARE_NOTE}"
    return Measured(average(errors), 0.0, errors, e.nets.seeds, note, details=share_details(e))


def trained_loss(e: Generalization) -> Measured:
    """Worst relative distance of the loss of a cluster with units of its own to the predicted."""
    p, measured, predicted = e.problem, [], []
    for (w1, w2), comparison in zip(e.nets.pairs, e.comparisons, strict=True):
        for k in np.flatnonzero(comparison.separate):
            members_N, units_P = p.labels == k, comparison.blocks == k
            lam = p.lam / np.mean(members_N)  # of the cluster's samples alone
            loss = exact_loss_value(w1 * units_P, w2 * units_P, p.x, p.sigma, lam, members_N)
            x_MD, width = p.x[members_N], int(units_P.sum())
            expected = e.predict(x_MD, np.zeros(len(x_MD), int), (width,), p.sigma, lam).loss
            measured.append(loss)
            predicted.append(expected)
    errors = np.abs(np.subtract(measured, predicted)) / predicted
    return Measured(
        average(measured),
        average(predicted),
        errors.max(keepdims=True) if errors.size else errors,
        e.nets.seeds,
        f"exact loss of a cluster's samples under its own units; {SHARE_NOTE}",
        details=share_details(e),
    )


def scaled_blocks(e: Generalization) -> Generalization:
    """All units scaled by 1.1 in both layers."""
    chosen_SP = np.ones((len(e.nets.w1), e.nets.w1.shape[2]), bool)
    return replace(e, replaced=with_scaled_columns(e.nets, chosen_SP, 1.1, 1.1))


SCALED = Mutant("units scaled by 1.1", scaled_blocks)

CLAIMS = (
    Claim(
        id="thm3.1/block-structure",
        statement="From random starts, units end up active on one cluster only (80% of them).",
        source="docs/THEORY.md#thm-3.1",
        requires=(*TRAINED, SOME_LIVE),
        measure=block_structure,
        tolerance=0.2,
        mutants=(UNTRAINED,),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="thm3.1/trained-blocks",
        statement="In trained nets a cluster with units of its own is mapped by the operator (2).",
        source="docs/THEORY.md#eq-2",
        requires=SEPARATE,
        measure=trained_blocks,
        tolerance=0.05,
        mutants=(SCALED, UNIT_GAINS, UNTRAINED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="thm3.1/trained-gains",
        statement="Its gains are (s − nλ)_+/(s + n_kσ²), along every direction that it keeps.",
        source="docs/THEORY.md#eq-2",
        requires=SEPARATE,
        measure=trained_gains,
        tolerance=0.02,
        mutants=(
            SCALED,
            UNIT_GAINS,
            AVERAGE_NOISE,
            CLUSTER_DECAY,
            HALF_LAMBDA,
            DOUBLE_SIGMA,
            PRINTED_SIGMA,
            UNTRAINED,
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="thm3.1/trained-loss",
        statement="Such a cluster's loss is its part of (3).",
        source="docs/THEORY.md#eq-3",
        requires=SEPARATE,
        measure=trained_loss,
        tolerance=0.01,
        mutants=(SCALED, DOUBLE_SIGMA, HALF_LAMBDA, UNTRAINED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
)
