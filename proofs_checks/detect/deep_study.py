"""Deep models whose planted images are known: what claims take from the scores of the study.

The scores are those that come with the package, made by
``python -m dae_theory.detect.study --out=DIR`` (see `dae_theory.detect.study.store`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dae_theory.detect.evaluate import area, clusters
from dae_theory.detect.study.images import TOLD
from dae_theory.detect.study.report import TRAINING, questions
from dae_theory.detect.study.store import Model, Study
from proofs_checks.claims import Measured, Requirement, at_least
from proofs_checks.parts import DeepStudy

STD = "std"
FAIR = 0.1  # share of copies with planted captions from which a model counts as memorizing
Which = Callable[[Model], bool]


def build() -> DeepStudy:
    """The study that comes with the package."""
    return DeepStudy(Study.load(), "study", "scores")


def judged(model: Model) -> bool:
    """Trained after everything was chosen, and at its end."""
    return model.judging and model.last


def memorizing(model: Model) -> bool:
    """Makes copies of planted images, with their captions where it takes any."""
    copies = model.facts["copies"]
    told = copies.get(TOLD)
    return model.free_share >= FAIR if told is None else told[0] / told[1] >= FAIR


def models_of(e: DeepStudy, which: Which) -> list[Model]:
    """The models of a kind."""
    return [model for model in e.study.models if which(model)]


def some_models(count: int, which: Which) -> Requirement:
    """There are so many models of a kind."""
    return at_least("models", count, lambda e: len(models_of(e, which)))


def areas(models: Sequence[Model], detector: str, kind: str = TRAINING) -> dict[str, float]:
    """AUROC by the model's name, of those that were asked."""
    return {name: area(one) for name, one in questions(models, detector, kind).items()}


def separates(detector: str, which: Which, kind: str = TRAINING) -> Callable[[DeepStudy], Measured]:
    """How far the AUROC of each model is below 1."""

    def measure(e: DeepStudy) -> Measured:
        models = models_of(e, which)
        asked = list(questions(models, detector, kind).values())
        found = of_models(areas(models, detector, kind), models, 1.0)
        return replace(found, pairs=clusters(asked))

    return measure


def of_models(found: dict[str, float], models: Sequence[Model], predicted: float) -> Measured:
    """Distance of a value of each model to what is predicted."""
    values = np.array(list(found.values()))
    seeds = tuple(m.facts["seed"] for m in models if f"{m.name}@{m.step}" in found)
    note = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    return Measured(float(np.mean(values)), predicted, np.abs(predicted - values), seeds, note)


def with_models(e: DeepStudy, change: Callable[[Model], Model]) -> DeepStudy:
    """The study with every model changed."""
    return replace(e, study=replace(e.study, models=tuple(map(change, e.study.models))))
