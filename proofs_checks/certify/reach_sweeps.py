"""Sweeps that move one quantity until the closed forms break, and what is measured along them.

At every point the minimizer is found by descent from the closed form, in steps too short to jump
over a barrier, and compared with the formula under test.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr

from dae_theory.data.dataset import centred
from dae_theory.data.images import faces
from dae_theory.data.mixtures import equiangular_directions, separable_mixture
from dae_theory.data.subsets import separable_subset
from dae_theory.solve.derivatives import expansion
from dae_theory.theory.closed_forms import Prediction
from dae_theory.theory.separability import gate_margin
from proofs_checks.blocks import Blocks, at_margin, default_decay, predict_on

N, BETA, SIGMA, DECAY = 5, -0.2, 0.05, 0.1  # stored samples
DECAY_SIGMA = 0.03  # where λ is swept, to have a wide margin
CLUSTERS, MEMBERS, DIMENSION, RANK = 2, 8, 12, 2  # clustered samples, X_k of that rank
CLUSTER_BETA, CLUSTER_ALPHA, TIGHT_ALPHA = -0.3, 0.15, 0.05
SHARED_DECAY, SHARED_MARGIN = 0.3, 4.0

STEPS = 150  # of the descent
LONGEST = 0.5  # change of a gate margin in one step, in noise standard deviations
ARRIVED = 1e-9  # gradient, relative to the mean of ‖x‖²
SHRINK, GROW = 0.25, 2.0  # of the trust radius
POOR, GOOD = 0.25, 0.75  # share of the predicted decrease below, above which it changes
BISECTIONS = 50
ROUNDING = 100 * np.finfo(float).eps


# --- descent ---------------------------------------------------------------------------------


class Descent(NamedTuple):
    """Where a descent ended: at a minimizer, or far from the start, still on its way. Weights
    (2, D, P); loss and ‖∇L‖ at the start and at the end."""

    weights: Float[np.ndarray, "2 D P"]
    losses: tuple[float, float]
    gradients: tuple[float, float]


def _trust_step(
    values_M: Float[np.ndarray, " M"], slope_M: Float[np.ndarray, " M"], radius: float
) -> Float[np.ndarray, " M"]:
    """Minimizer of the quadratic model within the radius, in the eigenbasis of the Hessian."""
    if values_M[0] > 0 and np.linalg.norm(slope_M / values_M) <= radius:
        return -slope_M / values_M
    above_M = values_M - min(values_M[0], 0.0)
    low, high = 0.0, np.linalg.norm(slope_M) / radius
    for _ in range(BISECTIONS):
        shift = (low + high) / 2
        if np.linalg.norm(slope_M / (above_M + shift)) > radius:
            low = shift
        else:
            high = shift
    return -slope_M / (above_M + high)


def descend(
    start_2DP: Float[np.ndarray, "2 D P"],
    x_ND: Float[np.ndarray, "N D"],
    sigma: float,
    lam: float,
    steps: int = STEPS,
) -> Descent:
    """Trust-region Newton descent of the exact loss. Zero columns stay zero.

    No step moves a gate margin by more than about LONGEST, so that a minimizer behind a barrier is
    not reached. A general solver may jump there, and Newton steps on the gradient, orthogonal to
    rotations, may end where a rotation still lowers the loss.
    """
    weights = start_2DP.astype(float)
    norms_P = np.linalg.norm(weights[0], axis=0)
    free = np.broadcast_to(norms_P > 0, weights.shape).ravel()
    lengths_N = np.linalg.norm(x_ND, axis=1)
    radius = longest = LONGEST * sigma * np.min(norms_P[norms_P > 0]) / np.max(lengths_N)
    scale = float(np.mean(lengths_N**2))
    problem = (x_ND, np.full(len(x_ND), 1 / len(x_ND)), sigma, lam)

    def expand(at):
        loss, gradient, hessian = map(np.asarray, expansion(at, *problem))
        return float(loss), gradient.ravel()[free], hessian[np.ix_(free, free)]

    with jax.enable_x64(True):
        loss, gradient, hessian = expand(weights)
        start = loss, float(np.linalg.norm(gradient))
        for _ in range(steps):
            if np.linalg.norm(gradient) <= ARRIVED * scale:
                break
            values_M, vectors_MM = np.linalg.eigh(hessian)
            slope_M = vectors_MM.T @ gradient
            step_M = _trust_step(values_M, slope_M, radius)
            expected = -(slope_M @ step_M + step_M @ (values_M * step_M) / 2)
            flat = weights.ravel().copy()
            flat[free] += vectors_MM @ step_M
            trial = flat.reshape(weights.shape)
            found = expand(trial)
            # Below the rounding of the loss only the gradient tells whether a step was good.
            if expected > ROUNDING * loss:
                share = (loss - found[0]) / expected
            else:
                share = float(np.linalg.norm(found[1]) < np.linalg.norm(gradient))
            if share > 0:
                weights, (loss, gradient, hessian) = trial, found
            if share < POOR:
                radius *= SHRINK
            elif share > GOOD:
                radius = min(GROW * radius, longest)
    end = loss, float(np.linalg.norm(gradient))
    return Descent(weights, (start[0], end[0]), (start[1], end[1]))


# --- data ------------------------------------------------------------------------------------


def in_span(x_ND: Float[np.ndarray, "N D"], dim: int) -> Float[np.ndarray, "N R"]:
    """Coordinates of the samples in ``dim`` directions that span them: nothing measured changes."""
    _, _, right = np.linalg.svd(x_ND, full_matrices=False)
    coordinates = x_ND @ right[:dim].T
    return np.pad(coordinates, ((0, 0), (0, dim - coordinates.shape[1])))


def stored(x_ND: Float[np.ndarray, "N D"], sigma: float, decay: float = DECAY) -> Blocks:
    """Each sample a cluster of its own; nλ is ``decay`` times the smallest ‖x‖²."""
    n = len(x_ND)
    lam = decay * float(np.min(np.sum(x_ND**2, axis=1))) / n
    return Blocks(x_ND, np.arange(n), (1,) * n, sigma, lam)


def equiangular_samples(cosine: float, seed: int) -> Float[np.ndarray, "N D"]:
    """N samples at one cosine, of random norms."""
    norms_N = np.random.default_rng(seed).uniform(0.8, 1.25, N)
    return equiangular_directions(N, N, cosine) * norms_N[:, None]


def at_cosine(cosine: float, seed: int) -> Blocks:
    """β: stored samples at this cosine."""
    return stored(equiangular_samples(cosine, seed), SIGMA)


def at_decay(decay: float, seed: int) -> Blocks:
    """λ: stored samples with nλ this share of the smallest ‖x‖²."""
    return stored(equiangular_samples(BETA, seed), DECAY_SIGMA, decay)


def face_samples(seed: int) -> Float[np.ndarray, "N D"]:
    """The most separable N of a random half of the faces."""
    images = centred(faces()).x
    half = np.random.default_rng(seed).permutation(len(images))[: len(images) // 2]
    chosen = half[separable_subset(images[half], N).indices]
    return in_span(images[chosen], N)


def at_noise(sigma: float, seed: int) -> Blocks:
    """σ: stored faces."""
    return stored(face_samples(seed), sigma)


def clustered(
    x_ND: Float[np.ndarray, "N D"],
    labels_N: Int[np.ndarray, " N"],
    width: int = RANK,
    sigma: float = SIGMA,
    decay: float = DECAY,
) -> Blocks:
    """Clusters with ``width`` units each; nλ is ``decay`` times their smallest eigenvalue."""
    lam = default_decay(x_ND, labels_N, (RANK,) * CLUSTERS, decay)
    return Blocks(x_ND, labels_N, (width,) * CLUSTERS, sigma, lam)


def mixture_samples(
    alpha: float, seed: int
) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
    """Clusters that vary in one random direction each, by ``alpha``, and their labels."""
    mixture = separable_mixture(
        CLUSTERS, DIMENSION, rank=RANK - 1, beta=CLUSTER_BETA, alpha=alpha, seed=seed
    )
    x_ND, labels_N = mixture.sample(seed, CLUSTERS * MEMBERS)
    return in_span(x_ND, CLUSTERS * RANK), labels_N


def at_spread(alpha: float, seed: int) -> Blocks:
    """α: the spread of the clusters."""
    return clustered(*mixture_samples(alpha, seed))


def at_cluster_noise(sigma: float, seed: int) -> Blocks:
    """σ: tight clusters."""
    return clustered(*mixture_samples(TIGHT_ALPHA, seed), sigma=sigma)


def at_width(width: float, seed: int) -> Blocks:
    """p_k: units in each block."""
    return clustered(*mixture_samples(CLUSTER_ALPHA, seed), width=int(width))


def at_label_noise(share: float, seed: int) -> Blocks:
    """Labels: this share of the samples has the label of another cluster."""
    blocks = clustered(*mixture_samples(CLUSTER_ALPHA, seed))
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(blocks.x))[: round(share * len(blocks.x))]
    labels_N = blocks.labels.copy()
    labels_N[wrong] = (labels_N[wrong] + rng.integers(1, CLUSTERS, len(wrong))) % CLUSTERS
    return replace(blocks, labels=labels_N)


def at_shared_variation(cosine: float, seed: int) -> Blocks:
    """Clusters that vary along directions at this cosine; σ makes the margin SHARED_MARGIN."""
    means_KK = equiangular_directions(CLUSTERS, CLUSTERS, CLUSTER_BETA)
    axes_KK = equiangular_directions(CLUSTERS, CLUSTERS, cosine)
    along = np.random.default_rng(seed).standard_normal((CLUSTERS, MEMBERS))
    along *= CLUSTER_ALPHA / np.sqrt(np.mean(along**2, axis=1, keepdims=True))
    labels_N = np.repeat(np.arange(CLUSTERS), MEMBERS)
    x_ND = np.hstack([means_KK[labels_N], along.reshape(-1, 1) * axes_KK[labels_N]])
    return at_margin(clustered(x_ND, labels_N, decay=SHARED_DECAY), SHARED_MARGIN)


# --- sweeps ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """One quantity swept: ``blocks(value, seed)`` at each of V values and S seeds.

    The descent starts at the closed form for λ times ``start_decay`` and takes ``steps`` at most.
    Columns are padded with zeros to the widest net, for one compilation.
    """

    values: tuple[float, ...]
    seeds: tuple[int, ...]
    blocks: Callable[[float, int], Blocks]
    start_decay: float = 1.0
    steps: int = STEPS

    @cached_property
    def points(self) -> list[list[Blocks]]:
        """The problems, [value][seed]."""
        return [[self.blocks(value, seed) for seed in self.seeds] for value in self.values]

    @cached_property
    def starts(self) -> list[list[Prediction]]:
        """The closed forms that the descents start from, whatever formula is under test."""
        return [
            [predict_on(replace(b, lam=b.lam * self.start_decay)) for b in row]
            for row in self.points
        ]

    @cached_property
    def minima(self) -> list[list[Descent]]:
        """Where the descents ended."""
        widest = max(start.w1.shape[1] for row in self.starts for start in row)

        def minimum(b: Blocks, start: Prediction) -> Descent:
            weights = np.stack([start.w1, start.w2])
            weights = np.pad(weights, ((0, 0), (0, 0), (0, widest - weights.shape[2])))
            return descend(weights, b.x, b.sigma, b.lam, self.steps)

        return [
            [minimum(*pair) for pair in zip(*rows, strict=True)]
            for rows in zip(self.points, self.starts, strict=True)
        ]


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


@lru_cache(maxsize=128)
def trace(
    sweep: Sweep, predict: Callable[..., Prediction], leak: Callable[[Prediction, Blocks], float]
) -> Curve:
    """The curve of a sweep with the formulas ``predict`` and ``leak`` under test."""
    shape = len(sweep.values), len(sweep.seeds)
    points = [
        _measure(b, start, minimum, predict, leak)
        for rows in zip(sweep.points, sweep.starts, sweep.minima, strict=True)
        for b, start, minimum in zip(*rows, strict=True)
    ]
    columns = [np.array(column) for column in zip(*points, strict=True)]
    return Curve(np.array(sweep.values), *(c.reshape(shape + c.shape[1:]) for c in columns))


def _measure(b: Blocks, start: Prediction, minimum: Descent, predict, leak) -> tuple:
    prediction, closed_form = predict_on(b, predict), predict_on(b)
    w1_DP, w2_DP = minimum.weights[:, :, : start.w1.shape[1]]
    clusters = range(len(b.widths))
    measured = [w2_DP[:, start.blocks == k] @ w1_DP[:, start.blocks == k].T for k in clusters]
    predicted = [prediction.operator(k) for k in clusters]
    scale = max(np.linalg.norm(m_DD) for m_DD in predicted)
    leading = [start.directions[k][:, 0] for k in clusters]
    return (
        closed_form.margin,
        gate_margin(w1_DP, b.x, b.labels, start.blocks, b.sigma),
        max(np.linalg.norm(m - p) for m, p in zip(measured, predicted, strict=True)) / scale,
        abs(minimum.losses[1] / prediction.loss - 1),
        minimum.gradients[0] / np.mean(np.sum(b.x**2, axis=1)),
        minimum.losses[0] / prediction.loss - 1,
        leak(closed_form, b) / closed_form.loss,
        [u @ m @ u for u, m in zip(leading, measured, strict=True)],
        [u @ m @ u for u, m in zip(leading, predicted, strict=True)],
    )


def leak_loss(prediction: Prediction, b: Blocks) -> float:
    """Exact loss at (4) minus (3), to leading order in gates that noise flips. [derived]

    Where noise opens the gate of unit j on a sample x of another cluster, or closes it on one of
    its own, a pre-activation a = w_jᵀ(x+σε) of the wrong sign is passed or lost. With s = σ‖w_j‖,
    z its margin, m_1 = E(g−z)_+ and m_2 = E(g−z)_+² for a standard normal g, and M of the cluster
    of x, that changes the loss of the sample by

      ‖w_j‖² s² m_2 − 2 s m_1 w_jᵀ(x − Mx) ± 2σ² w_jᵀMw_j Φ(−z),

    + for a sample of another cluster, − for its own. Two gates at once are of second order, unless
    their units are collinear. Where the sum is negative, flipped gates lower the loss, and the
    minimizer is drawn towards them.
    """
    w_DP = prediction.w1[:, prediction.blocks >= 0]
    norm_P = np.linalg.norm(w_DP, axis=0)
    other_NP = np.where(b.labels[:, None] == prediction.blocks[prediction.blocks >= 0], -1.0, 1.0)
    operators = np.array([prediction.operator(k) for k in range(len(b.widths))])
    residual_ND = b.x - np.einsum("nde,ne->nd", operators[b.labels], b.x)
    through_NP = np.einsum("dp,kde,ep->kp", w_DP, operators, w_DP)[b.labels]
    s_P = b.sigma * norm_P
    z_NP = -other_NP * (b.x @ w_DP) / s_P
    density_NP = np.exp(-(z_NP**2) / 2) / np.sqrt(2 * np.pi)
    tail_NP = ndtr(-z_NP)
    first_NP = density_NP - z_NP * tail_NP
    second_NP = (1 + z_NP**2) * tail_NP - z_NP * density_NP
    change_NP = (
        (norm_P * s_P) ** 2 * second_NP
        - 2 * s_P * first_NP * (residual_ND @ w_DP)
        + 2 * b.sigma**2 * other_NP * through_NP * tail_NP
    )
    return float(np.sum(change_NP) / len(b.x))


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
