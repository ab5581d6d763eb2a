"""Samples of a trained network, and which of them are copies of its training images."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dae_theory.checks import InputError, check_count
from dae_theory.deep.captions import tokenize
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.images import TrainingSet
from dae_theory.deep.network import NetworkConfig, deep_denoiser
from dae_theory.diffusion.samplers import guided, sample_ode, start_noise
from dae_theory.diffusion.schedules import edm_schedule
from dae_theory.memorization.copies import COPY_RATIO, gap_ratio
from dae_theory.memorization.nearest import nearest_two

BATCH = 50  # samples made at once


@dataclass(frozen=True)
class Sampler:
    """Heun's method along EDM's noise levels.

    Attributes:
      steps: two calls of the network each, but for the last.
      sigma_max, sigma_min: highest and lowest level > 0; images are in [−1, 1].
      guidance: weight of classifier-free guidance; 1 is none.
    """

    steps: int = 18
    sigma_max: float = 20.0
    sigma_min: float = 0.01
    guidance: float = 1.0

    def __post_init__(self) -> None:
        edm_schedule(self.sigma_max, self.sigma_min, self.steps)
        if not np.isfinite(self.guidance):
            raise InputError(f"guidance: must be finite, got {self.guidance}")

    @property
    def passes(self) -> int:
        """Forward passes of a sample without guidance, by Heun's method."""
        return 2 * self.steps - 1


class Copies(NamedTuple):
    """Samples (M) against training images.

    ``nearest`` is the index of the nearest training image, ``ratio`` the gap ratio, ``copy``
    whether it is below `COPY_RATIO`, ``planted`` whether the nearest is a planted image.
    """

    nearest: Int[np.ndarray, " M"]
    ratio: Float[np.ndarray, " M"]
    copy: Bool[np.ndarray, " M"]
    planted: Bool[np.ndarray, " M"]


@functools.partial(jax.jit, static_argnames=("network", "sampler"))
def sample_batch(
    params: dict,
    start_BD: Float[Array, "B D"],
    tokens_BL: Int[Array, "B L"],
    network: NetworkConfig,
    sampler: Sampler,
) -> Float[Array, "B D"]:
    """Samples of one batch from given starts: the program that all sampling without changes runs,
    so that equal starts give equal bits."""

    def denoiser_for(tokens):
        return deep_denoiser(network, {"params": params}, tokens)

    denoiser = denoiser_for(tokens_BL)
    if network.text and sampler.guidance != 1:
        denoiser = guided(denoiser, denoiser_for(tokenize([""])), sampler.guidance)
    levels_T = edm_schedule(sampler.sigma_max, sampler.sigma_min, sampler.steps)
    return sample_ode(denoiser, start_BD, levels_T)


@jax.enable_x64(False)
def starts(
    seed: int, count: int, network: NetworkConfig, sampler: Sampler | None = None
) -> Float[np.ndarray, "M D"]:
    """The noise from which `sample_images` of the same seed starts, one row a sample.

    Row i depends on the seed and i only.

    Raises:
      InputError: for count < 1.
    """
    check_count(count, "number of samples")
    sigma_max = (sampler or Sampler()).sigma_max
    batches = [
        start_noise(
            jax.random.fold_in(jax.random.key(seed), batch),
            *(BATCH, network.size**2, sigma_max, jnp.float32),
        )
        for batch in range(-(-count // BATCH))
    ]
    return np.concatenate(batches)[:count]


@jax.enable_x64(False)
def sample_images(
    checkpoint: Checkpoint,
    captions: Sequence[str],
    seed: int = 0,
    sampler: Sampler | None = None,
) -> Float[np.ndarray, "M D"]:
    """One sample for each caption, as rows of pixels in about [−1, 1].

    The noise of sample i depends on the seed and i only: equal seeds start from equal noise,
    whatever the network and the captions. A network without text takes empty captions only.

    Raises:
      InputError: for no captions, one with an unknown word, or a caption that is not empty for a
        network without text.
    """
    network, sampler = checkpoint.config.network, sampler or Sampler()
    check_count(len(captions), "number of samples")
    if not network.text and (any(captions) or sampler.guidance != 1):
        raise InputError(f"caption, guidance: {checkpoint.name} was trained without captions")
    tokens_ML = tokenize(captions)
    start_MD = starts(seed, len(captions), network, sampler)
    samples = []
    for first in range(0, len(captions), BATCH):
        # One shape, one compilation: the last batch is filled with rows that are not used.
        start_BD, tokens_BL = (
            np.resize(rows[first : first + BATCH], (BATCH, rows.shape[1]))
            for rows in (start_MD, tokens_ML)
        )
        made_BD = sample_batch(checkpoint.params, start_BD, tokens_BL, network, sampler)
        samples.append(np.asarray(made_BD)[: len(captions) - first])
    return np.concatenate(samples)


def find_copies(
    samples_MD: Float[np.ndarray, "M D"],
    data: TrainingSet,
    groups_N: Int[np.ndarray, " N"] | None = None,
) -> Copies:
    """Nearest training image and gap ratio of each sample; equal images count as one.

    ``groups_N`` says which images are equal (`nearest.duplicate_groups` of the rows, the default).
    """
    rows_ND = data.rows
    indices_M2, distances_M2 = nearest_two(samples_MD, rows_ND, groups_N)
    ratio_M = gap_ratio(distances_M2)
    nearest_M = indices_M2[:, 0]
    return Copies(nearest_M, ratio_M, ratio_M < COPY_RATIO, nearest_M < data.planted)
