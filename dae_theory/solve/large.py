"""From any start to a local minimizer of the exact objective on many samples.

`solve.solve_local_minimum` evaluates N P² pair moments by quadrature. Here they come from matrix
products (`loss.mehler_loss`), with a bound on what that leaves out; L-BFGS starts on few samples
and few principal directions of the data, in float32, and ends on all of them in float64.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from dae_theory.checks import (
    InputError,
    check_count,
    check_noise_and_decay,
    check_sample_weight,
    check_samples,
    check_weights,
)
from dae_theory.relu.mehler import mehler_loss
from dae_theory.solve.coordinates import plain_coordinates, scaled_coordinates
from dae_theory.solve.lbfgs import lbfgs

MOST_TERMS = 24
MORE_TERMS = 6  # added when the truncation error is too large
FIRST_PERIOD = 25  # iterations until the coordinates are made anew, then twice as many, and so on
LAST_MIXING_PERIOD = 200  # at most so many with mixing; without, L-BFGS needs its memory more
FIRST_FLATTEST_MIXING, LAST_FLATTEST_MIXING = 1e-4, 1e-6  # see `scaled_coordinates`; halving


class Stage(NamedTuple):
    """One run of L-BFGS: on a random subset of ``samples``, in the span of the leading
    ``directions`` of the data (None: all), in ``dtype``, for at most ``max_iterations``.

    Restricting the weights to a subspace leaves the objective exact, the rest of the data only
    adds its power to the loss; it can exclude minima (docs/THEORY.md#span).
    """

    samples: int | None = None
    directions: int | None = None
    dtype: str = "float64"
    max_iterations: int = 10_000
    mixing: bool = False


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
        Stage(10 * few, few, "float32", 75, mixing=True),
        Stage(None, few, "float32", 375, mixing=True),
        Stage(None, None, "float32", 2000, mixing=True),
        Stage(mixing=True),
    )


@functools.cache
def _loss(terms: int, exact_pairs: int):
    """The loss as a function of the variables of some coordinates."""

    def evaluate(variables, x_NR, weight_N, sigma, lam, coordinates):
        weights = coordinates.weights(variables)
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
    """Local minimizer of `loss.exact_loss`, over weights in the span of the samples, reached from
    the start (W1, W2).

    With λ > 0 the columns of W2 lie in that span at every stationary point, those of W1 wherever
    gates are certain. Where noise opens and closes gates and the samples do not span everything,
    W1 can gain by leaving the span (docs/THEORY.md#span), and the solution, stationary, may be a
    saddle: `solve_local_minimum` is not restricted, `second_order` tells.

    Args:
      w1_DP, w2_DP: the start, of which the part inside the span is taken. Equal matrices when
        tied.
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
      InputError: for wrong shapes, NaN, σ ≤ 0, λ < 0, sample weights that do not sum to 1, no
        stage, or tied starts that differ.
    """
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    check_count(terms, "terms")
    if tied and not np.array_equal(w1_DP, w2_DP):
        raise InputError("tied: W1 and W2 must be equal; pass the same matrix twice")
    n_samples, width = len(x_ND), w1_DP.shape[1]
    stages = default_stages(n_samples, width) if stages is None else stages
    check_count(len(stages), "stages")
    weight_N = check_sample_weight(sample_weight, n_samples)
    frame_DR = principal_directions(x_ND)
    data = (x_ND @ frame_DR, weight_N, float(sigma), float(lam))
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
            # Without a step: the loss and gradient norm in W from the compiled descent.
            plain = plain_coordinates(weights, stages[-1].mixing)
            problem = (*data, plain)
            end = lbfgs(_loss(terms, exact_pairs), plain.variables(weights), problem, tol, 0)
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
    flattest_mixing = FIRST_FLATTEST_MIXING
    iterations, evaluations, stuck = 0, 0, False
    while True:
        period = min(period, stage.max_iterations - iterations)
        flattest = flattest_mixing if stage.mixing else None
        coordinates = scaled_coordinates(inside, *problem, flattest)
        start = coordinates.variables(inside)
        descent = jax.device_get(lbfgs(loss, start, (*problem, coordinates), tol, period))
        inside = np.asarray(coordinates.weights(descent.weights))
        iterations += int(descent.iterations)
        evaluations += int(descent.evaluations)
        # A line search that fails may be due to coordinates that have become poor.
        was_stuck, stuck = stuck, descent.iterations < period
        converged = descent.grad_norm <= tol
        if converged or (stuck and was_stuck) or iterations >= stage.max_iterations:
            break
        period = min(2 * period, LAST_MIXING_PERIOD) if stage.mixing else 2 * period
        flattest_mixing = max(flattest_mixing / 2, LAST_FLATTEST_MIXING)
    weights = np.zeros_like(weights)
    weights[:, :rank] = inside
    return weights, descent._replace(iterations=iterations, evaluations=evaluations)
