"""Steering from one stored sample to another: each is a block of its own, at a cosine c < 0."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from dae_theory.data import Dataset
from dae_theory.data.mixtures import equiangular_directions, random_rotation
from dae_theory.statistics import log_log_slope
from dae_theory.theory.problem import Problem
from dae_theory.theory.steering import steer_stored, switch_strength
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Requirement, at_least, given
from proofs_checks.config import DataUsed, RunConfig, data_used
from proofs_checks.monte_carlo import TRAINED_MARGIN
from proofs_checks.mutants import instead, misprint
from proofs_checks.nets import Progress
from proofs_checks.stationarity import Stopped, at_minimum
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

DIMENSION, WIDTH = 16, 9
REPEATS = 30  # of each sample: equation (8)
COSINES = (-0.6, -0.25)  # of a pair, drawn evenly between them
DECAY = 0.02  # nλ/n_ℓ
FROM, TO = 0, 1  # the sample that is steered, and towards which one
STARTS = 8
STRENGTHS = np.linspace(-0.5, 1.5, 21)
TRAINED_COURSE = course(0.05, 0.005, 23, 4, 18)  # a net is solved for at each level
NOISE_COURSE = course(20.0, 0.01, 400, 60, 340)  # from pure noise, by the predicted net
WHOLE_COURSE = course(0.05, 0.001, 400, 0, 400)
ENDS = np.geomspace(1e-3, 1e-5, 4)  # last levels, after a window that ends at WINDOW_END
WINDOW_END, ZOOMS = 5e-3, 6  # and how often the strength halfway is looked at 20 times as closely
NEARLY_ORTHOGONAL = -0.02
BRITTLE = 0.25  # half of what a straight line goes


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
        return noised(x_1D, TRAINED_COURSE.levels[-1], DRAWS, self.seed)

    def followed(self, steps: Course, start_MD: np.ndarray, strengths_A: np.ndarray) -> np.ndarray:
        """Where the theory's flow ends."""
        decay = len(self.images) * self.problem.lam  # n/n_ℓ samples
        return self.follow(self.images, TO, start_MD, strengths_A, steps.flow, decay)

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
        return noised(x_1D, TRAINED_COURSE.levels[0], STARTS, self.seed + 1)

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


# --- the net (5), at every noise level ------------------------------------------------------------


def flow_curve(e: Pair) -> Measured:
    """Ends of samples of the net (5) from pure noise, against the flow between its gates."""
    start_MD = NOISE_COURSE.levels[0] * np.random.default_rng([e.seed, 7]).standard_normal(
        (STARTS, DIMENSION)
    )
    strengths_A = STRENGTHS[::2]
    measured, predicted = (
        ends(NOISE_COURSE, start_MD, strengths_A) for ends in (e.predicted_net_ends, e.followed)
    )
    error = np.sqrt(np.mean((measured - predicted) ** 2) / np.mean(measured**2))
    shares = [float(np.mean(e.ahead(ends)[-1] > 0)) for ends in (measured, predicted)]
    return Measured(
        *shares,
        np.array([error]),
        (e.seed,),
        f"share of {STARTS} samples nearer to the target at a = {STRENGTHS[-1]:g}; error: rms "
        "distance of the ends",
    )


def halfway_law(e: Pair) -> Measured:
    """Strength at which a stored sample ends halfway to the other, far below the norm."""
    strengths_A = np.linspace(0.0, 1.0, 101)
    start_1D = e.images[FROM : FROM + 1]
    ends_AMD = without_decay(e).predicted_net_ends(WHOLE_COURSE, start_1D, strengths_A)
    (measured,) = crossings(strengths_A, e.ahead(ends_AMD))
    levels = WHOLE_COURSE.levels
    predicted = e.law(e.cosine, float(np.log(levels[0] / levels[-1])))
    return relative(measured, predicted, e.seed, "strength a at which it ends halfway")


def relative(measured: float, predicted: float, seed: int, note: str) -> Measured:
    """Relative distance of a number from its prediction; infinite where there is none."""
    error = abs(measured / predicted - 1) if np.isfinite(measured) else np.inf
    return Measured(measured, predicted, np.array([error]), (seed,), note)


def without_decay(e: Pair, cosine: float | None = None) -> Pair:
    """The pair, at its cosine or another, with λ = 0: far below the norm gains are 1."""
    problem = e.problem if cosine is None else pair_problem(cosine, e.seed, e.problem.sigma)
    return replace(e, solving=replace(e.solving, problem=replace(problem, lam=0.0)))


def superposed(e: Pair) -> Measured:
    """The same for nearly orthogonal samples: the end is their sum, in a straight line."""
    near = without_decay(e, NEARLY_ORTHOGONAL)
    strengths_A = np.linspace(0.0, 1.0, 101)
    start_1D = near.images[FROM : FROM + 1]
    ends_AD = near.predicted_net_ends(WHOLE_COURSE, start_1D, strengths_A)[:, 0]
    towards_A = ends_AD @ near.images[TO]
    line_A = np.polyval(np.polyfit(strengths_A, towards_A, 1), strengths_A)
    levels = WHOLE_COURSE.levels
    slope = np.polyfit(strengths_A, towards_A, 1)[0]
    predicted = float(near.law(NEARLY_ORTHOGONAL, np.log(levels[0] / levels[-1])))
    left = float(ends_AD[np.argmin(abs(strengths_A - predicted))] @ near.images[FROM])
    found = relative(1 / slope, predicted, e.seed, "")
    note = "1/slope of the target's share in the end; {left:.2f} of the first sample is left there"
    errors = np.maximum(found.errors, unexplained(towards_A, line_A))
    return replace(found, errors=errors, note=note, details={"left": left})


def steepness(e: Pair) -> Measured:
    """Exponent of the last noise level in the slope of the cosine at the strength halfway."""
    slopes = []
    for last in ENDS:
        before = np.geomspace(0.05, WINDOW_END, 200)
        after = np.geomspace(WINDOW_END, last, 200)[1:]
        steps = Course(np.concatenate([before, after]), 0, len(before) - 1)
        slopes.append(slope_halfway(e, steps))
    measured = -log_log_slope(ENDS, np.array(slopes))
    predicted = e.exponent(e.cosine)
    return Measured(
        measured,
        predicted,
        np.array([measured - predicted]),
        (e.seed,),
        f"exponent of 1/σ in the slope, σ from {ENDS[0]:g} to {ENDS[-1]:g}, steered above "
        f"{WINDOW_END:g}; mean |2c|",
        signed=True,
    )


def slope_halfway(e: Pair, steps: Course) -> float:
    """Slope of `Pair.ahead` in a, where it passes 0."""
    start_1D, pair = e.images[FROM : FROM + 1], without_decay(e)
    centre, width = 0.75, 1.5
    for _ in range(ZOOMS):
        strengths_A = centre + width * np.linspace(-0.5, 0.5, 21)
        ahead_AM = e.ahead(pair.predicted_net_ends(steps, start_1D, strengths_A))
        (centre,) = crossings(strengths_A, ahead_AM)
        if not np.isfinite(centre):
            return np.nan
        slope, width = float((ahead_AM[-1, 0] - ahead_AM[0, 0]) / width), width / 20
    return slope


# --- nets solved for ------------------------------------------------------------------------------


def trained_curve(e: Pair) -> Measured:
    """Cosine of each end with the target, over strengths and starts."""
    x_D = e.images[TO]
    measured_AM = cosines_of(e.trained_ends, x_D)
    predicted_AM = cosines_of(e.followed(TRAINED_COURSE, e.noisy_starts, STRENGTHS), x_D)
    return Measured(
        float(np.mean(measured_AM)),
        float(np.mean(predicted_AM)),
        np.array([unexplained(measured_AM, predicted_AM)]),
        (e.seed,),
        f"cosine with the target, mean over {STARTS} starts and {len(STRENGTHS)} strengths; error: "
        "1 − R² of the response curves",
    )


def trained_midpoint(e: Pair) -> Measured:
    """Strength at which each start ends halfway."""
    predicted_M = crossings(
        STRENGTHS, e.ahead(e.followed(TRAINED_COURSE, e.noisy_starts, STRENGTHS))
    )
    measured_M = crossings(STRENGTHS, e.ahead(e.trained_ends))
    errors_M = np.abs(measured_M / predicted_M - 1)
    return Measured(
        float(np.mean(measured_M)),
        float(np.mean(predicted_M)),
        np.array([np.mean(np.where(np.isfinite(errors_M), errors_M, np.inf))]),
        (e.seed,),
        f"strength a at which samples end halfway, mean over {STARTS} starts",
    )


def gone_at_half(strengths_A: np.ndarray, ahead_AM: np.ndarray) -> Float[np.ndarray, " M"]:
    """Share of the way to halfway that each start has gone at half the strength it takes; ½ for a
    straight line."""
    found = []
    for half, ahead_A in zip(crossings(strengths_A, ahead_AM), ahead_AM.T, strict=True):
        begin, middle = np.interp([0.0, half / 2], strengths_A, ahead_A)
        found.append((middle - begin) / -begin)
    return np.array(found)


def brittle(e: Pair) -> Measured:
    """Share of the way gone at half the strength it takes, as far as it is above BRITTLE."""
    shares_M = gone_at_half(STRENGTHS, e.ahead(e.trained_ends))
    return short_of_brittle(float(np.mean(shares_M)), e.seed)


def short_of_brittle(share: float, seed: int) -> Measured:
    """How far a share is from that of something brittle."""
    return Measured(
        share,
        BRITTLE,
        np.array([max(share - BRITTLE, 0.0) if np.isfinite(share) else np.inf]),
        (seed,),
        "share of the way gone at half the strength that it takes to get halfway; ½ is a straight "
        f"line, {BRITTLE:g} and less counts as brittle",
    )


def straightened(ends_AMD: np.ndarray) -> np.ndarray:
    """A straight line from the unsteered end to the last one."""
    parts_A = STRENGTHS[:, None, None] / STRENGTHS[-1]
    unsteered_MD = ends_AMD[np.argmin(np.abs(STRENGTHS))]
    return unsteered_MD + parts_A * (ends_AMD[-1] - unsteered_MD)


def response_arrays(e: Pairs) -> dict[str, np.ndarray]:
    """Response curves of the nets that were solved for, for the figure, predicted and measured:
    cosine with the target, mean over starts (S, A), over strengths (A); cosines of the pairs (S).
    """
    solved = [pair for pair in e.draws if pair.solving.solved]
    if not solved:
        return {}

    def curves(ends_of: Callable[[Pair], np.ndarray]) -> np.ndarray:
        return np.stack(
            [cosines_of(ends_of(pair), pair.images[TO]).mean(axis=1) for pair in solved]
        )

    return {
        "strengths": STRENGTHS,
        "cosines": np.array([pair.cosine for pair in solved]),
        "predicted": curves(
            lambda pair: pair.followed(TRAINED_COURSE, pair.noisy_starts, STRENGTHS)
        ),
        "measured": curves(lambda pair: pair.trained_ends),
    }


# --- mutants and claims ---------------------------------------------------------------------------


def changed_levels(name: str, change: Callable) -> Mutant:
    """Another course of the flow."""
    return misprint(name, "follow", levels=change)


def frozen(x_ND, target, start_MD, strengths_A, levels, decay=0.0) -> np.ndarray:
    """The gates that are open at the start stay so: a straight line in a."""
    ends_2MD = steer_stored(x_ND, target, start_MD, [0.0, 1e-3], levels, decay)
    steps_A = np.asarray(strengths_A)[:, None, None] * 1e3
    return ends_2MD[0] + steps_A * (ends_2MD[1] - ends_2MD[0])


GATES_STAY = instead("gates stay", "follow", frozen)
NO_WINDOW = changed_levels("steered all the way", lambda levels: levels._replace(window=None))
NO_DECAY = misprint("no decay", "follow", decay=lambda decay: 0.0)
HALF_DECAY = misprint("λ/2 for λ", "follow", decay=lambda decay: decay / 2)
HALF = misprint("a/2 for a", "follow", strengths_A=lambda a: a / 2)
OTHER_WAY = misprint("−a for a", "follow", strengths_A=lambda a: -a)
ITSELF = instead("steered towards itself", "target", FROM)

SEPARATE = (
    at_least("-cosine", 0.0, lambda e: -e.cosine),
    at_least("gate margin z", TRAINED_MARGIN, lambda e: -e.cosine / e.problem.sigma),
)


def minimum_at(name: str, level: int) -> Requirement:
    """The net of one level is at a minimum."""
    return at_minimum(f"movement left to a minimum, {name} level", lambda e: e.stopped(level))


AT_MINIMUM = (minimum_at("first", 0), minimum_at("last", -1))
STORED = given(
    "both samples stored",
    "yes",
    lambda e: np.all(
        np.linalg.norm(
            np.maximum(e.images @ e.solving.weights[0][-1], 0) @ e.solving.weights[1][-1].T
            - e.images,
            axis=1,
        )
        < 0.1
    ),
    needs_others=True,
)
SOLVED = (*SEPARATE, *AT_MINIMUM, STORED)


def claim(
    id: str, statement: str, measure, tolerance: float, mutants, *, requires=SEPARATE
) -> Claim:
    """A confirmatory claim of this file."""
    return Claim(
        id=f"steer/{id}",
        statement=statement,
        source="docs/THEORY.md#steering-across",
        part="pairs",
        requires=requires,
        measure=measure,
        tolerance=tolerance,
        mutants=mutants,
        kind=Kind.CONFIRMATORY,
        origin=FIXED_HERE,
    )


CLAIMS = (
    claim(
        "across-flow",
        "Steered from noise, the net (5) ends where the flow between its gates does.",
        flow_curve,
        2e-3,
        (GATES_STAY, NO_WINDOW, NO_DECAY, HALF_DECAY, HALF, OTHER_WAY, ITSELF),
    ),
    claim(
        "across-law",
        "A stored sample ends halfway to another at the strength that the law of gates says.",
        halfway_law,
        0.02,
        (
            instead("|c|", "law", lambda c, t: abs(c)),
            instead("1/T", "law", lambda c, t: 1 / t),
            instead("T − τ without the gate's delay", "law", lambda c, t: abs(c) / (1 - c**2)),
            instead("log₁₀ for log", "law", lambda c, t: switch_strength(c, t / np.log(10))),
            ITSELF,
        ),
    ),
    claim(
        "across-superposition",
        "Nearly orthogonal stored samples are added, in a straight line: no switch.",
        superposed,
        0.05,
        (
            instead("|c|", "law", lambda c, t: abs(c)),
            instead("a unit in all", "law", lambda c, t: 1.0),
            ITSELF,
        ),
    ),
    claim(
        "across-steepness",
        "After the window the slope halfway grows like σ^(−2|c|): a switch, the sharper the lower.",
        steepness,
        0.05,
        (
            instead("|c|", "exponent", abs),
            instead("no switch", "exponent", lambda c: 0.0),
            instead("4|c|", "exponent", lambda c: 4 * abs(c)),
        ),
    ),
    claim(
        "across-curve",
        "In trained nets the whole response, over strengths of either sign, is that of the flow.",
        trained_curve,
        0.01,
        (GATES_STAY, NO_WINDOW, HALF, OTHER_WAY, ITSELF),
        requires=SOLVED,
    ),
    claim(
        "across-midpoint",
        "In trained nets samples end halfway at the strength that the flow says.",
        trained_midpoint,
        0.05,
        (GATES_STAY, NO_WINDOW, HALF, ITSELF),
        requires=SOLVED,
    ),
    claim(
        "across-brittle",
        "Across blocks a stored sample hardly moves at first: the answer is a switch.",
        brittle,
        0.02,
        (instead("a straight line", "seen", straightened), ITSELF),
        requires=SOLVED,
    ),
)
