"""Do certificates and census recognize what is planted? Nets of which kind, rotations, lower
minimum and margins are known (docs/THEORY.md#census, #symmetry, #newton-kantorovich)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError
from dae_theory.data import equiangular_directions, random_rotation
from dae_theory.minima.census import Minimum, Settled, classify_minimum, find_minima
from dae_theory.minima.existence import hessian_lipschitz
from dae_theory.solve.local import solve_local_minima
from dae_theory.theory.closed_forms import predict_memorization
from dae_theory.theory.symmetry import flat_directions, rotation_directions
from proofs_checks.claims import ACCURACY, Claim, Kind, Measured
from proofs_checks.monte_carlo import exact_loss_value
from proofs_checks.mutants import instead

DIMENSION, SIGMA, LAM = 5, 0.03, 0.005  # of unit samples
COSINE = -0.3  # separable
TURN = 0.5  # tangent of the angle by which columns are turned off their samples
UNITS = (1.0, 1e-4)  # of measurement
LENGTHS = (1.0, 1e-3, 1e-3, 0.0, 0.0)  # of a block's directions: two are small, two are none
HALVINGS = 50  # of the interval in which the largest ball is searched

Weights = tuple[Float[np.ndarray, "D P"], Float[np.ndarray, "D P"]]


class Net(NamedTuple):
    """A net whose kind and number of stored samples are known."""

    weights: Weights
    x: Float[np.ndarray, "N D"]
    kind: str
    stored: int


@dataclass(frozen=True)
class Planted:
    """What is under test: the census's names and its way down from saddles, the directions of
    rotations, and the bound inside a ball."""

    classify: Callable[..., Minimum] = classify_minimum
    settle: Callable[..., list[Settled]] = find_minima
    rotations: Callable[..., np.ndarray] = rotation_directions
    lipschitz: Callable[..., float] = hessian_lipschitz


def stored_net(x_ND: Float[np.ndarray, "N D"]) -> Weights:
    """(5): one unit for each sample."""
    prediction = predict_memorization(x_ND, SIGMA, LAM)
    return prediction.w1, prediction.w2


def nets() -> tuple[Net, ...]:
    """Every kind of the census, and columns of one matrix turned off the samples."""
    x_ND = equiangular_directions(3, DIMENSION, COSINE)
    w1, w2 = stored_net(x_ND)
    beside_D = np.linalg.svd(x_ND)[2][-1]  # no sample has a part along it
    turned = w1 + TURN * np.linalg.norm(w1, axis=0) * beside_D[:, None]
    parts = np.array([0.6, 1.0, 1.0, 0.8])  # 0.6² + 0.8² = 1
    split = w1[:, [0, 1, 2, 0]] * parts
    orthogonal_ND = equiangular_directions(3, DIMENSION, 0.0)
    bisector_D = orthogonal_ND[:2].mean(axis=0)
    shared = stored_net(np.stack([bisector_D, orthogonal_ND[2]]))
    return (
        Net((w1, w2), x_ND, "sparse", 3),
        Net((split, split), x_ND, "split", 3),
        Net((w1[:, 1:], w2[:, 1:]), x_ND, "forgetful", 2),
        Net(shared, orthogonal_ND, "entangled", 1),
        Net((turned, w2), x_ND, "sparse", 0),
        Net((w1, turned), x_ND, "sparse", 0),
    )


def kinds(p: Planted) -> Measured:
    """Nets whose kind and number of stored samples the census names as planted."""
    planted = nets()
    found = [p.classify(*net.weights, net.x, SIGMA, LAM, 1.0) for net in planted]
    right = [
        (minimum.kind, minimum.stored.sum()) == (net.kind, net.stored)
        for minimum, net in zip(found, planted, strict=True)
    ]
    names = ", ".join(f"{minimum.kind} {minimum.stored.sum()}" for minimum in found)
    return Measured(
        float(sum(right)),
        float(len(right)),
        np.array([float(len(right) - sum(right))]),
        note=f"found, with samples stored: {names}",
    )


def saddle(p: Planted) -> Measured:
    """Fall of the loss from two equal units between two samples, in each unit of measurement,
    beside that to the minimum next to the net that stores both."""
    x_ND = equiangular_directions(2, DIMENSION, 0.0)
    between = 0.6 * x_ND.sum(axis=0)[:, None] * np.ones(2)
    minimum = solve_local_minima(*([w] for w in stored_net(x_ND)), [x_ND], SIGMA, LAM)[0]
    start = exact_loss_value(between, between, x_ND, SIGMA, LAM)
    predicted, falls = start - minimum.loss, []
    for unit in UNITS:
        problem = [unit * x_ND], unit * SIGMA, unit**2 * LAM, unit**2 * 1e-9
        end = p.settle([between], [between], *problem)[0]
        falls.append(start - end.loss / unit**2)
    return Measured(
        min(falls),
        predicted,
        np.array([max(abs(fall / predicted - 1) for fall in falls)]),
        note=f"the smaller fall of the loss, in units of {UNITS[0]:g} and {UNITS[1]:g}",
    )


def rotations(p: Planted) -> Measured:
    """Directions of rotations of a block some of whose directions are small and some not kept."""
    width = len(LENGTHS)
    frame_DQ = random_rotation(0, DIMENSION)[:, :width]
    w = (frame_DQ * np.array(LENGTHS)) @ random_rotation(1, width)
    found = len(p.rotations(w, w, np.zeros(width, int)))
    predicted = flat_directions((width,), (np.count_nonzero(LENGTHS),))
    return Measured(
        float(found),
        float(predicted),
        np.array([float(abs(found - predicted))]),
        note=f"of {width} units, directions of lengths {LENGTHS}",
    )


def ball(p: Planted) -> Measured:
    """Smallest margin inside the largest ball in which a Lipschitz constant is given.

    A column w that moves by r turns by asin(r/‖w‖) at most.
    """
    x_ND = equiangular_directions(3, DIMENSION, COSINE)
    w1, w2 = stored_net(x_ND)
    norm_P, length_N1 = np.linalg.norm(w1, axis=0), np.linalg.norm(x_ND, axis=1)[:, None]

    def is_bounded(radius: float) -> bool:
        try:
            return np.isfinite(p.lipschitz(w1, w2, x_ND, SIGMA, radius=radius))
        except InputError:
            return False

    radius, beyond = 0.0, float(norm_P.min())
    for _ in range(HALVINGS):
        middle = (radius + beyond) / 2
        radius, beyond = (middle, beyond) if is_bounded(middle) else (radius, middle)
    angle_NP = np.arccos(np.abs(x_ND @ w1) / (length_N1 * norm_P)) + np.arcsin(radius / norm_P)
    margin = float(np.min(length_N1 * np.cos(np.minimum(angle_NP, np.pi / 2)))) / SIGMA
    return Measured(
        margin,
        1.0,
        np.array([max(1 - margin, 0.0)]),
        note=f"radius {radius:.3f}; error: what is missing to one standard deviation",
    )


CLAIMS = (
    Claim(
        id="certify/planted-kinds",
        statement="The census names planted nets of every kind, and what they store.",
        source="docs/THEORY.md#census",
        measure=kinds,
        tolerance=0.0,
        mutants=(
            instead(
                "encoder in the place of the decoder",
                "classify",
                lambda w1, w2, *problem: classify_minimum(w1, w1, *problem),
            ),
            instead(
                "samples of the opposite sign",
                "classify",
                lambda w1, w2, x_ND, *problem: classify_minimum(w1, w2, -x_ND, *problem),
            ),
        ),
        kind=Kind.EXACT,
        part="planted",
    ),
    Claim(
        id="certify/planted-saddle",
        statement="A saddle is left for the minimum below it, in any unit of measurement.",
        source="docs/THEORY.md#census",
        measure=saddle,
        tolerance=1e-6,
        origin=ACCURACY,
        mutants=(instead("stationary points taken for minima", "settle", solve_local_minima),),
        kind=Kind.EXACT,
        part="planted",
    ),
    Claim(
        id="certify/planted-rotations",
        statement="Rotations of directions that a block hardly keeps are symmetries, too.",
        source="docs/THEORY.md#symmetry",
        measure=rotations,
        tolerance=0.0,
        mutants=(
            instead(
                "every pair of units",
                "rotations",
                lambda w1, w2, groups_P: np.zeros(len(groups_P) * (len(groups_P) - 1) // 2),
            ),
        ),
        kind=Kind.EXACT,
        part="planted",
    ),
    Claim(
        id="certify/planted-ball",
        statement="In a ball that the Lipschitz constant is given for, gates keep a standard "
        "deviation of noise.",
        source="docs/THEORY.md#newton-kantorovich",
        measure=ball,
        tolerance=1e-9,
        mutants=(
            instead(
                "bounded at its centre alone",
                "lipschitz",
                lambda *net, radius: hessian_lipschitz(*net, 0.0),
            ),
        ),
        kind=Kind.EXACT,
        part="planted",
    ),
)
