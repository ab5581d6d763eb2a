"""Corollary 3.2 on a few stored samples: the integral of its loss over σ, and its column scales.

Measured by normal equations, quadrature and a numerical minimizer, which use no formula under test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import jax
import numpy as np
import scipy.optimize
from jaxtyping import Float
from scipy.integrate import quad

from dae_theory.data.mixtures import simplex
from dae_theory.relu.loss import exact_loss
from dae_theory.theory.closed_forms import block_gains, linear_test_loss, predict_memorization
from dae_theory.theory.separability import gate_margin, separability
from proofs_checks.claims import ACCURACY, Claim, Kind, Measured, Verdict, at_least, below
from proofs_checks.monte_carlo import EXACT_MARGIN
from proofs_checks.mutants import instead, misprint

N, D = 4, 16
SIGMA, LAM = 0.04, 0.01

# --- formulas ------------------------------------------------------------------------------------


def integral_of_norms(norms_N: Float[np.ndarray, " N"]) -> float:
    """(π/2) mean‖x‖ (docs/THEORY.md#integral-identity)."""
    return np.pi / 2 * float(np.mean(norms_N))


def column_scale(
    x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float
) -> Float[np.ndarray, " N"]:
    """r² = (‖x‖²−nλ)/(‖x‖⁴+σ²‖x‖²) of the columns r x in (5) (docs/THEORY.md#eq-5)."""
    square_N = np.sum(x_ND**2, axis=1)
    return block_gains(square_N, len(x_ND) * lam, sigma**2) / square_N


def half_decay_scale(
    x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float
) -> Float[np.ndarray, " N"]:
    """A variant: nλ/2 for nλ."""
    return column_scale(x_ND, sigma, lam / 2)


def four_norm_scale(
    x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float
) -> Float[np.ndarray, " N"]:
    """A variant: ‖x‖₄⁴, the sum of fourth powers, for ‖x‖⁴."""
    square_N = np.sum(x_ND**2, axis=1)
    return (square_N - len(x_ND) * lam) / (np.sum(x_ND**4, axis=1) + sigma**2 * square_N)


def square_norm_scale(
    x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float
) -> Float[np.ndarray, " N"]:
    """Another: ‖x‖² for ‖x‖⁴."""
    square_N = np.sum(x_ND**2, axis=1)
    return (square_N - len(x_ND) * lam) / (square_N + sigma**2 * square_N)


# --- measurements --------------------------------------------------------------------------------

_loss_and_gradient = jax.jit(jax.value_and_grad(lambda w, *rest: exact_loss(w[0], w[1], *rest)))


def separate_maps_loss(x_ND: Float[np.ndarray, "N D"], sigma: float) -> float:
    """Mean over samples of min over M of ‖Mx−x‖² + σ²‖M‖², by its normal equations."""
    s_NDD = x_ND[:, :, None] * x_ND[:, None, :]
    maps = np.linalg.solve(s_NDD + sigma**2 * np.eye(x_ND.shape[1]), s_NDD)
    pairs = zip(maps, s_NDD, strict=True)
    return float(np.mean([linear_test_loss(m_DD.T, s_DD, sigma) for m_DD, s_DD in pairs]))


def stored_net_loss(x_ND: Float[np.ndarray, "N D"], sigma: float) -> float:
    """Exact loss of the net (5), gates included, without decay."""
    net = predict_memorization(x_ND, sigma, 0.0)
    return float(_loss_and_gradient(np.stack([net.w1, net.w2]), x_ND, sigma, 0.0)[0])


def minimum_gains(
    x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float
) -> Float[np.ndarray, " N"]:
    """Gains w2ᵀw1 at the minimum that BFGS reaches from noised samples as columns."""
    shape = (2, *x_ND.T.shape)
    start = x_ND.T + 0.05 * np.random.default_rng(0).standard_normal(shape)

    def objective(w):
        loss, gradient = _loss_and_gradient(w.reshape(shape), x_ND, sigma, lam)
        return float(loss), np.asarray(gradient).ravel()

    found = scipy.optimize.minimize(objective, start.ravel(), jac=True, tol=1e-14)
    return np.sum(np.prod(found.x.reshape(shape), axis=0), axis=0)


def simplex_of_several_norms() -> Float[np.ndarray, "N D"]:
    """Simplex directions, so that the norms alone differ."""
    radii_N = np.random.default_rng(0).uniform(0.8, 1.5, N)
    return radii_N[:, None] * simplex(N, D).x


@dataclass(frozen=True)
class StoredSamples:
    """Samples x (N, D), with what is measured on them once."""

    x: Float[np.ndarray, "N D"] = field(default_factory=simplex_of_several_norms)

    @cached_property
    def beta(self) -> float:
        """Largest cosine between two samples."""
        return separability(self.x, np.arange(len(self.x))).beta

    @cached_property
    def z(self) -> float:
        """Gate margin of the samples as columns."""
        labels_N = np.arange(len(self.x))
        return gate_margin(self.x.T, self.x, labels_N, labels_N, SIGMA)

    @cached_property
    def integral(self) -> float:
        """∫ L(σ)/σ² dσ by quadrature, L the loss of a linear map for each sample."""
        return quad(lambda s: separate_maps_loss(self.x, s) / s**2, 0, np.inf)[0]

    @cached_property
    def net_integral(self) -> float:
        """The same, L the loss of the net with its gates."""
        return quad(lambda s: stored_net_loss(self.x, s) / s**2, 0, np.inf)[0]

    @cached_property
    def error_of_gates(self) -> float:
        """Relative difference of the two up to SIGMA, where gates are certain."""
        nodes, weights = np.polynomial.legendre.leggauss(16)
        net, maps = (
            weights @ [loss(self.x, s) / s**2 for s in SIGMA * (nodes + 1) / 2]
            for loss in (stored_net_loss, separate_maps_loss)
        )
        return float(abs(net / maps - 1))

    @cached_property
    def minimum_gain(self) -> float:
        """Mean gain at the minimum found from noised samples."""
        return float(minimum_gains(self.x, SIGMA, LAM).mean())


@dataclass(frozen=True)
class Storage:
    """Stored samples, and the formulas under test."""

    samples: StoredSamples = field(default_factory=StoredSamples)
    integral: Callable[..., float] = integral_of_norms
    scale: Callable[..., np.ndarray] = column_scale
    half_decay: Callable[..., np.ndarray] = half_decay_scale
    four_norm: Callable[..., np.ndarray] = four_norm_scale


def integral(e: Storage) -> Measured:
    """∫ L(σ)/σ² dσ by quadrature, against a formula of the norms."""
    samples = e.samples
    norms_N = np.linalg.norm(samples.x, axis=1)
    predicted = float(e.integral(norms_N))
    return Measured(
        samples.integral,
        predicted,
        np.array([max(abs(predicted / samples.integral - 1), samples.error_of_gates)]),
        note=f"(π/2)max‖x‖ {np.pi / 2 * norms_N.max():.4f}, "
        f"(π/2)mean‖x‖ {integral_of_norms(norms_N):.4f}, "
        f"quadrature {samples.integral:.4f}; with the net's gates {samples.net_integral:.3f}",
    )


def stationary_at(tested: str) -> Callable[[Storage], Measured]:
    """Relative gradient norm of the exact loss at columns of the scales in a field."""

    def measure(e: Storage) -> Measured:
        x_ND = e.samples.x
        square_N = np.sum(x_ND**2, axis=1)
        w_DN = (x_ND * np.sqrt(getattr(e, tested)(x_ND, SIGMA, LAM))[:, None]).T
        gradient = _loss_and_gradient(np.stack([w_DN, w_DN]), x_ND, SIGMA, LAM)[1]
        relative = float(np.linalg.norm(gradient) / np.mean(square_N))
        right = np.mean(column_scale(x_ND, SIGMA, LAM) * square_N)
        return Measured(
            relative,
            0.0,
            np.array([relative]),
            note=f"relative ‖∇L‖; mean gain {np.mean(np.sum(w_DN**2, axis=0)):.6f}, "
            f"by (5) {right:.6f}, at the minimum found {e.samples.minimum_gain:.6f}",
        )

    return measure


SEPARATED = (
    below("beta", 0, lambda e: e.samples.beta),
    at_least("gate margin z", EXACT_MARGIN, lambda e: e.samples.z),
)

CLAIMS = (
    Claim(
        id="errata/integral",
        statement="∫ L(σ)/σ² dσ over all σ > 0 is (π/2) mean‖x‖, L the loss of Corollary 3.2 at "
        "λ = 0.",
        source="docs/THEORY.md#integral-identity",
        part="storage",
        requires=SEPARATED,
        measure=integral,
        tolerance=1e-6,
        origin=ACCURACY,
        mutants=(
            instead("max for mean", "integral", lambda norms_N: np.pi / 2 * np.max(norms_N)),
            instead("π for π/2", "integral", lambda norms_N: np.pi * np.mean(norms_N)),
        ),
        kind=Kind.EXACT,
    ),
    Claim(
        id="errata/weights",
        statement="Column scales r² = (‖x‖²−nλ)/(‖x‖⁴+σ²‖x‖²) are stationary, whatever the norms.",
        source="docs/THEORY.md#eq-5",
        part="storage",
        requires=SEPARATED,
        measure=stationary_at("scale"),
        tolerance=1e-8,
        mutants=(
            instead("nλ/2 for nλ", "scale", half_decay_scale),
            instead("‖x‖₄⁴ for ‖x‖⁴", "scale", four_norm_scale),
            misprint("σ for σ²", "scale", sigma=np.sqrt),
        ),
        kind=Kind.EXACT,
    ),
    Claim(
        id="errata/lambda-half",
        statement="A variant: they are with nλ/2 in place of nλ.",
        source="docs/THEORY.md#errata",
        part="storage",
        requires=SEPARATED,
        measure=stationary_at("half_decay"),
        tolerance=1e-8,
        mutants=(misprint("2nλ for nλ", "half_decay", lam=lambda lam: 4 * lam),),
        kind=Kind.EXACT,
        expected=Verdict.FAILS,
    ),
    Claim(
        id="errata/norm-four",
        statement="A variant: they are with ‖x‖₄⁴, the sum of fourth powers, in place of ‖x‖⁴.",
        source="docs/THEORY.md#errata",
        part="storage",
        requires=SEPARATED,
        measure=stationary_at("four_norm"),
        tolerance=1e-8,
        mutants=(instead("‖x‖² for ‖x‖⁴", "four_norm", square_norm_scale),),
        kind=Kind.EXACT,
        expected=Verdict.FAILS,
    ),
)
