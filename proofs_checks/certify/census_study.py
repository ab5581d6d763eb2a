"""The census experiment: where random starts end, and which of them claims are about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from dae_theory.minima.census import KINDS, Census, Minimum, count_minima
from dae_theory.statistics import share_interval
from dae_theory.theory.closed_forms import Prediction, predict_memorization
from proofs_checks.certify.census_starts import (
    COSINES,
    LAM,
    OPTIMIZERS,
    QUICK_COSINES,
    SIGMA,
    Ending,
    Runs,
    Start,
    all_starts,
    equiangular,
)
from proofs_checks.claims import Mutant, Requirement, at_least
from proofs_checks.monte_carlo import EXACT_MARGIN, exact_loss_value

SETTLED_SHARE = 0.99  # of the starts, that must end in a local minimum
Which = Callable[[Start], bool]
Has = Callable[[Minimum], bool]


def net_loss(prediction: Prediction, x_ND: Float[np.ndarray, "N D"]) -> float:
    """Exact loss of the predicted net, whether or not its gates are as the theory has it."""
    p = prediction
    return exact_loss_value(p.w1, p.w2, x_ND, p.sigma, p.lam)


@dataclass(frozen=True)
class CensusStudy:
    """Where random starts end. Under test: the formula (5) in ``predict``, what counts as the
    loss of the net (5), and ``relabel``, what is taken for the endings of which starts."""

    runs: Runs
    predict: Callable[..., Prediction] = predict_memorization
    net_loss: Callable[..., float] = net_loss
    relabel: Callable[[Sequence[Ending]], Sequence[Ending]] = tuple

    @cached_property
    def endings(self) -> tuple[Ending, ...]:
        """Where the starts end."""
        return tuple(self.relabel(self.runs.endings))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the starts."""
        return tuple(sorted({start.seed for start in self.runs.starts}))

    def chosen(self, which: Which) -> list[Ending]:
        """The endings of some of the starts."""
        return [end for end in self.endings if which(end.start)]

    def flags(self, which: Which, has: Has) -> list[bool]:
        """Of each chosen start, whether it ends in a minimum of some kind."""
        return [has(end.minimum) for end in self.chosen(which)]

    def by_seed(
        self,
        which: Which,
        value: Callable[[Ending], float],
        reduce: Callable[[list], float] = np.mean,
    ) -> Float[np.ndarray, " S"]:
        """Mean, or another reduction, of a value over the chosen endings of each seed."""
        values: dict[int, list[float]] = {seed: [] for seed in self.seeds}
        for end in self.chosen(which):
            values[end.start.seed].append(value(end))
        return np.array([reduce(those) for those in values.values()])

    def distinct(self, which: Which) -> Census:
        """Minima modulo symmetry, where the chosen starts share a cosine."""
        return count_minima([end.minimum for end in self.chosen(which)], interchangeable=True)

    def prediction(self, cosine: float) -> Prediction:
        """(5) on the samples at one cosine."""
        return self.predict(equiangular(cosine), SIGMA, LAM)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figure draws, one entry for each start: optimizers and kinds are indices."""
        columns = {
            "cosine": lambda end: end.start.cosine,
            "ratio": lambda end: end.start.ratio,
            "scale": lambda end: end.start.scale,
            "optimizer": lambda end: OPTIMIZERS.index(end.start.optimizer),
            "seed": lambda end: end.start.seed,
            "kind": lambda end: KINDS.index(end.minimum.kind),
            "excess": lambda end: end.minimum.excess,
            "memorizes_weights": lambda end: end.minimum.memorizes_weights,
            "memorizes_output": lambda end: end.minimum.memorizes_output,
            "settled": lambda end: end.settled,
        }
        return {name: np.array([of(end) for end in self.endings]) for name, of in columns.items()}


def build(seeds: tuple[int, ...], quick: bool) -> CensusStudy:
    """Starts at every cosine, p/n, scale, optimizer and seed; ``quick`` takes fewer cosines."""
    return CensusStudy(Runs(all_starts(QUICK_COSINES if quick else COSINES, seeds)))


# --- which starts, and which minima ----------------------------------------------------------


def margin(cosine: float) -> float:
    """Gate margin of (5) on unit samples at one cosine (docs/THEORY.md#gate-margin)."""
    return min(1.0, -cosine) / SIGMA


def is_exact(start: Start) -> bool:
    """A cosine at which no noise crosses a gate of (5)."""
    return margin(start.cosine) >= EXACT_MARGIN


def is_negative(start: Start) -> bool:
    """A cosine for which the theory holds."""
    return start.cosine < 0


def is_boundary(start: Start) -> bool:
    """Orthogonal samples."""
    return start.cosine == 0


def is_positive(start: Start) -> bool:
    """A cosine for which the theory does not hold."""
    return start.cosine > 0


def is_separable_or_boundary(start: Start) -> bool:
    """A cosine up to 0."""
    return start.cosine <= 0


def of_ratio(ratio: int, cosines: Which) -> Which:
    """Starts of one p/n among these."""
    return lambda start: start.ratio == ratio and cosines(start)


def in_weights(minimum: Minimum) -> bool:
    """Up to splitting, the columns store all samples."""
    return minimum.memorizes_weights


def in_output(minimum: Minimum) -> bool:
    """The net returns all samples, and little else."""
    return minimum.memorizes_output


def in_one_only(minimum: Minimum) -> bool:
    """Weights and output disagree."""
    return minimum.memorizes_weights != minimum.memorizes_output


def is_unshared(minimum: Minimum) -> bool:
    """No unit serves several samples."""
    return minimum.kind != "entangled"


def is_forgetful(minimum: Minimum) -> bool:
    """Some sample activates no unit."""
    return minimum.kind == "forgetful"


def settled(which: Which) -> tuple[Requirement, ...]:
    """Every seed has such starts, and they end in local minima."""

    def seeds(study: CensusStudy) -> float:
        return len({end.start.seed for end in study.chosen(which)}) / len(study.seeds)

    def share(study: CensusStudy) -> float:
        chosen = study.chosen(which)
        return float(np.mean([end.settled for end in chosen])) if chosen else 0.0

    return (
        at_least("share of seeds with such starts", 1, seeds),
        at_least("starts that end in a minimum", SETTLED_SHARE, share),
    )


def words(flags: Sequence[bool]) -> str:
    """A share and its interval, in words."""
    share = share_interval(sum(flags), len(flags))
    return f"{sum(flags)}/{len(flags)} [{share.low:.2f}, {share.high:.2f}]"


def exchanged(name: str, where: Which = lambda start: True, **fields: float) -> Mutant:
    """Starts ``where`` are said to end where those with other ``fields`` do."""

    def relabel(endings: Sequence[Ending]) -> list[Ending]:
        by_start = {end.start: end for end in endings}

        def source(start: Start) -> Start:
            return start._replace(**fields) if where(start) else start

        return [by_start[source(end.start)]._replace(start=end.start) for end in endings]

    return Mutant(name, lambda study: replace(study, relabel=relabel))


ENTANGLED = exchanged("minima of β = 0.3", cosine=0.3)
