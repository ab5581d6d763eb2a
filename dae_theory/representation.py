"""Spiky or balanced? Statistics of representations h = [W1ᵀx]_+ (THEORY.md §10)."""

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.stats import mannwhitneyu

from dae_theory.errors import InputError, check_count
from dae_theory.intervals import Interval

RESAMPLES = 2000


def spikiness(h: Float[Array, "*B P"]) -> dict[str, Float[np.ndarray, "*B"]]:
    """How concentrated each representation is, over its last axis.

    Returns:
      ``std``: standard deviation over units, the paper's score; depends on scale and on P.
      ``l4_l2``: ‖h‖₄/‖h‖₂, from P^(−1/4) (flat) to 1 (one unit).
      ``participation_ratio``: (Σh²)²/Σh⁴, the effective number of units, 1 to P.
      ``hoyer``: (√P − ‖h‖₁/‖h‖₂)/(√P − 1), from 0 (flat) to 1 (one unit).
      ``top1_share``: share of the energy Σh² in the largest unit.
      ``n_active``: number of units with h ≠ 0.
      A zero representation has NaN for the scale-free ones. With P = 1, hoyer is NaN.

    Raises:
      InputError: for a scalar or an empty last axis.
    """
    h = np.asarray(h, dtype=np.float64)
    if h.ndim == 0 or h.shape[-1] == 0:
        raise InputError(f"h: expected at least one unit on the last axis, got shape {h.shape}")
    width = h.shape[-1]
    square, fourth = np.sum(h**2, axis=-1), np.sum(h**4, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        flatness = np.sum(np.abs(h), axis=-1) / np.sqrt(square)
        return {
            "std": np.std(h, axis=-1),
            "l4_l2": fourth**0.25 / np.sqrt(square),
            "participation_ratio": square**2 / fourth,
            "hoyer": (np.sqrt(width) - flatness) / (np.sqrt(width) - 1),
            "top1_share": np.max(h**2, axis=-1) / square,
            "n_active": np.sum(h != 0, axis=-1),
        }


def merge_groups(
    h_NP: Float[Array, "*B P"], groups_P: Int[Array, " P"]
) -> Float[np.ndarray, "*B G"]:
    """Representation with each group of collinear units merged into one unit.

    Splitting a unit (w → cw, √(1−c²)w) changes no loss but every statistic of h; its inverse
    is the root of the summed squares. Units with a negative group are left out.
    """
    h_NP, groups_P = np.asarray(h_NP, float), np.asarray(groups_P)
    n_groups = int(groups_P.max(initial=-1)) + 1
    member_PG = groups_P[:, None] == np.arange(n_groups)[None, :]
    return np.sqrt(h_NP**2 @ member_PG)


def area_under_roc(positive: Float[Array, " P"], negative: Float[Array, " N"]) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    statistic = mannwhitneyu(positive, negative).statistic
    return float(statistic / (len(positive) * len(negative)))


def area_under_roc_interval(
    positive: Float[Array, " P"],
    negative: Float[Array, " N"],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`area_under_roc` with a percentile bootstrap interval, each group resampled by itself.

    Where the groups do not overlap all resamples agree and the interval has no width: a few
    positives then prove less than it seems.

    Raises:
      InputError: for an empty group, scores that are not finite, or no resamples.
    """
    positive, negative = np.asarray(positive, float), np.asarray(negative, float)
    check_count(resamples, "resamples")
    for name, scores in (("positive", positive), ("negative", negative)):
        if scores.ndim != 1 or len(scores) == 0 or not np.all(np.isfinite(scores)):
            raise InputError(f"{name}: expected one finite score or more, got {scores.shape}")
    rng = np.random.default_rng(seed)
    counts_BP, counts_BN = (
        rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), resamples)
        for scores in (positive, negative)
    )
    above_PN = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    areas_B = np.sum((counts_BP @ above_PN) * counts_BN, axis=1) / above_PN.size
    low, high = np.quantile(areas_B, [0.025, 0.975])
    return Interval(area_under_roc(positive, negative), float(low), float(high))
