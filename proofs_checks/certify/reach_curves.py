"""What the sweeps show: a formula under test beside the minimizer at every point."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dae_theory.theory.closed_forms import Prediction, predict_blocks
from dae_theory.theory.problem import Problem
from dae_theory.theory.remainder import leak_loss
from dae_theory.theory.separability import gate_margin
from proofs_checks.blocks import predict_on
from proofs_checks.certify.descent import Descent
from proofs_checks.certify.reach_sweeps import Sweep, all_sweeps


class Curve(NamedTuple):
    """What a sweep shows, with a formula under test.

    Attributes:
      values: (V,) of the swept quantity.
      z: gate margin of the closed form.
      reached: gate margin of the minimizer, for the same units and clusters.
      error: largest ‖M_k − predicted‖_F over the clusters, relative to the largest predicted.
      loss_error: relative difference of the minimal loss from the predicted one.
      gradient: ‖∇L‖ at the closed form, relative to the mean of ‖x‖².
      excess: exact loss at the start of the descent over the predicted minimum, minus 1.
      leak: what `leak_loss` says about that.
      gains, predicted_gains: (V, S, K) along the leading direction of each cluster.
    """

    values: Float[np.ndarray, " V"]
    z: Float[np.ndarray, "V S"]
    reached: Float[np.ndarray, "V S"]
    error: Float[np.ndarray, "V S"]
    loss_error: Float[np.ndarray, "V S"]
    gradient: Float[np.ndarray, "V S"]
    excess: Float[np.ndarray, "V S"]
    leak: Float[np.ndarray, "V S"]
    gains: Float[np.ndarray, "V S K"]
    predicted_gains: Float[np.ndarray, "V S K"]


@dataclass(frozen=True)
class SweepUnderTest:
    """A sweep with the formulas under test: ``predict`` (2)-(4), and ``leak``, by how much flipped
    gates change the loss. The minimizers do not depend on the formulas."""

    sweep: Sweep
    predict: Callable[..., Prediction]
    leak: Callable[[Prediction, Float[np.ndarray, "N D"]], float]

    @cached_property
    def curve(self) -> Curve:
        """What the sweep shows."""
        sweep = self.sweep
        shape = len(sweep.values), len(sweep.seeds)
        rows = zip(sweep.points, sweep.closed_forms, sweep.starts, sweep.minima, strict=True)
        points = [self._measured(*point) for row in rows for point in zip(*row, strict=True)]
        columns = [np.array(column) for column in zip(*points, strict=True)]
        return Curve(np.array(sweep.values), *(c.reshape(shape + c.shape[1:]) for c in columns))

    def _measured(
        self, b: Problem, closed_form: Prediction, start: Prediction, minimum: Descent
    ) -> tuple:
        """One point of a Curve, all but its value."""
        prediction = predict_on(b, self.predict)
        w1_DP, w2_DP = minimum.weights[:, :, : start.w1.shape[1]]
        clusters = range(len(b.widths))
        measured = [w2_DP[:, start.blocks == k] @ w1_DP[:, start.blocks == k].T for k in clusters]
        predicted = [prediction.operator(k) for k in clusters]
        scale = max(np.linalg.norm(m_DD) for m_DD in predicted)
        away = max(np.linalg.norm(m - p) for m, p in zip(measured, predicted, strict=True))
        leading = [start.directions[k][:, 0] for k in clusters]
        return (
            closed_form.margin,
            gate_margin(w1_DP, b.x, b.labels, start.blocks, b.sigma),
            away / scale if scale > 0 else np.inf,  # so much decay that nothing is to be stored
            abs(minimum.losses[1] / prediction.loss - 1),
            minimum.gradients[0] / np.mean(np.sum(b.x**2, axis=1)),
            minimum.losses[0] / prediction.loss - 1,
            self.leak(closed_form, b.x) / closed_form.loss,
            [u @ m @ u for u, m in zip(leading, measured, strict=True)],
            [u @ m @ u for u, m in zip(leading, predicted, strict=True)],
        )


@dataclass(frozen=True)
class Reach:
    """Sweeps by name, and the formulas under test on all of them, as in `SweepUnderTest`."""

    sweeps: dict[str, Sweep]
    predict: Callable[..., Prediction] = predict_blocks
    leak: Callable[[Prediction, Float[np.ndarray, "N D"]], float] = leak_loss

    @cached_property
    def _tested(self) -> dict[str, SweepUnderTest]:
        return {
            name: SweepUnderTest(sweep, self.predict, self.leak)
            for name, sweep in self.sweeps.items()
        }

    def curve(self, name: str) -> Curve:
        """The curve of one sweep."""
        return self._tested[name].curve

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the data."""
        return self.sweeps["beta"].seeds

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figure draws, by sweep: values (V,), the rest (V, S), gains (V, S, K)."""
        return {
            f"{name}/{field}": array
            for name in self.sweeps
            for field, array in self.curve(name)._asdict().items()
        }


def build(seeds: tuple[int, ...], quick: bool) -> Reach:
    """All sweeps; ``seeds`` draw the data, ``quick`` takes three of them and fewer values."""
    return Reach(all_sweeps(seeds, quick))


def crossings(
    quantity_VS: Float[np.ndarray, "V S"], error_VS: Float[np.ndarray, "V S"], level: float
) -> Float[np.ndarray, " S"]:
    """Value of the quantity where the error first rises to ``level``, for each seed: between two
    points, linearly in the logarithm of the error. NaN where it does not."""
    found = []
    for quantity_V, error_V in zip(quantity_VS.T, error_VS.T, strict=True):
        rises = np.flatnonzero((error_V[1:] > level) & (error_V[:-1] <= level))
        if len(rises) == 0:
            found.append(np.nan)
            continue
        pair = slice(rises[0], rises[0] + 2)
        found.append(np.interp(np.log(level), np.log(error_V[pair]), quantity_V[pair]))
    return np.array(found)


def worst(
    curve: Curve, margin: float, error_VS: Float[np.ndarray, "V S"] | None = None
) -> Float[np.ndarray, " S"]:
    """(S,) largest error over the points with z at least ``margin``; NaN where there is none."""
    error_VS = curve.error if error_VS is None else error_VS
    inside_VS = curve.z >= margin
    largest_S = np.max(error_VS, axis=0, where=inside_VS, initial=-1.0)
    return np.where(np.any(inside_VS, axis=0), largest_S, np.nan)
