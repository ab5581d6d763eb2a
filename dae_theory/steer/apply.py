"""Sampling along a direction: f = g(h + a v) (docs/THEORY.md#steering)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError
from dae_theory.commands import option
from dae_theory.steer.directions import Direction
from dae_theory.steer.model import BRANCHES, CONDITIONAL, Change, SteerModel


@dataclass(frozen=True)
class Steering:
    """How a direction is added.

    Attributes:
      relative: a strength a is a share of the activation: ‖a v‖ = |a| ‖h‖ in each steered call and
        layer, whatever the length of v; otherwise a v is added as it is.
      first, last: noise levels of the sampler at which the network is steered, counted from 0 at
        the highest; first ≤ index < last, None is the end.
      branch: under guidance, 'conditional' or 'both' calls.
      guidance: weight of the conditional call; 1 is no guidance.
    """

    relative: bool = option(True, "Strengths are shares of the activation's norm.")
    first: int = option(0, "First noise level that is steered, from 0 at the highest.")
    last: int | None = option(None, "Noise level before which steering ends; default the end.")
    branch: str = option(CONDITIONAL, f"Steered under guidance: {' or '.join(BRANCHES)}.")
    guidance: float = option(1.0, "Weight of classifier-free guidance; 1 is none.")


def steer_samples(
    model: SteerModel,
    direction: Direction | Sequence[Direction],
    strengths: Sequence[float],
    start_ND: Float[np.ndarray, "N D"],
    captions: Sequence[str] | None = None,
    steering: Steering | None = None,
) -> Float[np.ndarray, "S N D"]:
    """Samples of each strength, all from the same starts (docs/THEORY.md#steering).

    Args:
      model: what is sampled.
      direction: of this very model; or one for each start, all of the same layers.
      strengths: signed; 0 gives what the model makes without steering, bit for bit.
      start_ND: noise to sample from, as `SteerModel.starts` draws it.
      captions: one a start; None for a model without.
      steering: where, how and when; default `Steering()`.

    Returns:
      (S, N, D), in the units of the model's rows.

    Raises:
      InputError: for a direction of another model, more or fewer directions than starts, strengths
        that are no finite numbers, or with which samples are not finite; for an unknown branch, or
        a window that is not one.
    """
    strengths = checked_strengths(strengths)
    count, moved_S = len(start_ND), strengths != 0
    each = [direction] if isinstance(direction, Direction) else list(direction)
    if len(each) not in (1, count):
        raise InputError(f"direction: {count} starts take 1 or {count}, got {len(each)}")
    for one in each:
        one.check_fits(model)
    made = np.empty((len(strengths), *np.shape(start_ND)), np.float64)
    if not moved_S.all():
        # Without a shift, not with one of zero: a program that adds nothing rounds differently.
        plain = replace(change_of(each[:1], np.zeros(count), steering), shifts={})
        made[~moved_S] = model.sample(start_ND, captions, plain)
    if moved_S.any():
        times = int(np.sum(moved_S))
        every = each if len(each) == 1 else each * times
        change = change_of(every, np.repeat(strengths[moved_S], count), steering)
        repeated = None if captions is None else list(captions) * times
        rows = model.sample(np.tile(start_ND, (times, 1)), repeated, change)
        made[moved_S] = rows.reshape(times, count, -1)
    for strength, rows in zip(strengths, made, strict=True):
        if not np.all(np.isfinite(rows)):
            raise InputError(
                f"strengths: at {strength:g} samples of {model.name} are not finite; take smaller "
                "ones"
            )
    return made


def change_of(
    directions: Sequence[Direction],
    strength_N: Float[np.ndarray, " N"],
    steering: Steering | None = None,
) -> Change:
    """What one direction, or one of each row, does to N rows, each at a strength of its own."""
    steering = Steering() if steering is None else steering
    shifts = {}
    for layer in directions[0].layers:
        vectors = np.stack([direction.arrays[layer] for direction in directions])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True) if steering.relative else 1.0
        shifts[layer] = np.asarray(strength_N)[:, None] * (vectors / lengths)
    return Change(
        shifts,
        steering.relative,
        steering.first,
        steering.last,
        steering.branch,
        steering.guidance,
    )


def checked_strengths(strengths: Sequence[float]) -> Float[np.ndarray, " S"]:
    """Raises InputError unless there is a strength, and all are finite."""
    found = np.asarray(strengths, float)
    if found.ndim != 1 or not len(found) or not np.all(np.isfinite(found)):
        raise InputError(f"strengths: expected finite numbers, got {list(strengths)}")
    return found
