"""Do trained nets store the duplicates with gain (8), and hold the blocks (2) of the rest?"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from dae_theory.relu.model import encode
from dae_theory.relu.units import spikiness
from dae_theory.statistics import area_under_roc
from dae_theory.weights.compare import assign_blocks
from proofs_checks.blocks import gate_share, kept_comparisons, seeds_that_follow
from proofs_checks.claims import Claim, Kind, Measured, Mutant, average
from proofs_checks.hybrid.experiment import FOLLOWING, SEVERAL_UNITS, TRAINED, Hybrid
from proofs_checks.monte_carlo import merged_representation, noised
from proofs_checks.mutants import PRINTED_SIGMA, UNTRAINED, misprint
from proofs_checks.nets import untrained, with_scaled_columns


def duplicates_stored(e: Hybrid) -> Measured:
    """Worst cosine with its sample of a unit that answers to a duplicate."""
    errors = []
    for comparison in kept_comparisons(e):
        unit_P = np.isin(comparison.blocks, np.flatnonzero(e.duplicated))
        stored = comparison.stored[e.duplicated].all()
        errors.append(1 - float(np.min(comparison.cosines[unit_P])) if stored else 1.0)
    return Measured(
        1 - average(errors),
        1.0,
        np.array(errors),
        seeds_that_follow(e),
        f"worst cosine of a unit that answers to a duplicate with that sample; {gate_share(e)}",
    )


def duplicate_gains(e: Hybrid) -> Measured:
    """Relative error of the summed gain, worst duplicate."""
    stored = np.flatnonzero(e.duplicated)
    gains_SL = np.array([[c.gains[k][0] for k in stored] for c in kept_comparisons(e)])
    gains_SL = gains_SL.reshape(-1, len(stored))
    return Measured(
        average(gains_SL.ravel()),
        float(e.gains.mean()),
        np.max(np.abs(gains_SL / e.gains - 1), axis=1),
        seeds_that_follow(e),
        f"summed over collinear units, worst duplicate; {gate_share(e)}",
    )


def rest_blocks(e: Hybrid) -> Measured:
    """Worst relative error of a block operator of the rest, at its own width."""
    kept = kept_comparisons(e)
    errors = np.array([float(np.max(c.operator_errors[~e.duplicated])) for c in kept])
    note = f"worst block's relative error at its own width; {gate_share(e)}"
    return Measured(average(errors), 0.0, errors, seeds_that_follow(e), note)


def spiky_and_balanced(e: Hybrid) -> Measured:
    """How well effective units, collinear ones merged, tell noised duplicates from the rest."""
    y = noised(e.problem.x, e.problem.sigma, draws=1)
    duplicate_N = e.duplicated[e.problem.labels]
    areas, areas_of_std, units = [], [], []
    for w1, w2 in e.nets.pairs:
        merged = spikiness(merged_representation(w1, w2, y))["participation_ratio"]
        units_N = np.nan_to_num(merged, nan=np.inf)
        std_N = spikiness(np.asarray(encode(w1, y)))["std"]
        areas.append(area_under_roc(-units_N[duplicate_N], -units_N[~duplicate_N]))
        areas_of_std.append(area_under_roc(std_N[duplicate_N], std_N[~duplicate_N]))
        units.append([np.mean(units_N[duplicate_N]), np.mean(units_N[~duplicate_N])])
    of_duplicates, of_rest = np.mean(units, axis=0)
    kept_S, areas_S = e.has_several_units, np.array(areas)
    return Measured(
        float(np.mean(areas_S[kept_S])),
        1.0,
        1 - areas_S[kept_S],
        tuple(np.array(e.nets.seeds)[kept_S].tolist()) if e.nets.seeds else (),
        f"AUROC in the {kept_S.sum()} of {len(kept_S)} nets with several units for each other "
        f"cluster, {np.mean(areas_S):.3f} in all; {of_duplicates:.2f} effective units on "
        f"duplicates, {of_rest:.2f} on the rest; the paper's std of unmerged units: AUROC "
        f"{np.mean(areas_of_std):.3f}",
    )


def units_of(e: Hybrid, which_K: Bool[np.ndarray, " K"]) -> Bool[np.ndarray, "S P"]:
    """Units of each net that belong to the chosen clusters."""
    x_ND, labels_N = e.problem.x, e.problem.labels
    blocks_SP = np.stack([assign_blocks(w1, w2, x_ND, labels_N) for w1, w2 in e.nets.pairs])
    return np.isin(blocks_SP, np.flatnonzero(which_K))


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
        statement="Trained nets whose units keep to one cluster store each duplicate collinearly.",
        source="docs/THEORY.md#eq-8",
        requires=FOLLOWING,
        measure=duplicates_stored,
        tolerance=0.01,
        mutants=(Mutant("decoded at random", decoded_at_random), UNTRAINED),
        kind=Kind.CONFIRMATORY,
    ),
    Claim(
        id="cor3.4/duplicate-gains",
        statement="Their summed gain is (‖x‖²−nλ/n_ℓ)/(‖x‖²+σ²).",
        source="docs/THEORY.md#eq-8",
        requires=FOLLOWING,
        measure=duplicate_gains,
        tolerance=0.01,
        mutants=(
            Mutant("duplicates' units scaled by 1.1", scaled(lambda e: e.duplicated)),
            misprint("σ for σ²", "predict_gain", sigma=np.sqrt),
            UNTRAINED,
        ),
        kind=Kind.CONFIRMATORY,
    ),
    Claim(
        id="cor3.4/rest-blocks",
        statement="The other units of such nets hold the block operators (2) of the rest.",
        source="docs/THEORY.md#eq-2",
        requires=FOLLOWING,
        measure=rest_blocks,
        tolerance=0.05,
        mutants=(
            Mutant("the rest's units scaled by 1.1", scaled(lambda e: ~e.duplicated)),
            PRINTED_SIGMA,
            UNTRAINED,
        ),
        kind=Kind.CONFIRMATORY,
    ),
    Claim(
        id="cor3.4/spiky-and-balanced",
        statement="Within one net with several units for each other cluster, duplicates are spiky "
        "and the rest balanced.",
        source="docs/THEORY.md#representation",
        requires=(*TRAINED, SEVERAL_UNITS),
        measure=spiky_and_balanced,
        tolerance=0.05,
        mutants=(
            UNTRAINED,
            Mutant(
                "duplicates and rest exchanged",
                lambda e: replace(e, duplicated=~e.duplicated),
            ),
        ),
        kind=Kind.EXPLORATORY,
    ),
)
