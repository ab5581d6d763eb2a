"""What is swept until the closed forms break: β, α, σ, λ, p_k and label noise.

Every sweep moves one quantity and keeps the others where z is wide. At every point the minimizer
is found by descent from the closed form, in steps too short to jump over a barrier.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dae_theory.data import (
    centred,
    equiangular_directions,
    faces,
    separable_mixture,
    separable_subset,
)
from dae_theory.theory.closed_forms import Prediction
from dae_theory.theory.problem import Problem
from proofs_checks.blocks import at_margin, default_decay, predict_on
from proofs_checks.certify.descent import STEPS, Descent, descend

N, BETA, SIGMA, DECAY = 5, -0.2, 0.05, 0.1  # stored samples
DECAY_SIGMA = 0.03  # where λ is swept, to have a wide margin
CLUSTERS, MEMBERS, DIMENSION, RANK = 2, 8, 12, 2  # clustered samples, X_k of that rank
CLUSTER_BETA, CLUSTER_ALPHA, TIGHT_ALPHA = -0.3, 0.15, 0.05
SHARED_DECAY, SHARED_MARGIN = 0.3, 4.0
QUICK_SEEDS = 3


def in_span(x_ND: Float[np.ndarray, "N D"], dim: int) -> Float[np.ndarray, "N R"]:
    """Coordinates of the samples in ``dim`` directions that span them: nothing measured changes."""
    _, _, right = np.linalg.svd(x_ND, full_matrices=False)
    coordinates = x_ND @ right[:dim].T
    return np.pad(coordinates, ((0, 0), (0, dim - coordinates.shape[1])))


def stored(x_ND: Float[np.ndarray, "N D"], sigma: float, decay: float = DECAY) -> Problem:
    """Each sample a cluster of its own; nλ is ``decay`` times the smallest ‖x‖²."""
    n = len(x_ND)
    lam = decay * float(np.min(np.sum(x_ND**2, axis=1))) / n
    return Problem(x_ND, sigma, lam, np.arange(n), (1,) * n)


def equiangular_samples(cosine: float, seed: int) -> Float[np.ndarray, "N D"]:
    """N samples at one cosine, of random norms."""
    norms_N = np.random.default_rng(seed).uniform(0.8, 1.25, N)
    return equiangular_directions(N, N, cosine) * norms_N[:, None]


def at_cosine(cosine: float, seed: int) -> Problem:
    """β: stored samples at this cosine."""
    return stored(equiangular_samples(cosine, seed), SIGMA)


def at_decay(decay: float, seed: int) -> Problem:
    """λ: stored samples with nλ this share of the smallest ‖x‖²."""
    return stored(equiangular_samples(BETA, seed), DECAY_SIGMA, decay)


def face_samples(seed: int) -> Float[np.ndarray, "N D"]:
    """The most separable N of a random half of the faces."""
    images = centred(faces()).x
    half = np.random.default_rng(seed).permutation(len(images))[: len(images) // 2]
    chosen = half[separable_subset(images[half], N).indices]
    return in_span(images[chosen], N)


def at_noise(sigma: float, seed: int) -> Problem:
    """σ: stored faces."""
    return stored(face_samples(seed), sigma)


def clustered(
    x_ND: Float[np.ndarray, "N D"],
    labels_N: Int[np.ndarray, " N"],
    width: int = RANK,
    sigma: float = SIGMA,
    decay: float = DECAY,
) -> Problem:
    """Clusters with ``width`` units each; nλ is ``decay`` times their smallest eigenvalue."""
    lam = default_decay(x_ND, labels_N, (RANK,) * CLUSTERS, decay)
    return Problem(x_ND, sigma, lam, labels_N, (width,) * CLUSTERS)


def mixture_samples(
    alpha: float, seed: int
) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
    """Clusters that vary in one random direction each, by ``alpha``, and their labels."""
    mixture = separable_mixture(
        CLUSTERS, DIMENSION, rank=RANK - 1, beta=CLUSTER_BETA, alpha=alpha, seed=seed
    )
    x_ND, labels_N = mixture.sample(seed, CLUSTERS * MEMBERS)
    return in_span(x_ND, CLUSTERS * RANK), labels_N


def at_spread(alpha: float, seed: int) -> Problem:
    """α: the spread of the clusters."""
    return clustered(*mixture_samples(alpha, seed))


def at_cluster_noise(sigma: float, seed: int) -> Problem:
    """σ: tight clusters."""
    return clustered(*mixture_samples(TIGHT_ALPHA, seed), sigma=sigma)


def at_width(width: float, seed: int) -> Problem:
    """p_k: units in each block."""
    return clustered(*mixture_samples(CLUSTER_ALPHA, seed), width=int(width))


def at_label_noise(share: float, seed: int) -> Problem:
    """Labels: this share of the samples has the label of another cluster."""
    problem = clustered(*mixture_samples(CLUSTER_ALPHA, seed))
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(problem.x))[: round(share * len(problem.x))]
    labels_N = problem.labels.copy()
    labels_N[wrong] = (labels_N[wrong] + rng.integers(1, CLUSTERS, len(wrong))) % CLUSTERS
    return replace(problem, labels=labels_N)


def at_shared_variation(cosine: float, seed: int) -> Problem:
    """Clusters that vary along directions at this cosine; σ makes the margin SHARED_MARGIN."""
    means_KK = equiangular_directions(CLUSTERS, CLUSTERS, CLUSTER_BETA)
    axes_KK = equiangular_directions(CLUSTERS, CLUSTERS, cosine)
    along = np.random.default_rng(seed).standard_normal((CLUSTERS, MEMBERS))
    along *= CLUSTER_ALPHA / np.sqrt(np.mean(along**2, axis=1, keepdims=True))
    labels_N = np.repeat(np.arange(CLUSTERS), MEMBERS)
    x_ND = np.hstack([means_KK[labels_N], along.reshape(-1, 1) * axes_KK[labels_N]])
    return at_margin(clustered(x_ND, labels_N, decay=SHARED_DECAY), SHARED_MARGIN)


@dataclass(frozen=True)
class Sweep:
    """One quantity swept: ``problem(value, seed)`` at each of V values and S seeds.

    The descent starts at the closed form for λ times ``start_decay`` and takes ``steps`` at most.
    Columns are padded with zeros to the widest net, for one compilation.
    """

    values: tuple[float, ...]
    seeds: tuple[int, ...]
    problem: Callable[[float, int], Problem]
    start_decay: float = 1.0
    steps: int = STEPS

    @cached_property
    def points(self) -> list[list[Problem]]:
        """The problems, [value][seed]."""
        return [[self.problem(value, seed) for seed in self.seeds] for value in self.values]

    @cached_property
    def closed_forms(self) -> list[list[Prediction]]:
        """(2)-(4) at the points, whatever formula is under test."""
        return [[predict_on(b) for b in row] for row in self.points]

    @property
    def margins(self) -> Float[np.ndarray, "V S"]:
        """Gate margins of the closed forms."""
        return np.array([[closed_form.margin for closed_form in row] for row in self.closed_forms])

    @cached_property
    def starts(self) -> list[list[Prediction]]:
        """The closed forms that the descents start from."""
        return [
            [predict_on(replace(b, lam=b.lam * self.start_decay)) for b in row]
            for row in self.points
        ]

    @cached_property
    def minima(self) -> list[list[Descent]]:
        """Where the descents ended."""
        widest = max(start.w1.shape[1] for row in self.starts for start in row)

        def minimum(b: Problem, start: Prediction) -> Descent:
            weights = np.stack([start.w1, start.w2])
            weights = np.pad(weights, ((0, 0), (0, 0), (0, widest - weights.shape[2])))
            return descend(weights, b, self.steps)

        return [
            [minimum(*pair) for pair in zip(*rows, strict=True)]
            for rows in zip(self.points, self.starts, strict=True)
        ]


SWEEPS = {  # values, and every how many of them are enough for a quick look
    "beta": (at_cosine, (-0.25, -0.2, -0.15, -0.12, -0.1, -0.08, -0.05, 0.0, 0.1, 0.2, 0.3), 3),
    "alpha": (at_spread, (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4), 3),
    "sigma": (at_noise, (0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3), 3),
    "sigma-clusters": (at_cluster_noise, (0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12), 3),
    "lambda": (at_decay, (0.01, 0.03, 0.1, 0.3, 0.6, 0.8, 0.9, 1.0, 1.1, 1.3, 1.5), 4),
    "width": (at_width, (1, 2, 3, 4, 5), 2),
    "labels": (at_label_noise, (0.0, 1 / 16, 2 / 16, 3 / 16), 1),
    "shared": (at_shared_variation, (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8), 2),
}
OPTIONS = {
    # A column that λ makes vanish must be there at the start, and takes many short steps.
    "lambda": {"start_decay": 0.5, "steps": 500},
    # Units over the rank drift along flat splittings, which move no operator.
    "width": {"steps": 80},
}


def all_sweeps(seeds: tuple[int, ...], quick: bool) -> dict[str, Sweep]:
    """Every sweep; ``seeds`` draw the data, ``quick`` takes three of them and fewer values."""
    seeds = seeds[:QUICK_SEEDS] if quick else seeds
    return {
        name: Sweep(values[:: step if quick else 1], seeds, problem, **OPTIONS.get(name, {}))
        for name, (problem, values, step) in SWEEPS.items()
    }
