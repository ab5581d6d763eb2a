"""Errors whose message is one line that says what is wrong with the input and what to do."""

import numpy as np

LARGEST = 1e15  # the squares of many such numbers are finite in float32


class InputError(ValueError):
    """The input cannot be used; the message says why and how to mend it."""


def check_samples(x_ND: np.ndarray, name: str = "samples") -> np.ndarray:
    """Return ``x_ND`` as a finite, non-empty (N, D) float64 array, or raise InputError."""
    x_ND = np.asarray(x_ND)
    if x_ND.ndim != 2:
        raise InputError(
            f"{name}: expected a (N, D) array with one sample per row, got shape {x_ND.shape}"
        )
    if x_ND.shape[0] == 0 or x_ND.shape[1] == 0:
        raise InputError(f"{name}: need at least one sample and one feature, got {x_ND.shape}")
    if x_ND.dtype.kind not in "fiu":  # time spans, too, count as numbers in NumPy
        raise InputError(f"{name}: expected real numbers, got dtype {x_ND.dtype}")
    x_ND = x_ND.astype(np.float64)
    if not np.all(np.isfinite(x_ND)):
        raise InputError(f"{name}: contains NaN or infinite values; remove or replace them")
    return x_ND


def check_size(x_ND: np.ndarray, name: str) -> None:
    """Raise InputError unless the squares of ``x_ND`` are far from the end of float32."""
    largest = float(np.max(np.abs(x_ND)))
    if largest > LARGEST:
        raise InputError(
            f"{name}: has values up to {largest:.3g}, too large to compute with; divide the data, "
            "and the noise level with them"
        )


def check_weights(w1_DP: np.ndarray, w2_DP: np.ndarray, n_features: int) -> None:
    """Raise InputError unless W1, W2 are finite (D, P) arrays with D = ``n_features``."""
    for name, w_DP in (("W1", w1_DP), ("W2", w2_DP)):
        check_samples(w_DP, name)
        if w_DP.shape[0] != n_features:
            raise InputError(
                f"{name}: has {w_DP.shape[0]} rows, but the samples have {n_features} features; "
                "weights are (D, P), one column per unit"
            )
    if w1_DP.shape != w2_DP.shape:
        raise InputError(f"W1 and W2 differ in shape: {w1_DP.shape} and {w2_DP.shape}")


def check_sample_weight(weight_N: np.ndarray | None, n_samples: int) -> np.ndarray:
    """Return the weights of ``n_samples`` samples, 1/N each for None, or raise InputError.

    Weights are (N,), not negative, and sum to 1.
    """
    if weight_N is None:
        return np.full(n_samples, 1 / n_samples)
    weight_N = np.asarray(weight_N, np.float64)
    if weight_N.shape != (n_samples,):
        raise InputError(
            f"sample_weight: expected one for each of {n_samples} samples, got shape "
            f"{weight_N.shape}"
        )
    if not (np.all(weight_N >= 0) and abs(np.sum(weight_N) - 1) <= 1e-6):
        raise InputError("sample_weight: must be >= 0 and sum to 1; divide it by its sum")
    return weight_N


def check_noise_and_decay(sigma: float, lam: float) -> None:
    """Raise InputError unless σ is finite and positive and λ finite and not negative."""
    if not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma: the noise level must be finite and > 0, got {sigma}")
    if not (np.isfinite(lam) and lam >= 0):
        raise InputError(f"lam: the weight decay must be finite and >= 0, got {lam}")


def check_count(value: int, name: str, minimum: int = 1, maximum: int | None = None) -> None:
    """Raise InputError unless ``value`` is at least ``minimum`` and at most ``maximum``."""
    if value < minimum:
        raise InputError(f"{name}: must be at least {minimum}, got {value}")
    if maximum is not None and value > maximum:
        raise InputError(f"{name}: must be at most {maximum}, got {value}")


def check_seed(value: int, name: str = "seed") -> None:
    """Raise InputError unless NumPy and JAX take ``value`` as a seed."""
    check_count(value, name, 0, 2**32 - 1)
