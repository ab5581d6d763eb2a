"""Nets under test: trained from random starts when they are first asked for, or given."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.checks import InputError
from dae_theory.minima.stationarity import pairs_bytes
from dae_theory.relu.batch import MEMORY_SHARE, free_memory, nets_per_batch
from dae_theory.relu.model import init_weights
from dae_theory.relu.optimize import TrainConfig
from dae_theory.relu.train import train_many
from dae_theory.relu.units import live_units
from dae_theory.solve.local import solve_local_minimum
from dae_theory.sweep.plan import Sizes, memory_bytes
from dae_theory.weights.read import SavedWeights

Progress = Callable[[str, int, int], None]  # what is going on, steps done, steps in total


@dataclass(frozen=True)
class Nets:
    """S nets of one data set.

    ``w1``, ``w2`` (S, D, P) float64; ``seeds`` (S,), empty for weights from a file; ``steps``
    (T,) and ``live`` (S, T), live units during training, None when it was not watched.
    """

    w1: Float[np.ndarray, "S D P"]
    w2: Float[np.ndarray, "S D P"]
    seeds: tuple[int, ...] = ()
    steps: Int[np.ndarray, " T"] | None = None
    live: Int[np.ndarray, "S T"] | None = None

    @property
    def pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(W1, W2) of each net."""
        return list(zip(self.w1, self.w2, strict=True))


@dataclass(frozen=True)
class Training:
    """Nets to be trained, from every seed on every data set, when they are first asked for.

    Attributes:
      data_sets: samples (N, D) of each.
      config: how, with σ, λ and the width.
      trainer: 'sgd' (sampled noise) or 'exact' (solver on the exact loss).
      seeds: of the random starts, for each data set.
      levels: noise level σ and weight decay λ of each data set.
      what: what the progress is about.
      progress: called while it goes on.
    """

    data_sets: tuple[Float[np.ndarray, "N D"], ...]
    config: TrainConfig
    trainer: str
    seeds: tuple[tuple[int, ...], ...]
    levels: tuple[tuple[float, float], ...]
    what: str
    progress: Progress

    @cached_property
    def nets(self) -> tuple[Nets, ...]:
        """The trained nets of each data set."""
        return self._solved if self.trainer == "exact" else self._trained

    @property
    def done(self) -> bool:
        """The nets have been trained."""
        return "nets" in vars(self)

    @property
    def _trained(self) -> tuple[Nets, ...]:
        check_memory(self.data_sets, self.config, len(self.data_sets) * len(self.seeds[0]))
        keys_ES = jax.vmap(jax.vmap(jax.random.key))(np.array(self.seeds))
        total = self.config.steps
        result = train_many(
            keys_ES,
            self.data_sets,
            self.config,
            lambda done: self.progress(self.what, done, total),
            levels=self.levels,
        )
        w1, w2, steps, live = (
            np.asarray(array)
            for array in (result.w1, result.w2, result.trace.steps, result.trace.live)
        )
        return tuple(
            Nets(w1[i].astype(float), w2[i].astype(float), self.seeds[i], steps[i, 0], live[i])
            for i in range(len(self.data_sets))
        )

    @property
    def _solved(self) -> tuple[Nets, ...]:
        each = zip(self.data_sets, self.seeds, self.levels, strict=True)
        return tuple(self._solve(*one) for one in each)

    def _solve(
        self, x_ND: Float[np.ndarray, "N D"], seeds: tuple[int, ...], level: tuple[float, float]
    ) -> Nets:
        solutions = []
        for done, seed in enumerate(seeds):
            self.progress(self.what, done, len(seeds))
            shape, scale = (x_ND.shape[1], self.config.width), self.config.init_scale
            start = map(np.asarray, init_weights(jax.random.key(seed), *shape, scale=scale))
            solutions.append(solve_local_minimum(*start, x_ND, *level))
        self.progress(self.what, len(seeds), len(seeds))
        w1, w2 = (np.stack(w) for w in zip(*((s.w1, s.w2) for s in solutions), strict=True))
        return Nets(w1, w2, seeds)


def check_memory(
    data_sets: tuple[Float[np.ndarray, "N D"], ...], config: TrainConfig, count: int
) -> None:
    """Raise InputError where ``count`` nets would take more than MEMORY_SHARE of the free memory,
    as a sweep estimates it, to train or to look at."""
    n, d = max(len(x_ND) for x_ND in data_sets), data_sets[0].shape[1]
    devices = min(jax.local_device_count(), count)
    share = -(-count // devices)

    def needed(width: int) -> int:
        how, sizes = replace(config, width=width), Sizes(n, width, d, 0)
        group = min(nets_per_batch(how, d), share)
        training = memory_bytes(how, sizes, devices * share, group, len(data_sets), devices)
        return max(training, pairs_bytes(n, width))  # the nets are asked whether they are at minima

    free = MEMORY_SHARE * free_memory(jax.local_devices())
    if needed(config.width) <= free:
        return
    fitting = config.width
    while fitting > 1 and needed(fitting) > free:
        fitting //= 2
    advice = f"lower p to {fitting}" if needed(fitting) <= free else "lower n"
    raise InputError(
        f"p: to train {count} nets of n={n}, p={config.width} takes about "
        f"{needed(config.width) / 1e9:.3g} GB, more than {free / 1e9:.3g}; {advice}"
    )


def fewest_live(nets: Nets) -> int:
    """Live units of the net that has fewest."""
    return int(np.min(np.sum(live_units(nets.w1, nets.w2), axis=-1)))


def has_free_layers(nets: Nets) -> bool:
    """Encoder and decoder are two matrices: of a tied net it says nothing that they agree."""
    return not np.array_equal(nets.w1, nets.w2)


def nets_of(saved: SavedWeights) -> Nets:
    """The one net of a file."""
    return Nets(saved.w1[None], saved.w2[None])


def untrained(nets: Nets) -> Nets:
    """The same number of nets at random starts of the same norms ‖W1‖, ‖W2‖: a mutant."""
    rng = np.random.default_rng(0)

    def start(w_SDP: Float[np.ndarray, "S D P"]) -> Float[np.ndarray, "S D P"]:
        random = rng.standard_normal(w_SDP.shape)
        norms, drawn = (np.linalg.norm(w, axis=(1, 2), keepdims=True) for w in (w_SDP, random))
        return random / drawn * norms

    return replace(nets, w1=start(nets.w1), w2=start(nets.w2))


def with_scaled_columns(
    nets: Nets, chosen_SP: Bool[np.ndarray, "S P"], encoder: float, decoder: float
) -> Nets:
    """Chosen columns of W1 and W2 multiplied by a factor each: a mutant."""
    factor = chosen_SP[:, None, :].astype(float)
    return replace(
        nets,
        w1=nets.w1 * (1 + (encoder - 1) * factor),
        w2=nets.w2 * (1 + (decoder - 1) * factor),
    )
