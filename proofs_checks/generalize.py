"""Generalization (Theorem 3.1, Corollary 3.3): the weights hold the local data statistics."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from dae_theory.compare import Comparison, assign_blocks, compare_weights
from dae_theory.data import Dataset, Mixture, separable_mixture
from dae_theory.denoisers import empirical_denoiser, mixture_denoiser
from dae_theory.errors import InputError
from dae_theory.loss import exact_loss
from dae_theory.model import denoise
from dae_theory.separability import separability, spherical_kmeans
from dae_theory.solve import gradient_norm
from dae_theory.theory import (
    Prediction,
    block_eigenvalues,
    linear_test_loss,
    predict_blocks,
    predict_generalization,
)
from dae_theory.train import TrainConfig
from proofs_checks.claims import (
    Assumption,
    Claim,
    Evidence,
    Mutant,
    flip_weight,
    log_log_slope,
    measure_or_vacuous,
    unmet,
)
from proofs_checks.config import RunConfig
from proofs_checks.memorize import (
    EXACT_MARGIN,
    RESIDUAL_MARGINS,
    TRAINED_MARGIN,
    merged_statistics,
    noised,
    relative_rms,
    residual_evidence,
)
from proofs_checks.nets import (
    Nets,
    Progress,
    WeightsFile,
    make_nets,
    untrained,
    with_scaled_columns,
)

N_CLUSTERS, DIMENSION, RANK, BETA, ALPHA = 3, 32, 3, -0.5, 0.2
DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = 300, 12, 0.05
TIGHT_ALPHA, TIGHT_SIGMA = 0.04, 0.02  # data on which the closed forms are exact
DECAY_FRACTION = 0.1  # default nλ, relative to the smallest eigenvalue a block keeps
STEPS, LEARNING_RATE, INIT_SCALE = 4000, 2e-2, 0.1
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


@dataclass(frozen=True)
class Blocks:
    """Clustered samples with the noise level and decay at which they are looked at."""

    x: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]
    widths: tuple[int, ...]
    sigma: float
    lam: float


@dataclass(frozen=True)
class Generalization:
    """A generalization experiment.

    ``blocks`` are the training data; ``tight`` the data for the exact statements (the same where
    the user brought data); ``mixture`` the distribution they came from, None when it is unknown.
    Formulas under test: ``predict`` (2)-(4), ``predict_limit`` (6), ``test_loss_limit`` (7),
    ``linear_loss`` the test loss of a linear map. Nets: ``nets`` on all samples, ``halves`` on
    two disjoint halves, ``memorizing`` on ``exemplars``, one sample per cluster, with the same
    optimizer, σ, λ and width.
    """

    blocks: Blocks
    tight: Blocks
    mixture: Mixture | None
    predict: Callable[..., Prediction] = predict_blocks
    predict_limit: Callable[..., Prediction] = predict_generalization
    test_loss_limit: Callable[..., float] = limit_test_loss
    linear_loss: Callable[..., float] = linear_test_loss
    nets: Nets | None = None
    halves: tuple[Nets, Nets] | None = None
    memorizing: Nets | None = None
    exemplars: Float[np.ndarray, "K D"] | None = None
    note: str = ""

    @cached_property
    def prediction(self) -> Prediction:
        """(2)-(4) on the training data, at the configured widths."""
        return predict_on(self.blocks, self.predict)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Each net beside (2) at the width that its blocks turned out to have."""
        return compare_at_measured_widths(self.nets, self.blocks, self.predict)

    @cached_property
    def follows_gates(self) -> np.ndarray:
        """(S,) nets all of whose live units are active on one cluster only."""
        return np.array([c.entangled == 0 for c in self.comparisons])


def predict_on(blocks: Blocks, predict: Callable[..., Prediction] = predict_blocks) -> Prediction:
    """(2)-(4) for these blocks."""
    return predict(blocks.x, blocks.labels, blocks.widths, blocks.sigma, blocks.lam)


def compare_at_measured_widths(
    nets: Nets, blocks: Blocks, predict: Callable[..., Prediction]
) -> list[Comparison]:
    """Each net beside (2), block k having as many units as the net's own block k."""
    comparisons = []
    for w1, w2 in nets.pairs:
        blocks_P = assign_blocks(w1, w2, blocks.x, blocks.labels)
        widths = [int(np.sum(blocks_P == k)) for k in range(len(blocks.widths))]
        prediction = predict(blocks.x, blocks.labels, widths, blocks.sigma, blocks.lam)
        comparisons.append(compare_weights(w1, w2, prediction, blocks.x))
    return comparisons


def default_decay(x_ND, labels_N, widths) -> float:
    """λ with nλ = DECAY_FRACTION of the smallest eigenvalue among those the blocks keep."""
    spectra = block_eigenvalues(x_ND, labels_N)
    smallest = min(
        values[min(width, len(values)) - 1]
        for values, width in zip(spectra, widths, strict=True)
        if width and len(values)
    )
    return DECAY_FRACTION * float(smallest) / len(x_ND)


def even_widths(p: int, n_clusters: int) -> tuple[int, ...]:
    """``p`` units spread over the clusters as evenly as possible."""
    return tuple(p // n_clusters + (k < p % n_clusters) for k in range(n_clusters))


def build(
    config: RunConfig, dataset: Dataset | None, needs_nets: bool, progress: Progress
) -> Generalization:
    """The experiment a config describes. ``dataset`` None means the synthetic mixture."""
    n = config.n or DEFAULT_N
    sigma, p = config.sigma or DEFAULT_SIGMA, config.p or DEFAULT_P
    if dataset is None:
        mixture = separable_mixture(N_CLUSTERS, DIMENSION, rank=RANK, beta=BETA, alpha=ALPHA)
        if n < N_CLUSTERS:
            raise InputError(f"n: {N_CLUSTERS} clusters need at least as many samples, got {n}")
        x_ND, labels_N = mixture.sample(0, n)
        note = "synthetic mixture"
    else:
        mixture = None
        x_ND = dataset.x[:n]
        labels_N, note = cluster_labels(x_ND, dataset.labels, n)
    widths = even_widths(p, len(np.unique(labels_N)))
    lam = default_decay(x_ND, labels_N, widths) if config.lam is None else config.lam
    blocks = Blocks(x_ND, labels_N, widths, sigma, lam)
    tight = blocks if mixture is None else tight_blocks(widths)
    experiment = Generalization(blocks=blocks, tight=tight, mixture=mixture, note=note)
    if not needs_nets or unmet(assumptions(blocks, TRAINED_MARGIN)):
        return experiment
    train_config = TrainConfig(
        width=p,
        sigma=sigma,
        lam=lam,
        steps=STEPS,
        learning_rate=LEARNING_RATE,
        init_scale=INIT_SCALE,
    )
    exemplars = x_ND[np.unique(labels_N, return_index=True)[1]]
    data_sets = [x_ND, x_ND[::2], x_ND[1::2], exemplars]
    if len(x_ND) < 2:
        raise InputError("n: two disjoint halves need at least two samples")
    nets, half_a, half_b, memorizing = make_nets(
        data_sets, train_config, config, "training generalizing nets", progress
    )
    return replace(
        experiment,
        nets=nets,
        halves=(half_a, half_b),
        memorizing=memorizing,
        exemplars=exemplars,
    )


def from_weights(file: WeightsFile) -> Generalization:
    """The experiment around weights that were trained elsewhere; labels are found if not given."""
    labels_N, note = cluster_labels(file.x, file.labels, len(file.x))
    n_clusters = len(np.unique(labels_N))
    blocks = Blocks(
        file.x, labels_N, even_widths(file.nets.w1.shape[-1], n_clusters), file.sigma, file.lam
    )
    return Generalization(
        blocks=blocks,
        tight=blocks,
        mixture=None,
        nets=file.nets,
        note=f"weights from a file; {note}",
    )


def cluster_labels(x_ND, labels_N, n: int) -> tuple[np.ndarray, str]:
    """Labels 0 … K−1: the given ones, or N_CLUSTERS clusters found by direction."""
    if labels_N is not None:
        _, relabelled = np.unique(labels_N[:n], return_inverse=True)
        return relabelled, "clusters given by labels"
    k = min(N_CLUSTERS, len(x_ND))
    return spherical_kmeans(x_ND, k), f"{k} clusters found by spherical k-means"


def tight_blocks(widths: tuple[int, ...], n: int = 120) -> Blocks:
    """Tight clusters on which the gate margin makes the closed forms exact."""
    mixture = separable_mixture(
        N_CLUSTERS, DIMENSION, rank=RANK, beta=BETA, alpha=TIGHT_ALPHA, seed=1
    )
    x_ND, labels_N = mixture.sample(1, n)
    lam = default_decay(x_ND, labels_N, widths)
    return Blocks(x_ND, labels_N, widths, TIGHT_SIGMA, lam)


def assumptions(blocks: Blocks, margin: float) -> dict[str, Assumption]:
    """Measured assumptions of Theorem 3.1; ``margin`` is the gate margin the claim needs."""
    alpha, beta = separability(blocks.x, blocks.labels)
    z = predict_on(blocks).margin
    spectra = block_eigenvalues(blocks.x, blocks.labels)
    kept = [
        values[min(width, len(values)) - 1] if width and len(values) else 0.0
        for values, width in zip(spectra, blocks.widths, strict=True)
    ]
    shrinkage = len(blocks.x) * blocks.lam / min(kept) if min(kept) > 0 else np.inf
    return {
        "alpha": Assumption(alpha, "< 1", alpha < 1),
        "beta": Assumption(beta, "< 0", beta < 0),
        "gate margin z": Assumption(z, f">= {margin:g}", z >= margin),
        "n*lambda/min s": Assumption(shrinkage, "< 1", shrinkage < 1),
    }


def vacuous_or(
    margin: float,
    which: str,
    measure: Callable[[Any], dict],
    tolerance: float,
    *extra: Callable[[Any], dict[str, Assumption]],
) -> Callable[[Any], Evidence]:
    """A check that measures only where the assumptions hold, on ``blocks`` or ``tight`` data."""

    def check(experiment) -> Evidence:
        required = assumptions(getattr(experiment, which), margin)
        return measure_or_vacuous(experiment, required, measure, tolerance, extra)

    return check


def _known_mixture(experiment: Generalization) -> dict[str, Assumption]:
    known = experiment.mixture is not None
    return {"distribution": Assumption(float(known), "known", known)}


def _with_controls(experiment: Generalization) -> dict[str, Assumption]:
    present = experiment.memorizing is not None
    return {"control nets": Assumption(float(present), "trained", present)}


def some_follow_gates(experiment) -> dict[str, Assumption]:
    """At least one net keeps each unit to one cluster."""
    share = float(np.mean(experiment.follows_gates))
    return {"nets with one cluster per unit": Assumption(share, "> 0", share > 0)}


# --- the prediction itself -------------------------------------------------------------------


def relative_gradient(prediction: Prediction, blocks: Blocks) -> float:
    """‖∇L‖ at a prediction, relative to the mean of ‖x‖²."""
    gradient = gradient_norm(prediction.w1, prediction.w2, blocks.x, blocks.sigma, blocks.lam)
    return gradient / float(np.mean(np.sum(blocks.x**2, axis=1)))


def stationarity_evidence(experiment) -> dict:
    """Is (4), by the formula under test, stationary on the tight data?"""
    b = experiment.tight
    relative = relative_gradient(predict_on(b, experiment.predict), b)
    return {
        "measured": relative,
        "predicted": 0.0,
        "errors": np.array([relative]),
        "note": "‖∇L‖ of the exact loss, relative to the mean of ‖x‖²; tight clusters",
    }


def at_margin(blocks: Blocks, z: float) -> Blocks:
    """The same samples with σ such that the gate margin of (4) is z.

    Fixed-point iteration: the margin is 1/σ times a factor that σ moves little, by the gains.
    """
    for _ in range(30):
        blocks = replace(blocks, sigma=blocks.sigma * predict_on(blocks).margin / z)
    return blocks


def residual_curve(experiment: Generalization) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gate margins z, flip weights F and relative gradient norms of (4), tight data, σ varied."""
    points = []
    for z in RESIDUAL_MARGINS:
        b = at_margin(experiment.tight, z)
        p = predict_on(b, experiment.predict)
        flips = flip_weight(p.w1, b.x, b.sigma)
        points.append((predict_on(b).margin, flips, relative_gradient(p, b)))
    return tuple(np.array(points).T)


def _residual_decay(experiment: Generalization) -> dict:
    return residual_evidence(*residual_curve(experiment))


def loss_formula_evidence(experiment) -> dict:
    """Is the exact loss at (4) on the tight data what (3) says?"""
    b = experiment.tight
    p = predict_on(b, experiment.predict)
    with jax.enable_x64(True):
        loss = float(jax.jit(exact_loss)(p.w1, p.w2, b.x, b.sigma, b.lam))
    return {
        "measured": loss,
        "predicted": p.loss,
        "errors": np.array([abs(loss - p.loss) / p.loss]),
        "note": "tight clusters",
    }


# --- trained nets against the prediction -----------------------------------------------------


def gate_share(experiment) -> str:
    """In words: how many nets keep each unit to one cluster."""
    follows = experiment.follows_gates
    return f"{follows.sum()} of {len(follows)} nets have no unit active on two clusters"


def kept_comparisons(experiment) -> list[Comparison]:
    """Comparisons of the nets that keep each unit to one cluster."""
    return [c for c in experiment.comparisons if c.entangled == 0]


def seeds_that_follow(experiment) -> tuple[int, ...]:
    """Seeds of the nets that keep each unit to one cluster."""
    seeds = experiment.nets.seeds
    return tuple(np.array(seeds)[experiment.follows_gates].tolist()) if seeds else ()


def _trained_blocks(experiment: Generalization) -> dict:
    kept = kept_comparisons(experiment)
    errors = np.array([float(np.max(c.operator_errors)) for c in kept])
    return {
        "measured": float(np.mean(errors)),
        "predicted": 0.0,
        "errors": errors,
        "seeds": seeds_that_follow(experiment),
        "note": f"worst block's relative error at its own width; {gate_share(experiment)}",
    }


def _trained_loss(experiment: Generalization) -> dict:
    kept = kept_comparisons(experiment)
    return {
        "measured": float(np.mean([c.loss for c in kept])),
        "predicted": float(np.mean([c.predicted_loss for c in kept])),
        "errors": np.array([c.loss_error for c in kept]),
        "seeds": seeds_that_follow(experiment),
        "note": f"prediction at the measured widths; {gate_share(experiment)}",
    }


def _block_structure(experiment: Generalization) -> dict:
    entangled = np.array([c.entangled / max(c.live.sum(), 1) for c in experiment.comparisons])
    return {
        "measured": 1 - float(np.mean(entangled)),
        "predicted": 1.0,
        "errors": entangled,
        "seeds": experiment.nets.seeds,
        "note": f"share of live units; {gate_share(experiment)}",
    }


# --- many samples ----------------------------------------------------------------------------


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


def _population_rate(experiment: Generalization) -> dict:
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


def _trained_population(experiment: Generalization) -> dict:
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


def _test_loss_exact(experiment: Generalization) -> dict:
    """Test loss of the nets, noise integrated out, and of their blocks as linear maps."""
    x_ND, labels_N = fresh_samples(experiment)
    sigma = experiment.blocks.sigma
    measured, predicted = [], []
    loss_of = jax.jit(exact_loss)
    for (w1, w2), comparison in zip(experiment.nets.pairs, experiment.comparisons, strict=True):
        if comparison.entangled:
            continue
        with jax.enable_x64(True):
            measured.append(float(loss_of(w1, w2, x_ND, sigma, 0.0)))
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


def _test_loss_limit(experiment: Generalization) -> dict:
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


# --- the net as a function -------------------------------------------------------------------


def _balanced(experiment: Generalization) -> dict:
    b = experiment.blocks

    def effective_units(nets: Nets, x: np.ndarray) -> np.ndarray:
        statistics = merged_statistics(nets, x, b.sigma)
        return np.array([np.nanmean(s["participation_ratio"]) for s in statistics])

    generalizing = effective_units(experiment.nets, b.x)
    memorizing = effective_units(experiment.memorizing, experiment.exemplars)
    theory = effective_units(
        Nets(experiment.prediction.w1[None], experiment.prediction.w2[None], (), "theory"), b.x
    )[0]
    return {
        "measured": float(np.mean(generalizing)),
        "predicted": float(theory),
        "errors": memorizing / generalizing,
        "seeds": experiment.nets.seeds,
        "note": "effective units (collinear ones merged); the error is that of memorizing nets, "
        f"{np.mean(memorizing):.2f}, relative to it; same optimizer, σ, λ, p",
    }


def _closer_to_truth(experiment: Generalization) -> dict:
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


def _halves_agree(experiment: Generalization) -> dict:
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


# --- mutants ---------------------------------------------------------------------------------


def _formula(change: Callable) -> Callable[[Generalization], Generalization]:
    """Formula (2)-(4) with changed arguments (x, labels, widths, σ, λ)."""

    def predict(*arguments) -> Prediction:
        return predict_blocks(*change(*arguments))

    return lambda experiment: replace(experiment, predict=predict)


def _limit_formula(change: Callable) -> Callable[[Generalization], Generalization]:
    def predict(*arguments) -> Prediction:
        return predict_generalization(*change(*arguments))

    return lambda experiment: replace(experiment, predict_limit=predict)


def _shuffled_labels(x_ND, labels_N, widths, sigma, lam):
    return x_ND, np.random.default_rng(0).permutation(labels_N), widths, sigma, lam


def _with_untrained(experiment: Generalization) -> Generalization:
    return replace(experiment, nets=untrained(experiment.nets))


def _scaled_block(experiment: Generalization) -> Generalization:
    """One cluster's units scaled by 1.1 in both layers."""
    b = experiment.blocks
    chosen = np.stack(
        [assign_blocks(w1, w2, b.x, b.labels) == 0 for w1, w2 in experiment.nets.pairs]
    )
    return replace(experiment, nets=with_scaled_columns(experiment.nets, chosen, 1.1, 1.1))


def _truncated(experiment: Generalization) -> Generalization:
    """The widest block loses all units but one."""
    w1, w2 = experiment.nets.w1.copy(), experiment.nets.w2.copy()
    b = experiment.blocks
    for net, (a, c) in enumerate(experiment.nets.pairs):
        units = np.flatnonzero(assign_blocks(a, c, b.x, b.labels) == 0)
        w1[net][:, units[1:]] = 0
        w2[net][:, units[1:]] = 0
    return replace(experiment, nets=replace(experiment.nets, w1=w1, w2=w2))


def _regimes_swapped(experiment: Generalization) -> Generalization:
    """The memorizing nets and their samples in the place of the generalizing ones."""
    exemplars = experiment.exemplars
    blocks = replace(experiment.blocks, x=exemplars, labels=np.arange(len(exemplars)))
    return replace(
        experiment,
        blocks=blocks,
        nets=experiment.memorizing,
        memorizing=experiment.nets,
        exemplars=experiment.blocks.x,
    )


def _bias_only(m_DD, second_moment_DD, sigma: float) -> float:
    return linear_test_loss(m_DD, second_moment_DD, 0.0)


def _one_half_untrained(experiment: Generalization) -> Generalization:
    first, second = experiment.halves
    return replace(experiment, halves=(first, untrained(second)))


DOUBLE_SIGMA = Mutant("σ twice as large", _formula(lambda x, y, w, s, lam: (x, y, w, 2 * s, lam)))
PRINTED_SIGMA = Mutant("σ for σ²", _formula(lambda x, y, w, s, lam: (x, y, w, np.sqrt(s), lam)))
HALF_LAMBDA = Mutant("λ/2 for λ", _formula(lambda x, y, w, s, lam: (x, y, w, s, lam / 2)))
SHUFFLED = Mutant("cluster labels shuffled", _formula(_shuffled_labels))
UNTRAINED = Mutant("random columns of the same norms", _with_untrained)
SWAPPED = Mutant("memorizing nets for generalizing ones", _regimes_swapped)
SCALED = Mutant("first cluster's units scaled by 1.1", _scaled_block)

CLAIMS = (
    Claim(
        "thm3.1/stationary",
        "The block weights (4) are a stationary point of the exact loss.",
        "Theorem 3.1, (4)",
        vacuous_or(EXACT_MARGIN, "tight", stationarity_evidence, 1e-8),
        (DOUBLE_SIGMA, HALF_LAMBDA, SHUFFLED),
    ),
    Claim(
        "thm3.1/residual-decay",
        "What (4) misses of stationarity falls like exp(−z²/2), up to a power of z.",
        "Theorem 3.1, remainder",
        vacuous_or(EXACT_MARGIN, "tight", _residual_decay, 0.1),
        (DOUBLE_SIGMA,),
    ),
    Claim(
        "thm3.1/loss-formula",
        "The loss at (4) is (1/n) Σ_k [Σ s − Σ_{j≤p_k} (s−nλ)²/(s+n_kσ²)].",
        "Theorem 3.1, (3)",
        vacuous_or(EXACT_MARGIN, "tight", loss_formula_evidence, 1e-8),
        (DOUBLE_SIGMA, PRINTED_SIGMA, HALF_LAMBDA),
    ),
    Claim(
        "thm3.1/block-structure",
        "From random starts, units end up active on one cluster only (90% of them).",
        "Theorem 3.1, gates",
        vacuous_or(TRAINED_MARGIN, "blocks", _block_structure, 0.1),
        (UNTRAINED,),
        uses_nets=True,
    ),
    Claim(
        "thm3.1/trained-blocks",
        "Trained nets whose units keep to one cluster hold the block operators (2).",
        "Theorem 3.1, (2)",
        vacuous_or(TRAINED_MARGIN, "blocks", _trained_blocks, 0.05, some_follow_gates),
        (SCALED, PRINTED_SIGMA),
        uses_nets=True,
    ),
    Claim(
        "thm3.1/trained-loss",
        "Such nets reach the loss (3).",
        "Theorem 3.1, (3)",
        vacuous_or(TRAINED_MARGIN, "blocks", _trained_loss, 2e-3, some_follow_gates),
        (SCALED, DOUBLE_SIGMA),
        uses_nets=True,
    ),
    Claim(
        "cor3.3/population-rate",
        "The blocks of n samples (2) tend to the population's (6) at rate n^(−1/2).",
        "Corollary 3.3, (6)",
        vacuous_or(TRAINED_MARGIN, "blocks", _population_rate, 0.05, _known_mixture),
        (
            Mutant(
                "λ for λ/ρ_k",
                _limit_formula(lambda m, c, r, w, s, lam: (m, c, r, w, s, lam * r[0])),
            ),
            Mutant(
                "σ for σ², as printed",
                _limit_formula(lambda m, c, r, w, s, lam: (m, c, r, w, np.sqrt(s), lam)),
            ),
        ),
    ),
    Claim(
        "cor3.3/trained-population",
        "Trained blocks are as far from the population's (6) as sampling alone explains.",
        "Corollary 3.3, (6)",
        vacuous_or(
            TRAINED_MARGIN, "blocks", _trained_population, 0.02, _known_mixture, some_follow_gates
        ),
        (
            SCALED,
            Mutant("first cluster cut to one unit", _truncated),
        ),
        uses_nets=True,
    ),
    Claim(
        "cor3.3/test-loss",
        "A net's test loss is Σ_k ρ_k [tr((M−I)S_k(M−I)ᵀ) + σ²‖M‖²] of its blocks M.",
        "THEORY §5",
        vacuous_or(
            TRAINED_MARGIN, "blocks", _test_loss_exact, 0.01, _known_mixture, some_follow_gates
        ),
        (
            Mutant(
                "σ²‖M‖² left out",
                lambda experiment: replace(experiment, linear_loss=_bias_only),
            ),
        ),
        uses_nets=True,
    ),
    Claim(
        "cor3.3/test-loss-limit",
        "For n → ∞, λ → 0 the test loss is Σ_k ρ_k [Σ eσ²/(e+σ²) + Σ_{j>p_k} e].",
        "THEORY §5, (7)",
        vacuous_or(TRAINED_MARGIN, "blocks", _test_loss_limit, 0.02, _known_mixture),
        (
            Mutant(
                "eσ⁴/(e+σ²)², as printed",
                lambda experiment: replace(experiment, test_loss_limit=printed_test_loss),
            ),
        ),
    ),
    Claim(
        "cor3.3/balanced",
        "The representation is balanced: at least twice as many units carry it as in "
        "a memorizing net.",
        "Corollary 3.3",
        vacuous_or(TRAINED_MARGIN, "blocks", _balanced, 0.5, _with_controls),
        (SWAPPED,),
        uses_nets=True,
    ),
    Claim(
        "sec13/closer-to-truth",
        "The net is closer to f_gt than to f_emp on fresh samples.",
        "THEORY §13",
        vacuous_or(TRAINED_MARGIN, "blocks", _closer_to_truth, 1.0, _known_mixture),
        (SWAPPED,),
        uses_nets=True,
    ),
    Claim(
        "sec13/halves-agree",
        "Nets trained on disjoint halves of the data compute the same function.",
        "THEORY §13",
        vacuous_or(TRAINED_MARGIN, "blocks", _halves_agree, 0.1, _known_mixture, _with_controls),
        (Mutant("one net random", _one_half_untrained),),
        uses_nets=True,
    ),
)


def results(experiment: Generalization) -> dict[str, np.ndarray]:
    """Arrays behind the figures."""
    arrays = block_arrays(experiment)
    if predict_on(experiment.tight).margin > 0:
        arrays["residual"] = np.stack(residual_curve(experiment))
    if experiment.memorizing is not None:
        arrays |= {
            "exemplars": experiment.exemplars,
            "memorizing_w1": experiment.memorizing.w1,
            "memorizing_w2": experiment.memorizing.w2,
        }
    return arrays


def block_arrays(experiment) -> dict[str, np.ndarray]:
    """Samples, labels, settings and nets of an experiment with blocks."""
    b = experiment.blocks
    arrays = {
        "x": b.x,
        "labels": b.labels,
        "widths": np.array(b.widths),
        "sigma": np.array(b.sigma),
        "lam": np.array(b.lam),
    }
    if experiment.nets is not None:
        arrays |= {"w1": experiment.nets.w1, "w2": experiment.nets.w2}
    return arrays


def settings(experiment) -> dict:
    """What was checked, for the report."""
    n, d = experiment.blocks.x.shape
    return {
        "n": n,
        "d": d,
        "p": sum(experiment.blocks.widths),
        "sigma": experiment.blocks.sigma,
        "lam": experiment.blocks.lam,
        "z": predict_on(experiment.blocks).margin,
        "seeds": 0 if experiment.nets is None else len(experiment.nets.seeds),
        "data": experiment.note,
    }
