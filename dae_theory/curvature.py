"""Second derivatives of the exact objective: is a stationary point a minimum? (THEORY.md §8)

`predict_curvature` is the closed form for frozen gates, `hessian_spectrum` all eigenvalues of the
exact Hessian, and `second_order` a verdict from the lowest eigenvalue orthogonal to the symmetry.
Units that are zero columns are left out: the loss has a kink there, and `dead_units` judges them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jaxtyping import Array, Bool, Float, Int

from dae_theory.errors import InputError, check_noise_and_decay, check_samples, check_weights
from dae_theory.loss import exact_loss
from dae_theory.solve import Solution, hessian_product, span_and_outside
from dae_theory.symmetry import gate_groups, rotation_directions
from dae_theory.theory import Prediction

LARGEST_DENSE = 4000  # entries of the weights up to which all eigenvalues are computed
STATIONARY = 1e-3  # largest Newton step, relative to ‖W‖, from a point that counts as stationary
_BATCH = 32  # columns of the Hessian computed at a time, fewer where N·P² of each is large
_BATCH_ENTRIES = 10_000_000  # of the pair moments of a batch
_LANCZOS_VECTORS, _LANCZOS_RESTARTS = 100, 50
_LANCZOS_TOLERANCE = 1e-8  # of eigenvalues, relative to the largest one
_NEWTON_STEPS, _DAMPING = 30, 0.5 ** np.arange(8)
_ROUNDING = 100  # gradient that counts as zero, in units of eps ‖W‖ ‖H‖_F
_STEPS = np.geomspace(1e-4, 1.0, 25)  # along a descent direction, relative to ‖W‖


class Spectrum(NamedTuple):
    """Eigenvalues of a Hessian with multiplicities, ascending, and how many units it is over."""

    values: Float[np.ndarray, " E"]
    multiplicities: Int[np.ndarray, " E"]

    def sorted_values(self) -> Float[np.ndarray, " 2DP"]:
        """All 2·D·P eigenvalues, ascending."""
        return np.sort(np.repeat(self.values, self.multiplicities))

    def count_below(self, threshold: float) -> int:
        """Number of eigenvalues of modulus at most ``threshold``."""
        return int(np.sum(self.multiplicities[np.abs(self.values) <= threshold]))


class SecondOrder(NamedTuple):
    """Verdict on a stationary point.

    ``verdict``: 'minimum' (strict, modulo symmetry), 'saddle', or 'undecided' (not stationary,
    or the lowest eigenvalue is within its error of zero); ``lowest``: smallest eigenvalue
    orthogonal to the symmetry directions, and ``direction`` (2, D, P) its unit eigenvector, NaN
    where the iterations for them did not converge;
    ``symmetry`` (M,): eigenvalues of the Hessian compressed to the symmetry directions,
    ascending; ``grad_norm``; ``loss_drop``: largest decrease of the loss found along ±direction,
    0 unless a saddle.
    """

    verdict: str
    lowest: float
    direction: Float[np.ndarray, "2 D P"]
    symmetry: Float[np.ndarray, " M"]
    grad_norm: float
    loss_drop: float


def predict_curvature(prediction: Prediction, x_ND: Float[Array, "N D"]) -> Spectrum:
    """Hessian eigenvalues at a block minimizer (4) whose gates are frozen. [derived]

    In the eigenbasis of X_kX_kᵀ (eigenvalues s_i; t_i = s_i + n_kσ²; m_i = a_i² the gains, r of
    them positive) the second variation in (α, β) = (δW1, δW2) of block k is

      Σ_il (t_i/n)(α_il a_l + a_i β_li)² + Σ_ij [λ(α_ij² + β_ij²) − 2κ_i α_ij β_ij],

    κ_i = λ for a kept direction and s_i/n for others. It splits into blocks of four variables
    (i ≠ l both kept: one zero each, a rotation), of two (i kept or not, j > r: zeros 2(λ−κ_i),
    splittings) and so on. Units of zero gain are left out. Independent of `loss.exact_loss`.

    Raises:
      InputError: for a prediction of the population limit, which has no samples.
    """
    x_ND = check_samples(x_ND)
    if prediction.labels is None:
        raise InputError("prediction: must be made for samples, not for the population limit")
    n, d = x_ND.shape
    lam, values, counts = prediction.lam, [], []

    def add(matrix, multiplicity=1):
        eigenvalues = np.linalg.eigvalsh(2 * np.atleast_2d(matrix))
        values.extend(eigenvalues)
        counts.extend([multiplicity] * len(eigenvalues))

    for k, (u_DR, gains) in enumerate(zip(prediction.directions, prediction.gains, strict=True)):
        width = int(np.sum(prediction.blocks == k))
        members_ND = x_ND[prediction.labels == k]
        gains = np.atleast_1d(gains)
        kept = np.flatnonzero(gains > 0)
        if width == 0:
            continue
        m = gains[kept]
        s = np.sum((members_ND @ u_DR[:, kept]) ** 2, axis=0)
        rest_ND = members_ND - members_ND @ u_DR[:, kept] @ u_DR[:, kept].T
        s_rest = np.linalg.svd(rest_ND, compute_uv=False)[: d - len(kept)] ** 2
        noise = len(members_ND) * prediction.sigma**2
        t = (s + noise) / n
        for i in range(len(kept)):
            for j in range(i):
                a, b = np.sqrt(m[i]), np.sqrt(m[j])
                # variables α_ij, α_ji, β_ij, β_ji
                cross = t[i] * np.outer([b, 0, 0, a], [b, 0, 0, a])
                cross += t[j] * np.outer([0, a, b, 0], [0, a, b, 0])
                add(cross + lam * np.kron([[1, -1], [-1, 1]], np.eye(2)))
            add(t[i] * m[i] * np.ones((2, 2)) + lam * np.array([[1, -1], [-1, 1]]))
            add(lam * np.array([[1, -1], [-1, 1]]), width - len(kept))
        for s_i, multiplicity in [
            *((value, 1) for value in s_rest),
            (0.0, d - len(kept) - len(s_rest)),
        ]:
            coupling = np.array([[lam, -s_i / n], [-s_i / n, lam]])
            add(coupling, multiplicity * (width - len(kept)))
            for m_l, t_l in zip(m, t, strict=True):
                add(coupling + m_l * np.diag([(s_i + noise) / n, t_l]), multiplicity)
    values, counts = np.array(values), np.array(counts, int)
    order = np.argsort(values)
    order = order[counts[order] > 0]
    return Spectrum(values[order], counts[order])


def _loss(weights, x_ND, sigma, lam):
    return exact_loss(weights[0], weights[1], x_ND, sigma, lam)


_loss_value = jax.jit(_loss)
_gradient = jax.jit(jax.grad(_loss))


@jax.jit
def expansion(
    weights_2RP: Float[Array, "2 R P"], x_NR: Float[Array, "N R"], sigma: float, lam: float
) -> tuple[Float[Array, ""], Float[Array, "2 R P"], Float[Array, "2RP 2RP"]]:
    """Loss, gradient and Hessian of `loss.exact_loss` at the stacked (W1, W2)."""
    at = jax.value_and_grad(_loss)
    (loss, gradient), tangent = jax.linearize(lambda w: at(w, x_NR, sigma, lam), weights_2RP)
    size = weights_2RP.size
    directions = jnp.eye(size, dtype=weights_2RP.dtype).reshape(size, *weights_2RP.shape)
    moments = len(x_NR) * weights_2RP.shape[2] ** 2
    batch = min(max(_BATCH_ENTRIES // moments, 1), _BATCH)
    rows = jax.lax.map(lambda one: tangent(one)[1], directions, batch_size=batch)
    hessian = rows.reshape(size, size)
    return loss, gradient, (hessian + hessian.T) / 2


class _Problem(NamedTuple):
    """The objective over the live units, in coordinates along ``basis``: the span of samples and
    weights and, last, one direction outside it if there is any."""

    weights: Float[np.ndarray, "2 R L"]
    arguments: tuple  # samples in coordinates, σ, λ
    basis: Float[np.ndarray, "D R"]
    live: Bool[np.ndarray, " P"]


def _reduce(w1_DP, w2_DP, x_ND, sigma, lam) -> _Problem:
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    w1_DP, w2_DP = np.asarray(w1_DP, float), np.asarray(w2_DP, float)
    live_P = np.any(w1_DP != 0, axis=0) & np.any(w2_DP != 0, axis=0)
    if not live_P.any():
        raise InputError("W1 and W2: all units are zero columns, and the loss has a kink there")
    w1_DP, w2_DP = w1_DP[:, live_P], w2_DP[:, live_P]
    basis_DR = span_and_outside(x_ND.T, w1_DP, w2_DP)
    weights = np.stack([basis_DR.T @ w1_DP, basis_DR.T @ w2_DP])
    arguments = (x_ND @ basis_DR, float(sigma), float(lam))
    return _Problem(weights, arguments, basis_DR, live_P)


def _rotations(problem: _Problem, groups_P) -> Float[np.ndarray, "M 2RL"]:
    """Orthonormal symmetry directions; by default of units that are active on the same samples."""
    if groups_P is None:
        groups_L = gate_groups(problem.weights[0], problem.arguments[0])
    elif np.shape(groups_P) == problem.live.shape:
        groups_L = np.asarray(groups_P)[problem.live]
    else:
        raise InputError(
            f"groups: expected one for each of {len(problem.live)} units, got {np.shape(groups_P)}"
        )
    rotations = rotation_directions(*problem.weights, groups_L)
    return rotations.reshape(len(rotations), problem.weights.size)


def _check_dense(size: int) -> None:
    if size > LARGEST_DENSE:
        raise InputError(
            f"W1 and W2: a dense Hessian of {size} rows exceeds {LARGEST_DENSE}; use second_order"
        )


def hessian_spectrum(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
) -> Spectrum:
    """All eigenvalues of the exact Hessian over the live units, in float64.

    Directions orthogonal to samples and weights all have the same 2P eigenvalues, which are
    computed once.

    Raises:
      InputError: for bad input, or when the span of samples and weights is so large that the
        matrix would have more than LARGEST_DENSE rows; use `second_order` then.
    """
    problem = _reduce(w1_DP, w2_DP, x_ND, sigma, lam)
    _check_dense(problem.weights.size)
    with jax.enable_x64(True):
        matrix = np.asarray(expansion(problem.weights, *problem.arguments)[2])
    d, rank = problem.basis.shape
    if rank == d:
        values = np.linalg.eigvalsh(matrix)
        return Spectrum(values, np.ones(len(values), int))
    is_outside = np.zeros(problem.weights.shape, bool)
    is_outside[:, -1] = True
    is_outside = is_outside.ravel()
    inside = np.linalg.eigvalsh(matrix[np.ix_(~is_outside, ~is_outside)])
    outside = np.linalg.eigvalsh(matrix[np.ix_(is_outside, is_outside)])
    values = np.concatenate([inside, outside])
    # The last coordinate stands for itself and for the d − rank directions that were left out.
    multiplicities = np.repeat([1, 1 + d - rank], [len(inside), len(outside)])
    order = np.argsort(values)
    return Spectrum(values[order], multiplicities[order])


def second_order(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    groups_P: Int[Array, " P"] | None = None,
) -> SecondOrder:
    """Is this point a strict minimum modulo symmetry, or a saddle?

    The lowest eigenvalue orthogonal to the symmetry is found by Lanczos iterations (ARPACK) on
    exact Hessian-vector products, with the symmetry directions projected out. If it is positive,
    the Hessian has no more non-positive eigenvalues than there are symmetry directions
    (Courant-Fischer). The symmetry is exact for collinear units and exponentially good in the
    gate margin for others: look at ``symmetry`` before trusting it.

    Args:
      groups_P: units that rotate into each other; default: those active on the same samples
        (`symmetry.gate_groups`). Negative groups have no symmetry.

    Raises:
      InputError: for bad input.
    """
    problem = _reduce(w1_DP, w2_DP, x_ND, sigma, lam)
    rotations = _rotations(problem, groups_P)
    weights, arguments = problem.weights, problem.arguments
    shape, size = weights.shape, weights.size

    with jax.enable_x64(True):
        x_NR, *levels = arguments
        weight_N = np.full(len(x_NR), 1 / len(x_NR))

        def product(flat):
            direction = flat.reshape(shape)
            return np.asarray(hessian_product(weights, direction, x_NR, weight_N, *levels)).ravel()

        grad_norm = float(np.linalg.norm(_gradient(weights, *arguments)))
        images = np.array([product(rotation) for rotation in rotations]).reshape(-1, size)
        lowest, flat, largest = _lowest_orthogonal(product, rotations, size)
        vector = flat.reshape(shape)
        verdict, loss_drop = _judge(problem, vector, lowest, largest, grad_norm)
    direction = _expand(problem, vector)
    symmetry = np.linalg.eigvalsh(rotations @ images.T) if len(rotations) else np.zeros(0)
    return SecondOrder(verdict, lowest, direction, symmetry, grad_norm, loss_drop)


def newton_modulo_symmetry(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    groups_P: Int[Array, " P"] | None = None,
) -> Solution:
    """Newton's method from (W1, W2), orthogonally to the symmetry directions there.

    Ends where the gradient is a combination of these directions, up to rounding: in the point that
    `existence.existence` speaks of. A general solver drifts along the rotations instead, where
    curvature is exponentially small and the valley is curved.

    Args:
      groups_P: as in `second_order`.

    Returns:
      A Solution; ``grad_norm`` is that of the gradient orthogonal to the symmetry directions, and
      ``converged`` tells whether steps shrank it to rounding.

    Raises:
      InputError: for bad input, more than LARGEST_DENSE entries, or λ = 0, where minimizers are
        not isolated: a unit can be rescaled, (c w1, w2/c).
    """
    problem = _reduce(w1_DP, w2_DP, x_ND, sigma, lam)
    if lam == 0:
        raise InputError("lam: without weight decay minima are not isolated; give lam > 0")
    _check_dense(problem.weights.size)
    rotations = _rotations(problem, groups_P)
    weights, arguments = problem.weights, problem.arguments

    def orthogonal_gradient(at):
        gradient = np.asarray(_gradient(at, *arguments)).ravel()
        return gradient - rotations.T @ (rotations @ gradient)

    with jax.enable_x64(True):
        gradient = orthogonal_gradient(weights)
        steps = 0
        while steps < _NEWTON_STEPS:
            matrix = np.asarray(expansion(weights, *arguments)[2])
            inside = matrix - rotations.T @ (rotations @ matrix)
            inside = inside - (inside @ rotations.T) @ rotations
            newton = -np.linalg.solve(inside + rotations.T @ rotations, gradient)
            trials = [weights + f * newton.reshape(weights.shape) for f in _DAMPING]
            for trial in trials:
                trial_gradient = orthogonal_gradient(trial)
                if np.linalg.norm(trial_gradient) < np.linalg.norm(gradient):
                    break
            else:
                break
            weights, gradient, steps = trial, trial_gradient, steps + 1
        loss = float(_loss_value(weights, *arguments))
    grad_norm = float(np.linalg.norm(gradient))
    rounding = np.finfo(float).eps * np.linalg.norm(weights) * np.linalg.norm(matrix)
    w1_DP, w2_DP = _expand(problem, weights)
    return Solution(w1_DP, w2_DP, loss, grad_norm, steps, bool(grad_norm <= _ROUNDING * rounding))


def _expand(problem: _Problem, weights) -> np.ndarray:
    """Weights or a direction in the original coordinates, dead units put back."""
    full = np.zeros((2, len(problem.basis), len(problem.live)))
    full[:, :, problem.live] = np.einsum("dr,srp->sdp", problem.basis, weights)
    return full


def _lowest_orthogonal(product, rotations, size) -> tuple[float, np.ndarray, float]:
    """Lowest eigenvalue and vector orthogonal to the rotations, and the largest eigenvalue."""

    def projected(v):
        return v - rotations.T @ (rotations @ v)

    start = np.random.default_rng(0).standard_normal(size)
    hessian = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=float)
    (largest,) = scipy.sparse.linalg.eigsh(
        hessian, k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False
    )

    def shifted(v):
        # The wanted end becomes −largest: ARPACK's tolerance is relative to the eigenvalue, and
        # the lowest may be zero. The rotations become zero, out of the way.
        inside = projected(v)
        return projected(product(inside)) - largest * inside

    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=shifted, dtype=float)
    try:
        values, vectors = scipy.sparse.linalg.eigsh(
            operator,
            k=1,
            which="SA",
            v0=projected(start),
            ncv=min(_LANCZOS_VECTORS, size),
            tol=_LANCZOS_TOLERANCE,
            maxiter=_LANCZOS_RESTARTS,
        )
    except scipy.sparse.linalg.ArpackNoConvergence:
        return np.nan, np.full(size, np.nan), float(largest)
    return float(values[0] + largest), vectors[:, 0], float(largest)


def _judge(problem: _Problem, vector, lowest, largest, grad_norm) -> tuple[str, float]:
    weights, arguments = problem.weights, problem.arguments
    uncertain = _LANCZOS_TOLERANCE * largest
    norm = np.linalg.norm(weights)
    if not abs(lowest) > uncertain or grad_norm > STATIONARY * norm * abs(lowest):
        return "undecided", 0.0
    if lowest > 0:
        return "minimum", 0.0
    steps = norm * np.concatenate([-_STEPS, _STEPS])
    losses = [float(_loss_value(weights + step * vector, *arguments)) for step in steps]
    loss = float(_loss_value(weights, *arguments))
    drop = loss - min(losses)
    return ("saddle", drop) if drop > 16 * np.finfo(float).eps * loss else ("undecided", 0.0)
