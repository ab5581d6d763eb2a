"""Jacobians and layer statistics of deep nets, at images that they memorize and at others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.checks import InputError, check_count
from dae_theory.deep.activations import LayerStatistics, layer_statistics
from dae_theory.deep.captions import tokenize
from dae_theory.deep.checkpoints import SHIPPED, Checkpoint
from dae_theory.deep.images import known_fashion_images, known_training_set
from dae_theory.diffusion.denoisers import Denoiser
from dae_theory.diffusion.jacobian import (
    Jacobians,
    Operator,
    decompose,
    jacobian_matrices,
    local_operator,
)
from proofs_checks.claims import Measured, Requirement
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.diffusion.shipped import ShippedModels

SIGMAS = (0.1, 0.3)  # a sample is still near its image; images are in [−1, 1]
LAYER_SIGMAS = (0.1, 0.3, 1.0)
POINTS, QUICK_POINTS, OTHERS = 16, 5, 200
# The paper's layer is the second convolution's input in the first up block; a transformer has no
# such block, and its last one stands for it.
DETECTOR_LAYER = {"unet": "up1/units", "dit": "block{last}/units"}


@dataclass(frozen=True)
class Points:
    """Images ``x`` with their labels, and Jacobians ``matrix`` where noise σε was added."""

    x: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]
    matrix: Float[np.ndarray, "S N D D"]

    @cached_property
    def jacobians(self) -> tuple[Jacobians, ...]:
        """With singular values, for each noise level."""
        return tuple(decompose(matrix_NDD) for matrix_NDD in self.matrix)

    @cached_property
    def traces(self) -> Float[np.ndarray, "S N"]:
        """Effective number of kept directions."""
        return np.trace(self.matrix, axis1=2, axis2=3)


@dataclass(frozen=True)
class LayerScores:
    """Statistics of every layer of a net, of images of which some are memorized.

    ``detector``: the layer of the paper's score.
    """

    statistics: LayerStatistics
    memorized: Bool[np.ndarray, " N"]
    detector: str


@dataclass(frozen=True)
class NetPoints:
    """What was measured of one net.

    Attributes:
      name: of the checkpoint.
      mixed: it memorizes some images among many.
      text: it is conditioned on captions.
      generalized: at test images.
      memorized: at images that it stores, if any.
      control: at the same noisy images, of a net that does not store them.
      layers: of the net; ``control_layers`` of the other.
    """

    name: str
    mixed: bool
    generalized: Points
    memorized: Points | None = None
    control: Points | None = None
    layers: LayerScores | None = None
    control_layers: LayerScores | None = None
    text: bool = False

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Spectra (S, N, D) and statistics of layers (S, N), and, as 'control', those of the net
        that stores none of its images."""
        arrays = {}
        for kind in ("generalized", "memorized", "control"):
            points = getattr(self, kind)
            if points is not None:
                arrays[f"{kind}/values"] = np.stack([j.values for j in points.jacobians])
                arrays[f"{kind}/traces"] = points.traces
        for kind in ("layers", "control_layers"):
            scores = getattr(self, kind)
            if scores is not None:
                arrays[f"{kind}/memorized"] = scores.memorized
                for layer, by_name in scores.statistics.values.items():
                    arrays |= {f"{kind}/{layer}/{name}": value for name, value in by_name.items()}
        return arrays


@dataclass(frozen=True)
class JacobianExperiment:
    """Nets, and the clusters of training images (one a label) whose statistics the theory takes.

    Attributes:
      nets: what was measured of each.
      clusters: the training images of each label.
      sigmas: noise levels of the Jacobians.
      predict: the operator of a cluster under test.
      data: training and test images, by name and hash.
    """

    nets: tuple[NetPoints, ...]
    clusters: tuple[Float[np.ndarray, "K D"], ...]
    sigmas: tuple[float, ...] = SIGMAS
    predict: Callable[[np.ndarray, float], Operator] = local_operator
    data: tuple[DataUsed, ...] = ()

    @property
    def memorizing(self) -> tuple[NetPoints, ...]:
        """The nets that memorize."""
        return tuple(net for net in self.nets if net.memorized is not None)

    @property
    def mixed(self) -> tuple[NetPoints, ...]:
        """The nets that memorize some images and generalize from others."""
        return tuple(net for net in self.nets if net.mixed)

    @property
    def generalizing(self) -> tuple[NetPoints, ...]:
        """The nets that generalize."""
        return tuple(net for net in self.nets if net.mixed or net.memorized is None)

    @cached_property
    def operators(self) -> tuple[Operator, ...]:
        """For each noise level, those of all clusters, stacked."""
        return tuple(
            Operator(
                *map(np.stack, zip(*(self.predict(x, sigma) for x in self.clusters), strict=True))
            )
            for sigma in self.sigmas
        )

    def predicted(self, level: int, labels_N: Int[np.ndarray, " N"]) -> Operator:
        """The operators of these clusters at a noise level."""
        return Operator(*(array[labels_N] for array in self.operators[level]))

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        points = [len(net.generalized.x) for net in self.nets]
        images = sum(map(len, self.clusters))
        return {"jacobians": f"at {points[0]} images of a kind, clusters of {images} images"}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What was measured of each net, and the noise levels."""
        arrays = {"sigmas": np.array(self.sigmas)}
        for net in self.nets:
            arrays |= {f"{net.name}/{key}": array for key, array in net.arrays.items()}
        return arrays


# --- building ------------------------------------------------------------------------------------


def build(config: RunConfig, models: ShippedModels) -> JacobianExperiment:
    """The shipped models of networks of which one does not memorize, with the images that there
    are."""
    checkpoints = [models.checkpoint(name) for name in SHIPPED]
    networks = {c.config.network for c in checkpoints if not c.stored}
    compared = [c for c in checkpoints if c.config.network in networks]
    experiment = build_jacobian(compared, QUICK_POINTS if config.quick else POINTS)
    return replace(experiment, data=(models.all_images("train"), models.all_images("test")))


class Captioned(NamedTuple):
    """Images with labels and captions.

    A label only picks the cluster of generalized points; it is −1 where none is needed.
    """

    x: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]
    captions: Sequence[str]


def build_jacobian(
    checkpoints: Sequence[Checkpoint], points: int = POINTS, others: int = OTHERS, seed: int = 0
) -> JacobianExperiment:
    """The experiment on nets trained on Fashion-MNIST, of one image size.

    Each net that memorizes is compared with the one of its architecture and text that does not.

    Args:
      checkpoints: the nets.
      points: images of each kind whose Jacobians are taken, at most.
      others: test images among which the memorized ones are to be detected.
      seed: of the noise.

    Raises:
      InputError: for other data, or a memorizing net without one to compare it with.
    """
    check_count(points, "points")
    check_count(others, "others")
    kinds = {(checkpoint.config.data, checkpoint.config.network.size) for checkpoint in checkpoints}
    size = checkpoints[0].config.network.size if checkpoints else 0
    if kinds != {("fashion_mnist", size)}:
        raise InputError(f"checkpoints: expected Fashion-MNIST of one size, got {sorted(kinds)}")
    test, labels, captions = known_fashion_images("test", size)
    test_ND = test.reshape(len(test), -1)
    fresh = Captioned(test_ND[:points], labels[:points], captions[:points])
    without_text = {c.name: c.denoiser() for c in checkpoints if not c.config.network.text}

    def jacobians(checkpoint: Checkpoint, images: Captioned) -> Points:
        # One denoiser a net where captions do not matter, so that it is compiled once.
        denoiser = without_text.get(checkpoint.name)
        return jacobians_at(
            denoiser or checkpoint.denoiser(tokenize(images.captions)), images, seed
        )

    def measured(checkpoint: Checkpoint) -> NetPoints:
        config, count = checkpoint.config, checkpoint.stored
        net = NetPoints(
            checkpoint.name,
            config.planted > 0,
            jacobians(checkpoint, fresh),
            text=config.network.text,
        )
        if not count:
            return net
        control, data = control_of(checkpoint, checkpoints), checkpoint.known_images()
        kept = min(points, count)
        stored = Captioned(data.rows[:kept], np.full(kept, -1), data.captions[:kept])
        # The same images with the captions that they would have if they were not planted.
        plain = known_training_set(config.images + config.planted, 0, size, config.seed)
        seen_ND = np.concatenate([data.rows[: min(count, others)], test_ND[:others]])
        memorized_N = np.arange(len(seen_ND)) < min(count, others)
        return replace(
            net,
            memorized=jacobians(checkpoint, stored),
            control=jacobians(control, stored._replace(captions=plain.captions[:kept])),
            layers=layer_scores(checkpoint, seen_ND, memorized_N, seed),
            control_layers=layer_scores(control, seen_ND, memorized_N, seed),
        )

    train, train_labels, _ = known_fashion_images("train", size)
    train_ND = train.reshape(len(train), -1)
    clusters = tuple(train_ND[train_labels == label] for label in range(train_labels.max() + 1))
    return JacobianExperiment(tuple(map(measured, checkpoints)), clusters)


def jacobians_at(denoiser: Denoiser, images: Captioned, seed: int) -> Points:
    """Jacobians where noise was added, equal noise for all denoisers."""
    noise_ND = np.random.default_rng(seed).standard_normal(images.x.shape)
    matrices = [
        jacobian_matrices(denoiser, np.float32(images.x + sigma * noise_ND), sigma)
        for sigma in SIGMAS
    ]
    return Points(images.x, images.labels, np.stack(matrices))


def layer_scores(
    checkpoint: Checkpoint, x_ND: np.ndarray, memorized_N: np.ndarray, seed: int
) -> LayerScores:
    """Statistics of all layers without a caption."""
    network = checkpoint.config.network
    layer = DETECTOR_LAYER[network.architecture].format(last=network.depth - 1)
    key = jax.random.key(seed)
    found = layer_statistics(key, network, checkpoint.params, x_ND, LAYER_SIGMAS, draws=4)
    return LayerScores(found, memorized_N, layer)


def control_of(checkpoint: Checkpoint, checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The net of the same architecture and text that stores no images."""
    for other in checkpoints:
        if other.config.network == checkpoint.config.network and not other.stored:
            return other
    raise InputError(f"checkpoints: none that memorizes nothing to compare {checkpoint.name} with")


# --- what claims share ---------------------------------------------------------------------------


def nets_there(
    what: str, nets: Callable[[JacobianExperiment], Sequence[NetPoints]]
) -> tuple[Requirement, ...]:
    """There are such nets."""
    there = Requirement(
        f"nets that {what}",
        "at least 1",
        lambda e: len(nets(e)),
        lambda count: count > 0,
        needs_others=True,
    )
    return (there,)


def of_worst(
    values: dict[str, np.ndarray],
    errors: dict[str, np.ndarray],
    predicted: float,
    what: str,
    others: dict[str, int] | None = None,
) -> Measured:
    """What was measured of the net with the largest mean error, one entry an image; all nets in
    the note. ``others``: of how many other images each error is a share, by net."""
    worst = max(errors, key=lambda name: np.mean(errors[name]))
    means = listed({name: f"{np.mean(value):.3f}" for name, value in values.items()})
    return Measured(
        float(np.mean(values[worst])),
        predicted,
        np.asarray(errors[worst]),
        note=f"{what}; by net: {means}; interval over images of {worst}",
        pairs=others and (len(errors[worst]), others[worst]),
    )


def listed(values: dict[str, str]) -> str:
    """'net value, net value'."""
    return ", ".join(f"{name} {value}" for name, value in values.items())
