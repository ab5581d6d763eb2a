"""Spiky or balanced? Statistics of representations h = [W1ᵀx]_+ (THEORY.md §10)."""

import numpy as np
from jaxtyping import Array, Float, Int

from dae_theory.errors import InputError


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
