"""The generalization experiment: clusters of many samples, what (2)-(7) say of them, and nets.

python -m proofs_checks.run --regime=generalize
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError
from dae_theory.data import Dataset, Mixture, cluster_labels, first_samples, load, separable_mixture
from dae_theory.data.named import MIXTURE_DIMENSION, MIXTURE_RANK
from dae_theory.theory.closed_forms import (
    Prediction,
    limit_test_loss,
    linear_test_loss,
    predict_blocks,
    predict_generalization,
)
from dae_theory.theory.problem import Problem
from dae_theory.theory.remainder import flip_weight
from dae_theory.weights.compare import Comparison
from dae_theory.weights.read import SavedWeights
from proofs_checks.blocks import (
    N_CLUSTERS,
    SOME_FOLLOW_GATES,
    TIGHT_ALPHA,
    TIGHT_SIGMA,
    at_margin,
    block_arrays,
    block_settings,
    block_training,
    compare_at_measured_widths,
    default_decay,
    even_widths,
    predict_on,
    separable_blocks,
)
from proofs_checks.claims import given
from proofs_checks.config import DataUsed, RunConfig, data_used, load_data
from proofs_checks.monte_carlo import (
    EXACT_MARGIN,
    RESIDUAL_MARGINS,
    TRAINED_MARGIN,
    relative_gradient,
)
from proofs_checks.nets import Nets, Progress, Training, nets_of
from proofs_checks.stationarity import AT_MINIMUM, Stopped, at_minimum

DEFAULT_DATA, DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = "mixture", 300, 12, 0.05
TIGHT_N = 120
FRESH = 3000  # fresh samples for test losses


@dataclass(frozen=True)
class Generalization:
    """Clustered samples, formulas for what nets learn from them, and nets.

    Attributes:
      problem: the training data, with σ, λ, clusters and the units of each.
      tight: the same for the exact statements; ``problem`` itself where the user brought data.
      dataset: what x was chosen from; note: how, in words.
      mixture: the distribution the samples came from, None when it is unknown.
      predict: the formula under test, (2)-(4).
      predict_limit: (6); test_loss_limit: (7); linear_loss: the test loss of a linear map.
      training: nets trained on x, its two halves, and one sample of each cluster; None for
        weights from a file.
      replaced, replaced_half, replaced_memorizing: nets in the place of the trained ones, of those
        on the second half, and of those on one sample of each cluster.
    """

    problem: Problem
    tight: Problem
    dataset: Dataset
    note: str
    mixture: Mixture | None = None
    predict: Callable[..., Prediction] = predict_blocks
    predict_limit: Callable[..., Prediction] = predict_generalization
    test_loss_limit: Callable[..., float] = limit_test_loss
    linear_loss: Callable[..., float] = linear_test_loss
    training: Training | None = None
    replaced: Nets | None = None
    replaced_half: Nets | None = None
    replaced_memorizing: Nets | None = None

    @property
    def nets(self) -> Nets:
        """The nets under test, trained when first asked for."""
        return self._trained_on(0) if self.replaced is None else self.replaced

    @property
    def halves(self) -> tuple[Nets, Nets]:
        """Nets trained on disjoint halves of the samples."""
        second = self._trained_on(2) if self.replaced_half is None else self.replaced_half
        return self._trained_on(1), second

    @property
    def memorizing(self) -> Nets:
        """Nets trained on ``exemplars`` with the same optimizer, σ, λ and width."""
        replaced = self.replaced_memorizing
        return self._trained_on(3) if replaced is None else replaced

    def _trained_on(self, data_set: int) -> Nets:
        if len(self.problem.x) < 2:
            raise InputError("n: two disjoint halves need at least two samples")
        return self.training.nets[data_set]

    @property
    def has_nets(self) -> bool:
        """Nets are there without further training."""
        return self.replaced is not None or self.training.done

    @property
    def has_controls(self) -> bool:
        """Nets trained on one sample of each cluster are there without further training."""
        trained = self.training is not None and self.training.done
        return trained or self.replaced_memorizing is not None

    @cached_property
    def stopped(self) -> Stopped:
        """The nets, where training left them."""
        return Stopped(self.nets, self.problem)

    @cached_property
    def stopped_controls(self) -> Stopped:
        """The nets on one sample of each cluster, where training left them."""
        return Stopped(self.memorizing, replace(self.problem, x=self.exemplars))

    @cached_property
    def stopped_halves(self) -> tuple[Stopped, Stopped]:
        """The nets on the two halves, where training left them."""
        first, second = self.halves
        x_ND = self.problem.x
        return (
            Stopped(first, replace(self.problem, x=x_ND[::2])),
            Stopped(second, replace(self.problem, x=x_ND[1::2])),
        )

    @cached_property
    def exemplars(self) -> Float[np.ndarray, "K D"]:
        """One sample of each cluster."""
        return first_of_each(self.problem.x, self.problem.labels)

    @cached_property
    def fresh(self) -> tuple[Float[np.ndarray, "M D"], Int[np.ndarray, " M"]]:
        """Samples and labels that no net was trained on."""
        return self.mixture.sample(2000, FRESH)

    @cached_property
    def prediction(self) -> Prediction:
        """(2)-(4) on the training data, at the configured widths."""
        return predict_on(self.problem, self.predict)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Each net beside (2) at the width that its blocks turned out to have."""
        return compare_at_measured_widths(self.nets, self.problem, self.predict)

    @cached_property
    def residual(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gate margins z, flip weights F, relative gradient norms of (4), tight data, σ varied."""
        points = []
        for z in RESIDUAL_MARGINS:
            b = at_margin(self.tight, z)
            p = predict_on(b, self.predict)
            residual = relative_gradient(p.w1, p.w2, b.x, b.sigma, b.lam)
            points.append((predict_on(b).margin, flip_weight(p.w1, b.x, b.sigma), residual))
        return tuple(np.array(points).T)

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        return block_settings(self)

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples, by name and hash."""
        used = (data_used(self.dataset, self.problem.x, self.note),)
        if self.tight is self.problem:
            return used
        tight = Dataset("mixture", self.tight.x)
        return (*used, data_used(tight, tight.x, "tight clusters, for the exact statements"))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw."""
        arrays = block_arrays(self)
        if predict_on(self.tight).margin > 0:
            arrays["residual"] = np.stack(self.residual)
        if self.has_controls:
            arrays |= {
                "exemplars": self.exemplars,
                "memorizing_w1": self.memorizing.w1,
                "memorizing_w2": self.memorizing.w2,
            }
        return arrays


def build(config: RunConfig, progress: Progress) -> Generalization:
    """The experiment a config describes: a mixture, or the user's data; nets are trained when
    needed.

    Raises:
      InputError: for data that cannot be used.
    """
    n, p = config.n or DEFAULT_N, config.p or DEFAULT_P
    name = config.data or DEFAULT_DATA
    synthetic = name == DEFAULT_DATA
    if synthetic:
        if n < N_CLUSTERS:
            raise InputError(f"n: {N_CLUSTERS} clusters need at least as many samples, got {n}")
        dataset = load(name, n, clusters=N_CLUSTERS)
        x_ND, labels_N, note = dataset.x, dataset.labels, "synthetic mixture"
    else:
        dataset = load_data(config, name, n)
        used = first_samples(dataset, n)
        x_ND, (labels_N, note) = used.x, cluster_labels(used.x, used.labels)
    widths = even_widths(p, len(np.unique(labels_N)))
    lam = default_decay(x_ND, labels_N, widths) if config.lam is None else config.lam
    problem = Problem(x_ND, config.sigma or DEFAULT_SIGMA, lam, labels_N, widths)
    exemplars_KD = first_of_each(x_ND, labels_N)
    # Repeated, they make the same objective, of which each step sees as many noisy inputs.
    controls_ND = np.tile(exemplars_KD, (max(n // len(exemplars_KD), 1), 1))
    data_sets = (x_ND, x_ND[::2], x_ND[1::2], controls_ND)
    what = "training generalizing nets"
    return Generalization(
        problem,
        tight=tight_problem(widths) if synthetic else problem,
        dataset=dataset,
        note=note,
        mixture=dataset.mixture if synthetic else None,
        training=block_training(problem, data_sets, config, what, progress),
    )


def from_weights(saved: SavedWeights) -> Generalization:
    """The experiment around weights that were trained elsewhere; labels are found if not given."""
    labels_N, note = cluster_labels(saved.problem.x, saved.problem.labels)
    widths = even_widths(saved.w1.shape[1], len(np.unique(labels_N)))
    problem = replace(saved.problem, labels=labels_N, widths=widths)
    return Generalization(
        problem,
        tight=problem,
        dataset=Dataset("samples of the weights file", problem.x),
        note=f"weights from a file; {note}",
        replaced=nets_of(saved),
    )


def tight_problem(widths: tuple[int, ...]) -> Problem:
    """Tight clusters on which the gate margin makes the closed forms exact."""
    mixture = separable_mixture(
        N_CLUSTERS,
        MIXTURE_DIMENSION,
        rank=MIXTURE_RANK,
        beta=-1 / (N_CLUSTERS - 1),
        alpha=TIGHT_ALPHA,
        seed=1,
    )
    x_ND, labels_N = mixture.sample(1, TIGHT_N)
    lam = default_decay(x_ND, labels_N, widths)
    return Problem(x_ND, TIGHT_SIGMA, lam, labels_N, widths)


def first_of_each(
    x_ND: Float[np.ndarray, "N D"], labels_N: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "K D"]:
    """The first sample of each cluster."""
    return x_ND[np.unique(labels_N, return_index=True)[1]]


TIGHT = separable_blocks(EXACT_MARGIN, lambda e: e.tight)
CLUSTERED = separable_blocks(TRAINED_MARGIN)
TRAINED = (*CLUSTERED, AT_MINIMUM)
FOLLOWING = (*TRAINED, SOME_FOLLOW_GATES)
KNOWN_MIXTURE = given("distribution", "known", lambda e: e.mixture is not None)
CONTROLS = given("control nets", "trained", lambda e: e.training is not None)
CONTROLS_AT_MINIMUM = at_minimum("movement left of control nets", lambda e: e.stopped_controls)
HALVES_AT_MINIMUM = tuple(
    at_minimum(f"movement left on half {half + 1}", lambda e, half=half: e.stopped_halves[half])
    for half in range(2)
)
