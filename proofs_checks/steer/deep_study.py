"""Deep models steered towards concepts: what claims take from the numbers of the study.

The numbers are those that come with the package, made by
``python -m dae_theory.steer.study --out=DIR`` (see `dae_theory.steer.study.store`).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dae_theory.steer import metrics
from dae_theory.steer.study.settings import GENERALIZED, MAIN, MEMORIZED, SUBJECTS, TEXT
from dae_theory.steer.study.store import Case, Mitigated, Study
from proofs_checks.claims import Measured, Requirement, at_least, below
from proofs_checks.parts import DeepStudy

Cell = tuple[str, str]  # model, concept
Value = Callable[[Case], float]
TEXT_MODELS = tuple(s.name for s in SUBJECTS if s.layers == (TEXT,))
UNETS = tuple(s.name for s in SUBJECTS if s.name not in TEXT_MODELS)
BOTH_GROUPS = tuple(s.name for s in SUBJECTS if s.name in TEXT_MODELS and len(s.groups) == 2)


def build() -> DeepStudy:
    """The study that comes with the package."""
    return DeepStudy(Study.load(), "steering", "numbers")


def cells(
    e: DeepStudy, group: str, variant: str = MAIN, models: tuple[str, ...] = TEXT_MODELS
) -> dict[Cell, Case]:
    """The cases of a group and a variant, by model and concept."""
    return {
        (case.model, case.concept): case
        for case in e.study.cases
        if (case.group, case.variant) == (group, variant) and case.model in models
    }


def trajectories(case: Case) -> float:
    """Mean over starts of Spearman's correlation of strength and log-odds."""
    odds_SN = case.arrays["log_odds"].astype(float)
    return float(np.mean(metrics.spearman(np.array(case.strengths), odds_SN)))


def chances(case: Case) -> Float[np.ndarray, "S N"]:
    """Probability of the concept."""
    return metrics.probability(case.arrays["log_odds"].astype(float))


def curve(case: Case) -> float:
    """Spearman's correlation of strength and the mean probability over starts."""
    chance_S1 = chances(case).mean(axis=1)[:, None]
    return float(metrics.spearman(np.array(case.strengths), chance_S1)[0])


def changes(case: Case) -> float:
    """Mean over starts of γ, of log-odds that the classifier can tell apart."""
    resolved_SN = metrics.resolved(case.arrays["log_odds"].astype(float))
    return float(np.nanmean(metrics.rising(resolved_SN)))


def gain(case: Case) -> float:
    """Mean over starts of the probability gained from the lowest strength to the highest."""
    return float(np.mean(chances(case)[-1] - chances(case)[0]))


def gain_either_way(case: Case) -> float:
    """The same, of its size."""
    return float(np.mean(np.abs(chances(case)[-1] - chances(case)[0])))


def first_share(case: Case) -> float:
    """Mean share of the first step in the way from strength 0 to the highest."""
    zero = int(np.argmin(np.abs(case.strengths)))
    return float(np.nanmean(metrics.first_share(case.arrays["path"].astype(float)[zero:])))


def largest_share(case: Case) -> float:
    """Mean share of the largest step in the way from the lowest strength to the highest."""
    return float(np.nanmean(metrics.largest_share(case.arrays["path"].astype(float))))


def left_at(strength: float, farthest: float) -> Value:
    """Share of samples that are still copies at ± a strength of the grid, or with others there
    farther than ``farthest`` from real images: noise is no copy, either."""

    def value(case: Case) -> float:
        there = np.isclose(np.abs(case.strengths), strength)
        far_S1 = case.arrays["realism"][there, None] > farthest
        return float(np.mean(case.arrays["copy"][there] | far_S1))

    return value


def values(found: dict[Cell, Case], value: Value) -> dict[Cell, float]:
    """A value of each case."""
    return {cell: value(case) for cell, case in found.items()}


def difference(above: dict[Cell, float], below: dict[Cell, float]) -> dict[Cell, float]:
    """Of the cells that are in both."""
    return {cell: above[cell] - below[cell] for cell in above if cell in below}


def by_model(found: dict[Cell, float]) -> dict[str, float]:
    """Mean over the concepts of each model: cells of one model are not independent."""
    models = dict.fromkeys(model for model, _ in found)
    return {
        model: float(np.mean([value for (of, _), value in found.items() if of == model]))
        for model in models
    }


def at_least_by(found: dict[Cell, float], least: float) -> Measured:
    """What each model misses to ``least``, on average over its concepts; negative where it has
    more."""
    means = by_model(found)
    means_M = np.array(list(means.values()))
    note = ", ".join(f"{model} {mean:.3f}" for model, mean in means.items())
    return Measured(float(np.mean(means_M)), least, least - means_M, (), note)


def at_most_by(found: dict[Cell, float], most: float) -> Measured:
    """By how much each model is above ``most``, on average over its concepts; negative where it is
    below."""
    measured = at_least_by(found, most)
    return replace(measured, errors=-measured.errors)


def mostly_at_least(found: dict[Cell, float], least: float) -> Measured:
    """Share of each model's concepts that miss ``least``: of values that cannot be larger than they
    are, such as correlations of 1, the mean has no spread to judge it by."""
    missed = by_model({cell: float(value < least) for cell, value in found.items()})
    errors_M = np.array(list(missed.values()))
    return replace(at_least_by(found, least), errors=errors_M, cases=len(found) / len(errors_M))


def some_cells(
    count: int, group: str, variant: str = MAIN, models: tuple[str, ...] = TEXT_MODELS
) -> Requirement:
    """There are so many cases of a group."""
    return at_least("cases", count, lambda e: len(cells(e, group, variant, models)))


def farthest(e: DeepStudy) -> float:
    """Energy distance of generalized samples to real images of the garments seen in them, at the
    strength where it is largest, on average over cells; in that of the two most similar garments.
    """
    distances = [case.arrays["realism"].max() for case in cells(e, GENERALIZED).values()]
    return float(np.mean(distances)) / e.study.similar


REALISTIC = below("distance to real images, in that of similar garments", 1, farthest)


def some_mitigated(count: int) -> Requirement:
    """Mitigation was tried in so many models."""
    return at_least("models", count, lambda e: len({o.model for o in e.study.mitigated}))


# --- changes -------------------------------------------------------------------------------------


def with_cases(e: DeepStudy, change: Callable[[Case], Case]) -> DeepStudy:
    """The study with every case of the main comparison changed."""
    return replace(e, study=replace(e.study, cases=tuple(map(change, e.study.cases))))


def with_outcomes(e: DeepStudy, change: Callable[[Mitigated], Mitigated]) -> DeepStudy:
    """The study with every outcome of mitigation changed."""
    return replace(e, study=replace(e.study, mitigated=tuple(map(change, e.study.mitigated))))


def groups_exchanged(case: Case) -> Case:
    """Memorized samples taken for generalized ones, and the other way around."""
    other = {GENERALIZED: MEMORIZED, MEMORIZED: GENERALIZED}
    return replace(case, group=other[case.group])


def variants_exchanged(first: str, second: str) -> Callable[[Case], Case]:
    """One way of steering taken for another."""
    other = {first: second, second: first}
    return lambda case: replace(case, variant=other.get(case.variant, case.variant))


def strengths_scrambled(case: Case) -> Case:
    """Samples of strengths taken for those of others."""
    order = np.random.default_rng(0).permutation(len(case.strengths))
    return replace(case, arrays={**case.arrays, "log_odds": case.arrays["log_odds"][order]})


def sign_flipped(case: Case) -> Case:
    """The direction subtracted where it should be added."""
    return replace(case, arrays={name: array[::-1] for name, array in case.arrays.items()})


def made_noise(case: Case) -> Case:
    """Samples that are copies of nothing, and like nothing."""
    copy, realism = case.arrays["copy"], case.arrays["realism"]
    noise = {"copy": np.zeros_like(copy), "realism": np.full_like(realism, np.inf)}
    return replace(case, arrays={**case.arrays, **noise})


def steps_made_equal(case: Case) -> Case:
    """Every step of a trajectory as long as their mean."""
    path = case.arrays["path"].astype(float)
    equal = np.broadcast_to(path.mean(axis=0), path.shape)
    return replace(case, arrays={**case.arrays, "path": equal})
