"""Nets with a concept inside one of their blocks: clusters that they generalize from, and samples
that share a block."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dae_theory.data import Dataset, separable_mixture
from dae_theory.data.mixtures import equiangular_directions, random_rotation
from dae_theory.theory.problem import Problem
from dae_theory.theory.steering import steer_block
from proofs_checks.blocks import default_decay, predict_on
from proofs_checks.config import DataUsed, RunConfig, data_used
from proofs_checks.monte_carlo import noised
from proofs_checks.nets import Progress
from proofs_checks.stationarity import Stopped
from proofs_checks.steer.nets import (
    DRAWS,
    NOISE_COURSE,
    TRAINED_COURSE,
    Course,
    LevelNets,
    nearest_weights,
    predicted_net,
    predicted_weights,
    steered_ends,
)

DIMENSION, RANK, ALPHA, BETA = 16, 2, 0.15, -0.5
COUNTS, WIDTHS = (12, 20, 28), (RANK + 1,) * 3  # of the clusters
NEAR = (0.65, 0.85)  # cosine of two samples that share a block, drawn evenly between them
REPEATS, SHARED_WIDTHS = 15, (4, 5)  # of each of these samples; units of the two blocks
SHARED_DECAY = 0.02  # nλ over the smallest eigenvalue that a block keeps
BLOCK = 0  # the one that is steered in
STRENGTHS = np.linspace(-0.1, 1.5, 17)
STARTS = 8
SPREAD = 0.05  # of starts from far above the norm, relative to their length
LOOKS = 12  # levels at which the gates of a path are looked at


@dataclass(frozen=True)
class Inside:
    """A net, and a concept inside one of its clusters.

    Attributes:
      seed: of the samples, the starts and the net.
      references: rows of the cluster that v is the mean representation of; starts: those that are
        steered.
      solving: a net for each level of TRAINED_COURSE.
      predict: end of the flow (`steer_block`). Mutants change it.
      averaged: rows that v is made of in the place of ``references``.
      strength: what is applied for a strength a; seen: what is made of the ends of trained nets,
        over strengths.
    """

    seed: int
    references: Int[np.ndarray, " R"]
    starts: Int[np.ndarray, " M"]
    solving: LevelNets
    predict: Callable[..., tuple[np.ndarray, np.ndarray]] = steer_block
    averaged: Int[np.ndarray, " R"] | None = None
    strength: Callable[[np.ndarray], np.ndarray] = lambda a: a
    seen: Callable[[np.ndarray], np.ndarray] = lambda ends_AMD: ends_AMD

    @property
    def problem(self) -> Problem:
        """Samples, λ, clusters, and the highest σ at which a net is solved for."""
        return self.solving.problem

    def stopped(self, level: int) -> Stopped:
        """The net of a level, where the solver left it."""
        return self.solving.stopped(level)

    @property
    def concept(self) -> Float[np.ndarray, " D"]:
        """x̄, the mean of the references."""
        return self.problem.x[self.references].mean(axis=0)

    @property
    def shown(self) -> Float[np.ndarray, "R D"]:
        """What v is the mean representation of."""
        return self.problem.x[self.references if self.averaged is None else self.averaged]

    def predicted(self, steps: Course, start_MD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """End of the unsteered flow, and slope in a."""
        net = predicted_net(self.problem)
        columns_Q = slice(0, len(np.atleast_1d(predict_on(self.problem).gains[BLOCK])))
        return self.predict(
            start_MD,
            self.concept,
            net.directions[:, columns_Q],
            net.eigenvalues[columns_Q],
            steps.flow,
            float(net.decay[BLOCK]),
        )

    def predicted_net_ends(self, steps: Course, start_MD: np.ndarray) -> Float[np.ndarray, "A M D"]:
        """Where samples of the net (4) end, at every σ."""
        net, strengths_A = predicted_net(self.problem), self.strength(STRENGTHS)
        return steered_ends(predicted_weights, net, self.shown, start_MD, strengths_A, steps)

    @property
    def noisy_starts(self) -> Float[np.ndarray, "M D"]:
        """Samples with noise of the first level."""
        x_MD = self.problem.x[np.resize(self.starts, STARTS)]
        return noised(x_MD, TRAINED_COURSE.levels[0], 1, (self.seed, 6))

    @property
    def far_starts(self) -> Float[np.ndarray, "M D"]:
        """Starts far above the norm, in the cone of samples that open the gates of the block."""
        x_MD = self.problem.x[np.resize(self.starts, STARTS)]
        return NOISE_COURSE.levels[0] * noised(x_MD, SPREAD / DIMENSION**0.5, 1, (self.seed, 7))

    @cached_property
    def trained_ends(self) -> Float[np.ndarray, "A M D"]:
        """Where samples of the solved nets end."""
        references_RD = noised(self.shown, TRAINED_COURSE.levels[-1], DRAWS, (self.seed, 5))
        ends_AMD = steered_ends(
            nearest_weights,
            self.solving.parameters,
            references_RD,
            self.noisy_starts,
            self.strength(STRENGTHS),
            TRAINED_COURSE,
        )
        return self.seen(ends_AMD)

    def nearest_gate(self, steps: Course, start_MD: np.ndarray) -> float:
        """Smallest cosine between a path of the theory and a unit, negated where its gate should be
        closed: negative where a gate changes on the way."""
        prediction = predict_on(self.problem)
        sign_P = np.where(prediction.blocks == BLOCK, 1.0, -1.0)
        unit_DP = prediction.w1 / np.linalg.norm(prediction.w1, axis=0)
        nearest = np.inf
        for last in np.unique(np.linspace(1, len(steps.levels) - 1, LOOKS).astype(int)):
            window = min(steps.first, last - 1), min(steps.last, last)
            base_MD, slope_D = self.predicted(Course(steps.levels[: last + 1], *window), start_MD)
            for a in STRENGTHS[[0, -1]] if last > steps.first else [0.0]:
                y_MD = base_MD + a * slope_D
                cosine_MP = y_MD @ unit_DP / np.linalg.norm(y_MD, axis=1, keepdims=True)
                nearest = min(nearest, float(np.min(sign_P * cosine_MP)))
        return nearest


@dataclass(frozen=True)
class Blocks:
    """A net for each seed."""

    draws: tuple[Inside, ...]
    name: str

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        p = self.draws[0].problem
        return {self.name: f"n={len(p.x)} in R^{p.x.shape[1]}, units {p.widths}"}

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples, by name and hash."""
        return tuple(
            data_used(Dataset(self.name, e.problem.x), e.problem.x, f"seed {e.seed}")
            for e in self.draws
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Response curves of the nets that were solved for, for the figure, measured and predicted:
        the concept's part, mean over starts (S, A), over strengths (A)."""
        solved = [one for one in self.draws if one.solving.solved]
        if not solved:
            return {}
        measured, predicted = (
            np.stack(curves).mean(axis=2) for curves in zip(*map(responses, solved), strict=True)
        )
        return {"strengths": STRENGTHS, "measured": measured, "predicted": predicted}


def build_clusters(config: RunConfig, progress: Progress) -> Blocks:
    """Clusters of many samples: a concept is the half of one on one side of its mean."""

    def one(seed: int) -> Inside:
        mixture = separable_mixture(
            len(COUNTS),
            DIMENSION,
            rank=RANK,
            beta=BETA,
            alpha=ALPHA,
            priors=np.array(COUNTS) / sum(COUNTS),
            seed=seed,
        )
        x_ND, labels_N = mixture.sample(seed, sum(COUNTS))
        sigma = float(TRAINED_COURSE.levels[0])
        problem = Problem(x_ND, sigma, default_decay(x_ND, labels_N, WIDTHS), labels_N, WIDTHS)
        aside_N = x_ND @ predict_on(problem).directions[BLOCK][:, 1]
        inside_N = labels_N == BLOCK
        return Inside(
            seed,
            np.flatnonzero(inside_N & (aside_N > 0)),
            np.flatnonzero(inside_N & (aside_N <= 0)),
            LevelNets(problem, TRAINED_COURSE.levels, 0, seed, progress),
        )

    return Blocks(tuple(map(one, config.data_seeds)), "clusters")


def build_shared(config: RunConfig, progress: Progress) -> Blocks:
    """Two pairs of samples, each stored by one block of two units."""

    def one(seed: int) -> Inside:
        near = np.random.default_rng([seed, 3]).uniform(*NEAR, 2)
        means_2D = np.zeros((2, 4))
        means_2D[:, :2] = equiangular_directions(2, 2, BETA)
        aside_2D = np.eye(4)[2:]
        mean, aside = np.sqrt((1 + near) / 2), np.sqrt((1 - near) / 2)
        x_ND = np.concatenate(
            [mean[k] * means_2D[k] + np.outer([-aside[k], aside[k]], aside_2D[k]) for k in range(2)]
        )
        x_ND = np.pad(x_ND, ((0, 0), (0, DIMENSION - 4))) @ random_rotation(seed, DIMENSION).T
        x_ND = np.repeat(x_ND, REPEATS, axis=0)
        labels_N, widths = np.repeat([0, 1], 2 * REPEATS), SHARED_WIDTHS
        sigma = float(TRAINED_COURSE.levels[0])
        lam = default_decay(x_ND, labels_N, widths, SHARED_DECAY)
        problem = Problem(x_ND, sigma, lam, labels_N, widths)
        nets = LevelNets(problem, TRAINED_COURSE.levels, 0, seed, progress)
        return Inside(seed, np.array([REPEATS]), np.array([0]), nets)

    return Blocks(tuple(map(one, config.data_seeds)), "pairs in a block")


def responses(e: Inside) -> tuple[Float[np.ndarray, "A M"], Float[np.ndarray, "A M"]]:
    """The concept's part of the ends of solved nets, measured and predicted: along the predicted
    slope."""
    base_MD, slope_D = e.predicted(TRAINED_COURSE, e.noisy_starts)
    along_D = slope_D / np.linalg.norm(slope_D)
    predicted_AM = base_MD @ along_D + STRENGTHS[:, None] * np.linalg.norm(slope_D)
    return e.trained_ends @ along_D, predicted_AM
