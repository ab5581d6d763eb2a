"""Clusters and their blocks of units: what the generalization and hybrid regimes share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.data.subsets import spherical_kmeans
from dae_theory.relu.optimize import TrainConfig
from dae_theory.theory.closed_forms import Prediction, block_eigenvalues, predict_blocks
from dae_theory.theory.separability import separability
from dae_theory.weights.compare import Comparison, assign_blocks, compare_weights
from proofs_checks.claims import (
    Assumption,
    Evidence,
    measure_or_vacuous,
)
from proofs_checks.nets import Nets
from proofs_checks.probes import exact_loss_value, relative_gradient

N_CLUSTERS = 3  # of the synthetic mixture, and to look for where no labels are given
DECAY_FRACTION = 0.1  # default nλ, relative to the smallest eigenvalue a block keeps
TIGHT_ALPHA, TIGHT_SIGMA = 0.04, 0.02  # data on which the closed forms are exact
STEPS, LEARNING_RATE, INIT_SCALE = 4000, 2e-2, 0.1


@dataclass(frozen=True)
class Blocks:
    """Clustered samples with the noise level and decay at which they are looked at."""

    x: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]
    widths: tuple[int, ...]
    sigma: float
    lam: float


def predict_on(blocks: Blocks, predict: Callable[..., Prediction] = predict_blocks) -> Prediction:
    """(2)-(4) for these blocks."""
    return predict(blocks.x, blocks.labels, blocks.widths, blocks.sigma, blocks.lam)


@dataclass(frozen=True, kw_only=True)
class BlockExperiment:
    """What the generalization and hybrid experiments share.

    ``blocks`` are the training data; ``tight`` the data for the exact statements (the same where
    the user brought data); ``predict`` is formula (2)-(4) under test; ``nets`` were trained on
    the training data, None when no claim needs them.
    """

    blocks: Blocks
    tight: Blocks
    predict: Callable[..., Prediction] = predict_blocks
    nets: Nets | None = None
    note: str = ""

    @cached_property
    def prediction(self) -> Prediction:
        """(2)-(4) on the training data, at the configured widths."""
        return predict_on(self.blocks, self.predict)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Each net beside (2) at the width that its blocks turned out to have."""
        return compare_at_measured_widths(self.nets, self.blocks, self.predict)

    @cached_property
    def follows_gates(self) -> Bool[np.ndarray, " S"]:
        """(S,) nets all of whose live units are active on one cluster only."""
        return np.array([c.entangled == 0 for c in self.comparisons])


def block_training(blocks: Blocks) -> TrainConfig:
    """How nets are trained on clustered samples."""
    return TrainConfig(
        width=sum(blocks.widths),
        sigma=blocks.sigma,
        lam=blocks.lam,
        steps=STEPS,
        learning_rate=LEARNING_RATE,
        init_scale=INIT_SCALE,
    )


def compare_at_measured_widths(
    nets: Nets, blocks: Blocks, predict: Callable[..., Prediction]
) -> list[Comparison]:
    """Each net beside (2), block k having as many units as the net's own block k."""
    comparisons = []
    for w1, w2 in nets.pairs:
        blocks_P = assign_blocks(w1, w2, blocks.x, blocks.labels)
        widths = [int(np.sum(blocks_P == k)) for k in range(len(blocks.widths))]
        prediction = predict(blocks.x, blocks.labels, widths, blocks.sigma, blocks.lam)
        comparisons.append(compare_weights(w1, w2, prediction, blocks.x))
    return comparisons


def default_decay(x_ND, labels_N, widths, fraction: float = DECAY_FRACTION) -> float:
    """λ with nλ this fraction of the smallest eigenvalue among those the blocks keep."""
    kept = smallest_kept(x_ND, labels_N, widths)
    return fraction * min((s for s in kept if s > 0), default=0.0) / len(x_ND)


def smallest_kept(x_ND, labels_N, widths) -> list[float]:
    """Smallest eigenvalue of X_kX_kᵀ that each block keeps; 0 where it keeps none."""
    return [
        float(values[min(width, len(values)) - 1]) if width and len(values) else 0.0
        for values, width in zip(block_eigenvalues(x_ND, labels_N), widths, strict=True)
    ]


def even_widths(p: int, n_clusters: int) -> tuple[int, ...]:
    """``p`` units spread over the clusters as evenly as possible."""
    return tuple(p // n_clusters + (k < p % n_clusters) for k in range(n_clusters))


def cluster_labels(x_ND, labels_N, n: int) -> tuple[np.ndarray, str]:
    """Labels 0 … K−1: the given ones, or N_CLUSTERS clusters found by direction."""
    if labels_N is not None:
        _, relabelled = np.unique(labels_N[:n], return_inverse=True)
        return relabelled, "clusters given by labels"
    k = min(N_CLUSTERS, len(x_ND))
    return spherical_kmeans(x_ND, k), f"{k} clusters found by spherical k-means"


def assumptions(blocks: Blocks, margin: float) -> dict[str, Assumption]:
    """Measured assumptions of Theorem 3.1; ``margin`` is the gate margin the claim needs."""
    alpha, beta = separability(blocks.x, blocks.labels)
    z = predict_on(blocks).margin
    smallest = min(smallest_kept(blocks.x, blocks.labels, blocks.widths))
    shrinkage = len(blocks.x) * blocks.lam / smallest if smallest > 0 else np.inf
    return {
        "alpha": Assumption(alpha, "< 1", alpha < 1),
        "beta": Assumption(beta, "< 0", beta < 0),
        "gate margin z": Assumption(z, f">= {margin:g}", z >= margin),
        "n*lambda/min s": Assumption(shrinkage, "< 1", shrinkage < 1),
    }


def vacuous_or(
    margin: float,
    which: str,
    measure: Callable[[Any], dict],
    tolerance: float,
    *extra: Callable[[Any], dict[str, Assumption]],
) -> Callable[[Any], Evidence]:
    """A check that measures only where the assumptions hold, on ``blocks`` or ``tight`` data."""

    def check(experiment: BlockExperiment) -> Evidence:
        required = assumptions(getattr(experiment, which), margin)
        return measure_or_vacuous(experiment, required, measure, tolerance, extra)

    return check


def some_follow_gates(experiment: BlockExperiment) -> dict[str, Assumption]:
    """At least one net keeps each unit to one cluster."""
    share = float(np.mean(experiment.follows_gates))
    return {"nets with one cluster per unit": Assumption(share, "> 0", share > 0)}


def stationarity_evidence(experiment: BlockExperiment) -> dict:
    """Is (4), by the formula under test, stationary on the tight data?"""
    b = experiment.tight
    p = predict_on(b, experiment.predict)
    relative = relative_gradient(p.w1, p.w2, b.x, b.sigma, b.lam)
    return {
        "measured": relative,
        "predicted": 0.0,
        "errors": np.array([relative]),
        "note": "‖∇L‖ of the exact loss, relative to the mean of ‖x‖²; tight clusters",
    }


def at_margin(blocks: Blocks, z: float) -> Blocks:
    """The same samples with σ such that the gate margin of (4) is z.

    Fixed-point iteration: the margin is 1/σ times a factor that σ moves little, by the gains.
    """
    for _ in range(30):
        blocks = replace(blocks, sigma=blocks.sigma * predict_on(blocks).margin / z)
    return blocks


def loss_formula_evidence(experiment: BlockExperiment) -> dict:
    """Is the exact loss at (4) on the tight data what (3) says?"""
    b = experiment.tight
    p = predict_on(b, experiment.predict)
    loss = exact_loss_value(p.w1, p.w2, b.x, b.sigma, b.lam)
    return {
        "measured": loss,
        "predicted": p.loss,
        "errors": np.array([abs(loss - p.loss) / p.loss]),
        "note": "tight clusters",
    }


def gate_share(experiment: BlockExperiment) -> str:
    """In words: how many nets keep each unit to one cluster."""
    follows = experiment.follows_gates
    return f"{follows.sum()} of {len(follows)} nets have no unit active on two clusters"


def kept_comparisons(experiment: BlockExperiment) -> list[Comparison]:
    """Comparisons of the nets that keep each unit to one cluster."""
    return [c for c in experiment.comparisons if c.entangled == 0]


def seeds_that_follow(experiment: BlockExperiment) -> tuple[int, ...]:
    """Seeds of the nets that keep each unit to one cluster."""
    seeds = experiment.nets.seeds
    return tuple(np.array(seeds)[experiment.follows_gates].tolist()) if seeds else ()


def block_arrays(experiment: BlockExperiment) -> dict[str, np.ndarray]:
    """Samples, labels, settings and nets of an experiment with blocks."""
    b = experiment.blocks
    arrays = {
        "x": b.x,
        "labels": b.labels,
        "widths": np.array(b.widths),
        "sigma": np.array(b.sigma),
        "lam": np.array(b.lam),
    }
    if experiment.nets is not None:
        arrays |= {"w1": experiment.nets.w1, "w2": experiment.nets.w2}
    return arrays


def settings(experiment: BlockExperiment) -> dict:
    """What was checked, for the report."""
    n, d = experiment.blocks.x.shape
    return {
        "n": n,
        "d": d,
        "p": sum(experiment.blocks.widths),
        "sigma": experiment.blocks.sigma,
        "lam": experiment.blocks.lam,
        "z": predict_on(experiment.blocks).margin,
        "seeds": 0 if experiment.nets is None else len(experiment.nets.seeds),
        "data": experiment.note,
    }
