"""What a data set is: samples (N, D), float64, with what is known about them.

Synthetic data come with the mixture they were drawn from, so that ground truth is never estimated.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import check_count


@dataclass(frozen=True)
class Mixture:
    """Gaussian mixture Σ_k ρ_k N(μ_k, Σ_k).

    ``means`` (K, D), ``covs`` (K, D, D), ``priors`` (K,) summing to 1.
    """

    means: Float[np.ndarray, "K D"]
    covs: Float[np.ndarray, "K D D"]
    priors: Float[np.ndarray, " K"]

    def sample(self, seed: int, n: int) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
        """``n`` samples and their cluster labels, with counts as near to n·priors as possible."""
        check_count(n, "n")
        rng = np.random.default_rng(seed)
        counts_K = proportional_counts(self.priors, n)
        x_ND = np.concatenate(
            [
                mean + rng.standard_normal((count, len(mean))) @ symmetric_root(cov)
                for count, mean, cov in zip(counts_K, self.means, self.covs, strict=True)
            ]
        )
        return x_ND, np.repeat(np.arange(len(counts_K)), counts_K)


def symmetric_root(cov_DD: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
    """Of a covariance; a root by eigenvectors alone would depend on their signs."""
    values, vectors = np.linalg.eigh(cov_DD)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def proportional_counts(priors: Float[np.ndarray, " K"], n: int) -> Int[np.ndarray, " K"]:
    """Integer counts that sum to ``n``, nearest to n·priors (largest remainders)."""
    exact = np.asarray(priors) / np.sum(priors) * n
    counts = np.floor(exact).astype(int)
    largest = np.argsort(counts - exact, kind="stable")[: n - counts.sum()]
    counts[largest] += 1
    return counts


@dataclass(frozen=True)
class Dataset:
    """Samples (N, D) with what is known about them.

    ``image_shape`` is (height, width) or (height, width, channels) for images. ``offset`` (D,)
    was subtracted when the data were centred (None otherwise). ``labels`` (N,) are there where
    they are known, ``mixture`` where the samples were drawn from one. ``note`` says what reading
    a user's files left out or changed.
    """

    name: str
    x: Float[np.ndarray, "N D"]
    image_shape: tuple[int, ...] | None = None
    offset: Float[np.ndarray, " D"] | None = None
    labels: Int[np.ndarray, " N"] | None = None
    mixture: Mixture | None = None
    note: str = ""

    @cached_property
    def sha256(self) -> str:
        """Hash of the samples as little-endian float64, row by row."""
        return hashlib.sha256(np.ascontiguousarray(self.x, "<f8").tobytes()).hexdigest()


def first_samples(dataset: Dataset, count: int | None) -> Dataset:
    """The first ``count`` samples of a data set; all of them for None."""
    labels = None if dataset.labels is None else dataset.labels[:count]
    return replace(dataset, x=dataset.x[:count], labels=labels)


def centred(dataset: Dataset) -> Dataset:
    """The data set with its mean over samples subtracted and kept as ``offset``."""
    mean_D = dataset.x.mean(axis=0)
    return replace(dataset, x=dataset.x - mean_D, offset=mean_D)


def nothing_left(dataset: Dataset) -> bool:
    """Whether centring left nothing but rounding, because all samples are equal."""
    if dataset.offset is None:
        return False
    rounding = 1e-12 * np.abs(dataset.offset).max()
    return bool(np.abs(dataset.x).max() <= rounding)
