"""Nets under test: trained from random starts, solved exactly, or read from a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError, check_noise_and_decay, check_samples, check_weights
from dae_theory.files import read_npz
from dae_theory.relu.model import init_weights
from dae_theory.relu.optimize import TrainConfig
from dae_theory.relu.train import train_many
from dae_theory.solve.local import solve_local_minimum
from proofs_checks.config import RunConfig

Progress = Callable[[str, int, int], None]  # what is going on, steps done, steps in total


@dataclass(frozen=True)
class Nets:
    """S nets of one data set.

    ``w1``, ``w2`` (S, D, P) float64; ``seeds`` (S,), empty for weights from a file; ``steps``
    (T,) and ``live`` (S, T), live units during training, None when there was none.
    """

    w1: Float[np.ndarray, "S D P"]
    w2: Float[np.ndarray, "S D P"]
    seeds: tuple[int, ...]
    trainer: str
    steps: Int[np.ndarray, " T"] | None = None
    live: Int[np.ndarray, "S T"] | None = None

    @property
    def pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(W1, W2) of each net."""
        return list(zip(self.w1, self.w2, strict=True))


def make_nets(
    data_sets: Sequence[Float[np.ndarray, "N D"]],
    train_config: TrainConfig,
    config: RunConfig,
    what: str,
    progress: Progress,
) -> list[Nets]:
    """Nets for each data set from random starts, by the trainer the config names."""
    if config.trainer == "exact":
        return [
            _solved_nets(x_ND, train_config, config.seed_list, what, progress) for x_ND in data_sets
        ]
    keys = jax.vmap(jax.random.key)(np.array(config.seed_list))
    result = train_many(
        keys, data_sets, train_config, lambda done: progress(what, done, train_config.steps)
    )
    w1, w2, steps, live = (
        np.asarray(array) for array in (result.w1, result.w2, result.trace.steps, result.trace.live)
    )
    return [
        Nets(
            w1[i].astype(float), w2[i].astype(float), config.seed_list, "sgd", steps[i, 0], live[i]
        )
        for i in range(len(data_sets))
    ]


def _solved_nets(x_ND, train_config: TrainConfig, seeds, what: str, progress: Progress) -> Nets:
    solutions = []
    for done, seed in enumerate(seeds):
        progress(what, done, len(seeds))
        w1, w2 = init_weights(
            jax.random.key(seed),
            x_ND.shape[1],
            train_config.width,
            scale=train_config.init_scale,
        )
        solutions.append(
            solve_local_minimum(
                np.asarray(w1), np.asarray(w2), x_ND, train_config.sigma, train_config.lam
            )
        )
    progress(what, len(seeds), len(seeds))
    return Nets(
        np.stack([solution.w1 for solution in solutions]),
        np.stack([solution.w2 for solution in solutions]),
        tuple(seeds),
        "exact",
    )


@dataclass(frozen=True)
class WeightsFile:
    """Weights trained elsewhere, with the problem they were trained on."""

    nets: Nets
    x: Float[np.ndarray, "N D"]
    sigma: float
    lam: float
    labels: Int[np.ndarray, " N"] | None


def read_weights(path: str | Path) -> WeightsFile:
    """Read keys W1, W2 (D, P), X (N, D), sigma, lam and optionally labels (N,) from an .npz file.

    Raises:
      InputError: for a missing or damaged file, a missing key, wrong shapes, NaN, σ ≤ 0, λ < 0.
    """
    arrays = read_npz(Path(path))
    for key in ("W1", "W2", "X", "sigma", "lam"):
        if key not in arrays:
            raise InputError(f"{path}: key {key!r} is missing; it has {sorted(arrays)}")
    for key in ("sigma", "lam"):
        if arrays[key].size != 1 or arrays[key].dtype.kind not in "fiu":
            raise InputError(f"{path}: {key} must be one number, got shape {arrays[key].shape}")
    x_ND = check_samples(arrays["X"], f"{path}: X")
    check_weights(arrays["W1"], arrays["W2"], x_ND.shape[1])
    sigma, lam = float(arrays["sigma"].item()), float(arrays["lam"].item())
    check_noise_and_decay(sigma, lam)
    labels = arrays.get("labels")
    if labels is not None and labels.shape != (len(x_ND),):
        raise InputError(f"{path}: labels have shape {labels.shape}, expected ({len(x_ND)},)")
    nets = Nets(arrays["W1"][None].astype(float), arrays["W2"][None].astype(float), (), "file")
    return WeightsFile(nets, x_ND, sigma, lam, labels)


def untrained(nets: Nets) -> Nets:
    """The same number of nets with random columns of the same norms: a mutant."""
    rng = np.random.default_rng(0)

    def shuffle(w_SDP):
        random = rng.standard_normal(w_SDP.shape)
        norms = np.linalg.norm(w_SDP, axis=1, keepdims=True)
        return random / np.linalg.norm(random, axis=1, keepdims=True) * norms

    w1 = shuffle(nets.w1)
    return replace(nets, w1=w1, w2=w1.copy())


def with_scaled_columns(nets: Nets, chosen_SP: np.ndarray, encoder: float, decoder: float) -> Nets:
    """Chosen columns of W1 and W2 multiplied by a factor each: a mutant."""
    factor = chosen_SP[:, None, :].astype(float)
    return replace(
        nets,
        w1=nets.w1 * (1 + (encoder - 1) * factor),
        w2=nets.w2 * (1 + (decoder - 1) * factor),
    )
