"""Is a memorizing net the empirical posterior mean, on the samples it stores and off them?"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dae_theory.diffusion.denoisers import empirical_denoiser
from dae_theory.relu.model import denoise
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Verdict
from proofs_checks.memorize.experiment import LIVE, Memorization
from proofs_checks.memorize.trained import FORGOTTEN
from proofs_checks.monte_carlo import merged_representation, noised, relative_rms
from proofs_checks.mutants import UNTRAINED


def distances_to_empirical(
    e: Memorization, clean_MD: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, " S"]:
    """(S,) relative rms distance of each net to f_emp on noised inputs."""
    y = noised(clean_MD, e.problem.sigma)
    f_emp = np.asarray(empirical_denoiser(e.problem.x)(y, e.problem.sigma))
    outputs = (np.asarray(denoise(w1, w2, y)) for w1, w2 in e.nets.pairs)
    return np.array([relative_rms(output - f_emp, f_emp) for output in outputs])


def empirical_on_data(e: Memorization) -> Measured:
    """Distance to f_emp on noised training samples, beside the predicted one."""
    distances_S = distances_to_empirical(e, e.problem.x)
    gains, square = e.prediction.gains, np.sum(e.problem.x**2, axis=1)
    expected = np.mean((1 - gains) ** 2 * square + gains**2 * e.problem.sigma**2)
    predicted = float(np.sqrt(expected / np.mean(square)))
    return Measured(
        float(np.mean(distances_S)),
        predicted,
        np.abs(distances_S - predicted),
        e.nets.seeds,
        "rms distance to f_emp, relative; predicted: shrinkage by λ, passed noise",
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
    share = float(np.sqrt(np.mean(predicted**2) / np.mean(e.unseen**2)))
    return Measured(
        float(np.mean(errors)),
        0.0,
        np.array(errors),
        e.nets.seeds,
        f"distance to Σ_i r_i²x_i(x_iᵀy)_+; {np.mean(active):.1f} of {len(e.problem.x)} "
        f"stored samples answer, output {share:.2f} of the input in rms",
    )


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
        tolerance=0.01,
        mutants=(UNTRAINED, FORGOTTEN),
        kind=Kind.CONFIRMATORY,
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
    ),
)
