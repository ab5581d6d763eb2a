"""The same experiment on several data sets that were drawn independently."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from dae_theory.checks import InputError
from dae_theory.data import Dataset, centred
from dae_theory.data.images import faces, patches
from dae_theory.data.subsets import choose_samples
from dae_theory.relu.optimize import TrainConfig
from proofs_checks.config import FIRST_JUDGING_SEED, DataUsed, RunConfig
from proofs_checks.nets import Progress, Training

FACE_POOL, PATCH_POOL, PATCHES, SIDE = 50, 100, 400, 25  # draws are chosen from random pools
# Images that seeds of development chose, five each, which judging seeds leave out: `chosen_by`.
DEVELOPMENT = (*range(8), *range(100, 108))
DEVELOPED = {
    "faces": (
        *(2, 3, 6, 17, 19, 21, 23, 25, 27, 29, 34, 38, 39, 41, 43, 44, 47, 49, 51, 54, 57, 61, 73),
        *(75, 77, 78, 79, 86, 87, 89, 91, 96, 97, 98),
    ),
    "patches": (
        *(3, 5, 7, 55, 91, 122, 124, 128, 132, 135, 147, 155, 174, 181, 195, 197, 224, 229, 253),
        *(271, 277, 292, 311, 337, 342, 355, 362, 369, 372, 382, 389),
    ),
}
SEEDS_A_DRAW = 10_000


@dataclass(frozen=True)
class Draws:
    """Claims are judged over ``draws``, experiments of one regime on a data set each
    (`claims.check`); what is drawn, and shown, is the first."""

    draws: tuple[Any, ...]

    @property
    def settings(self) -> dict:
        """What was checked: settings of the first draw, and margins of all."""
        first, *_ = (draw.settings for draw in self.draws)
        z = self.margins
        words = f"median of {len(z)} data sets; {z.min():.2f} to {z.max():.2f}"
        return first | {
            "z": f"{np.median(z):.2f} ({words})",
            "seeds": sum(draw.settings["seeds"] for draw in self.draws),
        }

    @cached_property
    def margins(self) -> np.ndarray:
        """Gate margin z of each draw."""
        return np.array([draw.settings["z"] for draw in self.draws])

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples of all draws, by name and hash."""
        return tuple(used for draw in self.draws for used in draw.data)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw: the first data set, and the margins of all."""
        return self.draws[0].arrays | {"margins": self.margins}


def drawn_samples(seed: int, n: int) -> tuple[Dataset, Int[np.ndarray, " M"]]:
    """Faces for even seeds and patches of as many pixels for odd ones, centred, and the pool that
    samples are chosen from: random ones, all where there are too few, and for judging seeds none
    that development chose."""
    name, size = ("faces", FACE_POOL) if seed % 2 == 0 else ("patches", PATCH_POOL)
    dataset = centred_images(name)
    left_out = DEVELOPED[name] if seed >= FIRST_JUDGING_SEED else ()
    images = np.setdiff1d(np.arange(len(dataset.x)), left_out)
    if n > len(images):
        raise InputError(f"n: {dataset.name} has {len(images)} samples, asked for {n}")
    count = min(max(size, n), len(images))
    return dataset, np.sort(np.random.default_rng(seed).choice(images, count, replace=False))


def chosen_by(seeds: Iterable[int], n: int) -> dict[str, tuple[int, ...]]:
    """Images that draws of ``n`` samples of these seeds choose, by the name of their data set."""
    chosen: dict[str, set[int]] = {name: set() for name in DEVELOPED}
    for seed in seeds:
        dataset, pool_M = drawn_samples(seed, n)
        found, _ = choose_samples(dataset.x[pool_M], n)
        chosen[dataset.name].update(pool_M[found].tolist())
    return {name: tuple(sorted(found)) for name, found in chosen.items()}


@functools.cache
def centred_images(name: str) -> Dataset:
    """'faces', or 'patches' of as many pixels, centred: read once for all draws."""
    return centred(faces() if name == "faces" else patches(PATCHES, size=SIDE))


def further_seed(seed: int, number: int) -> int:
    """A seed for a further sample of the mixture of a seed, by its number, used by no other."""
    return SEEDS_A_DRAW * (seed + 1) + number


def trained_together(
    draws: Sequence[Any],
    how: TrainConfig,
    config: RunConfig,
    what: str,
    progress: Progress,
    *,
    drawn: bool,
) -> Any:
    """Experiments with nets to be trained, in one program, on all of their ``problems``.

    Where data sets were ``drawn`` each has a start, of its own seed; else the one experiment on the
    user's data has all. The nets of an experiment are those from its ``first`` on.
    """
    starts = [(seed,) for seed in config.data_seeds] if drawn else [config.net_seeds]
    problems = [e.problems for e in draws]
    each = [(p, seeds) for of, seeds in zip(problems, starts, strict=True) for p in of]
    training = Training(
        tuple(p.x for p, _ in each),
        how,
        config.trainer,
        tuple(seeds for _, seeds in each),
        tuple((p.sigma, p.lam) for p, _ in each),
        what,
        progress,
    )
    trained, first = [], 0
    for e, of in zip(draws, problems, strict=True):
        trained.append(replace(e, training=training, first=first))
        first += len(of)
    return Draws(tuple(trained)) if drawn else trained[0]
