"""Where steering takes a sample: the flow of a steered net, in closed form between gates.

See docs/THEORY.md#steering. A net f(y) = W2 [W1ᵀy]_+ at a predicted minimizer is asked for
W2 (h + a v) instead, v the mean representation of a concept, whose mean sample is x̄: while gates
stay, this adds a M x̄ to the output, M = U diag(m) Uᵀ, and each direction of the flow
dy/dlog σ = y − f(y) − a W2 v moves by itself. Noise levels have the units of the data.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.optimize import brentq

from dae_theory.checks import InputError, check_samples

NODES, WEIGHTS = np.polynomial.legendre.leggauss(10)
PANEL = 0.25  # of log σ, on which ten nodes integrate to rounding
STEP = 0.1  # of log σ, between looks at the gates
CROSSING = 1e-7  # of log σ; a unit adds nothing at its gate, so that errors there are squared
EQUAL = 1e-6  # relative difference up to which norms count as equal


class Window(NamedTuple):
    """Noise levels from ``high`` down to ``low`` > 0, at which the net is steered."""

    high: float
    low: float


class Levels(NamedTuple):
    """The flow runs from ``sigma_max`` down to ``sigma_min`` > 0; ``window`` None is all of it."""

    sigma_max: float
    sigma_min: float
    window: Window | None = None

    @property
    def steered(self) -> Window:
        """The window."""
        return Window(self.sigma_max, self.sigma_min) if self.window is None else self.window


def check_levels(levels: Levels) -> None:
    """Raise InputError unless σ_max ≥ high > low ≥ σ_min > 0."""
    high, low = levels.steered
    if not np.inf > levels.sigma_max >= high > low >= levels.sigma_min > 0:
        raise InputError(
            "levels: expected sigma_max >= window.high > window.low >= sigma_min > 0, got "
            f"{levels.sigma_max:g}, {high:g}, {low:g}, {levels.sigma_min:g}"
        )


def growth(
    sigma: Float[Array, "..."], eigenvalue: Float[Array, "..."], share: Float[Array, "..."]
) -> Float[np.ndarray, "..."]:
    """G(σ) = σ^(1−g) (e + σ²)^(g/2): what the unsteered flow multiplies a direction by.

    Of gain g e/(e + σ²): ``share`` g is (e − ℓ)/e for a kept direction with decay ℓ, 0 for one that
    no open gate sees, and times 1 ± c for the sum and the difference of two images.
    """
    return sigma ** (1 - share) * (eigenvalue + sigma**2) ** (share / 2)


def steering_rate(
    eigenvalues_R: Float[Array, " R"], levels: Levels, decay: float = 0.0
) -> Float[np.ndarray, " R"]:
    """κ: how far y(σ_min) moves along u_j for each unit of a·u_jᵀx̄, while no gate changes.

    κ = G(σ_min) ∫ m/G dlog σ over the window, m = (e − ℓ)/(e + σ²): each e-fold of noise far below
    √e moves the sample by a·u_jᵀx̄, those far above it do nothing.

    Args:
      eigenvalues_R: e > 0 of the cluster's second moment, s_j/n_k.
      levels: of the flow.
      decay: ℓ = nλ/n_k ≥ 0; directions with e ≤ ℓ are dropped and do not move.

    Raises:
      InputError: for unusable levels, eigenvalues or decay.
    """
    e_R = np.asarray(eigenvalues_R, float)
    check_levels(levels)
    if not (np.all(e_R > 0) and np.all(np.isfinite(e_R)) and 0 <= decay < np.inf):
        raise InputError("eigenvalues and decay: must be finite, > 0 and >= 0")
    share_R = (e_R - decay).clip(0.0) / e_R
    high, low = levels.steered
    return growth(levels.sigma_min, e_R, share_R) * _forcing(e_R, share_R, share_R, high, low)


def steer_block(
    start_ND: Float[Array, "N D"],
    concept_D: Float[Array, " D"],
    directions_DR: Float[Array, "D R"],
    eigenvalues_R: Float[Array, " R"],
    levels: Levels,
    decay: float = 0.0,
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, " D"]]:
    """End of the flow inside one block, linear in the strength a: y(σ_min) = base + a slope.

    Args:
      start_ND: noisy samples at σ_max whose gates are those of the block, all the way.
      concept_D: x̄, mean of the samples of the cluster that v was made of.
      directions_DR, eigenvalues_R: that the block keeps, equation (2); e_j = s_j/n_k.
      levels, decay: as in `steering_rate`.

    Raises:
      InputError: as `steering_rate`; for starts that are no rows of the directions' size.
    """
    start_ND, u_DR = check_samples(start_ND, "start"), np.asarray(directions_DR, float)
    e_R = np.asarray(eigenvalues_R, float)
    if start_ND.shape[1] != len(u_DR) or np.shape(concept_D) != u_DR.shape[:1]:
        raise InputError(
            f"start and concept: expected {len(u_DR)} numbers each, as the directions have"
        )
    rate_R = steering_rate(e_R, levels, decay)
    share_R = (e_R - decay).clip(0.0) / e_R
    kept_R = growth(levels.sigma_min, e_R, share_R) / growth(levels.sigma_max, e_R, share_R)
    falls = levels.sigma_min / levels.sigma_max  # where the block keeps nothing
    base_ND = falls * start_ND + (start_ND @ u_DR * (kept_R - falls)) @ u_DR.T
    return base_ND, u_DR @ (rate_R * (u_DR.T @ np.asarray(concept_D, float)))


def steer_stored(
    x_ND: Float[Array, "N D"],
    target: int,
    start_MD: Float[Array, "M D"],
    strengths_A: Float[Array, " A"],
    levels: Levels,
    decay: float = 0.0,
) -> Float[np.ndarray, "A M D"]:
    """End of the flow of the net that stores N samples of equal norm, (5) at every σ, steered
    towards one of them.

    Between two changes of gates the flow is linear, with as many scalar modes as the open samples
    span; gates open and close where a pre-activation passes 0.

    Args:
      x_ND: stored samples, all of one norm.
      target: which of them v is the representation of.
      start_MD: noisy samples at σ_max.
      strengths_A: a, of either sign.
      levels: of the flow.
      decay: nλ ≥ 0, below ‖x‖².

    Raises:
      InputError: for unusable levels, target or starts, samples of different norms, or decay that
        stores nothing.
    """
    x_ND, start_MD = check_samples(x_ND), check_samples(start_MD, "start")
    check_levels(levels)
    if not 0 <= target < len(x_ND):
        raise InputError(f"target: expected 0 ... {len(x_ND) - 1}, got {target}")
    if start_MD.shape[1] != x_ND.shape[1]:
        raise InputError(
            f"start: rows must have {x_ND.shape[1]} numbers, as samples have, got {start_MD.shape}"
        )
    norms_N = np.linalg.norm(x_ND, axis=1)
    if np.ptp(norms_N) > EQUAL * norms_N[0]:
        raise InputError("x: the flow has a closed form for samples of equal norm only")
    if not 0 <= decay < norms_N[0] ** 2:
        raise InputError(f"decay: must be below ‖x‖² = {norms_N[0] ** 2:g}, got {decay:g}")
    # The flow outside of the samples' span is not steered and falls like σ.
    basis_DS, triangle_SN = np.linalg.qr(x_ND.T)
    flow = _Flow(triangle_SN.T / norms_N[0], norms_N[0], target, 1 - decay / norms_N[0] ** 2)
    strengths_B = np.repeat(np.asarray(strengths_A, float), len(start_MD))
    inside_BS = np.tile(start_MD @ basis_DS, (len(strengths_A), 1))
    ends_BS = flow.followed(inside_BS, strengths_B, levels)
    outside_MD = start_MD - start_MD @ basis_DS @ basis_DS.T
    ends_AMS = ends_BS.reshape(len(strengths_A), len(start_MD), -1)
    return ends_AMS @ basis_DS.T + outside_MD * (levels.sigma_min / levels.sigma_max)


@dataclass(frozen=True)
class _Flow:
    """The steered flow of stored samples in coordinates of their span.

    ``units`` (N, S) are their directions, ``share`` that of their gains; rows B are samples, each
    with a strength of its own.
    """

    units: Float[np.ndarray, "N S"]
    norm: float
    target: int
    share: float

    def followed(self, y_BS, strengths_B, levels: Levels) -> Float[np.ndarray, "B S"]:
        """From σ_max to σ_min; the window's ends are among the levels at which gates are seen."""
        open_BN = y_BS @ self.units.T > 0
        for sigma, following, steered in _steps(levels):
            force_B = strengths_B * steered
            ends_BS = np.empty_like(y_BS)
            for gates_N, rows in _groups(open_BN):
                modes = self.modes(gates_N)
                ends_BS[rows] = self.moved(y_BS[rows], force_B[rows], modes, sigma, following)
            changed_B = np.any((ends_BS @ self.units.T > 0) != open_BN, axis=1)
            for row in np.flatnonzero(changed_B):
                ends_BS[row], open_BN[row] = self.through_gates(
                    y_BS[row], force_B[row], open_BN[row], sigma, following
                )
            y_BS = ends_BS
        return y_BS

    def modes(self, gates_N: Bool[np.ndarray, " N"]):
        """Eigenvalues and eigenvectors of the units whose gates are open."""
        open_NS = self.units[gates_N]
        return np.linalg.eigh(open_NS.T @ open_NS)

    def moved(self, y_BS, force_B, modes, sigma, following):
        """From one level to a lower one while the gates, and so the modes, stay."""
        values_S, modes_SS = modes
        share_S, e = self.share * values_S.clip(0.0), self.norm**2
        before_S, after_S = (growth(level, e, share_S) for level in (sigma, following))
        pushed_S = after_S * _forcing(e, self.share, share_S, sigma, following)
        push_S = self.norm * (self.units[self.target] @ modes_SS) * pushed_S
        return (y_BS @ modes_SS * (after_S / before_S) + force_B[:, None] * push_S) @ modes_SS.T

    def through_gates(self, y_S, force, gates_N, sigma, following):
        """The same for one sample, whose gates change on the way."""
        gates_N = gates_N.copy()
        modes = self.modes(gates_N)
        for _ in range(4 * len(gates_N)):  # two samples touch a gate together at most

            def seen(level, modes=modes, y_S=y_S, sigma=sigma):
                end_BS = self.moved(y_S[None], np.array([force]), modes, sigma, level)
                return end_BS[0] @ self.units.T

            end_N = seen(following)
            wrong = np.flatnonzero((end_N > 0) != gates_N)
            if not len(wrong):
                break
            crossings = [self._crossing(seen, n, sigma, following) for n in wrong]
            first = int(np.argmax(crossings))
            level = crossings[first]
            y_S = self.moved(y_S[None], np.array([force]), modes, sigma, level)[0]
            gates_N[wrong[first]] = ~gates_N[wrong[first]]
            modes, sigma = self.modes(gates_N), level
        return self.moved(y_S[None], np.array([force]), modes, sigma, following)[0], gates_N

    @staticmethod
    def _crossing(seen, n: int, sigma: float, following: float) -> float:
        """The level at which gate n changes; the first one where it has just been passed."""
        begin, end = seen(sigma)[n], seen(following)[n]
        if begin * end >= 0:
            return sigma
        ends = np.log((following, sigma))
        return float(np.exp(brentq(lambda x: seen(np.exp(x))[n], *ends, xtol=CROSSING)))


def _steps(levels: Levels):
    """(σ, next σ, whether it is steered) of short steps, none across an end of the window."""
    ends = [levels.sigma_max, *levels.steered, levels.sigma_min]
    for high, low, steered in zip(ends, ends[1:], (0.0, 1.0, 0.0), strict=False):
        if high > low:
            count = int(np.ceil(np.log(high / low) / STEP))
            grid_T = np.geomspace(high, low, count + 1)
            yield from zip(grid_T[:-1], grid_T[1:], [steered] * count, strict=True)


def _groups(open_BN: Bool[np.ndarray, "B N"]):
    """(gates, rows) of samples with equal gates."""
    kinds_KN, kind_B = np.unique(open_BN, axis=0, return_inverse=True)
    for kind, gates_N in enumerate(kinds_KN):
        yield gates_N, np.flatnonzero(kind_B.ravel() == kind)


def _forcing(eigenvalue, share, mode_share, high: float, low: float) -> np.ndarray:
    """∫ m/G dlog σ from ``low`` to ``high``: m of ``share``, G of ``mode_share``."""
    edges = np.linspace(np.log(low), np.log(high), int(np.ceil(np.log(high / low) / PANEL)) + 1)
    half = np.diff(edges)[:, None] / 2
    sigma_T = np.exp(edges[:-1, None] + half * (1 + NODES)).ravel()
    weight_T = (half * WEIGHTS).ravel()
    e, g, mode_g = (np.asarray(a, float)[..., None] for a in (eigenvalue, share, mode_share))
    gain_T = g * e / (e + sigma_T**2)
    return np.sum(weight_T * gain_T / growth(sigma_T, e, mode_g), axis=-1)


def switch_strength(cosine: float, e_folds: float) -> float:
    """a at which a stored sample of norm 1, steered towards another at cosine c < 0, ends halfway.

    Far below the norm, with gains of 1, over ``e_folds`` T = log(high/low) of noise and with the
    steering on to the end: gate 2 opens after τ, a (c²τ + (1−c²)(1−e^−τ)) = |c|, and the two
    samples are even when e^(|c|(T−τ)) (|c| + (1−|c|) e^−τ) = 1. 1/T as c → 0: a superposition.

    Raises:
      InputError: unless −1 < c < 0 and T > 0.
    """
    if not (-1 < cosine < 0 and 0 < e_folds < np.inf):
        raise InputError(
            f"cosine and e_folds: expected -1 < c < 0 and T > 0, got {cosine:g} and {e_folds:g}"
        )
    c = abs(cosine)
    opening = brentq(lambda t: c * (e_folds - t) + np.log(c + (1 - c) * np.exp(-t)), 0.0, e_folds)
    return float(c / (c**2 * opening - (1 - c**2) * np.expm1(-opening)))
