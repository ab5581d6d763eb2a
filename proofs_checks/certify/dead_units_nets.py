"""Measurements behind the dead-unit claims: would a net at the closed forms take up another unit?

At the closed form (4), with a wide gate margin, a unit that is active on the clusters A, on all of
their samples, is pulled with G(u) = λ |Σ_{k∈A} U_kU_kᵀu|, U_k the directions that block k keeps.

For memorization, (5), where U_k is a sample x̂_k, G ≤ λ if all cosines between samples are negative:
let c_k = x̂_kᵀu > 0 on A and g = Σ c_k x̂_k, so that G = λ|g|. Cross terms are negative, so
|g|² ≤ |c|²; and |c|² = uᵀg ≤ |g|. Hence |g| ≤ 1, with equality at the stored samples only. (10) is
the optimality condition of a convex problem over nets of all widths, so (5) is then a global
minimum of (1), but for exponentially small terms. Blocks of several directions have no such bound:
where two clusters vary in the same direction, a unit active on both is pulled with up to 2λ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.data.dataset import centred
from dae_theory.data.images import faces
from dae_theory.data.mixtures import equiangular_directions
from dae_theory.minima.dead_units import DeadUnitCertificate, dead_unit_certificate, first_variation
from dae_theory.relu.loss import exact_loss
from dae_theory.relu.units import COLLINEAR_COSINE
from dae_theory.theory.closed_forms import (
    Prediction,
    block_eigenvalues,
    predict_blocks,
    predict_memorization,
)
from dae_theory.theory.separability import separability
from proofs_checks.claims import Assumption, Evidence, measure_or_vacuous
from proofs_checks.memorize import DEFAULT_N, DEFAULT_SIGMA, choose_samples, default_decay
from proofs_checks.probes import EXACT_MARGIN

SIGMA, LAM, DIMENSION = 0.02, 0.01, 16  # of the synthetic problems
SIMPLEX_N, PAIR_COSINE = 8, -0.3
BLOCK_SIGMA, BLOCK_DECAY, BLOCK_SPREAD = 0.003, 0.5, 0.03
STARTS, QUICK_STARTS = 256, 64
DIRECTIONS = 32  # at which the formula is compared, and small units are started
SMALL = 1e-4  # norm of each column of a small unit
SHORT, LONG = (0.01, 10), (0.25, 400)  # gradient descent: step size, steps
TOP = 1 - 1e-6  # G/λ from which a maximum is as high as the live units


@dataclass(frozen=True)
class Problem:
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

    @cached_property
    def certificate(self) -> DeadUnitCertificate:
        """The largest pull on a new unit."""
        return dead_unit_certificate(
            self.w1, self.w2, self.x, self.sigma, self.lam, starts=self.starts
        )

    def pulls(self, u_DM: Float[np.ndarray, "D M"]) -> Float[np.ndarray, "D M"]:
        """g(u) at the given directions."""
        with jax.enable_x64(True):
            return np.asarray(first_variation(u_DM, self.w1, self.w2, self.x, self.sigma))


def limit_pull(
    ranges: Sequence[Float[np.ndarray, "D R"]], lam: float, u_DM: Float[np.ndarray, "D M"]
) -> Float[np.ndarray, " M"]:
    """G(u) = λ |Σ_{k∈A} U_kU_kᵀu|; A are the blocks whose leading direction u is active on."""
    blocks = [u_DR @ ((u_DR[:, 0] @ u_DM > 0) * (u_DR.T @ u_DM)) for u_DR in ranges]
    return lam * np.linalg.norm(np.sum(blocks, axis=0), axis=0)


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

    problems: dict[str, Problem]
    forgetful: Problem
    seeds: tuple[int, ...]
    formula: Callable[..., np.ndarray] = limit_pull
    rate: Callable[..., np.ndarray] = growth_rate
    bisector: Callable[[float], float] = lambda cosine: 1 + cosine


def memorized(
    x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float, starts: int = STARTS
) -> Problem:
    """The net (5) on its samples."""
    prediction = predict_memorization(x_ND, sigma, lam)
    return Problem(x_ND, prediction, prediction.w1, prediction.w2, starts)


def face_problem(starts: int) -> Problem:
    """(5) on separable faces, as in the memorization regime."""
    images = centred(faces()).x
    x_ND = images[choose_samples(images, DEFAULT_N)[0]]
    return memorized(x_ND, DEFAULT_SIGMA, default_decay(x_ND), starts)


def block_problem(starts: int, spread: float = BLOCK_SPREAD) -> Problem:
    """(4) on two tight clusters that vary in the same two directions; ``spread`` is the standard
    deviation in each, relative to the means."""
    mean_KD = equiangular_directions(2, DIMENSION, -0.5)
    x_ND, labels_N = np.repeat(mean_KD, 4, axis=0), np.repeat([0, 1], 4)
    x_ND[:, 2:4] += spread * np.random.default_rng(0).standard_normal((8, 2))
    smallest = min(values[-1] for values in block_eigenvalues(x_ND, labels_N))
    lam = BLOCK_DECAY * smallest / len(x_ND)
    prediction = predict_blocks(x_ND, labels_N, (4, 4), BLOCK_SIGMA, lam)
    return Problem(x_ND, prediction, prediction.w1, prediction.w2, starts)


def forgotten(problem: Problem) -> Problem:
    """The net without its first column."""
    keep_P = np.arange(problem.w1.shape[1]) > 0
    return replace(problem, w1=problem.w1 * keep_P, w2=problem.w2 * keep_P)


# --- directions, and small units trained -----------------------------------------------------


def unit(w_DM: Float[np.ndarray, "D M"]) -> Float[np.ndarray, "D M"]:
    """Columns scaled to unit norm."""
    return w_DM / np.linalg.norm(w_DM, axis=0)


def random_directions(seed: int, d: int, count: int) -> Float[np.ndarray, "D M"]:
    """Uniform on the sphere."""
    return unit(np.random.default_rng(seed).standard_normal((d, count)))


def clear_directions(problem: Problem, away: np.ndarray | None = None) -> np.ndarray:
    """DIRECTIONS random directions that no noise moves across a gate and that are active on whole
    clusters; with ``away``, only those inactive on that sample."""
    u_DM = random_directions(0, problem.x.shape[1], 200 * DIRECTIONS)
    pre_NM = problem.x @ u_DM
    leading = [problem.prediction.directions[k][:, 0] for k in problem.prediction.labels]
    clear_M = np.all(pre_NM * np.sign(leading @ u_DM) >= EXACT_MARGIN * problem.sigma, axis=0)
    if away is not None:
        clear_M &= away @ u_DM < 0
    return u_DM[:, clear_M][:, :DIRECTIONS]


def kept_ranges(prediction: Prediction) -> list[np.ndarray]:
    """Directions with positive gain, for each cluster."""
    return [
        u_DR[:, np.atleast_1d(gains) > 0]
        for u_DR, gains in zip(prediction.directions, prediction.gains, strict=True)
    ]


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
    problem: Problem, u_DM: Float[Array, "D M"], step: float, steps: int
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


# --- what is measured ------------------------------------------------------------------------


def assumptions(problem: Problem) -> dict[str, Assumption]:
    """What makes the closed form exact."""
    beta = separability(problem.x, problem.prediction.labels).beta
    z = problem.prediction.margin
    return {
        "beta": Assumption(beta, "< 0", beta < 0),
        "gate margin z": Assumption(z, f">= {EXACT_MARGIN:g}", z >= EXACT_MARGIN),
    }


def vacuous_or(
    name: str, measure: Callable[[DeadUnits], dict], tolerance: float
) -> Callable[[DeadUnits], Evidence]:
    """A check that measures only where the assumptions of the named problem are met."""

    def check(experiment: DeadUnits) -> Evidence:
        met = assumptions(experiment.problems[name])
        return measure_or_vacuous(experiment, met, measure, tolerance)

    return check


def measure_maximum(name: str, only_at_units: bool) -> Callable[[DeadUnits], dict]:
    """Largest pull found, in units of λ. With ``only_at_units`` the error grows by one for each
    maximum as high as the live units that is not at one of them."""

    def measure(experiment: DeadUnits) -> dict:
        problem = experiment.problems[name]
        found = problem.certificate
        tops = found.values > TOP * problem.lam
        elsewhere = int(np.sum(tops & (found.cosines <= COLLINEAR_COSINE)))
        return {
            "measured": found.ratio,
            "predicted": 1.0,
            "errors": np.array([abs(found.ratio - 1) + only_at_units * elsewhere]),
            "note": f"max G/λ from {problem.starts} starts, {found.converged:.0%} arrived; maxima "
            f"≥ λ: {np.sum(tops)}, off the live units {elsewhere}",
        }

    return measure


def measure_bisector(experiment: DeadUnits) -> dict:
    """G at the bisector of the pair, and on the arc from there to the first sample."""
    problem = experiment.problems["pair"]
    first, second = unit(problem.x.T).T
    share_M = np.linspace(0.5, 1.0, DIRECTIONS)
    arc_DM = unit(np.outer(first, share_M) + np.outer(second, 1 - share_M))
    pull_M = np.linalg.norm(problem.pulls(arc_DM), axis=0) / problem.lam
    predicted = experiment.bisector(float(first @ second))
    error = max(abs(pull_M[0] / predicted - 1), pull_M[0] - np.min(pull_M))
    return {
        "measured": float(pull_M[0]),
        "predicted": predicted,
        "errors": np.array([error]),
        "note": f"G/λ; on the arc to a sample it rises from here to {np.max(pull_M):.6f}",
    }


def measure_formula(experiment: DeadUnits) -> dict:
    """Largest error of the formula, in units of λ, over directions with clear gates."""
    pulls, predicted = [], []
    for name in ("simplex", "pair", "blocks"):
        problem = experiment.problems[name]
        u_DM = clear_directions(problem)
        pulls.append(np.linalg.norm(problem.pulls(u_DM), axis=0) / problem.lam)
        predicted.append(experiment.formula(kept_ranges(problem.prediction), 1.0, u_DM))
    pulls, predicted = np.concatenate(pulls), np.concatenate(predicted)
    return {
        "measured": float(np.mean(pulls)),
        "predicted": float(np.mean(predicted)),
        "errors": np.array([np.max(np.abs(pulls - predicted))]),
        "note": f"mean of G/λ over {len(pulls)} random directions; error: the largest",
    }


def measure_stays_dead(experiment: DeadUnits) -> dict:
    """Largest logarithmic growth of random small units at (5), for each seed."""
    problem, seeds = experiment.problems["simplex"], experiment.seeds
    share = -(-DIRECTIONS // len(seeds))
    u_DM = np.hstack([random_directions(seed, DIMENSION, share) for seed in seeds])
    growth_M, _ = grow_units(problem, u_DM, *LONG)
    largest = np.max(growth_M.reshape(len(seeds), share), axis=1)
    return {
        "measured": float(np.exp(np.mean(largest))),
        "predicted": 1.0,
        "errors": np.maximum(largest, 0.0),
        "seeds": seeds,
        "note": f"norm at time {np.prod(LONG):.0f} relative to the start, largest of {share} "
        "units a seed; predicted: at most",
    }


def measure_growth(experiment: DeadUnits) -> dict:
    """A unit at the direction the certificate names, and units that are pulled by less than λ."""
    problem = experiment.forgetful
    sample_D = problem.x[0]
    weak_DM = clear_directions(problem, away=sample_D)[:, 1:]
    u_DM = np.column_stack([problem.certificate.direction, weak_DM])
    pull_M = np.linalg.norm(problem.pulls(u_DM), axis=0)
    predicted_M = experiment.rate(pull_M, problem.lam)
    growth_M, _ = grow_units(problem, u_DM, *SHORT)
    rate_M = growth_M / np.prod(SHORT)
    rate_errors_M = np.abs(rate_M - predicted_M) / (2 * np.maximum(pull_M, problem.lam))

    growth_M, units = grow_units(problem, u_DM, *LONG)
    gain = float(np.prod(units[0] @ unit(sample_D)))
    stored = float(problem.prediction.gains[0])
    others = int(np.sum(growth_M[1:] > 0))
    return {
        "measured": float(rate_M[0]),
        "predicted": float(predicted_M[0]),
        "errors": np.array([max(np.max(rate_errors_M), abs(gain / stored - 1)) + others]),
        "note": f"rate at the violating u; it ends with gain {gain:.4f}, (5) has {stored:.4f}; "
        f"{others} of {weak_DM.shape[1]} others grow",
    }
