"""Changes to a memorization experiment on which its claims must fail."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dae_theory.relu.units import live_units
from dae_theory.theory.closed_forms import Prediction, predict_memorization
from dae_theory.weights.compare import assign_blocks
from proofs_checks.claims import Mutant
from proofs_checks.memorize_evidence import Memorization
from proofs_checks.nets import (
    untrained,
    with_scaled_columns,
)


def with_formula(predict: Callable[..., Prediction]) -> Callable[[Memorization], Memorization]:
    """Another formula in the place of (5); the measured gate margin stays."""

    def apply(experiment: Memorization) -> Memorization:
        wrong = predict(experiment.x, experiment.sigma, experiment.lam, experiment.width)
        wrong = replace(wrong, margin=experiment.prediction.margin)
        return replace(experiment, predict=predict, prediction=wrong)

    return apply


def double_sigma(x_ND, sigma, lam, width=None) -> Prediction:
    """(5) with σ twice as large."""
    return predict_memorization(x_ND, 2 * sigma, lam, width)


def half_lambda(x_ND, sigma, lam, width=None) -> Prediction:
    """(5) with λ/2 for λ."""
    return predict_memorization(x_ND, sigma, lam / 2, width)


def double_lambda(x_ND, sigma, lam, width=None) -> Prediction:
    """(5) with λ twice as large."""
    return predict_memorization(x_ND, sigma, 2 * lam, width)


def sigma_for_its_square(x_ND, sigma, lam, width=None) -> Prediction:
    """(‖x‖²−nλ)/(‖x‖²+σ) for the gain."""
    return predict_memorization(x_ND, np.sqrt(sigma), lam, width)


def other_samples(experiment: Memorization) -> Memorization:
    """The prediction's columns are random directions instead of the samples."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(experiment.prediction.w1.shape)
    w *= np.linalg.norm(experiment.prediction.w1, axis=0) / np.linalg.norm(w, axis=0)
    return replace(experiment, prediction=replace(experiment.prediction, w1=w, w2=w))


def _unit_of_first_sample(experiment: Memorization) -> np.ndarray:
    return np.stack(
        [
            assign_blocks(w1, w2, experiment.x, np.arange(len(experiment.x))) == 0
            for w1, w2 in experiment.nets.pairs
        ]
    )


def scaled(encoder: float, decoder: float) -> Callable[[Memorization], Memorization]:
    """Columns that store the first sample scaled."""

    def apply(experiment: Memorization) -> Memorization:
        chosen = _unit_of_first_sample(experiment)
        nets = with_scaled_columns(experiment.nets, chosen, encoder, decoder)
        return replace(experiment, nets=nets)

    return apply


def perturbed_column(experiment: Memorization) -> Memorization:
    """One live column of W1 moved by 10% of its norm in a random direction."""
    rng = np.random.default_rng(0)
    w1 = experiment.nets.w1.copy()
    for net, (a, b) in enumerate(experiment.nets.pairs):
        j = int(np.argmax(live_units(a, b)))
        direction = rng.standard_normal(len(a))
        w1[net, :, j] += 0.1 * np.linalg.norm(a[:, j]) * direction / np.linalg.norm(direction)
    return replace(experiment, nets=replace(experiment.nets, w1=w1))


def with_untrained(experiment: Memorization) -> Memorization:
    """Random columns of the same norms."""
    return replace(experiment, nets=untrained(experiment.nets))


def reversed_training(experiment: Memorization) -> Memorization:
    """The count of live units runs backwards."""
    return replace(experiment, nets=replace(experiment.nets, live=experiment.nets.live[:, ::-1]))


def unseen_are_training(experiment: Memorization) -> Memorization:
    """For the claim that is expected to fail: nothing but unseen inputs make it fail."""
    return replace(experiment, unseen=-experiment.x)


DOUBLE_SIGMA = Mutant("σ twice as large", with_formula(double_sigma))
HALF_LAMBDA = Mutant("λ/2 for λ", with_formula(half_lambda))
PRINTED_SIGMA = Mutant("σ for σ²", with_formula(sigma_for_its_square))
FORGOTTEN = Mutant("first sample forgotten", scaled(0.0, 0.0))
UNTRAINED = Mutant("random columns of the same norms", with_untrained)
GAIN_OFF = Mutant("first sample's units scaled by 1.1", scaled(1.1, 1.1))
