"""Theory against deep nets: what their Jacobians keep, and which of their layers are spiky."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dae_theory.deep.checkpoints import SHIPPED, load_checkpoint
from dae_theory.diffusion.jacobian import local_operator, stored_operator
from proofs_checks.claims import Assumption, Claim, Evidence, Mutant, Verdict, measure_or_vacuous
from proofs_checks.config import RunConfig
from proofs_checks.diffusion_deep import missing_images
from proofs_checks.diffusion_jacobian_evidence import (
    POINTS,
    JacobianExperiment,
    NetPoints,
    Points,
    build_jacobian,
    measure_detector,
    measure_fewer_directions,
    measure_fewer_than_control,
    measure_local_operator,
    measure_local_spectrum,
    measure_own_cluster,
    measure_stored_gain,
    measure_symmetry,
    measure_top_direction,
    measure_vanished_gain,
    some_do_both,
    some_do_both_with,
    some_generalize,
    some_memorize,
)

QUICK_POINTS = 5
Assume = Callable[[JacobianExperiment], dict[str, Assumption]]


def _check(
    measure: Callable[[JacobianExperiment], dict], tolerance: float, *assume: Assume
) -> Callable[[JacobianExperiment], Evidence]:
    return lambda experiment: measure_or_vacuous(experiment, {}, measure, tolerance, assume)


def build(config: RunConfig) -> JacobianExperiment:
    """The shipped models, or none where the images that they were trained on cannot be had."""
    if missing_images():
        return JacobianExperiment((), ())
    points = QUICK_POINTS if config.quick else POINTS
    return build_jacobian([load_checkpoint(name) for name in SHIPPED], points)


# --- mutants -------------------------------------------------------------------------------------


def _each_memorizing(
    change: Callable[[NetPoints, JacobianExperiment], NetPoints],
) -> Callable[[JacobianExperiment], JacobianExperiment]:
    def apply(experiment: JacobianExperiment) -> JacobianExperiment:
        nets = (
            net if net.memorized is None else change(net, experiment) for net in experiment.nets
        )
        return replace(experiment, nets=tuple(nets))

    return apply


def _groups_exchanged(net: NetPoints, _) -> NetPoints:
    layers = replace(net.layers, memorized=~net.layers.memorized)
    return replace(net, memorized=net.generalized, generalized=net.memorized, layers=layers)


def _nets_exchanged(net: NetPoints, _) -> NetPoints:
    return replace(
        net,
        memorized=net.control,
        control=net.memorized,
        layers=net.control_layers,
        control_layers=net.layers,
    )


def _other_images(net: NetPoints, _) -> NetPoints:
    x_ND = np.roll(net.memorized.x, 1, axis=0)
    return replace(net, memorized=replace(net.memorized, x=x_ND))


def _nothing_kept(net: NetPoints, _) -> NetPoints:
    matrix_SNDD = np.zeros_like(net.memorized.matrix)
    return replace(net, memorized=replace(net.memorized, matrix=matrix_SNDD))


def _stored_kept(net: NetPoints, experiment: JacobianExperiment) -> NetPoints:
    x_ND = net.memorized.x
    matrix_SNDD = np.stack([stored_operator(x_ND, sigma).matrix for sigma in experiment.sigmas])
    return replace(net, memorized=replace(net.memorized, matrix=matrix_SNDD))


def _at_generalized(change: Callable[[Points], Points]) -> Callable:
    def apply(experiment: JacobianExperiment) -> JacobianExperiment:
        nets = (replace(net, generalized=change(net.generalized)) for net in experiment.nets)
        return replace(experiment, nets=tuple(nets))

    return apply


def _shifted(points: Points) -> Points:
    return replace(points, matrix=np.roll(points.matrix, 1, axis=2))


def _rotated(points: Points) -> Points:
    """Other directions with the same singular values."""
    d = points.x.shape[1]
    turn_DD, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))
    return replace(points, matrix=turn_DD @ points.matrix @ turn_DD.T)


def _other_formula(change: Callable[[float], float]) -> Callable:
    return lambda experiment: replace(
        experiment, predict=lambda x_KD, sigma: local_operator(x_KD, change(sigma))
    )


GROUPS = Mutant("memorized and generalized images exchanged", _each_memorizing(_groups_exchanged))
NETS = Mutant("the net that does not memorize", _each_memorizing(_nets_exchanged))
OTHER_IMAGES = Mutant("other stored images", _each_memorizing(_other_images))
NOTHING = Mutant("Jacobians of f_emp", _each_memorizing(_nothing_kept))
STORED = Mutant("Jacobians of (5)", _each_memorizing(_stored_kept))
SHIFTED = Mutant("rows moved by one pixel", _at_generalized(_shifted))
ROTATED = Mutant("other directions", _at_generalized(_rotated))
SIGMA = Mutant("σ for σ²", _other_formula(np.sqrt))


CLAIMS = (
    Claim(
        "diffusion/jacobian-fewer-directions",
        "A deep net's Jacobian keeps fewer directions at a memorized image than at others.",
        "Corollaries 3.2, 3.4",
        _check(measure_fewer_directions, 0.05, some_do_both),
        (GROUPS, NETS),
    ),
    Claim(
        "diffusion/jacobian-fewer-than-control",
        "It keeps at most half of what a net that has not memorized the image keeps there.",
        "Corollary 3.2",
        _check(measure_fewer_than_control, 0.5, some_memorize),
        (NETS,),
    ),
    Claim(
        "diffusion/jacobian-top-direction",
        "The direction that it keeps most at a memorized image is that image.",
        "Corollary 3.2",
        _check(measure_top_direction, 0.1, some_memorize),
        (OTHER_IMAGES, NETS),
        expected=Verdict.FAILS,
    ),
    Claim(
        "diffusion/jacobian-stored-gain",
        "It keeps a memorized image's own direction with the gain of (5).",
        "Corollary 3.2, (5)",
        _check(measure_stored_gain, 0.1, some_memorize),
        (NOTHING,),
        expected=Verdict.FAILS,
    ),
    Claim(
        "diffusion/jacobian-vanished-gain",
        "It keeps as little of that direction as f_emp does: nothing.",
        "THEORY §1",
        _check(measure_vanished_gain, 0.1, some_memorize),
        (STORED, NETS),
        expected=Verdict.FAILS,
    ),
    Claim(
        "diffusion/jacobian-local-spectrum",
        "At generalized images its singular values are the gains of S(S+σ²)⁻¹ of their label.",
        "Corollary 3.3, (6)",
        _check(measure_local_spectrum, 0.1, some_generalize),
        (SIGMA,),
        expected=Verdict.FAILS,
    ),
    Claim(
        "diffusion/jacobian-local-operator",
        "At generalized images it is S(S+σ²)⁻¹ of their label.",
        "Corollary 3.3, (6)",
        _check(measure_local_operator, 0.1, some_generalize),
        (SIGMA, ROTATED),
        expected=Verdict.FAILS,
    ),
    Claim(
        "diffusion/jacobian-own-cluster",
        "There it is more like S(S+σ²)⁻¹ of the image's own label than of others.",
        "Corollary 3.3, (6)",
        _check(measure_own_cluster, 0.2, some_generalize),
        (ROTATED,),
    ),
    Claim(
        "diffusion/jacobian-symmetric",
        "There it is symmetric, as of a posterior mean, to 5% of its energy.",
        "THEORY §1",
        _check(measure_symmetry, 0.05, some_generalize),
        (SHIFTED,),
    ),
    Claim(
        "diffusion/layers-detector",
        "In the paper's layer memorized images have the higher standard deviation over channels.",
        "THEORY §11",
        _check(measure_detector(text=False), 0.05, some_do_both_with(text=False)),
        (GROUPS, NETS),
    ),
    Claim(
        "diffusion/layers-detector-text",
        "So have, without any caption, images that are memorized under a caption.",
        "THEORY §11",
        _check(measure_detector(text=True), 0.05, some_do_both_with(text=True)),
        (GROUPS, NETS),
        expected=Verdict.FAILS,
    ),
)


def results(experiment: JacobianExperiment) -> dict[str, np.ndarray]:
    """Arrays behind the figures: spectra (S, N, D) and statistics of layers (S, N) of each net,
    and, as 'control', of the net that stores none of its images."""
    arrays = {"sigmas": np.array(experiment.sigmas)}
    for net in experiment.nets:
        for kind in ("generalized", "memorized", "control"):
            points = getattr(net, kind)
            if points is not None:
                arrays[f"{net.name}/{kind}/values"] = np.stack([j.values for j in points.jacobians])
                arrays[f"{net.name}/{kind}/traces"] = points.traces
        for kind in ("layers", "control_layers"):
            scores = getattr(net, kind)
            if scores is None:
                continue
            arrays[f"{net.name}/{kind}/memorized"] = scores.memorized
            for layer, by_name in scores.statistics.values.items():
                for name, value_SN in by_name.items():
                    arrays[f"{net.name}/{kind}/{layer}/{name}"] = value_SN
    return arrays


def settings(experiment: JacobianExperiment) -> dict:
    """What was checked, for the report."""
    points = [len(net.generalized.x) for net in experiment.nets]
    return {"jacobians": f"at {points[0]} images of a kind"} if points else {}
