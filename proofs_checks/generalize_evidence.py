"""Measurements behind the generalization claims: Theorem 3.1 and Corollary 3.3."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from dae_theory.data.mixtures import Mixture
from dae_theory.diffusion.denoisers import empirical_denoiser, mixture_denoiser
from dae_theory.relu.model import denoise
from dae_theory.theory.closed_forms import (
    Prediction,
    linear_test_loss,
    predict_blocks,
    predict_generalization,
)
from dae_theory.weights.compare import Comparison
from proofs_checks.blocks import (
    BlockExperiment,
    at_margin,
    gate_share,
    kept_comparisons,
    predict_on,
    seeds_that_follow,
)
from proofs_checks.claims import (
    Assumption,
    flip_weight,
    log_log_slope,
)
from proofs_checks.nets import Nets
from proofs_checks.probes import (
    RESIDUAL_MARGINS,
    exact_loss_value,
    merged_statistics,
    noised,
    relative_gradient,
    relative_rms,
    residual_evidence,
)

FRESH = 3000  # fresh samples for test losses
MANY = 20_000  # samples that stand for infinitely many
RATE_SIZES = (800, 1600, 3200, 6400, 12_800, 25_600)
RATE_SEEDS = tuple(range(8))


def _spectra(mixture: Mixture):
    """Prior and falling eigenvalues of S_k = μ_kμ_kᵀ + Σ_k for each cluster."""
    for mean, cov, prior in zip(mixture.means, mixture.covs, mixture.priors, strict=True):
        values = np.linalg.eigvalsh(np.outer(mean, mean) + cov)[::-1]
        yield prior, np.clip(values, 0, None)


def limit_test_loss(mixture: Mixture, widths, sigma: float) -> float:
    """Equation (7): Σ_k ρ_k [Σ_{j≤p_k} e σ²/(e+σ²) + Σ_{j>p_k} e], e eigenvalues of S_k."""
    return float(
        sum(
            prior * (np.sum(e[:width] * sigma**2 / (e[:width] + sigma**2)) + e[width:].sum())
            for (prior, e), width in zip(_spectra(mixture), widths, strict=True)
        )
    )


def printed_test_loss(mixture: Mixture, widths, sigma: float) -> float:
    """The paper's first term as printed, e σ⁴/(e+σ²)²: the bias part alone (THEORY.md §5)."""
    return float(
        sum(
            prior * (np.sum(e[:width] * sigma**4 / (e[:width] + sigma**2) ** 2) + e[width:].sum())
            for (prior, e), width in zip(_spectra(mixture), widths, strict=True)
        )
    )


@dataclass(frozen=True, kw_only=True)
class Generalization(BlockExperiment):
    """A generalization experiment.

    ``mixture`` is the distribution the data came from, None when it is unknown. Formulas under
    test, besides ``predict``: ``predict_limit`` (6), ``test_loss_limit`` (7), ``linear_loss`` the
    test loss of a linear map. Nets, besides ``nets``: ``halves`` on two disjoint halves,
    ``memorizing`` on ``exemplars``, one sample per cluster, with the same optimizer, σ, λ and
    width.
    """

    mixture: Mixture | None
    predict_limit: Callable[..., Prediction] = predict_generalization
    test_loss_limit: Callable[..., float] = limit_test_loss
    linear_loss: Callable[..., float] = linear_test_loss
    halves: tuple[Nets, Nets] | None = None
    memorizing: Nets | None = None
    exemplars: Float[np.ndarray, "K D"] | None = None

    @cached_property
    def residual(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gate margins z, flip weights F, relative gradient norms of (4), tight data, σ varied."""
        points = []
        for z in RESIDUAL_MARGINS:
            b = at_margin(self.tight, z)
            p = predict_on(b, self.predict)
            residual = relative_gradient(p.w1, p.w2, b.x, b.sigma, b.lam)
            points.append((predict_on(b).margin, flip_weight(p.w1, b.x, b.sigma), residual))
        return tuple(np.array(points).T)


def known_mixture(experiment: Generalization) -> dict[str, Assumption]:
    """The distribution of the data is known."""
    known = experiment.mixture is not None
    return {"distribution": Assumption(float(known), "known", known)}


def several_directions(experiment: Generalization) -> dict[str, Assumption]:
    """Every block keeps at least two directions; one alone is spiky whatever it stores."""
    fewest = min(int(np.sum(m > 0)) for m in experiment.prediction.gains)
    return {"directions of a block": Assumption(float(fewest), ">= 2", fewest >= 2)}


def with_controls(experiment: Generalization) -> dict[str, Assumption]:
    """Control nets were trained, too."""
    present = experiment.memorizing is not None
    return {"control nets": Assumption(float(present), "trained", present)}


def measure_residual_decay(experiment: Generalization) -> dict:
    """Exponent of what (4) misses of stationarity."""
    return residual_evidence(*experiment.residual)


def measure_trained_blocks(experiment: Generalization) -> dict:
    """Worst relative error of a block operator at its own width."""
    kept = kept_comparisons(experiment)
    errors = np.array([float(np.max(c.operator_errors)) for c in kept])
    return {
        "measured": float(np.mean(errors)),
        "predicted": 0.0,
        "errors": errors,
        "seeds": seeds_that_follow(experiment),
        "note": f"worst block's relative error at its own width; {gate_share(experiment)}",
    }


def measure_trained_loss(experiment: Generalization) -> dict:
    """Relative distance of the loss of trained nets to the predicted one."""
    kept = kept_comparisons(experiment)
    return {
        "measured": float(np.mean([c.loss for c in kept])),
        "predicted": float(np.mean([c.predicted_loss for c in kept])),
        "errors": np.array([c.loss_error for c in kept]),
        "seeds": seeds_that_follow(experiment),
        "note": f"prediction at the measured widths; {gate_share(experiment)}",
    }


def measure_block_structure(experiment: Generalization) -> dict:
    """Share of live units that are active on several clusters."""
    entangled = np.array([c.entangled / max(c.live.sum(), 1) for c in experiment.comparisons])
    return {
        "measured": 1 - float(np.mean(entangled)),
        "predicted": 1.0,
        "errors": entangled,
        "seeds": experiment.nets.seeds,
        "note": f"share of live units; {gate_share(experiment)}",
    }


def operator_distance(a: Prediction, b: Prediction) -> float:
    """Root-mean-square over clusters of ‖M_k − M'_k‖_F/‖M'_k‖_F."""
    distances = [
        np.linalg.norm(a.operator(k) - b.operator(k)) / np.linalg.norm(b.operator(k))
        for k in range(len(b.directions))
    ]
    return float(np.sqrt(np.mean(np.square(distances))))


def rate_curve(experiment: Generalization) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (T,) and distances (S, T) of the blocks of n samples (2) to the population's (6)."""
    b, mixture = experiment.blocks, experiment.mixture
    limit = experiment.predict_limit(
        mixture.means, mixture.covs, mixture.priors, b.widths, b.sigma, b.lam
    )
    distances = np.array(
        [
            [
                operator_distance(
                    experiment.predict(*mixture.sample(1000 + seed, n), b.widths, b.sigma, b.lam),
                    limit,
                )
                for n in RATE_SIZES
            ]
            for seed in RATE_SEEDS
        ]
    )
    return np.array(RATE_SIZES), distances


def measure_population_rate(experiment: Generalization) -> dict:
    """Slope of the distance of (2) to (6) in n, on logarithms."""
    sizes, distances = rate_curve(experiment)
    slopes = np.array([log_log_slope(sizes, row) for row in distances])
    mean_slope = log_log_slope(sizes, np.exp(np.mean(np.log(distances), axis=0)))
    return {
        "measured": mean_slope,
        "predicted": -0.5,
        "errors": np.array([abs(mean_slope + 0.5)]),
        "seeds": RATE_SEEDS,
        "note": f"slope over n = {sizes[0]} … {sizes[-1]}; single seeds {slopes.min():.2f} to "
        f"{slopes.max():.2f}; distance {np.mean(distances[:, -1]):.3f} at n = {sizes[-1]}",
    }


def measure_trained_population(experiment: Generalization) -> dict:
    """Trained blocks and the population's: what sampling explains of their distance."""
    b, mixture = experiment.blocks, experiment.mixture
    errors, measured, predicted = [], [], []
    for (w1, w2), comparison in zip(experiment.nets.pairs, experiment.comparisons, strict=True):
        if comparison.entangled:
            continue
        widths = comparison.widths.tolist()
        limit = experiment.predict_limit(
            mixture.means, mixture.covs, mixture.priors, widths, b.sigma, b.lam
        )
        trained = np.sqrt(
            np.mean(
                [_block_distance(w1, w2, comparison, limit, k) ** 2 for k in range(len(widths))]
            )
        )
        sampling = operator_distance(predict_blocks(b.x, b.labels, widths, b.sigma, b.lam), limit)
        measured.append(trained)
        predicted.append(sampling)
        errors.append(abs(trained - sampling))
    return {
        "measured": float(np.mean(measured)),
        "predicted": float(np.mean(predicted)),
        "errors": np.array(errors),
        "seeds": seeds_that_follow(experiment),
        "note": "relative distance of trained blocks to (6); predicted: that of (2) to (6)",
    }


def _block_distance(w1, w2, comparison: Comparison, limit: Prediction, k: int) -> float:
    unit_P = comparison.blocks == k
    m_DD = w2[:, unit_P] @ w1[:, unit_P].T
    return np.linalg.norm(m_DD - limit.operator(k)) / np.linalg.norm(limit.operator(k))


def fresh_samples(experiment: Generalization) -> tuple[np.ndarray, np.ndarray]:
    """Samples and labels that no net was trained on."""
    return experiment.mixture.sample(2000, FRESH)


def measure_test_loss_exact(experiment: Generalization) -> dict:
    """Test loss of the nets, noise integrated out, and of their blocks as linear maps."""
    x_ND, labels_N = fresh_samples(experiment)
    sigma = experiment.blocks.sigma
    measured, predicted = [], []
    for (w1, w2), comparison in zip(experiment.nets.pairs, experiment.comparisons, strict=True):
        if comparison.entangled:
            continue
        measured.append(exact_loss_value(w1, w2, x_ND, sigma, 0.0))
        total = 0.0
        for k in range(len(comparison.widths)):
            members = x_ND[labels_N == k]
            unit_P = comparison.blocks == k
            m_DD = w2[:, unit_P] @ w1[:, unit_P].T
            moment = members.T @ members / len(members)
            total += len(members) / len(x_ND) * experiment.linear_loss(m_DD, moment, sigma)
        predicted.append(total)
    measured, predicted = np.array(measured), np.array(predicted)
    floor = _ground_truth_loss(experiment, x_ND)
    return {
        "measured": float(np.mean(measured)),
        "predicted": float(np.mean(predicted)),
        "errors": np.abs(measured - predicted) / predicted,
        "seeds": seeds_that_follow(experiment),
        "note": f"{FRESH} fresh samples; f_gt itself loses {floor:.5f}",
    }


def _ground_truth_loss(experiment: Generalization, x_ND: np.ndarray) -> float:
    mixture, sigma = experiment.mixture, experiment.blocks.sigma
    y = noised(x_ND, sigma, draws=4)
    f_gt = mixture_denoiser(mixture.means, mixture.covs, mixture.priors)
    residual = np.asarray(f_gt(y, sigma)) - np.tile(x_ND, (4, 1))
    return float(np.mean(np.sum(residual**2, axis=1)))


def measure_test_loss_limit(experiment: Generalization) -> dict:
    """Monte Carlo test loss of the blocks of many samples at tiny λ, against (7)."""
    b, mixture = experiment.blocks, experiment.mixture
    predicted = experiment.test_loss_limit(mixture, b.widths, b.sigma)
    losses = []
    for seed in RATE_SEEDS:
        p = experiment.predict(*mixture.sample(3000 + seed, MANY), b.widths, b.sigma, 1e-9)
        x_ND, labels_N = mixture.sample(4000 + seed, MANY)
        y = x_ND + b.sigma * np.random.default_rng(seed).standard_normal(x_ND.shape)
        residual = np.concatenate(
            [y[labels_N == k] @ p.operator(k) - x_ND[labels_N == k] for k in range(len(b.widths))]
        )
        losses.append(float(np.mean(np.sum(residual**2, axis=1))))
    return {
        "measured": float(np.mean(losses)),
        "predicted": predicted,
        "errors": np.abs(np.array(losses) - predicted) / predicted,
        "seeds": RATE_SEEDS,
        "note": f"n = {MANY}, λ = 1e-9; loss on as many fresh noisy samples by Monte Carlo",
    }


def effective_units(nets: Nets, x_ND: np.ndarray, sigma: float) -> np.ndarray:
    """(S,) mean participation ratio of noised samples, collinear units merged, for each net."""
    statistics = merged_statistics(nets, x_ND, sigma)
    return np.array([np.nanmean(s["participation_ratio"]) for s in statistics])


def measure_unseen_units(experiment: Generalization) -> dict:
    """Effective units on fresh samples, beside those on the training samples."""
    x_ND, _ = fresh_samples(experiment)
    sigma = experiment.blocks.sigma
    seen = effective_units(experiment.nets, experiment.blocks.x, sigma)
    fresh = effective_units(experiment.nets, x_ND, sigma)
    return {
        "measured": float(np.mean(fresh)),
        "predicted": float(np.mean(seen)),
        "errors": np.abs(fresh / seen - 1),
        "seeds": experiment.nets.seeds,
        "note": "effective units, collinear ones merged; predicted: on the training samples",
    }


def measure_balanced(experiment: Generalization) -> dict:
    """Effective units of memorizing nets relative to those of generalizing ones."""
    b = experiment.blocks
    generalizing = effective_units(experiment.nets, b.x, b.sigma)
    memorizing = effective_units(experiment.memorizing, experiment.exemplars, b.sigma)
    (theory,) = effective_units(
        Nets(experiment.prediction.w1[None], experiment.prediction.w2[None], (), "theory"),
        b.x,
        b.sigma,
    )
    return {
        "measured": float(np.mean(generalizing)),
        "predicted": float(theory),
        "errors": memorizing / generalizing,
        "seeds": experiment.nets.seeds,
        "note": "effective units (collinear ones merged); the error is that of memorizing nets, "
        f"{np.mean(memorizing):.2f}, relative to it; same optimizer, σ, λ, p",
    }


def measure_closer_to_truth(experiment: Generalization) -> dict:
    """Distance of the nets to f_gt relative to that to f_emp."""
    x_ND, _ = fresh_samples(experiment)
    b, mixture = experiment.blocks, experiment.mixture
    y = noised(x_ND, b.sigma, draws=1)
    f_gt = np.asarray(mixture_denoiser(mixture.means, mixture.covs, mixture.priors)(y, b.sigma))
    f_emp = np.asarray(empirical_denoiser(b.x)(y, b.sigma))
    outputs = [np.asarray(denoise(w1, w2, y)) for w1, w2 in experiment.nets.pairs]
    to_truth = np.array([relative_rms(f - f_gt, f_gt) for f in outputs])
    to_empirical = np.array([relative_rms(f - f_emp, f_emp) for f in outputs])
    return {
        "measured": float(np.mean(to_truth)),
        "predicted": 0.0,
        "errors": to_truth / to_empirical,
        "seeds": experiment.nets.seeds,
        "note": "rms distance to f_gt on fresh noised samples; the error is its ratio to that to "
        f"f_emp, {np.mean(to_empirical):.3f}",
    }


def measure_halves_agree(experiment: Generalization) -> dict:
    """Distance between nets trained on disjoint halves."""
    x_ND, labels_N = fresh_samples(experiment)
    b = experiment.blocks
    y = noised(x_ND, b.sigma, draws=1)
    errors = []
    for (a1, a2), (b1, b2) in zip(*(nets.pairs for nets in experiment.halves), strict=True):
        f_a, f_b = np.asarray(denoise(a1, a2, y)), np.asarray(denoise(b1, b2, y))
        errors.append(relative_rms(f_a - f_b, f_a))
    p_a, p_b = (
        predict_blocks(b.x[i::2], b.labels[i::2], b.widths, b.sigma, b.lam) for i in range(2)
    )
    predicted = [
        np.linalg.norm(y[labels_N == k] @ (p_a.operator(k) - p_b.operator(k))) ** 2
        for k in range(len(b.widths))
    ]
    scale = sum(
        np.linalg.norm(y[labels_N == k] @ p_a.operator(k)) ** 2 for k in range(len(b.widths))
    )
    return {
        "measured": float(np.mean(errors)),
        "predicted": float(np.sqrt(sum(predicted) / scale)),
        "errors": np.array(errors),
        "seeds": experiment.nets.seeds,
        "note": "rms difference of nets trained on disjoint halves; predicted: that of their (2)",
    }
