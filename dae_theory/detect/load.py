"""Models by name or file, as detectors see them, with what they were trained on."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError
from dae_theory.deep.checkpoints import SHIPPED, load_checkpoint
from dae_theory.detect.model import DetectorModel, of_checkpoint, of_relu
from dae_theory.weights.read import read_weights


@dataclass(frozen=True)
class Loaded:
    """A model, a hash of its weights, and a function that returns its training images, as rows:
    those of them that are on this machine."""

    model: DetectorModel
    sha256: str
    training: Callable[[], Float[np.ndarray, "M D"]]


def load_model(name: str | Path) -> Loaded:
    """A shipped model by name, a checkpoint NAME.npz beside its card NAME.json, or an .npz file of
    a ReLU net as `weights.read.read_weights` takes it.

    Raises:
      InputError: when there is no such model, or its file is damaged.
    """
    path = Path(name)
    if str(name) in SHIPPED or (path.name and path.with_suffix(".json").is_file()):
        checkpoint = load_checkpoint(name)
        digest = checkpoint.card["weights"]["sha256"]
        return Loaded(of_checkpoint(checkpoint), digest, lambda: checkpoint.known_images().rows)
    if not path.is_file():
        raise InputError(
            f"model: no file {path}; give one of {', '.join(SHIPPED)}, or the .npz file of a "
            "checkpoint or of a ReLU net's weights"
        )
    saved = read_weights(path)
    side = math.isqrt(len(saved.w1))
    shape = (side, side) if side**2 == len(saved.w1) else None
    model = of_relu(saved.w1, saved.w2, saved.problem.sigma, name=path.stem, image_shape=shape)
    return Loaded(
        model, hashlib.sha256(path.read_bytes()).hexdigest(), lambda: np.asarray(saved.problem.x)
    )
