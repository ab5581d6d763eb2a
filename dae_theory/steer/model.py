"""All that steering sees of a model: activations averaged over space, and sampling with changes.

Whatever can fill in a `SteerModel`, in any framework, can be steered, and every metric of the room
applies. `nets.of_checkpoint` and `relu_nets.of_relu` make one of what this package trains.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Array, Bool, Float

from dae_theory.checks import InputError

LOW_NOISE = 0.1  # of images in [−1, 1]: where directions are read unless another σ is given
CONDITIONAL, BOTH = BRANCHES = ("conditional", "both")

Vectors = Mapping[str, Float[np.ndarray, "N C"]]  # by layer, a row a sample


@dataclass(frozen=True)
class Change:
    """What is done to the activations while N rows are sampled.

    Attributes:
      shifts: by layer, (N, C), added at every place.
      relative: shifts are in units of the sample's activation: the root of the mean over space of
        its squared norm over channels.
      first, last: noise levels of the sampler, counted from 0 at the highest, at which the network
        is steered: first ≤ index < last; None is the end. With Heun's method a step from level t
        asks the network at t and at t + 1.
      branch: under guidance, which call is steered: 'conditional', or 'both'.
      guidance: weight of the conditional call; 1 is no guidance.
      blocked: by layer, (C,), units that are set to 0, at all levels and in both calls.
    """

    shifts: Vectors = field(default_factory=dict)
    relative: bool = False
    first: int = 0
    last: int | None = None
    branch: str = CONDITIONAL
    guidance: float = 1.0
    blocked: Mapping[str, Bool[np.ndarray, " C"]] = field(default_factory=dict)


@dataclass(frozen=True)
class SteerModel:
    """A model as steering sees it. Arrays go in and come out as NumPy's; rows are independent.

    Attributes:
      name: for messages and cards.
      sha256: of the parameters.
      size: D, numbers of a row.
      image_shape: of a row as an image; (D,) when it is none.
      pixel_range: the values of black and of white in the rows.
      layers: channels of each layer that can be steered.
      layer: the one that is steered unless another is named.
      sigma: low noise level at which directions are read.
      levels: noise levels at which the sampler asks the network.
      takes_captions: whether captions change what it does.
      activations: (y_ND, sigma, captions (N) or None, layer) → (N, C), averaged over space.
      starts: (seed, count) → (count, D), noise to sample from; a row depends on the seed and its
        index only.
      sample: (start_ND, captions (N) or None, `Change`) → (N, D), samples.
    """

    name: str
    sha256: str
    size: int
    image_shape: tuple[int, ...]
    pixel_range: tuple[float, float]
    layers: Mapping[str, int]
    layer: str
    sigma: float
    levels: int
    takes_captions: bool
    activations: Callable[..., Float[np.ndarray, "N C"]]
    starts: Callable[[int, int], Float[np.ndarray, "N D"]]
    sample: Callable[..., Float[np.ndarray, "N D"]]

    def checked_layers(self, layers: Sequence[str] = ()) -> tuple[str, ...]:
        """``layers``, or the usual one for none.

        Raises:
          InputError: for a layer that the model does not have; the message lists those it has.
        """
        unknown = [layer for layer in layers if layer not in self.layers]
        if unknown:
            raise InputError(
                f"layers: {self.name} has no {unknown[0]!r}; it has {', '.join(self.layers)}"
            )
        return tuple(layers) or (self.layer,)


def hash_of_parameters(arrays: Mapping[str, Array]) -> str:
    """SHA-256 of arrays by name."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name}{np.shape(arrays[name])}".encode())
        found.update(np.ascontiguousarray(arrays[name], "<f8").tobytes())
    return found.hexdigest()


def checked_change(model: SteerModel, change: Change, count: int) -> Change:
    """``change``, of the sampling of ``count`` rows.

    Raises:
      InputError: when it does not fit the model or the number of rows.
    """
    for name, arrays in (("shifts", change.shifts), ("blocked", change.blocked)):
        model.checked_layers(tuple(arrays))
        for layer, array in arrays.items():
            wanted = (model.layers[layer],)
            wanted = (count, *wanted) if name == "shifts" else wanted
            if np.shape(array) != wanted:
                raise InputError(
                    f"{name}: {layer} of {model.name} takes {wanted}, got {np.shape(array)}"
                )
    if change.branch not in BRANCHES:
        raise InputError(f"branch: expected {' or '.join(BRANCHES)}, got {change.branch!r}")
    if not np.isfinite(change.guidance):
        raise InputError(f"guidance: must be finite, got {change.guidance}")
    last = model.levels if change.last is None else change.last
    if not 0 <= change.first < last <= model.levels:
        raise InputError(
            f"first, last: expected 0 <= first < last <= {model.levels}, got {change.first} and "
            f"{change.last}"
        )
    return change
