"""A small classifier of garments, which scores concepts: ``python -m dae_theory.steer.classifier
--out=NAME.npz`` trains it.

It is trained on images from which no direction is made: the last training images of Fashion-MNIST,
of which directions see only the first. Its card says how often it is right and how far its
probabilities are off on test images. `SHIPPED` comes with the package.
"""

import functools
import hashlib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dae_theory.checks import InputError, check_count, check_samples, check_seed
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.deep.captions import GARMENTS
from dae_theory.deep.images import SHIPPED_SIZE, shrunk_fashion_mnist
from dae_theory.deep.layers import Convolution
from dae_theory.files import npz_bytes, read_npz, read_settings, write_settings, write_whole
from dae_theory.statistics import share_interval

SIZE = SHIPPED_SIZE  # pixels a side
TRAINED_ON, TEMPERED_ON, TESTED_ON = (30_000, 55_000), (55_000, 60_000), (0, 5000)
BINS = 15  # of the calibration error
BATCH = 500  # images classified at once
SHIPPED = Path(__file__).with_name("garments.npz")


class Classified(NamedTuple):
    """Of N images: log-probabilities of each garment, and the penultimate layer."""

    log_probability: Float[np.ndarray, "N K"]
    features: Float[np.ndarray, "N F"]


class GarmentNet(nn.Module):
    """Two convolutions and two dense layers; returns logits and the penultimate layer."""

    channels: int = 16
    features: int = 64

    @nn.compact
    def __call__(self, images: Float[Array, "B H W 1"]) -> tuple[Array, Array]:
        """(B, K) and (B, F)."""
        x = nn.relu(Convolution(self.channels)(images))
        x = nn.avg_pool(nn.relu(Convolution(2 * self.channels)(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Dense(self.features)(x.reshape(len(x), -1)))
        return nn.Dense(len(GARMENTS))(x), x


@dataclass(frozen=True)
class Classifier:
    """Trained weights, the temperature of its logits, and its card."""

    params: dict
    temperature: float
    card: dict

    @jax.enable_x64(False)
    def __call__(self, rows_ND: Float[Array, "N D"]) -> Classified:
        """Classify rows of SIZE² pixels in [−1, 1].

        Raises:
          InputError: for rows of another size, or that are not finite.
        """
        rows_ND = check_samples(rows_ND, "images")
        if rows_ND.shape[1] != SIZE**2:
            raise InputError(f"images: expected {SIZE}² pixels a row, got {rows_ND.shape[1]}")
        count, parts = len(rows_ND), []
        for first in range(0, count, BATCH):
            index = np.arange(first, first + BATCH) % count
            images = np.float32(rows_ND[index]).reshape(-1, SIZE, SIZE, 1)
            parts.append([np.asarray(part) for part in _forward(self.params, images)])
        logits_NK, features_NF = (np.concatenate(part)[:count] for part in zip(*parts, strict=True))
        return Classified(_log_softmax(logits_NK.astype(float) / self.temperature), features_NF)


@jax.jit
def _forward(params: dict, images: Array) -> tuple[Array, Array]:
    return GarmentNet().apply({"params": params}, images)


def _log_softmax(logits_NK: np.ndarray) -> np.ndarray:
    shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
    return shifted_NK - np.log(np.sum(np.exp(shifted_NK), axis=1, keepdims=True))


@functools.cache
def shipped_classifier() -> Classifier:
    """The one that comes with the package.

    Raises:
      InputError: as `load_classifier`.
    """
    return load_classifier(SHIPPED)


def load_classifier(path: Path) -> Classifier:
    """What `train_classifier` wrote: NAME.npz beside its card NAME.json.

    Raises:
      InputError: when a file is missing or damaged, or they do not belong together.
    """
    card = read_settings(path.with_suffix(".json"), ("sha256", "temperature", "accuracy"))
    leaves = read_npz(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != card["sha256"]:
        raise InputError(f"{path}: not the classifier that its card describes; get both anew")
    leaves = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in leaves.items()}
    params = flax.traverse_util.unflatten_dict(leaves, sep="/")
    return Classifier(params, card["temperature"], card)


def calibration_error(
    log_probability_NK: Float[np.ndarray, "N K"], labels_N: Int[np.ndarray, " N"]
) -> float:
    """Expected calibration error of the likeliest class: |share right − mean probability| over
    BINS of equal width, weighted by their counts (Guo et al. 2017, eq. 3)."""
    sure_N = np.exp(log_probability_NK.max(axis=1))
    right_N = log_probability_NK.argmax(axis=1) == labels_N
    bin_N = np.minimum((sure_N * BINS).astype(int), BINS - 1)
    gaps = [abs(np.sum(right_N[bin_N == b]) - np.sum(sure_N[bin_N == b])) for b in np.unique(bin_N)]
    return float(np.sum(gaps) / len(labels_N))


def best_temperature(logits_NK: Float[np.ndarray, "N K"], labels_N: Int[np.ndarray, " N"]) -> float:
    """Temperature of the smallest mean negative log-likelihood, on a grid from ½ to 4."""
    grid = np.geomspace(0.5, 4, 100)
    rows = np.arange(len(labels_N))
    losses = [-np.mean(_log_softmax(logits_NK / t)[rows, labels_N]) for t in grid]
    return float(grid[np.argmin(losses)])


# --- training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """Settings of a training."""

    epochs: int = option(12, "Of the training.")
    batch_size: int = option(100, "Images a step.")
    learning_rate: float = option(1e-3, "At the start; falls to 0 along a cosine.")
    noise: float = option(0.05, "Standard deviation of the noise added to training images.")
    seed: int = option(0, "Of weights, order and augmentation.")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            check_count(getattr(self, name), name)
        check_seed(self.seed)


@jax.enable_x64(False)
def fit(
    images: Float[np.ndarray, "N H W"], labels_N: Int[np.ndarray, " N"], training: Training
) -> dict:
    """Weights trained on images in [−1, 1], shifted by up to a pixel, mirrored, with a little
    noise: Adam, cross entropy, a cosine schedule."""
    count, size = len(images), training.batch_size
    steps = training.epochs * (count // size)
    check_count(count, "images", size)
    net = GarmentNet()
    key = jax.random.key(training.seed)
    params = net.init(key, jnp.zeros((1, SIZE, SIZE, 1)))["params"]
    optimizer = optax.adam(optax.cosine_decay_schedule(training.learning_rate, steps))
    images, labels_N = jnp.asarray(images, jnp.float32), jnp.asarray(labels_N)

    @jax.jit
    def step(state, key, index_B):
        params, moments = state
        shift_key, mirror_key, noise_key = jax.random.split(key, 3)
        x = jnp.pad(images[index_B], ((0, 0), (1, 1), (1, 1)), constant_values=-1.0)
        corner_B2 = jax.random.randint(shift_key, (size, 2), 0, 3)
        cut = lambda image, corner: jax.lax.dynamic_slice(image, corner, (SIZE, SIZE))  # noqa: E731
        x = jax.vmap(cut)(x, corner_B2)
        mirrored_B = jax.random.bernoulli(mirror_key, 0.5, (size, 1, 1))
        x = jnp.where(mirrored_B, x[:, :, ::-1], x)
        x += training.noise * jax.random.normal(noise_key, x.shape)

        def loss(params):
            logits = net.apply({"params": params}, x[..., None])[0]
            found = optax.softmax_cross_entropy_with_integer_labels(logits, labels_N[index_B])
            return jnp.mean(found)

        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, updates), moments

    state = params, optimizer.init(params)
    random = np.random.default_rng(training.seed)
    for epoch in range(training.epochs):
        order = random.permutation(count)
        for number in range(count // size):
            step_key = jax.random.fold_in(key, epoch * (count // size) + number)
            state = step(state, step_key, order[number * size : (number + 1) * size])
    return state[0]


def train_classifier(out: Path, training: Training) -> Classifier:
    """Train, temper, test, and write ``out``, NAME.npz, and its card.

    Raises:
      InputError: for another kind of name, or when the data cannot be had.
    """
    if out.suffix != ".npz":
        raise InputError(f"out: the name of the file ends in .npz, got {out}")
    images, labels_N = shrunk_fashion_mnist("train", SIZE)
    part = slice(*TRAINED_ON)
    params = fit(images[part], labels_N[part], training)
    leaves = flax.traverse_util.flatten_dict(params, sep="/")
    content = npz_bytes({name: np.float16(leaf) for name, leaf in leaves.items()})
    rounded = jax.tree.map(lambda a: jnp.asarray(jnp.asarray(a, jnp.float16), jnp.float32), params)
    raw = Classifier(rounded, 1.0, {})
    part = slice(*TEMPERED_ON)
    rows = images[part].reshape(-1, SIZE**2)
    temperature = best_temperature(raw(rows).log_probability, labels_N[part])
    test_images, test_labels = shrunk_fashion_mnist("test", SIZE)
    part = slice(*TESTED_ON)
    tempered = Classifier(rounded, temperature, {})
    found = tempered(test_images[part].reshape(-1, SIZE**2)).log_probability
    card = card_of(found, test_labels[part]) | {
        "command": f"python -m dae_theory.steer.classifier --out={out.name}",
        "training": asdict(training),
        "temperature": temperature,
        "data": {
            "source": f"Fashion-MNIST, {SIZE} pixels a side, in [-1, 1]",
            "trained on training images": TRAINED_ON,
            "temperature from training images": TEMPERED_ON,
            "accuracy and calibration from test images": TESTED_ON,
        },
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, content)
    write_settings(out.with_suffix(".json"), card)
    return load_classifier(out)


def card_of(log_probability_NK: np.ndarray, labels_N: Int[np.ndarray, " N"]) -> dict:
    """Accuracy with its interval, by garment, and calibration error on images."""
    right_N = log_probability_NK.argmax(axis=1) == labels_N
    share = share_interval(int(np.sum(right_N)), len(right_N))
    return {
        "images": len(labels_N),
        "accuracy": {name: round(value, 4) for name, value in share._asdict().items()},
        "accuracy_by_garment": {
            garment: round(float(np.mean(right_N[labels_N == k])), 3)
            for k, garment in enumerate(GARMENTS)
            if np.any(labels_N == k)
        },
        "calibration_error": round(calibration_error(log_probability_NK, labels_N), 4),
    }


@dataclass(frozen=True)
class Options(Training):
    """The command's options."""

    out: str | None = option(None, "NAME.npz, the classifier to write.")


def train(options: Options) -> int:
    """Train and say what it can."""
    if options.out is None:
        raise InputError("out: say where the classifier goes, --out=NAME.npz")
    given = {name: getattr(options, name) for name in Training.__dataclass_fields__}
    card = train_classifier(Path(options.out), Training(**given)).card
    print({name: card[name] for name in ("accuracy", "calibration_error", "temperature")})
    return 0


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(train, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
