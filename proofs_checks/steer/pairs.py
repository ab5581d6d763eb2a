"""Nets that store two samples, each in a block of its own, steered from one to the other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from dae_theory.data import Dataset
from dae_theory.data.mixtures import equiangular_directions, random_rotation
from dae_theory.theory.problem import Problem
from dae_theory.theory.steering import steer_stored, switch_strength
from proofs_checks.config import DataUsed, RunConfig, data_used
from proofs_checks.monte_carlo import noised
from proofs_checks.nets import Progress
from proofs_checks.stationarity import Stopped
from proofs_checks.steer.nets import (
    DRAWS,
    TRAINED_COURSE,
    Course,
    LevelNets,
    nearest_weights,
    predicted_net,
    predicted_weights,
    steered_ends,
)

DIMENSION, WIDTH = 16, 9
REPEATS = 30  # of each sample: equation (8)
COSINES = (-0.6, -0.25)  # of a pair, drawn evenly between them
DECAY = 0.02  # nλ/n_ℓ
FROM, TO = 0, 1  # the sample that is steered, and towards which one
STARTS = 8
STRENGTHS = np.linspace(-0.5, 1.5, 21)


def cosines_of(y_NMD: Float[np.ndarray, "... D"], x_D: Float[np.ndarray, " D"]) -> np.ndarray:
    """Cosine of each row with x."""
    return y_NMD @ x_D / np.linalg.norm(x_D) / np.linalg.norm(y_NMD, axis=-1)


def crossings(
    strengths_A: Float[np.ndarray, " A"], ahead_AM: Float[np.ndarray, "A M"]
) -> np.ndarray:
    """For each start the first strength at which ``ahead`` rises through 0; NaN for none."""
    found = np.full(ahead_AM.shape[1], np.nan)
    for m, ahead_A in enumerate(ahead_AM.T):
        rises = np.flatnonzero((ahead_A[:-1] <= 0) & (ahead_A[1:] > 0))
        if len(rises):
            i = rises[0]
            part = ahead_A[i] / (ahead_A[i] - ahead_A[i + 1])
            found[m] = strengths_A[i] + part * (strengths_A[i + 1] - strengths_A[i])
    return found


def pair_problem(cosine: float, seed: int, sigma: float) -> Problem:
    """Two samples of norm 1 at that cosine, somewhere in R^d, REPEATS times each."""
    x_2D = equiangular_directions(2, DIMENSION, cosine) @ random_rotation(seed, DIMENSION).T
    labels_N = np.repeat(np.arange(2), REPEATS)
    return Problem(x_2D[labels_N], sigma, DECAY / 2, labels_N, (1, 1))


@dataclass(frozen=True)
class Pair:
    """A net that stores two samples, steered from one to the other.

    Attributes:
      seed: of the pair, the starts and the net.
      cosine: between the samples.
      solving: a net for each level of TRAINED_COURSE.
      follow: the theory's flow (`steer_stored`); law: of the strength halfway (`switch_strength`);
        exponent: of the last noise level in the slope there, from the cosine. Mutants change them.
      target: what is measured is steered towards it; seen: what is made of the ends of trained
        nets, over strengths.
    """

    seed: int
    cosine: float
    solving: LevelNets
    follow: Callable[..., np.ndarray] = steer_stored
    law: Callable[[float, float], float] = switch_strength
    exponent: Callable[[float], float] = lambda cosine: 2 * abs(cosine)
    target: int = TO
    seen: Callable[[np.ndarray], np.ndarray] = lambda ends_AMD: ends_AMD

    @property
    def images(self) -> Float[np.ndarray, "2 D"]:
        """The two samples, once."""
        return self.problem.x[::REPEATS]

    @property
    def problem(self) -> Problem:
        """Samples, λ, and the highest σ at which a net is solved for."""
        return self.solving.problem

    def stopped(self, level: int) -> Stopped:
        """The net of a level, where the solver left it."""
        return self.solving.stopped(level)

    @property
    def references(self) -> Float[np.ndarray, "R D"]:
        """What v is the mean representation of: noisy copies of the target."""
        x_1D = self.images[self.target : self.target + 1]
        return noised(x_1D, TRAINED_COURSE.levels[-1], DRAWS, (self.seed, 5))

    def followed(self, steps: Course, start_MD: np.ndarray, strengths_A: np.ndarray) -> np.ndarray:
        """Where the theory's flow ends."""
        decay = len(self.images) * self.problem.lam  # n/n_ℓ samples
        return self.follow(self.images, TO, start_MD, strengths_A, steps.flow, decay)

    @cached_property
    def predicted_ends(self) -> Float[np.ndarray, "A M D"]:
        """Where the theory's flow takes the starts of the solved nets."""
        return self.followed(TRAINED_COURSE, self.noisy_starts, STRENGTHS)

    def predicted_net_ends(
        self, steps: Course, start_MD: np.ndarray, strengths_A: np.ndarray
    ) -> np.ndarray:
        """Where samples of the net (5) end, at every σ."""
        references_1D = self.images[self.target : self.target + 1]
        net = predicted_net(self.problem)
        return steered_ends(predicted_weights, net, references_1D, start_MD, strengths_A, steps)

    @property
    def noisy_starts(self) -> Float[np.ndarray, "M D"]:
        """The stored sample, with noise of the first level."""
        x_1D = self.images[FROM : FROM + 1]
        return noised(x_1D, TRAINED_COURSE.levels[0], STARTS, (self.seed, 6))

    @cached_property
    def trained_ends(self) -> Float[np.ndarray, "A M D"]:
        """Where samples of the solved nets end."""
        ends_AMD = steered_ends(
            nearest_weights,
            self.solving.parameters,
            self.references,
            self.noisy_starts,
            STRENGTHS,
            TRAINED_COURSE,
        )
        return self.seen(ends_AMD)

    def ahead(self, ends_AMD: np.ndarray) -> Float[np.ndarray, "A M"]:
        """How much nearer the end is to the target than to where it came from, in cosine."""
        to, away = (cosines_of(ends_AMD, self.images[k]) for k in (TO, FROM))
        return to - away


@dataclass(frozen=True)
class Pairs:
    """A pair for each seed."""

    draws: tuple[Pair, ...]

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        cosines = [e.cosine for e in self.draws]
        return {
            "pairs": f"2 samples of norm 1 in R^{DIMENSION}, {REPEATS} times each, cosines "
            f"{min(cosines):.2f} to {max(cosines):.2f}",
            "seeds": len(self.draws),
        }

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples, by name and hash."""
        return tuple(
            data_used(Dataset("pair", e.problem.x), e.problem.x, f"seed {e.seed}")
            for e in self.draws
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Response curves of the nets that were solved for, for the figure, predicted and measured:
        cosine with the target, mean over starts (S, A), over strengths (A); cosines of the pairs
        (S)."""
        solved = [pair for pair in self.draws if pair.solving.solved]
        if not solved:
            return {}

        def curves(ends_of: Callable[[Pair], np.ndarray]) -> np.ndarray:
            cosines = [cosines_of(ends_of(pair), pair.images[TO]) for pair in solved]
            return np.stack(cosines).mean(axis=2)

        return {
            "strengths": STRENGTHS,
            "cosines": np.array([pair.cosine for pair in solved]),
            "predicted": curves(lambda pair: pair.predicted_ends),
            "measured": curves(lambda pair: pair.trained_ends),
        }


def build(config: RunConfig, progress: Progress) -> Pairs:
    """A pair for each seed of the config."""

    def one(seed: int) -> Pair:
        cosine = float(np.random.default_rng([seed, 3]).uniform(*COSINES))
        problem = pair_problem(cosine, seed, float(TRAINED_COURSE.levels[0]))
        return Pair(seed, cosine, LevelNets(problem, TRAINED_COURSE.levels, WIDTH, seed, progress))

    return Pairs(tuple(map(one, config.data_seeds)))


def unexplained(measured: np.ndarray, predicted: np.ndarray) -> float:
    """1 − R²: mean squared error of a prediction, relative to the variance."""
    return float(np.mean((measured - predicted) ** 2) / np.var(measured))


def without_decay(e: Pair, cosine: float | None = None) -> Pair:
    """The pair, at its cosine or another, with λ = 0: far below the norm gains are 1."""
    problem = e.problem if cosine is None else pair_problem(cosine, e.seed, e.problem.sigma)
    return replace(e, solving=replace(e.solving, problem=replace(problem, lam=0.0)))
