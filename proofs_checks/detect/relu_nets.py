"""Nets that store some samples and generalize from clusters, and what detectors see in them.

Three samples are repeated, two clusters have spread. Nets are solved for on the exact loss: most
from a perturbed minimizer (4), in which we choose how many units hold each sample, two of eight
from random starts. Splitting a unit changes no loss, so that every such number is a minimum.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from dae_theory.data import Dataset, Mixture, separable_mixture
from dae_theory.relu.model import init_weights
from dae_theory.solve.local import solve_local_minimum
from dae_theory.theory.closed_forms import Prediction, predict_blocks
from dae_theory.theory.detectors import Response, block_response, std_law
from dae_theory.theory.problem import Problem
from dae_theory.theory.quadratic import QuadraticLaw
from dae_theory.weights.compare import Comparison, assign_blocks, compare_weights
from proofs_checks.blocks import default_decay, predict_on, separable_blocks
from proofs_checks.claims import Mutant, above
from proofs_checks.config import QUICK_SEEDS, DataUsed, RunConfig, data_used
from proofs_checks.monte_carlo import TRAINED_MARGIN
from proofs_checks.nets import Nets, Progress
from proofs_checks.stationarity import AT_MINIMUM, MOVEMENT, Stopped

DIMENSION, RANK, ALPHA, SIGMA, DECAY = 16, 2, 0.06, 0.035, 0.2
NORMS = (0.97, 1.0, 1.05)  # of the stored samples, in an order that the seed draws; means have 1
MATCHED = 1.0
COUNTS, N_STORED = (10, 20, 30, 40, 40), 3  # repeats of each sample, samples of each cluster
DETECTION = (1.0, 0.5)  # noise of the detector, in units of that of training
DRAWS = 1000  # of either group, for each area
LIVE = 16
MOST_STARTS = 10
KEPT = (1, 1, 1, RANK + 1, RANK + 1)  # directions of each block
NAME = "mixtures with three repeated samples"
PERTURBATION = 0.2  # of the start, in units of its rms
ITERATIONS = 600  # of L-BFGS: rotations inside a block, which lose nothing, take many more


class Plan(NamedTuple):
    """Units of a net, and how many hold each stored sample and cluster; None: a random start."""

    width: int
    units: tuple[int, ...] | None


# In the last but two a stored sample has more units than a cluster.
PLANS = (
    Plan(16, (1, 2, 4, 4, 5)),
    Plan(16, (1, 1, 1, 6, 7)),
    Plan(32, (1, 3, 4, 3, 5)),
    Plan(64, (1, 2, 5, 4, 4)),
    Plan(16, (4, 4, 2, 3, 3)),
    Plan(24, (3, 4, 3, 3, 3)),
    Plan(20, None),
    Plan(40, None),
)


class Setting(NamedTuple):
    """One comparison: a stored sample, a cluster, and the noise of the detector."""

    stored: int
    cluster: int
    sigma: float


@dataclass(frozen=True)
class Solving:
    """A net that is solved for when it is first asked for.

    Attributes:
      problem: samples, σ, λ and clusters.
      plan: its units.
      seed: of the start.
      progress: called while it goes on.
      stored: how many of the first clusters are repeated samples.
      starts: random ones that are tried, at most.
    """

    problem: Problem
    plan: Plan
    seed: int
    progress: Progress
    stored: int = N_STORED
    starts: int = MOST_STARTS

    @cached_property
    def nets(self) -> Nets:
        """The one net, without silent units. Of random starts it is the first that ends with
        clusters that have units of their own: of a unit that serves two the theory says nothing."""
        for attempt in range(1 if self.plan.units else self.starts):
            self.progress("solving for nets that detectors are tried on", attempt, self.starts)
            nets = self._solved(self._planted() if self.plan.units else self._random(attempt))
            if compared(nets, self.problem).separate.all():
                break
        return nets

    @cached_property
    def stopped(self) -> Stopped:
        """The net, where the solver left it."""
        return Stopped(self.nets, self.problem)

    @cached_property
    def prediction(self) -> Prediction:
        """(2) at the widths that the blocks of the net turned out to have."""
        return predicted_for(self.nets, self.problem)

    @cached_property
    def comparison(self) -> Comparison:
        """The net beside (2)."""
        return compared(self.nets, self.problem)

    def _solved(self, start: Sequence[np.ndarray]) -> Nets:
        p = self.problem
        end = solve_local_minimum(*start, p.x, p.sigma, p.lam, max_iterations=ITERATIONS)
        return Nets(end.w1[None], end.w2[None], (self.seed,))

    def _random(self, attempt: int) -> list[np.ndarray]:
        key = jax.random.fold_in(jax.random.key(self.seed), attempt)
        start = init_weights(key, self.problem.x.shape[1], LIVE, scale=0.1)
        return [np.asarray(w, float) for w in start]

    def _planted(self) -> list[np.ndarray]:
        p, rng = self.problem, np.random.default_rng([self.seed, 2])
        prediction = predict_blocks(p.x, p.labels, self.plan.units, p.sigma, p.lam)
        w_DL = prediction.w1.copy()
        for k in range(self.stored):  # unequal parts of the sample
            units_L = prediction.blocks == k
            amounts = rng.uniform(0.5, 1.0, units_L.sum())
            whole_D = prediction.directions[k][:, 0] * np.sqrt(prediction.gains[k][0])
            w_DL[:, units_L] = np.outer(whole_D, amounts / np.linalg.norm(amounts))
        size = PERTURBATION * np.sqrt(np.mean(w_DL**2))
        return [w_DL + size * rng.standard_normal(w_DL.shape) for _ in range(2)]


def predicted_for(nets: Nets, problem: Problem) -> Prediction:
    """(2) at the widths that the blocks of the one net turned out to have."""
    blocks_P = assign_blocks(nets.w1[0], nets.w2[0], problem.x, problem.labels)
    widths = tuple(int(np.sum(blocks_P == k)) for k in range(len(problem.widths)))
    return predict_on(replace(problem, widths=widths))


def compared(nets: Nets, problem: Problem) -> Comparison:
    """The one net beside (2)."""
    return compare_weights(nets.w1[0], nets.w2[0], predicted_for(nets, problem), problem.x)


@dataclass(frozen=True)
class Detecting:
    """A net, the theory's answer to what it is shown, and what is measured of it.

    Attributes:
      problem: what it was trained on; mixture: what fresh samples are drawn from.
      plan, seed: of the net.
      solving: the net, shared by changed copies of this.
      read: what the theory makes of a response; std: its law of the std, squared;
        amounts: of the weights with which units hold a sample. Mutants change them.
      replaced: nets in the place of the solved one.
    """

    problem: Problem
    mixture: Mixture
    plan: Plan
    seed: int
    solving: Solving
    read: Callable[[Response], Response] = lambda response: response
    std: Callable[[Response, int], QuadraticLaw] = std_law
    amounts: Callable[[np.ndarray], np.ndarray] = lambda amounts_G: amounts_G
    replaced: Nets | None = None

    @property
    def nets(self) -> Nets:
        """The net under test."""
        return self.solving.nets if self.replaced is None else self.replaced

    @property
    def has_nets(self) -> bool:
        """The net is there."""
        return self.replaced is not None or "nets" in vars(self.solving)

    @property
    def stopped(self) -> Stopped:
        """The solved net, where the solver left it."""
        return self.solving.stopped

    @property
    def comparison(self) -> Comparison:
        """The solved net beside (2)."""
        return self.solving.comparison

    @cached_property
    def comparisons_made(self) -> tuple[Setting, ...]:
        """Comparisons of stored samples and clusters with units of their own."""
        separate = np.flatnonzero(self.comparison.separate)
        return tuple(
            Setting(int(stored), int(cluster), factor * self.problem.sigma)
            for stored in separate[separate < N_STORED]
            for cluster in separate[separate >= N_STORED]
            for factor in DETECTION
        )

    def response(self, k: int, sigma: float) -> Response:
        """The theory's answer to fresh noised samples of cluster k; of the net it reads the sums
        of units a = Oᵀ1, which the minimizer leaves open."""
        w1 = self.solving.nets.w1[0][:, self.comparison.blocks == k]
        mean_D, cov_DD = self.mixture.means[k], self.mixture.covs[k]
        return self.read(block_response(self.solving.prediction, k, mean_D, cov_DD, sigma, w1))

    def even(self, k: int, sigma: float) -> Response:
        """The same for the even rotation, in which every unit sees the mean alike."""
        mean_D, cov_DD = self.mixture.means[k], self.mixture.covs[k]
        return block_response(self.solving.prediction, k, mean_D, cov_DD, sigma)

    def drawn(
        self, k: int, setting: Setting, draws: int = DRAWS
    ) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "N D"]]:
        """Fresh samples x of cluster k and their noised copies y, of this setting's own noise."""
        level = DETECTION.index(setting.sigma / self.problem.sigma)
        rng = np.random.default_rng([self.seed, setting.stored, setting.cluster, level, k])
        values, vectors = np.linalg.eigh(self.mixture.covs[k])
        root_DD = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        x_ND = self.mixture.means[k] + rng.standard_normal((draws, DIMENSION)) @ root_DD
        return x_ND, x_ND + setting.sigma * rng.standard_normal(x_ND.shape)

    def scores(
        self,
        setting: Setting,
        score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Scores ``score(x, y)`` of the stored sample and of the cluster."""
        pairs = (self.drawn(k, setting) for k in (setting.stored, setting.cluster))
        stored, other = (score(x_ND, y_ND) for x_ND, y_ND in pairs)
        return stored, other

    def representation(self, y_ND: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N P"]:
        """h = [W1ᵀy]_+ of all units of the plan, silent ones included, in NumPy."""
        silent = ((0, 0), (0, self.plan.width - LIVE))
        return np.pad(np.maximum(y_ND @ self.nets.w1[0], 0.0), silent)

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        p = self.problem
        widths = f"{min(plan.width for plan in PLANS)} to {max(plan.width for plan in PLANS)}"
        return {"n": len(p.x), "d": DIMENSION, "p": widths, "sigma": p.sigma, "data": NAME}


@dataclass(frozen=True)
class Pooled:
    """All nets at once, for claims about a share of their settings."""

    draws_of: tuple[Detecting, ...]

    @property
    def usable(self) -> tuple[Detecting, ...]:
        """Nets at a minimum."""
        return tuple(e for e in self.draws_of if e.stopped.movement <= MOVEMENT)


def everywhere(mutant: Mutant) -> Mutant:
    """A mutant of each net, applied to all."""
    return Mutant(mutant.name, lambda e: Pooled(tuple(mutant.apply(one) for one in e.draws_of)))


@dataclass(frozen=True)
class ReluDetection:
    """One net for each seed, of the plans in turn."""

    draws: tuple[Detecting, ...]

    @property
    def pooled(self) -> Pooled:
        """All of them at once."""
        return Pooled(self.draws)

    @property
    def settings(self) -> dict:
        """What was checked: of the first net, and margins of all."""
        z = np.array([predict_on(e.problem).margin for e in self.draws])
        words = f"median of {len(z)} data sets; {z.min():.2f} to {z.max():.2f}"
        first = self.draws[0].settings
        return first | {"z": f"{np.median(z):.2f} ({words})", "seeds": len(self.draws)}

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples, by name and hash."""
        return tuple(
            data_used(Dataset(NAME, e.problem.x), e.problem.x, f"seed {e.seed}") for e in self.draws
        )


def mixture_of(seed: int) -> Mixture:
    """Means at equal negative cosines; those of the repeated samples have NORMS in some order."""
    clusters = len(COUNTS)
    mixture = separable_mixture(
        clusters,
        DIMENSION,
        rank=RANK,
        beta=-1 / (clusters - 1),
        alpha=[0.0] * N_STORED + [ALPHA] * (clusters - N_STORED),
        priors=np.array(COUNTS) / sum(COUNTS),
        seed=seed,
    )
    norms_K = np.ones(clusters)
    norms_K[:N_STORED] = np.random.default_rng([seed, 4]).permutation(NORMS)
    return replace(mixture, means=mixture.means * norms_K[:, None])


def detecting(seed: int, plan: Plan, progress: Progress, starts: int = MOST_STARTS) -> Detecting:
    """The net of one seed, to be solved for from so many random starts at most."""
    mixture = mixture_of(seed)
    x_ND, labels_N = mixture.sample(seed, sum(COUNTS))
    lam = default_decay(x_ND, labels_N, KEPT, DECAY)
    problem = Problem(x_ND, SIGMA, lam, labels_N, KEPT)
    solving = Solving(problem, plan, seed, progress, starts=starts)
    return Detecting(problem, mixture, plan, seed, solving)


def build(config: RunConfig, progress: Progress) -> ReluDetection:
    """A net for each seed of the config."""
    plans = zip(config.data_seeds, itertools.cycle(PLANS))
    starts = QUICK_SEEDS if config.quick else MOST_STARTS
    return ReluDetection(tuple(detecting(seed, plan, progress, starts) for seed, plan in plans))


HAS_SETTINGS = above(
    "stored samples beside clusters with units of their own",
    0,
    lambda e: len(e.comparisons_made),
    needs_others=True,
)
TRAINED = (*separable_blocks(TRAINED_MARGIN), AT_MINIMUM, HAS_SETTINGS)
