"""The tables of docs/RESULTS.md, from a study: how steered samples move, and what keeps copies
away."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dae_theory.statistics import Interval, mean_interval, share_interval
from dae_theory.steer import metrics
from dae_theory.steer.study.compare import chosen, copies, fidelity
from dae_theory.steer.study.mitigate import (
    AGAINST,
    AGAINST_TEXT,
    BLOCKED,
    GUIDANCE,
    NOISE,
    ORDINARY,
    RANDOM,
    RANDOM_TEXT,
    UNSTEERED,
)
from dae_theory.steer.study.settings import GROUPS
from dae_theory.steer.study.settings import RANDOM as RANDOM_VARIANT
from dae_theory.steer.study.store import Case, Study
from dae_theory.steer.study.summary import GAIN, summary

WAYS = (AGAINST_TEXT, RANDOM_TEXT, NOISE, GUIDANCE, AGAINST, RANDOM, BLOCKED)
HALVES = ("of others' captions", "of the concept's")  # as `material.captions_for` takes turns
NUMBERS = (
    *("spearman_of_mean", "spearman", "rising", "monotone", "first_step", "largest_step"),
    *("gain", "kept"),
)
TRAJECTORIES: dict[str, Callable[[Case], np.ndarray]] = {
    "Spearman": lambda c: metrics.spearman(np.array(c.strengths), _odds(c)),
    "γ": lambda c: metrics.rising(metrics.resolved(_odds(c))),
    "monotone": lambda c: metrics.monotone(_chance(c)).astype(float),
    "largest step": lambda c: metrics.largest_share(_path(c)),
    "first step": lambda c: metrics.first_share(_path(c)[_zero(c) :]),
    "uniformity": lambda c: metrics.uniformity(_path(c)),
    "gain": lambda c: _chance(c)[-1] - _chance(c)[0],
    "its size": lambda c: np.abs(_chance(c)[-1] - _chance(c)[0]),
}


def _odds(case: Case) -> np.ndarray:
    return case.arrays["log_odds"].astype(float)


def _chance(case: Case) -> np.ndarray:
    return metrics.probability(_odds(case))


def _path(case: Case) -> np.ndarray:
    return case.arrays["path"].astype(float)


def _zero(case: Case) -> int:
    return int(np.argmin(np.abs(case.strengths)))


def of(study: Study, model: str, variant: str, group: str) -> list[Case]:
    """Cases of the main comparison, a concept each."""
    wanted = (model, variant, group)
    return [c for c in study.cases if (c.model, c.variant, c.group) == wanted]


def kinds(study: Study) -> list[tuple[str, str, str]]:
    """Models, variants and groups, in the order of the study."""
    return list(dict.fromkeys((c.model, c.variant, c.group) for c in study.cases))


def over_concepts(values_C: Sequence[float]) -> str:
    """The mean of values within ±1, a concept each, and its interval: none of a single concept, or
    of equal values; '–' where there is no value."""
    values_C = np.array([value for value in values_C if np.isfinite(value)])
    if not len(values_C):
        return "–"
    if np.ptp(values_C) == 0:
        return f"{values_C[0]:.2f}"
    value, low, high = mean_interval(values_C, symmetric=True)
    return Interval(value, max(low, -1.0), min(high, 1.0)).shown(2)


def of_curve(cases: Sequence[Case], first: int | None = None) -> list[float]:
    """Of each concept, Spearman's correlation of strength and mean probability over starts; over
    those of one of HALVES where ``first`` is given."""
    some = slice(None) if first is None else slice(first, None, len(HALVES))
    strength_S = np.array(cases[0].strengths)
    means_SC = np.stack([_chance(case)[:, some].mean(axis=1) for case in cases], axis=1)
    return list(metrics.spearman(strength_S, means_SC))


def main_table(study: Study) -> list[str]:
    """A line a model, variant and group: Spearman's correlation of the mean probability over
    starts, statistics of trajectories, with intervals over concepts, and probability of the
    concept and copies at the lowest strength, at 0 and at the highest."""
    names = ["Spearman of the mean", *HALVES, *TRAJECTORIES, "probability", "copies"]
    lines = [
        "| model | along | samples | " + " | ".join(names) + " |",
        "|" + "---|" * (3 + len(names)),
    ]
    for kind in kinds(study):
        found = of(study, *kind)
        cells = [over_concepts(of_curve(found, first)) for first in (None, *range(len(HALVES)))]
        cells += [
            over_concepts([_mean(value(c)) for c in found]) for value in TRAJECTORIES.values()
        ]
        chance = np.mean([_chance(c).mean(axis=1) for c in found], axis=0)
        copied = np.mean([c.arrays["copy"].mean(axis=1) for c in found], axis=0)
        at = [0, _zero(found[0]), -1]
        cells += [", ".join(f"{number:.2f}" for number in some[at]) for some in (chance, copied)]
        lines.append("| " + " | ".join([*kind, *cells]) + " |")
    return lines


def chance_line(study: Study) -> str:
    """How often one start is monotone along one random direction, by chance."""
    some = [c for c in study.cases if (c.variant, c.group) == (RANDOM_VARIANT, GROUPS[0])]
    rho = np.concatenate([TRAJECTORIES["Spearman"](c) for c in some])
    return (
        f"{GROUPS[0]} samples along random directions: Spearman of {len(rho)} single starts is "
        f"above .9 in {np.mean(rho > 0.9):.2f}, below −.9 in {np.mean(rho < -0.9):.2f}"
    )


def difference_table(study: Study, variant: str) -> list[str]:
    """Generalized minus memorized samples, by the model: both made from the same starts. Nothing
    where no model has both."""
    lines = [
        f"| model (along {variant}) | " + " | ".join(TRAJECTORIES) + " |",
        "|" + "---|" * (1 + len(TRAJECTORIES)),
    ]
    for model in dict.fromkeys(c.model for c in study.cases):
        sides = [{c.concept: c for c in of(study, model, variant, group)} for group in GROUPS]
        pairs = [(side, sides[1][name]) for name, side in sides[0].items() if name in sides[1]]
        if pairs:
            cells = [
                over_concepts([_mean(value(a) - value(b)) for a, b in pairs])
                for value in TRAJECTORIES.values()
            ]
            lines.append("| " + " | ".join([model, *cells]) + " |")
    return lines if len(lines) > 2 else []


def curve_table(study: Study) -> list[str]:
    """By strength: probability of the concept, share of copies, energy distance to real images of
    the garments seen, as means over concepts."""
    lines = ["| model | along | samples | what | by strength |", "|---|---|---|---|---|"]
    for kind in kinds(study):
        found = of(study, *kind)
        rows = {
            "probability": [_chance(c).mean(axis=1) for c in found],
            "copies": [c.arrays["copy"].mean(axis=1) for c in found],
            "from real images": [c.arrays["realism"] for c in found],
        }
        for what, values in rows.items():
            numbers = " ".join(f"{number:.2f}" for number in np.mean(values, axis=0))
            lines.append("| " + " | ".join([*kind, what, numbers]) + " |")
    return lines


def ablation_table(study: Study) -> list[str]:
    """A line an ablation and group: means over models and concepts of `summary.summary`, beside
    the main comparison's in the same models."""
    ablations = study.card["ablations"]
    models = {row["model"] for row in ablations}
    rows = [*ablations]
    for case in study.cases:
        if case.model in models:
            facts = {"variant": case.variant, "group": case.group}
            rows.append(facts | summary(case.strengths, case.arrays))
    lines = ["| variant | samples | " + " | ".join(NUMBERS) + " | cases |"]
    lines.append("|" + "---|" * (3 + len(NUMBERS)))
    for variant in dict.fromkeys(row["variant"] for row in reversed(rows)):
        for group in GROUPS:
            some = [r for r in rows if (r["variant"], r["group"]) == (variant, group)]
            if some:
                means = [_mean(row[name] for row in some) for name in NUMBERS]
                cells = [f"{mean:.2f}" if np.isfinite(mean) else "–" for mean in means]
                lines.append("| " + " | ".join([variant, group, *cells, str(len(some))]) + " |")
    return lines


def _mean(values: Iterable[float]) -> float:
    """Of the finite ones; NaN where there is none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def mitigation_table(study: Study) -> list[str]:
    """A line a model and way, at the strength chosen on other starts: copies per 1,000, fidelity,
    energy distance to real images."""
    lines = [
        "| model | way | strength | copies per 1,000 | fidelity | from real images |",
        "|---|---|---|---|---|---|",
    ]
    outcomes = study.mitigated
    for model in dict.fromkeys(o.model for o in outcomes):
        plain = [o for o in outcomes if o.model == model and not o.choosing]
        picked = [next(o for o in plain if o.way == way) for way in (UNSTEERED, ORDINARY)]
        asked = [(o.way, o) for o in picked]
        asked += [(way, chosen(outcomes, model, way)) for way in WAYS]
        for way, o in asked:
            count = len(o.copy)
            copied = share_interval(int(np.sum(o.copy)), count)
            faithful = share_interval(int(np.sum(o.faithful)), count)
            cells = [Interval(*(1000 * v for v in copied)).shown(0), faithful.shown(2)]
            lines.append(
                f"| {model} | {way} | {o.strength:g} | {' | '.join(cells)} | {o.realism:.2f} |"
            )
    return lines


def frontier_table(study: Study) -> list[str]:
    """Every way at every strength, on the starts that judge."""
    lines = ["| model | way | strength: copies / fidelity / from real images |", "|---|---|---|"]
    judging = [o for o in study.mitigated if not o.choosing]
    for model, way in dict.fromkeys((o.model, o.way) for o in judging):
        some = [o for o in judging if (o.model, o.way) == (model, way)]
        numbers = [
            f"{o.strength:g}: {copies(o):.2f} / {fidelity(o):.2f} / {o.realism:.2f}" for o in some
        ]
        lines.append(f"| {model} | {way} | {', '.join(numbers)} |")
    return lines


def strengths(study: Study) -> list[str]:
    """A line for each grid of strengths: the models that it is of."""
    grids = dict.fromkeys(c.strengths for c in study.cases)
    named = {g: dict.fromkeys(c.model for c in study.cases if c.strengths == g) for g in grids}
    return [f"{', '.join(named[g])}: {' '.join(f'{s:.4g}' for s in g)}" for g in grids]


def text(study: Study) -> str:
    """All tables."""
    variants: Sequence[str] = tuple(dict.fromkeys(c.variant for c in study.cases))
    null = ", ".join(f"{name} {value:.2f}" for name, value in study.card["null"].items())
    parts = [
        [study.card["command"]],
        [
            *strengths(study),
            f"real images against others, 95%: {null}",
            f"real images of the two most similar garments: {study.card['similar']:.2f}",
        ],
        main_table(study),
        [chance_line(study)],
        *(difference_table(study, variant) for variant in variants),
        curve_table(study),
        [f"kept: cosine with the unsteered sample where resolved log-odds have gained {GAIN:g}"],
        ablation_table(study),
        mitigation_table(study),
        frontier_table(study),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)
