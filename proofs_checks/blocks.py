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
from proofs_checks.config import RunConfig
from proofs_checks.monte_carlo import exact_loss_value, relative_gradient
from proofs_checks.nets import Nets, Progress, Training, fewest_live
from proofs_checks.stationarity import Stopped

N_CLUSTERS = 3  # of the synthetic mixture
DECAY_FRACTION = 0.1  # default nλ, relative to the smallest eigenvalue a block keeps
STORED_SIGMA, STORED_DECAY = 0.05, 0.02  # of images to be stored: σ, and nλ over the smallest ‖x‖²
TIGHT_ALPHA, TIGHT_SIGMA = 0.04, 0.02  # data on which the closed forms are exact
STEPS, LEARNING_RATE, INIT_SCALE = 4000, 2e-2, 0.1


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


def smallest_kept(
    x_ND: Float[np.ndarray, "N D"], labels_N: Int[np.ndarray, " N"], widths: Sequence[int]
) -> list[float]:
    """Smallest eigenvalue of X_kX_kᵀ that each block keeps; 0 where it keeps none."""
    return [
        float(values[min(width, len(values)) - 1]) if width and len(values) else 0.0
        for values, width in zip(block_eigenvalues(x_ND, labels_N), widths, strict=True)
    ]


def stored_decay(x_ND: Float[np.ndarray, "N D"]) -> float:
    """λ with nλ = STORED_DECAY of the smallest ‖x‖²."""
    return STORED_DECAY * float(np.min(np.sum(x_ND**2, axis=1))) / len(x_ND)


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


def block_training(
    problem: Problem,
    data_sets: tuple[Float[np.ndarray, "N D"], ...],
    config: RunConfig,
    what: str,
    progress: Progress,
) -> Training:
    """Nets to be trained on clustered samples, with the σ, λ and width of the problem."""
    how = TrainConfig(
        width=sum(problem.widths),
        sigma=problem.sigma,
        lam=problem.lam,
        steps=STEPS,
        learning_rate=LEARNING_RATE,
        init_scale=INIT_SCALE,
    )
    return Training(data_sets, how, config.trainer, config.seed_list, what, progress)


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


def follows_gates(e: BlockExperiment) -> Bool[np.ndarray, " S"]:
    """(S,) nets all of whose live units are active on one cluster only."""
    return np.array([c.entangled == 0 for c in e.comparisons])


SOME_FOLLOW_GATES = above(
    "nets with one cluster per unit", 0, lambda e: np.mean(follows_gates(e)), needs_others=True
)


SOME_LIVE = above("live units", 0, lambda e: fewest_live(e.nets), needs_others=True)


def kept_comparisons(e: BlockExperiment) -> list[Comparison]:
    """Comparisons of the nets that keep each unit to one cluster."""
    return [c for c in e.comparisons if c.entangled == 0]


def seeds_that_follow(e: BlockExperiment) -> tuple[int, ...]:
    """Seeds of the nets that keep each unit to one cluster."""
    return tuple(np.array(e.nets.seeds)[follows_gates(e)].tolist()) if e.nets.seeds else ()


def gate_share(e: BlockExperiment) -> str:
    """In words: how many nets keep each unit to one cluster."""
    follows = follows_gates(e)
    return f"{follows.sum()} of {len(follows)} nets have no unit active on two clusters"


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
