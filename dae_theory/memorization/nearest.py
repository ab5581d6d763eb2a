"""Nearest training samples of generated samples, by distance and by direction.

Rows of any real arrays, generated (M, D) against training data (N, D); features of images are just
another array. No M×N array is ever held: products are made in tiles of ``block``².
"""

import warnings
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Real

from dae_theory.checks import InputError, check_count, check_samples

BLOCK = 1024
FAR_BELOW = 0.5  # zero, in units of the other's highest values, which are not negative
OTHER_UNITS = 10  # times the range of the training data: no longer the same units
FEWEST_ROWS, MOST_ROWS = 10, 1000  # from which a range is taken
COLLAPSED = 0.1  # share of distinct samples below which a model has collapsed


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


def near_duplicate_groups(
    train_ND: Real[Array, "N D"], radius: float, *, block: int = BLOCK
) -> Int[np.ndarray, " N"]:
    """Group of each training sample, 0, 1, ... by first appearance; samples at most ``radius``
    apart share one, and so do those of a chain of such steps.

    Finds images that were saved twice, in another quality. A radius is too large when groups hold
    different images: look at the largest.

    Raises:
      InputError: for unusable samples, or a radius that is negative or not finite.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    check_count(block, "block")
    if not (np.isfinite(radius) and radius >= 0):
        raise InputError(f"radius: must be finite and >= 0, got {radius}")
    train_ND = _checked(train_ND, "train")
    mean_D = _mean(train_ND)
    pairs: list[np.ndarray] = []
    parts = _slices(len(train_ND), block)
    for first, part in enumerate(parts):
        x_BD = train_ND[part] - mean_D
        for other in parts[first:]:
            t_BD = train_ND[other] - mean_D
            square_BB = np.sum(x_BD**2, axis=1)[:, None] + np.sum(t_BD**2, axis=1)
            # What rounding of the products could hide is looked at as well.
            bound_BB = radius**2 + (x_BD.shape[1] + 16) * np.finfo(float).eps * square_BB
            row_C, column_C = np.nonzero(square_BB - 2 * x_BD @ t_BD.T <= bound_BB)
            close_C = _square_distances(x_BD, t_BD, row_C, column_C) <= radius**2
            pairs.append(np.stack([part.start + row_C, other.start + column_C])[:, close_C])
    row_C, column_C = np.concatenate(pairs, axis=1)
    n = len(train_ND)
    near_NN = coo_array((np.ones(len(row_C), bool), (row_C, column_C)), shape=(n, n))
    return _by_appearance(connected_components(near_NN, directed=False)[1])


def with_mirrored(
    train_ND: Real[Array, "N D"],
    image_shape: tuple[int, ...],
    groups_N: Int[Array, " N"] | None = None,
) -> tuple[Real[np.ndarray, "2N D"], Int[np.ndarray, " 2N"]]:
    """Training images followed by their mirror images, and the group of each, for a model that was
    trained on both: ``nearest_two(samples, *with_mirrored(train, (28, 28)))``.

    A mirror image is in the group of its image (``groups_N``, default `duplicate_groups`), so index
    i and N + i are of one image.

    Raises:
      InputError: for unusable samples or groups, or a shape (height, width[, channels]) that has
        not D entries.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    train_ND = _checked(train_ND, "train")
    n, d = train_ND.shape
    if len(image_shape) not in (2, 3) or np.prod(image_shape) != d:
        raise InputError(f"image_shape: {tuple(image_shape)} is none of images of {d} numbers")
    mirrored_ND = train_ND.reshape(n, *image_shape)[:, :, ::-1].reshape(n, d)
    both_MD = np.concatenate([train_ND, mirrored_ND])
    equal_M = duplicate_groups(both_MD)
    group_N = equal_M[:n] if groups_N is None else _checked_groups(groups_N, train_ND)
    # Nodes are images, then groups of equal ones, then given groups: what is linked is one group.
    image_N, shift = np.arange(n), 2 * n
    links = [(np.arange(2 * n), shift + equal_M), (image_N, n + image_N)]
    links.append((image_N, 2 * shift + group_N))
    row_E, column_E = (np.concatenate(ends) for ends in zip(*links, strict=True))
    link_MM = coo_array((np.ones(len(row_E), bool), (row_E, column_E)), shape=(6 * n, 6 * n))
    return both_MD, _by_appearance(connected_components(link_MM, directed=False)[1][: 2 * n])


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

    The second nearest is the nearest outside the group of the nearest. Where training data hold an
    image twice, both nearest samples of a copy are that image and the gap ratio would be 1: the
    images most prone to be memorized would never count. ``groups_N`` are by default those of
    `duplicate_groups`; `near_duplicate_groups` finds images that are nearly equal, and
    `with_mirrored` looks for mirror images, too.

    Warns when nearly all samples are equal: a model that has collapsed makes few copies.

    Raises:
      InputError: for unusable samples, different numbers of features, values in other units (one
        range is ten times the other), or fewer than two different training samples or groups.
    """
    check_count(block, "block")
    samples_MD, train_ND = checked_pair(samples_MD, train_ND, "samples")
    group_N = _checked_groups(groups_N, train_ND)
    _warn_if_collapsed(samples_MD)
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
    _check_units(samples_MD, train_ND, name)
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


def _checked_groups(groups_N, train_ND) -> np.ndarray:
    """Groups numbered from 0; those of `duplicate_groups` where None."""
    if groups_N is None:
        groups_N = duplicate_groups(train_ND)
    groups_N, n = np.asarray(groups_N), len(train_ND)
    if groups_N.shape != (n,) or not np.issubdtype(groups_N.dtype, np.integer):
        raise InputError(
            f"groups: expected {n} integers, one per training sample, got shape "
            f"{groups_N.shape} of {groups_N.dtype}"
        )
    names, groups_N = np.unique(groups_N, return_inverse=True)
    check_count(len(names), "number of different training samples or groups", 2)
    return groups_N


def _by_appearance(group_N) -> np.ndarray:
    """The same groups, numbered 0, 1, ... by first appearance."""
    _, first, group_N = np.unique(group_N, return_index=True, return_inverse=True)
    rank = np.empty(len(first), int)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[group_N]


def _check_units(samples_MD, train_ND, name: str) -> None:
    """Raise InputError when one of both has ten times the range of the other, or reaches far below
    zero where the other has no negative value, as images in [−1, 1] beside images in [0, 1].

    The range is from the 1st to the 99th percentile of all values: a few samples may be far off.
    Without one (collapsed samples), and of few samples, there is nothing to compare.
    """
    if min(len(samples_MD), len(train_ND)) < FEWEST_ROWS:
        return
    (low, high), (train_low, train_high) = (_percentiles(x) for x in (samples_MD, train_ND))
    ranges = sorted([high - low, train_high - train_low])
    is_larger = ranges[1] > OTHER_UNITS * ranges[0] > 0
    is_shifted = (train_low < -FAR_BELOW * high < 0 and np.min(samples_MD) >= 0) or (
        low < -FAR_BELOW * train_high < 0 and np.min(train_ND) >= 0
    )
    if is_larger or is_shifted:
        raise InputError(
            f"{name}: values are about {low:.3g} to {high:.3g}, those of train {train_low:.3g} to "
            f"{train_high:.3g}; bring both to the same units"
        )


def _percentiles(x_ND) -> tuple[float, float]:
    low, high = np.percentile(np.asarray(x_ND[:: -(-len(x_ND) // MOST_ROWS)], float), (1, 99))
    return float(low), float(high)


def _warn_if_collapsed(samples_MD) -> None:
    distinct, m = int(duplicate_groups(samples_MD).max()) + 1, len(samples_MD)
    if distinct < m and distinct <= max(1, COLLAPSED * m):
        warnings.warn(
            f"samples: only {distinct} of {m} are different; the model has collapsed, and a share "
            "of copies says little",
            stacklevel=3,
        )
