"""Trained deep denoisers in files: NAME.npz with float16 weights beside NAME.json, its card.

The card says what the weights were trained on and with which command, holds the loss curve and what
was measured, and the hash of the weights, which loading verifies. `SHIPPED` come with the package.
"""

import dataclasses
import hashlib
import io
import platform
import shlex
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from dae_theory.checks import InputError
from dae_theory.deep.images import TrainingSet, known_training_set, training_set
from dae_theory.deep.network import deep_denoiser
from dae_theory.deep.training import (
    DeepConfig,
    config_from_fields,
    options_of,
    read_config,
    read_metrics,
    restore_last,
    shapes_of_params,
)
from dae_theory.diffusion.denoisers import Denoiser
from dae_theory.files import npz_bytes, read_settings, write_settings, write_whole

SCHEMA = 1
FOLDER = Path(__file__).with_name("shipped")
SHIPPED = (
    "hybrid-text-dit",
    "generalizing-text-dit",
    "hybrid-unet",
    "memorizing-unet",
    "generalizing-unet",
    "told-dit",
    "free-dit",
)
FEW = 1000  # a net with fewer training images, none of them planted, stores all of them
PACKAGES = ("dae-theory", "jax", "flax", "optax")


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Attributes:
      name: of its files.
      config: of its training.
      params: moving average of the parameters, as `network.make_network` takes them.
      card: the card, as plain data.
    """

    name: str
    config: DeepConfig
    params: dict
    card: dict

    @property
    def stored(self) -> int:
        """How many of the first training images it stores: the planted ones, or all few."""
        planted, images = self.config.planted, self.config.images
        return planted or (images if images < FEW else 0)

    def denoiser(self, tokens_BL: Int[Array, "B L"] | None = None) -> Denoiser:
        """The network as a `Denoiser` of rows; see `network.deep_denoiser`."""
        return deep_denoiser(self.config.network, {"params": self.params}, tokens_BL)

    def training_set(self) -> TrainingSet:
        """The images it was trained on, planted ones first.

        Raises:
          InputError: when the data cannot be had, or are not those of the card.
        """
        return self._checked(
            training_set(**self.config.drawn_as, own_captions=self.config.own_captions)
        )

    def known_images(self) -> TrainingSet:
        """The images of `training_set` that are on this machine, planted ones first: all, or those
        that come with the package.

        Raises:
          InputError: as `training_set`; those that come with the package are checked on their own.
        """
        data = known_training_set(**self.config.drawn_as, own_captions=self.config.own_captions)
        whole = len(data.images) == self.config.images + self.config.planted
        return self._checked(data) if whole else data

    def _checked(self, data: TrainingSet) -> TrainingSet:
        if hash_of_images(data) != self.card["data"]["sha256"]:
            raise InputError(
                f"{self.name}: {self.config.data} here differs from what it was trained on"
            )
        return data


def hash_of_images(data: TrainingSet) -> str:
    """SHA-256 of the images, rounded to bytes, in their order."""
    levels = np.round((data.images + 1) * 127.5).astype(np.uint8)
    return hashlib.sha256(levels.tobytes()).hexdigest()


def card_of_training(folder: Path, name: str) -> dict:
    """What is known of a finished training before anything is measured.

    Raises:
      InputError: for a folder without a training, or one that is not finished.
    """
    config, rows = read_config(folder), read_metrics(folder)
    done = int(rows[-1]["step"]) if rows else 0
    if done < config.steps:
        raise InputError(
            f"{folder}: training stopped at step {done} of {config.steps}; go on with "
            f"python -m dae_theory.deep.training --out={folder} {shlex.join(options_of(config))}"
        )
    data = training_set(**config.drawn_as)
    return {
        "schema": SCHEMA,
        "name": name,
        "command": shlex.join(
            ["python", "-m", "dae_theory.deep.training", "--out=DIR", *options_of(config)]
        ),
        "data": {
            "source": f"{config.data}, {config.network.size} pixels a side, in [-1, 1]",
            "images": config.images,
            "planted": config.planted,
            "sha256": hash_of_images(data),
        },
        "config": dataclasses.asdict(config),
        "steps": config.steps,
        "wall_s": round(rows[-1]["seconds"], 1),
        "loss_curve": [[int(row["step"]), round(row["loss"], 5)] for row in rows],
        "environment": {"python": platform.python_version(), "machine": platform.machine()}
        | {name: version(name) for name in PACKAGES},
    }


def write_checkpoint(path: Path, params: dict, card: dict) -> dict:
    """Write weights to ``path``, NAME.npz, and the card with their hash to NAME.json.

    Returns the card as written.
    """
    leaves = flax.traverse_util.flatten_dict(params, sep="/")
    arrays = {name: np.asarray(leaf, np.float16) for name, leaf in leaves.items()}
    if not all(np.all(np.isfinite(array)) for array in arrays.values()):
        raise InputError(f"{path}: weights are not finite in float16")
    content = npz_bytes(arrays)
    card = card | {
        "weights": {
            "file": path.name,
            "dtype": "float16",
            "parameters": sum(array.size for array in arrays.values()),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    write_settings(path.with_suffix(".json"), card)
    return card


def export_training(folder: str | Path, path: str | Path) -> Checkpoint:
    """The moving average of a finished training as a checkpoint file ``path``, NAME.npz.

    Raises:
      InputError: as `card_of_training`; for a damaged training; for a path that is no .npz.
    """
    folder, path = Path(folder), Path(path)
    if path.suffix != ".npz":
        raise InputError(f"{path}: the name of a checkpoint ends in .npz")
    card = card_of_training(folder, path.stem)
    step, state = restore_last(folder, read_config(folder))
    if step != card["steps"]:
        raise InputError(f"{folder}: the last checkpoint is of step {step}, not {card['steps']}")
    write_checkpoint(path, jax.tree.map(np.asarray, state.average), card)
    return load_checkpoint(path)


def load_checkpoint(name: str | Path) -> Checkpoint:
    """A checkpoint by the name of a shipped one, or by the path of its .npz file.

    Raises:
      InputError: when there is none, a card cannot be read, or the weights are not those that the
        card describes: truncated, altered, or of another network.
    """
    path = FOLDER / f"{name}.npz" if str(name) in SHIPPED else Path(name)
    card_path = path.parent / f"{path.stem}.json"
    for file in (path, card_path):
        if not file.is_file():
            raise InputError(
                f"checkpoint: no file {file}; give the path of an .npz file beside its .json "
                f"card, or one of {', '.join(SHIPPED)}"
            )
    card = read_settings(card_path, ("config", "weights"))
    try:
        config = config_from_fields(card["config"])
        expected = card["weights"]["sha256"]
        wanted = shapes_of_params(config.network)
    except Exception as error:  # a network with impossible settings fails in many ways
        raise InputError(f"{card_path}: damaged card ({error}); get the file anew") from error
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(
            f"{path}: truncated or altered, its hash is not the card's; get both files anew"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        leaves = {key: jnp.asarray(archive[key], jnp.float32) for key in archive.files}
    params = flax.traverse_util.unflatten_dict(leaves, sep="/")
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, wanted):
        raise InputError(f"{path}: the weights do not fit the network of the card")
    return Checkpoint(path.stem, config, params, card)
