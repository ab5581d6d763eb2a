"""What detectors read off h at a predicted minimizer, as identities: exact where no gate flips."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Float

from dae_theory.data import Dataset
from dae_theory.relu.loss import exact_loss
from dae_theory.relu.model import denoise
from dae_theory.relu.units import spikiness
from dae_theory.theory.closed_forms import Prediction
from dae_theory.theory.detectors import Response, block_response, participation_ratio
from dae_theory.theory.problem import Problem
from proofs_checks.blocks import predict_on, tightened
from proofs_checks.claims import Claim, Kind, Measured, Mutant, at_least
from proofs_checks.config import DataUsed, RunConfig, data_used
from proofs_checks.detect.relu_nets import mixture_of
from proofs_checks.monte_carlo import EXACT_MARGIN, merged_representation

UNITS, AMOUNTS = (3, 1, 2, 2, 8), (0.2, 0.5, 0.842614977)  # the last closes Σc² = 1
SILENT = 5
DRAWS = 50
ROUNDING = 1e-9
COUNTS, SAMPLES, DECAY = (0.1, 0.2, 0.2, 0.25, 0.25), 60, 1e-3


def energy(response: Response, y_ND: np.ndarray) -> Float[np.ndarray, " N"]:
    """Σ_j m_j (u_jᵀy)²."""
    return np.sum(response.gains * (y_ND @ response.directions) ** 2, axis=1)


def variance(response: Response, y_ND: np.ndarray, width: int) -> Float[np.ndarray, " N"]:
    """‖h‖²/P − ‖a‖² m_1 (u_1ᵀy)²/P², for an even rotation or a stored sample."""
    units = float(np.sum(response.unit_sums**2))
    along_N = y_ND @ response.directions[:, 0]
    mean2_N = units * response.gains[0] * along_N**2 / width**2
    return energy(response, y_ND) / width - mean2_N


def expected_error(response: Response, x_D: np.ndarray) -> float:
    """Σ_j [(1−m_j)²(u_jᵀx)² + m_j²σ²] and what the block drops of x."""
    along_R = response.directions.T @ x_D
    kept = np.sum((1 - response.gains) ** 2 * along_R**2 + response.gains**2 * response.sigma**2)
    return float(kept + np.sum(x_D**2) - np.sum(along_R**2))


@dataclass(frozen=True)
class Identities:
    """A predicted net at so wide a margin that no gate flips.

    Attributes:
      problem: tight clusters, three of them repeated samples.
      seed: of the noise.
      energy, variance, error, trace, ratio, whole: the formulas under test.
    """

    problem: Problem
    seed: int
    energy: Callable[..., np.ndarray] = energy
    variance: Callable[..., np.ndarray] = variance
    error: Callable[..., float] = expected_error
    trace: Callable[[Response], float] = lambda response: response.trace
    ratio: Callable[[np.ndarray], float] = participation_ratio
    whole: Callable[[np.ndarray], float] = np.linalg.norm

    @cached_property
    def prediction(self) -> Prediction:
        """(4) with even rotations; the first stored sample is split with AMOUNTS."""
        prediction = predict_on(self.problem)
        w_DP = prediction.w1.copy()
        whole_D = prediction.directions[0][:, 0] * np.sqrt(prediction.gains[0][0])
        w_DP[:, prediction.blocks == 0] = np.outer(whole_D, self.amounts)
        w_DQ = np.pad(w_DP, ((0, 0), (0, SILENT)))
        blocks_Q = np.pad(prediction.blocks, (0, SILENT), constant_values=-1)
        return replace(prediction, w1=w_DQ, w2=w_DQ.copy(), blocks=blocks_Q)

    @property
    def amounts(self) -> np.ndarray:
        """AMOUNTS, with squares that sum to 1."""
        return np.array(AMOUNTS) / np.linalg.norm(AMOUNTS)

    def shown(self, k: int) -> tuple[Response, np.ndarray, np.ndarray]:
        """The theory's response to cluster k, noised samples of it and their h."""
        p = self.problem
        members_ND = p.x[p.labels == k]
        mean_D, zero_DD = members_ND.mean(axis=0), np.zeros((p.x.shape[1],) * 2)
        response = block_response(self.prediction, k, mean_D, zero_DD, p.sigma)
        rng = np.random.default_rng([self.seed, k])
        x_ND = members_ND[rng.integers(len(members_ND), size=DRAWS)]
        y_ND = x_ND + p.sigma * rng.standard_normal(x_ND.shape)
        return response, y_ND, np.maximum(y_ND @ self.prediction.w1, 0.0)

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        return {"exact: p": self.prediction.w1.shape[1], "exact: z": self.prediction.margin}

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples, by name and hash."""
        dataset = Dataset("tight mixture with repeated samples", self.problem.x)
        return (data_used(dataset, self.problem.x, f"seed {self.seed}"),)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing that a figure draws."""
        return {}


def build(config: RunConfig) -> Identities:
    """The predicted net of the first seed's mixture."""
    seed = config.first_seed
    mixture = mixture_of(seed)
    x_ND, labels_N = replace(mixture, priors=np.array(COUNTS)).sample(seed, SAMPLES)
    problem = Problem(x_ND, 0.01, DECAY / SAMPLES, labels_N, UNITS)
    return Identities(tightened(problem, predict_on(problem).margin), seed)


def relative(measured_N: np.ndarray, predicted_N: np.ndarray) -> float:
    """Largest distance, relative to the predicted values' mean size."""
    return float(np.max(np.abs(measured_N - predicted_N)) / np.mean(np.abs(predicted_N)))


def worst(errors: list[float], note: str) -> Measured:
    """The worst of some deterministic errors."""
    return Measured(max(errors), 0.0, np.array([max(errors)]), note=note)


def energies(e: Identities) -> Measured:
    """‖h‖² beside Σ m_j (u_jᵀy)²."""
    errors = []
    for k in range(len(UNITS)):
        response, y_ND, h_NP = e.shown(k)
        errors.append(relative(np.sum(h_NP**2, axis=1), e.energy(response, y_ND)))
    return worst(errors, "relative, worst of 5 clusters")


def variances(e: Identities) -> Measured:
    """std(h)² beside ‖h‖²/P − ‖a‖² m_1 (u_1ᵀy)²/P²."""
    errors = []
    for k in range(len(UNITS)):
        response, y_ND, h_NP = e.shown(k)
        predicted_N = e.variance(response, y_ND, h_NP.shape[1])
        errors.append(relative(np.var(h_NP, axis=1), predicted_N))
    return worst(errors, "relative, worst of 5 clusters; the first is split unevenly")


def denoising_errors(e: Identities) -> Measured:
    """Exact expected error of the net at single samples beside the closed form."""
    p, errors = e.problem, []
    for k in range(len(UNITS)):
        response, _, _ = e.shown(k)
        x_D = p.x[p.labels == k][0]
        with jax.enable_x64(True):
            exact = float(exact_loss(e.prediction.w1, e.prediction.w2, x_D[None], p.sigma, 0.0))
        errors.append(abs(exact / e.error(response, x_D) - 1))
    return worst(errors, "relative, worst of 5 clusters")


def traces(e: Identities) -> Measured:
    """Trace of the net's Jacobian by automatic differentiation beside Σ m_j."""
    errors = []
    for k in range(len(UNITS)):
        response, y_ND, _ = e.shown(k)

        def output(y_D: np.ndarray) -> jax.Array:
            return denoise(e.prediction.w1, e.prediction.w2, y_D[None])[0]

        trace = float(np.trace(np.asarray(jax.jacfwd(output)(y_ND[0]))))
        errors.append(abs(trace / e.trace(response) - 1))
    return worst(errors, "relative, worst of 5 clusters")


def unit_counts(e: Identities) -> Measured:
    """Participation ratio at the split sample beside 1/Σc⁴, and beside 1 once merged; what the
    merged unit is beside the unit before it was split, times √Σc²."""
    response, y_ND, h_NP = e.shown(0)
    merged_NG = merged_representation(e.prediction.w1, e.prediction.w2, y_ND)
    single_N = spikiness(h_NP)["participation_ratio"]
    errors = [
        relative(single_N, np.full(DRAWS, e.ratio(e.amounts))),
        relative(spikiness(merged_NG)["participation_ratio"], np.ones(DRAWS)),
        relative(np.max(merged_NG, axis=1), e.whole(e.amounts) * e.energy(response, y_ND) ** 0.5),
    ]
    return worst(errors, f"single units {np.mean(single_N):.3f}, merged 1; at {DRAWS} noises")


def formula(name: str, field: str, instead: Callable) -> Mutant:
    """Another formula."""
    return Mutant(name, lambda e: replace(e, **{field: instead}))


def scaled_sums(power: float) -> Callable[..., np.ndarray]:
    """The variance with another power of ‖a‖."""

    def law(response: Response, y_ND: np.ndarray, width: int) -> np.ndarray:
        return variance(
            replace(response, unit_sums=np.abs(response.unit_sums) ** power), y_ND, width
        )

    return law


def claim(
    name: str,
    statement: str,
    source: str,
    measure: Callable[[Identities], Measured],
    mutants: tuple[Mutant, ...],
) -> Claim:
    """An exact claim on the predicted net."""
    return Claim(
        id=f"detect/{name}",
        statement=statement,
        source=f"docs/THEORY.md#{source}",
        part="exact",
        requires=(at_least("gate margin z", EXACT_MARGIN, lambda e: e.prediction.margin),),
        measure=measure,
        tolerance=ROUNDING,
        mutants=mutants,
        kind=Kind.EXACT,
    )


CLAIMS = (
    claim(
        "energy",
        "‖h‖² is Σ m_j (u_jᵀy)² over the active block.",
        "detection-energy",
        energies,
        (
            formula(
                "m² for m",
                "energy",
                lambda r, y: energy(replace(r, gains=r.gains**2), y),
            ),
            formula(
                "the mean direction alone",
                "energy",
                lambda r, y: r.gains[0] * (y @ r.directions[:, 0]) ** 2,
            ),
        ),
    ),
    claim(
        "std",
        "The squared std over units is ‖h‖²/P − p_k m_1 (u_1ᵀy)²/P², with (Σc)² for p_k where a "
        "sample is split.",
        "detection-std",
        variances,
        (
            formula("P for P²", "variance", lambda r, y, p: energy(r, y) / p - variance(r, y, 1)),
            formula("no mean", "variance", lambda r, y, p: energy(r, y) / p),
            formula("1 for p_k", "variance", scaled_sums(0.0)),
            formula("√p_k for p_k", "variance", scaled_sums(0.5)),
            formula(
                "units of the clusters for P",
                "variance",
                lambda r, y, p: variance(r, y, sum(UNITS)),
            ),
            formula("P − 1 for P", "variance", lambda r, y, p: variance(r, y, p - 1)),
        ),
    ),
    claim(
        "error",
        "The denoising error at a sample is Σ [(1−m_j)²(u_jᵀx)² + m_j²σ²] and what is dropped.",
        "detection-error",
        denoising_errors,
        (
            formula(
                "mσ² for m²σ²",
                "error",
                lambda r, x: expected_error(r, x) + np.sum(r.gains - r.gains**2) * r.sigma**2,
            ),
            formula(
                "1−m for (1−m)²",
                "error",
                lambda r, x: (
                    expected_error(r, x)
                    + np.sum(((1 - r.gains) - (1 - r.gains) ** 2) * (r.directions.T @ x) ** 2)
                ),
            ),
            formula(
                "nothing dropped",
                "error",
                lambda r, x: (
                    expected_error(r, x) - np.sum(x**2) + np.sum((r.directions.T @ x) ** 2)
                ),
            ),
        ),
    ),
    claim(
        "jacobian-trace",
        "The trace of the Jacobian is Σ m_j, 1 at most for a stored sample.",
        "detection-trace",
        traces,
        (
            formula("p_k", "trace", lambda r: float(np.sum(r.unit_sums**2))),
            formula("kept directions", "trace", lambda r: float(len(r.gains))),
            formula("Σ √m", "trace", lambda r: float(np.sum(np.sqrt(r.gains)))),
        ),
    ),
    claim(
        "units",
        "A split sample has 1/Σc⁴ effective units; merged they are the unit before it was split.",
        "detection-units",
        unit_counts,
        (
            formula("number of units", "ratio", lambda c_G: float(len(c_G))),
            formula("(Σc)²", "ratio", lambda c_G: float(np.sum(c_G) ** 2)),
            formula("1/Σc²", "ratio", lambda c_G: float(1 / np.sum(c_G**2))),
            formula("merged by their sum", "whole", np.sum),
        ),
    ),
)
