"""Nets that are steered while they sample: one for each noise level, solved for or predicted.

Steering adds a·v to the representation, v the mean representation of references at the lowest
noise; each level's net has a v of its own.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import block_diag

from dae_theory.diffusion.samplers import sample_ode
from dae_theory.relu.model import encode, init_weights
from dae_theory.solve.local import solve_local_minimum
from dae_theory.theory.closed_forms import block_eigenvalues, spread_rotation
from dae_theory.theory.problem import Problem
from dae_theory.theory.steering import Levels, Window
from proofs_checks.blocks import predict_on
from proofs_checks.claims import Mutant
from proofs_checks.nets import Nets, Progress
from proofs_checks.stationarity import Stopped

DRAWS = 32  # of noise on each reference
PERTURBATION = 0.2  # of a start near (4), in units of its rms
SCALE = 0.3  # of a random start
GRADIENT = 1e-7  # at which a solve ends: with a hundredth samples move by less than 1e-6 (test)
Weights = Callable[[Any, Array], tuple[Array, Array]]  # (parameters, σ) → W1, W2


class Course(NamedTuple):
    """Noise levels of a sampler (T) and the steps ``first`` ... ``last`` − 1 that are steered."""

    levels: Float[np.ndarray, " T"]
    first: int
    last: int

    @property
    def flow(self) -> Levels:
        """The same for the theory."""
        window = Window(float(self.levels[self.first]), float(self.levels[self.last]))
        return Levels(float(self.levels[0]), float(self.levels[-1]), window)


def course(sigma_max: float, sigma_min: float, steps: int, first: int, last: int) -> Course:
    """Levels that fall by a constant factor."""
    return Course(np.geomspace(sigma_max, sigma_min, steps + 1), first, last)


TRAINED_COURSE = course(0.05, 0.005, 23, 4, 18)  # a net is solved for at each level
NOISE_COURSE = course(20.0, 0.01, 400, 60, 340)  # from far above the norm, by the predicted net


@functools.partial(jax.jit, static_argnames=("weights", "first", "last"))
def _ends(
    weights: Weights, parameters, references_RD, start_MD, strengths_A, levels_T, first, last
):
    def ends(strength):
        y_MD = start_MD
        for low, high, a in ((0, first, 0.0), (first, last, strength), (last, None, 0.0)):

            def denoiser(y_MD, sigma, a=a):
                w1_DP, w2_DP = weights(parameters, sigma)
                v_P = jnp.mean(encode(w1_DP, references_RD), axis=0)
                return (encode(w1_DP, y_MD) + a * v_P) @ w2_DP.T

            part_T = levels_T[low : None if high is None else high + 1]
            y_MD = sample_ode(denoiser, y_MD, part_T) if part_T.shape[0] > 1 else y_MD
        return y_MD

    return jax.vmap(ends)(strengths_A)


def steered_ends(
    weights: Weights,
    parameters: Any,
    references_RD: Float[Array, "R D"],
    start_MD: Float[Array, "M D"],
    strengths_A: Float[Array, " A"],
    steps: Course,
) -> Float[np.ndarray, "A M D"]:
    """Where Heun's method takes samples at each strength. ``weights`` is a function at module
    level: one compilation serves all ``parameters`` of one shape."""
    found = _ends(weights, parameters, references_RD, start_MD, strengths_A, *steps)
    return np.asarray(found)


class PredictedNet(NamedTuple):
    """(4) at every σ: u (D, Q), eigenvalues e and decay ℓ a sample (Q), rotation O (Q, P)."""

    directions: Float[np.ndarray, "D Q"]
    eigenvalues: Float[np.ndarray, " Q"]
    decay: Float[np.ndarray, " Q"]
    rotation: Float[np.ndarray, "Q P"]


def predicted_net(problem: Problem) -> PredictedNet:
    """The net that (2) and (4) predict at any noise level."""
    prediction = predict_on(problem)
    counts_K = np.bincount(problem.labels)
    kept = [
        values[: len(np.atleast_1d(gains))] / count
        for values, gains, count in zip(
            block_eigenvalues(problem.x, problem.labels), prediction.gains, counts_K, strict=True
        )
    ]
    ranks_K = [len(values) for values in kept]
    rotations = [spread_rotation(*shape) for shape in zip(problem.widths, ranks_K, strict=True)]
    return PredictedNet(
        np.concatenate(prediction.directions, axis=1),
        np.concatenate(kept),
        np.repeat(len(problem.x) * problem.lam / counts_K, ranks_K),
        block_diag(*rotations).T,
    )


def predicted_weights(net: PredictedNet, sigma: Array) -> tuple[Array, Array]:
    """W1 = W2 of (4) at one noise level."""
    gain_Q = (net.eigenvalues - net.decay).clip(0.0) / (net.eigenvalues + sigma**2)
    w_DP = (net.directions * jnp.sqrt(gain_Q)) @ net.rotation
    return w_DP, w_DP


def nearest_weights(nets: tuple[Array, Array, Array], sigma: Array) -> tuple[Array, Array]:
    """W1, W2 of the level nearest to σ, of log levels (T) and weights (T, D, P)."""
    logs_T, w1_TDP, w2_TDP = nets
    level = jnp.argmin(jnp.abs(logs_T - jnp.log(sigma)))
    return w1_TDP[level], w2_TDP[level]


@dataclass(frozen=True)
class LevelNets:
    """A net at a minimum of (1) for each level, solved for when first asked for.

    The first is solved for from a random start or from (4) perturbed, each further one from the
    net of the level above.

    Attributes:
      problem: samples, λ and clusters; σ is that of each level.
      levels: (T,) highest first.
      live: units of a random start; 0 starts from (4).
      seed: of the start.
      progress: called while it goes on.
    """

    problem: Problem
    levels: Float[np.ndarray, " T"]
    live: int
    seed: int
    progress: Progress

    @cached_property
    def weights(self) -> tuple[Float[np.ndarray, "T D P"], Float[np.ndarray, "T D P"]]:
        """W1 and W2 of every level."""
        p, (w1, w2) = self.problem, self._start()
        found = []
        for done, sigma in enumerate(self.levels):
            self.progress("solving for nets that are steered", done, len(self.levels))
            solution = solve_local_minimum(w1, w2, p.x, float(sigma), p.lam, GRADIENT)
            w1, w2 = solution.w1, solution.w2
            found.append((w1, w2))
        w1_TDP, w2_TDP = (np.stack(one) for one in zip(*found, strict=True))
        return w1_TDP, w2_TDP

    @property
    def solved(self) -> bool:
        """The nets are there."""
        return "weights" in vars(self)

    @property
    def parameters(self) -> tuple[Float[np.ndarray, " T"], np.ndarray, np.ndarray]:
        """What `nearest_weights` takes."""
        return (np.log(self.levels), *self.weights)

    def stopped(self, level: int) -> Stopped:
        """The net of one level, where the solver left it."""
        w1, w2 = (w_TDP[level][None] for w_TDP in self.weights)
        problem = Problem(
            self.problem.x,
            float(self.levels[level]),
            self.problem.lam,
            self.problem.labels,
            self.problem.widths,
        )
        return Stopped(Nets(w1, w2, (self.seed,)), problem)

    def random_start(self, units: int) -> tuple[np.ndarray, np.ndarray]:
        """Random weights of so many units."""
        shape = self.problem.x.shape[1], units
        found = init_weights(jax.random.key(self.seed), *shape, scale=SCALE)
        return tuple(np.asarray(w, float) for w in found)

    def _start(self) -> tuple[np.ndarray, np.ndarray]:
        if self.live:
            return self.random_start(self.live)
        rng = np.random.default_rng([self.seed, 2])
        w_DP = predict_on(self.problem).w1
        size = PERTURBATION * np.sqrt(np.mean(w_DP**2))
        return tuple(w_DP + size * rng.standard_normal(w_DP.shape) for _ in range(2))


@dataclass(frozen=True)
class RandomNets(LevelNets):
    """Random weights at all levels, in the place of nets that were solved for."""

    @cached_property
    def weights(self) -> tuple[Float[np.ndarray, "T D P"], Float[np.ndarray, "T D P"]]:
        """W1 and W2 of every level."""
        start = self.random_start(self.live or sum(self.problem.widths))
        w1_TDP, w2_TDP = (np.repeat(w_DP[None], len(self.levels), axis=0) for w_DP in start)
        return w1_TDP, w2_TDP


def with_random_nets(e: Any) -> Any:
    """An experiment on nets of the same sizes that were not trained."""
    values = (getattr(e.solving, field.name) for field in fields(e.solving))
    return replace(e, solving=RandomNets(*values))


UNTRAINED = Mutant("untrained nets", with_random_nets)
