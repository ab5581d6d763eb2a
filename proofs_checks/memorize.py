"""Memorization (Corollary 3.2): each sample is its own cluster, and the weights store it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from dae_theory.compare import Comparison, assign_blocks, collinear_groups, compare_weights
from dae_theory.data import Dataset
from dae_theory.denoisers import empirical_denoiser
from dae_theory.loss import exact_loss
from dae_theory.model import denoise, encode
from dae_theory.representation import merge_groups, spikiness
from dae_theory.separability import separability, separable_subset
from dae_theory.solve import gradient_norm
from dae_theory.theory import Prediction, predict_memorization
from dae_theory.train import TrainConfig, live_units
from proofs_checks.claims import (
    Assumption,
    Claim,
    Evidence,
    Mutant,
    Verdict,
    fit_flip_exponent,
    flip_weight,
    measure_or_vacuous,
    unmet,
)
from proofs_checks.config import RunConfig
from proofs_checks.nets import (
    Nets,
    Progress,
    WeightsFile,
    make_nets,
    untrained,
    with_scaled_columns,
)

DEFAULT_DATA, DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = "faces", 5, 100, 0.05
DECAY_FRACTION = 0.02  # default nλ, relative to the smallest ‖x‖²
STEPS, LEARNING_RATE = 4000, 3e-3
EXACT_MARGIN = 6.0  # gate margin from which the closed forms are exact to 1e-8
TRAINED_MARGIN = 2.0  # gate margin from which 1% accuracy can be expected of them
RESIDUAL_MARGINS = np.linspace(4.0, 6.25, 10)  # below, powers of 1/z still count
FLIP_DRAWS = 20_000
DRAWS = 64  # noise draws per sample in Monte Carlo averages


@dataclass(frozen=True)
class Memorization:
    """A memorization experiment.

    ``x`` (N, D) are the training samples, ``unseen`` (M, D) inputs that were never trained on;
    ``predict`` is the formula under test and ``prediction`` its value here, None when there are
    fewer units than samples; ``nets`` is None when no claim needs them.
    """

    x: Float[np.ndarray, "N D"]
    unseen: Float[np.ndarray, "M D"]
    sigma: float
    lam: float
    width: int
    prediction: Prediction | None
    predict: Callable[..., Prediction] = predict_memorization
    nets: Nets | None = None
    image_shape: tuple[int, ...] | None = None
    offset: Float[np.ndarray, " D"] | None = None
    note: str = ""

    @property
    def z(self) -> float:
        """Gate margin of (5)."""
        return -np.inf if self.prediction is None else self.prediction.margin

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Each net beside the prediction."""
        return [compare_weights(w1, w2, self.prediction, self.x) for w1, w2 in self.nets.pairs]


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
        lam = DECAY_FRACTION * float(np.min(np.sum(x_ND**2, axis=1))) / len(x_ND)
    experiment = Memorization(
        x=x_ND,
        unseen=dataset.x[rest] if len(rest) else gaussian_inputs(x_ND),
        sigma=sigma,
        lam=lam,
        width=config.p or DEFAULT_P,
        prediction=_predict(x_ND, sigma, lam, config.p or DEFAULT_P),
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
        prediction=_predict(file.x, file.sigma, file.lam, width),
        nets=file.nets,
        note="weights from a file; unseen inputs are Gaussian",
    )


def choose_samples(x_ND: Float[np.ndarray, "N D"], n: int) -> tuple[np.ndarray, str]:
    """Indices of ``n`` training samples: the most separable ones, or the first ones if none are."""
    if n >= len(x_ND):
        return np.arange(len(x_ND)), f"all {len(x_ND)} samples"
    try:
        subset = separable_subset(x_ND, n)
    except ValueError as error:
        return np.arange(n), f"the first {n} of {len(x_ND)} samples ({error})"
    best = "widest" if subset.optimal else "widest found"
    return subset.indices, (
        f"{n} of {len(x_ND)} samples chosen by search: pairwise negative inner products, {best} "
        "gate margin"
    )


def gaussian_inputs(x_ND: Float[np.ndarray, "N D"], count: int = 100) -> np.ndarray:
    """Random inputs of the samples' rms norm: nothing a net could have been trained on."""
    rng = np.random.default_rng(0)
    scale = np.sqrt(np.mean(x_ND**2))
    return scale * rng.standard_normal((count, x_ND.shape[1]))


def _predict(x_ND, sigma: float, lam: float, width: int) -> Prediction | None:
    return predict_memorization(x_ND, sigma, lam, width) if width >= len(x_ND) else None


def assumptions(experiment: Memorization, margin: float) -> dict[str, Assumption]:
    """Measured assumptions of Corollary 3.2; ``margin`` is the gate margin the claim needs."""
    n = len(experiment.x)
    beta = separability(experiment.x, np.arange(n)).beta
    shrinkage = n * experiment.lam / float(np.min(np.sum(experiment.x**2, axis=1)))
    return {
        "beta": Assumption(beta, "< 0", beta < 0),
        "gate margin z": Assumption(experiment.z, f">= {margin:g}", experiment.z >= margin),
        "n*lambda/min|x|^2": Assumption(shrinkage, "< 1", shrinkage < 1),
        "p/n": Assumption(experiment.width / n, ">= 1", experiment.width >= n),
    }


def _vacuous_or(
    margin: float,
    measure: Callable[[Memorization], dict],
    tolerance: float,
    *extra: Callable[[Memorization], dict[str, Assumption]],
) -> Callable[[Memorization], Evidence]:
    """A check that measures only where the assumptions hold."""

    def check(experiment: Memorization) -> Evidence:
        return measure_or_vacuous(
            experiment, assumptions(experiment, margin), measure, tolerance, extra
        )

    return check


def _over_nets(experiment: Memorization, error_of: Callable[[Comparison], float]) -> dict:
    errors = np.array([error_of(comparison) for comparison in experiment.comparisons])
    return {"errors": errors, "seeds": experiment.nets.seeds}


def noised(x_ND: Float[np.ndarray, "N D"], sigma: float, draws: int = DRAWS) -> np.ndarray:
    """``draws`` noisy copies of each sample, (draws·N, D)."""
    rng = np.random.default_rng(0)
    copies = np.tile(x_ND, (draws, 1))
    return copies + sigma * rng.standard_normal(copies.shape)


def relative_rms(difference: np.ndarray, reference: np.ndarray) -> float:
    """Root-mean-square of a difference, relative to that of the reference."""
    return float(np.sqrt(np.mean(difference**2) / np.mean(reference**2)))


# --- the prediction itself -------------------------------------------------------------------


def _margin(experiment: Memorization) -> dict:
    """Frequency with which noise flips the tightest gate, at the σ where z = 2."""
    w1, labels, blocks = (
        getattr(experiment.prediction, name) for name in ("w1", "labels", "blocks")
    )
    live = blocks >= 0
    u = w1[:, live] / np.linalg.norm(w1[:, live], axis=0)
    sign = np.where(labels[:, None] == blocks[None, live], 1.0, -1.0)
    i, j = np.unravel_index(np.argmin(sign * (experiment.x @ u)), sign.shape)
    y = noised(experiment.x[i : i + 1], experiment.sigma * experiment.z / 2, FLIP_DRAWS)
    flips = float(np.mean(sign[i, j] * (y @ u[:, j]) < 0))
    predicted = float(norm.cdf(-2))
    standard_error = np.sqrt(predicted * (1 - predicted) / FLIP_DRAWS)
    return {
        "measured": flips,
        "predicted": predicted,
        "errors": np.array([abs(flips - predicted) / standard_error]),
        "note": f"error in standard errors of {FLIP_DRAWS} draws; here z={experiment.z:.2f}",
    }


def _stationary(experiment: Memorization) -> dict:
    p = experiment.prediction
    gradient = gradient_norm(p.w1, p.w2, experiment.x, experiment.sigma, experiment.lam)
    relative = gradient / np.mean(np.sum(experiment.x**2, axis=1))
    return {
        "measured": relative,
        "predicted": 0.0,
        "errors": np.array([relative]),
        "note": "‖∇L‖ at (5), relative to the mean of ‖x‖²",
    }


def residual_curve(experiment: Memorization) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gate margins z, flip weights F and relative gradient norms of (5) as σ varies."""
    square = np.mean(np.sum(experiment.x**2, axis=1))
    points = []
    for z in RESIDUAL_MARGINS:
        sigma = experiment.sigma * experiment.z / z
        p = experiment.predict(experiment.x, sigma, experiment.lam)
        gradient = gradient_norm(p.w1, p.w2, experiment.x, sigma, experiment.lam)
        points.append((z, flip_weight(p.w1, experiment.x, sigma), gradient / square))
    return tuple(np.array(points).T)


def _residual_decay(experiment: Memorization) -> dict:
    return residual_evidence(*residual_curve(experiment))


def residual_evidence(z: np.ndarray, flips: np.ndarray, residual: np.ndarray) -> dict:
    """The exponent of the residual, beside the 1 that the theory predicts."""
    kappa = fit_flip_exponent(z, flips, residual)
    return {
        "measured": kappa,
        "predicted": 1.0,
        "errors": np.array([abs(kappa - 1)]),
        "note": f"κ of ‖∇L‖ = C z^b F^κ, F = Σ exp(−z_ij²/2) over gates; z from {z[0]:.2f} to "
        f"{z[-1]:.2f} by σ",
    }


def _loss_formula(experiment: Memorization) -> dict:
    p = experiment.prediction
    with jax.enable_x64(True):
        loss = float(
            jax.jit(exact_loss)(p.w1, p.w2, experiment.x, experiment.sigma, experiment.lam)
        )
    return {
        "measured": loss,
        "predicted": p.loss,
        "errors": np.array([abs(loss - p.loss) / p.loss]),
    }


# --- trained nets against the prediction -----------------------------------------------------


def _columns(experiment: Memorization) -> dict:
    result = _over_nets(experiment, lambda c: 1 - float(np.nanmin(c.cosines)))
    return result | {
        "measured": 1 - float(np.mean(result["errors"])),
        "predicted": 1.0,
        "note": "worst cosine of a live column of W1 or W2 with its training sample",
    }


def _coverage(experiment: Memorization) -> dict:
    result = _over_nets(experiment, lambda c: float(np.mean(~c.stored)))
    return result | {
        "measured": 1 - float(np.mean(result["errors"])),
        "predicted": 1.0,
        "note": "share of training samples that some live unit stores",
    }


def _gains(experiment: Memorization) -> dict:
    comparisons = experiment.comparisons
    return {
        "measured": float(np.mean([np.concatenate(c.gains) for c in comparisons])),
        "predicted": float(np.mean(experiment.prediction.gains)),
        "errors": np.array([float(np.max(c.gain_errors)) for c in comparisons]),
        "seeds": experiment.nets.seeds,
        "note": "summed over collinear units; the error is the worst sample's",
    }


def _trained_loss(experiment: Memorization) -> dict:
    comparisons = experiment.comparisons
    return {
        "measured": float(np.mean([c.loss for c in comparisons])),
        "predicted": experiment.prediction.loss,
        "errors": np.array([c.loss_error for c in comparisons]),
        "seeds": experiment.nets.seeds,
    }


def _tied(experiment: Memorization) -> dict:
    result = _over_nets(experiment, lambda c: float(np.nanmax(c.tie_errors)))
    return result | {
        "measured": float(np.mean(result["errors"])),
        "predicted": 0.0,
        "note": "largest ‖w1_j − w2_j‖/‖w1_j‖ of a live unit",
    }


def _balance(experiment: Memorization) -> dict:
    result = _over_nets(experiment, lambda c: float(np.nanmax(c.balance_errors)))
    return result | {
        "measured": float(np.mean(result["errors"])),
        "predicted": 0.0,
        "note": "largest |‖w1_j‖/‖w2_j‖ − 1| of a live unit",
    }


def _live_units(experiment: Memorization) -> dict:
    """How often a unit that had died came back: the rise of the live count above its minimum."""
    live, steps = experiment.nets.live, experiment.nets.steps
    rise = np.max(live - np.minimum.accumulate(live, axis=1), axis=1)
    halved = live <= experiment.width / 2
    reached = halved.any(axis=1)
    half = np.median(steps[halved.argmax(axis=1)][reached]) if reached.any() else np.nan
    speed = f"half of them dead by step {half:.0f} (median)" if reached.any() else "none halved"
    return {
        "measured": float(np.mean(live[:, -1])),
        "predicted": float(len(experiment.x)),
        "errors": rise / experiment.width,
        "seeds": experiment.nets.seeds,
        "note": f"live units at step {steps[-1]}, of {experiment.width}; {np.mean(live[:, 0]):.1f} "
        f"at step {steps[0]}; {speed}; predicted: the sparse minimum; error: share that came back",
    }


def _watched(experiment: Memorization) -> dict[str, Assumption]:
    watched = experiment.nets is not None and experiment.nets.live is not None
    return {"gradient training": Assumption(float(watched), "watched step by step", watched)}


def merged_statistics(
    nets: Nets, x_ND: Float[np.ndarray, "N D"], sigma: float
) -> list[dict[str, np.ndarray]]:
    """Spikiness of each net's representation of noised samples, collinear units merged."""
    y = noised(x_ND, sigma, draws=4)
    return [
        spikiness(merge_groups(np.asarray(encode(w1, y)), collinear_groups(w1, w2)))
        for w1, w2 in nets.pairs
    ]


def _spiky(experiment: Memorization) -> dict:
    statistics = merged_statistics(experiment.nets, experiment.x, experiment.sigma)
    share = np.array([np.mean(np.nan_to_num(s["top1_share"])) for s in statistics])
    raw = [
        spikiness(np.asarray(encode(w1, noised(experiment.x, experiment.sigma, 4))))
        for w1, _ in experiment.nets.pairs
    ]
    units = np.mean([np.nanmean(s["participation_ratio"]) for s in raw])
    std = np.mean([np.mean(s["std"]) for s in raw])
    return {
        "measured": float(np.mean(share)),
        "predicted": 1.0,
        "errors": 1 - share,
        "seeds": experiment.nets.seeds,
        "note": "energy share of the largest unit, collinear units merged; unmerged: "
        f"{units:.1f} effective units of {experiment.width}, std {std:.3f}",
    }


# --- the net as a function -------------------------------------------------------------------


def _distance_to_empirical(experiment: Memorization, clean: np.ndarray) -> np.ndarray:
    y = noised(clean, experiment.sigma)
    f_emp = np.asarray(empirical_denoiser(experiment.x)(y, experiment.sigma))
    return np.array(
        [
            relative_rms(np.asarray(denoise(w1, w2, y)) - f_emp, f_emp)
            for w1, w2 in experiment.nets.pairs
        ]
    )


def _empirical_on_data(experiment: Memorization) -> dict:
    distances = _distance_to_empirical(experiment, experiment.x)
    gains, square = experiment.prediction.gains, np.sum(experiment.x**2, axis=1)
    expected = np.mean((1 - gains) ** 2 * square + gains**2 * experiment.sigma**2)
    predicted = float(np.sqrt(expected / np.mean(square)))
    return {
        "measured": float(np.mean(distances)),
        "predicted": predicted,
        "errors": np.abs(distances - predicted),
        "seeds": experiment.nets.seeds,
        "note": "rms distance to f_emp, relative; predicted: shrinkage by λ, passed noise",
    }


def _empirical_off_data(experiment: Memorization) -> dict:
    distances = _distance_to_empirical(experiment, experiment.unseen)
    return {
        "measured": float(np.mean(distances)),
        "predicted": 0.0,
        "errors": distances,
        "seeds": experiment.nets.seeds,
        "note": "rms distance to f_emp, relative, on noised inputs that were not trained on",
    }


def _unseen_map(experiment: Memorization) -> dict:
    y = noised(experiment.unseen, experiment.sigma, draws=4)
    p = experiment.prediction
    predicted = np.asarray(denoise(p.w1, p.w2, y))
    errors, active = [], []
    for w1, w2 in experiment.nets.pairs:
        errors.append(relative_rms(np.asarray(denoise(w1, w2, y)) - predicted, predicted))
        merged = merge_groups(np.asarray(encode(w1, y)), collinear_groups(w1, w2))
        active.append(np.mean(np.sum(merged > 0, axis=1)))
    share = float(np.sqrt(np.mean(predicted**2) / np.mean(experiment.unseen**2)))
    return {
        "measured": float(np.mean(errors)),
        "predicted": 0.0,
        "errors": np.array(errors),
        "seeds": experiment.nets.seeds,
        "note": f"distance to Σ_i r_i²x_i(x_iᵀy)_+; {np.mean(active):.1f} of {len(experiment.x)} "
        f"stored samples answer, output {share:.2f} of the input in rms",
    }


# --- mutants ---------------------------------------------------------------------------------


def _with_formula(predict: Callable[..., Prediction]) -> Callable[[Memorization], Memorization]:
    """Another formula in the place of (5); the measured gate margin stays."""

    def apply(experiment: Memorization) -> Memorization:
        wrong = predict(experiment.x, experiment.sigma, experiment.lam, experiment.width)
        wrong = replace(wrong, margin=experiment.prediction.margin)
        return replace(experiment, predict=predict, prediction=wrong)

    return apply


def _double_sigma(x_ND, sigma, lam, width=None) -> Prediction:
    return predict_memorization(x_ND, 2 * sigma, lam, width)


def _half_lambda(x_ND, sigma, lam, width=None) -> Prediction:
    return predict_memorization(x_ND, sigma, lam / 2, width)


def _double_lambda(x_ND, sigma, lam, width=None) -> Prediction:
    return predict_memorization(x_ND, sigma, 2 * lam, width)


def _sigma_for_its_square(x_ND, sigma, lam, width=None) -> Prediction:
    """(‖x‖²−nλ)/(‖x‖²+σ) for the gain."""
    return predict_memorization(x_ND, np.sqrt(sigma), lam, width)


def _other_samples(experiment: Memorization) -> Memorization:
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


def _scaled(encoder: float, decoder: float) -> Callable[[Memorization], Memorization]:
    """Columns that store the first sample scaled."""

    def apply(experiment: Memorization) -> Memorization:
        chosen = _unit_of_first_sample(experiment)
        nets = with_scaled_columns(experiment.nets, chosen, encoder, decoder)
        return replace(experiment, nets=nets)

    return apply


def _perturbed_column(experiment: Memorization) -> Memorization:
    """One live column of W1 moved by 10% of its norm in a random direction."""
    rng = np.random.default_rng(0)
    w1 = experiment.nets.w1.copy()
    for net, (a, b) in enumerate(experiment.nets.pairs):
        j = int(np.argmax(live_units(a, b)))
        direction = rng.standard_normal(len(a))
        w1[net, :, j] += 0.1 * np.linalg.norm(a[:, j]) * direction / np.linalg.norm(direction)
    return replace(experiment, nets=replace(experiment.nets, w1=w1))


def _untrained(experiment: Memorization) -> Memorization:
    return replace(experiment, nets=untrained(experiment.nets))


def _reversed_training(experiment: Memorization) -> Memorization:
    return replace(experiment, nets=replace(experiment.nets, live=experiment.nets.live[:, ::-1]))


def _unseen_are_training(experiment: Memorization) -> Memorization:
    """For the claim that is expected to fail: nothing but unseen inputs make it fail."""
    return replace(experiment, unseen=-experiment.x)


DOUBLE_SIGMA = Mutant("σ twice as large", _with_formula(_double_sigma))
HALF_LAMBDA = Mutant("λ/2 for λ", _with_formula(_half_lambda))
PRINTED_SIGMA = Mutant("σ for σ²", _with_formula(_sigma_for_its_square))
FORGOTTEN = Mutant("first sample forgotten", _scaled(0.0, 0.0))
UNTRAINED = Mutant("random columns of the same norms", _untrained)
GAIN_OFF = Mutant("first sample's units scaled by 1.1", _scaled(1.1, 1.1))

CLAIMS = (
    Claim(
        "sec2/margin",
        "Noise flips the tightest gate of (5) with probability Φ(−z).",
        "THEORY §2",
        _vacuous_or(0.5, _margin, 4.0),
        (Mutant("columns in random directions", _other_samples),),
    ),
    Claim(
        "cor3.2/stationary",
        "The weights (5) are a stationary point of the exact loss.",
        "Corollary 3.2, (5)",
        _vacuous_or(EXACT_MARGIN, _stationary, 1e-8),
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
        _vacuous_or(EXACT_MARGIN, _residual_decay, 0.1),
        (DOUBLE_SIGMA,),
    ),
    Claim(
        "cor3.2/loss-formula",
        "The loss at (5) is (1/n) Σ [s − (s−nλ)²/(s+σ²)], s = ‖x‖².",
        "Corollary 3.2",
        _vacuous_or(EXACT_MARGIN, _loss_formula, 1e-8),
        (
            DOUBLE_SIGMA,
            PRINTED_SIGMA,
        ),
    ),
    Claim(
        "cor3.2/columns",
        "From random starts, every live column is collinear with a training sample.",
        "Corollary 3.2, (5)",
        _vacuous_or(TRAINED_MARGIN, _columns, 0.01),
        (UNTRAINED,),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/coverage",
        "From random starts, every training sample is stored.",
        "Corollary 3.2, (5)",
        _vacuous_or(TRAINED_MARGIN, _coverage, 0.0),
        (FORGOTTEN,),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/gains",
        "The summed gain of the units that store x is (‖x‖²−nλ)/(‖x‖²+σ²).",
        "Corollary 3.2, (5)",
        _vacuous_or(TRAINED_MARGIN, _gains, 0.01),
        (GAIN_OFF, Mutant("λ twice as large", _with_formula(_double_lambda))),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/trained-loss",
        "Trained nets reach the loss of (5).",
        "Corollary 3.2",
        _vacuous_or(TRAINED_MARGIN, _trained_loss, 1e-3),
        (GAIN_OFF, FORGOTTEN),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/tied",
        "Encoder and decoder agree, W1 = W2, though trained freely.",
        "Corollary 3.2, (5)",
        _vacuous_or(TRAINED_MARGIN, _tied, 0.05),
        (Mutant("one column of W1 moved by 10%", _perturbed_column),),
        uses_nets=True,
    ),
    Claim(
        "sec8/balance",
        "At a stationary point with λ > 0, ‖w1_j‖ = ‖w2_j‖ for every unit.",
        "THEORY §8",
        _vacuous_or(TRAINED_MARGIN, _balance, 0.01),
        (Mutant("first sample's W1 columns scaled by 1.1", _scaled(1.1, 1 / 1.1)),),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/live-units",
        "Training thins the units out towards zero columns: none that died comes back.",
        "Corollary 3.2, zero columns",
        _vacuous_or(TRAINED_MARGIN, _live_units, 0.05, _watched),
        (Mutant("training run backwards", _reversed_training),),
        uses_nets=True,
    ),
    Claim(
        "cor3.2/spiky",
        "The representation of a noised training sample is spiky: one unit holds its energy.",
        "Corollary 3.2",
        _vacuous_or(TRAINED_MARGIN, _spiky, 0.01),
        (UNTRAINED,),
        uses_nets=True,
    ),
    Claim(
        "sec13/f-emp-on-data",
        "On noised training samples the net is f_emp, but for shrinkage and passed noise.",
        "THEORY §13",
        _vacuous_or(TRAINED_MARGIN, _empirical_on_data, 0.01),
        (UNTRAINED, FORGOTTEN),
        uses_nets=True,
    ),
    Claim(
        "sec13/f-emp-off-data",
        "Off the training samples the net is f_emp, too.",
        "THEORY §13",
        _vacuous_or(TRAINED_MARGIN, _empirical_off_data, 0.05),
        (Mutant("inputs opposite to the training samples", _unseen_are_training),),
        expected=Verdict.FAILS,
        uses_nets=True,
    ),
    Claim(
        "sec13/unseen-map",
        "On inputs it never saw the net is the map of (5): a cone of the stored samples.",
        "THEORY §13",
        _vacuous_or(TRAINED_MARGIN, _unseen_map, 0.05),
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
        arrays["residual"] = np.stack(residual_curve(experiment))
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
