"""How things are measured in every regime: noised inputs, distances, spikiness, decay exponents."""

import numpy as np
from jaxtyping import Float

from dae_theory.compare import collinear_groups
from dae_theory.model import encode
from dae_theory.representation import merge_groups, spikiness
from proofs_checks.claims import (
    fit_flip_exponent,
)
from proofs_checks.nets import (
    Nets,
)

EXACT_MARGIN = 6.0  # gate margin from which the closed forms are exact to 1e-8
TRAINED_MARGIN = 2.0  # gate margin from which 1% accuracy can be expected of them
RESIDUAL_MARGINS = np.linspace(4.0, 6.25, 10)  # below, powers of 1/z still count
DRAWS = 64  # noise draws per sample in Monte Carlo averages


def noised(x_ND: Float[np.ndarray, "N D"], sigma: float, draws: int = DRAWS) -> np.ndarray:
    """``draws`` noisy copies of each sample, (draws·N, D)."""
    rng = np.random.default_rng(0)
    copies = np.tile(x_ND, (draws, 1))
    return copies + sigma * rng.standard_normal(copies.shape)


def relative_rms(difference: np.ndarray, reference: np.ndarray) -> float:
    """Root-mean-square of a difference, relative to that of the reference."""
    return float(np.sqrt(np.mean(difference**2) / np.mean(reference**2)))


def merged_statistics(
    nets: Nets, x_ND: Float[np.ndarray, "N D"], sigma: float
) -> list[dict[str, np.ndarray]]:
    """Spikiness of each net's representation of noised samples, collinear units merged."""
    y = noised(x_ND, sigma, draws=4)
    return [
        spikiness(merge_groups(np.asarray(encode(w1, y)), collinear_groups(w1, w2)))
        for w1, w2 in nets.pairs
    ]


def residual_evidence(z: np.ndarray, flips: np.ndarray, residual: np.ndarray) -> dict:
    """The exponent of the residual, beside the 1 that the theory predicts."""
    kappa = fit_flip_exponent(z, flips, residual)
    return {
        "measured": kappa,
        "predicted": 1.0,
        "errors": np.array([abs(kappa - 1)]),
        "note": f"κ of ‖∇L‖ = C z^b F^κ, F = Σ exp(−z_ij²/2) over gates; z from {z[0]:.2f} to "
        f"{z[-1]:.2f} by σ",
    }
