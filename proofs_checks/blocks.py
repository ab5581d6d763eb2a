"""Clusters and their blocks of units (docs/THEORY.md#thm-3.1): what several regimes share."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.relu.optimize import TrainConfig
from dae_theory.theory.closed_forms import Prediction, block_eigenvalues, predict_blocks
from dae_theory.theory.problem import Problem
from dae_theory.weights.compare import Comparison, assign_blocks, compare_weights
from proofs_checks.claims import Measured, Requirement, above, at_least, below
from proofs_checks.monte_carlo import exact_loss_value, relative_gradient
from proofs_checks.nets import Nets, fewest_live
from proofs_checks.stationarity import Stopped

N_CLUSTERS = 3  # of the synthetic mixture
DECAY_FRACTION = 0.1  # default nλ, relative to the smallest eigenvalue a block keeps
STORED_SIGMA, STORED_DECAY = 0.05, 0.02  # of images to be stored: σ, and nλ over the smallest ‖x‖²
TIGHT_ALPHA, TIGHT_SIGMA = 0.04, 0.02  # data on which the closed forms are exact
TIGHT_MARGIN = 6.5  # gate margin of stored samples for exact statements
STEPS, LEARNING_RATE, INIT_SCALE = 3000, 2e-2, 0.1


def predict_on(problem: Problem, predict: Callable[..., Prediction] = predict_blocks) -> Prediction:
    """(2)-(4) for clustered samples."""
    return predict(problem.x, problem.labels, problem.widths, problem.sigma, problem.lam)


def at_margin(problem: Problem, z: float) -> Problem:
    """The same samples with σ such that the gate margin of (4) is z.

    Fixed-point iteration: the margin is 1/σ times a factor that σ moves little, by the gains.
    """
    for _ in range(30):
        problem = replace(problem, sigma=problem.sigma * predict_on(problem).margin / z)
    return problem


def tightened(problem: Problem, z: float) -> Problem:
    """Samples of gate margin z with σ so small, if it is not, that exact statements apply to them;
    as they are where z is not positive."""
    if not 0 < z < TIGHT_MARGIN:
        return problem
    return replace(problem, sigma=problem.sigma * z / TIGHT_MARGIN)


def smallest_kept(
    x_ND: Float[np.ndarray, "N D"], labels_N: Int[np.ndarray, " N"], widths: Sequence[int]
) -> list[float]:
    """Smallest eigenvalue of X_kX_kᵀ that each block keeps; 0 where it keeps none."""
    return [
        float(values[min(width, len(values)) - 1]) if width and len(values) else 0.0
        for values, width in zip(block_eigenvalues(x_ND, labels_N), widths, strict=True)
    ]


def stored_decay(x_ND: Float[np.ndarray, "N D"], fraction: float = STORED_DECAY) -> float:
    """λ with nλ this fraction of the smallest ‖x‖²."""
    return fraction * float(np.min(np.sum(x_ND**2, axis=1))) / len(x_ND)


def default_decay(
    x_ND: Float[np.ndarray, "N D"],
    labels_N: Int[np.ndarray, " N"],
    widths: Sequence[int],
    fraction: float = DECAY_FRACTION,
) -> float:
    """λ with nλ this fraction of the smallest eigenvalue among those the blocks keep."""
    kept = smallest_kept(x_ND, labels_N, widths)
    return fraction * min((s for s in kept if s > 0), default=0.0) / len(x_ND)


def even_widths(p: int, n_clusters: int) -> tuple[int, ...]:
    """``p`` units spread over the clusters as evenly as possible."""
    return tuple(p // n_clusters + (k < p % n_clusters) for k in range(n_clusters))


def separable_blocks(
    margin: float, problem_of: Callable[[Any], Problem] = lambda e: e.problem
) -> tuple[Requirement, ...]:
    """The assumptions of Theorem 3.1 on the problem that ``problem_of`` finds in an experiment;
    ``margin`` is the gate margin that a claim needs."""

    def shrinkage(e: Any) -> float:
        p = problem_of(e)
        smallest = min(smallest_kept(p.x, p.labels, p.widths))
        return len(p.x) * p.lam / smallest if smallest > 0 else np.inf

    return (
        below("alpha", 1, lambda e: problem_of(e).separability.alpha),
        below("beta", 0, lambda e: problem_of(e).separability.beta),
        below("n*lambda/min s", 1, shrinkage, needs_others=True),
        at_least(
            "gate margin z", margin, lambda e: predict_on(problem_of(e)).margin, needs_others=True
        ),
    )


class BlockExperiment(Protocol):
    """What the generalization and hybrid experiments have in common.

    ``problem`` holds the training data, ``tight`` the data for the exact statements (the same
    where the user brought data); ``predict`` is formula (2)-(4) under test, ``prediction`` what it
    says of the training data; ``comparisons`` are the nets beside it.
    """

    problem: Problem
    tight: Problem
    note: str
    predict: Callable[..., Prediction]
    prediction: Prediction
    nets: Nets
    has_nets: bool
    stopped: Stopped
    comparisons: list[Comparison]


def block_training(problem: Problem) -> TrainConfig:
    """How nets are trained on clustered samples, with the width of the problem."""
    return TrainConfig(
        width=sum(problem.widths),
        sigma=problem.sigma,
        lam=problem.lam,
        steps=STEPS,
        learning_rate=LEARNING_RATE,
        init_scale=INIT_SCALE,
    )


def compare_at_measured_widths(
    nets: Nets, problem: Problem, predict: Callable[..., Prediction] = predict_blocks
) -> list[Comparison]:
    """Each net beside (2), block k having as many units as the net's own block k."""
    comparisons = []
    for w1, w2 in nets.pairs:
        blocks_P = assign_blocks(w1, w2, problem.x, problem.labels)
        widths = tuple(int(np.sum(blocks_P == k)) for k in range(len(problem.widths)))
        prediction = predict_on(replace(problem, widths=widths), predict)
        comparisons.append(compare_weights(w1, w2, prediction, problem.x))
    return comparisons


def separate_clusters(e: BlockExperiment) -> Bool[np.ndarray, "S K"]:
    """(S, K) clusters of each net whose live units are active on no other cluster: what Theorem 3.1
    asks of gates. They have blocks of their own, whatever the units of other clusters do."""
    return np.stack([c.separate for c in e.comparisons])


SOME_SEPARATE = above(
    "share of clusters with units of their own",
    0,
    lambda e: np.mean(separate_clusters(e)),
    needs_others=True,
)


SOME_LIVE = above("live units", 0, lambda e: fewest_live(e.nets), needs_others=True)


def worst_of_separate(
    e: BlockExperiment,
    value: Callable[[Comparison], Float[np.ndarray, " K"]],
    chosen_K: Bool[np.ndarray, " K"] | None = None,
) -> Float[np.ndarray, " S"]:
    """Largest value over the chosen clusters with units of their own, in each net that has any."""
    worst = []
    for comparison, separate_K in zip(e.comparisons, separate_clusters(e), strict=True):
        judged_K = separate_K if chosen_K is None else separate_K & chosen_K
        if judged_K.any():
            worst.append(float(np.max(value(comparison)[judged_K])))
    return np.array(worst)


SHARE_NOTE = "{separate:.2f} of clusters have units of their own, {pure:.2f} of nets no others"


def share_details(e: BlockExperiment) -> dict[str, float]:
    """Shares of clusters with units of their own, and of nets where all are such."""
    separate_SK = separate_clusters(e)
    return {"separate": np.mean(separate_SK), "pure": np.mean(separate_SK.all(axis=1))}


def stationary(e: BlockExperiment) -> Measured:
    """Relative gradient norm at (4), by the formula under test, on the tight data."""
    b = e.tight
    p = predict_on(b, e.predict)
    relative = relative_gradient(p.w1, p.w2, b.x, b.sigma, b.lam)
    note = "‖∇L‖ of the exact loss, relative to the mean of ‖x‖²; tight clusters"
    return Measured(relative, 0.0, np.array([relative]), note=note)


def loss_formula(e: BlockExperiment) -> Measured:
    """Exact loss at (4) on the tight data, beside (3)."""
    b = e.tight
    p = predict_on(b, e.predict)
    loss = exact_loss_value(p.w1, p.w2, b.x, b.sigma, b.lam)
    return Measured(loss, p.loss, np.array([abs(loss - p.loss) / p.loss]), note="tight clusters")


def block_settings(e: BlockExperiment) -> dict:
    """What was checked, for the reader."""
    n, d = e.problem.x.shape
    return {
        "n": n,
        "d": d,
        "p": sum(e.problem.widths),
        "sigma": e.problem.sigma,
        "lam": e.problem.lam,
        "z": predict_on(e.problem).margin,
        "seeds": len(e.nets.seeds) if e.has_nets else 0,
        "data": e.note,
    }


def block_arrays(e: BlockExperiment) -> dict[str, np.ndarray]:
    """Samples, labels, settings and nets of an experiment with blocks."""
    arrays = {
        "x": e.problem.x,
        "labels": e.problem.labels,
        "widths": np.array(e.problem.widths),
        "sigma": np.array(e.problem.sigma),
        "lam": np.array(e.problem.lam),
    }
    if e.has_nets:
        arrays |= {"w1": e.nets.w1, "w2": e.nets.w2}
    return arrays
