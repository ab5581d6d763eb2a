"""Problems, denoisers and samples behind the claims on sampling with ReLU nets.

A `Problem` is a training set with a range of noise levels; a `Family` is one kind of denoiser on
it, one member a seed. Noise levels run from twice the rms norm R of the samples down to R/50: at
the top pure noise is a fair start, at the bottom the gates of stored samples hold.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from dae_theory.data.mixtures import Mixture
from dae_theory.diffusion.denoisers import (
    Denoiser,
    DenoisingErrors,
    denoising_errors,
    empirical_denoiser,
    gaussian_denoiser,
    local_pca_denoiser,
    mixture_denoiser,
)
from dae_theory.diffusion.multi_sigma import (
    MultiSigmaConfig,
    multi_sigma_denoiser,
    train_multi_sigma,
)
from dae_theory.diffusion.samplers import sample_ode, start_noise
from dae_theory.diffusion.schedules import geometric_schedule
from dae_theory.relu.batch import NetSpec, advance_nets, init_nets, pad_samples
from dae_theory.relu.model import denoise
from dae_theory.relu.optimize import Level, TrainConfig
from dae_theory.theory.closed_forms import predict_memorization

HIGHEST, LOWEST, LEVELS = 2.0, 0.02, 8  # of the noise, relative to R
DECAY = 1e-3  # λ relative to R²
STEPS, LEARNING_RATE, BATCH = 1500, 3e-3, 32
SAMPLES, DOUBLED, SAMPLER_STEPS = 200, 20, 48
POINTS, FEW_DRAWS = 200, 300  # in a denoising error; noise draws where there are fewer points
NEIGHBOURS, LOCAL_RANK = 32, 8  # of local PCA


@dataclass(frozen=True)
class Problem:
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
    def lam(self) -> float:
        """Weight decay λ of objective (1)."""
        return DECAY * self.scale**2


@dataclass(frozen=True)
class Family:
    """Denoisers of one kind, ``make(params)`` for each entry of ``params`` along a leading (S).

    Families with equal ``make`` and shapes share their compiled programs.
    """

    make: Callable[[Any], Denoiser]
    params: Any

    def sample(
        self, start_SMD: Float[np.ndarray, "S M D"], sigmas_T: Float[np.ndarray, " T"]
    ) -> Float[np.ndarray, "S M D"]:
        """Each member's samples from its own starts by Heun's method."""
        return np.asarray(_samples(self.params, start_SMD, sigmas_T, self.make))

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
        return denoising_errors(make(params), points_ND, sigmas_L, jax.random.key(0), draws)

    return jax.lax.map(one, params_S)


def schedule(problem: Problem) -> Float[np.ndarray, " T"]:
    """The sampler's noise levels: those of the nets, closer together, and 0."""
    return geometric_schedule(problem.levels[0], problem.levels[-1], SAMPLER_STEPS)


def starts(problem: Problem, seeds: tuple[int, ...]) -> Float[jax.Array, "S M D"]:
    """Pure noise of the highest level, float32, its own for each seed."""
    d, top = problem.x.shape[1], problem.levels[0]
    keys_S = [jax.random.fold_in(jax.random.key(seed), 1) for seed in seeds]
    return jnp.stack([start_noise(key, SAMPLES, d, top, jnp.float32) for key in keys_S])


def sampled(
    family: Family, problem: Problem, seeds: tuple[int, ...]
) -> tuple[Float[np.ndarray, "S M D"], Float[np.ndarray, "S m D"]]:
    """A family's samples, and those of twice the noise of the first DOUBLED."""
    once = starts(problem, seeds)
    start_SMD = jnp.concatenate([once, 2 * once[:, :DOUBLED]], axis=1)
    found = family.sample(start_SMD, schedule(problem))
    return found[:, :SAMPLES], found[:, SAMPLES:]


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

    def denoiser(y_MD, sigma):
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


def closed_form(problem: Problem, seeds: tuple[int, ...]) -> Family:
    """The weights (5) at every level, whether or not their gates hold there."""
    width = max(problem.width, len(problem.x))
    found = [predict_memorization(problem.x, s, problem.lam, width) for s in problem.levels]
    weights = (np.stack([getattr(p, name) for p in found]) for name in ("w1", "w2"))
    nets = (problem.levels, *weights)
    return same_for_all(level_set, jax.tree.map(np.float32, nets), seeds)


def train_level_sets(
    problems: list[Problem], seeds: tuple[int, ...], batch_size: int | None
) -> list[Family]:
    """One net for each problem, seed and noise level, all in one compiled call.

    The problems share the number of features, the width and the scale.
    """
    first = problems[0]
    config = TrainConfig(
        width=first.width,
        sigma=first.levels[0],
        lam=first.lam,
        steps=STEPS,
        learning_rate=LEARNING_RATE,
        batch_size=batch_size,
        records=1,
    )
    x_END, weight_EN = (
        jnp.asarray(array, jnp.float32) for array in pad_samples([p.x for p in problems])
    )
    grid = (len(problems), len(seeds), LEVELS)
    which_B, seed_B, level_B = (axis.ravel() for axis in np.indices(grid))
    keys_B = jax.vmap(jax.random.key)(np.array(seeds)[seed_B])
    keys_B = jax.vmap(jax.random.fold_in)(keys_B, level_B)
    sigma_B = jnp.asarray(first.levels[level_B], jnp.float32)
    level = Level(sigma_B, jnp.full_like(sigma_B, first.lam))
    specs_B = NetSpec(keys_B, jnp.asarray(which_B), jnp.full(len(which_B), first.width), level)
    devices = jax.local_devices()
    devices = devices if len(which_B) % len(devices) == 0 else devices[:1]
    nets_B, _, _ = advance_nets(
        init_nets(specs_B, x_END.shape[-1], config),
        jnp.asarray(0),
        x_END,
        weight_EN,
        config,
        Mesh(np.array(devices), ("nets",)),
    )
    # On one device, so that they can be used together with anything else.
    weights = [np.asarray(w).reshape(*grid, *w.shape[1:]) for w in nets_B.params]
    levels_SL = np.tile(np.float32(first.levels), (len(seeds), 1))
    return [Family(level_set, (levels_SL, *(w[e] for w in weights))) for e in range(len(problems))]


def train_multi(problem: Problem, seeds: tuple[int, ...], preconditioned: bool) -> Family:
    """One net for all noise levels, for each seed; the moving average of its parameters."""
    config = MultiSigmaConfig(
        width=problem.width,
        sigma_min=float(problem.levels[-1]),
        sigma_max=float(problem.levels[0]),
        preconditioned=preconditioned,
        sigma_data=problem.scale / problem.x.shape[1] ** 0.5,
        steps=STEPS,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH,
        ema_decay=0.99,
    )
    nets = [train_multi_sigma(jax.random.key(seed), problem.x, config) for seed in seeds]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[net.average for net in nets])
    return Family(MultiSigma(nets[0].module), params)


def error_table(
    problems: dict[str, Problem],
    mixture: Mixture,
    families: dict[str, Family],
    samples: dict[str, Float[np.ndarray, "S M D"]],
) -> dict[str, DenoisingErrors]:
    """Denoising errors of every denoiser of a problem on its training, held-out and generated
    samples, at the levels of the nets; the generated ones are those of its set of nets."""
    table = {}
    for problem in ("few", "many"):
        p = problems[problem]
        moments = (p.x.mean(axis=0), np.cov(p.x.T, bias=True))
        rivals = {
            "exact": same_for_all(_mixture, (mixture.means, mixture.covs, mixture.priors), (0,)),
            "empirical": same_for_all(empirical_denoiser, np.float32(p.x), (0,)),
            "gaussian": same_for_all(_gaussian, moments, (0,)),
            "local_pca": same_for_all(_local_pca, np.float32(p.x), (0,)),
        }
        for kind in ("set", "plain", "preconditioned"):
            rivals[kind] = families[f"{problem}/{kind}"]
        generated_ND = np.concatenate(samples[f"{problem}/set"].swapaxes(0, 1))
        points = {"train": p.x, "test": p.held_out, "generated": generated_ND}
        for kind, family in rivals.items():
            for on, x_ND in points.items():
                table[f"{problem}/{kind}/{on}"] = family.errors(x_ND, p.levels)
    for name in ("few/closed", "images/set", "images/plain"):
        p = problems[name.split("/")[0]]
        table[f"{name}/train"] = families[name].errors(p.x, p.levels)
    return table


def _mixture(parts):
    return mixture_denoiser(*parts)


def _gaussian(moments):
    return gaussian_denoiser(*moments)


def _local_pca(x_ND):
    neighbours = min(NEIGHBOURS, len(x_ND))
    return local_pca_denoiser(x_ND, neighbours, min(LOCAL_RANK, neighbours - 1))
