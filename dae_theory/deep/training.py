"""Training of deep denoisers: ``python -m dae_theory.deep.training --out=DIR``.

Kill it at any moment and start it again with the same options: it goes on from the last checkpoint
in DIR and reaches the same loss curve, DIR/metrics.csv. Exit status 0 when all steps are done, 2 on
bad input, a folder that holds another training, or a loss that is not finite.
"""

import contextlib
import csv
import dataclasses
import functools
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dae_theory.checks import InputError, check_count, check_seed
from dae_theory.commands import ProgressBar, configure_jax, option, run_main
from dae_theory.deep.captions import LENGTH, NOTHING, PADDING, tokenize
from dae_theory.deep.images import SOURCES, TrainingSet, training_set
from dae_theory.deep.network import SIGMA_DATA, NetworkConfig, denoise_images, make_network
from dae_theory.diffusion.schedules import edm_coefficients, log_normal_sigmas
from dae_theory.files import read_settings, reserve_folder, write_whole

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

LOG_SIGMA_MEAN, LOG_SIGMA_STD = -1.2, 1.2  # of training noise, Karras et al. 2022
STRIDE = 100  # steps between two lines of the metrics
COLUMNS = ("step", "loss", "seconds")


@dataclass(frozen=True)
class DeepConfig:
    """One training.

    Attributes:
      network: see `network.NetworkConfig`.
      data: one of `images.SOURCES`.
      images: training images, planted ones not counted.
      planted: images shown far more often than others.
      planted_share: share of each batch that they make up.
      own_captions: whether each planted image has a caption of its own, or one that it shares with
        other images like it (see `captions`).
      no_caption_share: share of captions left out in training, for sampling without and guidance.
      steps: of Adam, a multiple of 100.
      batch_size: images a step.
      learning_rate: at the start; falls to 0 along a cosine.
      ema: decay of the moving average of the parameters.
      checkpoint_every: steps, a multiple of 100.
      seed: of images, parameters and noise.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: str = option("fashion_mnist", f"One of {', '.join(SOURCES)}.")
    images: int = option(59_000, "Of the training.")
    planted: int = option(0, "Of the training.")
    planted_share: float = option(0.3, "Of the training.")
    own_captions: bool = option(True, "Of planted images; False: those of images like them.")
    no_caption_share: float = option(0.1, "Of captions, left out in training.")
    steps: int = option(6000, "Of the training.")
    batch_size: int = option(64, "Of the training.")
    learning_rate: float = option(1e-3, "Of the training.")
    ema: float = option(0.999, "Of the training.")
    checkpoint_every: int = option(500, "Of the training.")
    seed: int = option(0, "Of the training.")

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every"):
            check_count(getattr(self, name), name)
        check_seed(self.seed)
        for name in ("images", "planted"):
            check_count(getattr(self, name), name, 0)
        for name in ("steps", "checkpoint_every"):
            if getattr(self, name) % STRIDE:
                raise InputError(f"{name}: must be a multiple of {STRIDE}")
        for name in ("planted_share", "ema"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name}: must be between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.no_caption_share <= 1:
            raise InputError(f"no_caption_share: must be from 0 to 1, got {self.no_caption_share}")
        if self.data not in SOURCES:
            raise InputError(f"data: expected one of {', '.join(SOURCES)}, got {self.data!r}")
        if self.network.text and self.data != "fashion_mnist":
            raise InputError(f"text: {self.data} have no captions; leave --text out")
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning_rate: must be finite and > 0, got {self.learning_rate}")

    @property
    def drawn_as(self) -> dict[str, int | str]:
        """What `images.training_set` and `images.held_out_set` are called with."""
        return {
            "count": self.images,
            "planted": self.planted,
            "size": self.network.size,
            "seed": self.seed,
            "source": self.data,
        }


class State(NamedTuple):
    """Parameters, their moving average, and Adam's state."""

    params: dict
    average: dict
    optimizer: optax.OptState


class Arrays(NamedTuple):
    """The training set on the device; the first ``planted`` images are planted."""

    images: Float[Array, "N H W 1"]
    tokens: Int[Array, "N L"]


def make_optimizer(config: DeepConfig) -> optax.GradientTransformation:
    """Adam with a cosine schedule."""
    return optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))


@functools.partial(jax.jit, static_argnums=0)
def init_params(network: NetworkConfig, key: PRNGKeyArray) -> dict:
    """Random parameters of a network."""
    tokens, image = jnp.full((1, LENGTH), NOTHING), jnp.zeros((1, network.size, network.size, 1))
    return make_network(network).init(key, image, jnp.zeros(1), tokens)["params"]


@functools.cache
def shapes_of_params(network: NetworkConfig) -> dict:
    """Shapes and types of the parameters of a network."""
    return jax.eval_shape(functools.partial(init_params, network), jax.random.key(0))


def init_state(config: DeepConfig) -> State:
    """Random parameters; the average starts there."""
    params = init_params(config.network, jax.random.fold_in(jax.random.key(config.seed), 0))
    # A copy: `advance` takes over the memory of both.
    return State(params, jax.tree.map(jnp.copy, params), make_optimizer(config).init(params))


def draw_indices(key: PRNGKeyArray, config: DeepConfig, count: int) -> Int[Array, " B"]:
    """Which of ``count`` images make up a batch: planted ones with their share."""
    which_key, planted_key, other_key = jax.random.split(key, 3)
    shape, planted = (config.batch_size,), config.planted
    if planted == 0:
        return jax.random.randint(other_key, shape, 0, count)
    if planted == count:
        return jax.random.randint(planted_key, shape, 0, planted)
    return jnp.where(
        jax.random.bernoulli(which_key, config.planted_share, shape),
        jax.random.randint(planted_key, shape, 0, planted),
        jax.random.randint(other_key, shape, planted, count),
    )


def weighted_errors(sigma_key, noise_key, network, params, images, tokens_BL) -> Array:
    """Mean over pixels of (D(x + σε, σ) − x)² / c_out² for each image, log σ normal."""
    sigma_B = log_normal_sigmas(
        sigma_key, (len(images),), LOG_SIGMA_MEAN, LOG_SIGMA_STD, images.dtype
    )
    noise = jax.random.normal(noise_key, images.shape, images.dtype)
    noisy = images + sigma_B[:, None, None, None] * noise
    denoised = denoise_images(network, {"params": params}, noisy, sigma_B, tokens_BL)
    _, c_out_B, _ = edm_coefficients(sigma_B, SIGMA_DATA)
    return jnp.mean((denoised - images) ** 2, axis=(1, 2, 3)) / c_out_B**2


def denoising_loss(
    key: PRNGKeyArray, network, params, images, tokens_BL, no_caption_share: float
) -> Array:
    """Mean of `weighted_errors`, with a share of captions left out."""
    sigma_key, noise_key, drop_key = jax.random.split(key, 3)
    nothing_L = jnp.array([NOTHING] + [PADDING] * (LENGTH - 1))
    dropped_B = jax.random.bernoulli(drop_key, no_caption_share, (len(images),))
    tokens_BL = jnp.where(dropped_B[:, None], nothing_L, tokens_BL)
    return jnp.mean(weighted_errors(sigma_key, noise_key, network, params, images, tokens_BL))


@functools.partial(jax.jit, static_argnames="config", donate_argnums=0)
def advance(
    state: State, first_step: Int[Array, ""], arrays: Arrays, config: DeepConfig
) -> tuple[State, Float[Array, ""]]:
    """`STRIDE` steps, and their mean loss. A step depends on the seed and its number only."""
    network, optimizer = make_network(config.network), make_optimizer(config)
    run_key = jax.random.fold_in(jax.random.key(config.seed), 1)

    def step(state: State, number):
        batch_key, loss_key = jax.random.split(jax.random.fold_in(run_key, number))
        batch = draw_indices(batch_key, config, len(arrays.images))
        loss, gradient = jax.value_and_grad(denoising_loss, argnums=2)(
            loss_key,
            network,
            state.params,
            arrays.images[batch],
            arrays.tokens[batch],
            config.no_caption_share,
        )
        updates, moments = optimizer.update(gradient, state.optimizer)
        params = optax.apply_updates(state.params, updates)
        # Young averages forget their start sooner.
        decay = jnp.minimum(config.ema, (1 + number) / (10 + number))
        average = optax.incremental_update(params, state.average, 1 - decay)
        return State(params, average, moments), loss

    state, losses = jax.lax.scan(step, state, first_step + jnp.arange(STRIDE))
    return state, jnp.mean(losses)


def read_config(out: Path) -> DeepConfig:
    """The configuration of a training folder.

    Raises:
      InputError: when there is none, or it is damaged.
    """
    path = out / "config.json"
    if not path.is_file():
        raise InputError(f"{out}: holds no training (no config.json)")
    try:
        return config_from_fields(read_settings(path))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not of a training, or of another version ({error})") from error


def config_from_fields(fields: dict) -> DeepConfig:
    """The configuration that `dataclasses.asdict` made these fields of."""
    return DeepConfig(**fields | {"network": NetworkConfig(**fields["network"])})


def read_metrics(out: Path) -> list[dict[str, float]]:
    """The lines of metrics.csv that are whole.

    Raises:
      InputError: when it is damaged.
    """
    path = out / "metrics.csv"
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if all(row.get(name) for name in COLUMNS)]
        return [{name: float(row[name]) for name in COLUMNS} for row in rows]
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: damaged ({error}); delete it to go on without the first part of the curve"
        ) from error


def _write_metrics(out: Path, rows: list[dict[str, float]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(out / "metrics.csv", text.getvalue().encode())


def orbax() -> ModuleType:
    """orbax.checkpoint, slow to import and not needed by those who only load a model."""
    import orbax.checkpoint

    return orbax.checkpoint


def checkpoints(out: Path) -> "ocp.CheckpointManager":
    """The checkpoints of a folder, of which the last two are kept."""
    options = orbax().CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    return orbax().CheckpointManager((out / "checkpoints").absolute(), options=options)


def restore_last(out: Path, config: DeepConfig) -> tuple[int, State]:
    """Steps done and state of the last checkpoint, or the start.

    Raises:
      InputError: when the checkpoint cannot be read.
    """
    with checkpoints(out) as manager:
        step = manager.latest_step()
    return (0, init_state(config)) if step is None else (step, restore_at(out, config, step))


def restore_at(out: Path, config: DeepConfig, step: int) -> State:
    """The state after ``step`` steps, one of the last two checkpoints.

    Raises:
      InputError: when there is no such checkpoint, or it cannot be read.
    """
    with checkpoints(out) as manager:
        folder = manager.directory / str(step)
        if step not in manager.all_steps():
            raise InputError(f"{folder}: no such checkpoint")
        like = jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda: init_state(config)))
        try:
            return manager.restore(step, args=orbax().args.StandardRestore(like))
        except Exception as error:  # tensorstore, JSON and zstd raise many kinds
            raise InputError(
                f"{folder}: checkpoint is damaged ({str(error).splitlines()[0][:120]}); delete "
                "that folder to go on from the one before"
            ) from error


@jax.enable_x64(False)
def train_deep(
    config: DeepConfig,
    out: str | Path,
    data: TrainingSet | None = None,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> State:
    """Train, or go on training, in a folder, in float32; returns the last state.

    Args:
      out: folder of config.json, metrics.csv and checkpoints.
      data: default `training_set` of the config.
      progress: called with the steps done and the mean loss of the last 100.

    Raises:
      InputError: for another training's folder, one in which a training is running, a damaged
        checkpoint, or a loss that is not finite (the last checkpoint is kept).
    """
    out = Path(out)
    if data is None:
        data = training_set(**config.drawn_as, own_captions=config.own_captions)
    if not (out / "config.json").exists() and out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty and holds no training; give another --out")
    with reserve_folder(out, dataclasses.asdict(config), "training"):
        return _train(config, out, data, progress)


def _train(config: DeepConfig, out: Path, data: TrainingSet, progress) -> State:
    arrays = Arrays(jnp.asarray(data.images, jnp.float32), jnp.asarray(tokenize(data.captions)))
    done, state = restore_last(out, config)
    rows = [row for row in read_metrics(out) if row["step"] <= done]
    before = rows[-1]["seconds"] if rows else 0.0
    start = time.monotonic()
    with checkpoints(out) as manager:
        for first in range(done, config.steps, STRIDE):
            state, loss = advance(state, jnp.int32(first), arrays, config)
            step, loss = first + STRIDE, float(loss)
            if not np.isfinite(loss):
                raise InputError(
                    f"training diverged by step {step} (loss {loss}); lower "
                    f"learning_rate={config.learning_rate:g} and train in a new folder"
                )
            rows.append({"step": step, "loss": loss, "seconds": before + time.monotonic() - start})
            _write_metrics(out, rows)
            if step % config.checkpoint_every == 0 or step == config.steps:
                manager.save(step, args=orbax().args.StandardSave(state))
            progress(step, loss)
    return state


def options_of(config: DeepConfig) -> list[str]:
    """The options that say a config, those at their default left out."""
    given = dataclasses.asdict(config)
    usual = dataclasses.asdict(DeepConfig())
    given, usual = (fields.pop("network") | fields for fields in (given, usual))
    return [f"--{name}={value}" for name, value in given.items() if value != usual[name]]


@dataclass(frozen=True)
class Options:
    """The command's options."""

    config: DeepConfig = field(default_factory=DeepConfig)
    out: str | None = option(None, "Folder of the training.")


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(train_command, Options, argv, __doc__)


def train_command(options: Options) -> int:
    """Train under a progress bar."""
    if options.out is None:
        raise InputError("out: say where the training goes, --out=DIR")
    steps, out = options.config.steps, Path(options.out)
    with contextlib.closing(ProgressBar()) as bar:
        train_deep(
            options.config,
            out,
            progress=lambda step, loss: bar("steps", step, steps, f"loss {loss:.4f}"),
        )
    print(f"{out}: {steps} steps, loss {read_metrics(out)[-1]['loss']:.4f}")
    return 0


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
