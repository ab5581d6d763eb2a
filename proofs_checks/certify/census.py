"""Is the minimizer of Corollary 3.2 typical? A census of local minima from random starts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dae_theory.minima.census import KINDS, Minimum
from proofs_checks.certify_census_evidence import (
    COSINES,
    OPTIMIZERS,
    QUICK_COSINES,
    CensusStudy,
    Ending,
    Runs,
    Start,
    all_starts,
    assume_settled,
    is_exact,
    is_negative,
    measure_below,
    measure_lowest,
    measure_optimizers,
    measure_scale,
    measure_share,
    measure_subsets,
    of_ratio,
)
from proofs_checks.claims import Claim, Evidence, Mutant, measure_or_vacuous
from proofs_checks.memorize_mutants import double_sigma, half_lambda

SAME_LOSS = 1e-6  # relative
NEARLY_ALL, A_QUARTER, A_THIRD, MOST = 0.05, 1 / 4, 1 / 3, 0.5  # tolerances of shares
SIGNIFICANCE = 0.01


def build(seeds: tuple[int, ...], quick: bool) -> CensusStudy:
    """Starts at every cosine, p/n, scale, optimizer and seed; ``quick`` takes fewer cosines."""
    return CensusStudy(Runs(all_starts(QUICK_COSINES if quick else COSINES, seeds)))


# --- mutants ---------------------------------------------------------------------------------


HALF_LAMBDA = Mutant("(5) with λ/2", lambda study: replace(study, predict=half_lambda))
LOSS_FORMULA = Mutant(
    "(3) for the loss of the net",
    lambda study: replace(study, net_loss=lambda prediction, x_ND: prediction.loss),
)
DOUBLE_SIGMA = Mutant("(5) with 2σ", lambda study: replace(study, predict=double_sigma))


def _exchanged(what: str, where: Callable[[Start], bool] = lambda start: True, **fields) -> Mutant:
    """Starts `where` are said to end where those with other ``fields`` do."""

    def relabel(endings: Sequence[Ending]) -> list[Ending]:
        by_start = {end.start: end for end in endings}

        def source(start: Start) -> Start:
            return start._replace(**fields) if where(start) else start

        return [by_start[source(end.start)]._replace(start=end.start) for end in endings]

    return Mutant(what, lambda study: replace(study, relabel=relabel))


ENTANGLED = _exchanged("minima of β = 0.3", cosine=0.3)
SEPARABLE = _exchanged("minima of β = −0.2", cosine=-0.2)
NARROW = _exchanged("minima of p = n", ratio=1)
WIDE = _exchanged("minima of p = 4n", ratio=4, draw=0)


# --- claims ----------------------------------------------------------------------------------


def _claim(name, statement, source, which, measure, tolerance, mutants) -> Claim:
    assume = assume_settled(which)

    def check(study: CensusStudy) -> Evidence:
        return measure_or_vacuous(study, assume(study), measure, tolerance)

    return Claim(f"certify/census-{name}", statement, source, check, mutants)


def _share(name, statement, which, has, target, tolerance, mutants) -> Claim:
    measure = measure_share(which, has, target)
    return _claim(name, statement, "THEORY §13", which, measure, tolerance, mutants)


def in_weights(minimum: Minimum) -> bool:
    """Up to splitting, the columns store all samples."""
    return minimum.memorizes_weights


def in_output(minimum: Minimum) -> bool:
    """The net returns all samples, and little else."""
    return minimum.memorizes_output


def in_one_only(minimum: Minimum) -> bool:
    """Weights and output disagree."""
    return minimum.memorizes_weights != minimum.memorizes_output


def is_positive(start: Start) -> bool:
    """A cosine for which the theory does not hold."""
    return start.cosine > 0


def is_separable_or_boundary(start: Start) -> bool:
    """A cosine up to 0."""
    return start.cosine <= 0


def is_boundary(start: Start) -> bool:
    """Orthogonal samples."""
    return start.cosine == 0


CLAIMS = (
    _claim(
        "lowest",
        "β < 0: no random start ends below the loss of (5), and some reach it.",
        "Corollary 3.2, (5)",
        is_exact,
        measure_lowest,
        SAME_LOSS,
        (HALF_LAMBDA, DOUBLE_SIGMA, ENTANGLED),
    ),
    _claim(
        "subsets",
        "β < 0: all other minima found are (5) on some of the samples; the rest is forgotten.",
        "Corollary 3.2, (5)",
        is_exact,
        measure_subsets,
        SAME_LOSS,
        (HALF_LAMBDA, DOUBLE_SIGMA, ENTANGLED),
    ),
    _share(
        "typical-4n",
        "β < 0, p = 4n: (5) is typical, over 95% of random starts reach it, up to splitting.",
        of_ratio(4, is_negative),
        in_weights,
        1.0,
        NEARLY_ALL,
        (NARROW, ENTANGLED),
    ),
    _share(
        "typical-2n",
        "β < 0, p = 2n: most random starts reach (5), up to splitting.",
        of_ratio(2, is_negative),
        in_weights,
        1.0,
        MOST,
        (ENTANGLED,),
    ),
    _share(
        "untypical-n",
        "β < 0, p = n: (5) is not typical, over a third of random starts forget a sample.",
        of_ratio(1, is_negative),
        lambda minimum: minimum.kind == "forgetful",
        1.0,
        1 - A_THIRD,
        (WIDE, ENTANGLED),
    ),
    _claim(
        "scale",
        "β < 0, p = n: starts of small scale reach (5) less often than those of large scale.",
        "THEORY §13",
        of_ratio(1, is_negative),
        measure_scale,
        MOST,
        (_exchanged("small starts with p = 4n", lambda start: start.scale < 1, ratio=4, draw=0),),
    ),
    _claim(
        "optimizer",
        "β < 0, p = n: which of Adam, SGD, L-BFGS descends makes no difference (χ² test at 1%).",
        "THEORY §13",
        of_ratio(1, is_negative),
        measure_optimizers,
        1 - SIGNIFICANCE,
        (_exchanged("SGD with p = 4n", lambda start: start.optimizer == "sgd", ratio=4, draw=0),),
    ),
    _share(
        "boundary",
        "β = 0, the boundary: even at p = n over three in four random starts store all samples.",
        of_ratio(1, is_boundary),
        in_weights,
        1.0,
        A_QUARTER,
        (ENTANGLED,),
    ),
    _share(
        "same",
        "β ≤ 0: a minimum memorizes in its output exactly when it does in its weights.",
        is_separable_or_boundary,
        in_one_only,
        0.0,
        NEARLY_ALL,
        (ENTANGLED,),
    ),
    _share(
        "positive",
        "β > 0: no random start ends with the samples stored in the weights.",
        is_positive,
        in_weights,
        0.0,
        NEARLY_ALL,
        (SEPARABLE,),
    ),
    _claim(
        "below",
        "β > 0: every random start ends below the loss of the net (5).",
        "THEORY §8",
        is_positive,
        measure_below,
        1 - SAME_LOSS,
        (LOSS_FORMULA,),
    ),
    _share(
        "other-minima",
        "β > 0, p = 4n: over 95% of the minima, which are entangled, memorize in their output.",
        of_ratio(4, is_positive),
        in_output,
        1.0,
        NEARLY_ALL,
        (NARROW,),
    ),
)


def results(study: CensusStudy) -> dict[str, np.ndarray]:
    """Arrays behind the figure, one entry for each start: optimizers and kinds are indices."""
    columns = {
        "cosine": lambda end: end.start.cosine,
        "ratio": lambda end: end.start.ratio,
        "scale": lambda end: end.start.scale,
        "optimizer": lambda end: OPTIMIZERS.index(end.start.optimizer),
        "seed": lambda end: end.start.seed,
        "kind": lambda end: KINDS.index(end.minimum.kind),
        "excess": lambda end: end.minimum.excess,
        "memorizes_weights": lambda end: end.minimum.memorizes_weights,
        "memorizes_output": lambda end: end.minimum.memorizes_output,
        "settled": lambda end: end.settled,
    }
    return {name: np.array([of(end) for end in study.endings]) for name, of in columns.items()}
