"""Nearest training images: ``python -m benchmarks.memorization [--samples=1000] [--peer=50]``.

Times `nearest_two` of Fashion-MNIST test images against the 60,000 training images (random numbers
of that size where the data set is missing) in float32, the median of ``--repeats``, and prints the
peak memory of the process up to there, images included. The peer is the plain way: SciPy's cdist,
in blocks of training images, on the first ``--peer`` samples; its time is per sample, so that of
all samples is a multiple. Both must find the same two images. Exit status 0, or 2 on bad input.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from benchmarks import machine
from dae_theory.checks import InputError, check_count
from dae_theory.commands import option, run_main
from dae_theory.data.named import load
from dae_theory.memorization.nearest import Nearest, nearest_two

SAMPLES, TRAIN, FEATURES = 10_000, 60_000, 784  # of Fashion-MNIST
PEER_BLOCK = 4096


@dataclass(frozen=True)
class Options:
    """The command's options."""

    samples: int = option(1000, "Samples.")
    train: int = option(TRAIN, "Training images.")
    peer: int = option(50, "Samples the peer is timed on.")
    repeats: int = option(3, "Runs of ours.")

    def __post_init__(self) -> None:
        check_count(self.samples, "samples", 1, SAMPLES)
        check_count(self.train, "train", 2, TRAIN)
        check_count(self.peer, "peer")
        check_count(self.repeats, "repeats")


def images(n_samples: int, n_train: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Name of the data, samples and training images, float32."""
    try:
        sets = [load("fashion_mnist_test", n_samples).x, load("fashion_mnist", n_train).x]
        name = "Fashion-MNIST"
    except InputError:
        random = np.random.default_rng(0)
        sets = [random.random((n, FEATURES), np.float32) for n in (n_samples, n_train)]
        name = "random"
    samples_MD, train_ND = (x_ND.astype(np.float32) for x_ND in sets)
    return name, samples_MD, train_ND


def cdist_two(samples_MD: Float[np.ndarray, "M D"], train_ND: Float[np.ndarray, "N D"]) -> Nearest:
    """The peer: all distances in float64 by SciPy, in blocks, the two smallest of each kept."""
    index_MK, distance_MK = np.empty((len(samples_MD), 0), int), np.empty((len(samples_MD), 0))
    for begin in range(0, len(train_ND), PEER_BLOCK):
        distance_MB = cdist(samples_MD, train_ND[begin : begin + PEER_BLOCK])
        index_MB = np.broadcast_to(begin + np.arange(distance_MB.shape[1]), distance_MB.shape)
        index_MK = np.concatenate([index_MK, index_MB], axis=1)
        distance_MK = np.concatenate([distance_MK, distance_MB], axis=1)
        two_M2 = np.argsort(distance_MK, axis=1, kind="stable")[:, :2]
        index_MK = np.take_along_axis(index_MK, two_M2, axis=1)
        distance_MK = np.take_along_axis(distance_MK, two_M2, axis=1)
    return Nearest(index_MK, distance_MK)


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    return run_main(compare, Options, argv, __doc__)


def compare(options: Options) -> int:
    """Time both and print what they took."""
    name, samples_MD, train_ND = images(options.samples, options.train)
    load = machine.load_average()
    times = []
    for _ in range(options.repeats):
        begin = time.perf_counter()
        ours = nearest_two(samples_MD, train_ND, np.arange(len(train_ND)))
        times.append(time.perf_counter() - begin)
    peak = machine.peak_memory_mib()
    peer_MD = samples_MD[: options.peer]
    begin = time.perf_counter()
    peer = cdist_two(peer_MD, train_ND)
    peer_each = (time.perf_counter() - begin) / len(peer_MD)
    seconds = float(np.median(times))
    each = seconds / len(samples_MD)
    same = np.mean(ours.indices[: len(peer_MD)] == peer.indices)
    print(f"{name}: {len(samples_MD)} x {len(train_ND)} x {train_ND.shape[1]}, load {load:.2f}")
    print(f"nearest_two   {1e3 * each:8.2f} ms/sample, {seconds:.2f} s")
    print(f"SciPy cdist   {1e3 * peer_each:8.2f} ms/sample on {len(peer_MD)}")
    print(f"cdist / ours  {peer_each / each:8.1f}, same images {same:.0%}")
    print(f"peak memory   {peak:8.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
