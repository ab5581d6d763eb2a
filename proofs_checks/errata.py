"""Errata: statements as printed, expected to fail, beside the corrected ones, which hold.

All on fixed examples, each against a measurement that uses neither formula: fits to noisy
samples, numerical minimizers, quadrature, finite differences. The formulas under test are fields
of the experiment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import jax
import numpy as np
import scipy.optimize
from jaxtyping import Float
from scipy.integrate import quad, trapezoid
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from dae_theory.data import Dataset, Mixture, random_rotation, separable_mixture, simplex
from dae_theory.denoisers import mixture_denoiser
from dae_theory.errors import InputError
from dae_theory.loss import exact_loss
from dae_theory.model import denoise
from dae_theory.separability import gate_margin, separability
from dae_theory.theory import (
    Prediction,
    linear_test_loss,
    predict_generalization,
    predict_memorization,
)
from proofs_checks.claims import (
    Assumption,
    Claim,
    Evidence,
    Mutant,
    Verdict,
    log_log_slope,
    measure_or_vacuous,
)
from proofs_checks.config import RunConfig
from proofs_checks.generalize_evidence import limit_test_loss, printed_test_loss
from proofs_checks.nets import Progress, WeightsFile
from proofs_checks.probes import EXACT_MARGIN, relative_rms

DEFAULT_N, DIMENSION = 4, 16  # stored samples
SPECTRUM, WIDTH = (5.0, 2.0, 1.0, 0.5, 0.2, 0.1), 3
MANY = 50_000  # samples that stand for infinitely many
RATIO_SIGMAS = np.geomspace(0.01, 0.1, 6)
PROXIMAL_STEPS = 2000
SCALES = (10.0, 1.0, 0.1, 0.01)  # units in which the data are measured
SMOOTHING = 0.2  # width of the smoothed training samples, relative to their norm
SMOOTHINGS = np.geomspace(1e-2, 1e-3, 8)
NOISE_LEVELS = np.geomspace(80, 1e-3, 200)  # of the sampler, relative to the samples' norm


def printed_population(means, covs, priors, widths, sigma: float, lam: float) -> Prediction:
    """Equation (6) as printed, with σI in place of σ²I."""
    return predict_generalization(means, covs, priors, widths, np.sqrt(sigma), lam)


def norm_integral(x_ND: Float[np.ndarray, "N D"]) -> float:
    """∫ L(σ)/σ² dσ over all σ > 0 by THEORY.md §4: (π/2) times the mean norm."""
    return float(np.pi / 2 * np.mean(np.linalg.norm(x_ND, axis=1)))


def printed_kl_bound(x_N1: Float[np.ndarray, "N 1"], std: float, width: float) -> float:
    """(π/2) max‖x_i‖, whatever the widths of the sampled and the smoothed distribution."""
    return float(np.pi / 2 * np.max(np.abs(x_N1)))


def column_scale(x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float, power=None):
    """r² = (‖x‖²−nλ)/(‖x‖⁴+σ²‖x‖²) of the columns r x in (5); ``power`` replaces ‖x‖⁴."""
    square_N = np.sum(x_ND**2, axis=1)
    power_N = square_N**2 if power is None else power
    return (square_N - len(x_ND) * lam) / (power_N + sigma**2 * square_N)


def half_decay_scale(x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float) -> np.ndarray:
    """(5) with nλ/2 in place of nλ."""
    return column_scale(x_ND, sigma, lam / 2)


def four_norm_scale(x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float) -> np.ndarray:
    """(5) with ‖x‖₄⁴, the sum of fourth powers of the pixels, in place of (‖x‖₂²)²."""
    return column_scale(x_ND, sigma, lam, np.sum(x_ND**4, axis=1))


def score(denoised_ND, y_ND, sigma: float) -> np.ndarray:
    """∇log p_σ(y) = (E[x|y] − y)/σ²."""
    return (denoised_ND - y_ND) / sigma**2


def printed_score(denoised_ND, y_ND, sigma: float) -> np.ndarray:
    """The score with the printed sign."""
    return (y_ND - denoised_ND) / sigma**2


def _one_cluster(values) -> Mixture:
    """N(0, S) with eigenvalues ``values``, as a mixture of one."""
    u_DD = random_rotation(0, len(values))
    return Mixture(np.zeros((1, len(values))), ((u_DD * values) @ u_DD.T)[None], np.ones(1))


def _stored() -> np.ndarray:
    radii_N = np.random.default_rng(0).uniform(0.8, 1.5, DEFAULT_N)
    return radii_N[:, None] * simplex(DEFAULT_N, DIMENSION).x


@dataclass(frozen=True)
class Errata:
    """Examples, and the formulas under test: printed ones beside corrected ones.

    ``spread`` is a cluster with a tail of eigenvalues that ``WIDTH`` units drop, ``flat`` one
    without; ``stored`` (N, D) are samples to memorize, simplex directions of different norms;
    ``modes`` is a mixture whose score is known.
    """

    seeds: tuple[int, ...]
    spread: Mixture = field(default_factory=lambda: _one_cluster(SPECTRUM))
    flat: Mixture = field(default_factory=lambda: _one_cluster(np.ones(WIDTH)))
    spread_sigma: float = 1.0
    block_sigma: float = 0.5
    block_lam: float = 0.3
    stored: Float[np.ndarray, "N D"] = field(default_factory=_stored)
    stored_sigma: float = 0.04
    stored_lam: float = 0.01
    modes: Mixture = field(
        default_factory=lambda: separable_mixture(3, 6, rank=2, beta=-0.4, alpha=0.3)
    )
    modes_sigma: float = 0.5
    test_loss: Callable[..., float] = limit_test_loss
    printed_test_loss: Callable[..., float] = printed_test_loss
    population: Callable[..., Prediction] = predict_generalization
    printed_population: Callable[..., Prediction] = printed_population
    integral: Callable[..., float] = norm_integral
    printed_kl_bound: Callable[..., float] = printed_kl_bound
    kl_growth: Callable[..., np.ndarray] = lambda width: width**-2
    column_scale: Callable[..., np.ndarray] = column_scale
    half_decay_scale: Callable[..., np.ndarray] = half_decay_scale
    four_norm_scale: Callable[..., np.ndarray] = four_norm_scale
    score: Callable[..., np.ndarray] = score
    printed_score: Callable[..., np.ndarray] = printed_score

    @cached_property
    def spread_losses(self) -> np.ndarray:
        """(S,) `fitted_loss` of the ``spread`` cluster."""
        return np.array([fitted_loss(self.spread, self.spread_sigma, seed) for seed in self.seeds])

    @cached_property
    def flat_losses(self) -> np.ndarray:
        """(S, T) `fitted_loss` of the ``flat`` cluster at RATIO_SIGMAS."""
        return np.array([[fitted_loss(self.flat, s, k) for s in RATIO_SIGMAS] for k in self.seeds])


def build(
    config: RunConfig, dataset: Dataset | None, needs_nets: bool, progress: Progress
) -> Errata:
    """The fixed examples; of the config only the seeds matter, and no net is trained."""
    return Errata(config.seed_list)


def from_weights(file: WeightsFile) -> Errata:
    """There is nothing in a file of weights that errata could be checked on."""
    raise InputError("weights: errata check formulas, not weights; choose another regime")


# --- measurements that use none of the formulas ----------------------------------------------


def fitted_loss(mixture: Mixture, sigma: float, seed: int) -> float:
    """Test loss, by Monte Carlo, of the map of rank WIDTH fitted to noisy samples.

    The fit is a reduced-rank regression of clean on noisy samples: least squares, then the top
    principal directions of the fitted values.
    """
    rng = np.random.default_rng([seed, 1])  # another stream than Mixture.sample uses
    x, fresh_x = (mixture.sample(2 * seed + part, MANY)[0] for part in range(2))
    y, fresh_y = (clean + sigma * rng.standard_normal(clean.shape) for clean in (x, fresh_x))
    fit_DD = np.linalg.solve(y.T @ y, y.T @ x)
    top_DR = np.linalg.svd((y @ fit_DD).T @ (y @ fit_DD))[0][:, :WIDTH]
    return float(np.mean(np.sum((fresh_y @ fit_DD @ top_DR @ top_DR.T - fresh_x) ** 2, axis=1)))


def proximal_minimum(s_DD: Float[np.ndarray, "D D"], sigma: float, lam: float) -> np.ndarray:
    """argmin over M of tr((M−I)S(M−I)ᵀ) + σ²‖M‖² + 2λ‖M‖_*, by proximal gradient steps."""
    step = 0.5 / (np.linalg.norm(s_DD, 2) + sigma**2)
    m_DD = np.zeros_like(s_DD)
    for _ in range(PROXIMAL_STEPS):
        gradient = 2 * (m_DD - np.eye(len(s_DD))) @ s_DD + 2 * sigma**2 * m_DD
        u, singular, vt = np.linalg.svd(m_DD - step * gradient)
        m_DD = (u * np.maximum(singular - 2 * lam * step, 0)) @ vt
    return m_DD


def separate_maps_loss(x_ND: Float[np.ndarray, "N D"], sigma: float) -> float:
    """Mean over samples of min over M of ‖Mx−x‖² + σ²‖M‖², by its normal equations."""
    s_NDD = x_ND[:, :, None] * x_ND[:, None, :]
    maps = np.linalg.solve(s_NDD + sigma**2 * np.eye(x_ND.shape[1]), s_NDD)
    return float(np.mean([linear_test_loss(m.T, s, sigma) for m, s in zip(maps, s_NDD)]))


_loss_and_gradient = jax.jit(jax.value_and_grad(lambda w, *rest: exact_loss(w[0], w[1], *rest)))


def stored_net_loss(x_ND: Float[np.ndarray, "N D"], sigma: float) -> float:
    """Exact loss of the net (5), gates included, without decay."""
    net = predict_memorization(x_ND, sigma, 0.0)
    return float(_loss_and_gradient(np.stack([net.w1, net.w2]), x_ND, sigma, 0.0)[0])


def minimum_gains(x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float) -> np.ndarray:
    """(N,) gains w2ᵀw1 at the minimum that L-BFGS reaches from noised samples as columns."""
    shape = (2, *x_ND.T.shape)
    start = x_ND.T + 0.05 * np.random.default_rng(0).standard_normal(shape)

    def objective(w):
        loss, gradient = _loss_and_gradient(w.reshape(shape), x_ND, sigma, lam)
        return float(loss), np.asarray(gradient).ravel()

    found = scipy.optimize.minimize(objective, start.ravel(), jac=True, tol=1e-14)
    return np.sum(np.prod(found.x.reshape(shape), axis=0), axis=0)


def sampled_gaussian(scale: float) -> tuple[float, float]:
    """What the reverse ODE dy/dσ = (y − f(y))/σ makes of noise when f is the net (5) of each σ
    for the samples ±scale: its standard deviation, and its relative departure from a Gaussian."""
    levels, x_N1 = NOISE_LEVELS * scale, np.array([[scale], [-scale]])
    slopes = [
        lambda y, net=predict_memorization(x_N1, sigma, 0.0): (
            (y - np.asarray(denoise(net.w1, net.w2, y))) / net.sigma
        )
        for sigma in levels
    ]
    quantiles = norm.ppf((np.arange(64) + 0.5) / 64)[:, None]
    y = levels[0] * quantiles
    for (a, slope_a), (b, slope_b) in pairwise(zip(levels, slopes, strict=True)):
        first = slope_a(y)
        y = y + (b - a) * (first + slope_b(y + (b - a) * first)) / 2
    std = float(np.sum(y * quantiles) / np.sum(quantiles**2))
    return std, relative_rms(y - std * quantiles, y)


def kl_to_smoothed(std: float, x_N1: Float[np.ndarray, "N 1"], width: float) -> float:
    """KL(N(0, std²), mean_i N(x_i, width²)) by quadrature on a grid."""
    y = std * np.linspace(-9, 9, 40_001)
    log_p = norm.logpdf(y, 0, std)
    log_q = logsumexp(norm.logpdf(y, x_N1, width), axis=0) - np.log(len(x_N1))
    return float(trapezoid(np.exp(log_p) * (log_p - log_q), y))


def score_by_differences(mixture: Mixture, y_ND, sigma: float, step: float = 1e-4) -> np.ndarray:
    """∇log p_σ at ``y`` by central differences of SciPy's normal densities."""
    noise = sigma**2 * np.eye(y_ND.shape[1])

    def log_density(at_ND):
        parts = zip(mixture.priors, mixture.means, mixture.covs, strict=True)
        normals = [np.log(r) + multivariate_normal.logpdf(at_ND, m, c + noise) for r, m, c in parts]
        return logsumexp(normals, axis=0)

    shifts = step * np.eye(y_ND.shape[1])
    differences = [log_density(y_ND + s) - log_density(y_ND - s) for s in shifts]
    return np.stack(differences, axis=1) / (2 * step)
