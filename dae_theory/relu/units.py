"""Units and their activities: which are live, which are collinear, how spiky is h = [W1ᵀx]_+?"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import connected_components

from dae_theory.checks import InputError

LIVE_FRACTION = 1e-3  # a unit is live when ‖w1‖‖w2‖ exceeds this fraction of the largest


def live_units(w1_DP: Float[Array, "*B D P"], w2_DP: Float[Array, "*B D P"]) -> Array:
    """Boolean mask (P): ‖w1_j‖‖w2_j‖ above 1e-3 of the largest (docs/THEORY.md#comparing)."""
    xp = jnp if isinstance(w1_DP, jax.Array) else np
    product = xp.linalg.norm(w1_DP, axis=-2) * xp.linalg.norm(w2_DP, axis=-2)
    return product > LIVE_FRACTION * xp.max(product, axis=-1, keepdims=True)


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


COLLINEAR_COSINE = 0.99
PARALLEL_DIGITS = 12  # of unit columns that agree


def collinear_groups(
    w1_DP: Float[Array, "D P"], w2_DP: Float[Array, "D P"], cosine: float = COLLINEAR_COSINE
) -> Int[np.ndarray, " P"]:
    """Group label of each unit: live units linked by encoder cosines above ``cosine`` share a
    group; dead units have −1."""
    w1_DP = np.asarray(w1_DP, float)
    live_P = np.asarray(live_units(w1_DP, np.asarray(w2_DP, float)))
    groups_P = np.full(w1_DP.shape[1], -1)
    if not live_P.any():
        return groups_P
    # Of parallel columns one is looked at: all pairs of many units take memory.
    parallel_L = parallel_groups(w1_DP[:, live_P])
    u_DG = w1_DP[:, live_P][:, np.unique(parallel_L, return_index=True)[1]]
    u_DG = u_DG / np.linalg.norm(u_DG, axis=0)
    _, linked_G = connected_components(u_DG.T @ u_DG > cosine, directed=False)
    groups_P[live_P] = linked_G[parallel_L]
    return groups_P


def parallel_groups(w_DP: Float[Array, "D P"]) -> Int[np.ndarray, " P"]:
    """Group of each column: those that point in one direction, up to rounding. Groups are numbered
    in the order of their first columns."""
    w_DP = np.asarray(w_DP, float)
    norm_P = np.linalg.norm(w_DP, axis=0)
    u_DP = w_DP / np.where(norm_P > 0, norm_P, 1.0)
    numbers: dict[bytes, int] = {}
    rounded_PD = u_DP.T.round(PARALLEL_DIGITS) + 0.0  # −0 and 0 are one
    return np.array([numbers.setdefault(u_D.tobytes(), len(numbers)) for u_D in rounded_PD], int)
