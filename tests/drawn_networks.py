"""Deep networks whose parameters are all random: as initialized, gates are closed and outputs 0."""

import functools

import jax
import numpy as np

from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.training import DeepConfig, shapes_of_params


@functools.cache
def drawn_params(network, scale=0.3, seed=0):
    """Normal parameters with this standard deviation."""
    leaves, tree = jax.tree.flatten(shapes_of_params(network))
    rng = np.random.default_rng(seed)
    return tree.unflatten([np.float32(scale * rng.standard_normal(a.shape)) for a in leaves])


@functools.cache
def drawn_checkpoint(network, scale=0.3):
    """As if trained on 30 images, three of them planted."""
    config = DeepConfig(network, images=30, planted=3)
    return Checkpoint("drawn", config, drawn_params(network, scale), {})
