"""Where random starts end: descents, exact solutions, and what the minima have in common.

Equiangular unit samples at several cosines, nets of several widths, starts of small and of large
scale, each descended by Adam, SGD or L-BFGS and then solved to a local minimum. Every start is
drawn afresh, so that all are independent.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float

from dae_theory.data.mixtures import equiangular_directions, random_rotation
from dae_theory.minima.census import (
    Census,
    Minimum,
    classify_minimum,
    count_minima,
    find_minimum,
)
from dae_theory.relu.optimize import TrainConfig, make_optimizer, train_steps
from dae_theory.statistics import wilson_interval
from dae_theory.theory.closed_forms import Prediction, predict_memorization
from proofs_checks.claims import Assumption
from proofs_checks.probes import EXACT_MARGIN, exact_loss_value

N, SIGMA, LAM = 4, 0.03, 0.005
DIMENSION = N + 1  # all directions orthogonal to the samples are alike
COSINES = (-1 / (N - 1), -0.2, -0.1, 0.0, 0.1, 0.3)
DRAWS = {
    1: 3,
    2: 1,
    4: 1,
}  # starts of each kind for a seed, by p/n: most where shares are least clear
SCALES = (0.1, 2.0)  # norm of a column at the start
DESCENTS = {  # learning rate and steps; L-BFGS is part of the solver
    "adam": (0.01, 2000),
    "sgd": (0.03, 4000),
    "lbfgs": None,
}
OPTIMIZERS = tuple(DESCENTS)
QUICK_COSINES = (-0.2, 0.0, 0.3)
SETTLED_SHARE = 0.99  # of the starts, that must end in a local minimum


class Start(NamedTuple):
    """One random start: cosine between samples, p/n, scale, optimizer, seed, and which draw."""

    cosine: float
    ratio: int
    scale: float
    optimizer: str
    seed: int
    draw: int


class Ending(NamedTuple):
    """Where a start ended."""

    start: Start
    minimum: Minimum
    settled: bool


@functools.cache
def equiangular(cosine: float) -> Float[np.ndarray, "N D"]:
    """The unit samples at one cosine."""
    return equiangular_directions(N, DIMENSION, cosine) @ random_rotation(0, DIMENSION).T


# --- descent ---------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="config")
def _descend(weights_B2DP, x_BND, keys_B, config: TrainConfig) -> Float[Array, "B 2 D P"]:
    """Training of many nets at once, each from given weights and on its own samples."""
    optimizer = make_optimizer(config)
    weight_N = jnp.full(x_BND.shape[1], 1 / x_BND.shape[1], x_BND.dtype)

    def descend(weights, x_ND, key):
        params = (weights[0], weights[1])
        params, _, _ = train_steps(
            key, params, optimizer.init(params), jnp.arange(config.steps), x_ND, weight_N, config
        )
        return jnp.stack(params)

    return jax.vmap(descend)(weights_B2DP, x_BND, keys_B)


def draw_start(start: Start, widest: int) -> tuple[Float[np.ndarray, "2 D P"], int]:
    """Columns of norm about ``scale``, up to the start's width and zero beyond; seed of the noise
    in training."""
    numbers = np.array([start.cosine, start.scale]).view(np.uint64).tolist()
    optimizer = OPTIMIZERS.index(start.optimizer)
    rng = np.random.default_rng([start.seed, start.draw, start.ratio, optimizer, *numbers])
    weights, width = np.zeros((2, DIMENSION, widest)), start.ratio * N
    weights[:, :, :width] = rng.standard_normal((2, DIMENSION, width))
    return start.scale / np.sqrt(DIMENSION) * weights, int(rng.integers(2**31))


def descended(starts: Sequence[Start], optimizer: str) -> Float[np.ndarray, "B 2 D P"]:
    """Where an optimizer takes the starts. Zero columns have no gradient, and stay zero."""
    widest = N * max(start.ratio for start in starts)
    weights, seeds = zip(*(draw_start(start, widest) for start in starts), strict=True)
    if DESCENTS[optimizer] is None:
        return np.stack(weights)
    rate, steps = DESCENTS[optimizer]
    config = TrainConfig(
        width=widest, sigma=SIGMA, lam=LAM, steps=steps, optimizer=optimizer, learning_rate=rate
    )
    x_BND = np.stack([equiangular(start.cosine) for start in starts])
    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    return np.asarray(_descend(as_float32(np.stack(weights)), as_float32(x_BND), keys, config))


def ending(start: Start, weights_2DP: Float[np.ndarray, "2 D P"]) -> Ending:
    """The local minimum next to where the descent of a start stopped."""
    x_ND, width = equiangular(start.cosine), start.ratio * N
    end = find_minimum(*weights_2DP[:, :, :width].astype(float), x_ND, SIGMA, LAM)
    minimum = classify_minimum(end.w1, end.w2, x_ND, SIGMA, LAM, end.loss)
    return Ending(start, minimum, end.is_minimum)


@dataclass(frozen=True)
class Runs:
    """All starts, and where they end."""

    starts: tuple[Start, ...]

    @cached_property
    def endings(self) -> tuple[Ending, ...]:
        """In the order of the starts."""
        reached: dict[Start, np.ndarray] = {}
        for optimizer in OPTIMIZERS:
            batch = [start for start in self.starts if start.optimizer == optimizer]
            reached |= zip(batch, descended(batch, optimizer), strict=True)
        return tuple(ending(start, reached[start]) for start in self.starts)


def all_starts(cosines: Sequence[float], seeds: Sequence[int]) -> tuple[Start, ...]:
    """DRAWS starts for every cosine, p/n, scale, optimizer and seed."""
    draws = [(ratio, draw) for ratio, count in DRAWS.items() for draw in range(count)]
    every = product(cosines, SCALES, OPTIMIZERS, seeds, draws)
    return tuple(Start(cosine, ratio, *rest, draw) for cosine, *rest, (ratio, draw) in every)


def net_loss(prediction: Prediction, x_ND: Float[np.ndarray, "N D"]) -> float:
    """Exact loss of the predicted net, whether or not its gates are as the theory has it."""
    p = prediction
    return exact_loss_value(p.w1, p.w2, x_ND, p.sigma, p.lam)


@dataclass(frozen=True)
class CensusStudy:
    """Where random starts end. Under test: the formula (5) in ``predict``, what counts as the
    loss of the net (5), and ``relabel``, what is taken for the endings of which starts."""

    runs: Runs
    predict: Callable[..., Prediction] = predict_memorization
    net_loss: Callable[..., float] = net_loss
    relabel: Callable[[Sequence[Ending]], Sequence[Ending]] = tuple

    @cached_property
    def endings(self) -> tuple[Ending, ...]:
        """Where the starts end."""
        return tuple(self.relabel(self.runs.endings))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the starts."""
        return tuple(sorted({start.seed for start in self.runs.starts}))

    def chosen(self, which: Callable[[Start], bool]) -> list[Ending]:
        """The endings of some of the starts."""
        return [end for end in self.endings if which(end.start)]

    def flags(self, which: Callable[[Start], bool], has: Callable[[Minimum], bool]) -> list[bool]:
        """For each of some of the starts whether it ends in a minimum of some kind."""
        return [has(end.minimum) for end in self.chosen(which)]

    def distinct(self, which: Callable[[Start], bool]) -> Census:
        """Minima modulo symmetry, where the chosen starts share a cosine."""
        return count_minima([end.minimum for end in self.chosen(which)], interchangeable=True)

    def prediction(self, cosine: float) -> Prediction:
        """(5) on the samples at one cosine."""
        return self.predict(equiangular(cosine), SIGMA, LAM)


# --- what is measured ------------------------------------------------------------------------


def is_negative(start: Start) -> bool:
    """A cosine for which the theory holds."""
    return start.cosine < 0


@functools.cache
def margin(cosine: float) -> float:
    """Gate margin of (5) at one cosine."""
    return predict_memorization(equiangular(cosine), SIGMA, LAM).margin


def is_exact(start: Start) -> bool:
    """A cosine at which no noise crosses a gate of (5)."""
    return margin(start.cosine) >= EXACT_MARGIN


def of_ratio(ratio: int, cosines: Callable[[Start], bool]) -> Callable[[Start], bool]:
    """Starts of one p/n among these."""
    return lambda start: start.ratio == ratio and cosines(start)


def assume_settled(which: Callable[[Start], bool]) -> Callable[[CensusStudy], dict]:
    """Every seed has such starts, and they end in local minima."""

    def assume(study: CensusStudy) -> dict[str, Assumption]:
        chosen = study.chosen(which)
        seeds = {end.start.seed for end in chosen}
        settled = float(np.mean([end.settled for end in chosen])) if chosen else 0.0
        return {
            "seeds with such starts": Assumption(
                len(seeds), f"{len(study.seeds)}", len(seeds) == len(study.seeds)
            ),
            "starts that end in a minimum": Assumption(
                settled, f">= {SETTLED_SHARE:g}", settled >= SETTLED_SHARE
            ),
        }

    return assume


def by_seed(
    study: CensusStudy,
    which: Callable[[Start], bool],
    value: Callable[[Ending], float],
    reduce: Callable[[list], float] = np.mean,
) -> Float[np.ndarray, " S"]:
    """Mean, or another reduction, of a value over the endings of each seed."""
    values: dict[int, list[float]] = {seed: [] for seed in study.seeds}
    for end in study.chosen(which):
        values[end.start.seed].append(value(end))
    return np.array([reduce(those) for those in values.values()])


def words(flags: list[bool]) -> str:
    """The share of those that are true and its interval, in words."""
    _, low, high = wilson_interval(sum(flags), len(flags))
    return f"{sum(flags)}/{len(flags)} [{low:.2f}, {high:.2f}]"


def measure_share(
    which: Callable[[Start], bool], has: Callable[[Minimum], bool], target: float
) -> Callable[[CensusStudy], dict]:
    """Share of the starts that end in a minimum of some kind; error: distance from the target."""

    def measure(study: CensusStudy) -> dict:
        flags_S = by_seed(study, which, lambda end: has(end.minimum))
        cosines = sorted({end.start.cosine for end in study.chosen(which)})
        flags = [study.flags(lambda s, c=c: which(s) and s.cosine == c, has) for c in cosines]
        parts = [f"{c:.2g}: {np.mean(f):.2f}" for c, f in zip(cosines, flags, strict=True)]
        return {
            "measured": float(np.mean(flags_S)),
            "predicted": target,
            "errors": np.abs(flags_S - target),
            "seeds": study.seeds,
            "note": f"{words(study.flags(which, has))}; by cosine {', '.join(parts)}",
        }

    return measure


def measure_lowest(study: CensusStudy) -> dict:
    """Lowest loss that a start of each seed reaches, relative to that of (5)."""
    losses = {c: study.prediction(c).loss for c in {s.cosine for s in study.runs.starts}}
    lowest_S = by_seed(
        study, is_exact, lambda end: end.minimum.loss / losses[end.start.cosine] - 1, np.min
    )
    reach = study.flags(is_exact, lambda minimum: minimum.memorizes_weights)
    return {
        "measured": float(np.min(lowest_S)),
        "predicted": 0.0,
        "errors": np.abs(lowest_S),
        "seeds": study.seeds,
        "note": f"(lowest loss)/(loss of (5)) − 1; {words(reach)} of starts reach it",
    }


def subset_loss(prediction: Prediction, stored_N: np.ndarray) -> float:
    """Loss when (5) keeps only the stored samples; the samples have unit norm."""
    stored = np.mean(stored_N)
    return float(stored * prediction.loss + (1 - stored))


def measure_subsets(study: CensusStudy) -> dict:
    """Loss of each minimum beside that of (5) on the samples it stores."""

    def miss(end: Ending) -> float:
        prediction = study.prediction(end.start.cosine)
        predicted = subset_loss(prediction, end.minimum.stored)
        return abs(end.minimum.loss / predicted - 1)

    errors_S = by_seed(study, is_exact, miss, np.max)
    stored = [int(end.minimum.stored.sum()) for end in study.chosen(is_exact)]
    counts = [f"{k}: {stored.count(k)}" for k in sorted(set(stored), reverse=True)]
    cosines = {end.start.cosine for end in study.chosen(is_exact)}
    most = max(len(study.distinct(lambda s, c=c: s.cosine == c).distinct) for c in cosines)
    return {
        "measured": float(np.max(errors_S)),
        "predicted": 0.0,
        "errors": errors_S,
        "seeds": study.seeds,
        "note": f"starts by samples stored: {', '.join(counts)}; at most {most} minima a cosine",
    }


def measure_below(study: CensusStudy) -> dict:
    """Largest loss at positive cosine, relative to that of the net (5)."""
    found = sorted({start.cosine for start in study.runs.starts if start.cosine > 0})
    ratios, counts = [], []
    for cosine in found:
        net = study.net_loss(study.prediction(cosine), equiangular(cosine))
        endings = study.chosen(lambda start, c=cosine: start.cosine == c)
        ratios += [end.minimum.loss / net for end in endings]
        minima = study.distinct(lambda start, c=cosine: start.cosine == c).distinct
        counts.append(f"{cosine:.2g}: {len(minima)}")
    return {
        "measured": float(np.mean(ratios)),
        "predicted": 1.0,
        "errors": np.array([max(ratios)]),
        "note": f"mean loss/(loss of the net (5)), largest {max(ratios):.3f}; distinct minima by "
        f"cosine {', '.join(counts)}",
    }


def measure_scale(study: CensusStudy) -> dict:
    """½(1 + share from small scale − share from large scale), of those that reach (5)."""
    small, large = SCALES
    shares = []
    for scale in SCALES:
        which = of_ratio(1, lambda s, scale=scale: is_negative(s) and s.scale == scale)
        shares.append(by_seed(study, which, lambda end: end.minimum.memorizes_weights))
    errors_S = (1 + shares[0] - shares[1]) / 2
    return {
        "measured": float(np.mean(errors_S)),
        "predicted": 0.0,
        "errors": errors_S,
        "seeds": study.seeds,
        "note": f"½ + half the difference; scale {small:g}: {np.mean(shares[0]):.2f}, "
        f"{large:g}: {np.mean(shares[1]):.2f}",
    }


def measure_optimizers(study: CensusStudy) -> dict:
    """χ² test of independence between optimizer and reaching (5), at p = n and β < 0."""
    reach = [
        study.flags(
            of_ratio(1, lambda s, name=name: is_negative(s) and s.optimizer == name),
            lambda minimum: minimum.memorizes_weights,
        )
        for name in OPTIMIZERS
    ]
    table = np.array([[sum(flags), len(flags) - sum(flags)] for flags in reach])
    table = table[:, table.any(axis=0)]
    p_value = float(scipy.stats.chi2_contingency(table, correction=False).pvalue)
    parts = [f"{name} {words(flags)}" for name, flags in zip(OPTIMIZERS, reach, strict=True)]
    return {
        "measured": p_value,
        "predicted": 1.0,
        "errors": np.array([1 - p_value]),
        "note": f"{', '.join(parts)}",
    }
