"""The ladder from the theory to deep nets: what claims take from its measurements.

The measurements are those that come with the package, made by
``python -m dae_theory.deep.ladder --out=DIR`` (DIR/ladder.csv; see `dae_theory.deep.ladder.store`).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dae_theory.deep.ladder.nets import PLAIN
from dae_theory.deep.ladder.run import run_rung
from dae_theory.deep.ladder.rungs import (
    FEW,
    FIVE,
    HOMOGENEOUS,
    LOCAL_PCA,
    MOST,
    UNTRAINED,
    LadderConfig,
    Rung,
)
from dae_theory.deep.ladder.store import Ladder
from proofs_checks.claims import Measured, Requirement
from proofs_checks.config import DataUsed
from proofs_checks.diffusion.jacobian_study import listed

DEEP = (2, 3, 4)  # hidden layers


@dataclass(frozen=True)
class LadderStudy:
    """A ladder, and how it was made."""

    ladder: Ladder

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        card = self.ladder.card
        return {"ladder": f"{card['command']} (sha256 of its table {card['sha256'][:12]}…)"}

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The images, by name and hash."""
        return tuple(
            DataUsed(name, sha256, "14×14, drawn by seed", sha256)
            for name, sha256 in self.ladder.card["data"].items()
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing: the figure of the ladder is drawn from its own table."""
        return {}


def build() -> LadderStudy:
    """The ladder that comes with the package."""
    return LadderStudy(Ladder.load())


class Found(NamedTuple):
    """Of the nets of a rung: a quantity, what it should be, and the errors, one a seed."""

    values: Float[np.ndarray, " S"]
    predicted: float
    errors: Float[np.ndarray, " S"]


Quantity = Callable[[Ladder, str, int, str, int], Found]  # data, n, kind, depth


def top_direction(side: str) -> Quantity:
    """|cosine| of the top direction, 'left' of outputs or 'right' of inputs, with the image."""

    def measure(ladder: Ladder, *rung) -> Found:
        cosine_S = ladder.values(f"training/{side}", *rung)
        return Found(cosine_S, 1.0, 1 - cosine_S)

    return measure


def gain_of_5(ladder: Ladder, *rung) -> Found:
    """Gain along the image, and its relative distance to (5)."""
    gain_S, predicted_S = (ladder.values(f"training/{q}", *rung) for q in ("gain", "gain_of_5"))
    return Found(gain_S, float(np.mean(predicted_S)), np.abs(gain_S / predicted_S - 1))


def no_gain(ladder: Ladder, *rung) -> Found:
    """Gain along the image, against 0."""
    gain_S = ladder.values("training/gain", *rung)
    return Found(gain_S, 0.0, np.abs(gain_S))


def degree(expected: float) -> Quantity:
    """⟨Jy, D⟩/‖D‖² at training images, the degree of a homogeneous map."""

    def measure(ladder: Ladder, *rung) -> Found:
        degree_S = ladder.values("training/degree", *rung)
        return Found(degree_S, expected, np.abs(degree_S - expected))

    return measure


def gain_is_degree(ladder: Ladder, *rung) -> Found:
    """Gain along the image, against the degree of homogeneity."""
    gain_S, degree_S = (ladder.values(f"training/{name}", *rung) for name in ("gain", "degree"))
    return Found(gain_S, float(np.mean(degree_S)), np.abs(gain_S - degree_S))


def antisymmetric(ladder: Ladder, *rung) -> Found:
    """Antisymmetric share of ‖J‖² at held-out images."""
    share_S = ladder.values("held_out/antisymmetric", *rung)
    return Found(share_S, 0.0, share_S)


def gain_between(ladder: Ladder, data: str, n: int, kind: str, depth: int) -> Found:
    """Gain along the image, and how far it is outside the span from f_emp's best homogeneous
    relative to (5), on the same images; negative inside."""
    gain_S = ladder.values("training/gain", data, n, kind, depth)
    ends = [ladder.values("training/gain", data, n, exact) for exact in (HOMOGENEOUS, FIVE)]
    outside_S = np.maximum(ends[0] - gain_S, gain_S - ends[1])
    return Found(gain_S, float(np.mean(ends)), outside_S)


def trace_ratio(ladder: Ladder, data: str, n: int, kind: str, depth: int) -> Found:
    """Directions kept at training images, few to many images; the many are those of nets, or of
    local PCA where the few are those of an exact denoiser."""
    of_many = kind if kind in (PLAIN, UNTRAINED) else LOCAL_PCA
    few_S, many_S = (
        np.abs(ladder.values("training/trace", data, *rung))
        for rung in ((n, kind, depth), (MOST, of_many, depth))
    )
    return Found(few_S / many_S, 0.0, few_S / many_S)


def in_order(points: str, *pairs: tuple[str, str]) -> Quantity:
    """Cosine of the Jacobian with the operator of the last neighbourhood; the error is the least
    lead of a pair (less, more) of neighbourhoods, with the other sign: negative where the cosines
    of all pairs are in that order."""

    def measure(ladder: Ladder, *rung) -> Found:
        def cosine(name: str) -> Float[np.ndarray, " S"]:
            return ladder.values(f"{points}/second moment/{name}/cosine", *rung)

        with np.errstate(invalid="ignore"):  # a Jacobian that is nearly 0 is like nothing
            behind_PS = [cosine(less) - cosine(more) for less, more in pairs]
        return Found(cosine(pairs[-1][1]), 1.0, np.max(behind_PS, axis=0))

    return measure


AGAIN = Rung("faces", FEW, PLAIN, 2)
AGAIN_QUANTITIES = ("trace", "left", "right", "gain")


@functools.cache
def measured_again(config: LadderConfig) -> list[dict[str, float]]:
    """The rung AGAIN, trained anew."""
    return run_rung(AGAIN, config)


def rerun(e: LadderStudy) -> Measured:
    """The rung AGAIN, trained anew, beside the ladder: largest relative distance of a quantity of
    each net."""
    rung = (AGAIN.data, AGAIN.n, AGAIN.kind, AGAIN.depth)
    rows = measured_again(e.ladder.config)
    errors_QS, names = [], [f"training/{name}" for name in AGAIN_QUANTITIES]
    for name in names:
        before_S, now_S = e.ladder.values(name, *rung), np.array([row[name] for row in rows])
        errors_QS.append(np.abs(now_S / before_S - 1))
    gain, before = np.mean([row[names[-1]] for row in rows]), e.ladder.values(names[-1], *rung)
    errors_S = np.max(errors_QS, axis=0)
    return Measured(float(gain), float(np.mean(before)), errors_S, e.ladder.seeds(*rung), "gain")


def worst_of(
    quantity: Quantity,
    data: str,
    n: int,
    depths: tuple[int, ...] = DEEP,
    kinds: tuple[str, ...] = (PLAIN,),
) -> Callable[[LadderStudy], Measured]:
    """The kind of net and depth with the largest mean error decides; all are in the note."""
    rungs = [(data, n, kind, depth) for kind in kinds for depth in depths]

    def measure(e: LadderStudy) -> Measured:
        found = {rung: quantity(e.ladder, *rung) for rung in rungs}
        worst = max(found, key=lambda rung: np.mean(found[rung].errors))
        means = {
            f"{kind}, depth {depth}": f"{np.mean(found[data, n, kind, depth].values):.3f}"
            for _, _, kind, depth in rungs
        }
        return Measured(
            float(np.mean(found[worst].values)),
            found[worst].predicted,
            found[worst].errors,
            e.ladder.seeds(*worst),
            f"the worst decides: {listed(means)}",
        )

    return measure


def passed_by(exact: str, quantity: Quantity, data: str, n: int, tolerance: float) -> Requirement:
    """The claim is fair: an exact denoiser of the same images passes it."""
    return Requirement(
        f"error of {exact}",
        f"<= {tolerance:g}",
        lambda e: float(np.mean(quantity(e.ladder, data, n, exact, 3).errors)),
        lambda error: error <= tolerance,
    )
