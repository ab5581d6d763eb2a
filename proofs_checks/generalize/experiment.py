"""The generalization experiment: clusters of many samples, what (2)-(7) say of them, and nets.

python -m proofs_checks.run --regime=generalize
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError
from dae_theory.data import Dataset, Mixture, cluster_labels, first_samples, separable_mixture
from dae_theory.diffusion.denoisers import Denoiser
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
    SOME_SEPARATE,
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
from proofs_checks.draws import Draws, further_seed, trained_together
from proofs_checks.monte_carlo import (
    EXACT_MARGIN,
    RESIDUAL_MARGINS,
    TRAINED_MARGIN,
    relative_gradient,
)
from proofs_checks.nets import Nets, Progress, Training, nets_of
from proofs_checks.stationarity import AT_MINIMUM, Stopped, at_minimum

DEFAULT_DATA, DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = "mixture", 160, 15, 0.03
PRIORS, ALPHA, RANK, DIMENSION = (0.5, 0.3, 0.2), 0.15, 4, 48
DECAY = 0.2  # nλ relative to the smallest eigenvalue a block keeps
TIGHT_N = 120
FRESH = 2000  # fresh samples for test losses


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
      training: nets trained on x, its two halves, and one sample of each cluster, from number
        ``first`` on, and those of other experiments; None for weights from a file.
      seed: of the mixture, the samples and the start.
      sampled: (2) on a further sample of the mixture, by its number and size, predicted once.
      rival: a denoiser made of the samples, in the place of the nets.
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
    sampled: Callable[[int, int], Prediction] | None = None
    replaced: Nets | None = None
    replaced_half: Nets | None = None
    replaced_memorizing: Nets | None = None
    rival: Callable[[Float[np.ndarray, "N D"]], Denoiser] | None = None
    first: int = 0
    seed: int = 0

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
        return self.training.nets[self.first + data_set]

    @property
    def has_nets(self) -> bool:
        """Nets are there without further training."""
        return self.replaced is not None or self.training.done

    @property
    def has_controls(self) -> bool:
        """Nets trained on one sample of each cluster are there without further training."""
        trained = self.training is not None and self.training.done
        return trained or self.replaced_memorizing is not None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What nets are trained on: all samples, two halves of them, one of each cluster.

        Few are repeated: the objective stays the same, and each step sees as many noisy inputs.
        """
        x_ND, p = self.problem.x, self.problem
        parts = x_ND, x_ND[::2], x_ND[1::2], self.exemplars
        repeated = (np.tile(part, (len(x_ND) // max(len(part), 1), 1)) for part in parts)
        return tuple(Problem(part, p.sigma, p.lam) for part in repeated)

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
        return self.mixture.sample(self.sample_seed(0), FRESH)

    def sample_seed(self, number: int) -> int:
        """A seed for further samples of this draw's mixture, used by no other draw."""
        return further_seed(self.seed, number)

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


def build(config: RunConfig, progress: Progress) -> Generalization | Draws:
    """The experiment a config describes: mixtures, or the user's data; nets are trained when
    needed.

    Raises:
      InputError: for data that cannot be used.
    """
    synthetic = config.data in (None, DEFAULT_DATA)
    draws = (
        [on_mixture(seed, config) for seed in config.data_seeds]
        if synthetic
        else [on_users_data(config)]
    )
    how, what = block_training(draws[0].problem), "training generalizing nets"
    return trained_together(draws, how, config, what, progress, drawn=synthetic)


def on_mixture(seed: int, config: RunConfig) -> Generalization:
    """A random mixture of unequal clusters, and samples of it."""
    n, widths = config.n or DEFAULT_N, even_widths(config.p or DEFAULT_P, N_CLUSTERS)
    if n < N_CLUSTERS:
        raise InputError(f"n: {N_CLUSTERS} clusters need at least as many samples, got {n}")
    mixture = mixture_of(ALPHA, seed)
    x_ND, labels_N = mixture.sample(seed, n)
    lam = default_decay(x_ND, labels_N, widths, DECAY) if config.lam is None else config.lam
    sigma = config.sigma or DEFAULT_SIGMA

    @functools.cache
    def sampled(number: int, size: int) -> Prediction:
        further = mixture.sample(further_seed(seed, number), size)
        return predict_blocks(*further, widths, sigma, lam)

    return Generalization(
        Problem(x_ND, sigma, lam, labels_N, widths),
        tight=tight_problem(widths, seed),
        dataset=Dataset(DEFAULT_DATA, x_ND, labels=labels_N, mixture=mixture),
        note=f"synthetic mixture, priors {', '.join(f'{prior:g}' for prior in PRIORS)}",
        mixture=mixture,
        sampled=sampled,
        seed=seed,
    )


def on_users_data(config: RunConfig) -> Generalization:
    """The user's samples, in clusters that are given or found."""
    n = config.n or DEFAULT_N
    dataset = load_data(config, config.data, n)
    used = first_samples(dataset, n)
    labels_N, note = cluster_labels(used.x, used.labels)
    widths = even_widths(config.p or DEFAULT_P, len(np.unique(labels_N)))
    lam = default_decay(used.x, labels_N, widths) if config.lam is None else config.lam
    problem = Problem(used.x, config.sigma or DEFAULT_SIGMA, lam, labels_N, widths)
    return Generalization(problem, tight=problem, dataset=dataset, note=note)


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


def mixture_of(alpha: float, seed: int) -> Mixture:
    """Clusters of unequal priors whose means form a simplex."""
    return separable_mixture(
        N_CLUSTERS,
        DIMENSION,
        rank=RANK,
        beta=-1 / (N_CLUSTERS - 1),
        alpha=alpha,
        priors=PRIORS,
        seed=seed,
    )


def tight_problem(widths: tuple[int, ...], seed: int) -> Problem:
    """Tight clusters on which the gate margin makes the closed forms exact."""
    x_ND, labels_N = mixture_of(TIGHT_ALPHA, seed).sample(seed, TIGHT_N)
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
SEPARATE = (*TRAINED, SOME_SEPARATE)
KNOWN_MIXTURE = given("distribution", "known", lambda e: e.mixture is not None)
CONTROLS = given("control nets", "trained", lambda e: e.training is not None)
CONTROLS_AT_MINIMUM = at_minimum("of control nets", lambda e: e.stopped_controls)
HALVES_AT_MINIMUM = tuple(
    at_minimum(f"on half {half + 1}", lambda e, half=half: e.stopped_halves[half])
    for half in range(2)
)
