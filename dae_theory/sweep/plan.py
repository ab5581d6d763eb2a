"""What a sweep computes: its grid of cells, their data, and how cells are packed into batches.

A cell is one net: a seed with a sample count, σ, λ and width. Its seed fixes the initial weights,
the training samples and the noise, whatever else is in the same batch.
"""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError, check_count, check_size
from dae_theory.commands import option
from dae_theory.data.dataset import Mixture
from dae_theory.data.mixtures import simplex
from dae_theory.data.named import load
from dae_theory.relu.batch import nets_per_batch
from dae_theory.relu.loss import PAIR_FLOATS
from dae_theory.relu.optimize import TrainConfig

SMALLEST_CLASS, CLASS_RATIO = 16, 4  # shape classes end at 16, 64, 256, … samples or units
PROBES = 256  # most training samples whose noised copies are looked at
EXACT_PAIRS = 2**19  # samples × pairs of units up to which the exact loss needs no expansion
CHUNK_PAIRS = 2**17  # of these evaluated at once
CPU_CACHED_FLOATS = 2**20  # that a core works on at once without cache misses
ACCELERATOR_FLOATS = 2**28
HELD_OUT_SHARE = 0.2  # most of a pool that is held out
BYTES = 4  # float32
MOST_CELLS = 1_000_000
OPTIMIZER_COPIES = {"sgd": 0, "rmsprop": 1, "adam": 2, "adamw": 2}


@dataclass(frozen=True)
class SweepConfig:
    """A grid of nets, one for each seed × n × sigma × lam × p."""

    n: tuple[int, ...] = option((2, 8, 32), "Training samples, separated by commas.")
    seeds: int = option(4, "Seeds 0 … seeds−1: of weights, training samples and noise.")
    sigma: tuple[float, ...] = option((0.1,), "Noise levels, in data units, separated by commas.")
    lam: tuple[float, ...] = option(
        (1e-3,), "Weight decays λ of objective (1), separated by commas."
    )
    p: tuple[int, ...] = option((16,), "Units, separated by commas.")
    data: str = option(
        "mixture",
        "mixture, simplex, faces, patches, fashion_mnist, FILE.npy, FILE.npz or a folder.",
    )
    dimension: int = option(32, "Features of synthetic data.")
    clusters: int = option(3, "Clusters of the mixture.")
    alpha: float = option(0.2, "Spread of a cluster of the mixture, relative to its mean.")
    size: int | None = option(
        None, "Side of patches, or to which the images of a folder are resized."
    )
    limit: int = option(20_000, "Most samples that training and held-out samples are taken from.")
    center: bool = option(True, "Subtract the mean of image and file data.")
    held_out: int = option(256, "Most samples held out for tests, at most a fifth of all.")
    steps: int = option(4000, "Optimizer steps.")
    optimizer: str = option("adam", "adam, adamw, rmsprop or sgd.")
    learning_rate: float = option(1e-2, "At the start.")
    schedule: str = option("cosine", "constant, linear or cosine decay of the learning rate.")
    batch_size: int | None = option(None, "Samples in a step; default all.", flag="batch")
    draws: int = option(1, "Noise draws for each sample and step.")
    gradient: str = option("sampled", "sampled noise, or the exact expected gradient.")
    tied: bool = option(False, "One weight matrix, W2 = W1.")
    init_scale: float = option(1.0, "Norm of a column at the start.")
    save_weights: bool = option(False, "Keep the weights of every cell, in weights/*.npz.")

    def __post_init__(self) -> None:
        for name in ("n", "sigma", "lam", "p"):
            values = getattr(self, name)
            if not values:
                raise InputError(f"{name}: give at least one value")
            if len(set(values)) < len(values):
                raise InputError(f"{name}: a value is given twice in {list(values)}")
        for value in self.n:
            check_count(value, "n")
        for value in self.p:
            check_count(value, "p")
        for name in ("seeds", "dimension", "clusters", "limit", "held_out"):
            check_count(getattr(self, name), name)
        if self.batch_size is not None:
            check_count(self.batch_size, "batch")
        cells = math.prod(map(len, (self.n, self.sigma, self.lam, self.p))) * self.seeds
        if cells > MOST_CELLS:
            raise InputError(f"seeds: {cells} cells, more than {MOST_CELLS}; make several sweeps")
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise InputError(f"alpha: must be finite and >= 0, got {self.alpha}")
        if not (math.isfinite(self.init_scale) and self.init_scale > 0):
            raise InputError(f"init_scale: must be finite and > 0, got {self.init_scale}")
        for sigma, lam in itertools.product(self.sigma, self.lam):
            train_config(self, max(self.p), sigma, lam)


def train_config(
    config: SweepConfig, width: int, sigma: float = 1.0, lam: float = 0.0
) -> TrainConfig:
    """How the nets of one width class are trained; each cell brings its own σ and λ."""
    shared = {field.name for field in dataclasses.fields(TrainConfig)}
    shared &= {field.name for field in dataclasses.fields(SweepConfig)} - {"sigma", "lam"}
    settings = {name: getattr(config, name) for name in shared}
    return TrainConfig(width=width, sigma=sigma, lam=lam, records=10, **settings)


class Cell(NamedTuple):
    """One net of the grid; ``index`` is its place in the product of all axes."""

    index: int
    seed: int
    n: int
    sigma: float
    lam: float
    p: int


def grid_cells(config: SweepConfig) -> list[Cell]:
    """All cells: seeds × n × sigma × lam × p, the last varying fastest."""
    axes = (range(config.seeds), config.n, config.sigma, config.lam, config.p)
    return [Cell(index, *values) for index, values in enumerate(itertools.product(*axes))]


@dataclass(frozen=True)
class Source:
    """Where training samples come from, and the samples (T, D) held out from all of them.

    ``pool`` (M, D) is None for synthetic data; ``mixture`` is None unless it is known. ``note``
    says what reading a user's files left out or changed.
    """

    name: str
    held_out: Float[np.ndarray, "T D"]
    pool: Float[np.ndarray, "M D"] | None = None
    mixture: Mixture | None = None
    note: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of all there is to draw from."""
        known = [self.held_out] if self.pool is None else [self.held_out, self.pool]
        if self.mixture is not None:
            known += [self.mixture.means, self.mixture.covs, self.mixture.priors]
        digest = hashlib.sha256()
        for array in known:
            digest.update(np.ascontiguousarray(array, "<f8").tobytes())
        return digest.hexdigest()


def load_source(config: SweepConfig) -> Source:
    """The data of a sweep.

    Of a pool a fixed share is held out, and each seed takes its training samples from the rest.
    A simplex has no other samples: random directions are held out.

    Raises:
      InputError: for unreadable data, or when the pool has fewer samples than the largest n.
    """
    if config.data == "mixture":
        shape = {name: getattr(config, name) for name in ("dimension", "clusters", "alpha")}
        dataset = load("mixture", config.held_out, **shape)
        return Source(config.data, dataset.x, mixture=dataset.mixture)
    if config.data == "simplex":
        if config.dimension < max(config.n) - 1:
            raise InputError(
                f"dimension: a simplex of n={max(config.n)} samples needs at least "
                f"{max(config.n) - 1} features, got {config.dimension}"
            )
        random_TD = np.random.default_rng(0).standard_normal((config.held_out, config.dimension))
        return Source(config.data, random_TD / np.linalg.norm(random_TD, axis=1, keepdims=True))
    dataset = load(config.data, config.limit, size=config.size, center=config.center)
    x_MD = dataset.x
    check_size(x_MD, "data")
    count = min(config.held_out, int(HELD_OUT_SHARE * len(x_MD)))
    if count == 0:
        raise InputError(f"data: {config.data} has {len(x_MD)} samples; a sweep needs at least 5")
    if len(x_MD) - count < max(config.n):
        raise InputError(
            f"n: {config.data} has {len(x_MD) - count} samples and {count} held out, asked for "
            f"{max(config.n)}; ask for fewer, or raise --limit if it has more"
        )
    x_MD = x_MD[np.random.default_rng(0).permutation(len(x_MD))]
    return Source(config.data, x_MD[:count], pool=x_MD[count:], note=dataset.note)


def training_samples(
    source: Source, seed: int, n: int
) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"] | None]:
    """The ``n`` samples of a seed in random order, and their clusters where these are known.

    Pools are drawn from without replacement, and a larger n of the same seed adds samples.
    """
    if source.pool is not None:
        return source.pool[np.random.default_rng(seed).permutation(len(source.pool))[:n]], None
    order = np.random.default_rng(seed).permutation(n)
    if source.mixture is None:
        return simplex(n, source.held_out.shape[1], seed=seed).x[order], None
    x_ND, labels_N = source.mixture.sample(seed + 1, n)  # seed 0 drew the held-out samples
    return x_ND[order], labels_N[order]


class Sizes(NamedTuple):
    """Static sizes of one compiled program: samples N, units P, features D, held-out samples T."""

    n: int
    p: int
    d: int
    t: int


def padded_sizes(values: Sequence[int]) -> dict[int, int]:
    """For each value the largest of its class; classes end at 16, 64, 256, …"""
    classes: dict[int, list[int]] = {}
    for value in values:
        end = SMALLEST_CLASS
        while end < value:
            end *= CLASS_RATIO
        classes.setdefault(end, []).append(value)
    return {value: max(members) for members in classes.values() for value in members}


class Batch(NamedTuple):
    """Cells computed together: at most ``size``, in groups of ``group`` nets on each device, from
    at most ``data_sets`` data sets. ``cost`` is the estimated memory in bytes, all devices."""

    sizes: Sizes
    cells: tuple[Cell, ...]
    size: int
    group: int
    data_sets: int
    cost: int


def exact_chunk(pairs: int) -> int:
    """Samples whose pairs of units are evaluated at once in the exact loss."""
    return max(1, CHUNK_PAIRS // max(pairs, 1))


def measured_at_once(sizes: Sizes, share: int) -> int:
    """Nets of a device's ``share`` that are measured together: a divisor of it."""
    floats = CPU_CACHED_FLOATS if jax.default_backend() == "cpu" else ACCELERATOR_FLOATS
    most = max(1, floats // _measuring_floats(sizes))
    return max(group for group in range(1, min(most, share) + 1) if share % group == 0)


def _measuring_floats(sizes: Sizes) -> int:
    """Largest number of floats at once while one net is measured."""
    n, p, d, t = sizes
    pairs = p * (p - 1) // 2
    chunk = min(max(n, t), exact_chunk(pairs))
    probes = t + min(n, PROBES)
    return PAIR_FLOATS * chunk * pairs + 5 * p * p + probes * (n + 4 * d + 4 * p) + n * (d + 6 * p)


def memory_bytes(
    config: SweepConfig | TrainConfig,
    sizes: Sizes,
    cells: int,
    group: int,
    data_sets: int,
    devices: int,
) -> int:
    """Estimated memory of a batch of ``cells`` on ``devices``, in bytes: 4 for each float.

    Weights and optimizer state, 2DP (1 + moments) floats, stay for every cell, twice: input and
    output. The data sets, E N D, are on every device. In training, each of the ``group`` nets of a
    device takes N D + B draws (5 D + 3 P) + 6 D P: its samples, the noise of a step and arrays of
    its size, gradients; B is the minibatch or N. In measurement, each of the `measured_at_once`
    takes 24 floats for every pair of units of a chunk of samples, 5 P² for the pairs,
    (T + N') (N + 4 D + 4 P) for outputs and distances of T held-out samples and N' noised training
    samples, and N (D + 6 P).
    """
    n, p, d, t = sizes
    matrices = 1 if config.tied else 2
    state = matrices * d * p * (1 + OPTIMIZER_COPIES[config.optimizer])
    minibatch = (config.batch_size or n) * config.draws
    training = group * (n * d + minibatch * (5 * d + 3 * p) + 6 * d * p)
    measuring = measured_at_once(sizes, cells // devices) * _measuring_floats(sizes)
    shared = data_sets * n * (d + 1) + t * d
    return BYTES * (2 * cells * state + devices * (shared + max(training, measuring)))


def plan_batches(
    config: SweepConfig,
    source: Source,
    devices: int,
    memory: float,
    batch_cells: int,
    process: int = 0,
    processes: int = 1,
) -> list[Batch]:
    """Pack the cells of one process into batches of equal size within a shape class.

    The packing does not depend on what is finished: a restart with the same arguments sees the same
    batches. Which cells are whose depends on the grid only: hosts may differ in memory and devices.

    Args:
      devices: devices of this host, over which a batch is spread.
      memory: bytes a batch may take (`memory_bytes`).
      batch_cells: most cells in a batch; what a kill can lose.
      process, processes: which of how many equal shares of each class to pack.

    Raises:
      InputError: when not even one cell for each device fits.
    """
    check_count(batch_cells, "batch_cells")
    padded_n, padded_p = padded_sizes(config.n), padded_sizes(config.p)
    classes: dict[Sizes, list[Cell]] = {}
    t, d = source.held_out.shape
    for cell in grid_cells(config):
        sizes = Sizes(padded_n[cell.n], padded_p[cell.p], d, t)
        classes.setdefault(sizes, []).append(cell)
    batches = []
    for sizes, everybodys in classes.items():
        start, end = (len(everybodys) * i // processes for i in (process, process + 1))
        cells = everybodys[start:end]
        if not cells:
            continue
        widest = nets_per_batch(train_config(config, sizes.p), sizes.d)
        per_data_set = len(cells) // len({(cell.seed, cell.n) for cell in cells})

        def cost(group: int, slots: int, sizes=sizes, per_data_set=per_data_set) -> int:
            count = devices * group * slots
            data_sets = min(count, count // per_data_set + 2)
            return memory_bytes(config, sizes, count, group, data_sets, devices)

        group = min(widest, -(-len(cells) // devices), max(1, batch_cells // devices))
        while group > 1 and cost(group, 1) > memory:
            group = -(-group // 2)
        if cost(group, 1) > memory:
            raise InputError(
                f"memory_gb: {devices} cell(s) of n={sizes.n}, p={sizes.p} at once take about "
                f"{cost(group, 1) / 1e9:.3g} GB, more than {memory / 1e9:.3g}; raise --memory_gb, "
                "or lower n, p or --batch"
            )
        slots = max(1, batch_cells // (devices * group))
        while slots > 1 and cost(group, slots) > memory:
            slots = -(-slots // 2)
        # Spread the cells evenly, so that few repeats fill up the last batch.
        needed = -(-len(cells) // (devices * group))
        count = -(-needed // slots)
        slots = -(-needed // count)
        group = -(-len(cells) // (devices * slots * count))
        size = devices * group * slots
        parts = [tuple(cells[i : i + size]) for i in range(0, len(cells), size)]
        data_sets = max(len({(cell.seed, cell.n) for cell in part}) for part in parts)
        total = memory_bytes(config, sizes, size, group, data_sets, devices)
        batches += [Batch(sizes, part, size, group, data_sets, total) for part in parts]
    return batches
