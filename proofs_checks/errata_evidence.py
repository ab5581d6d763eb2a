"""Measurements behind the errata, which use none of the formulas under test.

Fits to noisy samples, numerical minimizers, quadrature, finite differences.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import jax
import numpy as np
import scipy.optimize
from jaxtyping import Float
from scipy.integrate import quad, trapezoid
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from dae_theory.data.mixtures import Mixture, random_rotation, separable_mixture, simplex
from dae_theory.diffusion.denoisers import mixture_denoiser
from dae_theory.relu.loss import exact_loss
from dae_theory.relu.model import denoise
from dae_theory.theory.closed_forms import (
    Prediction,
    linear_test_loss,
    predict_generalization,
    predict_memorization,
)
from dae_theory.theory.separability import gate_margin, separability
from proofs_checks.claims import Assumption, log_log_slope
from proofs_checks.generalize_evidence import limit_test_loss, printed_test_loss
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
SPREAD_SIGMA, BLOCK_SIGMA, BLOCK_LAM = 1.0, 0.5, 0.3
STORED_SIGMA, STORED_LAM, MODES_SIGMA = 0.04, 0.01, 0.5


def column_scale(x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float, power=None):
    """r² = (‖x‖²−nλ)/(‖x‖⁴+σ²‖x‖²) of the columns r x in (5); ``power`` replaces ‖x‖⁴."""
    square_N = np.sum(x_ND**2, axis=1)
    power_N = square_N**2 if power is None else power
    return (square_N - len(x_ND) * lam) / (power_N + sigma**2 * square_N)


def score(denoised_ND, y_ND, sigma: float) -> np.ndarray:
    """∇log p_σ(y) = (E[x|y] − y)/σ²."""
    return (denoised_ND - y_ND) / sigma**2


def _one_cluster(values) -> Mixture:
    """N(0, S) with eigenvalues ``values``, as a mixture of one."""
    u_DD = random_rotation(0, len(values))
    return Mixture(np.zeros((1, len(values))), ((u_DD * values) @ u_DD.T)[None], np.ones(1))


SPREAD, FLAT = _one_cluster(SPECTRUM), _one_cluster(np.ones(WIDTH))
MODES = separable_mixture(3, 6, rank=2, beta=-0.4, alpha=0.3)


def _stored() -> np.ndarray:
    radii_N = np.random.default_rng(0).uniform(0.8, 1.5, DEFAULT_N)
    return radii_N[:, None] * simplex(DEFAULT_N, DIMENSION).x


@dataclass(frozen=True)
class Errata:
    """``stored`` (N, D) are samples to memorize, simplex directions of different norms; the rest
    are the formulas under test, with the arguments of those that they are named after."""

    seeds: tuple[int, ...]
    stored: Float[np.ndarray, "N D"] = field(default_factory=_stored)
    test_loss: Callable[..., float] = limit_test_loss
    printed_test_loss: Callable[..., float] = printed_test_loss
    population: Callable[..., Prediction] = predict_generalization
    printed_population: Callable[..., Prediction] = lambda m, c, r, w, sigma, lam: (
        predict_generalization(m, c, r, w, np.sqrt(sigma), lam)
    )
    integral: Callable[..., float] = lambda norms_N: np.pi / 2 * np.mean(norms_N)
    printed_kl_bound: Callable[..., float] = lambda x, std, width: np.pi / 2 * np.max(np.abs(x))
    kl_growth: Callable[..., np.ndarray] = lambda width: width**-2
    scale: Callable[..., np.ndarray] = column_scale
    half_decay_scale: Callable[..., np.ndarray] = lambda x, s, lam: column_scale(x, s, lam / 2)
    four_norm_scale: Callable[..., np.ndarray] = lambda x, s, lam: column_scale(
        x, s, lam, np.sum(x**4, axis=1)
    )
    score: Callable[..., np.ndarray] = score
    printed_score: Callable[..., np.ndarray] = lambda denoised, y, s: (y - denoised) / s**2


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
    pairs = zip(maps, s_NDD, strict=True)
    return float(np.mean([linear_test_loss(m_DD.T, s_DD, sigma) for m_DD, s_DD in pairs]))


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

    quantiles = norm.ppf((np.arange(64) + 0.5) / 64)[:, None]
    y = levels[0] * quantiles
    for net, following in pairwise(nets):  # Heun steps
        step, first = following.sigma - net.sigma, slope(y, net)
        y = y + step * (first + slope(y + step * first, following)) / 2
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


# --- checks: the measured and the predicted number, the errors, and a note -------------------


def measure_test_loss(experiment: Errata, formula, upper_bound: bool = False) -> tuple:
    """Test loss of the map of rank WIDTH fitted to samples, against a formula."""
    measured_S = np.array([fitted_loss(SPREAD, SPREAD_SIGMA, seed) for seed in experiment.seeds])
    predicted, right, printed = (
        f(SPREAD, (WIDTH,), SPREAD_SIGMA) for f in (formula, limit_test_loss, printed_test_loss)
    )
    excess_S = measured_S / predicted - 1
    best = _population(predict_generalization, SPREAD_SIGMA, 0.0, WIDTH)
    linear = linear_test_loss(best, SPREAD.covs[0], SPREAD_SIGMA)
    note = f"printed {printed:.4f}, (7) {right:.4f}; rank-{WIDTH} fit {measured_S.mean():.4f}"
    errors_S = np.maximum(excess_S, 0) if upper_bound else np.abs(excess_S)
    return measured_S.mean(), predicted, errors_S, f"{note}, exact loss of (6) {linear:.4f}"


def measure_test_loss_bound(experiment: Errata, formula) -> tuple:
    """The same, with the formula as an upper bound."""
    return measure_test_loss(experiment, formula, upper_bound=True)


def loss_ratios(experiment: Errata, formula) -> Float[np.ndarray, "S T"]:
    """Measured test loss over a formula's, on the flat cluster at RATIO_SIGMAS, for each seed."""
    predicted_T = np.array([formula(FLAT, (WIDTH,), sigma) for sigma in RATIO_SIGMAS])
    seeds = experiment.seeds
    return np.array([[fitted_loss(FLAT, s, k) for s in RATIO_SIGMAS] for k in seeds]) / predicted_T


def measure_ratio(experiment: Errata, formula) -> tuple:
    """Exponent of σ with which the measured test loss exceeds a formula."""
    ratios_ST = loss_ratios(experiment, formula)
    slopes_S = np.array([log_log_slope(RATIO_SIGMAS, ratios_T) for ratios_T in ratios_ST])
    ends = [*ratios_ST.mean(axis=0)[[0, -1]], *(1 + RATIO_SIGMAS[[0, -1]] ** -2)]
    note = "measured over printed {:.0f} at σ=.01, {:.1f} at σ=.1; 1+e/σ²: {:.0f}, {:.1f}".format(
        *ends
    )
    return slopes_S.mean(), -2.0, np.abs(slopes_S + 2), note


def _population(formula, sigma: float, lam: float, width: int) -> Float[np.ndarray, "D D"]:
    return formula(SPREAD.means, SPREAD.covs, SPREAD.priors, (width,), sigma, lam).operator(0)


def measure_blocks(experiment: Errata, formula) -> tuple:
    """Block operator by proximal gradient steps, against a formula."""
    errors = []
    for lam in (0.0, BLOCK_LAM):
        found = proximal_minimum(SPREAD.covs[0], BLOCK_SIGMA, lam)
        predicted, printed, right = (
            _population(f, BLOCK_SIGMA, lam, len(SPECTRUM))
            for f in (formula, Errata.printed_population, predict_generalization)
        )
        errors.append(np.linalg.norm(predicted - found) / np.linalg.norm(found))
    traces = [float(np.trace(m)) for m in (printed, right, found)]
    note = "sum of gains: σI {:.4f}, σ²I {:.4f}, proximal minimizer {:.4f}".format(*traces)
    return traces[-1], float(np.trace(predicted)), np.array([max(errors)]), note


def measure_integral(experiment: Errata, formula) -> tuple:
    """∫ L(σ)/σ² dσ by quadrature, against a formula of the norms."""
    x = experiment.stored
    norms_N = np.linalg.norm(x, axis=1)
    measured, net = (
        quad(lambda s, loss=loss: loss(x, s) / s**2, 0, np.inf)[0]
        for loss in (separate_maps_loss, stored_net_loss)
    )
    predicted = float(formula(norms_N))
    nodes, weights = np.polynomial.legendre.leggauss(16)  # of σ where the gates are certain
    partial_net, partial_maps = (
        weights @ [loss(x, s) / s**2 for s in STORED_SIGMA * (nodes + 1) / 2]
        for loss in (stored_net_loss, separate_maps_loss)
    )
    errors = [max(abs(predicted / measured - 1), abs(partial_net / partial_maps - 1))]
    bound = np.pi / 2 * norms_N.max()
    note = f"(π/2)max‖x‖ {bound:.4f}, (π/2)mean‖x‖ {np.pi / 2 * norms_N.mean():.4f}, "
    note += f"quadrature {measured:.4f}; with the net's gates {net:.3f}"
    return measured, predicted, np.array(errors), note


def measure_kl_bound(experiment: Errata, formula) -> tuple:
    """KL of the sampler's density in several units, against a bound."""
    kls, bounds = [], []
    for scale in SCALES:
        std, x_N1, width = sampled_gaussian(scale)[0], two_points(scale), SMOOTHING * scale
        kls.append(kl_to_smoothed(std, x_N1, width))
        bounds.append(float(formula(x_N1, std, width)))
    excess = max(max(kl / bound - 1, 0) for kl, bound in zip(kls, bounds, strict=True))
    note = f"KL {min(kls):.4f} … {max(kls):.4f} for data ×{SCALES[0]:g} … {SCALES[-1]:g}; "
    note += f"the bound goes {bounds[0]:.4f} … {bounds[-1]:.4f}"
    return kls[-1], bounds[-1], np.array([excess]), note


def measure_kl_atomic(experiment: Errata, formula) -> tuple:
    """Exponent of the smoothing width with which that KL grows."""
    std, x_N1 = sampled_gaussian(1.0)[0], two_points(1.0)
    kl_T = np.array([kl_to_smoothed(std, x_N1, width) for width in SMOOTHINGS])
    slope, predicted = (log_log_slope(SMOOTHINGS, y) for y in (kl_T, formula(SMOOTHINGS)))
    note = f"printed at most {np.pi / 2:.4f}; KL {kl_T[0]:.4g} at width {SMOOTHINGS[0]:g}, "
    note += f"{kl_T[-1]:.4g} at {SMOOTHINGS[-1]:g}; exponent"
    return slope, predicted, np.array([abs(slope - predicted)]), note


def measure_weights(experiment: Errata, formula) -> tuple:
    """Relative gradient norm of the exact loss at columns of given scales."""
    x_ND, rest = experiment.stored, (STORED_SIGMA, STORED_LAM)
    w_DN = (x_ND * np.sqrt(formula(x_ND, *rest))[:, None]).T
    gradient = np.linalg.norm(_loss_and_gradient(np.stack([w_DN, w_DN]), x_ND, *rest)[1])
    relative = float(gradient / np.mean(np.sum(x_ND**2, axis=1)))
    found = minimum_gains(x_ND, *rest).mean()
    right = np.mean(column_scale(x_ND, *rest) * np.sum(x_ND**2, axis=1))
    note = f"relative ‖∇L‖; mean gain {np.mean(np.sum(w_DN**2, axis=0)):.6f}, "
    note += f"by (5) {right:.6f}, at the minimum found {found:.6f}"
    return relative, 0.0, np.array([relative]), note


def measure_score(experiment: Errata, formula) -> tuple:
    """Score by finite differences, against a formula of E[x|y]."""
    y = MODES.sample(0, 200)[0]
    y = y + MODES_SIGMA * np.random.default_rng(1).standard_normal(y.shape)
    denoised = np.asarray(mixture_denoiser(MODES.means, MODES.covs, MODES.priors)(y, MODES_SIGMA))
    found, predicted = (
        score_by_differences(MODES, y, MODES_SIGMA),
        formula(denoised, y, MODES_SIGMA),
    )
    pull = (denoised - y) / MODES_SIGMA**2
    measured, claimed = (float(np.sum(s * pull) / np.sum(pull**2)) for s in (found, predicted))
    note = f"multiple of (E[x|y]−y)/σ²: printed −1, right +1, by differences {measured:+.6f}"
    return measured, claimed, np.array([relative_rms(predicted - found, found)]), note


def nothing(experiment: Errata) -> dict[str, Assumption]:
    """No assumption."""
    return {}


def separated(experiment: Errata) -> dict[str, Assumption]:
    """The stored samples' measured β and gate margin."""
    x_ND, labels_N = experiment.stored, np.arange(len(experiment.stored))
    beta = separability(x_ND, labels_N).beta
    z = gate_margin(x_ND.T, x_ND, labels_N, labels_N, STORED_SIGMA)
    return {
        "beta": Assumption(beta, "< 0", beta < 0),
        "gate margin z": Assumption(z, f">= {EXACT_MARGIN:g}", z >= EXACT_MARGIN),
    }


def gaussian_samples(experiment: Errata) -> dict[str, Assumption]:
    """How far the sampler's density is from a Gaussian, in every unit."""
    worst = max(sampled_gaussian(scale)[1] for scale in SCALES)
    return {"departure from a Gaussian": Assumption(worst, "<= 1e-9", worst <= 1e-9)}
