"""Is the minimizer (5) typical? A census of local minima from random starts
(docs/THEORY.md#census): how many of them reach it."""

from collections.abc import Callable
from itertools import combinations

import numpy as np

from proofs_checks.certify import census_losses
from proofs_checks.certify.census_starts import COSINES, OPTIMIZERS, SCALES
from proofs_checks.certify.census_study import (
    ENTANGLED,
    CensusStudy,
    Has,
    Which,
    exchanged,
    in_one_only,
    in_output,
    in_weights,
    is_boundary,
    is_exact,
    is_forgetful,
    is_negative,
    is_positive,
    is_separable_or_boundary,
    is_unshared,
    of_ratio,
    settled,
    words,
)
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Verdict

NEARLY_ALL, A_QUARTER, A_THIRD, MOST = 0.05, 1 / 4, 1 / 3, 0.5  # tolerances of shares


def share_of(which: Which, has: Has, target: float) -> Callable[[CensusStudy], Measured]:
    """Share of the starts that end in a minimum of some kind; error: of the others, where the
    target is all of them or none."""

    def share(study: CensusStudy) -> Measured:
        share_S = study.by_seed(which, lambda end: has(end.minimum))
        parts = []
        for cosine in sorted({end.start.cosine for end in study.chosen(which)}):
            here = study.flags(lambda s, c=cosine: which(s) and s.cosine == c, has)
            parts.append(f"{cosine:.2g}: {np.mean(here):.2f}")
        return Measured(
            measured=float(np.mean(share_S)),
            predicted=target,
            errors=np.abs(share_S - target),
            seeds=study.seeds,
            note=f"{words(study.flags(which, has))}; by cosine {', '.join(parts)}",
            cases=len(study.chosen(which)) // len(study.seeds),
        )

    return share


def scale(study: CensusStudy) -> Measured:
    """½(1 + share from small scale − share from large scale), of those that reach (5)."""
    small_S, large_S = (
        study.by_seed(
            of_ratio(1, lambda s, scale=scale: is_negative(s) and s.scale == scale),
            lambda end: in_weights(end.minimum),
        )
        for scale in SCALES
    )
    errors_S = (1 + small_S - large_S) / 2
    return Measured(
        measured=float(np.mean(errors_S)),
        predicted=0.0,
        errors=errors_S,
        seeds=study.seeds,
        note=f"½ + half the difference; scale {SCALES[0]:g}: {np.mean(small_S):.2f}, "
        f"{SCALES[1]:g}: {np.mean(large_S):.2f}",
    )


def optimizers(study: CensusStudy) -> Measured:
    """Difference between two optimizers' shares of starts that reach (5), at p = n and β < 0: of
    the two that differ most."""

    def of(name: str) -> Which:
        return of_ratio(1, lambda s: is_negative(s) and s.optimizer == name)

    share = {
        name: study.by_seed(of(name), lambda end: in_weights(end.minimum)) for name in OPTIMIZERS
    }
    differences = [share[a] - share[b] for a, b in combinations(OPTIMIZERS, 2)]
    largest_S = max(differences, key=lambda difference_S: abs(np.mean(difference_S)))
    counts = {name: words(study.flags(of(name), in_weights)) for name in OPTIMIZERS}
    return Measured(
        measured=float(np.mean(largest_S)),
        predicted=0.0,
        errors=largest_S,
        seeds=study.seeds,
        note=", ".join(f"{name} {count}" for name, count in counts.items()),
        signed=True,
    )


SEPARABLE = exchanged("minima of β = −1/3", cosine=COSINES[0])
NARROW = exchanged("minima of p = n", ratio=1)
WIDE = exchanged("minima of p = 4n", ratio=4, draw=0)
SMALL_ARE_WIDE = exchanged(
    "small starts with p = 4n", lambda start: start.scale < 1, ratio=4, draw=0
)
SGD_IS_WIDE = exchanged("SGD with p = 4n", lambda s: s.optimizer == "sgd", ratio=4, draw=0)


def claim(
    name: str,
    statement: str,
    which: Which,
    measure: Callable[[CensusStudy], Measured],
    tolerance: float,
    *mutants: Mutant,
    expected: Verdict = Verdict.HOLDS,
) -> Claim:
    """A claim about some of the starts. What counts as most was chosen after looking."""
    return Claim(
        id=f"certify/census-{name}",
        statement=statement,
        source="docs/THEORY.md#census",
        requires=settled(which),
        measure=measure,
        tolerance=tolerance,
        mutants=mutants,
        kind=Kind.EXPLORATORY,
        expected=expected,
        part="census",
    )


def share_claim(
    name: str,
    statement: str,
    which: Which,
    has: Has,
    target: float,
    tolerance: float,
    *mutants: Mutant,
) -> Claim:
    """A claim about the share of these starts that end in a minimum of some kind."""
    return claim(name, statement, which, share_of(which, has, target), tolerance, *mutants)


CLAIMS = (
    *census_losses.CLAIMS,
    share_claim(
        "subsets-mostly",
        "β < 0, z ≥ 6: over 95% of random starts end in (5) on some of the samples: none of their "
        "units is shared by samples.",
        is_exact,
        is_unshared,
        1.0,
        NEARLY_ALL,
        ENTANGLED,
    ),
    share_claim(
        "typical-4n",
        "β < 0, p = 4n: (5) is typical, over 95% of random starts reach it, up to splitting.",
        of_ratio(4, is_negative),
        in_weights,
        1.0,
        NEARLY_ALL,
        NARROW,
        ENTANGLED,
    ),
    share_claim(
        "typical-2n",
        "β < 0, p = 2n: most random starts reach (5), up to splitting.",
        of_ratio(2, is_negative),
        in_weights,
        1.0,
        MOST,
        ENTANGLED,
    ),
    share_claim(
        "untypical-n",
        "β < 0, p = n: (5) is not typical, over a third of random starts forget a sample.",
        of_ratio(1, is_negative),
        is_forgetful,
        1.0,
        1 - A_THIRD,
        WIDE,
        ENTANGLED,
    ),
    claim(
        "scale",
        "β < 0, p = n: starts of small scale reach (5) less often than those of large scale.",
        of_ratio(1, is_negative),
        scale,
        MOST,
        SMALL_ARE_WIDE,
    ),
    claim(
        "optimizer",
        "β < 0, p = n: which of Adam, SGD, L-BFGS descends makes a difference of less than "
        "a quarter.",
        of_ratio(1, is_negative),
        optimizers,
        A_QUARTER,
        SGD_IS_WIDE,
        expected=Verdict.INCONCLUSIVE,  # it is 11%, and may be 26%
    ),
    share_claim(
        "boundary",
        "β = 0, the boundary: even at p = n over three in four random starts store all samples.",
        of_ratio(1, is_boundary),
        in_weights,
        1.0,
        A_QUARTER,
        ENTANGLED,
    ),
    share_claim(
        "same",
        "β ≤ 0: a minimum memorizes in its output exactly when it does in its weights.",
        is_separable_or_boundary,
        in_one_only,
        0.0,
        NEARLY_ALL,
        ENTANGLED,
    ),
    share_claim(
        "positive",
        "β > 0: no random start ends with the samples stored in the weights.",
        is_positive,
        in_weights,
        0.0,
        NEARLY_ALL,
        SEPARABLE,
    ),
    share_claim(
        "other-minima",
        "β > 0, p = 4n: over 95% of the minima, which are entangled, memorize in their output.",
        of_ratio(4, is_positive),
        in_output,
        1.0,
        NEARLY_ALL,
        NARROW,
    ),
)
