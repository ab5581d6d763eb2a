"""Wen's score in two nets, one for each condition: what a caption adds to the answer.

Under the caption three samples are stored; without it one of them is missing, and the others are
repeated other numbers of times. The caption chooses the net, as a condition with units of its own
would.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dae_theory.data import Dataset
from dae_theory.relu.model import denoise
from dae_theory.statistics import area_under_roc
from dae_theory.theory.detectors import Response, block_response, condition_law, predict_auroc
from dae_theory.theory.problem import Problem
from dae_theory.theory.quadratic import QuadraticLaw
from proofs_checks.blocks import default_decay
from proofs_checks.claims import Claim, Kind, Measured, Mutant, average, given
from proofs_checks.config import DataUsed, data_used
from proofs_checks.detect.origin import FIXED_HERE
from proofs_checks.detect.relu_nets import (
    COUNTS,
    DECAY,
    KEPT,
    N_STORED,
    NAME,
    SIGMA,
    TRAINED,
    Detecting,
    Plan,
    ReluDetection,
    Setting,
    Solving,
)
from proofs_checks.nets import untrained
from proofs_checks.stationarity import MOVEMENT

MISSING = 0  # the sample that is stored under the caption only
OTHER_COUNTS, OTHER_PLAN = (40, 15, 41, 40), Plan(16, (2, 3, 5, 6))
SEEDS = 4


@dataclass(frozen=True)
class Conditioned:
    """A net for the caption and one without it.

    Attributes:
      conditional: the net under the caption, with what it is shown.
      problem, solving: of the net without.
      law: of the squared score, given both responses.
    """

    conditional: Detecting
    problem: Problem
    solving: Solving
    law: Callable[[Response, Response | None], QuadraticLaw] = condition_law

    @property
    def usable(self) -> bool:
        """The net without the caption is at a minimum, with blocks of their own."""
        separate = self.solving.comparison.separate.all()
        return bool(separate and self.solving.stopped.movement <= MOVEMENT)

    def law_of(self, k: int, sigma: float) -> QuadraticLaw:
        """Law of the squared score at fresh samples of cluster k."""
        conditional = self.conditional.response(k, sigma)
        if k == MISSING:
            return self.law(conditional, None)
        mean_D, cov_DD = conditional.mean, conditional.cov
        other = block_response(self.solving.prediction, k - 1, mean_D, cov_DD, sigma)
        return self.law(conditional, other)

    def score(self, x_ND: np.ndarray, y_ND: np.ndarray) -> np.ndarray:
        """Norm of the difference of the two outputs."""
        conditional = denoise(*self.conditional.nets.pairs[0], y_ND)
        return np.linalg.norm(
            np.asarray(conditional - denoise(*self.solving.nets.pairs[0], y_ND)), axis=1
        )

    def area(self, setting: Setting) -> tuple[float, float]:
        """Area under the ROC curve, predicted and measured."""
        laws = [[self.law_of(k, setting.sigma)] for k in (setting.stored, setting.cluster)]
        return predict_auroc(*laws), area_under_roc(*self.conditional.scores(setting, self.score))


@dataclass(frozen=True)
class Conditions:
    """Some seeds of it."""

    draws: tuple[Conditioned, ...]

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        return {"nets without the caption": len(self.draws)}

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples without the caption, by name and hash."""
        return tuple(
            data_used(
                Dataset(NAME, e.problem.x), e.problem.x, f"seed {e.conditional.seed}, no caption"
            )
            for e in self.draws
        )


def without_caption(e: Detecting) -> Conditioned:
    """The net of the same mixture without the missing sample."""
    kept = np.arange(len(COUNTS)) != MISSING
    mixture = replace(
        e.mixture,
        means=e.mixture.means[kept],
        covs=e.mixture.covs[kept],
        priors=np.array(OTHER_COUNTS) / sum(OTHER_COUNTS),
    )
    x_ND, labels_N = mixture.sample(e.seed + 1, sum(OTHER_COUNTS))
    kept_units = tuple(np.array(KEPT)[kept].tolist())
    lam = default_decay(x_ND, labels_N, kept_units, DECAY)
    problem = Problem(x_ND, SIGMA, lam, labels_N, kept_units)
    progress = e.solving.progress
    return Conditioned(e, problem, Solving(problem, OTHER_PLAN, e.seed, progress, N_STORED - 1))


def build(relu: ReluDetection) -> Conditions:
    """Beside the first nets of the other part."""
    return Conditions(tuple(map(without_caption, relu.draws[:SEEDS])))


def areas(e: Conditioned, missing: bool) -> list[tuple[float, float]]:
    """Predicted and measured areas of the sample that is missing without the caption, or of the
    others."""
    settings = e.conditional.comparisons_made
    return [e.area(setting) for setting in settings if (setting.stored == MISSING) == missing]


def condition_auroc(e: Conditioned) -> Measured:
    """Areas predicted and measured."""
    alone, both = (np.array(areas(e, missing)) for missing in (True, False))
    found = np.concatenate([alone, both])
    predicted, measured = found.T
    return Measured(
        average(measured),
        average(predicted),
        np.array([average(np.abs(measured - predicted))]),
        (e.conditional.seed,),
        "AUROC of Wen's norm: {alone:.3f} for a sample stored under the caption only, {both:.3f} "
        "for those stored without it, too",
        details={"alone": average(alone[:, 1]), "both": average(both[:, 1])},
    )


REQUIRED = (
    *(
        replace(r, value=lambda e, value=r.value: value(e.conditional), advice=None)
        for r in TRAINED
    ),
    given("net without the caption", "at a minimum", lambda e: e.usable, needs_others=True),
)
CLAIMS = (
    Claim(
        id="detect/condition-auroc",
        statement="The AUROC of Wen's norm follows from both minimizers: it is near 1 for a sample "
        "stored under the caption only, and below ½ for one stored without it, too.",
        source="docs/THEORY.md#detection-condition",
        part="conditions",
        requires=REQUIRED,
        measure=condition_auroc,
        tolerance=0.03,
        mutants=(
            Mutant(
                "the conditional output alone",
                lambda e: replace(
                    e, law=lambda conditional, other: condition_law(conditional, None)
                ),
            ),
            Mutant(
                "low is memorized",
                lambda e: replace(e, law=lambda c, other: condition_law(c, other).scaled(-1)),
            ),
            Mutant(
                "untrained nets",
                lambda e: replace(
                    e,
                    conditional=replace(
                        e.conditional, replaced=untrained(e.conditional.solving.nets)
                    ),
                ),
            ),
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_HERE,
    ),
)
