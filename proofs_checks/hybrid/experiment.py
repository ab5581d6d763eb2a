"""The hybrid experiment: clusters, some of them one sample repeated, and nets trained on them.

python -m proofs_checks.run --regime=hybrid
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.checks import InputError
from dae_theory.data import Dataset, Mixture, cluster_labels, first_samples, separable_mixture
from dae_theory.data.named import MIXTURE_DIMENSION, MIXTURE_RANK
from dae_theory.theory.closed_forms import Prediction, predict_blocks, predict_hybrid_gain
from dae_theory.theory.problem import Problem
from dae_theory.weights.compare import Comparison
from dae_theory.weights.read import SavedWeights
from proofs_checks.blocks import (
    SOME_FOLLOW_GATES,
    TIGHT_ALPHA,
    TIGHT_SIGMA,
    block_arrays,
    block_settings,
    block_training,
    compare_at_measured_widths,
    default_decay,
    even_widths,
    predict_on,
    separable_blocks,
)
from proofs_checks.claims import Requirement, above
from proofs_checks.config import DataUsed, RunConfig, data_used, load_data
from proofs_checks.monte_carlo import EXACT_MARGIN, TRAINED_MARGIN
from proofs_checks.nets import Nets, Progress, Training, nets_of
from proofs_checks.stationarity import AT_MINIMUM, Stopped

N_DUPLICATED, N_SPREAD, ALPHA = 2, 2, 0.2
DEFAULT_DATA, DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = "mixture", 300, 10, 0.05


@dataclass(frozen=True)
class Hybrid:
    """Clusters, some of which are exact duplicates of one sample, and nets.

    Attributes:
      problem: the training data, with σ, λ, clusters and the units of each.
      tight: the same for the exact statements; ``problem`` itself where the user brought data.
      duplicated: (K,) clusters that consist of one sample, repeated.
      dataset: what x was chosen from; note: how, in words.
      predict: the formula under test, (2)-(4); predict_gain: (8).
      training: nets trained on x; None for weights from a file.
      replaced: nets in the place of the trained ones.
    """

    problem: Problem
    tight: Problem
    duplicated: Bool[np.ndarray, " K"]
    dataset: Dataset
    note: str
    predict: Callable[..., Prediction] = predict_blocks
    predict_gain: Callable[..., float] = predict_hybrid_gain
    training: Training | None = None
    replaced: Nets | None = None

    @property
    def nets(self) -> Nets:
        """The nets under test, trained when first asked for."""
        return self.training.nets[0] if self.replaced is None else self.replaced

    @property
    def has_nets(self) -> bool:
        """Nets are there without further training."""
        return self.replaced is not None or self.training.done

    @cached_property
    def prediction(self) -> Prediction:
        """(2)-(4) on the training data, at the configured widths."""
        return predict_on(self.problem, self.predict)

    @cached_property
    def stopped(self) -> Stopped:
        """The nets, where training left them."""
        return Stopped(self.nets, self.problem)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Each net beside (2) at the width that its blocks turned out to have."""
        return compare_at_measured_widths(self.nets, self.problem, self.predict)

    @cached_property
    def has_several_units(self) -> Bool[np.ndarray, " S"]:
        """(S,) nets with at least two live units for each cluster that (4) gives more than one:
        one alone is spiky whatever it stores."""
        several_K = np.array(self.problem.widths) > 1
        return np.array([np.all(c.widths[several_K] >= 2) for c in self.comparisons])

    @cached_property
    def gains(self) -> Float[np.ndarray, " L"]:
        """Gain of each duplicated sample, by (8) under test."""
        p, gains = self.problem, []
        for k in np.flatnonzero(self.duplicated):
            members = p.x[p.labels == k]
            norm = float(np.linalg.norm(members[0]))
            gains.append(self.predict_gain(norm, len(members), len(p.x), p.sigma, p.lam))
        return np.array(gains)

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        return block_settings(self)

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples, by name and hash."""
        used = (data_used(self.dataset, self.problem.x, self.note),)
        if self.tight is self.problem:
            return used
        tight = Dataset(self.dataset.name, self.tight.x)
        return (*used, data_used(tight, tight.x, "tight clusters, for the exact statements"))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw."""
        return block_arrays(self) | {"duplicated": self.duplicated}


def build(config: RunConfig, progress: Progress) -> Hybrid:
    """The experiment a config describes: a mixture, or the user's data; nets are trained when
    needed.

    Raises:
      InputError: for data that cannot be used.
    """
    n, p = config.n or DEFAULT_N, config.p or DEFAULT_P
    name = config.data or DEFAULT_DATA
    synthetic = name == DEFAULT_DATA
    if synthetic:
        clusters = N_DUPLICATED + N_SPREAD
        if n < 2 * clusters:
            raise InputError(f"n: {clusters} clusters need twice as many, got {n}")
        x_ND, labels_N = mixture_with_duplicates(ALPHA).sample(0, n)
        dataset = Dataset("mixture with duplicates", x_ND, labels=labels_N)
        note = f"synthetic mixture, {N_DUPLICATED} of {clusters} clusters duplicates"
    else:
        dataset = load_data(config, name, n)
        used = first_samples(dataset, n)
        x_ND, (labels_N, note) = used.x, hybrid_labels(used.x, used.labels)
    duplicated = duplicated_clusters(x_ND, labels_N)
    widths = hybrid_widths(p, duplicated)
    lam = default_decay(x_ND, labels_N, widths) if config.lam is None else config.lam
    problem = Problem(x_ND, config.sigma or DEFAULT_SIGMA, lam, labels_N, widths)
    return Hybrid(
        problem,
        tight=tight_problem(n, widths) if synthetic else problem,
        duplicated=duplicated,
        dataset=dataset,
        note=note,
        training=block_training(problem, (x_ND,), config, "training hybrid nets", progress),
    )


def from_weights(saved: SavedWeights) -> Hybrid:
    """The experiment around weights that were trained elsewhere; labels are found if not given."""
    labels_N, note = hybrid_labels(saved.problem.x, saved.problem.labels)
    duplicated = duplicated_clusters(saved.problem.x, labels_N)
    widths = hybrid_widths(saved.w1.shape[1], duplicated)
    problem = replace(saved.problem, labels=labels_N, widths=widths)
    return Hybrid(
        problem,
        tight=problem,
        duplicated=duplicated,
        dataset=Dataset("samples of the weights file", problem.x),
        note=f"weights from a file; {note}",
        replaced=nets_of(saved),
    )


def mixture_with_duplicates(alpha: float) -> Mixture:
    """Clusters without spread, whose samples are all the same, and clusters of spread ``alpha``."""
    n_clusters = N_DUPLICATED + N_SPREAD
    return separable_mixture(
        n_clusters,
        MIXTURE_DIMENSION,
        rank=MIXTURE_RANK,
        beta=-1 / (n_clusters - 1),
        alpha=[0.0] * N_DUPLICATED + [alpha] * N_SPREAD,
        seed=2,
    )


def tight_problem(n: int, widths: tuple[int, ...]) -> Problem:
    """Tight clusters on which the gate margin makes the closed forms exact."""
    x_ND, labels_N = mixture_with_duplicates(TIGHT_ALPHA).sample(1, n)
    lam = default_decay(x_ND, labels_N, widths)
    return Problem(x_ND, TIGHT_SIGMA, lam, labels_N, widths)


def hybrid_labels(
    x_ND: Float[np.ndarray, "N D"], labels_N: Int[np.ndarray, " N"] | None
) -> tuple[Int[np.ndarray, " N"], str]:
    """Labels 0 … K−1: the given ones, or each set of identical samples a cluster of its own and
    the remaining samples clustered by direction."""
    if labels_N is not None:
        return cluster_labels(x_ND, labels_N)
    first: dict[bytes, int] = {}
    index_N = np.array([first.setdefault(x.tobytes(), len(first)) for x in x_ND + 0.0])
    counts = np.bincount(index_N)
    repeated_N = counts[index_N] > 1
    found_N = np.zeros(len(x_ND), int)
    _, found_N[repeated_N] = np.unique(index_N[repeated_N], return_inverse=True)
    n_repeated = len(np.unique(index_N[repeated_N]))
    if not repeated_N.all():
        rest, _ = cluster_labels(x_ND[~repeated_N])
        found_N[~repeated_N] = n_repeated + rest
    return found_N, f"{n_repeated} duplicated samples found, the rest clustered by k-means"


def duplicated_clusters(
    x_ND: Float[np.ndarray, "N D"], labels_N: Int[np.ndarray, " N"]
) -> Bool[np.ndarray, " K"]:
    """(K,) clusters that consist of one sample, repeated."""
    clusters = [x_ND[labels_N == k] for k in range(int(labels_N.max()) + 1)]
    return np.array([len(c) > 1 and np.all(c == c[0]) for c in clusters])


def hybrid_widths(p: int, duplicated_K: Bool[np.ndarray, " K"]) -> tuple[int, ...]:
    """One unit for each duplicated sample, the other units spread over the other clusters."""
    n_duplicated, n_rest = int(duplicated_K.sum()), int((~duplicated_K).sum())
    widths = np.ones(len(duplicated_K), int)
    if n_rest:
        widths[~duplicated_K] = even_widths(max(p - n_duplicated, 0), n_rest)
    return tuple(widths.tolist())


HAS_BOTH = Requirement(
    "share of duplicated clusters",
    "between 0 and 1",
    lambda e: np.mean(e.duplicated),
    lambda share: 0 < share < 1,
    needs_others=True,
)
SEVERAL_UNITS = above(
    "nets with several units for each other cluster",
    0,
    lambda e: np.mean(e.has_several_units),
    needs_others=True,
)
TIGHT = (*separable_blocks(EXACT_MARGIN, lambda e: e.tight), HAS_BOTH)
TRAINED = (*separable_blocks(TRAINED_MARGIN), HAS_BOTH, AT_MINIMUM)
FOLLOWING = (*TRAINED, SOME_FOLLOW_GATES)
