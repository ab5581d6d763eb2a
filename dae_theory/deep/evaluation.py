"""What a card says a checkpoint does: its loss on test images, and how much of what it makes are
copies."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.checks import InputError, check_count
from dae_theory.deep.captions import tokenize
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.images import TrainingSet, held_out_set
from dae_theory.deep.network import NetworkConfig, make_network
from dae_theory.deep.sampling import Copies, Sampler, find_copies, sample_images
from dae_theory.deep.training import weighted_errors
from dae_theory.memorization.copies import fraction_memorized
from dae_theory.statistics import Interval, mean_interval, ratio_interval

TEST_BATCH = 500


@functools.partial(jax.jit, static_argnames="network")
def _test_batch(params, key, images, tokens_BL, network: NetworkConfig) -> Array:
    sigma_key, noise_key = jax.random.split(key)
    return weighted_errors(sigma_key, noise_key, make_network(network), params, images, tokens_BL)


@jax.enable_x64(False)
def held_out_losses(
    checkpoint: Checkpoint, images: int | None = None, draws: int = 4, seed: int = 0
) -> Float[np.ndarray, " N"]:
    """Training loss of each of the first ``images`` (default all) held-out images, averaged over
    noise and σ.

    Equal seeds draw equal noise, whatever the network: losses of two networks can be paired. A
    network with text is given the captions that training would have given.

    Raises:
      InputError: when there are not so many held-out images, or for draws < 1.
    """
    check_count(draws, "draws")
    config = checkpoint.config
    if images is not None:
        check_count(images, "images")
    data = held_out_set(**config.drawn_as, limit=images)
    if images is not None and len(data.images) < images:
        raise InputError(f"images: {len(data.images)} are held out, asked for {images}")
    images = len(data.images)
    tokens_NL = tokenize(data.captions)
    losses = []
    for first in range(0, images, TEST_BATCH):
        part = slice(first, min(first + TEST_BATCH, images))
        x, tokens = jnp.asarray(data.images[part]), jnp.asarray(tokens_NL[part])
        loss_B = np.zeros(len(x))
        for draw in range(draws):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), first), draw)
            found_B = _test_batch(checkpoint.params, key, x, tokens, config.network)
            loss_B += np.asarray(found_B) / draws
        losses.append(loss_B)
    return np.concatenate(losses)


def prompts(data: TrainingSet, text: bool, count: int, seed: int = 0) -> dict[str, list[str]]:
    """Captions to sample under, by kind.

    With text 'planted captions', all equally often, where images are planted, and 'other
    captions', those of other training images drawn at random; without, the empty one.
    """
    if not text:
        return {"no caption": [""] * count}
    named, others = data.captions[: data.planted], data.captions[data.planted :]
    chosen = np.random.default_rng(seed).integers(len(others), size=count)
    kinds = {"other captions": [others[index] for index in chosen]}
    if named:
        kinds["planted captions"] = [named[index % len(named)] for index in range(count)]
    return kinds


def summary_of(copies: Copies) -> dict:
    """How many are copies, with the 95% interval, and how many of these of planted images."""
    share = fraction_memorized(copies.ratio)
    return {
        "samples": len(copies.ratio),
        "copies": int(np.sum(copies.copy)),
        "of_planted_images": int(np.sum(copies.copy & copies.planted)),
        "distinct_images_copied": len(np.unique(copies.nearest[copies.copy])),
        "fraction": round(share.value, 5),
        "low": round(share.low, 5),
        "high": round(share.high, 5),
    }


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    data: TrainingSet,
    reference: Checkpoint | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> dict:
    """Plain data for a card. A network that saw all images there are has no loss on others.

    Args:
      data: the checkpoint's training set.
      reference: the network whose test loss this one's is divided by.
      samples: of each kind of caption (`prompts`).
    """
    found = {}
    if len(held_out_set(**checkpoint.config.drawn_as).images):
        loss_N = held_out_losses(checkpoint, seed=seed)
        found["test_loss"] = _rounded(mean_interval(loss_N)) | {"images": len(loss_N)}
        if reference is not None:
            ratio = ratio_interval(loss_N, held_out_losses(reference, seed=seed))
            found["test_loss_ratio"] = _rounded(ratio) | {"to": reference.name}
    sampler = Sampler()
    found["sampler"] = dataclasses.asdict(sampler) | {"seed": seed}
    found["copies"] = {
        kind: summary_of(find_copies(sample_images(checkpoint, captions, seed, sampler), data))
        for kind, captions in prompts(data, checkpoint.config.network.text, samples).items()
    }
    return found


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(value, 6) for name, value in interval._asdict().items()}
