"""Do trained nets store the duplicates with gain (8), and hold the blocks (2) of the rest?"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from dae_theory.relu.model import encode
from dae_theory.relu.units import spikiness
from dae_theory.statistics import area_under_roc
from dae_theory.weights.compare import assign_blocks
from proofs_checks.blocks import (
    SHARE_NOTE,
    compare_at_measured_widths,
    share_details,
    worst_of_separate,
)
from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant, Origin, Verdict, average
from proofs_checks.hybrid.closed_form import GAIN_MISPRINTS
from proofs_checks.hybrid.experiment import (
    REST_SEPARATE,
    SEPARATE,
    STORED,
    TRAINED,
    Hybrid,
)
from proofs_checks.monte_carlo import UNMERGED, merged_representation, noised, unmerged_areas
from proofs_checks.mutants import (
    AVERAGE_NOISE,
    CLUSTER_DECAY,
    HALF_LAMBDA,
    PRINTED_SIGMA,
    UNIT_GAINS,
    UNTRAINED,
)
from proofs_checks.nets import untrained, with_scaled_columns

# The commit that fixed noise and lengths of the repeated samples, on seeds 0 to 7 and 100 to 107,
# before any later seed was looked at. The tolerance is older.
FIXED_REPEATED = Origin(FIXED.how, "47367760ee9bef24c3091ef96223067da76ea478")


def duplicates_stored(e: Hybrid) -> Measured:
    """Cosine with its sample of the units that answer to a duplicate, weighted by what they pass,
    where no unit serves it and another cluster."""
    errors = []
    for (w1, w2), comparison in zip(e.nets.pairs, e.comparisons, strict=True):
        judged = np.flatnonzero(e.duplicated & comparison.separate)
        units_P = np.isin(comparison.blocks, judged)
        if units_P.any():
            passed_P = np.linalg.norm(w1, axis=0) * np.linalg.norm(w2, axis=0)
            errors.append(np.average(1 - comparison.cosines[units_P], weights=passed_P[units_P]))
    return Measured(
        1 - average(errors),
        1.0,
        np.array(errors),
        e.nets.seeds,
        f"cosine with it of units that answer to a duplicate, weighted by ‖w1‖‖w2‖; {SHARE_NOTE}",
        details=share_details(e),
    )


def duplicate_gains(e: Hybrid) -> Measured:
    """Relative error of the summed gain, with its sign, averaged over the repeated samples."""
    nets, duplicates, gains_L = e.stored_nets, e.stored_clusters, e.gains(e.stored)
    compared = compare_at_measured_widths(nets, e.stored)
    gains_SL = np.array([[c.gains[k][0] for k in duplicates] for c in compared])
    return Measured(
        average(gains_SL.ravel()),
        float(gains_L.mean()),
        np.mean(gains_SL / gains_L - 1, axis=1),
        nets.seeds,
        f"summed over collinear units; error: mean of {len(duplicates)} repeated samples, signed; "
        "worst sample {worst:.4f}",
        signed=True,
        details={"worst": np.mean(np.max(np.abs(gains_SL / gains_L - 1), axis=1))},
    )


def rest_blocks(e: Hybrid) -> Measured:
    """Worst relative error of a gain of the rest, in clusters with units of their own."""
    errors = worst_of_separate(e, lambda c: c.gain_errors, ~e.duplicated)
    note = f"worst relative error of a direction's gain; {SHARE_NOTE}"
    return Measured(average(errors), 0.0, errors, e.nets.seeds, note, details=share_details(e))


def spiky_and_balanced(e: Hybrid) -> Measured:
    """How well effective units, collinear ones merged, tell noised duplicates from the rest. Copies
    of one duplicate are no independent samples: they count once."""
    y = noised(e.problem.x, e.problem.sigma, draws=1)
    duplicate_N = e.duplicated[e.problem.labels]
    areas, units, silent, others = [], [], [], {name: [] for name in UNMERGED}
    for w1, w2 in e.nets.pairs:
        merged = spikiness(merged_representation(w1, w2, y))["participation_ratio"]
        h_NP = np.asarray(encode(w1, y))
        silent.append(np.mean(np.isnan(merged)))
        chosen = [group_N & ~np.isnan(merged) for group_N in (duplicate_N, ~duplicate_N)]
        units.append([np.mean(merged[group_N]) for group_N in chosen])
        areas.append(area_under_roc(*(-merged[group_N] for group_N in chosen)))
        for name, area in unmerged_areas(*(h_NP[group_N] for group_N in chosen)).items():
            others[name].append(area)
    of_duplicates, of_rest = np.mean(units, axis=0)
    distinct = int(e.duplicated.sum()), int(np.sum(~duplicate_N))
    return Measured(
        float(np.mean(areas)),
        1.0,
        1 - np.array(areas),
        e.nets.seeds,
        "AUROC of merged effective units, all nets, {of_duplicates:.2f} on duplicates, "
        "{of_rest:.2f} on the rest; of unmerged units: std {std:.3f}, participation ratio "
        "{participation_ratio:.3f}, Hoyer {hoyer:.3f}; left out: {silent:.3f} of samples, which "
        "activate no unit",
        details={"of_duplicates": of_duplicates, "of_rest": of_rest, "silent": np.mean(silent)}
        | {name: np.mean(found) for name, found in others.items()},
        pairs=tuple(len(areas) * count for count in distinct),
    )


def units_of(e: Hybrid, which_K: Bool[np.ndarray, " K"]) -> Bool[np.ndarray, "S P"]:
    """Units of each net that belong to the chosen clusters."""
    x_ND, labels_N = e.problem.x, e.problem.labels
    blocks_SP = np.stack([assign_blocks(w1, w2, x_ND, labels_N) for w1, w2 in e.nets.pairs])
    return np.isin(blocks_SP, np.flatnonzero(which_K))


def untrained_repeated(e: Hybrid) -> Hybrid:
    """Random nets in the place of those on the repeated samples."""
    return replace(e, replaced_repeated=untrained(e.stored_nets))


def scaled_repeated(factor: float) -> Callable[[Hybrid], Hybrid]:
    """Units of the first repeated sample scaled in both layers."""

    def apply(e: Hybrid) -> Hybrid:
        p, nets = e.stored, e.stored_nets
        blocks_SP = np.stack([assign_blocks(w1, w2, p.x, p.labels) for w1, w2 in nets.pairs])
        scaled_nets = with_scaled_columns(nets, blocks_SP == 0, factor, factor)
        return replace(e, replaced_repeated=scaled_nets)

    return apply


def decoded_at_random(e: Hybrid) -> Hybrid:
    """Decoder columns of the duplicates' units turned at random; the gates stay."""
    chosen = units_of(e, e.duplicated)[:, None, :]
    w2_SDP = np.where(chosen, untrained(e.nets).w2, e.nets.w2)
    return replace(e, replaced=replace(e.nets, w2=w2_SDP))


def scaled(which: Callable[[Hybrid], Bool[np.ndarray, " K"]]) -> Callable[[Hybrid], Hybrid]:
    """Units of the chosen clusters scaled by 1.1 in both layers."""

    def apply(e: Hybrid) -> Hybrid:
        return replace(e, replaced=with_scaled_columns(e.nets, units_of(e, which(e)), 1.1, 1.1))

    return apply


CLAIMS = (
    Claim(
        id="cor3.4/duplicates-stored",
        statement="In trained nets, units of a duplicate that serve no other cluster store it "
        "collinearly.",
        source="docs/THEORY.md#eq-8",
        requires=SEPARATE,
        measure=duplicates_stored,
        tolerance=0.01,
        mutants=(Mutant("decoded at random", decoded_at_random), UNTRAINED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.4/duplicate-gains",
        statement="The summed gain of a repeated sample is (‖x‖²−nλ/n_ℓ)/(‖x‖²+σ²).",
        source="docs/THEORY.md#eq-8",
        requires=STORED,
        measure=duplicate_gains,
        tolerance=0.003,
        mutants=(
            *GAIN_MISPRINTS,
            Mutant("first sample's units scaled by 1.01", scaled_repeated(1.01)),
            Mutant("untrained nets", untrained_repeated),
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_REPEATED,
    ),
    Claim(
        id="cor3.4/rest-blocks",
        statement="Clusters of the rest with units of their own have the gains (2).",
        source="docs/THEORY.md#eq-2",
        requires=REST_SEPARATE,
        measure=rest_blocks,
        tolerance=0.02,
        mutants=(
            Mutant("the rest's units scaled by 1.1", scaled(lambda e: ~e.duplicated)),
            UNIT_GAINS,
            AVERAGE_NOISE,
            CLUSTER_DECAY,
            HALF_LAMBDA,
            PRINTED_SIGMA,
            UNTRAINED,
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.4/spiky-and-balanced",
        statement="Within one net duplicates are spiky and the rest balanced: merged effective "
        "units tell them apart, on average over nets.",
        source="docs/THEORY.md#representation",
        requires=TRAINED,
        measure=spiky_and_balanced,
        tolerance=0.05,
        mutants=(
            UNTRAINED,
            Mutant(
                "duplicates and rest exchanged",
                lambda e: replace(e, duplicated=~e.duplicated),
            ),
        ),
        expected=Verdict.INCONCLUSIVE,  # all are told apart, of 16 duplicates
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
)
