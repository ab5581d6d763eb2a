"""What the claims of `diffusion_jacobian` measure on deep nets, at memorized and at generalized
images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.checks import InputError, check_count
from dae_theory.deep.activations import LayerStatistics, layer_statistics, separate_groups
from dae_theory.deep.captions import ordinary_captions, tokenize
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.images import shrunk_fashion_mnist, training_set
from dae_theory.diffusion.jacobian import (
    Jacobians,
    Operator,
    align_jacobians,
    decompose,
    gains_along,
    jacobian_matrices,
    local_operator,
    summarize_jacobians,
    top_direction_cosines,
)
from proofs_checks.claims import Assumption

SIGMAS = (0.1, 0.3)  # a sample is still near its image; images are in [−1, 1]
LAYER_SIGMAS = (0.1, 0.3, 1.0)
POINTS, OTHERS = 16, 200
FEW = 1000  # a net with fewer training images, none of them planted, memorizes all of them
DETECTOR = "max/std"
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


@dataclass(frozen=True)
class JacobianExperiment:
    """Nets, and the clusters of training images (one a label) whose statistics the theory takes.

    ``predict`` is the operator of a cluster under test.
    """

    nets: tuple[NetPoints, ...]
    clusters: tuple[Float[np.ndarray, "K D"], ...]
    sigmas: tuple[float, ...] = SIGMAS
    predict: Callable[[np.ndarray, float], Operator] = local_operator

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


# --- building ------------------------------------------------------------------------------------


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
    test, labels = shrunk_fashion_mnist("test", size)
    captions = ordinary_captions(test, labels)
    train, train_labels = shrunk_fashion_mnist("train", size)
    train_ND = train.reshape(len(train), -1)
    test_ND = test.reshape(len(test), -1)

    without_text = {}  # one object a net, so that it is compiled once

    def jacobians_at(checkpoint, x_ND, labels_N, captions) -> Points:
        if checkpoint.config.network.text:
            denoiser = checkpoint.denoiser(tokenize(captions))
        else:
            denoiser = without_text.setdefault(checkpoint.name, checkpoint.denoiser())
        noise_ND = np.random.default_rng(seed).standard_normal(x_ND.shape)
        matrices = [
            jacobian_matrices(denoiser, np.float32(x_ND + sigma * noise_ND), sigma)
            for sigma in SIGMAS
        ]
        return Points(x_ND, labels_N, np.stack(matrices))

    def scores_of(checkpoint, x_ND, memorized_N) -> LayerScores:
        network = checkpoint.config.network
        layer = DETECTOR_LAYER[network.architecture].format(last=network.depth - 1)
        found = layer_statistics(
            jax.random.key(seed), network, checkpoint.params, x_ND, LAYER_SIGMAS, draws=4
        )
        return LayerScores(found, memorized_N, layer)

    nets = []
    for checkpoint in checkpoints:
        generalized = jacobians_at(checkpoint, test_ND[:points], labels[:points], captions[:points])
        net = NetPoints(
            checkpoint.name,
            checkpoint.config.planted > 0,
            generalized,
            text=checkpoint.config.network.text,
        )
        count = stored_images(checkpoint)
        if count:
            control = control_of(checkpoint, checkpoints)
            data, config = checkpoint.training_set(), checkpoint.config
            # The same images with the captions that they would have if they were not planted.
            plain = training_set(config.images + config.planted, 0, size, config.seed)
            x_ND, kept = data.rows[:count], slice(min(points, count))
            # A label only picks the cluster of generalized points; none is needed here.
            none_N = np.full(len(x_ND[kept]), -1)
            seen_ND = np.concatenate([x_ND[:others], test_ND[:others]])
            memorized_N = np.arange(len(seen_ND)) < min(count, others)
            net = replace(
                net,
                memorized=jacobians_at(checkpoint, x_ND[kept], none_N, data.captions[kept]),
                control=jacobians_at(control, x_ND[kept], none_N, plain.captions[kept]),
                layers=scores_of(checkpoint, seen_ND, memorized_N),
                control_layers=scores_of(control, seen_ND, memorized_N),
            )
        nets.append(net)
    clusters = tuple(train_ND[train_labels == label] for label in range(train_labels.max() + 1))
    return JacobianExperiment(tuple(nets), clusters)


def stored_images(checkpoint: Checkpoint) -> int:
    """How many of the first training images a net stores: the planted ones, or all few."""
    config = checkpoint.config
    return config.planted or (config.images if config.images < FEW else 0)


def control_of(checkpoint: Checkpoint, checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The net of the same architecture and text that stores no images."""
    for other in checkpoints:
        if other.config.network == checkpoint.config.network and not stored_images(other):
            return other
    raise InputError(f"checkpoints: none that memorizes nothing to compare {checkpoint.name} with")


# --- assumptions ---------------------------------------------------------------------------------


def some_memorize(experiment: JacobianExperiment) -> dict[str, Assumption]:
    """There are nets that memorize."""
    count = sum(net.memorized is not None for net in experiment.nets)
    return {"nets that memorize": Assumption(float(count), "at least 1", count > 0)}


def some_do_both(experiment: JacobianExperiment) -> dict[str, Assumption]:
    """There are nets that memorize some images and generalize from others."""
    count = sum(net.mixed for net in experiment.nets)
    return {"nets that do both": Assumption(float(count), "at least 1", count > 0)}


def some_do_both_with(text: bool) -> Callable[[JacobianExperiment], dict[str, Assumption]]:
    """The same among nets with, or without, text."""

    def assume(experiment: JacobianExperiment) -> dict[str, Assumption]:
        nets = tuple(net for net in experiment.nets if net.text == text)
        return some_do_both(replace(experiment, nets=nets))

    return assume


def some_generalize(experiment: JacobianExperiment) -> dict[str, Assumption]:
    """There are nets that generalize."""
    count = len(_generalizing(experiment))
    return {"nets that generalize": Assumption(float(count), "at least 1", count > 0)}


# --- measurements --------------------------------------------------------------------------------


def measure_fewer_directions(experiment: JacobianExperiment) -> dict:
    """Share of a net's generalized images at which no more is kept than at a memorized one."""
    shares, traces = {}, {}
    for net in (net for net in experiment.nets if net.mixed):
        memorized_SM1, generalized_S1G = (
            net.memorized.traces[:, :, None],
            net.generalized.traces[:, None, :],
        )
        shares[net.name] = np.mean(generalized_S1G <= memorized_SM1, axis=(0, 2))
        traces[net.name] = f"{memorized_SM1.mean():.1f} against {generalized_S1G.mean():.1f}"
    return _of_worst(shares, shares, 0.0, "directions kept on average: " + _listed(traces))


def measure_fewer_than_control(experiment: JacobianExperiment) -> dict:
    """Directions kept at a memorized image, as a multiple of what the control keeps there."""
    with np.errstate(divide="ignore"):
        ratios = {
            # A posterior mean keeps no less than nothing; a net can.
            net.name: np.maximum(net.memorized.traces / net.control.traces, 0).mean(0)
            for net in _memorizing(experiment)
        }
    return _of_worst(ratios, ratios, 0.0, "trace, over that of a net without them")


def measure_top_direction(experiment: JacobianExperiment) -> dict:
    """|cosine| of the top direction (left and right averaged) with the stored image."""
    cosines = {
        net.name: np.mean(
            [top_direction_cosines(j, net.memorized.x) for j in net.memorized.jacobians],
            axis=(0, 1),
        )
        for net in _memorizing(experiment)
    }
    errors = {name: 1 - cosine for name, cosine in cosines.items()}
    return _of_worst(cosines, errors, 1.0, "cosine with the stored image")


def measure_stored_gain(experiment: JacobianExperiment) -> dict:
    """Gain along the stored image against (5)."""
    gains, errors, uniform = {}, {}, {}
    for net in _memorizing(experiment):
        square_N = np.sum(net.memorized.x**2, axis=1)
        predicted_SN = square_N / (square_N + np.square(experiment.sigmas)[:, None])
        gain_SN = _gains(net.memorized)
        flat = replace(net.memorized, x=np.ones_like(net.memorized.x))
        uniform[net.name] = f"{_gains(flat).mean():.3f}"
        gains[net.name] = gain_SN.mean(axis=0)
        errors[net.name] = np.mean(np.abs(gain_SN / predicted_SN - 1), axis=0)
    note = "gain along the stored image; along uniform brightness: "
    return _of_worst(gains, errors, 1.0, note + _listed(uniform))


def measure_vanished_gain(experiment: JacobianExperiment) -> dict:
    """Gain along the stored image against that of f_emp, which is 0."""
    gains = {net.name: _gains(net.memorized) for net in _memorizing(experiment)}
    errors = {name: np.abs(gain_SN).mean(axis=0) for name, gain_SN in gains.items()}
    return _of_worst(gains, errors, 0.0, "gain along the stored image, f_emp's is 0")


def measure_local_spectrum(experiment: JacobianExperiment) -> dict:
    """Relative distance of the singular values at generalized images from the predicted gains."""
    errors = {
        net.name: np.mean([a.spectrum_distance for a in _aligned(experiment, net)], axis=0)
        for net in _generalizing(experiment)
    }
    return _of_worst(errors, errors, 0.0, "relative distance of the spectra")


def measure_local_operator(experiment: JacobianExperiment) -> dict:
    """‖J − S(S + σ²)⁻¹‖/‖S(S + σ²)⁻¹‖ at generalized images."""
    errors = {
        net.name: np.mean([a.operator_distance for a in _aligned(experiment, net)], axis=0)
        for net in _generalizing(experiment)
    }
    return _of_worst(errors, errors, 0.0, "relative Frobenius distance")


def measure_own_cluster(experiment: JacobianExperiment) -> dict:
    """Excess of the cosine ⟨J, M_k⟩/‖J‖‖M_k‖ of other clusters over that of an image's own."""
    shares, cosines = {}, {}
    for net in _generalizing(experiment):
        share_SN, own_SN = [], []
        for level in range(len(experiment.sigmas)):
            j, operators = net.generalized.jacobians[level], experiment.operators[level].matrix
            cosine_NK = np.einsum("nde,kde->nk", j.matrix, operators) / (
                np.linalg.norm(j.values, axis=1)[:, None] * np.linalg.norm(operators, axis=(1, 2))
            )
            own_N = cosine_NK[np.arange(len(cosine_NK)), net.generalized.labels]
            own_SN.append(own_N)
            share_SN.append(np.sum(cosine_NK > own_N[:, None], axis=1) / (cosine_NK.shape[1] - 1))
        shares[net.name] = np.mean(share_SN, axis=0)
        cosines[net.name] = f"{np.mean(own_SN):.3f}"
    note = "share of other clusters whose operator is more like J; own cosine: "
    return _of_worst(shares, shares, 0.0, note + _listed(cosines))


def measure_symmetry(experiment: JacobianExperiment) -> dict:
    """Share of a Jacobian's energy in its antisymmetric part, at generalized images."""
    shares = {
        net.name: np.mean(
            [summarize_jacobians(j).asymmetry ** 2 for j in net.generalized.jacobians],
            axis=0,
        )
        for net in _generalizing(experiment)
    }
    return _of_worst(shares, shares, 0.0, "antisymmetric share of the energy")


def measure_detector(text: bool) -> Callable[[JacobianExperiment], dict]:
    """Share of test images that score at least as high as a memorized one, at the lowest σ; of
    nets with or without ``text``, without a caption."""

    def measure(experiment: JacobianExperiment) -> dict:
        shares, areas = {}, {}
        for net in (net for net in experiment.nets if net.mixed and net.text == text):
            score_N = net.layers.statistics.values[net.layers.detector][DETECTOR][0]
            memorized_M, other_O = score_N[net.layers.memorized], score_N[~net.layers.memorized]
            shares[net.name] = np.mean(other_O >= memorized_M[:, None], axis=1)
            name, area = best_statistic(net.layers)
            areas[net.name] = f"{net.layers.detector}, best {name} {area:.3f}"
        detected = {name: 1 - share for name, share in shares.items()}
        return _of_worst(detected, shares, 1.0, "AUROC; " + _listed(areas))

    return measure


def best_statistic(layers: LayerScores) -> tuple[str, float]:
    """'layer/pool/statistic' with the highest AUROC at the lowest σ, chosen with hindsight."""
    areas = {
        f"{layer}/{name}": by_sigma[0].value
        for layer, by_name in separate_groups(layers.statistics, layers.memorized).items()
        for name, by_sigma in by_name.items()
    }
    name = max(areas, key=areas.__getitem__)
    return name, areas[name]


def _memorizing(experiment: JacobianExperiment) -> list[NetPoints]:
    return [net for net in experiment.nets if net.memorized is not None]


def _generalizing(experiment: JacobianExperiment) -> list[NetPoints]:
    return [net for net in experiment.nets if net.mixed or net.memorized is None]


def _gains(points: Points) -> Float[np.ndarray, "S N"]:
    return np.stack([gains_along(matrix, points.x) for matrix in points.matrix])


def _aligned(experiment: JacobianExperiment, net: NetPoints) -> list:
    points = net.generalized
    return [
        align_jacobians(points.jacobians[level], experiment.predicted(level, points.labels), 1)
        for level in range(len(experiment.sigmas))
    ]


def _of_worst(values: dict, errors: dict, predicted: float, what: str) -> dict:
    """Evidence of the net with the largest mean error, one entry an image; all nets in the note."""
    worst = max(errors, key=lambda name: np.mean(errors[name]))
    means = _listed({name: f"{np.mean(value):.3f}" for name, value in values.items()})
    return {
        "measured": float(np.mean(values[worst])),
        "predicted": predicted,
        "errors": np.asarray(errors[worst]),
        "note": f"{what}; by net: {means}; interval over images of {worst}",
    }


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
