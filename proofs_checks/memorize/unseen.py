"""Is a memorizing net the empirical posterior mean, on the samples it stores and off them?"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.diffusion.denoisers import empirical_denoiser
from dae_theory.relu.model import denoise
from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant, Verdict
from proofs_checks.memorize.experiment import LIVE, Memorization, shrinkage_and_noise
from proofs_checks.memorize.trained import FORGOTTEN
from proofs_checks.monte_carlo import merged_representation, noised, relative_rms
from proofs_checks.mutants import UNTRAINED

MANY_DRAWS = 640  # of noise: the spread of 5 samples to 1%


def distances_to_empirical(
    e: Memorization, clean_MD: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, " S"]:
    """(S,) relative rms distance of each net to f_emp on noised inputs."""
    y = noised(clean_MD, e.problem.sigma)
    each = (_distance_to_empirical(*w, e.problem.x, y, e.problem.sigma) for w in e.nets.pairs)
    return np.array([float(distance) for distance in each])


@jax.jit
def _distance_to_empirical(
    w1_DP: Array, w2_DP: Array, x_ND: Array, y_MD: Array, sigma: float
) -> Array:
    f_emp_MD = empirical_denoiser(x_ND)(y_MD, sigma)
    return jnp.linalg.norm(denoise(w1_DP, w2_DP, y_MD) - f_emp_MD) / jnp.linalg.norm(f_emp_MD)


def empirical_on_data(e: Memorization) -> Measured:
    """Both halves of the distance to f_emp on noised training samples, beside the predicted."""
    x_ND, sigma = e.problem.x, e.problem.sigma
    y = noised(x_ND, sigma, MANY_DRAWS)
    f_emp = np.asarray(empirical_denoiser(x_ND)(y, sigma))
    halves = []
    for w1, w2 in e.nets.pairs:
        distance_RND = (np.asarray(denoise(w1, w2, y)) - f_emp).reshape(MANY_DRAWS, *x_ND.shape)
        mean, spread = np.mean(distance_RND, axis=0), np.std(distance_RND, axis=0)
        halves.append([relative_rms(mean, x_ND), relative_rms(spread, x_ND)])
    halves_S2, predicted_2 = np.array(halves), e.halves(e)
    return Measured(
        float(np.mean(np.linalg.norm(halves_S2, axis=1))),
        float(np.linalg.norm(predicted_2)),
        np.max(np.abs(halves_S2 - predicted_2), axis=1) / shrinkage_and_noise(e).min(),
        e.nets.seeds,
        "rms distance to f_emp, relative: {shrinkage:.4f} shrinkage by λ, {noise:.4f} passed "
        "noise; error: of either, relative to the smaller one",
        details={"shrinkage": np.mean(halves_S2[:, 0]), "noise": np.mean(halves_S2[:, 1])},
    )


def empirical_off_data(e: Memorization) -> Measured:
    """Distance to f_emp on noised inputs that were not trained on."""
    distances_S = distances_to_empirical(e, e.unseen)
    note = "rms distance to f_emp, relative, on noised inputs that were not trained on"
    return Measured(float(np.mean(distances_S)), 0.0, distances_S, e.nets.seeds, note)


def unseen_map(e: Memorization) -> Measured:
    """Distance to the map of (5) on inputs that were not trained on."""
    y = noised(e.unseen, e.problem.sigma, draws=4)
    p = e.prediction
    predicted = np.asarray(denoise(p.w1, p.w2, y))
    errors, active = [], []
    for w1, w2 in e.nets.pairs:
        errors.append(relative_rms(np.asarray(denoise(w1, w2, y)) - predicted, predicted))
        active.append(np.mean(np.sum(merged_representation(w1, w2, y) > 0, axis=1)))
    rms = float(np.sqrt(np.mean(predicted**2) / np.mean(e.unseen**2)))
    return Measured(
        float(np.mean(errors)),
        0.0,
        np.array(errors),
        e.nets.seeds,
        f"distance to Σ_i r_i²x_i(x_iᵀy)_+; {{active:.1f}} of {len(e.problem.x)} stored samples "
        "answer, output {rms:.2f} of the input in rms",
        details={"active": np.mean(active), "rms": rms},
    )


def without(half: int) -> Mutant:
    """The prediction of the distance to f_emp without one of its halves."""

    def halves(e: Memorization) -> Float[np.ndarray, " 2"]:
        return np.where(np.arange(2) == half, 0.0, shrinkage_and_noise(e))

    name = ("shrinkage", "passed noise")[half] + " left out"
    return Mutant(name, lambda e: replace(e, halves=halves))


# For the claim that is expected to fail: nothing but unseen inputs make it fail.
OPPOSITE = Mutant(
    "inputs opposite to the training samples", lambda e: replace(e, unseen=-e.problem.x)
)

CLAIMS = (
    Claim(
        id="unseen/f-emp-on-data",
        statement="On noised training samples the net is f_emp, but for shrinkage and passed "
        "noise.",
        source="docs/THEORY.md#f-emp",
        requires=LIVE,
        measure=empirical_on_data,
        tolerance=0.15,
        mutants=(UNTRAINED, FORGOTTEN, without(0), without(1)),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="unseen/f-emp-off-data",
        statement="Off the training samples the net is f_emp, too.",
        source="docs/THEORY.md#unseen",
        requires=LIVE,
        measure=empirical_off_data,
        tolerance=0.05,
        mutants=(OPPOSITE, UNTRAINED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
        expected=Verdict.FAILS,
    ),
    Claim(
        id="unseen/map",
        statement="On inputs it never saw the net is the map of (5): a cone of the stored samples.",
        source="docs/THEORY.md#unseen",
        requires=LIVE,
        measure=unseen_map,
        tolerance=0.05,
        mutants=(UNTRAINED, FORGOTTEN),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
)
