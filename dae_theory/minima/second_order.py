"""Second derivatives of the exact objective: is a stationary point a minimum?

`predict_curvature` is the closed form for frozen gates (docs/THEORY.md#spectrum),
`hessian_spectrum` all eigenvalues of the exact Hessian, and `second_order` a verdict from the
lowest eigenvalue orthogonal to the symmetry. Units that are zero columns are left out: the loss
has a kink there, and `dead_units` judges them.
"""

from typing import NamedTuple

import jax
import numpy as np
import scipy.sparse.linalg
from jaxtyping import Array, Float, Int

from dae_theory.solve.derivatives import expansion, hessian_product, value_and_grad
from dae_theory.solve.newton import check_dense
from dae_theory.solve.reduced import Reduced, expand, reduce_problem, rotations_of
from dae_theory.theory.spectrum import Spectrum

LARGEST_FORMED = 1000  # rows up to which the Hessian is cheaper than many products with it
STATIONARY = 1e-3  # largest Newton step, relative to ‖W‖, from a point that counts as stationary
_LANCZOS_VECTORS, _LANCZOS_RESTARTS = 100, 50
LANCZOS_TOLERANCE = 1e-8  # of eigenvalues, relative to the largest one
_STEPS = np.geomspace(1e-4, 1.0, 25)  # along a descent direction, relative to ‖W‖


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
    problem = reduce_problem(w1_DP, w2_DP, x_ND, sigma, lam)
    check_dense(problem.weights.size)
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

    The lowest eigenvalue orthogonal to the symmetry is found by Lanczos iterations (ARPACK) with
    the exact Hessian, or products with it past LARGEST_FORMED rows, and the symmetry directions
    projected out. If it is positive, the Hessian has no more non-positive eigenvalues than there
    are symmetry directions (Courant-Fischer). The symmetry is exact for collinear units and
    exponentially good in the gate margin for others: look at ``symmetry`` before trusting it.

    Args:
      groups_P: units that rotate into each other; default: those active on the same samples
        (`symmetry.gate_groups`). Negative groups have no symmetry.

    Raises:
      InputError: for bad input.
    """
    problem = reduce_problem(w1_DP, w2_DP, x_ND, sigma, lam)
    rotations = rotations_of(problem, groups_P)
    weights, arguments = problem.weights, problem.arguments
    shape, size = weights.shape, weights.size

    with jax.enable_x64(True):
        if size <= LARGEST_FORMED:
            product = np.asarray(expansion(weights, *arguments)[2]).dot
        else:

            def product(flat):
                direction = flat.reshape(shape)
                return np.asarray(hessian_product(weights, direction, *arguments)).ravel()

        grad_norm = float(np.linalg.norm(value_and_grad(weights, *arguments)[1]))
        images = np.array([product(rotation) for rotation in rotations]).reshape(-1, size)
        lowest, flat, largest = _lowest_orthogonal(product, rotations, size)
        vector = flat.reshape(shape)
        verdict, loss_drop = _judge(problem, vector, lowest, largest, grad_norm)
    direction = expand(problem, vector)
    symmetry = np.linalg.eigvalsh(rotations @ images.T) if len(rotations) else np.zeros(0)
    return SecondOrder(verdict, lowest, direction, symmetry, grad_norm, loss_drop)


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
            tol=LANCZOS_TOLERANCE,
            maxiter=_LANCZOS_RESTARTS,
        )
    except scipy.sparse.linalg.ArpackNoConvergence:
        return np.nan, np.full(size, np.nan), float(largest)
    return float(values[0] + largest), vectors[:, 0], float(largest)


def _judge(problem: Reduced, vector, lowest, largest, grad_norm) -> tuple[str, float]:
    weights, arguments = problem.weights, problem.arguments
    uncertain = LANCZOS_TOLERANCE * largest
    norm = np.linalg.norm(weights)
    if not abs(lowest) > uncertain or grad_norm > STATIONARY * norm * abs(lowest):
        return "undecided", 0.0
    if lowest > 0:
        return "minimum", 0.0
    steps = norm * np.concatenate([-_STEPS, _STEPS])
    losses = [float(value_and_grad(weights + step * vector, *arguments)[0]) for step in steps]
    loss = float(value_and_grad(weights, *arguments)[0])
    drop = loss - min(losses)
    return ("saddle", drop) if drop > 16 * np.finfo(float).eps * loss else ("undecided", 0.0)
