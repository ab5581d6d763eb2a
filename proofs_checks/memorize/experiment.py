"""The memorization experiment: a few samples, formula (5) for them, and nets trained on them.

python -m proofs_checks.run --regime=memorize
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from dae_theory.data import Dataset
from dae_theory.data.subsets import choose_samples
from dae_theory.relu.optimize import TrainConfig
from dae_theory.theory.closed_forms import Prediction, predict_memorization
from dae_theory.theory.problem import Problem
from dae_theory.theory.remainder import flip_weight
from dae_theory.weights.compare import Comparison, compare_weights
from dae_theory.weights.read import SavedWeights
from proofs_checks.blocks import STORED_SIGMA, stored_decay
from proofs_checks.claims import Requirement, above, at_least, below, given
from proofs_checks.config import DataUsed, RunConfig, data_used, load_data
from proofs_checks.monte_carlo import RESIDUAL_MARGINS, TRAINED_MARGIN, relative_gradient
from proofs_checks.nets import (
    Nets,
    Progress,
    Training,
    fewest_live,
    has_free_layers,
    nets_of,
)
from proofs_checks.stationarity import AT_MINIMUM, Stopped

DEFAULT_DATA, DEFAULT_N, DEFAULT_P = "faces", 5, 100
STEPS, LEARNING_RATE = 4000, 3e-3


@dataclass(frozen=True)
class Memorization:
    """Samples to be stored, the formula that says how, and nets.

    Attributes:
      problem: x (N, D), σ and λ.
      width: units P of each net.
      unseen: (M, D) inputs that were never trained on.
      dataset: what x was chosen from; note: how, in words.
      predict: the formula under test, (5).
      training: nets trained on x; None for weights from a file.
      replaced: nets in the place of the trained ones.
    """

    problem: Problem
    width: int
    unseen: Float[np.ndarray, "M D"]
    dataset: Dataset
    note: str
    predict: Callable[..., Prediction] = predict_memorization
    training: Training | None = None
    replaced: Nets | None = None

    @property
    def nets(self) -> Nets:
        """The nets under test, trained when first asked for."""
        return self.training.nets[0] if self.replaced is None else self.replaced

    @property
    def has_nets(self) -> bool:
        """Nets are there without further training."""
        return self.replaced is not None or self.training.done

    @cached_property
    def z(self) -> float:
        """Gate margin of (5), whatever formula is under test; −∞ for fewer units than samples."""
        p = self.problem
        if self.width < len(p.x):
            return -np.inf
        return predict_memorization(p.x, p.sigma, p.lam, self.width).margin

    @cached_property
    def beta(self) -> float:
        """Largest cosine between two samples."""
        return self.problem.separability.beta

    @cached_property
    def shrinkage(self) -> float:
        """nλ relative to the smallest ‖x‖²."""
        smallest = float(np.min(np.sum(self.problem.x**2, axis=1)))
        return len(self.problem.x) * self.problem.lam / smallest if smallest > 0 else np.inf

    @cached_property
    def prediction(self) -> Prediction:
        """The formula under test on these samples."""
        p = self.problem
        return self.predict(p.x, p.sigma, p.lam, self.width)

    @cached_property
    def stopped(self) -> Stopped:
        """The nets, where training left them."""
        return Stopped(self.nets, self.problem)

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
            p = self.predict(x_ND, sigma, lam)
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


def build(config: RunConfig, progress: Progress) -> Memorization:
    """The experiment a config describes: load, choose samples; nets are trained when needed.

    Raises:
      InputError: for data that cannot be used.
    """
    n, width = config.n or DEFAULT_N, config.p or DEFAULT_P
    dataset = load_data(config, config.data or DEFAULT_DATA, n)
    if width < n:
        chosen, note = np.arange(min(n, len(dataset.x))), f"the first {n} samples"
    else:
        chosen, note = choose_samples(dataset.x, n)
    x_ND = dataset.x[chosen]
    rest = np.setdiff1d(np.arange(len(dataset.x)), chosen)
    lam = stored_decay(x_ND) if config.lam is None else config.lam
    problem = Problem(x_ND, config.sigma or STORED_SIGMA, lam)
    how = TrainConfig(width, problem.sigma, lam, steps=STEPS, learning_rate=LEARNING_RATE)
    # Fewer samples are repeated: the same objective, and a step sees as many noisy inputs.
    repeated_ND = np.tile(x_ND, (-(-DEFAULT_N // len(x_ND)), 1))
    what = "training memorizing nets"
    return Memorization(
        problem,
        width,
        unseen=dataset.x[rest] if len(rest) else gaussian_inputs(x_ND),
        dataset=dataset,
        note=note,
        training=Training((repeated_ND,), how, config.trainer, config.seed_list, what, progress),
    )


def from_weights(saved: SavedWeights) -> Memorization:
    """The experiment around weights that were trained elsewhere."""
    return Memorization(
        saved.problem,
        saved.w1.shape[1],
        unseen=gaussian_inputs(saved.problem.x),
        dataset=Dataset("samples of the weights file", saved.problem.x),
        note="weights from a file; unseen inputs are Gaussian",
        replaced=nets_of(saved),
    )


def gaussian_inputs(x_ND: Float[np.ndarray, "N D"], count: int = 100) -> np.ndarray:
    """Random inputs of the samples' rms norm: nothing a net could have been trained on."""
    rng = np.random.default_rng(0)
    scale = np.sqrt(np.mean(x_ND**2))
    return scale * rng.standard_normal((count, x_ND.shape[1]))


def separable(margin: float) -> tuple[Requirement, ...]:
    """The assumptions of Corollary 3.2; ``margin`` is the gate margin that a claim needs."""
    return (
        at_least("p/n", 1, lambda e: e.width / len(e.problem.x)),
        below("n*lambda/min|x|^2", 1, lambda e: e.shrinkage),
        below("beta", 0, lambda e: e.beta, needs_others=True),
        at_least("gate margin z", margin, lambda e: e.z, needs_others=True),
    )


TRAINED = (  # without decay, random components of the start are never forgotten
    *separable(TRAINED_MARGIN),
    above("lambda", 0, lambda e: e.problem.lam),
    AT_MINIMUM,
)
LIVE = (*TRAINED, above("live units", 0, lambda e: fewest_live(e.nets), needs_others=True))
FREE = (
    *LIVE,
    given("W1 and W2", "two matrices", lambda e: has_free_layers(e.nets), needs_others=True),
)
