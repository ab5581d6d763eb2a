"""Hybrid (Corollary 3.4): duplicated samples are memorized, the rest of the data generalized."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.checks import InputError
from dae_theory.data.dataset import Dataset
from dae_theory.data.mixtures import separable_mixture
from dae_theory.relu.model import encode
from dae_theory.relu.units import spikiness
from dae_theory.statistics import area_under_roc
from dae_theory.theory.closed_forms import predict_hybrid_gain
from dae_theory.weights.compare import assign_blocks
from proofs_checks.blocks import (
    TIGHT_ALPHA,
    TIGHT_SIGMA,
    BlockExperiment,
    Blocks,
    assumptions,
    block_arrays,
    block_training,
    cluster_labels,
    default_decay,
    even_widths,
    gate_share,
    kept_comparisons,
    loss_formula_evidence,
    seeds_that_follow,
    settings,
    some_follow_gates,
    stationarity_evidence,
    vacuous_or,
)
from proofs_checks.claims import Assumption, Claim, Mutant, unmet
from proofs_checks.config import RunConfig
from proofs_checks.generalize_mutants import (
    DOUBLE_SIGMA,
    HALF_LAMBDA,
    PRINTED_SIGMA,
    UNTRAINED,
)
from proofs_checks.nets import (
    Progress,
    WeightsFile,
    make_nets,
    untrained,
    with_scaled_columns,
)
from proofs_checks.probes import (
    EXACT_MARGIN,
    TRAINED_MARGIN,
    merged_representation,
    noised,
)

N_DUPLICATED, N_SPREAD, DIMENSION, RANK, ALPHA = 2, 2, 32, 3, 0.2
DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = 300, 10, 0.05


@dataclass(frozen=True, kw_only=True)
class Hybrid(BlockExperiment):
    """A hybrid experiment: clusters, some of which are exact duplicates of one sample.

    ``duplicated`` (K,) marks them; ``predict_gain`` is formula (8) under test.
    """

    duplicated: Bool[np.ndarray, " K"]
    predict_gain: Callable[..., float] = predict_hybrid_gain

    @cached_property
    def gains_by_count(self) -> Float[np.ndarray, " K"]:
        """Gains r²‖x‖² by (8) of the duplicated samples; NaN for the other clusters."""
        b = self.blocks
        gains = np.full(len(b.widths), np.nan)
        for k in np.flatnonzero(self.duplicated):
            members = b.x[b.labels == k]
            norm = float(np.linalg.norm(members[0]))
            r_square = self.predict_gain(norm, len(members), len(b.x), b.sigma, b.lam)
            gains[k] = r_square * norm**2
        return gains


def build(
    config: RunConfig, dataset: Dataset | None, needs_nets: bool, progress: Progress
) -> Hybrid:
    """The experiment a config describes. ``dataset`` None means the synthetic mixture."""
    n, p = config.n or DEFAULT_N, config.p or DEFAULT_P
    sigma = config.sigma or DEFAULT_SIGMA
    if dataset is None:
        if n < 2 * (N_DUPLICATED + N_SPREAD):
            raise InputError(f"n: {N_DUPLICATED + N_SPREAD} clusters need twice as many, got {n}")
        x_ND, labels_N = _mixture(ALPHA).sample(0, n)
        note = f"synthetic mixture, {N_DUPLICATED} of {N_DUPLICATED + N_SPREAD} clusters duplicates"
    else:
        x_ND = dataset.x[:n]
        labels_N, note = hybrid_labels(x_ND, dataset.labels, n)
    duplicated = duplicated_clusters(x_ND, labels_N)
    widths = hybrid_widths(p, duplicated)
    lam = default_decay(x_ND, labels_N, widths) if config.lam is None else config.lam
    blocks = Blocks(x_ND, labels_N, widths, sigma, lam)
    tight = blocks
    if dataset is None:
        tight_x, tight_labels = _mixture(TIGHT_ALPHA).sample(1, n)
        tight_lam = default_decay(tight_x, tight_labels, widths)
        tight = Blocks(tight_x, tight_labels, widths, TIGHT_SIGMA, tight_lam)
    experiment = Hybrid(blocks=blocks, tight=tight, duplicated=duplicated, note=note)
    if not needs_nets or unmet(assumptions(blocks, TRAINED_MARGIN)):
        return experiment
    (nets,) = make_nets([x_ND], block_training(blocks), config, "training hybrid nets", progress)
    return replace(experiment, nets=nets)


def from_weights(file: WeightsFile) -> Hybrid:
    """The experiment around weights that were trained elsewhere."""
    labels_N, note = hybrid_labels(file.x, file.labels, len(file.x))
    duplicated = duplicated_clusters(file.x, labels_N)
    widths = hybrid_widths(file.nets.w1.shape[-1], duplicated)
    blocks = Blocks(file.x, labels_N, widths, file.sigma, file.lam)
    return Hybrid(
        blocks=blocks,
        tight=blocks,
        duplicated=duplicated,
        nets=file.nets,
        note=f"weights from a file; {note}",
    )


def _mixture(alpha: float):
    n_clusters = N_DUPLICATED + N_SPREAD
    return separable_mixture(
        n_clusters,
        DIMENSION,
        rank=RANK,
        beta=-1 / (n_clusters - 1),
        alpha=[0.0] * N_DUPLICATED + [alpha] * N_SPREAD,
        seed=2,
    )


def hybrid_labels(x_ND, labels_N, n: int) -> tuple[Int[np.ndarray, " N"], str]:
    """Labels 0 … K−1: the given ones, or each set of identical samples a cluster of its own and
    the remaining samples clustered by direction."""
    if labels_N is not None:
        return cluster_labels(x_ND, labels_N, n)
    _, index, counts = np.unique(x_ND, axis=0, return_inverse=True, return_counts=True)
    index = index.ravel()
    repeated = counts[index] > 1
    labels = np.zeros(len(x_ND), int)
    _, labels[repeated] = np.unique(index[repeated], return_inverse=True)
    n_repeated = len(np.unique(index[repeated]))
    if not repeated.all():
        rest, _ = cluster_labels(x_ND[~repeated], None, n)
        labels[~repeated] = n_repeated + rest
    return labels, f"{n_repeated} duplicated samples found, the rest clustered by k-means"


def duplicated_clusters(x_ND, labels_N) -> Bool[np.ndarray, " K"]:
    """(K,) clusters that consist of one sample, repeated."""
    return np.array(
        [
            np.sum(labels_N == k) > 1 and np.all(x_ND[labels_N == k] == x_ND[labels_N == k][0])
            for k in range(int(labels_N.max()) + 1)
        ]
    )


def hybrid_widths(p: int, duplicated: Bool[np.ndarray, " K"]) -> tuple[int, ...]:
    """One unit for each duplicated sample, the other units spread over the other clusters."""
    n_duplicated = int(duplicated.sum())
    rest = even_widths(max(p - n_duplicated, 0), max(int((~duplicated).sum()), 1))
    widths = np.ones(len(duplicated), int)
    widths[~duplicated] = rest[: int((~duplicated).sum())]
    return tuple(widths.tolist())


def _has_both(experiment: Hybrid) -> dict[str, Assumption]:
    share = float(np.mean(experiment.duplicated))
    return {"share of duplicated clusters": Assumption(share, "between 0 and 1", 0 < share < 1)}


# --- measurements ----------------------------------------------------------------------------


def _duplicates_stored(experiment: Hybrid) -> dict:
    errors = []
    for comparison in kept_comparisons(experiment):
        unit_P = np.isin(comparison.blocks, np.flatnonzero(experiment.duplicated))
        stored = comparison.stored[experiment.duplicated].all()
        errors.append(1 - float(np.min(comparison.cosines[unit_P])) if stored else 1.0)
    return {
        "measured": 1 - float(np.mean(errors)),
        "predicted": 1.0,
        "errors": np.array(errors),
        "seeds": seeds_that_follow(experiment),
        "note": "worst cosine of a unit that answers to a duplicate with that sample; "
        + gate_share(experiment),
    }


def _duplicate_gains(experiment: Hybrid) -> dict:
    predicted = experiment.gains_by_count[experiment.duplicated]
    measured = np.array(
        [
            [comparison.gains[k][0] for k in np.flatnonzero(experiment.duplicated)]
            for comparison in kept_comparisons(experiment)
        ]
    )
    return {
        "measured": float(measured.mean()),
        "predicted": float(predicted.mean()),
        "errors": np.max(np.abs(measured / predicted - 1), axis=1),
        "seeds": seeds_that_follow(experiment),
        "note": "summed over collinear units, worst duplicate; " + gate_share(experiment),
    }


def _rest_blocks(experiment: Hybrid) -> dict:
    errors = np.array(
        [
            float(np.max(c.operator_errors[~experiment.duplicated]))
            for c in kept_comparisons(experiment)
        ]
    )
    return {
        "measured": float(np.mean(errors)),
        "predicted": 0.0,
        "errors": errors,
        "seeds": seeds_that_follow(experiment),
        "note": f"worst block's relative error at its own width; {gate_share(experiment)}",
    }


def spikiness_scores(experiment: Hybrid) -> list[dict[str, np.ndarray]]:
    """For each net, on noised samples: minus the effective units (collinear ones merged), the
    paper's std, and whether the sample is a duplicate."""
    b = experiment.blocks
    y = noised(b.x, b.sigma, draws=1)
    duplicate = experiment.duplicated[b.labels]
    scores = []
    for w1, w2 in experiment.nets.pairs:
        h = np.asarray(encode(w1, y))
        merged = spikiness(merged_representation(w1, w2, y))["participation_ratio"]
        scores.append(
            {
                "merged": -np.nan_to_num(merged, nan=np.inf),
                "std": spikiness(h)["std"],
                "duplicate": duplicate,
            }
        )
    return scores


def _spiky_and_balanced(experiment: Hybrid) -> dict:
    scores = spikiness_scores(experiment)
    areas = {
        kind: np.array(
            [area_under_roc(s[kind][s["duplicate"]], s[kind][~s["duplicate"]]) for s in scores]
        )
        for kind in ("merged", "std")
    }
    duplicate, rest = (
        -np.mean([np.mean(s["merged"][s["duplicate"] == flag]) for s in scores])
        for flag in (True, False)
    )
    return {
        "measured": float(np.mean(areas["merged"])),
        "predicted": 1.0,
        "errors": 1 - areas["merged"],
        "seeds": experiment.nets.seeds,
        "note": f"AUROC; {duplicate:.2f} effective units on duplicates, {rest:.2f} on the rest; "
        f"the paper's std of unmerged units: AUROC {np.mean(areas['std']):.3f}",
    }


# --- mutants ---------------------------------------------------------------------------------


def _gain_formula(change: Callable) -> Callable[[Hybrid], Hybrid]:
    def predict_gain(*arguments) -> float:
        return predict_hybrid_gain(*change(*arguments))

    return lambda experiment: replace(experiment, predict_gain=predict_gain)


def _units_of(experiment: Hybrid, which: Bool[np.ndarray, " K"]) -> Bool[np.ndarray, "S P"]:
    """Units of each net that belong to the chosen clusters."""
    b = experiment.blocks
    return np.stack(
        [
            np.isin(assign_blocks(w1, w2, b.x, b.labels), np.flatnonzero(which))
            for w1, w2 in experiment.nets.pairs
        ]
    )


def _duplicates_decoded_at_random(experiment: Hybrid) -> Hybrid:
    """Decoder columns of the duplicates' units turned at random; the gates stay."""
    chosen = _units_of(experiment, experiment.duplicated)[:, None, :]
    w2 = np.where(chosen, untrained(experiment.nets).w2, experiment.nets.w2)
    return replace(experiment, nets=replace(experiment.nets, w2=w2))


def _scaled(which: Callable[[Hybrid], np.ndarray]) -> Callable[[Hybrid], Hybrid]:
    def apply(experiment: Hybrid) -> Hybrid:
        chosen = _units_of(experiment, which(experiment))
        return replace(experiment, nets=with_scaled_columns(experiment.nets, chosen, 1.1, 1.1))

    return apply


def _roles_swapped(experiment: Hybrid) -> Hybrid:
    return replace(experiment, duplicated=~experiment.duplicated)


CLAIMS = (
    Claim(
        "cor3.4/stationary",
        "With duplicated samples, one unit each beside the blocks of the rest is stationary.",
        "Corollary 3.4",
        vacuous_or(EXACT_MARGIN, "tight", stationarity_evidence, 1e-8, _has_both),
        (DOUBLE_SIGMA, HALF_LAMBDA),
    ),
    Claim(
        "cor3.4/loss-formula",
        "The loss there is (3).",
        "Corollary 3.4, (3)",
        vacuous_or(EXACT_MARGIN, "tight", loss_formula_evidence, 1e-8, _has_both),
        (DOUBLE_SIGMA, HALF_LAMBDA),
    ),
    Claim(
        "cor3.4/duplicates-stored",
        "Trained nets whose units keep to one cluster store each duplicate collinearly.",
        "Corollary 3.4, (8)",
        vacuous_or(
            TRAINED_MARGIN, "blocks", _duplicates_stored, 0.01, _has_both, some_follow_gates
        ),
        (Mutant("decoded at random", _duplicates_decoded_at_random),),
        uses_nets=True,
    ),
    Claim(
        "cor3.4/duplicate-gains",
        "Their summed gain is (‖x‖²−nλ/n_ℓ)/(‖x‖²+σ²).",
        "Corollary 3.4, (8)",
        vacuous_or(TRAINED_MARGIN, "blocks", _duplicate_gains, 0.01, _has_both, some_follow_gates),
        (
            Mutant("duplicates' units scaled by 1.1", _scaled(lambda e: e.duplicated)),
            Mutant(
                "σ for σ²",
                _gain_formula(lambda norm, m, n, s, lam: (norm, m, n, np.sqrt(s), lam)),
            ),
        ),
        uses_nets=True,
    ),
    Claim(
        "cor3.4/rest-blocks",
        "The other units of such nets hold the block operators (2) of the rest.",
        "Corollary 3.4, (2)",
        vacuous_or(TRAINED_MARGIN, "blocks", _rest_blocks, 0.05, _has_both, some_follow_gates),
        (
            Mutant("the rest's units scaled by 1.1", _scaled(lambda e: ~e.duplicated)),
            PRINTED_SIGMA,
        ),
        uses_nets=True,
    ),
    Claim(
        "cor3.4/spiky-and-balanced",
        "Within one net, duplicates are spiky and the rest balanced.",
        "Corollary 3.4",
        vacuous_or(TRAINED_MARGIN, "blocks", _spiky_and_balanced, 0.05, _has_both),
        (UNTRAINED, Mutant("duplicates and rest exchanged", _roles_swapped)),
        uses_nets=True,
    ),
)


def results(experiment: Hybrid) -> dict[str, np.ndarray]:
    """Arrays behind the figures."""
    return block_arrays(experiment) | {"duplicated": experiment.duplicated}


__all__ = ["CLAIMS", "DEFAULT_N", "build", "from_weights", "results", "settings"]
