"""Plausible errors in what is measured of the shipped nets' Jacobians and layers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dae_theory.diffusion.jacobian import stored_operator
from proofs_checks.claims import Mutant
from proofs_checks.diffusion.jacobian_study import JacobianExperiment, NetPoints, Points


def each_memorizing(
    name: str, change: Callable[[NetPoints, JacobianExperiment], NetPoints]
) -> Mutant:
    """Every net that memorizes is changed."""

    def apply(e: JacobianExperiment) -> JacobianExperiment:
        nets = (net if net.memorized is None else change(net, e) for net in e.nets)
        return replace(e, nets=tuple(nets))

    return Mutant(name, apply)


def at_generalized(name: str, change: Callable[[Points], Points]) -> Mutant:
    """The Jacobians of every net at generalized images are changed."""

    def apply(e: JacobianExperiment) -> JacobianExperiment:
        nets = (replace(net, generalized=change(net.generalized)) for net in e.nets)
        return replace(e, nets=tuple(nets))

    return Mutant(name, apply)


def groups_exchanged(net: NetPoints, _: JacobianExperiment) -> NetPoints:
    """Memorized images for generalized ones."""
    layers = replace(net.layers, memorized=~net.layers.memorized)
    return replace(net, memorized=net.generalized, generalized=net.memorized, layers=layers)


def nets_exchanged(net: NetPoints, _: JacobianExperiment) -> NetPoints:
    """The control for the net."""
    return replace(
        net,
        memorized=net.control,
        control=net.memorized,
        layers=net.control_layers,
        control_layers=net.layers,
    )


def other_images(net: NetPoints, _: JacobianExperiment) -> NetPoints:
    """Each stored image for the one before."""
    return replace(net, memorized=replace(net.memorized, x=np.roll(net.memorized.x, 1, axis=0)))


def nothing_kept(net: NetPoints, _: JacobianExperiment) -> NetPoints:
    """f_emp is constant near a sample."""
    matrix_SNDD = np.zeros_like(net.memorized.matrix)
    return replace(net, memorized=replace(net.memorized, matrix=matrix_SNDD))


def stored_kept(net: NetPoints, e: JacobianExperiment) -> NetPoints:
    """(5) keeps the sample's own direction."""
    x_ND = net.memorized.x
    matrix_SNDD = np.stack([stored_operator(x_ND, sigma).matrix for sigma in e.sigmas])
    return replace(net, memorized=replace(net.memorized, matrix=matrix_SNDD))


def rotated(points: Points) -> Points:
    """Other directions with the same singular values."""
    d = points.x.shape[1]
    turn_DD, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))
    return replace(points, matrix=turn_DD @ points.matrix @ turn_DD.T)


GROUPS = each_memorizing("memorized and generalized images exchanged", groups_exchanged)
NETS = each_memorizing("the net that does not memorize", nets_exchanged)
OTHER_IMAGES = each_memorizing("other stored images", other_images)
NOTHING = each_memorizing("Jacobians of f_emp", nothing_kept)
STORED = each_memorizing("Jacobians of (5)", stored_kept)
SHIFTED = at_generalized(
    "rows moved by one pixel", lambda p: replace(p, matrix=np.roll(p.matrix, 1, axis=2))
)
ROTATED = at_generalized("other directions", rotated)
