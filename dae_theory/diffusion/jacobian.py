"""Jacobians of denoisers, and what the theory says they are.

J = ∂D(y, σ)/∂y lists the directions of its input that a denoiser keeps. That of a posterior mean is
Cov(x | y)/σ²: symmetric, with values ≥ 0. Matrices are (N, D, D), one per point, row = output.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dae_theory.checks import InputError, check_count, check_noise_and_decay, check_samples
from dae_theory.diffusion.denoisers import Denoiser
from dae_theory.memorization.nearest import checked_pair, directions
from dae_theory.theory.closed_forms import block_gains

ROWS = 256  # samples pushed through a denoiser at once


class Jacobians(NamedTuple):
    """Jacobians with their singular values, largest first, and vectors as columns, in float64.

    ``matrix`` (N, D, D), ``values`` (N, D), ``left`` (N, D, D) of outputs, ``right`` of inputs.
    """

    matrix: Float[np.ndarray, "N D D"]
    values: Float[np.ndarray, "N D"]
    left: Float[np.ndarray, "N D D"]
    right: Float[np.ndarray, "N D D"]

    @property
    def symmetric(self) -> Float[np.ndarray, "N D D"]:
        """(J + Jᵀ)/2."""
        return (self.matrix + self.matrix.swapaxes(1, 2)) / 2


class JacobianSummary(NamedTuple):
    """One number per point each.

    Attributes:
      trace: Σ_j J_jj, the effective number of kept directions.
      stable_rank: ‖J‖_F²/‖J‖², 1 for rank one.
      participation_ratio: (Σs)²/Σs² of the singular values.
      top: largest singular value.
      asymmetry: ‖(J − Jᵀ)/2‖_F/‖J‖_F, 0 for a posterior mean.
    """

    trace: Float[np.ndarray, " N"]
    stable_rank: Float[np.ndarray, " N"]
    participation_ratio: Float[np.ndarray, " N"]
    top: Float[np.ndarray, " N"]
    asymmetry: Float[np.ndarray, " N"]


class Operator(NamedTuple):
    """Symmetric operators U diag(g) Uᵀ, largest gain first: ``gains`` (*B, R), ``directions``
    (*B, D, R) with orthonormal columns."""

    gains: Float[np.ndarray, "*B R"]
    directions: Float[np.ndarray, "*B D R"]

    @property
    def matrix(self) -> Float[np.ndarray, "*B D D"]:
        """U diag(g) Uᵀ."""
        return (self.directions * self.gains[..., None, :]) @ self.directions.swapaxes(-1, -2)


class Alignment(NamedTuple):
    """How well Jacobians agree with predicted operators; one number per point each.

    Attributes:
      energy_share: ‖UᵀJU‖_F²/‖J‖_F² for the leading predicted directions U.
      spectrum_cosine: of the sorted singular values with the sorted gains.
      spectrum_distance: ‖values − gains‖/‖gains‖, both sorted.
      operator_distance: ‖J − M‖_F/‖M‖_F.
    """

    energy_share: Float[np.ndarray, " N"]
    spectrum_cosine: Float[np.ndarray, " N"]
    spectrum_distance: Float[np.ndarray, " N"]
    operator_distance: Float[np.ndarray, " N"]


@functools.partial(jax.jit, static_argnames=("denoiser", "block"))
def _matrices(denoiser: Denoiser, y_ND: Array, sigma: Array, block: int) -> Array:
    d = y_ND.shape[1]
    _, push = jax.linearize(lambda at: denoiser(at, sigma), y_ND)

    def columns(directions_BD):
        # Rows do not see each other, so one product serves all points.
        return jax.vmap(lambda e_D: push(jnp.broadcast_to(e_D, y_ND.shape)))(directions_BD)

    n_blocks = -(-d // block)
    padded = jnp.eye(n_blocks * block, d, dtype=y_ND.dtype).reshape(n_blocks, block, d)
    columns_DND = jax.lax.map(columns, padded).reshape(-1, *y_ND.shape)[:d]
    return jnp.moveaxis(columns_DND, 0, 2)


def jacobian_matrices(
    denoiser: Denoiser, y_ND: Float[Array, "N D"], sigma: float, rows: int = ROWS
) -> Float[np.ndarray, "N D D"]:
    """Exact Jacobians ∂D(y, σ)/∂y at each row, by D Jacobian-vector products.

    A denoiser's rows must not see each other, as those of this package do not; one with a caption
    a row works. Calls with the same ``denoiser`` object and shape compile once, at any σ.

    Args:
      denoiser: traceable by JAX.
      y_ND: noisy samples; their dtype is that of the products.
      sigma: noise level, in units of the data.
      rows: of the denoiser held in memory at once (at least N), directions being taken in blocks.

    Raises:
      InputError: for unusable samples or σ, or a denoiser whose Jacobian is not finite.
    """
    check_samples(y_ND, "y")
    check_noise_and_decay(sigma, 0.0)
    check_count(rows, "rows")
    y_ND = jnp.asarray(y_ND)
    block = min(max(rows // len(y_ND), 1), y_ND.shape[1])
    matrix_NDD = np.asarray(_matrices(denoiser, y_ND, jnp.asarray(sigma, y_ND.dtype), block))
    if not np.all(np.isfinite(matrix_NDD)):
        raise InputError(f"denoiser: its Jacobian at sigma = {sigma} is not finite")
    return matrix_NDD


def decompose(matrix_NDD: Float[Array, "N D D"]) -> Jacobians:
    """Jacobians with their singular value decomposition."""
    matrix_NDD = np.asarray(matrix_NDD, np.float64)
    left_NDD, values_ND, right_NDD = np.linalg.svd(matrix_NDD)
    return Jacobians(matrix_NDD, values_ND, left_NDD, right_NDD.swapaxes(1, 2))


def denoiser_jacobians(
    denoiser: Denoiser, y_ND: Float[Array, "N D"], sigma: float, rows: int = ROWS
) -> Jacobians:
    """`decompose` of `jacobian_matrices`."""
    return decompose(jacobian_matrices(denoiser, y_ND, sigma, rows))


def summarize_jacobians(jacobians: Jacobians) -> JacobianSummary:
    """Effective ranks and the like; NaN for the ratios of a Jacobian that is 0."""
    values_ND, norm_N = jacobians.values, np.linalg.norm(jacobians.values, axis=1)
    skew_NDD = jacobians.matrix - jacobians.symmetric
    with np.errstate(invalid="ignore", divide="ignore"):
        return JacobianSummary(
            trace=np.trace(jacobians.matrix, axis1=1, axis2=2),
            stable_rank=(norm_N / values_ND[:, 0]) ** 2,
            participation_ratio=(np.sum(values_ND, axis=1) / norm_N) ** 2,
            top=values_ND[:, 0],
            asymmetry=np.linalg.norm(skew_NDD, axis=(1, 2)) / norm_N,
        )


def top_direction_cosines(
    jacobians: Jacobians, x_ND: Float[Array, "N D"]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """|cosine| of the top left and of the top right direction with a sample for each point."""
    unit_ND = _units(x_ND)
    return tuple(
        np.abs(np.einsum("nd,nd->n", vectors[:, :, 0], unit_ND))
        for vectors in (jacobians.left, jacobians.right)
    )


def gains_along(
    matrix_NDD: Float[np.ndarray, "N D D"], x_ND: Float[Array, "N D"]
) -> Float[np.ndarray, " N"]:
    """x̂ᵀJx̂, what is kept of the direction of a sample for each point.

    At a stored sample (5) says ‖x‖²/(‖x‖² + σ²), close to 1; f_emp at low noise says 0.
    """
    unit_ND = _units(x_ND)
    return np.einsum("nd,nde,ne->n", unit_ND, matrix_NDD, unit_ND)


def stored_operator(
    x_ND: Float[Array, "N D"], sigma: float, lam: float = 0.0, count: int | None = None
) -> Operator:
    """Corollary 3.2: at a stored sample, J = m x̂x̂ᵀ with m of equation (5).

    Args:
      x_ND: stored samples, one operator each.
      sigma: noise level.
      lam: weight decay λ of objective (1).
      count: of training samples; only λ > 0 needs it, default N.

    Raises:
      InputError: for unusable samples, σ or λ.
    """
    x_ND = check_samples(x_ND)
    check_noise_and_decay(sigma, lam)
    square_N = np.sum(x_ND**2, axis=1)
    gains_N = block_gains(square_N, (len(x_ND) if count is None else count) * lam, sigma**2)
    return Operator(gains_N[:, None], _units(x_ND)[:, :, None])


def local_operator(
    neighbours_KD: Float[Array, "K D"], sigma: float, centred: bool = True, rank: int | None = None
) -> Operator:
    """Corollary 3.3 at λ = 0: S(S + σ²I)⁻¹ from the statistics of a cluster.

    Args:
      neighbours_KD: members of the cluster, or nearest neighbours of a point.
      sigma: noise level.
      centred: S is the covariance (over K), as of a denoiser with biases; else the second moment
        about 0, (6), which adds the direction of the mean.
      rank: leading directions kept, p_k of the theory; default all.

    Raises:
      InputError: for unusable samples or σ, or a rank outside 0 .. D.
    """
    x_KD = check_samples(neighbours_KD, "neighbours")
    check_noise_and_decay(sigma, 0.0)
    d = x_KD.shape[1]
    rank = d if rank is None else rank
    if not 0 <= rank <= d:
        raise InputError(f"rank: {d} features allow 0 .. {d}, got {rank}")
    x_KD = x_KD - x_KD.mean(axis=0) if centred else x_KD
    values_D, vectors_DD = np.linalg.eigh(x_KD.T @ x_KD / len(x_KD))
    values_R = np.maximum(values_D[::-1][:rank], 0.0)
    return Operator(block_gains(values_R, 0.0, sigma**2), vectors_DD[:, ::-1][:, :rank])


def empirical_jacobians(
    y_MD: Float[Array, "M D"], x_ND: Float[Array, "N D"], sigma: float
) -> Float[np.ndarray, "M D D"]:
    """Jacobians Cov(x | y)/σ² of f_emp over the samples ``x_ND``; 0 as σ → 0.

    Raises:
      InputError: for unusable samples or σ, or different numbers of features.
    """
    y_MD, x_ND = checked_pair(y_MD, x_ND, "y")
    check_noise_and_decay(sigma, 0.0)
    result = []
    for y_D in y_MD.astype(np.float64):
        logits_N = -np.sum((y_D - x_ND) ** 2, axis=1) / (2 * sigma**2)
        weight_N = np.exp(logits_N - logits_N.max())
        felt = weight_N > np.finfo(np.float64).tiny
        weight_K, x_KD = weight_N[felt] / np.sum(weight_N), x_ND[felt].astype(np.float64)
        centred_KD = x_KD - weight_K @ x_KD
        result.append((centred_KD * weight_K[:, None]).T @ centred_KD / sigma**2)
    return np.stack(result)


def nearest_samples(
    y_MD: Float[Array, "M D"], x_ND: Float[Array, "N D"], count: int
) -> Int[np.ndarray, "M K"]:
    """Indices of the ``count`` samples nearest to each point, nearest first.

    Raises:
      InputError: for unusable samples, or fewer than ``count`` of them.
    """
    y_MD, x_ND = checked_pair(y_MD, x_ND, "y")
    if not 1 <= count <= len(x_ND):
        raise InputError(f"count: must be in 1 .. {len(x_ND)} (samples), got {count}")
    return np.stack(
        [np.argsort(np.sum((y_D - x_ND) ** 2, axis=1), kind="stable")[:count] for y_D in y_MD]
    )


def align_jacobians(jacobians: Jacobians, predicted: Operator, rank: int) -> Alignment:
    """Jacobians (N) against predicted operators (N, or one for all).

    Args:
      jacobians: measured.
      predicted: with R ≤ D gains, largest first; the others are 0.
      rank: leading predicted directions whose share of the energy is asked for.

    Raises:
      InputError: unless 1 ≤ rank ≤ R.
    """
    n_gains, d = predicted.gains.shape[-1], jacobians.values.shape[1]
    if not 1 <= rank <= n_gains:
        raise InputError(f"rank: the prediction has 1 .. {n_gains} directions, got {rank}")
    u_DR = predicted.directions[..., :rank]
    inside = np.linalg.norm(u_DR.swapaxes(-1, -2) @ jacobians.matrix @ u_DR, axis=(1, 2))
    gains_ND = np.zeros((*predicted.gains.shape[:-1], d))
    gains_ND[..., :n_gains] = predicted.gains
    norm_N, predicted_N = (np.linalg.norm(a, axis=-1) for a in (jacobians.values, gains_ND))
    with np.errstate(invalid="ignore", divide="ignore"):
        return Alignment(
            energy_share=(inside / norm_N) ** 2,
            spectrum_cosine=np.sum(jacobians.values * gains_ND, axis=1) / (norm_N * predicted_N),
            spectrum_distance=np.linalg.norm(jacobians.values - gains_ND, axis=1) / predicted_N,
            operator_distance=np.linalg.norm(jacobians.matrix - predicted.matrix, axis=(1, 2))
            / predicted_N,
        )


def _units(x_ND) -> Float[np.ndarray, "N D"]:
    x_ND = np.asarray(x_ND, np.float64)
    return directions(x_ND, np.zeros(x_ND.shape[1]))
