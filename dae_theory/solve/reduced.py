"""The objective in fewer coordinates: the span of samples and weights, over the live units, each
set of parallel units as one."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dae_theory.checks import InputError, check_noise_and_decay, check_samples, check_weights
from dae_theory.relu.units import parallel_groups
from dae_theory.theory.symmetry import gate_groups, rotation_directions

FEW_UNITS = 128  # all pairs of so many take little memory


def common_span(*matrices_DX: Float[np.ndarray, "D X"]) -> Float[np.ndarray, "D R"]:
    """Orthonormal basis of the span of all columns; the identity when they span everything."""
    stacked = np.concatenate(matrices_DX, axis=1)
    d = len(stacked)
    u_DR, singular, _ = np.linalg.svd(stacked, full_matrices=False)
    rank = int(np.sum(singular > singular[0] * d * np.finfo(float).eps)) if singular[0] > 0 else 1
    return np.eye(d) if rank == d else u_DR[:, :rank]


def span_and_outside(*matrices_DX: Float[np.ndarray, "D X"]) -> Float[np.ndarray, "D R"]:
    """`common_span`, and behind it one direction orthogonal to it if there is any.

    No column has a part along that direction, so it stands for all directions outside the span.
    """
    basis_DR = common_span(*matrices_DX)
    d, rank = basis_DR.shape
    if rank == d:
        return basis_DR
    outside_D = np.random.default_rng(0).standard_normal(d)
    for _ in range(2):  # rounding of the first projection is large where little is left
        outside_D -= basis_DR @ (basis_DR.T @ outside_D)
        outside_D /= np.linalg.norm(outside_D)
    return np.column_stack([basis_DR, outside_D])


def weight_frames(
    weights_2DP: Float[np.ndarray, "2 D P"], x_ND: Float[np.ndarray, "N D"]
) -> tuple[list[np.ndarray], Float[np.ndarray, "2 R P"], Float[np.ndarray, "N R"]]:
    """Frames (D, R1), (D, R2) of W1 and W2, and their coordinates and those of the samples, (R, ·).

    Each frame is the span of the data and, behind it, of the rest of the matrix. The loss does
    not see how the two rests are turned, so both may use the same rows. R is what P units can fill;
    zeros fill it up, so that nets of one size share compiled programs.
    """
    data_DR = common_span(x_ND.T)
    frames = []
    for w_DP in weights_2DP:
        rest_DP = w_DP
        for _ in range(2):  # once leaves rounding inside the span, which would count as a direction
            rest_DP = rest_DP - data_DR @ (data_DR.T @ rest_DP)
        rest_DR, singular, _ = np.linalg.svd(rest_DP, full_matrices=False)
        kept = singular > len(w_DP) * np.finfo(float).eps * np.max(np.abs(w_DP))
        frames.append(np.concatenate([data_DR, rest_DR[:, kept]], axis=1))
    units = weights_2DP.shape[2]
    rank = min(len(data_DR), data_DR.shape[1] + units)
    reduced_2RP = np.zeros((2, rank, units))
    for w_RP, frame_DR, w_DP in zip(reduced_2RP, frames, weights_2DP, strict=True):
        w_RP[: frame_DR.shape[1]] = frame_DR.T @ w_DP
    x_NR = np.zeros((len(x_ND), rank))
    x_NR[:, : data_DR.shape[1]] = x_ND @ data_DR
    return frames, reduced_2RP, x_NR


def distinct_samples(
    x_ND: Float[np.ndarray, "N D"], sample_weight_N: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "M D"], Float[np.ndarray, " M"]]:
    """Each sample once, with the weight of all its repeats; as given where there are none."""
    _, first_M, of_N = np.unique(x_ND, axis=0, return_index=True, return_inverse=True)
    if len(first_M) == len(x_ND):
        return x_ND, np.asarray(sample_weight_N, float)
    return x_ND[first_M], np.bincount(of_N.ravel(), sample_weight_N)


def frames_of_one_size(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    weight_N: Float[Array, " N"],
) -> tuple[Float[np.ndarray, "2 R Q"], Float[np.ndarray, "M R"], Float[np.ndarray, " M"]]:
    """Weights, samples and the weights of samples in the frames of `weight_frames`.

    Units of zeros, samples without weight and zeros along further directions, which add nothing to
    the loss, fill them up to a `program_size`.
    """
    weights_2RP, x_NR = np.stack([w1_DP, w2_DP]), np.asarray(x_ND, float)
    rank = len(x_ND) + weights_2RP.shape[2]
    if rank < len(w1_DP):
        _, weights_2RP, x_NR = weight_frames(weights_2RP, x_ND)
    n, directions, units = map(
        program_size, (len(x_ND), min(rank, len(w1_DP)), weights_2RP.shape[2])
    )
    return (
        padded(weights_2RP, (2, directions, units)),
        padded(x_NR, (n, directions)),
        padded(weight_N, (n,)),
    )


def program_size(count: int) -> int:
    """The next size that programs are compiled for: a multiple of 4, at most an eighth more from 32
    on. To compile another takes longer than to run it on a few zeros."""
    step = max(4, 2 ** (count.bit_length() - 4))
    return -(-count // step) * step


def padded(array: Float[Array, "..."], shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """The array with zeros behind it along each axis, up to ``shape``."""
    missing = [(0, size - has) for size, has in zip(shape, np.shape(array), strict=True)]
    return np.pad(np.asarray(array, float), missing)


def merge_parallel(
    w1_DP: Float[Array, "D P"], w2_DP: Float[Array, "D P"]
) -> tuple[Float[np.ndarray, "D Q"], Float[np.ndarray, "D Q"]]:
    """The net with each set of parallel units (w1; w2) as one, and without zero columns.

    Splitting (w1; w2) into c(w1; w2) and √(1−c²)(w1; w2) changes no loss; this undoes it, up to
    rounding (docs/THEORY.md#zero-columns).
    """
    stacked = np.concatenate([np.asarray(w1_DP, float), np.asarray(w2_DP, float)])
    norms_P = np.linalg.norm(stacked, axis=0)
    stacked, norms_P = stacked[:, norms_P > 0], norms_P[norms_P > 0]
    group_P = parallel_groups(stacked)
    _, leader_Q = np.unique(group_P, return_index=True)
    size_Q = np.sqrt(np.bincount(group_P, weights=norms_P**2))
    merged = stacked[:, leader_Q] / norms_P[leader_Q] * size_Q
    return merged[: len(w1_DP)], merged[len(w1_DP) :]


def few_units(
    w1_DP: Float[Array, "D P"], w2_DP: Float[Array, "D P"]
) -> tuple[Float[np.ndarray, "D Q"], Float[np.ndarray, "D Q"]]:
    """The net; where it has more than FEW_UNITS, with parallel units merged."""
    if w1_DP.shape[1] <= FEW_UNITS:
        return np.asarray(w1_DP, float), np.asarray(w2_DP, float)
    return merge_parallel(w1_DP, w2_DP)


class Reduced(NamedTuple):
    """The objective over the live units, in coordinates along ``basis``: the span of samples and
    weights and, last, one direction outside it if there is any."""

    weights: Float[np.ndarray, "2 R L"]
    arguments: tuple  # samples in coordinates, their weights, σ, λ
    basis: Float[np.ndarray, "D R"]
    live: Bool[np.ndarray, " P"]


def reduce_problem(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
) -> Reduced:
    """The objective at (W1, W2) without the units that are zero columns.

    The span is that of samples and weights: W1 need not lie in that of the samples alone
    (docs/THEORY.md#span).

    Raises:
      InputError: for bad input, or when no unit is left: the loss has a kink there.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    w1_DP, w2_DP = np.asarray(w1_DP, float), np.asarray(w2_DP, float)
    live_P = np.any(w1_DP != 0, axis=0) & np.any(w2_DP != 0, axis=0)
    if not live_P.any():
        raise InputError("W1 and W2: all units are zero columns, and the loss has a kink there")
    w1_DP, w2_DP = w1_DP[:, live_P], w2_DP[:, live_P]
    basis_DR = span_and_outside(x_ND.T, w1_DP, w2_DP)
    weights = np.stack([basis_DR.T @ w1_DP, basis_DR.T @ w2_DP])
    weight_N = np.full(len(x_ND), 1 / len(x_ND))
    arguments = (x_ND @ basis_DR, weight_N, float(sigma), float(lam))
    return Reduced(weights, arguments, basis_DR, live_P)


def rotations_of(problem: Reduced, groups_P: Int[Array, " P"] | None) -> Float[np.ndarray, "M 2RL"]:
    """Orthonormal symmetry directions; by default of units that are active on the same samples."""
    if groups_P is None:
        groups_L = gate_groups(problem.weights[0], problem.arguments[0])
    elif np.shape(groups_P) == problem.live.shape:
        groups_L = np.asarray(groups_P)[problem.live]
    else:
        raise InputError(
            f"groups: expected one for each of {len(problem.live)} units, got {np.shape(groups_P)}"
        )
    rotations = rotation_directions(*problem.weights, groups_L)
    return rotations.reshape(len(rotations), problem.weights.size)


def expand(problem: Reduced, weights: Float[np.ndarray, "2 R L"]) -> Float[np.ndarray, "2 D P"]:
    """Weights or a direction in the original coordinates, dead units put back."""
    full = np.zeros((2, len(problem.basis), len(problem.live)))
    full[:, :, problem.live] = np.einsum("dr,srp->sdp", problem.basis, weights)
    return full
