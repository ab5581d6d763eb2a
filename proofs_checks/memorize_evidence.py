"""Measurements behind the memorization claims: Corollary 3.2 against trained nets."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from dae_theory.diffusion.denoisers import empirical_denoiser
from dae_theory.relu.model import denoise, encode
from dae_theory.relu.units import spikiness
from dae_theory.theory.closed_forms import Prediction, predict_memorization
from dae_theory.theory.separability import separability
from dae_theory.weights.compare import Comparison, compare_weights
from proofs_checks.claims import (
    Assumption,
    Evidence,
    flip_weight,
    measure_or_vacuous,
)
from proofs_checks.nets import Nets
from proofs_checks.probes import (
    RESIDUAL_MARGINS,
    TRAINED_MARGIN,
    exact_loss_value,
    merged_representation,
    merged_statistics,
    noised,
    relative_gradient,
    relative_rms,
    residual_evidence,
)

FLIP_DRAWS = 20_000


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

    @cached_property
    def residual(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gate margins z, flip weights F and relative gradient norms of (5) as σ varies."""
        points = []
        for z in RESIDUAL_MARGINS:
            sigma = self.sigma * self.z / z
            p = self.predict(self.x, sigma, self.lam)
            residual = relative_gradient(p.w1, p.w2, self.x, sigma, self.lam)
            points.append((z, flip_weight(p.w1, self.x, sigma), residual))
        return tuple(np.array(points).T)


def predict(x_ND, sigma: float, lam: float, width: int) -> Prediction | None:
    """(5) for these samples; None when there are fewer units than samples."""
    return predict_memorization(x_ND, sigma, lam, width) if width >= len(x_ND) else None


def assumptions(experiment: Memorization, margin: float) -> dict[str, Assumption]:
    """Measured assumptions of Corollary 3.2; ``margin`` is the gate margin the claim needs."""
    n = len(experiment.x)
    beta = separability(experiment.x, np.arange(n)).beta
    smallest = float(np.min(np.sum(experiment.x**2, axis=1)))
    shrinkage = n * experiment.lam / smallest if smallest > 0 else np.inf
    return {
        "beta": Assumption(beta, "< 0", beta < 0),
        "gate margin z": Assumption(experiment.z, f">= {margin:g}", experiment.z >= margin),
        "n*lambda/min|x|^2": Assumption(shrinkage, "< 1", shrinkage < 1),
        "p/n": Assumption(experiment.width / n, ">= 1", experiment.width >= n),
    }


def vacuous_or(
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


def decayed(experiment: Memorization) -> dict[str, Assumption]:
    """There is weight decay; without it random components of the start are never forgotten."""
    return {"lambda": Assumption(experiment.lam, "> 0", experiment.lam > 0)}


def on_nets(
    measure: Callable[[Memorization], dict],
    tolerance: float,
    *extra: Callable[[Memorization], dict[str, Assumption]],
) -> Callable[[Memorization], Evidence]:
    """A check of trained nets, at the margin and with the decay that it takes."""
    return vacuous_or(TRAINED_MARGIN, measure, tolerance, decayed, *extra)


def _over_nets(experiment: Memorization, error_of: Callable[[Comparison], float]) -> dict:
    errors = np.array([error_of(comparison) for comparison in experiment.comparisons])
    return {"errors": errors, "seeds": experiment.nets.seeds}


def measure_margin(experiment: Memorization) -> dict:
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


def measure_stationary(experiment: Memorization) -> dict:
    """Relative gradient norm at (5)."""
    p = experiment.prediction
    relative = relative_gradient(p.w1, p.w2, experiment.x, experiment.sigma, experiment.lam)
    return {
        "measured": relative,
        "predicted": 0.0,
        "errors": np.array([relative]),
        "note": "‖∇L‖ at (5), relative to the mean of ‖x‖²",
    }


def measure_residual_decay(experiment: Memorization) -> dict:
    """Exponent of what (5) misses of stationarity."""
    return residual_evidence(*experiment.residual)


def measure_loss_formula(experiment: Memorization) -> dict:
    """Exact loss at (5) beside the formula."""
    p = experiment.prediction
    loss = exact_loss_value(p.w1, p.w2, experiment.x, experiment.sigma, experiment.lam)
    return {
        "measured": loss,
        "predicted": p.loss,
        "errors": np.array([abs(loss - p.loss) / p.loss]),
    }


def measure_columns(experiment: Memorization) -> dict:
    """Worst cosine of a live column with its sample."""
    result = _over_nets(experiment, lambda c: 1 - float(np.nanmin(c.cosines)))
    return result | {
        "measured": 1 - float(np.mean(result["errors"])),
        "predicted": 1.0,
        "note": "worst cosine of a live column of W1 or W2 with its training sample",
    }


def measure_coverage(experiment: Memorization) -> dict:
    """Share of samples that no live unit stores."""
    result = _over_nets(experiment, lambda c: float(np.mean(~c.stored)))
    return result | {
        "measured": 1 - float(np.mean(result["errors"])),
        "predicted": 1.0,
        "note": "share of training samples that some live unit stores",
    }


def measure_gains(experiment: Memorization) -> dict:
    """Worst relative error of a summed gain."""
    comparisons = experiment.comparisons
    return {
        "measured": float(np.mean([np.concatenate(c.gains) for c in comparisons])),
        "predicted": float(np.mean(experiment.prediction.gains)),
        "errors": np.array([float(np.max(c.gain_errors)) for c in comparisons]),
        "seeds": experiment.nets.seeds,
        "note": "summed over collinear units; the error is the worst sample's",
    }


def measure_trained_loss(experiment: Memorization) -> dict:
    """Relative distance of the loss of trained nets to the predicted one."""
    comparisons = experiment.comparisons
    return {
        "measured": float(np.mean([c.loss for c in comparisons])),
        "predicted": experiment.prediction.loss,
        "errors": np.array([c.loss_error for c in comparisons]),
        "seeds": experiment.nets.seeds,
    }


def measure_tied(experiment: Memorization) -> dict:
    """Largest difference of a live unit's two columns."""
    result = _over_nets(experiment, lambda c: float(np.nanmax(c.tie_errors)))
    return result | {
        "measured": float(np.mean(result["errors"])),
        "predicted": 0.0,
        "note": "largest ‖w1_j − w2_j‖/‖w1_j‖ of a live unit",
    }


def measure_balance(experiment: Memorization) -> dict:
    """Largest imbalance of the norms of a live unit's two columns."""
    result = _over_nets(experiment, lambda c: float(np.nanmax(c.balance_errors)))
    return result | {
        "measured": float(np.mean(result["errors"])),
        "predicted": 0.0,
        "note": "largest |‖w1_j‖/‖w2_j‖ − 1| of a live unit",
    }


def measure_live_units(experiment: Memorization) -> dict:
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


def watched(experiment: Memorization) -> dict[str, Assumption]:
    """The live units were counted during training."""
    watched = experiment.nets is not None and experiment.nets.live is not None
    return {"gradient training": Assumption(float(watched), "watched step by step", watched)}


def measure_spiky(experiment: Memorization) -> dict:
    """Energy share outside the largest unit, collinear units merged."""
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


def _distance_to_empirical(experiment: Memorization, clean: np.ndarray) -> np.ndarray:
    y = noised(clean, experiment.sigma)
    f_emp = np.asarray(empirical_denoiser(experiment.x)(y, experiment.sigma))
    return np.array(
        [
            relative_rms(np.asarray(denoise(w1, w2, y)) - f_emp, f_emp)
            for w1, w2 in experiment.nets.pairs
        ]
    )


def measure_empirical_on_data(experiment: Memorization) -> dict:
    """Distance to f_emp on noised training samples, beside the predicted one."""
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


def measure_empirical_off_data(experiment: Memorization) -> dict:
    """Distance to f_emp on noised inputs that were not trained on."""
    distances = _distance_to_empirical(experiment, experiment.unseen)
    return {
        "measured": float(np.mean(distances)),
        "predicted": 0.0,
        "errors": distances,
        "seeds": experiment.nets.seeds,
        "note": "rms distance to f_emp, relative, on noised inputs that were not trained on",
    }


def measure_unseen_map(experiment: Memorization) -> dict:
    """Distance to the map of (5) on inputs that were not trained on."""
    y = noised(experiment.unseen, experiment.sigma, draws=4)
    p = experiment.prediction
    predicted = np.asarray(denoise(p.w1, p.w2, y))
    errors, active = [], []
    for w1, w2 in experiment.nets.pairs:
        errors.append(relative_rms(np.asarray(denoise(w1, w2, y)) - predicted, predicted))
        active.append(np.mean(np.sum(merged_representation(w1, w2, y) > 0, axis=1)))
    share = float(np.sqrt(np.mean(predicted**2) / np.mean(experiment.unseen**2)))
    return {
        "measured": float(np.mean(errors)),
        "predicted": 0.0,
        "errors": np.array(errors),
        "seeds": experiment.nets.seeds,
        "note": f"distance to Σ_i r_i²x_i(x_iᵀy)_+; {np.mean(active):.1f} of {len(experiment.x)} "
        f"stored samples answer, output {share:.2f} of the input in rms",
    }
