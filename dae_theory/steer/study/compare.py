"""Ways of mitigation at equal fidelity: strengths chosen on some starts, judged on others."""

from collections.abc import Sequence

import numpy as np

from dae_theory.checks import InputError
from dae_theory.steer.study.mitigate import ORDINARY, UNSTEERED
from dae_theory.steer.study.store import Mitigated

LOSS = 0.05  # of fidelity, against ordinary captions, that a way may cost


def fidelity(outcome: Mitigated) -> float:
    """Share of samples in which the classifier sees the garment that the caption names."""
    return float(np.mean(outcome.faithful))


def copies(outcome: Mitigated) -> float:
    """Share of samples that are copies."""
    return float(np.mean(outcome.copy))


def of_model(outcomes: Sequence[Mitigated], model: str, *, choosing: bool) -> list[Mitigated]:
    """Those of a model, of the starts that choose or of those that judge."""
    return [o for o in outcomes if o.model == model and o.choosing == choosing]


def chosen(outcomes: Sequence[Mitigated], model: str, way: str) -> Mitigated:
    """A way at its best strength, on the starts that judge.

    On the starts that choose: the fewest copies among strengths, 0 included, whose fidelity is at
    most LOSS below that of ordinary captions; of equally few the one nearest to real images.

    Raises:
      InputError: when a model has no such outcomes.
    """
    choosing = of_model(outcomes, model, choosing=True)
    judging = of_model(outcomes, model, choosing=False)
    candidates = [o for o in choosing if o.way in (way, UNSTEERED)]
    ordinary = [o for o in choosing if o.way == ORDINARY]
    if not (candidates and ordinary and any(o.way == way for o in candidates)):
        raise InputError(f"mitigation: {model} was not asked for {way!r}")
    least = fidelity(ordinary[0]) - LOSS
    usable = [o for o in candidates if fidelity(o) >= least]
    # Where nothing is faithful enough, not even what is not mitigated, that is what is left.
    best = min(usable, key=lambda o: (copies(o), o.realism)) if usable else candidates[0]
    return next(o for o in judging if (o.way, o.strength) == (best.way, best.strength))
