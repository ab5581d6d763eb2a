"""Nets at the closed forms, and small units added to them: do they take up another unit?

At the closed form (4), with a wide gate margin, a unit that is active on the clusters A, on all of
their samples, is pulled with G(u) = λ |Σ_{k∈A} U_kU_kᵀu|, U_k the directions that block k keeps,
where these are all of its cluster's (dropped ones pull, too: docs/THEORY.md#dead-units).

For memorization, (5), where U_k is a sample x̂_k, G ≤ λ if all cosines between samples are negative:
let c_k = x̂_kᵀu > 0 on A and g = Σ c_k x̂_k, so that G = λ|g|. Cross terms are negative, so
|g|² ≤ |c|²; and |c|² = uᵀg ≤ |g|. Hence |g| ≤ 1, with equality at the stored samples only. (10) is
the optimality condition of a convex problem over nets of all widths, so (5) is then a global
minimum of (1), but for exponentially small terms. Blocks of several directions have no such bound:
where two clusters vary in the same direction, a unit active on both is pulled with up to 2λ.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.data import centred, choose_samples, equiangular_directions, faces, simplex
from dae_theory.minima.dead_units import DeadUnitCertificate, dead_unit_certificate, first_variation
from dae_theory.relu.loss import exact_loss
from dae_theory.theory.closed_forms import (
    Prediction,
    block_eigenvalues,
    predict_blocks,
    predict_memorization,
)
from dae_theory.theory.pull import predict_pull
from dae_theory.theory.separability import separability
from proofs_checks.blocks import STORED_SIGMA, stored_decay
from proofs_checks.monte_carlo import EXACT_MARGIN

SIGMA, LAM, DIMENSION = 0.02, 0.01, 16  # of the synthetic problems
SIMPLEX_N, PAIR_COSINE, FACES = 8, -0.3, 5
BLOCK_SIGMA, BLOCK_DECAY, BLOCK_SPREAD = 0.003, 0.5, 0.03
STARTS, QUICK_STARTS = 256, 64
DIRECTIONS = 32  # at which the formula is compared, and small units are started
UNITS = 8  # small ones that each seed draws
SMALL = 1e-4  # norm of each column of a small unit
SHORT, LONG = (0.01, 10), (0.25, 400)  # gradient descent: step size, steps


class Grown(NamedTuple):
    """Directions of small units, what `grow_units` finds of them after `SHORT` and after `LONG`,
    and the units in the end."""

    u: Float[np.ndarray, "D M"]
    short: Float[np.ndarray, " M"]
    long: Float[np.ndarray, " M"]
    units: Float[np.ndarray, "M 2 D"]


@dataclass(frozen=True)
class NetAtClosedForm:
    """Samples (N, D), the closed form for them, and the net (w1, w2) under test."""

    x: Float[np.ndarray, "N D"]
    prediction: Prediction
    w1: Float[np.ndarray, "D P"]
    w2: Float[np.ndarray, "D P"]
    starts: int

    @property
    def sigma(self) -> float:
        """Noise level."""
        return self.prediction.sigma

    @property
    def lam(self) -> float:
        """Weight decay."""
        return self.prediction.lam

    @property
    def margin(self) -> float:
        """Gate margin z of the closed form."""
        return self.prediction.margin

    @cached_property
    def beta(self) -> float:
        """Largest cosine between two clusters."""
        return separability(self.x, self.prediction.labels).beta

    @cached_property
    def certificate(self) -> DeadUnitCertificate:
        """The largest pull on a new unit."""
        return dead_unit_certificate(
            self.w1, self.w2, self.x, self.sigma, self.lam, starts=self.starts
        )

    @cached_property
    def grown(self) -> Grown:
        """A small unit at the direction that the certificate names, and, inactive on the first
        sample, units that are pulled by less than λ."""
        weak_DM = clear_directions(self, away=self.x[0])[:, 1:]
        u_DM = np.column_stack([self.certificate.direction, weak_DM])
        short_M, _ = grow_units(self, u_DM, *SHORT)
        return Grown(u_DM, short_M, *grow_units(self, u_DM, *LONG))

    def pulls(self, u_DM: Float[np.ndarray, "D M"]) -> Float[np.ndarray, "D M"]:
        """g(u) at the given directions."""
        with jax.enable_x64(True):
            return np.asarray(first_variation(u_DM, self.w1, self.w2, self.x, self.sigma))


def growth_rate(pull_M: Float[np.ndarray, " M"], lam: float) -> Float[np.ndarray, " M"]:
    """d log(norm)/dt = 2 (G − λ) of a small balanced unit under gradient flow."""
    return 2 * (pull_M - lam)


@dataclass(frozen=True)
class DeadUnits:
    """A dead-unit experiment.

    ``problems`` by name; ``forgetful`` is the simplex with the column of its first sample zero;
    ``seeds`` draw small units. The rest is under test: G(u) at the closed forms, the growth rate
    of a small unit, and G/λ at the bisector of a pair at the given cosine.
    """

    problems: dict[str, NetAtClosedForm]
    forgetful: NetAtClosedForm
    seeds: tuple[int, ...]
    formula: Callable[..., np.ndarray] = predict_pull
    rate: Callable[..., np.ndarray] = growth_rate
    bisector: Callable[[float], float] = lambda cosine: 1 + cosine


def build(seeds: tuple[int, ...], quick: bool) -> DeadUnits:
    """The fixed problems; ``seeds`` draw small units, ``quick`` takes fewer starts."""
    starts = QUICK_STARTS if quick else STARTS
    stored = memorized(simplex(SIMPLEX_N, DIMENSION).x, SIGMA, LAM, starts)
    pair_ND = equiangular_directions(2, DIMENSION, PAIR_COSINE)
    problems = {
        "simplex": stored,
        "pair": memorized(pair_ND, SIGMA, LAM, starts),
        "faces": face_problem(starts),
        "blocks": block_problem(starts),
    }
    return DeadUnits(problems, forgotten(stored), seeds)


def memorized(
    x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float, starts: int = STARTS
) -> NetAtClosedForm:
    """The net (5) on its samples."""
    prediction = predict_memorization(x_ND, sigma, lam)
    return NetAtClosedForm(x_ND, prediction, prediction.w1, prediction.w2, starts)


def face_problem(starts: int) -> NetAtClosedForm:
    """(5) on separable faces, as in the memorization regime."""
    images = centred(faces()).x
    x_ND = images[choose_samples(images, FACES)[0]]
    return memorized(x_ND, STORED_SIGMA, stored_decay(x_ND), starts)


def block_problem(starts: int, spread: float = BLOCK_SPREAD) -> NetAtClosedForm:
    """(4) on two tight clusters that vary in the same two directions; ``spread`` is the standard
    deviation in each, relative to the means."""
    mean_KD = equiangular_directions(2, DIMENSION, -0.5)
    x_ND, labels_N = np.repeat(mean_KD, 4, axis=0), np.repeat([0, 1], 4)
    x_ND[:, 2:4] += spread * np.random.default_rng(0).standard_normal((8, 2))
    smallest = min(values[-1] for values in block_eigenvalues(x_ND, labels_N))
    lam = BLOCK_DECAY * smallest / len(x_ND)
    prediction = predict_blocks(x_ND, labels_N, (4, 4), BLOCK_SIGMA, lam)
    return NetAtClosedForm(x_ND, prediction, prediction.w1, prediction.w2, starts)


def forgotten(problem: NetAtClosedForm) -> NetAtClosedForm:
    """The net without its first column."""
    keep_P = np.arange(problem.w1.shape[1]) > 0
    return replace(problem, w1=problem.w1 * keep_P, w2=problem.w2 * keep_P)


def unit(w_DM: Float[np.ndarray, "D M"]) -> Float[np.ndarray, "D M"]:
    """Columns scaled to unit norm."""
    return w_DM / np.linalg.norm(w_DM, axis=0)


def random_directions(seed: int, d: int, count: int) -> Float[np.ndarray, "D M"]:
    """Uniform on the sphere."""
    return unit(np.random.default_rng(seed).standard_normal((d, count)))


def clear_directions(problem: NetAtClosedForm, away: np.ndarray | None = None) -> np.ndarray:
    """DIRECTIONS random directions that no noise moves across a gate and that are active on whole
    clusters; with ``away``, only those inactive on that sample."""
    u_DM = random_directions(0, problem.x.shape[1], 200 * DIRECTIONS)
    pre_NM = problem.x @ u_DM
    leading = [problem.prediction.directions[k][:, 0] for k in problem.prediction.labels]
    clear_M = np.all(pre_NM * np.sign(leading @ u_DM) >= EXACT_MARGIN * problem.sigma, axis=0)
    if away is not None:
        clear_M &= away @ u_DM < 0
    return u_DM[:, clear_M][:, :DIRECTIONS]


@jax.jit
def _descend(w1_DP, w2_DP, unit_2DM, x_ND, sigma, lam, step, steps):
    """Gradient descent on the exact objective from the net with one of M units appended, all
    weights free: (M, 2, D, P+1)."""

    def loss(weights):
        return exact_loss(weights[0], weights[1], x_ND, sigma, lam)

    def train(unit_2D):
        net = jnp.concatenate([jnp.stack([w1_DP, w2_DP]), unit_2D[:, :, None]], axis=2)
        return jax.lax.fori_loop(0, steps, lambda _, w: w - step * jax.grad(loss)(w), net)

    return jax.vmap(train, in_axes=2)(unit_2DM)


def grow_units(
    problem: NetAtClosedForm, u_DM: Float[Array, "D M"], step: float, steps: int
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "M 2 D"]]:
    """Train the net with a small balanced unit, SMALL (u, g/|g|), added: once for each u.

    Returns log(norm after/norm before) of each unit, the norm being √(‖w1‖‖w2‖), and the units.
    """
    start = SMALL * np.stack([u_DM, unit(problem.pulls(u_DM))])
    with jax.enable_x64(True):
        nets = _descend(
            problem.w1, problem.w2, start, problem.x, problem.sigma, problem.lam, step, steps
        )
    units = np.asarray(nets)[..., -1]
    norms_M = np.sqrt(np.prod(np.linalg.norm(units, axis=2), axis=1))
    return np.log(norms_M / SMALL), units
