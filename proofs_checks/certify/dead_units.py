"""Dead units: does a net at the closed forms have all the units it wants (docs/THEORY.md#eq-10)?"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dae_theory.relu.units import COLLINEAR_COSINE
from dae_theory.theory.closed_forms import Prediction, predict_memorization
from proofs_checks.certify.dead_units_nets import (
    DIMENSION,
    DIRECTIONS,
    LONG,
    SHORT,
    UNITS,
    DeadUnits,
    NetAtClosedForm,
    clear_directions,
    forgotten,
    grow_units,
    random_directions,
    unit,
)
from proofs_checks.claims import (
    FIXED,
    Claim,
    Kind,
    Measured,
    Mutant,
    Origin,
    Requirement,
    Verdict,
    at_least,
    below,
)
from proofs_checks.monte_carlo import EXACT_MARGIN

# Closed forms are exact to 1e-8 of ‖x‖² at the margin that is required, pulls are in units of λ.
FLIPPED = Origin("flipped gates, in units of λ: see", "docs/THEORY.md#gate-margin")
TOP = 1 - 1e-6  # G/λ from which a maximum is as high as the live units


def exact_at(name: str) -> tuple[Requirement, ...]:
    """What makes the closed form of the named problem exact."""
    return (
        below("beta", 0, lambda e: e.problems[name].beta),
        at_least("gate margin z", EXACT_MARGIN, lambda e: e.problems[name].margin),
    )


def largest_pull(name: str, only_at_units: bool) -> Callable[[DeadUnits], Measured]:
    """Largest pull found, in units of λ. With ``only_at_units`` the error grows by one for each
    maximum as high as the live units that is not at one of them."""

    def measure(e: DeadUnits) -> Measured:
        problem = e.problems[name]
        found = problem.certificate
        tops = found.values > TOP * problem.lam
        elsewhere = int(np.sum(tops & (found.cosines <= COLLINEAR_COSINE)))
        return Measured(
            measured=found.ratio,
            predicted=1.0,
            errors=np.array([abs(found.ratio - 1) + only_at_units * elsewhere]),
            note=f"max G/λ from {problem.starts} starts, {found.converged:.0%} arrived; maxima "
            f"≥ λ: {np.sum(tops)}, off the live units {elsewhere}",
        )

    return measure


def pull_at_bisector(e: DeadUnits) -> Measured:
    """G at the bisector of the pair, and on the arc from there to the first sample."""
    problem = e.problems["pair"]
    first, second = unit(problem.x.T).T
    share_M = np.linspace(0.5, 1.0, DIRECTIONS)
    arc_DM = unit(np.outer(first, share_M) + np.outer(second, 1 - share_M))
    pull_M = np.linalg.norm(problem.pulls(arc_DM), axis=0) / problem.lam
    predicted = e.bisector(float(first @ second))
    error = max(abs(pull_M[0] / predicted - 1), pull_M[0] - np.min(pull_M))
    return Measured(
        measured=float(pull_M[0]),
        predicted=predicted,
        errors=np.array([error]),
        note=f"G/λ; on the arc to a sample it rises from here to {np.max(pull_M):.6f}",
    )


def pull_formula(e: DeadUnits) -> Measured:
    """Largest error of the formula, in units of λ, over directions with clear gates."""
    pulls, predicted = [], []
    for name in ("simplex", "pair", "blocks"):
        problem = e.problems[name]
        u_DM = clear_directions(problem)
        pulls.append(np.linalg.norm(problem.pulls(u_DM), axis=0) / problem.lam)
        pull_DM = e.formula(problem.prediction, problem.x, u_DM)
        predicted.append(np.linalg.norm(pull_DM, axis=0) / problem.lam)
    pulls, predicted = np.concatenate(pulls), np.concatenate(predicted)
    return Measured(
        measured=float(np.mean(pulls)),
        predicted=float(np.mean(predicted)),
        errors=np.array([np.max(np.abs(pulls - predicted))]),
        note=f"mean of G/λ over {len(pulls)} random directions; error: the largest",
    )


def stays_dead(e: DeadUnits) -> Measured:
    """Largest logarithmic growth of random small units at (5), for each seed."""
    problem, seeds = e.problems["simplex"], e.seeds
    u_DM = np.hstack([random_directions(seed, DIMENSION, UNITS) for seed in seeds])
    growth_M, _ = grow_units(problem, u_DM, *LONG)
    largest = np.max(growth_M.reshape(len(seeds), UNITS), axis=1)
    return Measured(
        measured=float(np.exp(np.mean(largest))),
        predicted=1.0,
        errors=largest,
        seeds=seeds,
        note=f"norm at time {np.prod(LONG):.0f} relative to the start, largest of {UNITS} "
        "units a seed; predicted: at most",
    )


def growth_of_forgotten(e: DeadUnits) -> Measured:
    """A unit at the direction the certificate names, and units that are pulled by less than λ."""
    problem = e.forgetful
    grown = problem.grown
    pull_M = np.linalg.norm(problem.pulls(grown.u), axis=0)
    predicted_M = e.rate(pull_M, problem.lam)
    rate_M = grown.short / np.prod(SHORT)
    rate_errors_M = np.abs(rate_M - predicted_M) / (2 * np.maximum(pull_M, problem.lam))

    gain = float(np.prod(grown.units[0] @ unit(problem.x[0])))
    stored = float(problem.prediction.gains[0])
    others = int(np.sum(grown.long[1:] > 0))
    return Measured(
        measured=float(rate_M[0]),
        predicted=float(predicted_M[0]),
        errors=np.array([max(np.max(rate_errors_M), abs(gain / stored - 1)) + others]),
        note=f"rate at the violating u; it ends with gain {gain:.4f}, (5) has {stored:.4f}; "
        f"{others} of {len(grown.long) - 1} others grow",
    )


def half_decay(problem: NetAtClosedForm) -> NetAtClosedForm:
    """The net (5) for half the weight decay."""
    p = predict_memorization(problem.x, problem.sigma, problem.lam / 2)
    return replace(problem, w1=p.w1, w2=p.w2)


def kept_directions(prediction: Prediction) -> list[np.ndarray]:
    """Directions with positive gain, for each cluster."""
    return [
        u_DR[:, np.atleast_1d(gains) > 0]
        for u_DR, gains in zip(prediction.directions, prediction.gains, strict=True)
    ]


def decoupled_pull(prediction: Prediction, x_ND: np.ndarray, u_DM: np.ndarray) -> np.ndarray:
    """The formula without cross terms between blocks."""
    kept = kept_directions(prediction)
    active = [(u_DR[:, 0] @ u_DM > 0) * (u_DR.T @ u_DM) for u_DR in kept]
    return prediction.lam * np.concatenate(active)


def ungated_pull(prediction: Prediction, x_ND: np.ndarray, u_DM: np.ndarray) -> np.ndarray:
    """The formula over all blocks, active or not."""
    return prediction.lam * sum(u_DR @ u_DR.T for u_DR in kept_directions(prediction)) @ u_DM


def _net(name: str, what: str, change: Callable[[NetAtClosedForm], NetAtClosedForm]) -> Mutant:
    """Another net on the named problem."""

    def apply(e: DeadUnits) -> DeadUnits:
        problems = e.problems
        return replace(e, problems=problems | {name: change(problems[name])})

    return Mutant(what, apply)


def _forgets(name: str) -> Mutant:
    return _net(name, "first column zero", forgotten)


def _half_decay(name: str) -> Mutant:
    return _net(name, "(5) with λ/2", half_decay)


def _formula(what: str, **changes: Callable) -> Mutant:
    """Another formula under test."""
    return Mutant(what, lambda e: replace(e, **changes))


def _memorized(name: str) -> Claim:
    return Claim(
        id=f"certify/dead-units-{name}",
        statement="At (5) no direction that the search from many starts finds pulls a new unit by "
        "more than λ, and only stored samples by as much.",
        source="docs/THEORY.md#eq-10",
        part="dead_units",
        requires=exact_at(name),
        measure=largest_pull(name, only_at_units=True),
        tolerance=1e-6,
        origin=FLIPPED,
        mutants=(_forgets(name), _half_decay(name)),
        kind=Kind.EXACT,
    )


CLAIMS = (
    *map(_memorized, ("simplex", "pair", "faces")),
    Claim(
        id="certify/dead-units-blocks",
        statement="At (4) neither, though clusters vary in the same directions.",
        source="docs/THEORY.md#eq-10",
        part="dead_units",
        requires=exact_at("blocks"),
        measure=largest_pull("blocks", only_at_units=False),
        tolerance=1e-6,
        origin=FLIPPED,
        mutants=(_forgets("blocks"),),
        kind=Kind.EXACT,
        expected=Verdict.FAILS,
    ),
    Claim(
        id="certify/pair-value",
        statement="Between two stored samples at cosine c < 0 the pull falls to (1+c)λ, at the "
        "bisector.",
        source="docs/THEORY.md#dead-units",
        part="dead_units",
        requires=exact_at("pair"),
        measure=pull_at_bisector,
        tolerance=1e-6,
        origin=FLIPPED,
        mutants=(
            _forgets("pair"),
            _half_decay("pair"),
            _formula("√(1+c), no cross term", bisector=lambda c: np.sqrt(1 + c)),
            _formula("1 − c", bisector=lambda c: 1 - c),
        ),
        kind=Kind.EXACT,
    ),
    Claim(
        id="certify/dead-unit-formula",
        statement="Where blocks keep all directions of their clusters, a unit active on the "
        "clusters A is pulled with λ |Σ_{k∈A} U_kU_kᵀu|.",
        source="docs/THEORY.md#dead-units",
        part="dead_units",
        requires=exact_at("simplex"),
        measure=pull_formula,
        tolerance=1e-6,
        origin=FLIPPED,
        mutants=(
            _formula("no cross terms", formula=decoupled_pull),
            _formula("all clusters active", formula=ungated_pull),
            _half_decay("simplex"),
        ),
        kind=Kind.EXACT,
    ),
    Claim(
        id="certify/stays-dead",
        statement="Small random units die in gradient descent from (5).",
        source="docs/THEORY.md#eq-10",
        part="dead_units",
        requires=exact_at("simplex"),
        measure=stays_dead,
        tolerance=1e-6,
        mutants=(_forgets("simplex"),),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="certify/growth",
        statement="A small unit grows at rate 2(G − λ): at a forgotten sample, until it stores it.",
        source="docs/THEORY.md#dead-units",
        part="dead_units",
        requires=exact_at("simplex"),
        measure=growth_of_forgotten,
        tolerance=0.02,
        mutants=(
            _formula("G − λ for the rate", rate=lambda pull, lam: pull - lam),
            _formula("2G for the rate", rate=lambda pull, lam: 2 * pull),
            Mutant("nothing forgotten", lambda e: replace(e, forgetful=e.problems["simplex"])),
        ),
        kind=Kind.EXPLORATORY,  # one net
    ),
)
