"""Directions of a concept in a model's activations: plain arrays by layer, with a card.

The paper's is the mean of the positives' activations (docs/THEORY.md#steering); the others are what
it should be compared with.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError, check_count, check_noise_and_decay, check_samples
from dae_theory.files import npz_bytes, read_npz, read_settings, write_settings, write_whole
from dae_theory.steer.model import SteerModel

SCHEMA = 1
Activations = Float[np.ndarray, "N C"]


@dataclass(frozen=True)
class References:
    """Clean images that a direction is read from: rows (N, D) and, of a model that takes captions,
    their captions; without, they are looked at under the empty caption."""

    rows: Float[np.ndarray, "N D"]
    captions: Sequence[str] | None = None

    @property
    def sha256(self) -> str:
        """Hash of rows and captions."""
        rows = np.ascontiguousarray(self.rows, "<f8").tobytes()
        words = "\0".join(self.captions or ()).encode()
        return hashlib.sha256(hashlib.sha256(rows).digest() + words).hexdigest()


@dataclass(frozen=True)
class Direction:
    """Vectors of some layers of one model.

    Attributes:
      arrays: by layer, (C,), in units of the layer's activations.
      card: plain data: kind, concept, model and model_sha256, references and their hash, sigma,
        draws and seed of the noise.
    """

    arrays: Mapping[str, Float[np.ndarray, " C"]]
    card: Mapping[str, str | int | float]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it is added to."""
        return tuple(self.arrays)

    @property
    def sha256(self) -> str:
        """Hash of arrays and card."""
        found = hashlib.sha256(json.dumps(dict(self.card), sort_keys=True).encode())
        for layer in sorted(self.arrays):
            found.update(layer.encode())
            found.update(np.ascontiguousarray(self.arrays[layer], "<f8").tobytes())
        return found.hexdigest()

    def check_fits(self, model: SteerModel) -> None:
        """Raise InputError unless it was read from this very model."""
        if self.card["model_sha256"] != model.sha256:
            raise InputError(
                f"direction: it is of {self.card['model']}, whose parameters are not those of "
                f"{model.name}; make one from {model.name}"
            )
        model.checked_layers(self.layers)
        for layer, array_C in self.arrays.items():
            if np.shape(array_C) != (model.layers[layer],):
                raise InputError(
                    f"direction: {layer} of {model.name} has {model.layers[layer]} channels, the "
                    f"direction has shape {np.shape(array_C)}"
                )


# --- kinds ---------------------------------------------------------------------------------------


def mean_of_positives(positive_NC: Activations, negative_MC: Activations | None) -> np.ndarray:
    """The paper's: the mean activation of the positives."""
    return positive_NC.mean(axis=0)


def difference_of_means(positive_NC: Activations, negative_MC: Activations | None) -> np.ndarray:
    """Mean of the positives minus mean of the negatives."""
    return positive_NC.mean(axis=0) - _given(negative_MC).mean(axis=0)


def leading_component(positive_NC: Activations, negative_MC: Activations | None) -> np.ndarray:
    """First right singular vector of the positives' activations, not centred, as long as their
    mean and on the side of it."""
    mean_C = positive_NC.mean(axis=0)
    component_C = np.linalg.svd(positive_NC, full_matrices=False)[2][0]
    side = 1.0 if component_C @ mean_C >= 0 else -1.0
    return side * np.linalg.norm(mean_C) * component_C


def single_unit(positive_NC: Activations, negative_MC: Activations | None) -> np.ndarray:
    """The one unit with the largest difference of means in standard deviations of the negatives,
    as long as the difference of means."""
    negative_MC = _given(negative_MC)
    difference_C = positive_NC.mean(axis=0) - negative_MC.mean(axis=0)
    spread_C = negative_MC.std(axis=0)
    # A unit that never varies says nothing; where it differs nevertheless it says all.
    size_C = np.abs(difference_C) / np.where(spread_C > 0, spread_C, 1e-12)
    unit = int(np.argmax(size_C))
    vector_C = np.zeros_like(difference_C)
    vector_C[unit] = np.sign(difference_C[unit]) * np.linalg.norm(difference_C)
    return vector_C


def _given(negative_MC: Activations | None) -> Activations:
    if negative_MC is None:
        raise InputError("negative: this kind of direction needs references without the concept")
    return negative_MC


KINDS: Mapping[str, Callable[[Activations, Activations | None], np.ndarray]] = MappingProxyType(
    {
        "mean": mean_of_positives,
        "difference": difference_of_means,
        "component": leading_component,
        "unit": single_unit,
    }
)


def concept_direction(
    model: SteerModel,
    concept: str,
    positive: References,
    negative: References | None = None,
    *,
    kind: str = "mean",
    layers: Sequence[str] = (),
    sigma: float | None = None,
    draws: int = 4,
    seed: int = 0,
) -> Direction:
    """The direction of a concept, read from noised references (docs/THEORY.md#steering).

    Args:
      model: whose activations are read, averaged over space.
      concept: its name, for the card.
      positive: references that show it.
      negative: references that do not, for the kinds that compare.
      kind: one of `KINDS`.
      layers: read one by one; the model's usual one for none.
      sigma: noise level, in units of the rows; the model's low one for None.
      draws: of noise, over which each reference's activation is averaged.
      seed: of the noise.

    Raises:
      InputError: for an unknown kind or layer, unusable references or σ, or a direction that is
        zero or not finite.
    """
    if kind not in KINDS:
        raise InputError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    sigma = model.sigma if sigma is None else sigma
    arrays = {}
    for layer in model.checked_layers(layers):
        sides = [
            None if side is None else mean_activations(model, side, layer, sigma, draws, seed)
            for side in (positive, negative)
        ]
        arrays[layer] = KINDS[kind](*sides)
        size = float(np.linalg.norm(arrays[layer]))
        if not (np.isfinite(size) and size > 0):
            raise InputError(f"direction: that of {concept} in {layer} is zero or not finite")
    card = {
        "schema": SCHEMA,
        "kind": kind,
        "concept": concept,
        "model": model.name,
        "model_sha256": model.sha256,
        "references": len(positive.rows),
        "references_sha256": positive.sha256,
        "negatives": 0 if negative is None else len(negative.rows),
        "negatives_sha256": "" if negative is None else negative.sha256,
        "sigma": float(sigma),
        "draws": draws,
        "seed": seed,
    }
    return Direction(MappingProxyType(arrays), MappingProxyType(card))


def mean_activations(
    model: SteerModel, images: References, layer: str, sigma: float, draws: int = 4, seed: int = 0
) -> Activations:
    """Activations (N, C) of noised images, averaged over space and ``draws`` of noise."""
    check_count(draws, "draws")
    check_noise_and_decay(sigma, 0.0)
    rows_ND = check_samples(images.rows, "references")
    if rows_ND.shape[1] != model.size:
        raise InputError(
            f"references: rows of {model.name} have {model.size} numbers, got {rows_ND.shape[1]}"
        )
    if images.captions is not None and len(images.captions) != len(rows_ND):
        raise InputError(
            f"captions: {len(rows_ND)} references have {len(images.captions)} captions"
        )
    captions = images.captions if model.takes_captions else None
    # float32 whatever JAX's setting: equal seeds are equal noise.
    noise_MND = jax.random.normal(jax.random.key(seed), (draws, *rows_ND.shape), jnp.float32)
    found = [
        model.activations(rows_ND + sigma * np.asarray(noise_ND), sigma, captions, layer)
        for noise_ND in noise_MND
    ]
    return np.mean(found, axis=0)


def random_like(direction: Direction, seed: int) -> Direction:
    """A random direction of equal norm in every layer: the control."""
    random = np.random.default_rng(seed)
    arrays = {}
    for layer, array_C in direction.arrays.items():
        vector_C = random.standard_normal(len(array_C))
        arrays[layer] = vector_C * (np.linalg.norm(array_C) / np.linalg.norm(vector_C))
    card = {**direction.card, "kind": f"random, as long as {direction.card['kind']}"}
    return Direction(MappingProxyType(arrays), MappingProxyType({**card, "random_seed": seed}))


# --- files ---------------------------------------------------------------------------------------


def save_direction(direction: Direction, path: str | Path) -> None:
    """Write ``path``, NAME.npz, and its card NAME.json with the hash of both.

    Raises:
      InputError: for another kind of name.
    """
    path = _checked_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, npz_bytes({k: np.asarray(v, float) for k, v in direction.arrays.items()}))
    write_settings(path.with_suffix(".json"), {**direction.card, "sha256": direction.sha256})


def load_direction(path: str | Path) -> Direction:
    """What `save_direction` wrote.

    Raises:
      InputError: when a file is missing or damaged, or they do not belong together.
    """
    path = _checked_path(path)
    arrays = read_npz(path)
    card = read_settings(path.with_suffix(".json"), ("model", "model_sha256", "kind", "sha256"))
    expected = card.pop("sha256")
    direction = Direction(MappingProxyType(arrays), MappingProxyType(card))
    numbers = all(array.dtype.kind == "f" and array.ndim == 1 for array in arrays.values())
    if not numbers or direction.sha256 != expected:
        raise InputError(f"{path}: not the direction that its card describes; get both anew")
    return direction


def _checked_path(path: str | Path) -> Path:
    if Path(path).suffix != ".npz":
        raise InputError(f"{path}: the name of a direction's file ends in .npz")
    return Path(path)
