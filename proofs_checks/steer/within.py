"""Steering inside one block: to a concept of its cluster, or another sample stored there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dae_theory.data import Dataset, separable_mixture
from dae_theory.data.mixtures import equiangular_directions, random_rotation
from dae_theory.relu.model import denoise, encode
from dae_theory.theory.problem import Problem
from dae_theory.theory.steering import steer_block
from proofs_checks.blocks import default_decay, predict_on, separable_blocks
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Requirement, Verdict, at_least
from proofs_checks.config import DataUsed, RunConfig, data_used
from proofs_checks.monte_carlo import TRAINED_MARGIN
from proofs_checks.mutants import instead, misprint
from proofs_checks.nets import Progress
from proofs_checks.stationarity import Stopped
from proofs_checks.steer.across import (
    AT_MINIMUM,
    TRAINED_COURSE,
    gone_at_half,
    short_of_brittle,
    unexplained,
)
from proofs_checks.steer.nets import (
    DRAWS,
    Course,
    LevelNets,
    course,
    nearest_weights,
    noised,
    predicted_net,
    predicted_weights,
    steered_ends,
)
from proofs_checks.steer.origin import FIXED_HERE

DIMENSION, RANK, ALPHA, BETA = 16, 2, 0.15, -0.5
COUNTS, WIDTHS = (12, 20, 28), (RANK + 1,) * 3  # of the clusters
NEAR = (0.65, 0.85)  # cosine of two samples that share a block, drawn evenly between them
REPEATS, SHARED_WIDTHS = 15, (4, 5)  # of each of these samples; units of the two blocks
SHARED_DECAY = 0.02  # nλ over the smallest eigenvalue that a block keeps
BLOCK = 0  # the one that is steered in
STRENGTHS = np.linspace(-0.1, 1.5, 17)
STARTS = 8
NOISE_COURSE = course(20.0, 0.01, 400, 60, 340)
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
        return noised(x_MD, TRAINED_COURSE.levels[0], 1, self.seed + 1)

    @property
    def far_starts(self) -> Float[np.ndarray, "M D"]:
        """Starts far above the norm, in the cone of samples that open the gates of the block."""
        x_MD = self.problem.x[np.resize(self.starts, STARTS)]
        return NOISE_COURSE.levels[0] * noised(x_MD, SPREAD / DIMENSION**0.5, 1, self.seed + 2)

    @cached_property
    def trained_ends(self) -> Float[np.ndarray, "A M D"]:
        """Where samples of the solved nets end."""
        references_RD = noised(self.shown, TRAINED_COURSE.levels[-1], DRAWS, self.seed)
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


def slope_of(ends_AMD: np.ndarray) -> Float[np.ndarray, "M D"]:
    """Least-squares slope of the ends in a."""
    centred_A = STRENGTHS - STRENGTHS.mean()
    return np.tensordot(centred_A, ends_AMD, 1) / np.sum(centred_A**2)


def compared(e: Inside, ends_AMD: np.ndarray, base_MD: np.ndarray, slope_D: np.ndarray) -> Measured:
    """Largest distance of a start's slope from the predicted one, relative to it."""
    slopes_MD = slope_of(ends_AMD)
    away_M = np.linalg.norm(slopes_MD - slope_D, axis=1) / np.linalg.norm(slope_D)
    return Measured(
        float(np.mean(np.linalg.norm(slopes_MD, axis=1))),
        float(np.linalg.norm(slope_D)),
        np.array([np.max(away_M)]),
        (e.seed,),
        f"length of the slope in a, mean over {STARTS} starts; error: of the worst vector",
    )


def flow_slope(e: Inside) -> Measured:
    """Slope of the ends of samples of the net (4), from far above the norm."""
    start_MD = e.far_starts
    return compared(
        e, e.predicted_net_ends(NOISE_COURSE, start_MD), *e.predicted(NOISE_COURSE, start_MD)
    )


def trained_slope(e: Inside) -> Measured:
    """Slope of the ends of samples of solved nets."""
    return compared(e, e.trained_ends, *e.predicted(TRAINED_COURSE, e.noisy_starts))


def responses(e: Inside) -> tuple[Float[np.ndarray, "A M"], Float[np.ndarray, "A M"]]:
    """The concept's part of the ends of solved nets, measured and predicted: along the predicted
    slope."""
    base_MD, slope_D = e.predicted(TRAINED_COURSE, e.noisy_starts)
    along_D = slope_D / np.linalg.norm(slope_D)
    predicted_AM = base_MD @ along_D + STRENGTHS[:, None] * np.linalg.norm(slope_D)
    return e.trained_ends @ along_D, predicted_AM


def response_arrays(e: Blocks) -> dict[str, np.ndarray]:
    """Response curves of the nets that were solved for, for the figure, measured and predicted: the
    concept's part, mean over starts (S, A), over strengths (A)."""
    solved = [one for one in e.draws if one.solving.solved]
    if not solved:
        return {}
    measured, predicted = (
        np.stack(curves).mean(axis=2) for curves in zip(*map(responses, solved), strict=True)
    )
    return {"strengths": STRENGTHS, "measured": measured, "predicted": predicted}


def trained_response(e: Inside) -> Measured:
    """1 − R² of the concept's part of the ends: of the prediction, and of a straight line."""
    measured_AM, predicted_AM = responses(e)
    lines = np.polynomial.polynomial.polyfit(STRENGTHS, measured_AM, 1)
    line_AM = lines[0] + STRENGTHS[:, None] * lines[1]
    worst = max(unexplained(measured_AM, predicted_AM), unexplained(measured_AM, line_AM))
    return Measured(
        float(np.mean(lines[1])),
        float(np.mean(np.gradient(predicted_AM, STRENGTHS, axis=0))),
        np.array([worst]),
        (e.seed,),
        "slope of the concept's part in a; error: 1 − R² of the prediction, or of a line if worse",
    )


def shared_brittle(e: Inside) -> Measured:
    """Of two samples in one block: share of the way between them that is gone at half the strength
    it takes to get halfway."""
    way_D = e.concept - e.problem.x[e.starts[0]]
    middle = (e.concept + e.problem.x[e.starts[0]]) @ way_D / 2
    ahead_AM = (e.trained_ends @ way_D - middle) / np.linalg.norm(way_D)
    return short_of_brittle(float(np.mean(gone_at_half(STRENGTHS, ahead_AM))), e.seed)


def one_call(e: Inside) -> Measured:
    """What a·v adds to one call of the net (4), against a M x̄."""
    p = predict_on(e.problem)
    v_P = np.mean(np.asarray(encode(p.w1, e.shown)), axis=0)
    start_MD = e.problem.x[e.starts]
    steered_MD = (np.asarray(encode(p.w1, start_MD)) + e.strength(1.0) * v_P) @ p.w2.T
    added_MD = steered_MD - np.asarray(denoise(p.w1, p.w2, start_MD))
    predicted_D = p.operator(BLOCK) @ e.concept
    error = np.max(np.abs(added_MD - predicted_D)) / np.linalg.norm(predicted_D)
    return Measured(
        float(np.mean(np.linalg.norm(added_MD, axis=1))),
        float(np.linalg.norm(predicted_D)),
        np.array([error]),
        (e.seed,),
        "length of what is added at a = 1",
    )


# --- mutants and claims ---------------------------------------------------------------------------


def bent(ends_AMD: np.ndarray) -> np.ndarray:
    """Nothing moves up to half of the strengths, and then all of the way at once: a switch."""
    moved_A = np.arange(len(ends_AMD)) >= len(ends_AMD) // 2
    unsteered_MD = ends_AMD[np.argmin(np.abs(STRENGTHS))]
    return np.where(moved_A[:, None, None], ends_AMD[-1], unsteered_MD)


OF_THE_STEERED = Mutant("v of the steered samples", lambda e: replace(e, averaged=e.starts))
HALF = instead("a/2 for a", "strength", lambda a: a / 2)
OTHER_WAY = instead("−a for a", "strength", lambda a: -a)
SWITCH = instead("a switch", "seen", bent)
NO_WINDOW = misprint(
    "steered all the way", "predict", levels=lambda levels: levels._replace(window=None)
)
UNSCALED = misprint("s for s/n_k", "predict", eigenvalues_R=lambda e_R: 10 * e_R)
UNIT_MEAN = misprint("x̄ twice as long", "predict", concept_D=lambda concept_D: 2 * concept_D)

SEPARATE = separable_blocks(TRAINED_MARGIN)


def gates_stay(name: str, path: Callable[[Inside], float]) -> Requirement:
    """No gate changes on the way."""
    return at_least(f"distance of gates from a path, {name}", 0.0, path, needs_others=True)


FAR = gates_stay("from far", lambda e: e.nearest_gate(NOISE_COURSE, e.far_starts))
NEARBY = gates_stay("from samples", lambda e: e.nearest_gate(TRAINED_COURSE, e.noisy_starts))
SOLVED = (*SEPARATE, NEARBY, *AT_MINIMUM)


def claim(
    id: str,
    statement: str,
    measure: Callable[[Inside], Measured],
    tolerance: float,
    mutants: tuple[Mutant, ...],
    part: str = "clusters",
    requires: tuple[Requirement, ...] = SOLVED,
    **rest: Any,
) -> Claim:
    """A claim of this file, confirmatory unless said otherwise."""
    given_or_default = {"kind": Kind.CONFIRMATORY, "origin": FIXED_HERE} | rest
    return Claim(
        id=f"steer/{id}",
        statement=statement,
        source="docs/THEORY.md#steering-within",
        part=part,
        requires=requires,
        measure=measure,
        tolerance=tolerance,
        mutants=mutants,
        **given_or_default,
    )


CLAIMS = (
    claim(
        "one-call",
        "One call of the net is linear in the strength: a·v adds a M x̄.",
        one_call,
        1e-9,
        (OF_THE_STEERED, HALF, OTHER_WAY),
        requires=SEPARATE,
        kind=Kind.EXACT,
        origin=None,
    ),
    claim(
        "within-flow",
        "Inside a block, from noise far above the norm, the end moves with a at the rate κ.",
        flow_slope,
        1e-3,
        (OF_THE_STEERED, NO_WINDOW, UNSCALED, UNIT_MEAN, HALF, OTHER_WAY),
        requires=(*SEPARATE, FAR),
    ),
    claim(
        "within-slope",
        "In trained nets the end moves along the concept at the rate κ.",
        trained_slope,
        0.02,
        (OF_THE_STEERED, NO_WINDOW, UNIT_MEAN, HALF, OTHER_WAY),
    ),
    claim(
        "within-response",
        "In trained nets generalized samples move in a straight line, as the theory says.",
        trained_response,
        0.01,
        (SWITCH, NO_WINDOW, UNIT_MEAN, HALF, OTHER_WAY),
    ),
    claim(
        "shared-slope",
        "Stored samples that share a block are steered from one to the other at the rate κ.",
        trained_slope,
        0.02,
        (OF_THE_STEERED, NO_WINDOW, UNIT_MEAN, HALF, OTHER_WAY),
        part="shared",
    ),
    claim(
        "shared-response",
        "Stored samples that share a block move in a straight line.",
        trained_response,
        0.01,
        (SWITCH, NO_WINDOW, UNIT_MEAN, HALF, OTHER_WAY),
        part="shared",
    ),
    claim(
        "memorized-brittle",
        "Memorized samples are brittle: hardly moved at first. Not those that share a block.",
        shared_brittle,
        0.02,
        (OF_THE_STEERED,),
        part="shared",
        expected=Verdict.FAILS,
    ),
)
