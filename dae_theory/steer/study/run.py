"""The stages of the study: main comparison, ablations, mitigation; parts that are there stay."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dae_theory.steer.metrics import energy_null
from dae_theory.steer.study.measure import Loaded, case, features_of, load
from dae_theory.steer.study.mitigate import outcome, settings
from dae_theory.steer.study.settings import (
    ABLATION_STARTS,
    ABLATIONS,
    CHOOSING_STARTS,
    DEVELOPMENT,
    DEVELOPMENT_SEED,
    GENERALIZED,
    JUDGED,
    JUDGING_SEED,
    MITIGATED_STARTS,
    MITIGATION_SEED,
    STARTS,
    TEXT,
    WIDE,
    WIDE_DEVELOPMENT,
    WIDE_JUDGED,
    WIDE_SEED,
    Subject,
    Variant,
)
from dae_theory.steer.study.store import part_path, read_part, shape_name, write_part
from dae_theory.steer.study.summary import summary

Progress = Callable[[str, int, int, str], None]  # stage, done, of, name


class Plan(NamedTuple):
    """Which concepts and starts are looked at, and how many; seeds of the starts, of wide concepts
    and of mitigation their own."""

    concepts: tuple[str, ...]
    wide: tuple[str, ...]
    seed: int
    wide_seed: int
    mitigation_seed: int
    starts: int
    ablation_starts: int
    choosing_starts: int
    mitigated_starts: int


DEVELOPING = Plan(
    DEVELOPMENT,
    WIDE_DEVELOPMENT,
    *(DEVELOPMENT_SEED, DEVELOPMENT_SEED, DEVELOPMENT_SEED + 1),
    *(50, 16, 50, 50),
)
JUDGING = Plan(
    JUDGED,
    WIDE_JUDGED,
    JUDGING_SEED,
    WIDE_SEED,
    MITIGATION_SEED,
    STARTS,
    ABLATION_STARTS,
    CHOOSING_STARTS,
    MITIGATED_STARTS,
)


class Look(NamedTuple):
    """One case: the name of its part, and what it takes."""

    name: str
    subject: Subject
    variant: Variant
    group: str
    concept: str
    seed: int
    starts: int
    main: bool


def looks(subject: Subject, plan: Plan) -> Iterator[Look]:
    """All cases of a subject, those of the main comparison first."""
    usual = (subject.groups, plan.concepts, plan.seed)
    kinds = [(subject.variants, *usual, plan.starts, True)]
    if TEXT in subject.layers:
        kinds.append((WIDE, (GENERALIZED,), plan.wide, plan.wide_seed, plan.starts, True))
    if subject.ablated:
        kinds.append((ABLATIONS, *usual, plan.ablation_starts, False))
    for variants, groups, concepts, seed, starts, main in kinds:
        for variant, group, concept in itertools.product(variants, groups, concepts):
            name = f"{subject.name}, {variant.name}, {group}, {concept}"
            yield Look(name, subject, variant, group, concept, seed, starts, main)


def measure(out: Path, subjects: Sequence[Subject], plan: Plan, progress: Progress) -> None:
    """Measure all that is not measured yet, a subject after the other: the cheap stages first."""
    for subject in subjects:
        every = [look for look in looks(subject, plan) if not part_path(out, look.name).exists()]
        wanted = [n for n in mitigation_names(subject, plan) if not part_path(out, n).exists()]
        if not (every or wanted):
            continue
        loaded = load(subject)
        for done, look in enumerate(every):
            progress("cases", done, len(every), look.name)
            _measure_case(out, loaded, look)
        if wanted:
            progress("mitigation", 0, 1, subject.name)
            _measure_mitigation(out, loaded, subject, plan)


def _measure_case(out: Path, loaded: Loaded, look: Look) -> None:
    arrays = case(
        loaded, look.subject, look.variant, look.group, look.concept, look.seed, look.starts
    )
    strengths = look.variant.strengths_of(look.subject)
    facts = {
        "model": look.subject.name,
        "variant": look.variant.name,
        "group": look.group,
        "concept": look.concept,
    }
    if arrays is None:  # known, and not asked for again
        write_part(out, look.name, facts | {"shape": "", "main": look.main}, {})
        return
    facts |= {
        "strengths": list(strengths),
        "starts": look.starts,
        "shape": shape_name(arrays),
        "main": look.main,
    }
    write_part(out, look.name, facts, arrays)


def mitigation_names(subject: Subject, plan: Plan) -> list[str]:
    """Names of the parts of mitigation: of the starts that choose, and of those that judge."""
    kinds = ("choosing", "judging") if subject.mitigated else ()
    return [f"{subject.name}, mitigation, {kind}, {plan.mitigation_seed}" for kind in kinds]


def _measure_mitigation(out: Path, loaded: Loaded, subject: Subject, plan: Plan) -> None:
    for choosing, name in zip((True, False), mitigation_names(subject, plan), strict=True):
        if part_path(out, name).exists():
            continue
        count = plan.choosing_starts if choosing else plan.mitigated_starts
        # Strengths are chosen on starts of a development seed, whatever is judged.
        seed = DEVELOPMENT_SEED if choosing else plan.mitigation_seed
        rows, found = [], []
        for setting in settings(loaded.model, loaded.data, subject.detector, count, seed):
            rows.append({"way": setting.way, "strength": setting.strength})
            found.append(outcome(loaded, setting, seed, count))
        columns = {k: np.array([getattr(o, k) for o in found]) for k in found[0]._fields}
        columns["realism"] = np.float32(columns["realism"])
        facts = {"model": subject.name, "choosing": choosing, "settings": rows}
        write_part(out, name, facts, columns)


def ablations_of(out: Path, subjects: Sequence[Subject], plan: Plan) -> list[dict]:
    """Cases that are not of the main comparison, in a few numbers."""
    found = []
    for subject in subjects:
        for look in looks(subject, plan):
            if not look.main and part_path(out, look.name).exists():
                facts, arrays = read_part(out, look.name, ("model", "shape"))
                if facts["shape"]:
                    numbers = summary(facts["strengths"], arrays)
                    facts = {k: v for k, v in facts.items() if k not in ("shape", "main")}
                    found.append(facts | {k: round(v, 4) for k, v in numbers.items()})
    return found


def nulls(concepts: Sequence[str], size: int) -> dict[str, float]:
    """By concept, what `metrics.energy_null` says of ``size`` real images."""
    return {c: round(energy_null(features_of(c), size), 5) for c in concepts}
