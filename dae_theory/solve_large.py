"""From any start to a local minimizer of the exact objective on many samples.

`solve.solve_local_minimum` evaluates N P² pair moments by quadrature. Here they come from matrix
products (`loss.mehler_loss`), with a bound on what that leaves out; L-BFGS starts on few samples
and few principal directions of the data, in float32, and ends on all of them in float64.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.errors import (
    InputError,
    check_count,
    check_noise_and_decay,
    check_samples,
    check_weights,
)
from dae_theory.loss import mehler_loss
from dae_theory.solve import lbfgs

MOST_TERMS = 24
MORE_TERMS = 6  # added when the truncation error is too large
FLATTEST = 1e-6  # curvature that is told from zero, relative to the largest
FIRST_PERIOD = 25  # iterations until the scaling is made anew, then twice as many, and so on


class Stage(NamedTuple):
    """One run of L-BFGS: on a random subset of ``samples``, in the span of the leading
    ``directions`` of the data (None: all), in ``dtype``, for at most ``max_iterations``.

    Restricting the weights to a subspace leaves the objective exact: the rest of the data only
    adds its power to the loss.
    """

    samples: int | None = None
    directions: int | None = None
    dtype: str = "float64"
    max_iterations: int = 10_000


class LargeSolution(NamedTuple):
    """Where the solver stopped.

    ``w1``, ``w2`` (D, P) float64; ``loss`` and ``grad_norm`` = ‖∇L‖_F there, of the expansion in
    float64 (tied: of L(W, W) in the one matrix W); ``error_bound`` on the distance of ``loss`` to
    the exact loss, and the ``terms`` and ``exact_pairs`` that gave it; ``iterations`` and
    ``evaluations`` of all stages; ``converged`` when grad_norm ≤ tol and the bound is as asked.
    """

    w1: Float[np.ndarray, "D P"]
    w2: Float[np.ndarray, "D P"]
    loss: float
    grad_norm: float
    error_bound: float
    terms: int
    exact_pairs: int
    iterations: int
    evaluations: int
    converged: bool


def default_stages(n_samples: int, width: int) -> tuple[Stage, ...]:
    """For many samples first some of them and a few directions per unit, in float32."""
    few = 2 * width
    if n_samples <= 10 * few:
        return (Stage(),)
    return (
        Stage(10 * few, few, "float32", 75),
        Stage(None, few, "float32", 75),
        Stage(None, None, "float32", 150),
        Stage(),
    )


class Scaling(NamedTuple):
    """Variables v in which the Hessian is closer to a multiple of the identity:
    W = (scale ∘ v) rotationᵀ, for W1 and W2 stacked (or the one matrix, when tied)."""

    scale: Float[Array, "X R P"]
    rotation: Float[Array, "X P P"]

    def weights(self, v_XRP: Array) -> Array:
        """W of the variables v."""
        return (self.scale * v_XRP) @ self.rotation.mT

    def variables(self, w_XRP: Array) -> Array:
        """v of the weights W."""
        return w_XRP @ self.rotation / self.scale


@jax.jit
def _scaling(weights_XRP, x_NR, weight_N, sigma, lam) -> Scaling:
    """From the Hessian with frozen gates, without what couples different units.

    In W2 it is E hhᵀ; in W1 it is the second moment of the data, diagonal in principal
    coordinates, times ‖w2_j‖² and how often unit j is active. A tied matrix has the sum of both.
    """
    w1_RP, w2_RP = weights_XRP[0], weights_XRP[-1]
    a_NP = x_NR @ w1_RP
    active_P = weight_N @ (a_NP > 0)
    h_NP = jnp.maximum(a_NP, 0.0)
    second_PP = (weight_N[:, None] * h_NP).T @ h_NP + 0.5 * sigma**2 * w1_RP.T @ w1_RP
    moment_P, vectors_PP = jnp.linalg.eigh(second_PP)
    power_R = weight_N @ x_NR**2 + sigma**2
    gain_P = active_P * jnp.sum(w2_RP**2, axis=0)
    decoder_RP = jnp.broadcast_to(jnp.maximum(moment_P, 0.0) + lam, w2_RP.shape)
    if len(weights_XRP) == 1:
        curvature_XRP = (decoder_RP + power_R[:, None] * jnp.mean(gain_P) + lam)[None]
        rotation_XPP = vectors_PP[None]
    else:
        encoder_RP = power_R[:, None] * gain_P + lam
        curvature_XRP = jnp.stack([encoder_RP, decoder_RP])
        rotation_XPP = jnp.stack([jnp.eye(len(gain_P), dtype=x_NR.dtype), vectors_PP])
    # At least one, so that the gradient in v is no smaller than that in W.
    largest = jnp.max(curvature_XRP)
    scale_XRP = jnp.sqrt(largest / jnp.maximum(curvature_XRP, FLATTEST * largest))
    return Scaling(scale_XRP, rotation_XPP)


@functools.cache
def _loss(terms: int, exact_pairs: int):
    """The loss as a function of the variables of a scaling."""

    def evaluate(variables, x_NR, weight_N, sigma, lam, scaling):
        weights = scaling.weights(variables)
        return mehler_loss(
            weights[0],
            weights[-1],
            x_NR,
            sigma,
            lam,
            weight_N,
            terms=terms,
            exact_pairs=exact_pairs,
        ).loss

    return evaluate


@functools.partial(jax.jit, static_argnames=("terms", "exact_pairs"))
def _error_bound(weights_XRP, x_NR, weight_N, sigma, lam, terms, exact_pairs):
    options = {"terms": terms, "exact_pairs": exact_pairs}
    w1_RP, w2_RP = weights_XRP[0], weights_XRP[-1]
    return mehler_loss(w1_RP, w2_RP, x_NR, sigma, lam, weight_N, **options).error_bound


def principal_directions(x_ND: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "D R"]:
    """Orthonormal basis of the span of the samples, of most power first."""
    n_samples, d = x_ND.shape
    few = n_samples < d
    power, basis = np.linalg.eigh(x_ND @ x_ND.T if few else x_ND.T @ x_ND)
    kept = power > max(power[-1], np.finfo(float).tiny) * max(n_samples, d) * np.finfo(float).eps
    kept[-1] = True  # one direction for samples that are all zero
    leading = basis[:, kept][:, ::-1]
    # The square of the data loses the small directions' digits: orthogonal again by QR.
    return np.linalg.qr(x_ND.T @ leading)[0] if few else leading


def solve_large(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
    tol: float = 1e-6,
    *,
    tied: bool = False,
    accuracy: float = 1e-9,
    terms: int = 4,
    exact_pairs: int = 0,
    stages: Sequence[Stage] | None = None,
    sample_weight: Float[Array, " N"] | None = None,
) -> LargeSolution:
    """Local minimizer of `loss.exact_loss` reached from the start (W1, W2).

    Args:
      w1_DP, w2_DP: the start; what lies outside the span of the samples is dropped, as it
        vanishes at every minimizer when λ > 0. Equal matrices when tied.
      x_ND: training samples.
      sigma, lam: noise level σ > 0 and weight decay λ ≥ 0.
      tol: largest ‖∇L‖_F that counts as converged, in units of the loss.
      tied: minimize L(W, W) over one matrix W.
      accuracy: largest error bound that is accepted, relative to the loss. ``terms`` of the
        expansion and ``exact_pairs`` (see `loss.mehler_loss`) are raised until it is met.
      stages: see `Stage`; by default `default_stages`.
      sample_weight: (N,) summing to 1; default 1/N each.

    Returns:
      A LargeSolution; ``converged`` is False when the tolerance was not reached.

    Raises:
      InputError: for wrong shapes, NaN, σ ≤ 0, λ < 0, or tied starts that differ.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    check_count(terms, "terms")
    if tied and not np.array_equal(w1_DP, w2_DP):
        raise InputError("tied: W1 and W2 must be equal; pass the same matrix twice")
    n_samples, width = len(x_ND), w1_DP.shape[1]
    stages = default_stages(n_samples, width) if stages is None else stages
    if sample_weight is None:
        sample_weight = np.full(n_samples, 1 / n_samples)
    frame_DR = principal_directions(x_ND)
    data = (x_ND @ frame_DR, np.asarray(sample_weight, float), float(sigma), float(lam))
    start = (w1_DP,) if tied else (w1_DP, w2_DP)
    weights = np.stack([frame_DR.T @ np.asarray(w_DP, float) for w_DP in start])

    iterations = evaluations = 0
    remaining = list(stages)
    with jax.enable_x64(True):
        while True:
            for stage in remaining:
                weights, descent = _run(stage, weights, data, tol, terms, exact_pairs)
                iterations += descent.iterations
                evaluations += descent.evaluations
            # Unscaled, without a step: the loss and gradient norm in W from the compiled descent.
            unscaled = Scaling(np.ones_like(weights), np.stack([np.eye(width)] * len(weights)))
            end = lbfgs(_loss(terms, exact_pairs), weights, (*data, unscaled), tol, 0)
            bound = _error_bound(weights, *data, terms=terms, exact_pairs=exact_pairs)
            loss, grad_norm, bound = map(float, (end.loss, end.grad_norm, bound))
            if not bound > accuracy * loss:
                break
            terms, exact_pairs = _raised(terms, exact_pairs, width)
            remaining = remaining[-1:]
    return LargeSolution(
        w1=frame_DR @ weights[0],
        w2=frame_DR @ weights[-1],
        loss=loss,
        grad_norm=grad_norm,
        error_bound=bound,
        terms=terms,
        exact_pairs=exact_pairs,
        iterations=iterations,
        evaluations=evaluations + 1,
        converged=grad_norm <= tol,
    )


def _raised(terms: int, exact_pairs: int, width: int) -> tuple[int, int]:
    """A finer expansion; in the end every pair is exact, and nothing is left out."""
    every = width * (width - 1) // 2
    return min(terms + MORE_TERMS, max(terms, MOST_TERMS)), min(max(4 * exact_pairs, width), every)


def _run(stage: Stage, weights, data, tol, terms, exact_pairs):
    """The weights after one stage, and its Descent."""
    x_NR, weight_N, sigma, lam = data
    if stage.samples is not None and stage.samples < len(x_NR):
        chosen = np.random.default_rng(0).permutation(len(x_NR))[: stage.samples]
        x_NR, weight_N = x_NR[chosen], weight_N[chosen] / np.sum(weight_N[chosen])
    rank = x_NR.shape[1] if stage.directions is None else stage.directions
    inside = weights[:, :rank].astype(stage.dtype)
    problem = (x_NR[:, :rank].astype(stage.dtype), weight_N.astype(stage.dtype), sigma, lam)
    loss, period = _loss(terms, exact_pairs), FIRST_PERIOD
    iterations = evaluations = 0
    while True:
        period = min(period, stage.max_iterations - iterations)
        scaling = jax.device_get(_scaling(inside, *problem))
        start = scaling.variables(inside)
        descent = jax.device_get(lbfgs(loss, start, (*problem, scaling), tol, period))
        inside = scaling.weights(descent.weights)
        iterations += int(descent.iterations)
        evaluations += int(descent.evaluations)
        if descent.iterations < period or iterations >= stage.max_iterations:
            break
        period *= 2
    weights = np.zeros_like(weights)
    weights[:, :rank] = inside
    return weights, descent._replace(iterations=iterations, evaluations=evaluations)
