"""Models for the tests of this room: drawn deep networks, and one whose activations are known."""

import functools

import numpy as np
from drawn_networks import drawn_checkpoint

from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.sampling import Sampler
from dae_theory.steer.model import Change, SteerModel, checked_change
from dae_theory.steer.nets import of_checkpoint

SAMPLER = Sampler(steps=3, sigma_max=5.0, sigma_min=0.1)
LAYER = "rows"


def small_checkpoint(architecture="dit", text=True):
    """A small network with random weights, none of them 0."""
    network = NetworkConfig(architecture, size=4, width=8, depth=2, heads=2, text=text)
    return drawn_checkpoint(network)


@functools.cache
def drawn_model(architecture="dit", text=True):
    return of_checkpoint(small_checkpoint(architecture, text), SAMPLER)


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
