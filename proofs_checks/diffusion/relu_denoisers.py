"""Denoisers that are sampled and compared in the experiments with ReLU nets.

A `Task` is a training set with a range of noise levels; a `Family` is one kind of denoiser on it,
one member a seed. Noise levels run from twice the rms norm R of the samples down to R/100: at the
top pure noise is a fair start, at the bottom the gates of stored samples hold.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.data import Mixture
from dae_theory.diffusion.denoisers import (
    Denoiser,
    DenoisingErrors,
    denoising_errors,
    empirical_denoiser,
    gaussian_denoiser,
    local_pca_denoiser,
    mixture_denoiser,
)
from dae_theory.diffusion.multi_sigma import multi_sigma_denoiser
from dae_theory.diffusion.samplers import sample_ode, start_noise
from dae_theory.diffusion.schedules import geometric_schedule
from dae_theory.relu.model import denoise
from dae_theory.theory.closed_forms import predict_memorization

HIGHEST, LOWEST, LEVELS = 2.0, 0.01, 8  # of the noise, relative to R
DECAY = 1e-3  # λ relative to R²
SAMPLES, DOUBLED, SAMPLER_STEPS = 200, 20, 48
POINTS, FEW_DRAWS = 200, 300  # in a denoising error; noise draws where there are fewer points
NEIGHBOURS, LOCAL_RANK = 32, 8  # of local PCA
RIVALS = ("exact", "empirical", "gaussian", "local_pca")


@dataclass(frozen=True)
class Task:
    """Training samples ``x`` (N, D), others of their kind ``held_out`` (T, D), their rms norm
    ``scale`` in data units, and the number of units ``width`` of the nets."""

    x: Float[np.ndarray, "N D"]
    held_out: Float[np.ndarray, "T D"]
    scale: float
    width: int

    @property
    def levels(self) -> Float[np.ndarray, " L"]:
        """Noise levels of a set of nets, falling, in data units."""
        return self.scale * np.geomspace(HIGHEST, LOWEST, LEVELS)

    @property
    def schedule(self) -> Float[np.ndarray, " T"]:
        """The sampler's noise levels: those of the nets, closer together, and 0."""
        return geometric_schedule(self.levels[0], self.levels[-1], SAMPLER_STEPS)

    @property
    def lam(self) -> float:
        """Weight decay λ of objective (1)."""
        return DECAY * self.scale**2


class Drawn(NamedTuple):
    """A family's samples, and those of twice the noise of the first few."""

    samples: Float[np.ndarray, "S M D"]
    doubled: Float[np.ndarray, "S m D"]


@dataclass(frozen=True)
class Family:
    """Denoisers of one kind, ``make(params)`` for each entry of ``params`` along a leading (S).

    Families with equal ``make`` and shapes share their compiled programs.
    """

    make: Callable[[Any], Denoiser]
    params: Any

    def draw(self, task: Task, seeds: tuple[int, ...]) -> Drawn:
        """Each member's samples from its own starts, pure noise in float32, by Heun's method."""
        d, top = task.x.shape[1], task.levels[0]
        keys_S = [jax.random.fold_in(jax.random.key(seed), 1) for seed in seeds]
        once_SMD = jnp.stack([start_noise(key, SAMPLES, d, top, jnp.float32) for key in keys_S])
        start_SMD = jnp.concatenate([once_SMD, 2 * once_SMD[:, :DOUBLED]], axis=1)
        found = np.asarray(_samples(self.params, start_SMD, task.schedule, self.make))
        return Drawn(found[:, :SAMPLES], found[:, SAMPLES:])

    def errors(
        self, points_ND: Float[np.ndarray, "N D"], sigmas_L: Float[np.ndarray, " L"]
    ) -> DenoisingErrors:
        """Each member's denoising error at the first POINTS, and its standard error, (S, L), all on
        the same noise."""
        draws = 1 if len(points_ND) >= POINTS else FEW_DRAWS
        points_ND = jnp.float32(points_ND[:POINTS])
        found = _errors(self.params, points_ND, sigmas_L, self.make, draws)
        return DenoisingErrors(*(np.asarray(leaf) for leaf in found))


@functools.partial(jax.jit, static_argnames="make")
def _samples(params_S, start_SMD, sigmas_T, make):
    def one(member):
        params, start_MD = member
        return sample_ode(make(params), start_MD, sigmas_T)

    return jax.lax.map(one, (params_S, start_SMD))


@functools.partial(jax.jit, static_argnames=("make", "draws"))
def _errors(params_S, points_ND, sigmas_L, make, draws):
    def one(params):
        return denoising_errors(jax.random.key(0), make(params), points_ND, sigmas_L, draws)

    return jax.lax.map(one, params_S)


def same_for_all(make: Callable[[Any], Denoiser], params: Any, seeds: tuple[int, ...]) -> Family:
    """A family without randomness: every seed has the same member."""
    copies = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * len(seeds)), params)
    return Family(make, copies)


def level_set(nets: tuple[Array, Array, Array]) -> Denoiser:
    """Nets W1, W2 (L, D, P) for falling levels (L) as one: that of the nearest log σ is used.

    `switching_denoiser` of the nets, but that they are looked up and so compile as one.
    """
    levels_L, w1_LDP, w2_LDP = nets
    midpoints = jnp.sqrt(levels_L[:-1] * levels_L[1:])[::-1]

    def denoiser(y_MD: Array, sigma: float) -> Array:
        index = len(levels_L) - 1 - jnp.searchsorted(midpoints, sigma)
        return denoise(w1_LDP[index], w2_LDP[index], y_MD)

    return denoiser


@dataclass(frozen=True)
class MultiSigma:
    """`multi_sigma_denoiser` of a module; equal for equal modules."""

    module: nn.Module

    def __call__(self, params: dict) -> Denoiser:
        """The denoiser with these parameters."""
        return multi_sigma_denoiser(self.module, params)


def closed_form(task: Task, seeds: tuple[int, ...]) -> Family:
    """The weights (5) at every level, whether or not their gates hold there."""
    width = max(task.width, len(task.x))
    found = [predict_memorization(task.x, s, task.lam, width) for s in task.levels]
    weights = (np.stack([getattr(p, name) for p in found]) for name in ("w1", "w2"))
    nets = (task.levels, *weights)
    return same_for_all(level_set, jax.tree.map(np.float32, nets), seeds)


def rival(kind: str, task: Task, mixture: Mixture) -> Family:
    """A denoiser to compare nets with, one of RIVALS, the same for all seeds."""
    if kind == "exact":
        return same_for_all(_mixture, (mixture.means, mixture.covs, mixture.priors), (0,))
    if kind == "gaussian":
        moments = (task.x.mean(axis=0), np.cov(task.x.T, bias=True))
        return same_for_all(_gaussian, moments, (0,))
    make = {"empirical": empirical_denoiser, "local_pca": _local_pca}[kind]
    return same_for_all(make, np.float32(task.x), (0,))


def _mixture(parts):
    return mixture_denoiser(*parts)


def _gaussian(moments):
    return gaussian_denoiser(*moments)


def _local_pca(x_ND):
    neighbours = min(NEIGHBOURS, len(x_ND))
    return local_pca_denoiser(x_ND, neighbours, min(LOCAL_RANK, neighbours - 1))
