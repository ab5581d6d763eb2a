"""The net that stores two images, at every noise level: what lies between them, how long it is."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import scipy
from jaxtyping import Float

from dae_theory.diffusion.denoisers import Denoiser, empirical_denoiser
from dae_theory.statistics import log_log_slope
from proofs_checks.claims import FIXED, Claim, Kind, Measured
from proofs_checks.diffusion.exact import heun, noise, sample_each, stored_denoiser
from proofs_checks.mutants import instead

PAIR_COSINE = -0.25
PAIR_DRAWS = 20_000
PAIR_LEVELS = np.geomspace(0.1, 0.003, 4)  # relative to the norm, far below it


def pair_exponent(cosine: float) -> float:
    """Exponent of σ in the share of samples still between two stored images at that cosine.

    Far below the norm the sum of the two units falls like σ^|c| and their difference grows like
    σ^−|c|; one gate closes when the difference exceeds the sum (docs/THEORY.md#two-images).
    """
    return 2 * abs(cosine)


@dataclass(frozen=True)
class StoredPair:
    """The net that stores two images, and the formula for what it samples.

    Attributes:
      seeds: of PAIR_DRAWS samples each.
      stored: the net that stores given images.
      exponent: of σ in the share of samples between two images, from their cosine.
    """

    seeds: tuple[int, ...]
    stored: Callable[[np.ndarray], Denoiser] = stored_denoiser
    exponent: Callable[[float], float] = pair_exponent


def pair(cosine: float) -> Float[np.ndarray, "2 2"]:
    """Two unit vectors in the plane at a cosine."""
    return np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]])


def sample_pair(
    e: StoredPair, cosine: float, schedules_RT: Float[np.ndarray, "R T"]
) -> Float[np.ndarray, "R S M 2"]:
    """Samples of the net that stores a `pair`, from noise of a schedule's first level."""
    with jax.enable_x64(True):
        denoiser = e.stored(pair(cosine))
        noise_ND = noise(e.seeds, PAIR_DRAWS, 2)
        values_R = np.zeros(len(schedules_RT))
        found = sample_each(heun, lambda _: denoiser, values_R, noise_ND, schedules_RT)
    return found.reshape(len(schedules_RT), len(e.seeds), PAIR_DRAWS, 2)


def lengths(e: StoredPair) -> Measured:
    """Kolmogorov distance of the samples' coordinate along ±x, over ‖x‖, to a standard normal."""
    length_SM = sample_pair(e, -1.0, np.geomspace(50.0, 1e-3, 120)[None])[0, ..., 0]
    distance_S = np.array([scipy.stats.kstest(one_M, "norm").statistic for one_M in length_SM])
    return Measured(
        float(np.std(length_SM)),
        1.0,
        np.sqrt(PAIR_DRAWS) * distance_S,
        e.seeds,
        "standard deviation of the length; error: √M times the Kolmogorov distance",
    )


def competition(e: StoredPair) -> Measured:
    """Exponent of σ in the share of samples on which both gates of a pair are open."""
    schedules_RT = np.stack([np.geomspace(2.0, last, 60) for last in PAIR_LEVELS])
    samples_RSM2 = sample_pair(e, PAIR_COSINE, schedules_RT)
    between_RS = np.mean(np.all(samples_RSM2 @ pair(PAIR_COSINE).T > 0, axis=-1), axis=-1)
    # A share of 0 has no logarithm, and must not count as a slope either.
    slopes = np.array([log_log_slope(PAIR_LEVELS, share_R + 1e-9) for share_R in between_RS.T])
    predicted = e.exponent(PAIR_COSINE)
    return Measured(
        float(np.mean(slopes)),
        predicted,
        slopes - predicted,
        e.seeds,
        f"two unit vectors at cosine {PAIR_COSINE}; σ {PAIR_LEVELS[0]} .. "
        f"{PAIR_LEVELS[-1]}; {PAIR_DRAWS} samples a seed",
        signed=True,
    )


EMPIRICAL = instead("f_emp for the net", "stored", empirical_denoiser)

CLAIMS = (
    Claim(
        id="diffusion/lengths",
        statement="The net that stores x and −x samples ξx, ξ a standard normal number.",
        source="docs/THEORY.md#homogeneity",
        part="pair",
        measure=lengths,
        tolerance=1.95,
        mutants=(
            EMPIRICAL,
            instead("images 10% longer", "stored", lambda x_ND: stored_denoiser(1.1 * x_ND)),
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="diffusion/between",
        statement="The share of samples between two images at cosine c < 0 falls like σ^(2|c|).",
        source="docs/THEORY.md#two-images",
        part="pair",
        measure=competition,
        tolerance=0.05,
        mutants=(
            instead("σ^|c|", "exponent", abs),
            instead("σ^(1−|c|)", "exponent", lambda cosine: 1 - abs(cosine)),
            EMPIRICAL,
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
)
