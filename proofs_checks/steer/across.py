"""Steering from one stored sample to another: each is a block of its own, at a cosine c < 0."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dae_theory.statistics import log_log_slope
from dae_theory.theory.steering import steer_stored, switch_strength
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Requirement, at_least, given
from proofs_checks.monte_carlo import TRAINED_MARGIN
from proofs_checks.mutants import instead, misprint
from proofs_checks.stationarity import at_minimum
from proofs_checks.steer.nets import NOISE_COURSE, UNTRAINED, Course, course
from proofs_checks.steer.origin import FIXED_HERE
from proofs_checks.steer.pairs import (
    DIMENSION,
    FROM,
    STARTS,
    STRENGTHS,
    TO,
    Pair,
    cosines_of,
    crossings,
    unexplained,
    without_decay,
)

WHOLE_COURSE = course(0.05, 0.001, 400, 0, 400)
ENDS = np.geomspace(1e-3, 1e-5, 4)  # last levels, after a window that ends at WINDOW_END
WINDOW_END, ZOOMS = 5e-3, 6  # and how often the strength halfway is looked at 20 times as closely
NEARLY_ORTHOGONAL = (-0.02, -0.005)  # cosines, drawn evenly between them
BRITTLE = 0.25  # half of what a straight line goes

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


def superposed(e: Pair) -> Measured:
    """The same for nearly orthogonal samples: the end is their sum, in a straight line."""
    cosine = float(np.random.default_rng([e.seed, 8]).uniform(*NEARLY_ORTHOGONAL))
    near = without_decay(e, cosine)
    strengths_A = np.linspace(0.0, 1.0, 101)
    start_1D = near.images[FROM : FROM + 1]
    ends_AD = near.predicted_net_ends(WHOLE_COURSE, start_1D, strengths_A)[:, 0]
    towards_A = ends_AD @ near.images[TO]
    line_A = np.polyval(np.polyfit(strengths_A, towards_A, 1), strengths_A)
    levels = WHOLE_COURSE.levels
    slope = np.polyfit(strengths_A, towards_A, 1)[0]
    predicted = float(near.law(cosine, np.log(levels[0] / levels[-1])))
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
    predicted_AM = cosines_of(e.predicted_ends, x_D)
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
    predicted_M = crossings(STRENGTHS, e.ahead(e.predicted_ends))
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
    """Share of the way gone at half the strength it takes, less BRITTLE."""
    shares_M = gone_at_half(STRENGTHS, e.ahead(e.trained_ends))
    return short_of_brittle(float(np.mean(shares_M)), e.seed)


def short_of_brittle(share: float, seed: int) -> Measured:
    """How far a share is above that of something brittle; negative below."""
    return Measured(
        share,
        BRITTLE,
        np.array([share - BRITTLE if np.isfinite(share) else np.inf]),
        (seed,),
        "share of the way gone at half the strength that it takes to get halfway; ½ is a straight "
        f"line, {BRITTLE:g} and less counts as brittle",
    )


def straightened(ends_AMD: np.ndarray) -> np.ndarray:
    """A straight line from the unsteered end to the last one."""
    parts_A = STRENGTHS[:, None, None] / STRENGTHS[-1]
    unsteered_MD = ends_AMD[np.argmin(np.abs(STRENGTHS))]
    return unsteered_MD + parts_A * (ends_AMD[-1] - unsteered_MD)


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
    return at_minimum(f"to a minimum, {name} level", lambda e: e.stopped(level))


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
        (GATES_STAY, NO_WINDOW, HALF, OTHER_WAY, ITSELF, UNTRAINED),
        requires=SOLVED,
    ),
    claim(
        "across-midpoint",
        "In trained nets samples end halfway at the strength that the flow says.",
        trained_midpoint,
        0.05,
        (GATES_STAY, NO_WINDOW, HALF, ITSELF, UNTRAINED),
        requires=SOLVED,
    ),
    claim(
        "across-brittle",
        "Across blocks a stored sample hardly moves at first: the answer is a switch.",
        brittle,
        0.02,
        (instead("a straight line", "seen", straightened), ITSELF, UNTRAINED),
        requires=SOLVED,
    ),
)
