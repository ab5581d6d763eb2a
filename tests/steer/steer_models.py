"""Models for the tests of this room: drawn deep networks, and one whose activations are known."""

import functools

import jax
import numpy as np

from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.sampling import Sampler
from dae_theory.deep.training import DeepConfig, shapes_of_params
from dae_theory.steer.model import Change, SteerModel, checked_change
from dae_theory.steer.nets import of_checkpoint

SAMPLER = Sampler(steps=3, sigma_max=5.0, sigma_min=0.1)
LAYER = "rows"


@functools.cache
def drawn_checkpoint(architecture="dit", text=True):
    """A small network with random weights, none of them 0."""
    network = NetworkConfig(architecture, size=4, width=8, depth=2, heads=2, text=text)
    config = DeepConfig(network, images=30, planted=3)
    leaves, tree = jax.tree.flatten(shapes_of_params(config.network))
    rng = np.random.default_rng(0)
    params = [np.float32(0.3 * rng.standard_normal(a.shape)) for a in leaves]
    return Checkpoint("drawn", config, tree.unflatten(params), {})


@functools.cache
def drawn_model(architecture="dit", text=True):
    return of_checkpoint(drawn_checkpoint(architecture, text), SAMPLER)


def linear_model(size=4, sha256="aa", calls=None):
    """Its activations are the rows, and a sample is its start with all shifts added."""

    def sample(start_ND, captions=None, change=None):
        change = checked_change(model, Change() if change is None else change, len(start_ND))
        if calls is not None:
            calls.append((len(start_ND), change))
        return start_ND + sum(change.shifts.values(), np.zeros_like(start_ND))

    model = SteerModel(
        name="linear",
        sha256=sha256,
        size=size,
        image_shape=(size,),
        pixel_range=(-1.0, 1.0),
        layers={LAYER: size},
        layer=LAYER,
        sigma=0.1,
        levels=5,
        takes_captions=False,
        activations=lambda y_ND, sigma, captions, layer: y_ND,
        starts=lambda seed, count: np.random.default_rng(seed).standard_normal((count, size)),
        sample=sample,
    )
    return model
