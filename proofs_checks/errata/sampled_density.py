"""What a net that stores ±x samples, beside the printed bound on its distance from the samples.

Measured by Heun's method and by quadrature.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import scipy
from jaxtyping import Float
from scipy.integrate import trapezoid
from scipy.special import logsumexp

from dae_theory.relu.model import denoise
from dae_theory.statistics import log_log_slope
from dae_theory.theory.closed_forms import predict_memorization
from proofs_checks.claims import ACCURACY, Claim, Kind, Measured, Requirement, Verdict, derived
from proofs_checks.monte_carlo import relative_rms
from proofs_checks.mutants import instead

SCALES = (10.0, 1.0, 0.1, 0.01)  # units in which the data are measured
WIDTH = 0.2  # of the smoothed training samples, relative to their norm
WIDTHS = np.geomspace(1e-2, 1e-3, 8)
NOISE_LEVELS = np.geomspace(80, 1e-3, 200)  # of the sampler, relative to the samples' norm


def printed_bound(x_N1: Float[np.ndarray, "N 1"], std: float, width: float) -> float:
    """(π/2) max‖x‖, whatever the sampled ``std`` and the smoothing ``width``
    (docs/THEORY.md#sampling-bound)."""
    return np.pi / 2 * float(np.max(np.abs(x_N1)))


def square_of_width(width_T: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """1/τ², up to a factor."""
    return width_T**-2


# --- measurements --------------------------------------------------------------------------------


def two_points(scale: float) -> Float[np.ndarray, "2 1"]:
    """Training samples ±scale: there (5) is the best net at every σ, not only at small σ."""
    return np.array([[scale], [-scale]])


def sampled_gaussian(scale: float) -> tuple[float, float]:
    """What the reverse ODE dy/dσ = (y − f(y))/σ makes of noise when f is the net (5) of each σ
    for the samples ±scale: its standard deviation, and its relative departure from a Gaussian."""
    levels, x_N1 = NOISE_LEVELS * scale, two_points(scale)
    nets = [predict_memorization(x_N1, sigma, 0.0) for sigma in levels]

    def slope(y, net):
        return (y - np.asarray(denoise(net.w1, net.w2, y))) / net.sigma

    quantiles = scipy.stats.norm.ppf((np.arange(64) + 0.5) / 64)[:, None]
    y = levels[0] * quantiles
    for net, following in pairwise(nets):  # Heun steps
        step, first = following.sigma - net.sigma, slope(y, net)
        y = y + step * (first + slope(y + step * first, following)) / 2
    std = float(np.sum(y * quantiles) / np.sum(quantiles**2))
    return std, relative_rms(y - std * quantiles, y)


def kl_to_smoothed(std: float, x_N1: Float[np.ndarray, "N 1"], width: float) -> float:
    """KL(N(0, std²), mean_i N(x_i, width²)) by quadrature on a grid."""
    y = std * np.linspace(-9, 9, 40_001)
    log_p = scipy.stats.norm.logpdf(y, 0, std)
    log_q = logsumexp(scipy.stats.norm.logpdf(y, x_N1, width), axis=0) - np.log(len(x_N1))
    return float(trapezoid(np.exp(log_p) * (log_p - log_q), y))


@dataclass(frozen=True)
class Flow:
    """What is sampled in each of SCALES, integrated once."""

    @cached_property
    def gaussians(self) -> dict[float, tuple[float, float]]:
        """Standard deviation and departure from a Gaussian, by scale."""
        return {scale: sampled_gaussian(scale) for scale in SCALES}

    @cached_property
    def kl_by_scale(self) -> dict[float, float]:
        """KL to the training samples smoothed to WIDTH, by scale."""
        return {
            scale: kl_to_smoothed(std, two_points(scale), WIDTH * scale)
            for scale, (std, _) in self.gaussians.items()
        }

    @cached_property
    def kl_by_width(self) -> Float[np.ndarray, " T"]:
        """KL to the samples ±1 smoothed to WIDTHS."""
        std, _ = self.gaussians[1.0]
        return np.array([kl_to_smoothed(std, two_points(1.0), width) for width in WIDTHS])


@dataclass(frozen=True)
class SampledDensity:
    """What is sampled, and the formulas under test."""

    flow: Flow = field(default_factory=Flow)
    bound: Callable[..., float] = printed_bound
    growth: Callable[..., np.ndarray] = square_of_width


def kl_bound(e: SampledDensity) -> Measured:
    """KL of the sampler's density in several units, against a bound."""
    kls = list(e.flow.kl_by_scale.values())
    bounds = [
        float(e.bound(two_points(scale), std, WIDTH * scale))
        for scale, (std, _) in e.flow.gaussians.items()
    ]
    excess = max(max(kl / bound - 1, 0) for kl, bound in zip(kls, bounds, strict=True))
    return Measured(
        kls[-1],
        bounds[-1],
        np.array([excess]),
        note=f"KL {min(kls):.4f} … {max(kls):.4f} for data ×{SCALES[0]:g} … {SCALES[-1]:g}; "
        f"the bound goes {bounds[0]:.4f} … {bounds[-1]:.4f}",
    )


def kl_growth(e: SampledDensity) -> Measured:
    """Exponent of the smoothing width with which that KL grows."""
    kl_T = e.flow.kl_by_width
    slope, predicted = (log_log_slope(WIDTHS, y) for y in (kl_T, e.growth(WIDTHS)))
    return Measured(
        slope,
        predicted,
        np.array([abs(slope - predicted)]),
        note=f"printed at most {np.pi / 2:.4f}; KL {kl_T[0]:.4g} at width {WIDTHS[0]:g}, "
        f"{kl_T[-1]:.4g} at {WIDTHS[-1]:g}; exponent",
    )


GAUSSIAN = Requirement(
    "departure from a Gaussian",
    "<= 1e-9",
    lambda e: max(departure for _, departure in e.flow.gaussians.values()),
    lambda departure: departure <= 1e-9,
)

CLAIMS = (
    Claim(
        id="errata/kl-printed",
        statement="As printed: KL(sampled, training samples) ≤ (π/2) max‖x‖, here smoothed to be "
        "finite.",
        source="docs/THEORY.md#sampling-bound",
        part="density",
        requires=(GAUSSIAN,),
        measure=kl_bound,
        tolerance=1e-6,
        origin=ACCURACY,
        mutants=(
            instead("2π for π/2", "bound", lambda x, std, width: 2 * np.pi * np.max(np.abs(x))),
            instead("max‖x‖² for max‖x‖", "bound", lambda x, std, width: np.pi / 2 * np.max(x**2)),
        ),
        kind=Kind.EXACT,
        expected=Verdict.FAILS,
    ),
    Claim(
        id="errata/kl-atomic",
        statement="That KL is infinite: against samples smoothed to width τ it grows like 1/τ².",
        source="docs/THEORY.md#sampling-bound",
        part="density",
        requires=(GAUSSIAN,),
        measure=kl_growth,
        tolerance=0.02,
        mutants=(
            instead("like 1/τ", "growth", lambda width: 1 / width),
            instead("like log 1/τ", "growth", lambda width: -np.log(width)),
        ),
        kind=Kind.EXACT,
        origin=derived("docs/THEORY.md#sampling-bound"),
    ),
)
