"""Nearest training samples of generated samples, by distance and by direction.

Rows of any real arrays, generated (M, D) against training data (N, D); features of images are just
another array. No M×N array is ever held: products are made in tiles of ``block``².
"""

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Real

from dae_theory.checks import InputError, check_count, check_samples

BLOCK = 1024


class Nearest(NamedTuple):
    """Nearest and second-nearest training sample: ``indices`` and ``distances`` (M, 2)."""

    indices: Int[np.ndarray, "M 2"]
    distances: Float[np.ndarray, "M 2"]


class NearestCosine(NamedTuple):
    """Training sample in the most similar direction: ``indices`` and ``cosines`` (M,)."""

    indices: Int[np.ndarray, " M"]
    cosines: Float[np.ndarray, " M"]


def duplicate_groups(train_ND: Real[Array, "N D"]) -> Int[np.ndarray, " N"]:
    """Group of each training sample, 0, 1, ... by first appearance; equal samples share one.

    Equal means every feature is. Raises InputError for unusable samples.
    """
    train_ND = _checked(train_ND, "train")
    groups: dict[bytes, int] = {}
    # A digest of 16 bytes keeps no copy of the rows; adding 0 makes −0 and 0 the same bytes.
    keys = (blake2b((row_D + 0).tobytes(), digest_size=16).digest() for row_D in train_ND)
    return np.array([groups.setdefault(key, len(groups)) for key in keys])


def nearest_two(
    samples_MD: Real[Array, "M D"],
    train_ND: Real[Array, "N D"],
    groups_N: Int[Array, " N"] | None = None,
    *,
    block: int = BLOCK,
) -> Nearest:
    """Euclidean nearest and second-nearest training sample of each sample.

    Exact: products in float32 only discard what, by a bound on their rounding, cannot be among
    the two; distances to the rest are norms of differences in float64. So a copy has distance 0
    (when both arrays have the same precision), and ``block`` changes no result. Ties go to the
    lower index. Data whose distances float32 cannot tell apart, such as samples very far from all
    training data, are slow.

    With ``groups_N`` the second nearest is the nearest outside the group of the nearest. Where
    training data hold an image twice, both nearest samples of a copy are that image and the gap
    ratio is 1: the images most prone to be memorized would never count. `duplicate_groups` finds
    them; labels of near duplicates serve as well.

    Raises:
      InputError: for unusable samples, different numbers of features, or fewer than two training
        samples or groups.
    """
    check_count(block, "block")
    samples_MD, train_ND = checked_pair(samples_MD, train_ND, "samples")
    group_N = _checked_groups(groups_N, len(train_ND))
    # One translation and one scale for all: no distance changes but by the scale, float32 neither
    # overflows nor cancels more than it must.
    mean_D = _mean(train_ND)
    scale = max(abs(float(end(x))) for x in (samples_MD, train_ND) for end in (np.min, np.max))
    scale = scale if scale > 0 else 1.0
    x_MD = (samples_MD - mean_D) / scale
    index_M2 = np.full((len(x_MD), 2), -1)
    square_M2 = np.full((len(x_MD), 2), np.inf)
    for begin in range(0, len(train_ND), block):
        t_BD = (train_ND[begin : begin + block] - mean_D) / scale
        group_B = group_N[begin : begin + block]
        for part in _slices(len(x_MD), block):
            found = _candidates(x_MD[part], t_BD, group_B, square_M2[part, 1])
            square_C = _square_distances(x_MD[part], t_BD, *found)
            _merge(index_M2[part], square_M2[part], found[0], begin + found[1], square_C, group_N)
    return Nearest(index_M2, scale * np.sqrt(square_M2))


def nearest_cosine(
    samples_MD: Real[Array, "M D"], train_ND: Real[Array, "N D"], *, block: int = BLOCK
) -> NearestCosine:
    """Largest cosine of each sample to a training sample, both after subtracting the training mean.

    The mean has no direction: whatever equals it has cosine 0. Unlike the gap ratio, the cosine
    ignores contrast, and duplicates do not hide copies.

    Raises:
      InputError: for unusable samples, different numbers of features, or one training sample.
    """
    check_count(block, "block")
    samples_MD, train_ND = checked_pair(samples_MD, train_ND, "samples")
    mean_D = _mean(train_ND)
    u_MD = directions(samples_MD, mean_D)
    index_M, cosine_M = np.zeros(len(u_MD), int), np.full(len(u_MD), -np.inf)
    for begin in range(0, len(train_ND), block):
        v_BD = directions(train_ND[begin : begin + block], mean_D)
        for part in _slices(len(u_MD), block):
            cosine_CB = u_MD[part] @ v_BD.T
            best_C = np.argmax(cosine_CB, axis=1)
            value_C = cosine_CB[np.arange(len(best_C)), best_C]
            better_C = value_C > cosine_M[part]
            index_M[part] = np.where(better_C, begin + best_C, index_M[part])
            cosine_M[part] = np.maximum(value_C, cosine_M[part])
    return NearestCosine(index_M, np.clip(cosine_M, -1.0, 1.0))


def directions(
    x_ND: Real[np.ndarray, "N D"], mean_D: Float[np.ndarray, " D"]
) -> Float[np.ndarray, "N D"]:
    """Unit vectors along x − mean in float64; 0 where that is nothing but rounding."""
    centred_ND = x_ND - mean_D
    norm_N = np.linalg.norm(centred_ND, axis=1, keepdims=True)
    rounding = 8 * np.finfo(np.float64).eps * np.linalg.norm(mean_D)
    return np.where(norm_N > rounding, centred_ND, 0.0) / np.where(norm_N > rounding, norm_N, 1.0)


def checked_pair(samples_MD, train_ND, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of their own dtype, or InputError; ``name`` is that of the first."""
    samples_MD, train_ND = _checked(samples_MD, name), _checked(train_ND, "train")
    if samples_MD.shape[1] != train_ND.shape[1]:
        raise InputError(
            f"{name} and train differ in features: {samples_MD.shape[1]} and {train_ND.shape[1]}"
        )
    check_count(len(train_ND), "number of training samples", 2)
    return samples_MD, train_ND


def _candidates(x_MD, t_BD, group_B, known_M):
    """Pairs (row, column) that can be among the two nearest, given the squared distance ``known_M``
    of a second nearest: no pair is missed, whatever float32 rounds."""
    # |error of ‖x‖² + ‖t‖² − 2x·t| ≤ slack (‖x‖² + ‖t‖²): D terms, each rounded by eps/2, and a
    # handful of roundings outside the product.
    slack = (x_MD.shape[1] + 16) * np.finfo(np.float32).eps / 2
    x2_M, t2_B = (np.sum(x**2, axis=1).astype(np.float32) for x in (x_MD, t_BD))
    lower_MB = (-2 * x_MD).astype(np.float32) @ t_BD.astype(np.float32).T
    lower_MB += np.float32(1 - slack) * x2_M[:, None]
    lower_MB += np.float32(1 - slack) * t2_B
    upper_MB = lower_MB + np.float32(2 * slack) * t2_B
    nearest_M = np.argmin(upper_MB, axis=1)
    upper_MB[group_B == group_B[nearest_M][:, None]] = np.inf
    second_M = np.min(upper_MB, axis=1) + np.float32(2 * slack) * x2_M
    limit_M = np.minimum(second_M, known_M).astype(np.float32)
    return np.nonzero(lower_MB <= limit_M[:, None])


def _square_distances(x_MD, t_BD, row_C, column_C):
    """‖x − t‖² of the pairs, from differences."""
    square_C = np.empty(len(row_C))
    for part in _slices(len(row_C), BLOCK):
        difference_CD = x_MD[row_C[part]] - t_BD[column_C[part]]
        square_C[part] = np.einsum("cd,cd->c", difference_CD, difference_CD)
    return square_C


def _merge(index_M2, square_M2, row_C, index_C, square_C, group_N) -> None:
    """Update, in place, the two nearest of different groups by candidates of some rows."""
    row = np.concatenate([np.repeat(np.arange(len(index_M2)), 2), row_C])
    index = np.concatenate([index_M2.ravel(), index_C])
    square = np.concatenate([square_M2.ravel(), square_C])
    order = np.lexsort((index, square, row))
    order = order[index[order] >= 0]
    row, index, square = row[order], index[order], square[order]
    _, first = np.unique(row, return_index=True)
    index_M2[:, 0], square_M2[:, 0] = index[first], square[first]
    other = np.flatnonzero(group_N[index] != group_N[index_M2[row, 0]])
    rows, first = np.unique(row[other], return_index=True)
    index_M2[rows, 1], square_M2[rows, 1] = index[other[first]], square[other[first]]


def _mean(x_ND) -> np.ndarray:
    return np.mean(x_ND, axis=0, dtype=np.float64)


def _slices(n: int, block: int) -> list[slice]:
    return [slice(begin, begin + block) for begin in range(0, n, block)]


def _checked(x_ND, name: str) -> np.ndarray:
    """As `check_samples`, but without a float64 copy of the whole array."""
    x_ND = np.asarray(x_ND)
    if x_ND.ndim != 2 or len(x_ND) == 0:
        check_samples(x_ND, name)
    for part in _slices(len(x_ND), BLOCK):
        check_samples(x_ND[part], name)
    return x_ND


def _checked_groups(groups_N, n: int) -> np.ndarray:
    """Groups numbered from 0; each sample its own where None."""
    if groups_N is None:
        return np.arange(n)
    groups_N = np.asarray(groups_N)
    if groups_N.shape != (n,) or not np.issubdtype(groups_N.dtype, np.integer):
        raise InputError(
            f"groups: expected {n} integers, one per training sample, got shape "
            f"{groups_N.shape} of {groups_N.dtype}"
        )
    names, groups_N = np.unique(groups_N, return_inverse=True)
    check_count(len(names), "number of groups of training samples", 2)
    return groups_N
