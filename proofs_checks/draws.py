"""The same experiment on several data sets that were drawn independently."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from dae_theory.checks import InputError
from dae_theory.data import Dataset, centred
from dae_theory.data.images import faces, patches
from dae_theory.relu.optimize import TrainConfig
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.nets import Progress, Training

FACE_POOL, PATCH_POOL, PATCHES, SIDE = 50, 100, 400, 25  # draws are chosen from random pools
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
    samples are chosen from: random ones, all where there are too few."""
    name, size = ("faces", FACE_POOL) if seed % 2 == 0 else ("patches", PATCH_POOL)
    dataset = centred_images(name)
    count = min(max(size, n), len(dataset.x))
    if n > len(dataset.x):
        raise InputError(f"n: {dataset.name} has {len(dataset.x)} samples, asked for {n}")
    pool = np.random.default_rng(seed).choice(len(dataset.x), count, replace=False)
    return dataset, np.sort(pool)


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
    each = [(p, seeds) for e, seeds in zip(draws, starts, strict=True) for p in e.problems]
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
    for e in draws:
        trained.append(replace(e, training=training, first=first))
        first += len(e.problems)
    return Draws(tuple(trained)) if drawn else trained[0]
