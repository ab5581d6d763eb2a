"""What several regimes measure: noised inputs, distances, spikiness, exact losses, exponents."""

import functools

import numpy as np
from jaxtyping import Bool, Float

from dae_theory.relu.model import encode
from dae_theory.relu.units import collinear_groups, merge_groups, spikiness
from dae_theory.solve.derivatives import gradient_norm, loss_and_gradient_norm
from dae_theory.statistics import area_under_roc
from dae_theory.theory.remainder import fit_flip_exponent
from proofs_checks.claims import Measured, at_least
from proofs_checks.nets import Nets

EXACT_MARGIN = 6.0  # gate margin from which the closed forms are exact to 1e-8
TRAINED_MARGIN = 3.0  # gate margin from which 1% accuracy can be expected of them
RESIDUAL_MARGINS = np.linspace(4.0, 6.25, 10)  # below, powers of 1/z still count
ROUNDING = 64 * np.finfo(float).eps  # relative gradient up to which it is but rounding
FITTED = 3  # constants of the law that residuals follow: κ, b and C

# Statistics of representations, and the sign with which more means spikier.
UNMERGED = {"std": 1.0, "participation_ratio": -1.0, "hoyer": 1.0}
DRAWS = 64  # noise draws per sample in Monte Carlo averages


def noised(
    x_ND: Float[np.ndarray, "N D"],
    sigma: float,
    draws: int = DRAWS,
    seed: int | tuple[int, ...] = 0,
) -> np.ndarray:
    """``draws`` noisy copies of each sample, (draws·N, D)."""
    shape = (draws * len(x_ND), x_ND.shape[1])
    y = sigma * _unit_noise(shape, seed)
    y.reshape(draws, *x_ND.shape)[:] += x_ND
    return y


@functools.lru_cache(maxsize=1)  # a claim looks at one data set after another, of the same size
def _unit_noise(shape: tuple[int, int], seed: int | tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def relative_rms(difference: np.ndarray, reference: np.ndarray) -> float:
    """Root-mean-square of a difference, relative to that of the reference."""
    return float(np.linalg.norm(difference) / np.linalg.norm(reference))


def merged_statistics(
    nets: Nets, x_ND: Float[np.ndarray, "N D"], sigma: float
) -> list[dict[str, np.ndarray]]:
    """Spikiness of each net's representation of noised samples, collinear units merged."""
    y = noised(x_ND, sigma, draws=4)
    return [spikiness(merged_representation(w1, w2, y)) for w1, w2 in nets.pairs]


def merged_representation(w1_DP: np.ndarray, w2_DP: np.ndarray, y_ND: np.ndarray) -> np.ndarray:
    """Representation of y with each group of collinear units merged into one, (N, G)."""
    return merge_groups(np.asarray(encode(w1_DP, y_ND)), collinear_groups(w1_DP, w2_DP))


def unmerged_areas(
    spiky_MP: Float[np.ndarray, "M P"], balanced_NP: Float[np.ndarray, "N P"]
) -> dict[str, float]:
    """How well statistics of unmerged units tell two groups of representations apart: area under
    the ROC curve of each, larger where the first group is spikier."""
    spiky, balanced = spikiness(spiky_MP), spikiness(balanced_NP)
    return {
        name: area_under_roc(sign * spiky[name], sign * balanced[name])
        for name, sign in UNMERGED.items()
    }


def relative_gradient(
    w1_DP: np.ndarray, w2_DP: np.ndarray, x_ND: np.ndarray, sigma: float, lam: float
) -> float:
    """‖∇L‖ of the exact loss, relative to the mean of ‖x‖²."""
    gradient = gradient_norm(w1_DP, w2_DP, x_ND, sigma, lam)
    return gradient / float(np.mean(np.sum(x_ND**2, axis=1)))


def exact_loss_value(
    w1_DP: np.ndarray,
    w2_DP: np.ndarray,
    x_ND: np.ndarray,
    sigma: float,
    lam: float,
    chosen_N: Bool[np.ndarray, " N"] | None = None,
) -> float:
    """The exact loss, of the chosen samples alone: one program for any choice."""
    weight_N = None if chosen_N is None else chosen_N / chosen_N.sum()
    return loss_and_gradient_norm(w1_DP, w2_DP, x_ND, sigma, lam, weight_N)[0]


POINTS_SEEN = at_least(
    "points above rounding",
    FITTED + 1,
    lambda e: np.sum(e.residual[2] > ROUNDING),
    needs_others=True,
)


def residual_exponent(
    z_T: Float[np.ndarray, " T"],
    flips_T: Float[np.ndarray, " T"],
    residual_T: Float[np.ndarray, " T"],
) -> Measured:
    """The exponent of the residual in F, beside the 1 that the theory predicts
    (docs/THEORY.md#remainder)."""
    seen_T = residual_T > ROUNDING
    kappa = fit_flip_exponent(z_T[seen_T], flips_T[seen_T], residual_T[seen_T])
    return Measured(
        measured=kappa,
        predicted=1.0,
        errors=np.array([abs(kappa - 1)]),
        note=f"κ of ‖∇L‖ = C z^b F^κ, F = Σ exp(−z_ij²/2) over gates; z from {z_T[0]:.2f} to "
        f"{z_T[-1]:.2f} by σ, {np.sum(seen_T)} of {len(z_T)} points above rounding",
    )
