"""What a run is asked to do, and the data that it names."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError, check_count, check_noise_and_decay, check_size
from dae_theory.commands import option
from dae_theory.data import NAMES, Dataset, load, nothing_left

REGIMES = ("memorize", "generalize", "hybrid", "certify", "diffusion", "detect", "steer", "errata")
TRAINERS = ("sgd", "exact")
QUICK_SEEDS, MOST_SEEDS = 4, 10_000
QUICK_NETS = 6  # of fewer, though all of them do it, nobody knows whether most nets do
FIRST_JUDGING_SEED = 1000


@dataclass(frozen=True)
class RunConfig:
    """One run of the checks. None means the regime's own default.

    Raises:
      InputError: for an unknown regime or trainer, counts below 1, σ ≤ 0, λ < 0.
    """

    regime: str = option("all", f"{', '.join(REGIMES)}, or all.")
    data: str | None = option(
        None,
        f"{', '.join(NAMES)}, FILE.npy, FILE.npz or a folder of images; default: faces and "
        "patches for memorize and diffusion, a synthetic mixture for generalize and hybrid, all "
        "three for certify.",
    )
    n: int | None = option(None, "Training samples.")
    p: int | None = option(None, "Units.")
    sigma: float | None = option(None, "Noise level, in data units.")
    lam: float | None = option(None, "Weight decay λ of objective (1).")
    seeds: int = option(8, "Random starts; on default data each on a data set of its own.")
    first_seed: int = option(
        FIRST_JUDGING_SEED,
        "The first of these seeds. Whatever was chosen was chosen on earlier ones.",
    )
    trainer: str = option(
        "sgd", "sgd (Adam with sampled noise) or exact (the solver on the exact loss)."
    )
    quick: bool = option(
        False, f"At most {QUICK_NETS} random starts on a data set, smaller studies."
    )
    center: bool = option(True, "Subtract the mean of image and file data.")
    size: int | None = option(None, "Side to which the images of a folder are resized.")
    gray: bool = option(True, "Read a folder of images as gray.")
    limit: int = option(200, "Most samples looked at to choose from.")
    weights: str | None = option(
        None, "FILE.npz with W1, W2, X, sigma, lam to check instead of training."
    )

    def __post_init__(self) -> None:
        if self.regime not in (*REGIMES, "all"):
            raise InputError(
                f"regime: unknown regime {self.regime!r}; choose one of {', '.join(REGIMES)}, all"
            )
        if self.trainer not in TRAINERS:
            raise InputError(f"trainer: expected one of {TRAINERS}, got {self.trainer!r}")
        for name in ("n", "p", "size"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
        check_count(self.seeds, "seeds", 1, MOST_SEEDS)
        check_count(self.limit, "limit")
        check_count(self.first_seed, "first_seed", 0)
        check_noise_and_decay(
            1.0 if self.sigma is None else self.sigma, 0.0 if self.lam is None else self.lam
        )

    @property
    def is_default(self) -> bool:
        """Data and settings are the regimes' own, on which every claim must be judged."""
        chosen = (self.data, self.n, self.p, self.sigma, self.lam, self.weights)
        return all(choice is None for choice in chosen) and self.trainer == TRAINERS[0]

    @property
    def seed_list(self) -> tuple[int, ...]:
        """Seeds of random draws, from the first on (at most QUICK_SEEDS of them when quick)."""
        return self._first(QUICK_SEEDS)

    @property
    def net_seeds(self) -> tuple[int, ...]:
        """Seeds of nets on one data set (at most QUICK_NETS of them when quick)."""
        return self._first(QUICK_NETS)

    @property
    def data_seeds(self) -> tuple[int, ...]:
        """Seeds of data sets with a start each: all, since the interval over fewer says little."""
        return tuple(range(self.first_seed, self.first_seed + self.seeds))

    def _first(self, most_when_quick: int) -> tuple[int, ...]:
        count = min(self.seeds, most_when_quick) if self.quick else self.seeds
        return tuple(range(self.first_seed, self.first_seed + count))


@dataclass(frozen=True)
class DataUsed:
    """Samples that claims were checked on: the data set's ``name`` and the hash of all of it that
    was looked at, how samples were selected from it, the hash of those (SHA-256), and what reading
    a user's files left out or changed."""

    name: str
    sha256: str
    selection: str
    selected_sha256: str
    read: str = ""


def data_used(dataset: Dataset, x_ND: Float[np.ndarray, "N D"], selection: str) -> DataUsed:
    """The record of the samples ``x_ND``, selected from a data set."""
    selected = Dataset("", x_ND).sha256
    return DataUsed(dataset.name, dataset.sha256, selection, selected, dataset.note)


def load_data(config: RunConfig, name: str, n: int) -> Dataset:
    """The named data set as the config reads it, with at least ``n`` samples if it has as many.

    Raises:
      InputError: for data that cannot be read or are too large, or fewer samples than the config
        asks for.
    """
    limit = n if name == "simplex" else max(config.limit, n)
    dataset = load(name, limit, size=config.size, gray=config.gray, center=config.center)
    check_size(dataset.x, "data")
    if nothing_left(dataset):
        left = (
            "all samples are equal: nothing is left of them without their mean; --nocenter keeps it"
        )
        dataset = replace(dataset, note="; ".join(filter(None, (dataset.note, left))))
    if config.n is not None and len(dataset.x) < n:
        raise InputError(f"n: {name} has {len(dataset.x)} samples, asked for {n}")
    return dataset
