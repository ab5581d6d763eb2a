"""Weights that were trained elsewhere, with the problem they were trained on, from an .npz file."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dae_theory.checks import (
    InputError,
    check_noise_and_decay,
    check_samples,
    check_size,
    check_weights,
)
from dae_theory.data.files import check_labels
from dae_theory.files import read_npz
from dae_theory.theory.problem import Problem

KEYS = ("W1", "W2", "X", "sigma", "lam")


class SavedWeights(NamedTuple):
    """``w1``, ``w2`` (D, P), float64, and the `Problem` they were trained on."""

    w1: Float[np.ndarray, "D P"]
    w2: Float[np.ndarray, "D P"]
    problem: Problem


def read_weights(path: str | Path) -> SavedWeights:
    """Read keys W1, W2 (D, P), X (N, D), sigma, lam and optionally labels (N,) from an .npz file.

    Raises:
      InputError: for a missing or damaged file, a missing or unknown key, wrong shapes, NaN,
        numbers too large, σ ≤ 0, λ < 0.
    """
    arrays = read_npz(Path(path))
    for key in KEYS:
        if key not in arrays:
            raise InputError(f"{path}: key {key!r} is missing; it has {sorted(arrays)}")
    unknown = sorted(arrays.keys() - {*KEYS, "labels"})
    if unknown:
        raise InputError(
            f"{path}: {', '.join(unknown)}: unknown; the net is W2 relu(W1ᵀ x), without biases, "
            f"and the keys are {', '.join(KEYS)} and labels"
        )
    for key in ("sigma", "lam"):
        shape, kind = arrays[key].shape, arrays[key].dtype
        if arrays[key].size != 1 or kind.kind not in "fiu":
            raise InputError(f"{path}: {key} must be one number, got shape {shape} of {kind}")
    x_ND = check_samples(arrays["X"], f"{path}: X")
    check_weights(arrays["W1"], arrays["W2"], x_ND.shape[1])
    for key in ("X", "W1", "W2"):
        check_size(arrays[key], f"{path}: {key}")
    sigma, lam = float(arrays["sigma"].item()), float(arrays["lam"].item())
    check_noise_and_decay(sigma, lam)
    labels = arrays.get("labels")
    if labels is not None:
        check_labels(labels, len(x_ND), Path(path))
    w1_DP, w2_DP = arrays["W1"].astype(float), arrays["W2"].astype(float)
    return SavedWeights(w1_DP, w2_DP, Problem(x_ND, sigma, lam, labels))
