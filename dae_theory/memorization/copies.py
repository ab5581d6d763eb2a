"""Memorization seen in the outputs: which samples of a model are copies of its training data?

Samples are rows of any real arrays, generated (M, D) against training data (N, D). Features of an
image encoder are just another such array: pass the features of both instead of the pixels.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Real

from dae_theory.checks import InputError, check_count, check_samples
from dae_theory.memorization.nearest import (
    BLOCK,
    checked_pair,
    directions,
    nearest_cosine,
    nearest_two,
)
from dae_theory.statistics import Interval, mean_interval, share_interval

# A sample is a copy when its nearest training sample is nearer than this share of the distance to
# the second nearest: Yoon, Choi, Kwon, Ryu, "Diffusion probabilistic models generalize when they
# fail to memorize" (2023).
COPY_RATIO = 1 / 3
PERMUTATIONS = 999


class CopyThreshold(NamedTuple):
    """A copy has a gap ratio below ``gap_ratio``, or a cosine above ``cosine``."""

    gap_ratio: float
    cosine: float


class Reproducibility(NamedTuple):
    """How alike two models answer to the same noise (`reproducibility`)."""

    cosines: Float[np.ndarray, " M"]
    mean: float
    low: float
    high: float
    null_mean: float
    null_low: float
    null_high: float
    p_value: float


def gap_ratio(distances_M2: Float[Array, "M 2"]) -> Float[np.ndarray, " M"]:
    """Distance to the nearest over distance to the second nearest, 0 (a copy) to 1.

    A copy is a ratio below COPY_RATIO. By chance a ratio is below r with probability r^D where
    D-dimensional data have a smooth density: in few dimensions calibrate (`copy_threshold`). Two
    distances of 0 are duplicates that were not grouped: ratio 1.
    Raises InputError unless ``distances_M2`` is (M, 2), finite, and 0 ≤ nearest ≤ second.
    """
    distances_M2 = check_samples(distances_M2, "distances")
    if distances_M2.shape[1] != 2:
        raise InputError(f"distances: expected (M, 2), got {distances_M2.shape}")
    near_M, second_M = distances_M2.T
    if np.any(near_M < 0) or np.any(near_M > second_M):
        raise InputError("distances: need 0 <= nearest <= second nearest in every row")
    return np.where(second_M > 0, near_M / np.where(second_M > 0, second_M, 1.0), 1.0)


def copy_threshold(
    held_out_TD: Real[Array, "T D"],
    train_ND: Real[Array, "N D"],
    false_alarm: float = 0.01,
    groups_N: Int[Array, " N"] | None = None,
    *,
    block: int = BLOCK,
) -> CopyThreshold:
    """Thresholds that call at most a share ``false_alarm`` of never-trained-on samples copies.

    The k-th smallest gap ratio (k-th largest cosine) of T held-out samples, k = ⌊false_alarm
    (T + 1)⌋: a further sample of the same distribution lies beyond it with probability k/(T + 1),
    whatever the distribution is (split conformal prediction; Vovk, Gammerman, Shafer 2005), on
    average over held-out sets. A generator that smooths is not of that distribution, so also look
    at its own images.

    Raises:
      InputError: as `nearest_two`; false_alarm outside (0, 1); T too small to calibrate it, k = 0;
        or held-out samples that are training samples.
    """
    if not 0 < false_alarm < 1:
        raise InputError(f"false_alarm: must be between 0 and 1, got {false_alarm}")
    held_out_TD, train_ND = checked_pair(held_out_TD, train_ND, "held_out")
    k = int(false_alarm * (len(held_out_TD) + 1) + 1e-9)  # 0.29·100 is 28.999... in float64
    if k == 0:
        raise InputError(
            f"held_out: false_alarm={false_alarm:g} needs at least "
            f"{int(np.ceil(1 / false_alarm - 1e-9)) - 1} samples, got {len(held_out_TD)}"
        )
    distance_T2 = nearest_two(held_out_TD, train_ND, groups_N, block=block).distances
    equal = int(np.sum(distance_T2[:, 0] == 0))
    if equal:
        raise InputError(
            f"held_out: {equal} of {len(held_out_TD)} samples equal a training sample, so that no "
            "sample would ever be a copy; leave them out"
        )
    ratio_T = gap_ratio(distance_T2)
    cosine_T = nearest_cosine(held_out_TD, train_ND, block=block).cosines
    return CopyThreshold(float(np.sort(ratio_T)[k - 1]), float(np.sort(cosine_T)[-k]))


def fraction_memorized(
    ratios_M: Float[Array, " M"],
    threshold: float = COPY_RATIO,
    confidence: float = 0.95,
) -> Interval:
    """Share of samples with a ratio below ``threshold``, with the exact interval of Clopper and
    Pearson (`statistics.share_interval`).

    For cosines pass both with a minus sign.

    Raises:
      InputError: unless ``ratios_M`` is a finite, non-empty vector and 0 < confidence < 1.
    """
    ratios_M = _checked_vector(ratios_M, "ratios")
    _check_confidence(confidence)
    if not np.isfinite(threshold):
        raise InputError(f"threshold: must be finite, got {threshold}")
    return share_interval(int(np.sum(ratios_M < threshold)), len(ratios_M), confidence)


def reproducibility(
    samples_a_MD: Real[Array, "M D"],
    samples_b_MD: Real[Array, "M D"],
    confidence: float = 0.95,
    seed: int = 0,
) -> Reproducibility:
    """Do two models, trained on disjoint halves, make the same sample of the same noise?

    Row i of both is sampled from the same noise. Cosines are taken after subtracting the mean of
    both sets together (Kadkhodaie, Guth, Simoncelli, Mallat, "Generalization in diffusion models
    arises from geometry-adaptive harmonic representations", 2024). Models that generalize agree;
    models that memorize know different images and do not.

    Returns:
      ``cosines`` (M,) of equal noise; their ``mean``, with its interval ``low`` to ``high``
      over samples; ``null_mean``, the mean cosine of all mismatched pairs, and
      ``null_low`` to ``null_high``, the same interval of the mean cosine when rows of b are
      permuted; ``p_value`` that equal noise matters no more than a permutation. An output equal to
      the mean has cosine 0. Needs 8 M² bytes.

    Raises:
      InputError: for unusable arrays, different shapes, M < 2, or confidence outside (0, 1).
    """
    a_MD = check_samples(samples_a_MD, "samples_a")
    b_MD = check_samples(samples_b_MD, "samples_b")
    _check_confidence(confidence)
    if a_MD.shape != b_MD.shape:
        raise InputError(f"samples_a and samples_b differ in shape: {a_MD.shape} and {b_MD.shape}")
    n = len(a_MD)
    check_count(n, "number of samples", 2)
    mean_D = (a_MD.mean(axis=0) + b_MD.mean(axis=0)) / 2
    cosine_MM = directions(a_MD, mean_D) @ directions(b_MD, mean_D).T
    cosines_M = np.clip(np.diagonal(cosine_MM), -1.0, 1.0)
    random, rows_M = np.random.default_rng(seed), np.arange(n)
    ends = ((1 - confidence) / 2, (1 + confidence) / 2)
    mean = mean_interval(cosines_M, confidence)
    null_R = [cosine_MM[rows_M, random.permutation(n)].mean() for _ in range(PERMUTATIONS)]
    beaten = np.sum(np.array(null_R) >= mean.value - 1e-12)
    return Reproducibility(
        cosines_M,
        *mean,
        float((cosine_MM.sum() - np.trace(cosine_MM)) / (n * (n - 1))),
        *map(float, np.quantile(null_R, ends)),
        float((1 + beaten) / (1 + PERMUTATIONS)),
    )


def _checked_vector(values_M, name: str) -> np.ndarray:
    values_M = np.asarray(values_M)
    if values_M.ndim != 1:
        raise InputError(f"{name}: expected a vector, got shape {values_M.shape}")
    return check_samples(values_M[:, None], name)[:, 0]


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence: must be between 0 and 1, got {confidence}")
