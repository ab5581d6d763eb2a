"""What leaves the loss unchanged at a minimizer: flat directions, and distances modulo them.

While gates hold, the units that are active on the same samples act as one linear map W2 W1ᵀ, which
rotations W1 → W1 Q, W2 → W2 Q among them do not change (docs/THEORY.md#symmetry). Permutations
of units and splitting of a unit into collinear ones are among these rotations.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float, Int

from dae_theory.checks import InputError, check_samples, check_weights
from dae_theory.theory.separability import gate_pattern

RANK_TOLERANCE = 1e-8  # a combination of rotations this small, relative to the weights, moves none


def gate_groups(w1_DP: Float[Array, "D P"], x_ND: Float[Array, "N D"]) -> Int[np.ndarray, " P"]:
    """(P,) group of each unit: units active on the same clean samples share one; −1 for zero
    columns. Groups are numbered in the order of their first units."""
    w1_DP = np.asarray(w1_DP)
    patterns = [tuple(pattern) for pattern in gate_pattern(w1_DP, x_ND).T]
    live_P = np.any(w1_DP != 0, axis=0)
    numbers: dict[tuple, int] = {}
    return np.array(
        [
            numbers.setdefault(pattern, len(numbers)) if live else -1
            for pattern, live in zip(patterns, live_P, strict=True)
        ]
    )


def rotation_directions(
    w1_DP: Float[Array, "D P"], w2_DP: Float[Array, "D P"], groups_P: Int[Array, " P"]
) -> Float[np.ndarray, "M 2 D P"]:
    """Orthonormal basis of the directions (W1 A, W2 A), A antisymmetric within each group.

    For a group of p_k units whose columns (w1; w2) have rank r there are
    p_k(p_k−1)/2 − (p_k−r)(p_k−r−1)/2 of them (`flat_directions`). Units of negative group are in
    none.

    Raises:
      InputError: for weights of different shapes or groups that do not match them.
    """
    stacked, groups_P = _stacked((w1_DP, w2_DP), groups_P, "weights")
    scale = np.linalg.norm(stacked)
    directions = []
    for k in _group_numbers(groups_P):
        units = np.flatnonzero(groups_P == k)
        block = stacked[:, units]
        # In its right singular vectors v_i the rotations v_i v_jᵀ − v_j v_iᵀ move the block
        # orthogonally to each other.
        axes = np.linalg.svd(np.linalg.qr(block, mode="r"))[2].T
        images = block @ axes
        for i, j in zip(*np.triu_indices(len(units), 1), strict=True):
            size = np.hypot(np.linalg.norm(images[:, i]), np.linalg.norm(images[:, j]))
            if size > RANK_TOLERANCE * scale:
                direction = np.zeros_like(stacked)
                move = np.outer(images[:, i], axes[:, j]) - np.outer(images[:, j], axes[:, i])
                direction[:, units] = move / size
                directions.append(direction)
    shape = (len(directions), 2, len(w1_DP), stacked.shape[1])
    return np.array(directions).reshape(shape)


def flat_directions(widths: Sequence[int], ranks: Sequence[int]) -> int:
    """Σ_k [p_k(p_k−1)/2 − (p_k−r_k)(p_k−r_k−1)/2]: rotations of p_k units of rank r_k.

    p_k(p_k−1)/2 at full rank; p_k − 1 splittings of a single stored sample
    (docs/THEORY.md#symmetry).
    """
    return sum(
        p * (p - 1) // 2 - max(p - r, 0) * (p - r - 1) // 2
        for p, r in zip(widths, ranks, strict=True)
    )


def distance_modulo_symmetry(
    weights: tuple[Float[Array, "D P"], Float[Array, "D P"]],
    groups_P: Int[Array, " P"],
    reference: tuple[Float[Array, "D Q"], Float[Array, "D Q"]],
    reference_groups_Q: Int[Array, " Q"],
) -> float:
    """min over rotations within groups of ‖(W1; W2) Q − (V1; V2)‖_F.

    Group k of the weights is held against group k of the reference; the narrower one is filled up
    with zero columns. Units of negative group are held against zero.

    Raises:
      InputError: for weights of different shapes or groups that do not match them.
    """
    square = 0.0
    w, w_groups = _stacked(weights, groups_P, "weights")
    v, v_groups = _stacked(reference, reference_groups_Q, "reference")
    if len(w) != len(v):
        raise InputError(f"reference: {len(v) // 2} features, but the weights have {len(w) // 2}")
    for k in np.union1d(_group_numbers(w_groups), _group_numbers(v_groups)):
        block, target = w[:, w_groups == k], v[:, v_groups == k]
        # min ‖WQ − V‖² = ‖W‖² + ‖V‖² − 2‖WᵀV‖_*, but that difference would lose half the digits.
        width = max(block.shape[1], target.shape[1])
        block, target = (np.pad(m, ((0, 0), (0, width - m.shape[1]))) for m in (block, target))
        left, _, right = np.linalg.svd(block.T @ target)
        square += np.sum((block @ left @ right - target) ** 2)
    square += np.sum(w[:, w_groups < 0] ** 2) + np.sum(v[:, v_groups < 0] ** 2)
    return float(np.sqrt(square))


def _group_numbers(groups_P: Int[Array, " P"]) -> np.ndarray:
    numbers = np.unique(groups_P)
    return numbers[numbers >= 0]


def _stacked(weights, groups_P, name: str) -> tuple[np.ndarray, np.ndarray]:
    w1_DP, w2_DP = (check_samples(w, name) for w in weights)
    check_weights(w1_DP, w2_DP, len(w1_DP))
    groups_P = np.asarray(groups_P)
    if groups_P.shape != (w1_DP.shape[1],):
        raise InputError(
            f"{name}: expected one group for each of {w1_DP.shape[1]} units, got {groups_P.shape}"
        )
    return np.concatenate([w1_DP, w2_DP]), groups_P
