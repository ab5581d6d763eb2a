"""Are nets at a stationary point of (1)? Every claim on nets requires it
(docs/THEORY.md#stationarity)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dae_theory.minima.stationarity import Remaining, remaining_decrease
from dae_theory.theory.problem import Problem
from proofs_checks.claims import Claim, Requirement
from proofs_checks.nets import Nets

MOVEMENT = 0.005  # half of the 1% that gains are held to: the other half is the theory's
TURNING = 0.1  # the sine of an angle: the cosine is off by half of the 1% that columns are held to
MOVEMENT_LEFT = "movement left"  # what a requirement on nets begins with
OF_OURS = "training was too short for these data: --trainer=exact goes to the minimum"
OF_OTHERS = (
    "train longer, or to a smaller step; of a net that had biases, or was trained with another "
    "loss than (1), the theory says nothing"
)


@dataclass(frozen=True)
class Stopped:
    """Nets where their training stopped, with the problem that they were to solve."""

    nets: Nets
    problem: Problem

    @cached_property
    def remaining(self) -> list[Remaining]:
        """What is left to a minimum for each net."""
        p = self.problem
        return [remaining_decrease(w1, w2, p.x, p.sigma, p.lam) for w1, w2 in self.nets.pairs]

    @property
    def movement(self) -> float:
        """Root-mean-square over nets of what their outputs may still move, relative."""
        return float(np.sqrt(np.mean([r.movement**2 for r in self.remaining])))

    @property
    def turning(self) -> float:
        """Largest over nets and live units of the sine that a unit has yet to turn."""
        return max(r.turning for r in self.remaining)

    @cached_property
    def advice(self) -> str:
        """What would bring the nets to a minimum, or the minimum that they are at."""
        lam = float(np.mean([r.fitting_lam for r in self.remaining]))
        at_lam = Stopped(self.nets, replace(self.problem, lam=lam)).movement
        if at_lam <= MOVEMENT:
            return f"these weights are at a minimum for lam = {lam:.4g}, at {at_lam:.2g}"
        turned = {name: Stopped(nets, self.problem).movement for name, nets in self._transposed()}
        name = min(turned, key=turned.__getitem__, default="")
        if turned and turned[name] <= MOVEMENT:
            return f"{name} transposed: the other way round it is {turned[name]:.2g}"
        return self.longer

    @property
    def longer(self) -> str:
        """What would bring nets to the minimum that they are on their way to."""
        return OF_OURS if self.nets.seeds else OF_OTHERS

    def _transposed(self) -> list[tuple[str, Nets]]:
        """The nets with square matrices transposed."""
        w1, w2 = self.nets.w1, self.nets.w2
        if w1.shape[1] != w1.shape[2]:
            return []
        w1_t, w2_t = w1.swapaxes(1, 2), w2.swapaxes(1, 2)
        return [
            ("W1 is", replace(self.nets, w1=w1_t)),
            ("W2 is", replace(self.nets, w2=w2_t)),
            ("W1 and W2 are", replace(self.nets, w1=w1_t, w2=w2_t)),
        ]


def at_minimum(which: str, stopped: Callable[[Any], Stopped]) -> Requirement:
    """The outputs of nets of an experiment move by MOVEMENT at most on the way to a minimum;
    ``which`` nets, or to which minimum."""
    return Requirement(
        f"{MOVEMENT_LEFT} {which}",
        f"<= {MOVEMENT:g}",
        lambda e: stopped(e).movement,
        lambda movement: movement <= MOVEMENT,
        needs_others=True,
        advice=lambda e: stopped(e).advice,
    )


AT_MINIMUM = at_minimum("to a minimum", lambda e: e.stopped)
UNITS_AT_REST = Requirement(
    "turn left of a unit",
    f"<= {TURNING:g}",
    lambda e: e.stopped.turning,
    lambda turning: turning <= TURNING,
    needs_others=True,
    advice=lambda e: e.stopped.longer,
)


def is_about_nets(claim: Claim) -> bool:
    """The claim requires nets at a minimum."""
    return any(requirement.name.startswith(MOVEMENT_LEFT) for requirement in claim.requires)
