"""The memorization experiment: a few samples, formula (5) for them, and nets trained on them.

python -m proofs_checks.run --regime=memorize
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dae_theory.data import Dataset, simplex
from dae_theory.data.subsets import choose_samples
from dae_theory.relu.optimize import TrainConfig
from dae_theory.theory.closed_forms import Prediction, predict_memorization
from dae_theory.theory.problem import Problem
from dae_theory.theory.remainder import flip_weight
from dae_theory.weights.compare import Comparison, compare_weights
from dae_theory.weights.extract import Extraction, extract_samples
from dae_theory.weights.read import SavedWeights
from proofs_checks.blocks import stored_decay, tightened
from proofs_checks.claims import Requirement, above, at_least, below, given
from proofs_checks.config import DataUsed, RunConfig, data_used, load_data
from proofs_checks.draws import Draws, drawn_samples, trained_together
from proofs_checks.monte_carlo import (
    EXACT_MARGIN,
    RESIDUAL_MARGINS,
    TRAINED_MARGIN,
    relative_gradient,
)
from proofs_checks.nets import (
    Nets,
    Progress,
    Training,
    fewest_live,
    has_free_layers,
    nets_of,
)
from proofs_checks.stationarity import AT_MINIMUM, UNITS_AT_REST, Stopped

DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = 5, 40, 0.04
DECAY = 0.1  # nλ relative to the smallest ‖x‖²: gains are a tenth below 1
STEPS, LEARNING_RATE = 3000, 3e-3
DRAWS = 2  # of noise a step: with one, a third of the nets end too far from a minimum
UNSEEN = 95  # samples that no net was trained on, at most
# Noisy samples: how many, of what dimension, σ where the shortest has length 1, and the most that
# others have. No five directions are far enough apart for as much noise.
NOISY_N, NOISY_D, NOISY_SIGMA, NOISY_LONGEST = 3, 48, 0.16, 1.5
NOISY_SHARE = 0.02  # of ‖x‖²: from this σ² on, an error of σ² shows in gains


def shrinkage_and_noise(e: "Memorization") -> Float[np.ndarray, " 2"]:
    """Rms over samples, relative to theirs, of the mean distance (5) has to f_emp on a noised
    sample, and of the distance's standard deviation: shrinkage by λ, and passed noise."""
    gains, square = e.prediction.gains, np.sum(e.problem.x**2, axis=1)
    halves = np.array([(1 - gains) ** 2 * square, gains**2 * e.problem.sigma**2])
    return np.sqrt(np.mean(halves, axis=1) / np.mean(square))


@dataclass(frozen=True)
class Memorization:
    """Samples to be stored, the formula that says how, and nets.

    Attributes:
      problem: x (N, D), σ and λ.
      tight: the same for the exact statements, at a σ small enough for them; ``problem`` itself
        for data or weights of the user.
      width: units P of each net.
      unseen: (M, D) inputs that were never trained on.
      dataset: what x was chosen from; note: how, in words.
      predict: the formula under test, (5); halves: of its distance to f_emp.
      extract: the samples that a net stores, read off its weights.
      training: nets trained on x, those number ``first``, and on the x of other experiments; None
        for weights from a file.
      replaced: nets in the place of the trained ones.
    """

    problem: Problem
    tight: Problem
    width: int
    unseen: Float[np.ndarray, "M D"]
    dataset: Dataset
    note: str
    predict: Callable[..., Prediction] = predict_memorization
    halves: Callable[["Memorization"], Float[np.ndarray, " 2"]] = shrinkage_and_noise
    extract: Callable[..., Extraction] = extract_samples
    training: Training | None = None
    replaced: Nets | None = None
    first: int = 0

    @property
    def nets(self) -> Nets:
        """The nets under test, trained when first asked for."""
        return self.training.nets[self.first] if self.replaced is None else self.replaced

    @property
    def problems(self) -> tuple[Problem]:
        """What nets are trained on: x. Fewer samples than by default are repeated: the objective
        stays the same, and each step sees as many noisy inputs."""
        times = -(-DEFAULT_N // len(self.problem.x))
        return (replace(self.problem, x=np.tile(self.problem.x, (times, 1))),)

    @property
    def noisy(self) -> "Memorization":
        """The samples among which σ² is looked for in gains: the user's, if they are noisy."""
        return self

    @property
    def has_nets(self) -> bool:
        """Nets are there without further training."""
        return self.replaced is not None or self.training.done

    @cached_property
    def z(self) -> float:
        """Gate margin of (5), whatever formula is under test; −∞ for fewer units than samples."""
        return margin_of(self.problem, self.width)

    @cached_property
    def tight_z(self) -> float:
        """The same of the samples for exact statements."""
        return margin_of(self.tight, self.width)

    @cached_property
    def beta(self) -> float:
        """Largest cosine between two samples."""
        return self.problem.separability.beta

    @cached_property
    def shrinkage(self) -> float:
        """nλ relative to the smallest ‖x‖²."""
        return self._of_smallest(len(self.problem.x) * self.problem.lam)

    @property
    def noise(self) -> float:
        """σ² relative to the smallest ‖x‖²."""
        return self._of_smallest(self.problem.sigma**2)

    def _of_smallest(self, value: float) -> float:
        smallest = float(np.min(np.sum(self.problem.x**2, axis=1)))
        return value / smallest if smallest > 0 else np.inf

    @cached_property
    def prediction(self) -> Prediction:
        """The formula under test on these samples."""
        return self.predicted(self.problem)

    def predicted(self, problem: Problem) -> Prediction:
        """The formula under test on the samples of a problem."""
        return self.predict(problem.x, problem.sigma, problem.lam, self.width)

    @cached_property
    def stopped(self) -> Stopped:
        """The nets, where training left them."""
        return Stopped(self.nets, *self.problems)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Each net beside the prediction."""
        x_ND = self.problem.x
        return [compare_weights(w1, w2, self.prediction, x_ND) for w1, w2 in self.nets.pairs]

    @cached_property
    def residual(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gate margins z, flip weights F and relative gradient norms of (5) as σ varies."""
        x_ND, lam = self.problem.x, self.problem.lam
        points = []
        for z in RESIDUAL_MARGINS:
            sigma = self.problem.sigma * self.z / z
            p = self.predict(x_ND, sigma, lam, self.width)
            residual = relative_gradient(p.w1, p.w2, x_ND, sigma, lam)
            points.append((z, flip_weight(p.w1, x_ND, sigma), residual))
        return tuple(np.array(points).T)

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        n, d = self.problem.x.shape
        return {
            "n": n,
            "d": d,
            "p": self.width,
            "sigma": self.problem.sigma,
            "lam": self.problem.lam,
            "z": float(self.z),
            "seeds": len(self.nets.seeds) if self.has_nets else 0,
            "data": self.note,
        }

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples, by name and hash."""
        return (data_used(self.dataset, self.problem.x, self.note),)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw."""
        arrays = {
            "x": self.problem.x,
            "unseen": self.unseen,
            "sigma": np.array(self.problem.sigma),
            "lam": np.array(self.problem.lam),
        }
        if self.dataset.image_shape is not None:
            arrays["image_shape"] = np.array(self.dataset.image_shape)
        if self.dataset.offset is not None:
            arrays["offset"] = self.dataset.offset
        if self.z > 0:
            arrays["residual"] = np.stack(self.residual)
        if self.has_nets:
            arrays |= {"w1": self.nets.w1, "w2": self.nets.w2}
            if self.nets.live is not None:
                arrays |= {"live": self.nets.live, "steps": self.nets.steps}
        return arrays


@dataclass(frozen=True)
class MemorizedImages(Draws):
    """Images, and beside them ``noisy`` samples: σ² is less than a thousandth of an image's ‖x‖²,
    and no gain of an image shows it."""

    noisy: Draws

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples of all draws, by name and hash."""
        return (*super().data, *self.noisy.data)


def build(config: RunConfig, progress: Progress) -> Memorization | MemorizedImages:
    """The experiment a config describes: load, choose samples; nets are trained when needed.

    Raises:
      InputError: for data that cannot be used.
    """
    n = config.n or DEFAULT_N
    drawn = config.data is None
    if drawn:
        chosen = [drawn_samples(seed, n) for seed in config.data_seeds]
    else:
        dataset = load_data(config, config.data, n)
        chosen = [(dataset, np.arange(len(dataset.x)))]
    draws = [experiment_on(dataset, pool, n, config) for dataset, pool in chosen]
    first = draws[0].problem
    how = TrainConfig(
        draws[0].width,
        first.sigma,
        first.lam,
        steps=STEPS,
        learning_rate=LEARNING_RATE,
        draws=DRAWS,
    )
    what = "training memorizing nets"
    images = trained_together(draws, how, config, what, progress, drawn=drawn)
    if not drawn:
        return images
    noisy = [on_noisy_samples(seed) for seed in config.data_seeds]
    solved, what = replace(config, trainer="exact"), "solving for nets of noisy samples"
    how = TrainConfig(DEFAULT_P, NOISY_SIGMA, noisy[0].problem.lam)
    return MemorizedImages(
        images.draws, trained_together(noisy, how, solved, what, progress, drawn=True)
    )


def experiment_on(
    dataset: Dataset, pool_M: Int[np.ndarray, " M"], n: int, config: RunConfig
) -> Memorization:
    """The most separable ``n`` samples of a pool; all others are unseen."""
    if (config.p or DEFAULT_P) < n:  # one unit a sample is too much to ask: whichever they are
        chosen, note = pool_M[:n], f"the first {n} samples"
    else:
        found, note = choose_samples(dataset.x[pool_M], n)
        chosen = pool_M[found]
    x_ND = dataset.x[chosen]
    rest = np.setdiff1d(np.arange(len(dataset.x)), chosen)[:UNSEEN]
    lam = stored_decay(x_ND, DECAY) if config.lam is None else config.lam
    problem, width = Problem(x_ND, config.sigma or DEFAULT_SIGMA, lam), config.p or DEFAULT_P
    own = config.data is not None
    return Memorization(
        problem,
        problem if own else tightened(problem, margin_of(problem, width)),
        width,
        unseen=dataset.x[rest] if len(rest) else gaussian_inputs(x_ND),
        dataset=dataset,
        note=note,
    )


def on_noisy_samples(seed: int) -> Memorization:
    """Corners of a random simplex, scaled to different lengths, and as much noise as leaves them
    separable."""
    lengths_N = np.r_[1.0, np.random.default_rng(seed).uniform(1, NOISY_LONGEST, NOISY_N - 1)]
    x_ND = simplex(NOISY_N, NOISY_D, seed=seed).x * lengths_N[:, None]
    problem = Problem(x_ND, NOISY_SIGMA, stored_decay(x_ND, DECAY))
    return Memorization(
        problem,
        problem,
        DEFAULT_P,
        unseen=gaussian_inputs(x_ND),
        dataset=Dataset("simplex, scaled", x_ND),
        note="noisy samples",
    )


def from_weights(saved: SavedWeights) -> Memorization:
    """The experiment around weights that were trained elsewhere."""
    return Memorization(
        saved.problem,
        saved.problem,
        saved.w1.shape[1],
        unseen=gaussian_inputs(saved.problem.x),
        dataset=Dataset("samples of the weights file", saved.problem.x),
        note="weights from a file; unseen inputs are Gaussian",
        replaced=nets_of(saved),
    )


def margin_of(problem: Problem, width: int) -> float:
    """Gate margin z of (5); −∞ for fewer units than samples."""
    if width < len(problem.x):
        return -np.inf
    return predict_memorization(problem.x, problem.sigma, problem.lam, width).margin


def gaussian_inputs(x_ND: Float[np.ndarray, "N D"], count: int = 100) -> np.ndarray:
    """Random inputs of the samples' rms norm: nothing a net could have been trained on."""
    rng = np.random.default_rng(0)
    scale = np.sqrt(np.mean(x_ND**2))
    return scale * rng.standard_normal((count, x_ND.shape[1]))


def separable(
    margin: float, z: Callable[[Memorization], float] = lambda e: e.z
) -> tuple[Requirement, ...]:
    """The assumptions of Corollary 3.2; ``margin`` is the gate margin ``z`` that a claim needs."""
    return (
        at_least("p/n", 1, lambda e: e.width / len(e.problem.x)),
        below("n*lambda/min|x|^2", 1, lambda e: e.shrinkage),
        below("beta", 0, lambda e: e.beta, needs_others=True),
        at_least("gate margin z", margin, z, needs_others=True),
    )


TIGHT = separable(EXACT_MARGIN, lambda e: e.tight_z)
DECAYING = (  # without decay, random components of the start are never forgotten
    *separable(TRAINED_MARGIN),
    above("lambda", 0, lambda e: e.problem.lam),
)
TRAINED = (*DECAYING, AT_MINIMUM, UNITS_AT_REST)
NOISY = (
    *DECAYING,
    at_least("sigma^2/min|x|^2", NOISY_SHARE, lambda e: e.noise, needs_others=True),
    AT_MINIMUM,
)
LIVE = (*TRAINED, above("live units", 0, lambda e: fewest_live(e.nets), needs_others=True))
FREE = (
    *LIVE,
    given("W1 and W2", "two matrices", lambda e: has_free_layers(e.nets), needs_others=True),
)
