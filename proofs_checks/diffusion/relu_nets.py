"""ReLU nets to sample from, trained when they are first asked for, their samples and errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from dae_theory.data import Mixture
from dae_theory.diffusion.denoisers import DenoisingErrors
from dae_theory.diffusion.multi_sigma import MultiSigmaConfig, train_multi_sigma
from dae_theory.relu.batch import NetSpec, advance_nets, init_nets, nets_per_batch, pad_samples
from dae_theory.relu.optimize import Level, TrainConfig
from proofs_checks.diffusion.kept import kept
from proofs_checks.diffusion.relu_denoisers import (
    LEVELS,
    RIVALS,
    Drawn,
    Family,
    MultiSigma,
    Task,
    closed_form,
    level_set,
    rival,
)
from proofs_checks.nets import Progress

STEPS, LEARNING_RATE, BATCH = 1500, 3e-3, 32
CLOSED = ("images/closed", "few/closed")


def train_level_sets(
    each: Sequence[tuple[Task, tuple[int, ...]]], batch_size: int | None
) -> list[Family]:
    """One net for each task, each of its seeds and noise level, all in one compiled call.

    The tasks share the number of features, the width and the scale, and have as many seeds.
    """
    tasks, seeds = zip(*each, strict=True)
    first = tasks[0]
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
        jnp.asarray(array, jnp.float32) for array in pad_samples([task.x for task in tasks])
    )
    seeds_ES = np.array(seeds)
    grid = (*seeds_ES.shape, LEVELS)
    which_B, seed_B, level_B = (axis.ravel() for axis in np.indices(grid))
    keys_B = jax.vmap(jax.random.key)(seeds_ES[which_B, seed_B])
    keys_B = jax.vmap(jax.random.fold_in)(keys_B, level_B)
    sigma_B = jnp.asarray(first.levels[level_B], jnp.float32)
    level = Level(sigma_B, jnp.full_like(sigma_B, first.lam))
    specs_B = NetSpec(keys_B, jnp.asarray(which_B), jnp.full(len(which_B), first.width), level)
    devices = jax.local_devices()
    devices = devices if len(which_B) % len(devices) == 0 else devices[:1]
    # Full groups only: a smaller last one would compile once more.
    share = len(which_B) // len(devices)
    most = nets_per_batch(config, x_END.shape[-1])
    group = max(size for size in range(1, most + 1) if share % size == 0)
    nets_B, _, _ = advance_nets(
        init_nets(specs_B, x_END.shape[-1], config),
        jnp.asarray(0),
        x_END,
        weight_EN,
        config,
        Mesh(np.array(devices), ("nets",)),
        group,
    )
    # On one device, so that they can be used together with anything else.
    weights = [np.asarray(w).reshape(*grid, *w.shape[1:]) for w in nets_B.params]
    levels_SL = np.tile(np.float32(first.levels), (grid[1], 1))
    return [Family(level_set, (levels_SL, *(w[e] for w in weights))) for e in range(len(tasks))]


def train_multi(task: Task, seeds: tuple[int, ...], preconditioned: bool) -> Family:
    """One net for all noise levels, for each seed; the moving average of its parameters.

    Preconditioned nets need as many units as features.
    """
    config = MultiSigmaConfig(
        width=task.width,
        sigma_min=float(task.levels[-1]),
        sigma_max=float(task.levels[0]),
        preconditioned=preconditioned,
        sigma_data=task.scale / task.x.shape[1] ** 0.5,
        steps=STEPS,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH,
        ema_decay=0.99,
    )
    nets = [train_multi_sigma(jax.random.key(seed), task.x, config) for seed in seeds]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[net.average for net in nets])
    return Family(MultiSigma(nets[0].module), params)


@dataclass(frozen=True)
class FamilyTraining:
    """Families on several data sets, trained together when one of them is first asked for.

    Attributes:
      names: of each family, 'task/kind'.
      train: trains them, for each data set in the order of the names.
      progress: called while it goes on.
    """

    names: tuple[str, ...]
    train: Callable[[], Sequence[Family]]
    progress: Progress

    @cached_property
    def families(self) -> list[dict[str, Family]]:
        """The trained nets of each data set, by name."""
        what = f"training nets to sample from, {' and '.join(self.names)}"
        self.progress(what, 0, 1)
        found, count = self.train(), len(self.names)
        self.progress(what, 1, 1)
        return [
            dict(zip(self.names, found[first : first + count], strict=True))
            for first in range(0, len(found), count)
        ]

    @property
    def done(self) -> bool:
        """They have been trained."""
        return "families" in vars(self)


@dataclass(frozen=True)
class ReluNets:
    """Denoisers of all kinds on all tasks, with their samples and errors.

    Attributes:
      tasks: 'images' are stored images (memorizing), 'few' stored samples of ``mixture``
        (memorizing), 'many' its samples by far outnumber the units (generalizing; the same nets,
        levels, steps and sampler as 'few').
      mixture: whose exact denoiser is known.
      seeds: of starts of training, and of samples.
      trainings: of the kinds 'set' (a net for each level), 'plain' and 'preconditioned' (one net
        for all levels). Of the other kinds, 'closed' are the weights (5) at each level; the rest
        are RIVALS.
      number: of this data set among those of the trainings.
    """

    tasks: dict[str, Task]
    mixture: Mixture
    seeds: tuple[int, ...]
    trainings: tuple[FamilyTraining, ...] = ()
    number: int = 0

    @property
    def trained(self) -> set[str]:
        """Names of the families that have been trained."""
        return {name for training in self.trainings if training.done for name in training.names}

    @kept
    def family(self, name: str) -> Family:
        """The denoisers 'task/kind'."""
        problem, kind = name.split("/")
        if kind == "closed":
            return closed_form(self.tasks[problem], self.seeds)
        if kind in RIVALS:
            return rival(kind, self.tasks[problem], self.mixture)
        (training,) = (t for t in self.trainings if name in t.names)
        return training.families[self.number][name]

    @kept
    def drawn(self, name: str) -> Drawn:
        """What the denoisers 'task/kind' sample."""
        return self.family(name).draw(self.tasks[name.split("/")[0]], self.seeds)

    def samples(self, name: str) -> Float[np.ndarray, "S M D"]:
        """Samples of the denoisers 'task/kind'."""
        return self.drawn(name).samples

    def doubled(self, name: str) -> Float[np.ndarray, "S m D"]:
        """Samples of twice the noise of the first few."""
        return self.drawn(name).doubled

    @kept
    def errors(self, name: str) -> DenoisingErrors:
        """Denoising errors 'task/kind/points' (S, L) at the levels of the nets, on points 'train',
        'test' (held out) or 'generated' (by the task's set of nets)."""
        problem, kind, points = name.split("/")
        task = self.tasks[problem]
        if points == "generated":
            x_ND = np.concatenate(self.samples(f"{problem}/set").swapaxes(0, 1))
        else:
            x_ND = {"train": task.x, "test": task.held_out}[points]
        return self.family(f"{problem}/{kind}").errors(x_ND, task.levels)


def trained_together(each: Sequence[ReluNets], progress: Progress) -> list[ReluNets]:
    """The same with nets of all kinds from random starts, those of a kind trained together on all
    data sets; none is trained yet."""

    def sets(names: tuple[str, ...], batch_size: int | None) -> FamilyTraining:
        def train() -> list[Family]:
            tasks = [
                (nets.tasks[name.split("/")[0]], nets.seeds) for nets in each for name in names
            ]
            return train_level_sets(tasks, batch_size)

        return FamilyTraining(names, train, progress)

    def one(name: str) -> FamilyTraining:
        problem, kind = name.split("/")
        preconditioned = kind == "preconditioned"

        def train() -> list[Family]:
            return [train_multi(nets.tasks[problem], nets.seeds, preconditioned) for nets in each]

        return FamilyTraining((name,), train, progress)

    names = ("images/plain", "few/plain", "many/plain", "few/preconditioned", "many/preconditioned")
    trainings = (
        sets(("few/set", "many/set"), BATCH),
        sets(("images/set",), None),
        *map(one, names),
    )
    return [replace(nets, trainings=trainings, number=i) for i, nets in enumerate(each)]
