"""Which local minima does the objective have, and how often does a random start reach each?

`find_minimum` takes a net to a point of zero gradient without descending directions,
`classify_minimum` describes it by what no symmetry of the loss changes: the gates of its groups
of collinear units, its loss, and what its weights and its outputs store. `count_minima` counts
equal ones, so that basins of attraction become counts over random starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from dae_theory.checks import InputError, check_samples, check_weights
from dae_theory.relu.units import COLLINEAR_COSINE, collinear_groups, live_units
from dae_theory.solve.derivatives import expansion
from dae_theory.solve.local import solve_local_minima
from dae_theory.solve.newton import Solution
from dae_theory.solve.reduced import span_and_outside
from dae_theory.statistics import Interval, share_interval
from dae_theory.theory.closed_forms import Prediction, predict_memorization
from dae_theory.theory.separability import gate_pattern

KINDS = ("sparse", "split", "entangled", "forgetful")
GAIN_TOLERANCE = 0.01  # relative distance from the gain of (5) up to which a sample is stored
OUTPUT_TOLERANCE = 0.1  # relative distance of the output from the sample as (5) shrinks it
LOSS_TOLERANCE = 1e-6  # relative; minima with the same gates and losses this close are one
CURVATURE_TOLERANCE = 1e-7  # below minus this share of the largest |curvature| is a way down
PASSED_TOLERANCE = 2.0  # directions of noise that an output which memorizes lets pass, fewer than
NOISE_DRAWS = 1024
LARGEST_RELABELLING = 7  # samples whose permutations are all tried
_ROUNDING = 1e-12  # ‖w1‖‖w2‖ over the largest, of units that are taken for zero
_DESCENTS = 8
_STEPS = np.geomspace(1e-3, 1.0, 7)  # off a saddle, relative to ‖W‖
Gates = tuple[str, ...]


class Settled(NamedTuple):
    """A stationary point: weights (D, P) float64, ``loss``, ``grad_norm`` = ‖∇L‖_F, ``lowest``
    eigenvalue of the Hessian over non-zero units, and ``is_minimum``: the gradient is within the
    tolerance and no eigenvalue is below −CURVATURE_TOLERANCE of the largest."""

    w1: Float[np.ndarray, "D P"]
    w2: Float[np.ndarray, "D P"]
    loss: float
    grad_norm: float
    lowest: float
    is_minimum: bool


def find_minimum(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    tol: float = 1e-9,
) -> Settled:
    """The local minimum that `solve.solve_local_minimum` reaches from any start; where that stops
    at a saddle, the descent goes on from the lowest point along the most negative curvature.

    The Hessian is over the span of the samples and one direction orthogonal to it, which stands for
    all. At wide gate margins the weights are inside; W1 can leave the span where noise opens and
    closes gates (docs/THEORY.md#span), and ``lowest`` is then that of their part inside: ask
    `second_order`. A zero column stays zero; units that have shrunk to rounding have no part in
    the Hessian.

    Args:
      w1_DP, w2_DP: the start.
      tol: largest ‖∇L‖_F at a minimum, in units of the loss.

    Raises:
      InputError: for wrong shapes, NaN, σ ≤ 0, or λ ≤ 0.
    """
    return find_minima([w1_DP], [w2_DP], [x_ND], sigma, lam, tol)[0]


def find_minima(
    w1_BDP: Sequence[Float[Array, "D P"]],
    w2_BDP: Sequence[Float[Array, "D P"]],
    x_BND: Sequence[Float[Array, "N D"]],
    sigma: float,
    lam: float,
    tol: float = 1e-9,
) -> list[Settled]:
    """`find_minimum` from B starts, each on its own samples, that are solved side by side.

    Raises:
      InputError: for wrong shapes, NaN, σ ≤ 0, or λ ≤ 0.
    """
    if lam == 0:
        raise InputError("lam: must be > 0, or the weights need not lie in the span of the samples")
    starts = list(zip(w1_BDP, w2_BDP, strict=True))
    settled: dict[int, Settled] = {}
    stuck = range(len(starts))
    for _ in range(_DESCENTS):
        solutions = solve_local_minima(*zip(*starts, strict=True), x_BND, sigma, lam, tol)
        # What has settled makes way for zeros, with which the solver is done at once: a smaller
        # batch would be compiled for itself.
        starts = [np.zeros((2, *solution.w1.shape)) for solution in solutions]
        saddles = []
        for b in stuck:
            settled[b], lower = _look_down(solutions[b], x_BND[b], sigma, lam)
            if lower is not None:
                starts[b] = lower
                saddles.append(b)
        stuck = saddles
        if not stuck:
            break
    return [settled[b] for b in range(len(starts))]


def _look_down(solution: Solution, x_ND, sigma, lam) -> tuple[Settled, np.ndarray | None]:
    """A stationary point with its lowest curvature, and at a saddle the weights (2, D, P) from
    which to go on: the lowest point along that curvature."""
    x_ND = np.asarray(x_ND, float)
    basis_DR = span_and_outside(x_ND.T)
    problem = (x_ND @ basis_DR, np.full(len(x_ND), 1 / len(x_ND)), float(sigma), float(lam))
    here_2DP = np.stack([solution.w1, solution.w2])
    weights_2RP = np.einsum("dr,sdp->srp", basis_DR, here_2DP)
    with jax.enable_x64(True):
        lowest, largest, direction_2RP = _lowest_curvature(weights_2RP, problem)
        is_flat = lowest >= -CURVATURE_TOLERANCE * largest
        settled = Settled(*solution[:4], lowest, solution.converged and is_flat)
        if is_flat:
            return settled, None
        steps = np.linalg.norm(weights_2RP) * np.concatenate([-_STEPS, _STEPS])
        trials = [weights_2RP + step * direction_2RP for step in steps]
        lowest_2RP = min(trials, key=lambda trial: float(expansion(trial, *problem)[0]))
    return settled, np.einsum("dr,srp->sdp", basis_DR, lowest_2RP)


def _lowest_curvature(weights_2RP, problem) -> tuple[float, float, np.ndarray]:
    """Lowest eigenvalue, largest |eigenvalue| and eigenvector of the lowest, of the Hessian over
    units that are not zero but for rounding; 0 when there is none."""
    product_P = np.prod(np.linalg.norm(weights_2RP, axis=1), axis=0)
    free = np.broadcast_to(product_P > _ROUNDING * product_P.max(), weights_2RP.shape)
    direction = np.zeros(weights_2RP.shape)
    if not free.any():
        return 0.0, 0.0, direction
    hessian = np.asarray(expansion(weights_2RP, *problem)[2])
    values, vectors = np.linalg.eigh(hessian[np.ix_(free.ravel(), free.ravel())])
    direction[free] = vectors[:, 0]
    return float(values[0]), float(np.max(np.abs(values))), direction


@dataclass(frozen=True)
class Minimum:
    """One local minimum, up to permutation, rescaling and splitting of units. N samples.

    Attributes:
      kind: one of KINDS, by the gates of live units on clean samples, the first that applies:
        'forgetful' when some sample activates no unit; 'entangled' when some unit is active on
        several samples; 'split' when some sample activates several units, which at a minimum are
        collinear; 'sparse' otherwise: one unit for each sample.
      loss: value of objective (1).
      excess: (loss − loss of (5))/loss of (5).
      gates: sorted gate patterns of the groups of collinear units, a string of N digits for
        each; groups with the same gates occur once.
      cosines: (N,) for each sample the smaller of the cosines of W1 and of W2 with it, of the
        group of collinear units that is nearest to it; −1 when there is no live unit.
      gains: (N,) gain x̂ᵀ W2 W1ᵀ x̂ summed over that group.
      gain_errors: (N,) |gain − m|/m, with the gain m of (5).
      output_errors: (N,) root mean square over the noise of ‖f(x_i+σε) − m_i x_i‖/‖m_i x_i‖:
        the sample itself as (5) shrinks it. σ/‖x_i‖ for (5), where one direction of the noise
        passes, and σ√D/‖x_i‖ for the identity map.
      noise_passed: (N,) variance of the output over σ²: the directions of noise that pass, each
        weighted by its squared gain. m_i² for (5), N for the projection onto the span of the
        samples, D for the identity map.
    """

    kind: str
    loss: float
    excess: float
    gates: Gates
    cosines: Float[np.ndarray, " N"]
    gains: Float[np.ndarray, " N"]
    gain_errors: Float[np.ndarray, " N"]
    output_errors: Float[np.ndarray, " N"]
    noise_passed: Float[np.ndarray, " N"]

    @property
    def stored(self) -> np.ndarray:
        """(N,) samples that the weights store: a group of collinear units, its cosine with the
        sample above COLLINEAR_COSINE in W1 and in W2, and its gain that of (5)."""
        return (self.cosines > COLLINEAR_COSINE) & (self.gain_errors <= GAIN_TOLERANCE)

    @property
    def memorizes_weights(self) -> bool:
        """Every sample is stored in the weights."""
        return bool(np.all(self.stored))

    @property
    def memorizes_output(self) -> bool:
        """Every noised sample is mapped to within OUTPUT_TOLERANCE of the shrunk sample, and fewer
        than PASSED_TOLERANCE directions of the noise pass. The second tells a net that returns to
        the sample from one that keeps all that lies in the span of the samples, or everything."""
        near_N = self.output_errors <= OUTPUT_TOLERANCE
        return bool(np.all(near_N & (self.noise_passed < PASSED_TOLERANCE)))


class DistinctMinimum(NamedTuple):
    """Minima that are equal up to symmetry: the first of them, how many starts reached one, and
    their share of all starts (exact interval). A sparse and a split minimum can be equal, since
    splitting a unit is a symmetry."""

    minimum: Minimum
    count: int
    basin: Interval


class Census(NamedTuple):
    """``distinct`` minima by ascending loss; ``counts`` and ``shares`` of starts by kind (all
    KINDS), and under 'weights' and 'output' of the starts that memorize there."""

    distinct: tuple[DistinctMinimum, ...]
    counts: dict[str, int]
    shares: dict[str, Interval]


def classify_minimum(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    loss: float,
) -> Minimum:
    """Describe a local minimum of objective (1), such as `solve.solve_local_minimum` returns.

    Args:
      w1_DP, w2_DP, loss: the minimum.
      x_ND, sigma, lam: the problem it solves; every sample needs ‖x_i‖² > Nλ, or (5) drops it.

    Raises:
      InputError: for wrong shapes, NaN, σ ≤ 0, λ < 0, or a sample that (5) drops.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    prediction = predict_memorization(x_ND, sigma, lam)
    if not np.all(prediction.gains > 0):
        raise InputError(f"lam: N*lam = {len(x_ND) * lam:.4g} must be below every |x_i|^2")
    w1_DP, w2_DP = np.asarray(w1_DP, float), np.asarray(w2_DP, float)
    live_P = np.asarray(live_units(w1_DP, w2_DP))
    active_NP = gate_pattern(w1_DP, x_ND) & live_P
    groups_P = collinear_groups(w1_DP, w2_DP)
    cosines, gains = _nearest_groups(w1_DP, w2_DP, x_ND, groups_P)
    output_errors, noise_passed = _output_statistics(w1_DP, w2_DP, x_ND, prediction)
    return Minimum(
        kind=_kind(active_NP),
        loss=float(loss),
        excess=float(loss / prediction.loss - 1),
        gates=_group_gates(active_NP, groups_P),
        cosines=cosines,
        gains=gains,
        gain_errors=np.abs(gains / prediction.gains - 1),
        output_errors=output_errors,
        noise_passed=noise_passed,
    )


def _kind(active_NP: Bool[np.ndarray, "N P"]) -> str:
    if not np.all(active_NP.any(axis=1)):
        return "forgetful"
    if np.any(active_NP.sum(axis=0) > 1):
        return "entangled"
    return "split" if np.any(active_NP.sum(axis=1) > 1) else "sparse"


def _group_gates(active_NP: Bool[np.ndarray, "N P"], groups_P: np.ndarray) -> Gates:
    """Sorted gate patterns of the groups, each that of the group's first unit."""
    _, first = np.unique(groups_P, return_index=True)
    patterns = {active_NP[:, j].tobytes(): active_NP[:, j] for j in first if groups_P[j] >= 0}
    return tuple(sorted("".join("01"[int(on)] for on in p_N) for p_N in patterns.values()))


def _nearest_groups(w1_DP, w2_DP, x_ND, groups_P) -> tuple[np.ndarray, np.ndarray]:
    """(N,) cosine with each sample, the smaller of W1's and W2's, and gain along it, of the
    group of collinear units that is nearest to the sample."""
    n_groups = int(groups_P.max(initial=-1)) + 1
    if n_groups == 0:
        return np.full(len(x_ND), -1.0), np.zeros(len(x_ND))
    direction_ND = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    cosine_NG, gain_NG = np.empty((len(x_ND), n_groups)), np.empty((len(x_ND), n_groups))
    for g in range(n_groups):
        w1, w2 = w1_DP[:, groups_P == g], w2_DP[:, groups_P == g]
        cosine_NU = np.minimum(*(direction_ND @ (w / np.linalg.norm(w, axis=0)) for w in (w1, w2)))
        cosine_NG[:, g] = cosine_NU.min(axis=1)
        gain_NG[:, g] = np.sum((direction_ND @ w1) * (direction_ND @ w2), axis=1)
    rows, nearest_N = np.arange(len(x_ND)), cosine_NG.argmax(axis=1)
    return cosine_NG[rows, nearest_N], gain_NG[rows, nearest_N]


def _output_statistics(w1_DP, w2_DP, x_ND, prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    """(N,) relative distance to the shrunk sample and variance over σ², over NOISE_DRAWS."""
    noise_MND = np.random.default_rng(0).standard_normal((NOISE_DRAWS, *x_ND.shape))
    y_MND = x_ND + prediction.sigma * noise_MND
    output_MND = np.maximum(y_MND @ w1_DP, 0) @ w2_DP.T
    target_ND = prediction.gains[:, None] * x_ND
    square_N = np.mean(np.sum((output_MND - target_ND) ** 2, axis=-1), axis=0)
    variance_N = np.sum(np.var(output_MND, axis=0), axis=-1)
    return np.sqrt(square_N) / np.linalg.norm(target_ND, axis=1), variance_N / prediction.sigma**2


def count_minima(minima: Sequence[Minimum], interchangeable: bool = False) -> Census:
    """Count equal minima, and the shares of each kind.

    Minima are equal when their gates are and their losses agree to LOSS_TOLERANCE.

    Args:
      minima: of one problem; nets of different width may be counted together.
      interchangeable: a permutation of the samples maps the data to a rotation of itself, as for
        equiangular samples of equal norm; then minima that differ by it are equal.

    Raises:
      InputError: for no minima, or too many interchangeable samples.
    """
    if not minima:
        raise InputError("minima: need at least one")
    ordered = sorted(minima, key=lambda minimum: minimum.loss)
    found: list[list[Minimum]] = []
    last_of: dict[Gates, int] = {}
    for minimum in ordered:
        gates = _relabelled(minimum.gates) if interchangeable else minimum.gates
        index = last_of.get(gates)
        if index is None or minimum.loss > found[index][-1].loss * (1 + LOSS_TOLERANCE):
            last_of[gates] = index = len(found)
            found.append([])
        found[index].append(minimum)
    total = len(minima)
    counts = {kind: sum(minimum.kind == kind for minimum in minima) for kind in KINDS}
    counts["weights"] = sum(minimum.memorizes_weights for minimum in minima)
    counts["output"] = sum(minimum.memorizes_output for minimum in minima)
    return Census(
        tuple(
            DistinctMinimum(equal[0], len(equal), share_interval(len(equal), total))
            for equal in found
        ),
        counts,
        {name: share_interval(count, total) for name, count in counts.items()},
    )


@lru_cache(maxsize=4096)
def _relabelled(gates: Gates) -> Gates:
    """The first in order of the gates under all permutations of the samples."""
    n = len(gates[0]) if gates else 0
    if n > LARGEST_RELABELLING:
        raise InputError(
            f"minima: {n} interchangeable samples are too many, at most {LARGEST_RELABELLING}"
        )
    return min(
        tuple(sorted("".join(pattern[i] for i in order) for pattern in gates))
        for order in permutations(range(n))
    )
