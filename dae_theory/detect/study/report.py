"""The tables of docs/RESULTS.md, from a study: what each detector finds, and at what cost."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from dae_theory.detect.evaluate import (
    Question,
    area,
    area_over_models,
    detected_over_models,
    false_alarms_over_models,
    paired_difference,
)
from dae_theory.detect.study.images import Group
from dae_theory.detect.study.measure import detectors
from dae_theory.detect.study.settings import TEXT_DIT
from dae_theory.detect.study.store import Model, Study


class Kind(NamedTuple):
    """Groups of images: memorized, matched to them, and those that calibrate the threshold."""

    positive: Group
    negative: Group
    calibration: Group


TRAINING, UNSEEN = "training images", "planted against unseen images"
FREE_SAMPLES, TOLD_SAMPLES = "samples, no caption", "samples, planted captions"
KINDS = {
    TRAINING: Kind(Group.PLANTED, Group.OTHER, Group.UNSEEN),
    FREE_SAMPLES: Kind(Group.FREE_COPY, Group.FREE_MATCHED, Group.SAMPLED),
    TOLD_SAMPLES: Kind(Group.TOLD_COPY, Group.TOLD_MATCHED, Group.SAMPLED),
    UNSEEN: Kind(Group.PLANTED, Group.UNSEEN_MATCHED, Group.UNSEEN),
    "shifted by a pixel": Kind(Group.SHIFTED, Group.OTHER_SHIFTED, Group.UNSEEN),
    "brightened by a fifth": Kind(Group.BRIGHTENED, Group.OTHER_BRIGHTENED, Group.UNSEEN),
    "with noise of .1": Kind(Group.NOISED, Group.OTHER_NOISED, Group.UNSEEN),
    "shifted, against unseen images": Kind(Group.SHIFTED, Group.UNSEEN_MATCHED, Group.UNSEEN),
    "brightened, against unseen": Kind(Group.BRIGHTENED, Group.UNSEEN_MATCHED, Group.UNSEEN),
    "noised, against unseen": Kind(Group.NOISED, Group.UNSEEN_MATCHED, Group.UNSEEN),
}
MAIN = (TRAINING, FREE_SAMPLES, TOLD_SAMPLES)
# The gap ratio labels the samples, and is 0 at every training image: what it says there is certain
# before anything is measured.
BY_CONSTRUCTION = {"training_gap": (*MAIN, UNSEEN)}
REPRODUCED, NOT_REPRODUCED = "planted images that are copied", "planted images never copied"


def question(
    model: Model, detector: str, kind: str, planted_K: Bool[np.ndarray, " K"] | None = None
) -> Question | None:
    """The test images of a model; None where it has no such scores, one of the sides is empty, or
    the answer holds by construction.

    ``planted_K`` says which planted images count, all by default.
    """
    groups = KINDS[kind]
    if detector not in model.scores or kind in BY_CONSTRUCTION.get(detector, ()):
        return None
    used_N = model.test & (model.planted >= 0)
    if planted_K is not None:
        used_N &= planted_K[model.planted]
    positive, negative = (used_N & (model.group == group) for group in groups[:2])
    calibration = model.group == groups.calibration
    if not (positive.any() and negative.any() and calibration.any()):
        return None
    score_N = model.scores[detector]
    return Question(
        score_N[positive],
        model.planted[positive],
        score_N[negative],
        model.planted[negative],
        score_N[calibration],
    )


def questions(models: Sequence[Model], detector: str, kind: str) -> dict[str, Question]:
    """By the models' names, of those that have all it takes."""
    found = {f"{m.name}@{m.step}": question(m, detector, kind) for m in models}
    return {name: one for name, one in found.items() if one is not None}


def ends(study: Study, *, judging: bool | None = None) -> list[Model]:
    """Models at the end of their training, of one kind of seeds or both."""
    return [m for m in study.models if m.last and judging in (None, m.judging)]


def detectors_of(models: Sequence[Model]) -> tuple[str, ...]:
    """All detectors that any of the models was asked."""
    return tuple(dict.fromkeys(name for model in models for name in model.scores))


def passes() -> dict[str, int]:
    """Forward passes an image or caption, by the detector's name."""
    return {d.name: d.passes for d in detectors(TEXT_DIT, whole=True)}


def main_table(models: Sequence[Model], kind: str) -> list[str]:
    """A line a detector: models, AUROC, detected at 1% and achieved false alarms."""
    lines = [
        f"| detector ({kind}) | passes | models | AUROC | TPR at 1% | achieved FPR |",
        "|---|---|---|---|---|---|",
    ]
    cost = passes()
    for detector in detectors_of(models):
        asked = list(questions(models, detector, kind).values())
        if asked:
            lines.append(f"| {detector} | {cost.get(detector, '')} | {_rates(asked)} |")
    return lines


def kinds_table(models: Sequence[Model], detector: str) -> list[str]:
    """The same of one detector, a line a kind of images."""
    lines = [
        f"| images ({detector}) | models | AUROC | TPR at 1% | achieved FPR |",
        "|---|---|---|---|---|",
    ]
    for kind in KINDS:
        asked = list(questions(models, detector, kind).values())
        if asked:
            lines.append(f"| {kind} | {_rates(asked)} |")
    return lines


def _rates(asked: Sequence[Question]) -> str:
    rates = (area_over_models, detected_over_models, false_alarms_over_models)
    cells = [rate(asked).shown(3) for rate in rates]
    return " | ".join([str(len(asked)), *cells])


def difference_table(models: Sequence[Model], kind: str, first: str = "std") -> list[str]:
    """AUROC of ``first`` minus that of every other detector, on the same images."""
    lines = [f"| {first} minus ({kind}) | models | difference of AUROC |", "|---|---|---|"]
    own = questions(models, first, kind)
    for detector in detectors_of(models):
        other = questions(models, detector, kind)
        both = [name for name in own if name in other]
        if len(both) > 1 and detector != first:
            pairs = [[asked[name] for name in both] for asked in (own, other)]
            lines.append(f"| {detector} | {len(both)} | {paired_difference(*pairs).shown(3)} |")
    return lines


def control_table(models: Sequence[Model], detectors: Sequence[str]) -> list[str]:
    """AUROC of some detectors on the controls."""
    lines = ["| control | " + " | ".join(detectors) + " |", "|" + "---|" * (len(detectors) + 1)]
    for kind in list(KINDS)[len(MAIN) :]:
        asked = [list(questions(models, detector, kind).values()) for detector in detectors]
        lines.append(_line(kind, asked))
    for name, copied in ((REPRODUCED, True), (NOT_REPRODUCED, False)):
        asked = [
            [
                found
                for m in models
                if (found := question(m, detector, TRAINING, (m.reproduced > 0) == copied))
            ]
            for detector in detectors
        ]
        lines.append(_line(name, asked))
    return lines


def _line(name: str, asked: Sequence[Sequence[Question]]) -> str:
    cells = [
        f"{area_over_models(some).shown(3)}, {len(some)} models" if some else "" for some in asked
    ]
    return f"| {name} | {' | '.join(cells)} |"


def model_table(study: Study, detectors: Sequence[str]) -> list[str]:
    """A line a model and step: share of copies, and AUROC on its training images."""
    names = ["model", "step", "copies without a caption", "with planted captions", *detectors]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for model in sorted(study.models, key=lambda m: m.free_share):
        told = model.facts["copies"].get("planted captions")
        cells = [model.name, str(model.step), f"{model.free_share:.3f}"]
        cells.append("" if told is None else f"{told[0] / told[1]:.3f}")
        for detector in detectors:
            asked = question(model, detector, TRAINING)
            cells.append("" if asked is None else f"{area(asked):.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


CURVES = (
    "std",
    "std, right caption",
    "guidance_norm",
    "denoising_error",
    "jacobian_trace",
    "chosen",
)
CONTROLLED = (*CURVES, "generation_radius")


def text(study: Study) -> str:
    """All tables."""
    models = ends(study)
    parts = [model_table(study, CURVES), *(main_table(models, kind) for kind in MAIN)]
    parts += [control_table(models, CONTROLLED), kinds_table(models, "training_gap")]
    parts += [difference_table(models, kind) for kind in MAIN]
    return "\n\n".join("\n".join(lines) for lines in parts)
