"""Denoising errors of ReLU nets, of classical denoisers, and of the exact one of a mixture."""

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dae_theory.diffusion.denoisers import Denoiser, DenoisingErrors, mixture_denoiser
from dae_theory.theory.closed_forms import predict_memorization
from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant, derived
from proofs_checks.diffusion.relu_denoisers import same_for_all
from proofs_checks.diffusion.relu_generalizing import MEMORIZING_NETS, OUTNUMBERED
from proofs_checks.diffusion.relu_sampling import ERRORS, GENERALIZING, ReluSampling, separated
from proofs_checks.monte_carlo import TRAINED_MARGIN

EXACT_ERROR = "many/exact/test"


def held_out_excess(e: ReluSampling) -> Measured:
    """Excess of the error on held-out samples over that on training samples, all levels summed."""

    def excess(name: str) -> Float[np.ndarray, " S"]:
        train, test = (e.errors(f"{name}/{on}").mean.sum(axis=1) for on in ("train", "test"))
        return test / train - 1

    excess_KS = np.stack([excess(name) for name in GENERALIZING])
    return Measured(
        float(np.mean(excess_KS)),
        0.0,
        np.max(np.abs(excess_KS), axis=0),
        e.seeds,
        "error on held-out over training samples, less 1; same nets on few samples: {few:.2f}",
        details={"few": float(np.mean(excess("few/set")))},
    )


def stored_error(e: ReluSampling) -> Measured:
    """Error of the weights (5) on the samples they store, by noise draws beside the formula."""
    task = e.task("few")
    square_N = np.sum(task.x**2, axis=1)
    predictions = [predict_memorization(task.x, sigma, task.lam) for sigma in task.levels]
    open_L = np.array([p.margin >= TRAINED_MARGIN for p in predictions])
    predicted_L = np.array(
        [np.mean((1 - p.gains) ** 2 * square_N + (p.gains * p.sigma) ** 2) for p in predictions]
    )[open_L]
    measured_L = e.errors("few/closed/train").mean[0, open_L]
    trained = np.mean(e.errors("few/set/train").mean[:, open_L] / predicted_L)
    return Measured(
        float(np.mean(measured_L)),
        float(np.mean(predicted_L)),
        np.array([np.max(np.abs(measured_L / predicted_L - 1))]),
        note=f"at the levels with z >= {TRAINED_MARGIN:g}, {{open:.1f}} of {len(open_L)}, worst "
        "relative error; trained nets: {trained:.2f} times that",
        details={"open": float(np.sum(open_L)), "trained": float(trained)},
    )


def below_exact(e: ReluSampling) -> Measured:
    """How far any denoiser's error falls below that of the exact one, in standard errors."""
    floor = e.errors(EXACT_ERROR).mean
    names = [name for name in ERRORS if name.endswith("/test") and "/exact/" not in name]
    others = [e.errors(name) for name in names]
    below = [np.max((floor - found.mean) / found.standard_error) for found in others]
    return Measured(
        min(float(np.mean(found.mean / floor)) for found in others),
        1.0,
        np.array([max(0.0, float(np.max(below)))]),
        note="times the exact error, mean over σ, of the nearest to it; error in standard errors",
    )


def errors_instead(
    target: str, errors: Callable[[ReluSampling], DenoisingErrors]
) -> Callable[[ReluSampling], ReluSampling]:
    """Other denoising errors under a name."""

    def apply(e: ReluSampling) -> ReluSampling:
        return replace(e, errors=lambda name: errors(e) if name == target else e.errors(name))

    return apply


def stored_error_of(name: str) -> Callable[[ReluSampling], ReluSampling]:
    """The errors of other denoisers for those of the weights (5)."""
    return errors_instead("few/closed/train", lambda e: e.errors(name))


def floor_of(scale: float, mean_factor: float) -> Callable[[ReluSampling], ReluSampling]:
    """The exact denoiser called with another σ, or for a mixture with other means."""

    def errors(e: ReluSampling) -> DenoisingErrors:
        mixture, task = e.nets.mixture, e.task("many")
        parts = (mean_factor * mixture.means, mixture.covs, mixture.priors)
        return same_for_all(called_with(scale), parts, (0,)).errors(task.held_out, task.levels)

    return errors_instead(EXACT_ERROR, errors)


@functools.cache  # one program for all data sets
def called_with(scale: float) -> Callable[[tuple], Denoiser]:
    """The exact denoiser of a mixture of given parts, called with ``scale`` times σ."""

    def make(parts: tuple) -> Denoiser:
        exact = mixture_denoiser(*parts)
        return lambda y_MD, sigma: exact(y_MD, scale * sigma)

    return make


CLAIMS = (
    Claim(
        id="diffusion/held-out-error",
        statement="These nets denoise held-out samples as well as training samples.",
        source="docs/THEORY.md#cor-3.3",
        part="relu",
        requires=(OUTNUMBERED,),
        measure=held_out_excess,
        tolerance=0.25,
        mutants=(MEMORIZING_NETS,),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="diffusion/stored-error",
        statement="The error of the weights (5) themselves on their samples is (1−m)²‖x‖² + m²σ²,"
        " not the 0 of f_emp.",
        source="docs/THEORY.md#eq-5",
        part="relu",
        requires=separated("few"),
        measure=stored_error,
        tolerance=0.1,
        mutants=(
            Mutant("f_emp for the net", stored_error_of("few/empirical/train")),
            Mutant("nets of many samples", stored_error_of("many/set/train")),
            Mutant("one Gaussian", stored_error_of("few/gaussian/train")),
        ),
        kind=Kind.EXPLORATORY,
    ),
    Claim(
        id="diffusion/floor",
        statement="On held-out samples no denoiser is better than the exact one of the mixture.",
        source="docs/THEORY.md#denoisers",
        part="relu",
        measure=below_exact,
        tolerance=3.0,
        mutants=(
            Mutant("called with 2 σ", floor_of(2.0, 1.0)),
            Mutant("means 20% longer", floor_of(1.0, 1.2)),
        ),
        kind=Kind.EXACT,
        origin=derived("docs/THEORY.md#denoisers"),
    ),
)
