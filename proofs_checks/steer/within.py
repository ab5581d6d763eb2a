"""Steering inside one block: to a concept of its cluster, or another sample stored there."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from dae_theory.relu.model import denoise, encode
from proofs_checks.blocks import predict_on, separable_blocks
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Requirement, Verdict, at_least
from proofs_checks.monte_carlo import TRAINED_MARGIN
from proofs_checks.mutants import instead, misprint
from proofs_checks.steer.across import (
    AT_MINIMUM,
    gone_at_half,
    short_of_brittle,
    unexplained,
)
from proofs_checks.steer.inside import (
    BLOCK,
    STARTS,
    STRENGTHS,
    Inside,
    responses,
)
from proofs_checks.steer.nets import NOISE_COURSE, TRAINED_COURSE, UNTRAINED
from proofs_checks.steer.origin import FIXED_HERE


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
        (OF_THE_STEERED, NO_WINDOW, UNIT_MEAN, HALF, OTHER_WAY, UNTRAINED),
    ),
    claim(
        "within-response",
        "In trained nets generalized samples move in a straight line, as the theory says.",
        trained_response,
        0.01,
        (SWITCH, NO_WINDOW, UNIT_MEAN, HALF, OTHER_WAY, UNTRAINED),
    ),
    claim(
        "shared-slope",
        "Stored samples that share a block are steered from one to the other at the rate κ.",
        trained_slope,
        0.02,
        (OF_THE_STEERED, NO_WINDOW, UNIT_MEAN, HALF, OTHER_WAY, UNTRAINED),
        part="shared",
    ),
    claim(
        "shared-response",
        "Stored samples that share a block move in a straight line.",
        trained_response,
        0.01,
        (SWITCH, NO_WINDOW, UNIT_MEAN, HALF, OTHER_WAY, UNTRAINED),
        part="shared",
    ),
    claim(
        "memorized-brittle",
        "Memorized samples are brittle: hardly moved at first. Not those that share a block.",
        shared_brittle,
        0.02,
        (OF_THE_STEERED, UNTRAINED),
        part="shared",
        expected=Verdict.FAILS,
    ),
)
