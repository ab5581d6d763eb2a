"""The hybrid experiment: clusters, some of them one sample repeated, and nets trained on them.

python -m proofs_checks.run --regime=hybrid
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.checks import InputError
from dae_theory.data import (
    Dataset,
    Mixture,
    cluster_labels,
    first_samples,
    separable_mixture,
    simplex,
)
from dae_theory.memorization.nearest import duplicate_groups
from dae_theory.theory.closed_forms import Prediction, predict_blocks, predict_hybrid_gain
from dae_theory.theory.problem import Problem
from dae_theory.weights.compare import Comparison
from dae_theory.weights.read import SavedWeights
from proofs_checks.blocks import (
    SOME_SEPARATE,
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
    separate_clusters,
    tightened,
)
from proofs_checks.claims import Requirement, above
from proofs_checks.config import DataUsed, RunConfig, data_used, load_data
from proofs_checks.draws import Draws, trained_together
from proofs_checks.monte_carlo import EXACT_MARGIN, TRAINED_MARGIN
from proofs_checks.nets import Nets, Progress, Training, nets_of
from proofs_checks.stationarity import AT_MINIMUM, Stopped, at_minimum

N_DUPLICATED, N_SPREAD, ALPHA = 2, 2, 0.1
PRIORS, RANK, DIMENSION = (0.1, 0.2, 0.4, 0.3), 4, 48
DEFAULT_DATA, DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = "mixture", 200, 12, 0.03
DECAY = 0.2  # nλ relative to the smallest eigenvalue a block keeps
# Repeated samples alone: how often each occurs, norms, σ, and nλ/n_ℓ of the rarest over its ‖x‖².
COUNTS, NORMS, REPEATED_SIGMA, REPEATED_DECAY = (24, 48, 96), (1.0, 1.2, 1.5), 0.16, 0.1


@dataclass(frozen=True)
class Hybrid:
    """Clusters, some of which are exact duplicates of one sample, and nets.

    Attributes:
      problem: the training data, with σ, λ, clusters and the units of each.
      tight: the same for the exact statements; ``problem`` itself where the user brought data.
      duplicated: (K,) clusters that consist of one sample, repeated.
      dataset: what x was chosen from; note: how, in words.
      predict: the formula under test, (2)-(4); predict_gain: (8).
      repeated: samples that are all repeated, each another number of times; None for data or
        weights of the user.
      training: nets trained on x and on the repeated samples, from number ``first`` on, and those
        of other experiments; None for weights from a file.
      replaced, replaced_repeated: nets in the place of the trained ones.
    """

    problem: Problem
    tight: Problem
    duplicated: Bool[np.ndarray, " K"]
    dataset: Dataset
    note: str
    predict: Callable[..., Prediction] = predict_blocks
    predict_gain: Callable[..., float] = predict_hybrid_gain
    repeated: Problem | None = None
    training: Training | None = None
    replaced: Nets | None = None
    replaced_repeated: Nets | None = None
    first: int = 0

    @property
    def nets(self) -> Nets:
        """The nets under test, trained when first asked for."""
        return self._trained_on(0) if self.replaced is None else self.replaced

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What nets are trained on."""
        return (self.problem,) if self.repeated is None else (self.problem, self.repeated)

    def _trained_on(self, data_set: int) -> Nets:
        return self.training.nets[self.first + data_set]

    @property
    def stored(self) -> Problem:
        """What gains of duplicates are measured on: the repeated samples, or the user's data."""
        return self.problem if self.repeated is None else self.repeated

    @cached_property
    def tight_stored(self) -> Problem:
        """The same for the exact statements."""
        if self.repeated is None:
            return self.tight
        return tightened(self.repeated, predict_on(self.repeated).margin)

    @property
    def stored_nets(self) -> Nets:
        """The nets on them."""
        if self.repeated is None:
            return self.nets
        nets = self.replaced_repeated
        return self._trained_on(1) if nets is None else nets

    @property
    def stored_clusters(self) -> Int[np.ndarray, " L"]:
        """The clusters that are duplicates there: of the repeated samples all."""
        if self.repeated is None:
            return np.flatnonzero(self.duplicated)
        return np.arange(len(self.repeated.widths))

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
    def stopped_stored(self) -> Stopped:
        """The nets that gains of duplicates are measured on, where training left them."""
        if self.repeated is None:
            return self.stopped
        return Stopped(self.stored_nets, self.stored)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Each net beside (2) at the width that its blocks turned out to have."""
        return compare_at_measured_widths(self.nets, self.problem, self.predict)

    def gains(self, p: Problem) -> Float[np.ndarray, " L"]:
        """Gain of each duplicated sample of a problem, by (8) under test."""
        gains = []
        for k in self.stored_clusters:
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


def build(config: RunConfig, progress: Progress) -> Hybrid | Draws:
    """The experiment a config describes: mixtures, or the user's data; nets are trained when
    needed.

    Raises:
      InputError: for data that cannot be used.
    """
    synthetic = config.data in (None, DEFAULT_DATA)
    draws = (
        [on_mixture(seed, config) for seed in config.data_seeds]
        if synthetic
        else [on_users_data(config)]
    )
    how, what = block_training(draws[0].problem), "training hybrid nets"
    return trained_together(draws, how, config, what, progress, drawn=synthetic)


def on_mixture(seed: int, config: RunConfig) -> Hybrid:
    """A random mixture some clusters of which have no spread, samples of it, and a simplex whose
    corners are repeated."""
    n, clusters = config.n or DEFAULT_N, N_DUPLICATED + N_SPREAD
    if n < 5 * clusters:
        raise InputError(f"n: {clusters} unequal clusters need five times as many, got {n}")
    x_ND, labels_N = mixture_with_duplicates(ALPHA, seed).sample(seed, n)
    duplicated = duplicated_clusters(x_ND, labels_N)
    widths = hybrid_widths(config.p or DEFAULT_P, duplicated)
    lam = default_decay(x_ND, labels_N, widths, DECAY) if config.lam is None else config.lam
    return Hybrid(
        Problem(x_ND, config.sigma or DEFAULT_SIGMA, lam, labels_N, widths),
        tight=tight_problem(n, widths, seed),
        duplicated=duplicated,
        dataset=Dataset("mixture with duplicates", x_ND, labels=labels_N),
        note=f"synthetic mixture, {N_DUPLICATED} of {clusters} clusters duplicates",
        repeated=repeated_problem(seed),
    )


def on_users_data(config: RunConfig) -> Hybrid:
    """The user's samples, in clusters that are given or found."""
    n = config.n or DEFAULT_N
    dataset = load_data(config, config.data, n)
    used = first_samples(dataset, n)
    labels_N, note = hybrid_labels(used.x, used.labels)
    duplicated = duplicated_clusters(used.x, labels_N)
    widths = hybrid_widths(config.p or DEFAULT_P, duplicated)
    lam = default_decay(used.x, labels_N, widths) if config.lam is None else config.lam
    problem = Problem(used.x, config.sigma or DEFAULT_SIGMA, lam, labels_N, widths)
    return Hybrid(problem, tight=problem, duplicated=duplicated, dataset=dataset, note=note)


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


def mixture_with_duplicates(alpha: float, seed: int) -> Mixture:
    """Clusters without spread, whose samples are all the same, and clusters of spread ``alpha``;
    their priors are unequal."""
    n_clusters = N_DUPLICATED + N_SPREAD
    return separable_mixture(
        n_clusters,
        DIMENSION,
        rank=RANK,
        beta=-1 / (n_clusters - 1),
        alpha=[0.0] * N_DUPLICATED + [alpha] * N_SPREAD,
        priors=PRIORS,
        seed=seed,
    )


def tight_problem(n: int, widths: tuple[int, ...], seed: int) -> Problem:
    """Tight clusters on which the gate margin makes the closed forms exact."""
    x_ND, labels_N = mixture_with_duplicates(TIGHT_ALPHA, seed).sample(seed, n)
    lam = default_decay(x_ND, labels_N, widths)
    return Problem(x_ND, TIGHT_SIGMA, lam, labels_N, widths)


def repeated_problem(seed: int) -> Problem:
    """Corners of a random simplex, scaled by NORMS and repeated COUNTS times."""
    corners_KD = simplex(len(COUNTS), DIMENSION, seed=seed).x * np.array(NORMS)[:, None]
    labels_N = np.repeat(np.arange(len(COUNTS)), COUNTS)
    lam = REPEATED_DECAY * NORMS[0] ** 2 * COUNTS[0] / len(labels_N)
    widths = (1,) * len(COUNTS)
    return Problem(corners_KD[labels_N], REPEATED_SIGMA, lam, labels_N, widths)


def hybrid_labels(
    x_ND: Float[np.ndarray, "N D"], labels_N: Int[np.ndarray, " N"] | None
) -> tuple[Int[np.ndarray, " N"], str]:
    """Labels 0 … K−1: the given ones, or each set of identical samples a cluster of its own and
    the remaining samples clustered by direction."""
    if labels_N is not None:
        return cluster_labels(x_ND, labels_N)
    index_N = duplicate_groups(x_ND)
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
TIGHT = (*separable_blocks(EXACT_MARGIN, lambda e: e.tight), HAS_BOTH)
TIGHT_STORED = (*separable_blocks(EXACT_MARGIN, lambda e: e.tight_stored), HAS_BOTH)
TRAINED = (*separable_blocks(TRAINED_MARGIN), HAS_BOTH, AT_MINIMUM)
STORED = (
    *separable_blocks(TRAINED_MARGIN, lambda e: e.stored),
    HAS_BOTH,
    at_minimum("on repeated samples", lambda e: e.stopped_stored),
)
SEPARATE = (*TRAINED, SOME_SEPARATE)
REST_SEPARATE = (
    *TRAINED,
    above(
        "share of other clusters with units of their own",
        0,
        lambda e: np.mean(separate_clusters(e)[:, ~e.duplicated]),
        needs_others=True,
    ),
)
