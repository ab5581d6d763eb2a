"""The score of a noised mixture by its posterior mean, with the right sign and as printed.

Measured by finite differences of SciPy's densities.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float
from scipy.special import logsumexp

from dae_theory.data.mixtures import Mixture, separable_mixture
from dae_theory.diffusion.denoisers import mixture_denoiser
from proofs_checks.claims import Claim, Kind, Measured, Origin, Verdict
from proofs_checks.monte_carlo import relative_rms
from proofs_checks.mutants import instead, misprint

DIFFERENCES = Origin("error of central differences, by rounding and by the step")
MODES, SIGMA = separable_mixture(3, 6, rank=2, beta=-0.4, alpha=0.3), 0.5


def right_score(
    denoised_ND: Float[np.ndarray, "N D"], y_ND: Float[np.ndarray, "N D"], sigma: float
) -> Float[np.ndarray, "N D"]:
    """∇log p_σ(y) = (E[x|y] − y)/σ² (docs/THEORY.md#score)."""
    return (denoised_ND - y_ND) / sigma**2


def printed_score(
    denoised_ND: Float[np.ndarray, "N D"], y_ND: Float[np.ndarray, "N D"], sigma: float
) -> Float[np.ndarray, "N D"]:
    """As printed: (y − E[x|y])/σ²."""
    return (y_ND - denoised_ND) / sigma**2


@dataclass(frozen=True)
class Score:
    """The formulas under test."""

    right: Callable[..., np.ndarray] = right_score
    printed: Callable[..., np.ndarray] = printed_score


def score_by_differences(
    mixture: Mixture, y_ND: Float[np.ndarray, "N D"], sigma: float, step: float = 1e-4
) -> Float[np.ndarray, "N D"]:
    """∇log p_σ at ``y`` by central differences of SciPy's normal densities."""
    noise = sigma**2 * np.eye(y_ND.shape[1])

    def log_density(at_ND):
        parts = zip(mixture.priors, mixture.means, mixture.covs, strict=True)
        normal = scipy.stats.multivariate_normal
        normals = [np.log(r) + normal.logpdf(at_ND, m, c + noise) for r, m, c in parts]
        return logsumexp(normals, axis=0)

    shifts = step * np.eye(y_ND.shape[1])
    differences = [log_density(y_ND + s) - log_density(y_ND - s) for s in shifts]
    return np.stack(differences, axis=1) / (2 * step)


def score_of_mixture(tested: str) -> Callable[[Score], Measured]:
    """Score by finite differences, against the formula of E[x|y] in a field."""

    def measure(e: Score) -> Measured:
        y = MODES.sample(0, 200)[0]
        y = y + SIGMA * np.random.default_rng(1).standard_normal(y.shape)
        denoised = np.asarray(mixture_denoiser(MODES.means, MODES.covs, MODES.priors)(y, SIGMA))
        found = score_by_differences(MODES, y, SIGMA)
        predicted = getattr(e, tested)(denoised, y, SIGMA)
        pull = right_score(denoised, y, SIGMA)
        measured, claimed = (
            float(np.sum(score * pull) / np.sum(pull**2)) for score in (found, predicted)
        )
        return Measured(
            measured,
            claimed,
            np.array([relative_rms(predicted - found, found)]),
            note=f"multiple of (E[x|y]−y)/σ²: printed −1, right +1, by differences {measured:+.6f}",
        )

    return measure


CLAIMS = (
    Claim(
        id="errata/score",
        statement="∇log p_σ(y) = (E[x|y] − y)/σ².",
        source="docs/THEORY.md#score",
        part="score",
        measure=score_of_mixture("right"),
        tolerance=1e-6,
        origin=DIFFERENCES,
        mutants=(
            instead("opposite sign, as printed", "right", printed_score),
            misprint("σ for σ²", "right", sigma=np.sqrt),
        ),
        kind=Kind.EXACT,
    ),
    Claim(
        id="errata/score-printed",
        statement="As printed: ∇log p_σ(y) = (y − E[x|y])/σ².",
        source="docs/THEORY.md#errata",
        part="score",
        measure=score_of_mixture("printed"),
        tolerance=1e-6,
        origin=DIFFERENCES,
        mutants=(misprint("σ for σ²", "printed", sigma=np.sqrt),),
        kind=Kind.EXACT,
        expected=Verdict.FAILS,
    ),
)
