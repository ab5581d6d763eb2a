"""Dead units (THEORY.md §8, (10)): does a net at the closed forms have all the units it wants?"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dae_theory.data.mixtures import equiangular_directions, simplex
from dae_theory.theory.closed_forms import predict_memorization
from proofs_checks.claims import Claim, Mutant, Verdict
from proofs_checks.dead_units_evidence import (
    DIMENSION,
    LAM,
    PAIR_COSINE,
    QUICK_STARTS,
    SIGMA,
    SIMPLEX_N,
    STARTS,
    DeadUnits,
    Problem,
    block_problem,
    face_problem,
    forgotten,
    measure_bisector,
    measure_formula,
    measure_growth,
    measure_maximum,
    measure_stays_dead,
    memorized,
    vacuous_or,
)


def build(seeds: tuple[int, ...], quick: bool) -> DeadUnits:
    """The fixed problems; ``seeds`` draw small units, ``quick`` takes fewer starts."""
    starts = QUICK_STARTS if quick else STARTS
    stored = memorized(simplex(SIMPLEX_N, DIMENSION).x, SIGMA, LAM, starts)
    pair_ND = equiangular_directions(2, DIMENSION, PAIR_COSINE)
    problems = {
        "simplex": stored,
        "pair": memorized(pair_ND, SIGMA, LAM, starts),
        "faces": face_problem(starts),
        "blocks": block_problem(starts),
    }
    return DeadUnits(problems, forgotten(stored), seeds)


def half_decay(problem: Problem) -> Problem:
    """The net (5) for half the weight decay."""
    p = predict_memorization(problem.x, problem.sigma, problem.lam / 2)
    return replace(problem, w1=p.w1, w2=p.w2)


def decoupled_pull(ranges: Sequence[np.ndarray], lam: float, u_DM: np.ndarray) -> np.ndarray:
    """The formula without cross terms between blocks."""
    active = [(u_DR[:, 0] @ u_DM > 0) * (u_DR.T @ u_DM) for u_DR in ranges]
    return lam * np.linalg.norm(np.concatenate(active), axis=0)


def ungated_pull(ranges: Sequence[np.ndarray], lam: float, u_DM: np.ndarray) -> np.ndarray:
    """The formula over all blocks, active or not."""
    return lam * np.linalg.norm(sum(u_DR @ u_DR.T for u_DR in ranges) @ u_DM, axis=0)


def _net(name: str, what: str, change: Callable[[Problem], Problem]) -> Mutant:
    """Another net on the named problem."""

    def apply(experiment: DeadUnits) -> DeadUnits:
        problems = experiment.problems
        return replace(experiment, problems=problems | {name: change(problems[name])})

    return Mutant(what, apply)


def _forgets(name: str) -> Mutant:
    return _net(name, "first column zero", forgotten)


def _half_decay(name: str) -> Mutant:
    return _net(name, "(5) with λ/2", half_decay)


def _formula(what: str, **changes: Callable) -> Mutant:
    """Another formula under test."""
    return Mutant(what, lambda experiment: replace(experiment, **changes))


def _memorized(name: str) -> Claim:
    return Claim(
        f"certify/dead-units-{name}",
        "At (5) no direction pulls a new unit by more than λ, and only stored samples by as much.",
        "THEORY §8, (10)",
        vacuous_or(name, measure_maximum(name, only_at_units=True), 1e-6),
        (_forgets(name), _half_decay(name)),
    )


CLAIMS = (
    *map(_memorized, ("simplex", "pair", "faces")),
    Claim(
        "certify/dead-units-blocks",
        "At (4) neither, though clusters vary in the same directions.",
        "THEORY §8, (10)",
        vacuous_or("blocks", measure_maximum("blocks", only_at_units=False), 1e-6),
        (_forgets("blocks"),),
        expected=Verdict.FAILS,
    ),
    Claim(
        "certify/pair-value",
        "Between two stored samples at cosine c < 0 the pull falls to (1+c)λ, at the bisector.",
        "THEORY §8",
        vacuous_or("pair", measure_bisector, 1e-6),
        (
            _forgets("pair"),
            _half_decay("pair"),
            _formula("√(1+c), no cross term", bisector=lambda c: np.sqrt(1 + c)),
            _formula("1 − c", bisector=lambda c: 1 - c),
        ),
    ),
    Claim(
        "certify/dead-unit-formula",
        "At (4), (5) a unit active on the clusters A is pulled with λ |Σ_{k∈A} U_kU_kᵀu|.",
        "THEORY §8",
        vacuous_or("simplex", measure_formula, 1e-6),
        (
            _formula("no cross terms", formula=decoupled_pull),
            _formula("all clusters active", formula=ungated_pull),
            _half_decay("simplex"),
        ),
    ),
    Claim(
        "certify/stays-dead",
        "Small random units die in gradient descent from (5).",
        "THEORY §8, (10)",
        vacuous_or("simplex", measure_stays_dead, 1e-6),
        (_forgets("simplex"),),
    ),
    Claim(
        "certify/growth",
        "A small unit grows at rate 2(G − λ): at a forgotten sample, until it stores it.",
        "THEORY §8, (10)",
        vacuous_or("simplex", measure_growth, 0.02),
        (
            _formula("G − λ for the rate", rate=lambda pull, lam: pull - lam),
            _formula("2G for the rate", rate=lambda pull, lam: 2 * pull),
            Mutant("nothing forgotten", lambda e: replace(e, forgetful=e.problems["simplex"])),
        ),
    ),
)
