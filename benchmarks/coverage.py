"""How often do our 95% intervals cover the truth? ``python -m benchmarks.coverage``

Prints, as a Markdown table, the share of simulated samples whose interval covers the truth, for
every type of interval at the numbers of values, cases and positives in use. Two to three minutes.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from dae_theory.commands import option, run_main
from dae_theory.statistics import (
    Interval,
    area_under_roc_interval,
    grouped_area_interval,
    grouped_share_interval,
    mean_interval,
    ratio_interval,
    share_interval,
)

COUNTS = (2, 3, 4, 5, 6, 8, 16, 30)  # seeds, nets, data sets and models in use
AREAS = (0.5, 0.7, 0.85, 0.95)
GROUPS = ((5, 5), (5, 20), (5, 100), (20, 100), (200, 200), (1000, 1000))  # positives, negatives
SHARES = (0.02, 0.1, 0.3, 0.5)
IMAGES = (8, 24)  # memorized and other images of each model
SPREAD = 0.5  # of models
CASES = 250  # samples of each net whose share of copies is counted


@dataclass(frozen=True)
class Options:
    """How long to simulate."""

    repeats: int = option(10_000, "Simulated samples for each number.")


Draw = Callable[[np.random.Generator, tuple[int, int]], Float[np.ndarray, "R N"]]

# Distributions that errors over seeds may have, and their means.
VALUES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.standard_normal(shape), 0.0),
    "size of a normal": (lambda rng, shape: abs(rng.standard_normal(shape)), (2 / np.pi) ** 0.5),
    "uniform": (lambda rng, shape: rng.random(shape), 0.5),
    "gamma(4)": (lambda rng, shape: rng.gamma(4.0, size=shape), 4.0),
    "exponential": (lambda rng, shape: rng.exponential(size=shape), 1.0),
}


def share_covered(intervals: list[Interval], truth: float) -> float:
    """Share of the intervals that hold the truth."""
    low, high = np.array([interval[1:] for interval in intervals]).T
    return float(np.mean((low <= truth) & (truth <= high)))


def of_means(distribution: str, count: int, repeats: int, symmetric: bool = False) -> float:
    """`mean_interval` of ``count`` values, ``symmetric`` where they are known to be."""
    draw, truth = VALUES[distribution]
    samples_RN = draw(np.random.default_rng(count), (repeats, count))
    return share_covered(
        [mean_interval(values_N, symmetric=symmetric) for values_N in samples_RN], truth
    )


def of_ratios(count: int, repeats: int) -> float:
    """`ratio_interval` of ``count`` pairs of normal values."""
    noise_2RN = np.random.default_rng(count).standard_normal((2, repeats, count))
    below_RN = 5 + noise_2RN[0]
    above_RN = 1.5 * below_RN + 0.3 * noise_2RN[1]
    pairs = zip(above_RN, below_RN, strict=True)
    return share_covered([ratio_interval(above_N, below_N) for above_N, below_N in pairs], 1.5)


def of_shares(share: float, count: int, repeats: int) -> float:
    """`share_interval` of ``count`` cases."""
    counted_R = np.random.default_rng(count).binomial(count, share, repeats)
    ends = [share_interval(k, count) for k in range(count + 1)]
    return share_covered([ends[k] for k in counted_R], share)


def of_grouped_shares(share: float, count: int, repeats: int) -> float:
    """`grouped_share_interval` of ``count`` groups whose shares differ: beta-binomial, the shares
    of groups with standard deviation share/4."""
    rng = np.random.default_rng(count)
    concentration = 16 * (1 - share) / share - 1
    of_groups = rng.beta(share * concentration, (1 - share) * concentration, (repeats, count))
    shares_RS = rng.binomial(CASES, of_groups) / CASES
    return share_covered([grouped_share_interval(shares_S, CASES) for shares_S in shares_RS], share)


def of_areas(area: float, groups: tuple[int, int], repeats: int, exponential: bool) -> float:
    """`area_under_roc_interval`, scores normal with equal variance, or exponential."""
    positives, negatives = groups
    rng = np.random.default_rng(positives)
    if exponential:
        positive_RP = area / (1 - area) * rng.exponential(size=(repeats, positives))
        negative_RN = rng.exponential(size=(repeats, negatives))
    else:
        distance = 2**0.5 * float(ndtri(area))
        positive_RP = distance + rng.standard_normal((repeats, positives))
        negative_RN = rng.standard_normal((repeats, negatives))
    pairs = zip(positive_RP, negative_RN, strict=True)
    return share_covered([area_under_roc_interval(*scores) for scores in pairs], area)


def of_grouped_areas(area: float, count: int, repeats: int) -> float:
    """`grouped_area_interval` of ``count`` models, of IMAGES[0] normal scores against IMAGES[1],
    whose distances differ: normally, by SPREAD."""
    rng = np.random.default_rng(count)
    distance = (2 + SPREAD**2) ** 0.5 * float(ndtri(area))
    of_models = distance + SPREAD * rng.standard_normal((repeats, count, 1))
    positive_RSP = of_models + rng.standard_normal((repeats, count, IMAGES[0]))
    negative_RSN = rng.standard_normal((repeats, count, IMAGES[1]))
    above = positive_RSP[..., :, None] > negative_RSN[..., None, :]
    totals = [count * images for images in IMAGES]
    intervals = [grouped_area_interval(areas_S, *totals) for areas_S in above.mean(axis=(2, 3))]
    return share_covered(intervals, area)


def table(repeats: int) -> list[tuple[str, list[float]]]:
    """Every type of interval: what of, and its coverage at COUNTS, or at GROUPS."""
    rows = [
        (f"`mean_interval`, {name} values", [of_means(name, n, repeats) for n in COUNTS])
        for name in VALUES
    ]
    symmetric = [of_means("normal", n, repeats, symmetric=True) for n in COUNTS]
    rows += [("`mean_interval`, symmetric", symmetric)]
    rows += [("`ratio_interval`", [of_ratios(n, repeats) for n in COUNTS])]
    rows += [
        (f"`share_interval`, {share:g}", [of_shares(share, n, repeats) for n in COUNTS])
        for share in SHARES
    ]
    rows += [
        (
            f"`grouped_share_interval`, {share:g} ± {share / 4:g}",
            [of_grouped_shares(share, n, repeats) for n in COUNTS],
        )
        for share in (0.1, 0.3)
    ]
    rows += [
        (f"`grouped_area_interval`, {area:g}", [of_grouped_areas(area, n, repeats) for n in COUNTS])
        for area in AREAS
    ]
    return rows


def area_table(repeats: int) -> list[tuple[str, list[float]]]:
    """The same for areas under the ROC curve."""
    return [
        (
            f"AUROC {area:g}, {'exponential' if exponential else 'normal'} scores",
            [of_areas(area, groups, repeats, exponential) for groups in GROUPS],
        )
        for exponential in (False, True)
        for area in AREAS
    ]


def print_tables(options: Options) -> int:
    """Print both tables; returns the exit status."""
    for columns, rows in (
        ([f"n = {n}" for n in COUNTS], table(options.repeats)),
        ([f"{p} against {n}" for p, n in GROUPS], area_table(options.repeats)),
    ):
        print("| interval of | " + " | ".join(columns) + " |")
        print("|---" * (len(columns) + 1) + "|")
        for name, values in rows:
            print(f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in values) + " |")
        print()
    return 0


if __name__ == "__main__":
    sys.exit(run_main(print_tables, Options, sys.argv, __doc__))
