"""Where random starts end: descents, exact solutions, and what the minima have in common.

Equiangular unit samples at several cosines, nets of several widths, starts of small and of large
scale, each descended by Adam, SGD or L-BFGS and then solved to a local minimum. Every start is
drawn afresh, so that all are independent.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.data import equiangular_directions, random_rotation
from dae_theory.minima.census import Minimum, classify_minimum, find_minima
from dae_theory.relu.optimize import TrainConfig, make_optimizer, train_steps

N, SIGMA, LAM = 4, 0.03, 0.005
DIMENSION = N + 1  # all directions orthogonal to the samples are alike
COSINES = (-1 / (N - 1), -0.2, -0.1, 0.0, 0.1, 0.3)
QUICK_COSINES = (COSINES[0], 0.0, 0.3)
DRAWS = {1: 3, 2: 1, 4: 1}  # of each kind for a seed, by p/n: most where shares are least clear
SCALES = (0.1, 2.0)  # norm of a column at the start
DESCENTS = {  # learning rate and steps; L-BFGS is part of the solver
    "adam": (0.01, 2000),
    "sgd": (0.03, 4000),
    "lbfgs": None,
}
OPTIMIZERS = tuple(DESCENTS)


class Start(NamedTuple):
    """One random start: cosine between samples, p/n, scale, optimizer, seed, and which draw."""

    cosine: float
    ratio: int
    scale: float
    optimizer: str
    seed: int
    draw: int

    @property
    def width(self) -> int:
        """Units P."""
        return self.ratio * N


class Ending(NamedTuple):
    """Where a start ended."""

    start: Start
    minimum: Minimum
    settled: bool


def equiangular(cosine: float) -> Float[np.ndarray, "N D"]:
    """The unit samples at one cosine."""
    return equiangular_directions(N, DIMENSION, cosine) @ random_rotation(0, DIMENSION).T


def all_starts(cosines: Sequence[float], seeds: Sequence[int]) -> tuple[Start, ...]:
    """DRAWS starts for every cosine, p/n, scale, optimizer and seed."""
    draws = [(ratio, draw) for ratio, count in DRAWS.items() for draw in range(count)]
    every = product(cosines, SCALES, OPTIMIZERS, seeds, draws)
    return tuple(Start(cosine, ratio, *rest, draw) for cosine, *rest, (ratio, draw) in every)


# --- from a start to its minimum -------------------------------------------------------------


def draw_start(start: Start, widest: int) -> tuple[Float[np.ndarray, "2 D P"], int]:
    """Columns of norm about ``scale``, up to the start's width and zero beyond; seed of the noise
    in training."""
    numbers = np.array([start.cosine, start.scale]).view(np.uint64).tolist()
    optimizer = OPTIMIZERS.index(start.optimizer)
    rng = np.random.default_rng([start.seed, start.draw, start.ratio, optimizer, *numbers])
    weights = np.zeros((2, DIMENSION, widest))
    weights[:, :, : start.width] = rng.standard_normal((2, DIMENSION, start.width))
    return start.scale / np.sqrt(DIMENSION) * weights, int(rng.integers(2**31))


@functools.partial(jax.jit, static_argnames="config")
def descend(
    weights_B2DP: Float[Array, "B 2 D P"],
    x_BND: Float[Array, "B N D"],
    keys_B: PRNGKeyArray,
    config: TrainConfig,
) -> Float[Array, "B 2 D P"]:
    """Training of many nets at once, each from given weights and on its own samples."""
    optimizer = make_optimizer(config)
    weight_N = jnp.full(x_BND.shape[1], 1 / x_BND.shape[1], x_BND.dtype)

    def descend_one(weights, x_ND, key):
        params = (weights[0], weights[1])
        params, _, _ = train_steps(
            key, params, optimizer.init(params), jnp.arange(config.steps), x_ND, weight_N, config
        )
        return jnp.stack(params)

    return jax.vmap(descend_one)(weights_B2DP, x_BND, keys_B)


def descended(starts: Sequence[Start], optimizer: str) -> Float[np.ndarray, "B 2 D P"]:
    """Where an optimizer takes the starts. Zero columns have no gradient, and stay zero."""
    widest = max(start.width for start in starts)
    weights, seeds = zip(*(draw_start(start, widest) for start in starts), strict=True)
    if DESCENTS[optimizer] is None:
        return np.stack(weights)
    rate, steps = DESCENTS[optimizer]
    config = TrainConfig(
        width=widest, sigma=SIGMA, lam=LAM, steps=steps, optimizer=optimizer, learning_rate=rate
    )
    x_BND = np.stack([equiangular(start.cosine) for start in starts])
    keys_B = jax.vmap(jax.random.key)(jnp.array(seeds))
    as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    return np.asarray(descend(as_float32(np.stack(weights)), as_float32(x_BND), keys_B, config))


def solved(
    starts: Sequence[Start], weights_B2DP: Sequence[Float[np.ndarray, "2 D P"]]
) -> list[Ending]:
    """The local minima next to where the descents of the starts stopped. Nets of one width are
    solved as one batch."""
    endings = {}
    for width in sorted({start.width for start in starts}):
        batch = [b for b, start in enumerate(starts) if start.width == width]
        x_BND = [equiangular(starts[b].cosine) for b in batch]
        w1_BDP, w2_BDP = np.stack([weights_B2DP[b][..., :width] for b in batch], axis=1)
        minima = find_minima(w1_BDP.astype(float), w2_BDP.astype(float), x_BND, SIGMA, LAM)
        for b, x_ND, end in zip(batch, x_BND, minima, strict=True):
            minimum = classify_minimum(end.w1, end.w2, x_ND, SIGMA, LAM, end.loss)
            endings[b] = Ending(starts[b], minimum, end.is_minimum)
    return [endings[b] for b in range(len(starts))]


@dataclass(frozen=True)
class Runs:
    """All starts, and where they end."""

    starts: tuple[Start, ...]

    @cached_property
    def reached(self) -> dict[Start, Float[np.ndarray, "2 D P"]]:
        """Where their descents stop, in nets as wide as the widest."""
        reached = {}
        for optimizer in OPTIMIZERS:
            batch = [start for start in self.starts if start.optimizer == optimizer]
            reached |= zip(batch, descended(batch, optimizer), strict=True)
        return reached

    @cached_property
    def endings(self) -> tuple[Ending, ...]:
        """In the order of the starts."""
        return tuple(solved(self.starts, [self.reached[start] for start in self.starts]))
