"""Memorization (Corollary 3.2): each sample is its own cluster, and the weights store it."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError
from dae_theory.data.dataset import Dataset
from dae_theory.data.subsets import separable_subset
from dae_theory.relu.optimize import TrainConfig
from proofs_checks.claims import (
    Claim,
    Mutant,
    Verdict,
    unmet,
)
from proofs_checks.config import RunConfig
from proofs_checks.memorize_evidence import (
    Memorization,
    assumptions,
    measure_balance,
    measure_columns,
    measure_coverage,
    measure_empirical_off_data,
    measure_empirical_on_data,
    measure_gains,
    measure_live_units,
    measure_loss_formula,
    measure_margin,
    measure_residual_decay,
    measure_spiky,
    measure_stationary,
    measure_tied,
    measure_trained_loss,
    measure_unseen_map,
    on_nets,
    predict,
    vacuous_or,
    watched,
)
from proofs_checks.memorize_mutants import (
    DOUBLE_SIGMA,
    FORGOTTEN,
    GAIN_OFF,
    HALF_LAMBDA,
    PRINTED_SIGMA,
    UNTRAINED,
    double_lambda,
    other_samples,
    perturbed_column,
    reversed_training,
    scaled,
    unseen_are_training,
    with_formula,
)
from proofs_checks.nets import (
    Progress,
    WeightsFile,
    make_nets,
)
from proofs_checks.probes import (
    EXACT_MARGIN,
    TRAINED_MARGIN,
)

DEFAULT_DATA, DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = "faces", 5, 100, 0.05
DECAY_FRACTION = 0.02  # default nλ, relative to the smallest ‖x‖²
STEPS, LEARNING_RATE = 4000, 3e-3


def build(
    config: RunConfig, dataset: Dataset | None, needs_nets: bool, progress: Progress
) -> Memorization:
    """The experiment a config describes: choose samples, predict, train."""
    n = config.n or DEFAULT_N
    chosen, note = choose_samples(dataset.x, n)
    x_ND = dataset.x[chosen]
    rest = np.setdiff1d(np.arange(len(dataset.x)), chosen)
    sigma = config.sigma or DEFAULT_SIGMA
    lam = config.lam
    if lam is None:
        lam = default_decay(x_ND)
    experiment = Memorization(
        x=x_ND,
        unseen=dataset.x[rest] if len(rest) else gaussian_inputs(x_ND),
        sigma=sigma,
        lam=lam,
        width=config.p or DEFAULT_P,
        prediction=predict(x_ND, sigma, lam, config.p or DEFAULT_P),
        image_shape=dataset.image_shape,
        offset=dataset.offset,
        note=note,
    )
    if not needs_nets or unmet(assumptions(experiment, TRAINED_MARGIN)):
        return experiment
    train_config = TrainConfig(
        width=experiment.width,
        sigma=sigma,
        lam=lam,
        steps=STEPS,
        learning_rate=LEARNING_RATE,
    )
    (nets,) = make_nets([x_ND], train_config, config, "training memorizing nets", progress)
    return replace(experiment, nets=nets)


def from_weights(file: WeightsFile) -> Memorization:
    """The experiment around weights that were trained elsewhere."""
    width = file.nets.w1.shape[-1]
    return Memorization(
        x=file.x,
        unseen=gaussian_inputs(file.x),
        sigma=file.sigma,
        lam=file.lam,
        width=width,
        prediction=predict(file.x, file.sigma, file.lam, width),
        nets=file.nets,
        note="weights from a file; unseen inputs are Gaussian",
    )


def choose_samples(x_ND: Float[np.ndarray, "N D"], n: int) -> tuple[np.ndarray, str]:
    """Indices of ``n`` training samples: the most separable ones, or the first ones if none are."""
    if n >= len(x_ND):
        return np.arange(len(x_ND)), f"all {len(x_ND)} samples"
    try:
        subset = separable_subset(x_ND, n)
    except InputError as error:
        return np.arange(n), f"the first {n} of {len(x_ND)} samples ({error})"
    best = "widest" if subset.optimal else "widest found"
    return subset.indices, (
        f"{n} of {len(x_ND)} samples chosen by search: pairwise negative inner products, {best} "
        "gate margin"
    )


def default_decay(x_ND: Float[np.ndarray, "N D"]) -> float:
    """λ with nλ = DECAY_FRACTION of the smallest ‖x‖²."""
    return DECAY_FRACTION * float(np.min(np.sum(x_ND**2, axis=1))) / len(x_ND)


def gaussian_inputs(x_ND: Float[np.ndarray, "N D"], count: int = 100) -> np.ndarray:
    """Random inputs of the samples' rms norm: nothing a net could have been trained on."""
    rng = np.random.default_rng(0)
    scale = np.sqrt(np.mean(x_ND**2))
    return scale * rng.standard_normal((count, x_ND.shape[1]))


CLAIMS = (
    Claim(
        "sec2/margin",
        "Noise flips the tightest gate of (5) with probability Φ(−z).",
        "THEORY §2",
        vacuous_or(0.5, measure_margin, 4.0),
        (Mutant("columns in random directions", other_samples),),
    ),
    Claim(
        "cor3.2/stationary",
        "The weights (5) are a stationary point of the exact loss.",
        "Corollary 3.2, (5)",
        vacuous_or(EXACT_MARGIN, measure_stationary, 1e-8),
        (
            DOUBLE_SIGMA,
            HALF_LAMBDA,
            PRINTED_SIGMA,
        ),
    ),
    Claim(
        "cor3.2/residual-decay",
        "What (5) misses of stationarity falls like exp(−z²/2), up to a power of z.",
        "Theorem 3.1, remainder",
        vacuous_or(EXACT_MARGIN, measure_residual_decay, 0.1),
        (DOUBLE_SIGMA,),
    ),
    Claim(
        "cor3.2/loss-formula",
        "The loss at (5) is (1/n) Σ [s − (s−nλ)²/(s+σ²)], s = ‖x‖².",
        "Corollary 3.2",
        vacuous_or(EXACT_MARGIN, measure_loss_formula, 1e-8),
        (
            DOUBLE_SIGMA,
            PRINTED_SIGMA,
        ),
    ),
    Claim(
        "cor3.2/columns",
        "From random starts, every live column is collinear with a training sample.",
        "Corollary 3.2, (5)",
        on_nets(measure_columns, 0.01),
        (UNTRAINED,),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/coverage",
        "From random starts, every training sample is stored.",
        "Corollary 3.2, (5)",
        on_nets(measure_coverage, 0.0),
        (FORGOTTEN,),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/gains",
        "The summed gain of the units that store x is (‖x‖²−nλ)/(‖x‖²+σ²).",
        "Corollary 3.2, (5)",
        on_nets(measure_gains, 0.01),
        (GAIN_OFF, Mutant("λ twice as large", with_formula(double_lambda))),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/trained-loss",
        "Trained nets reach the loss of (5).",
        "Corollary 3.2",
        on_nets(measure_trained_loss, 1e-3),
        (GAIN_OFF, FORGOTTEN),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/tied",
        "Encoder and decoder agree, W1 = W2, though trained freely.",
        "Corollary 3.2, (5)",
        on_nets(measure_tied, 0.05),
        (Mutant("one column of W1 moved by 10%", perturbed_column),),
        uses_nets=True,
    ),
    Claim(
        "sec8/balance",
        "At a stationary point with λ > 0, ‖w1_j‖ = ‖w2_j‖ for every unit.",
        "THEORY §8",
        on_nets(measure_balance, 0.01),
        (Mutant("first sample's W1 columns scaled by 1.1", scaled(1.1, 1 / 1.1)),),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/live-units",
        "Training thins the units out towards zero columns: none that died comes back.",
        "Corollary 3.2, zero columns",
        on_nets(measure_live_units, 0.05, watched),
        (Mutant("training run backwards", reversed_training),),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/spiky",
        "The representation of a noised training sample is spiky: one unit holds its energy.",
        "Corollary 3.2",
        on_nets(measure_spiky, 0.01),
        (UNTRAINED,),
        uses_nets=True,
    ),
    Claim(
        "sec13/f-emp-on-data",
        "On noised training samples the net is f_emp, but for shrinkage and passed noise.",
        "THEORY §13",
        on_nets(measure_empirical_on_data, 0.01),
        (UNTRAINED, FORGOTTEN),
        uses_nets=True,
    ),
    Claim(
        "sec13/f-emp-off-data",
        "Off the training samples the net is f_emp, too.",
        "THEORY §13",
        on_nets(measure_empirical_off_data, 0.05),
        (Mutant("inputs opposite to the training samples", unseen_are_training),),
        expected=Verdict.FAILS,
        uses_nets=True,
    ),
    Claim(
        "sec13/unseen-map",
        "On inputs it never saw the net is the map of (5): a cone of the stored samples.",
        "THEORY §13",
        on_nets(measure_unseen_map, 0.05),
        (UNTRAINED, FORGOTTEN),
        uses_nets=True,
    ),
)


def results(experiment: Memorization) -> dict[str, np.ndarray]:
    """Arrays behind the figures."""
    arrays = {
        "x": experiment.x,
        "unseen": experiment.unseen,
        "sigma": np.array(experiment.sigma),
        "lam": np.array(experiment.lam),
    }
    if experiment.image_shape is not None:
        arrays["image_shape"] = np.array(experiment.image_shape)
    if experiment.offset is not None:
        arrays["offset"] = experiment.offset
    if experiment.prediction is not None and experiment.z > 0:
        arrays["residual"] = np.stack(experiment.residual)
    if experiment.nets is not None:
        arrays |= {"w1": experiment.nets.w1, "w2": experiment.nets.w2}
        if experiment.nets.live is not None:
            arrays |= {"live": experiment.nets.live, "steps": experiment.nets.steps}
    return arrays


def settings(experiment: Memorization) -> dict:
    """What was checked, for the report."""
    n, d = experiment.x.shape
    return {
        "n": n,
        "d": d,
        "p": experiment.width,
        "sigma": experiment.sigma,
        "lam": experiment.lam,
        "z": float(experiment.z),
        "seeds": 0 if experiment.nets is None else len(experiment.nets.seeds),
        "data": experiment.note,
    }
