"""Do blocks and test loss tend to those of the population, (6) and (7), at the rate they should?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from dae_theory.data.dataset import Mixture, proportional_counts, symmetric_root
from dae_theory.diffusion.denoisers import mixture_denoiser
from dae_theory.statistics import log_log_slope
from dae_theory.theory.closed_forms import Prediction, linear_test_loss, predict_blocks
from dae_theory.weights.compare import Comparison, assign_blocks
from proofs_checks.blocks import SHARE_NOTE, share_details
from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant, average
from proofs_checks.generalize.experiment import (
    CLUSTERED,
    FRESH,
    KNOWN_MIXTURE,
    SEPARATE,
    Generalization,
)
from proofs_checks.generalize.trained import SCALED
from proofs_checks.monte_carlo import exact_loss_value, noised
from proofs_checks.mutants import UNTRAINED, instead, misprint, printed_test_loss

MANY = 20_000  # samples that stand for infinitely many
MATCHED = 400  # samples with the population's moments
RATE_SIZES = (400, 800, 1600, 3200, 6400)
RATE_SAMPLES, LIMIT_SAMPLES = 12, 2  # of each mixture


def operators(prediction: Prediction) -> list[Float[np.ndarray, "D D"]]:
    """The linear map M_k of each cluster."""
    return [prediction.operator(k) for k in range(len(prediction.directions))]


def measured_operators(
    w1_DP: Float[np.ndarray, "D P"], w2_DP: Float[np.ndarray, "D P"], comparison: Comparison
) -> list[Float[np.ndarray, "D D"]]:
    """The linear map of a net's units of each cluster."""
    units = (comparison.blocks == k for k in range(len(comparison.widths)))
    return [w2_DP[:, unit_P] @ w1_DP[:, unit_P].T for unit_P in units]


def operator_distance(
    maps: Sequence[Float[np.ndarray, "D D"]], reference: Sequence[Float[np.ndarray, "D D"]]
) -> float:
    """Root-mean-square over clusters of ‖M_k − M'_k‖_F/‖M'_k‖_F."""
    distances = [
        np.linalg.norm(m_DD - r_DD) / np.linalg.norm(r_DD)
        for m_DD, r_DD in zip(maps, reference, strict=True)
    ]
    return float(np.sqrt(np.mean(np.square(distances))))


def limit_operators(e: Generalization, widths: Sequence[int]) -> list[Float[np.ndarray, "D D"]]:
    """(6), by the formula under test, for blocks of these widths."""
    p, m = e.problem, e.mixture
    return operators(e.predict_limit(m.means, m.covs, m.priors, widths, p.sigma, p.lam))


def matched_samples(
    mixture: Mixture, seed: int, n: int
) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
    """As `Mixture.sample`, but mean and covariance of each cluster's samples are the mixture's."""
    labels_N = np.repeat(np.arange(len(mixture.priors)), proportional_counts(mixture.priors, n))
    x_ND, rng = np.empty((n, mixture.means.shape[1])), np.random.default_rng(seed)
    for k, (mean, cov) in enumerate(zip(mixture.means, mixture.covs, strict=True)):
        members = labels_N == k
        noise = rng.standard_normal((members.sum(), len(mean)))
        white, _ = np.linalg.qr(noise - noise.mean(axis=0))  # columns stay orthogonal to 1
        x_ND[members] = mean + np.sqrt(members.sum()) * white @ symmetric_root(cov)
    return x_ND, labels_N


def population_blocks(e: Generalization) -> Measured:
    """(2) of samples with the population's moments, beside (6)."""
    p, m = e.problem, e.mixture
    x_ND, labels_N = matched_samples(m, e.sample_seed(0), MATCHED)
    shares_K = np.bincount(labels_N) / MATCHED
    found = operators(e.predict(x_ND, labels_N, p.widths, p.sigma, p.lam))
    limit = operators(e.predict_limit(m.means, m.covs, shares_K, p.widths, p.sigma, p.lam))
    distance = operator_distance(found, limit)
    note = f"root-mean-square over clusters of ‖M − M'‖/‖M'‖; {MATCHED} samples"
    return Measured(distance, 0.0, np.array([distance]), note=note)


def population_rate(e: Generalization) -> Measured:
    """Slope of the distance of (2) to (6) in n, on logarithms, for each of several samples."""
    limit = limit_operators(e, e.problem.widths)
    numbers_S = range(100, 100 + RATE_SAMPLES)
    distance_ST = np.array(
        [
            [operator_distance(operators(e.sampled(number, n)), limit) for n in RATE_SIZES]
            for number in numbers_S
        ]
    )
    slopes_S = np.array([log_log_slope(RATE_SIZES, distance_T) for distance_T in distance_ST])
    return Measured(
        float(np.mean(slopes_S)),
        -0.5,
        slopes_S + 0.5,
        (e.seed,),
        f"slope over n = {RATE_SIZES[0]} … {RATE_SIZES[-1]}, {RATE_SAMPLES} samples a mixture; "
        f"distance {{last:.3f}} at n = {RATE_SIZES[-1]}",
        signed=True,
        details={"last": np.mean(distance_ST[:, -1])},
    )


def nets_with_separate(
    e: Generalization,
) -> list[tuple[np.ndarray, np.ndarray, Comparison, np.ndarray]]:
    """W1, W2, comparison with (2), and the clusters with units of their own, of the nets that have
    such clusters."""
    return [
        (w1, w2, comparison, np.flatnonzero(comparison.separate))
        for (w1, w2), comparison in zip(e.nets.pairs, e.comparisons, strict=True)
        if comparison.separate.any()
    ]


def trained_population(e: Generalization) -> Measured:
    """Trained blocks and the population's: what sampling explains of their distance."""
    p = e.problem
    trained, sampling = [], []
    for w1, w2, comparison, separate in nets_with_separate(e):
        widths = comparison.widths.tolist()
        limit = limit_operators(e, widths)
        finite = operators(predict_blocks(p.x, p.labels, widths, p.sigma, p.lam))
        measured = measured_operators(w1, w2, comparison)
        limit, finite, measured = ([m[k] for k in separate] for m in (limit, finite, measured))
        trained.append(operator_distance(measured, limit))
        sampling.append(operator_distance(finite, limit))
    return Measured(
        average(trained),
        average(sampling),
        np.abs(np.subtract(trained, sampling)),
        e.nets.seeds,
        "relative distance of trained blocks to (6); predicted: that of (2) to (6)",
    )


def exact_test_loss(e: Generalization) -> Measured:
    """Test loss of the nets, noise integrated out, and of their blocks as linear maps, on the
    clusters with units of their own."""
    (x_ND, labels_N), sigma = e.fresh, e.problem.sigma
    measured, predicted = [], []
    for w1, w2, comparison, separate in nets_with_separate(e):
        chosen_N = np.isin(labels_N, separate)
        measured.append(exact_loss_value(w1, w2, x_ND, sigma, 0.0, chosen_N))
        total, maps = 0.0, measured_operators(w1, w2, comparison)
        for k in separate:
            members = x_ND[labels_N == k]
            moment = members.T @ members / len(members)
            total += len(members) / chosen_N.sum() * e.linear_loss(maps[k], moment, sigma)
        predicted.append(total)
    measured, predicted = np.array(measured), np.array(predicted)
    return Measured(
        average(measured),
        average(predicted),
        np.abs(measured - predicted) / predicted,
        e.nets.seeds,
        f"{FRESH} fresh samples; f_gt itself loses {{truth:.5f}} of all; {SHARE_NOTE}",
        details={"truth": ground_truth_loss(e)} | share_details(e),
    )


def ground_truth_loss(e: Generalization) -> float:
    """Test loss of the posterior mean of the mixture, by Monte Carlo."""
    (x_ND, _), mixture, sigma = e.fresh, e.mixture, e.problem.sigma
    y = noised(x_ND, sigma, draws=4)
    f_gt = mixture_denoiser(mixture.means, mixture.covs, mixture.priors)
    residual = np.asarray(f_gt(y, sigma)) - np.tile(x_ND, (4, 1))
    return float(np.mean(np.sum(residual**2, axis=1)))


def limit_loss(e: Generalization) -> Measured:
    """Monte Carlo test loss of the blocks of many samples at tiny λ, beside (7)."""
    widths, sigma, mixture = e.problem.widths, e.problem.sigma, e.mixture
    predicted = e.test_loss_limit(mixture, widths, sigma)
    losses = []
    for repeat in range(LIMIT_SAMPLES):
        trained_on, fresh, noise = (e.sample_seed(200 + 3 * repeat + i) for i in range(3))
        p = e.predict(*mixture.sample(trained_on, MANY), widths, sigma, 1e-9)
        x_ND, labels_N = mixture.sample(fresh, MANY)
        y = x_ND + sigma * np.random.default_rng(noise).standard_normal(x_ND.shape)
        residual = np.concatenate(
            [y[labels_N == k] @ m_DD - x_ND[labels_N == k] for k, m_DD in enumerate(operators(p))]
        )
        losses.append(float(np.mean(np.sum(residual**2, axis=1))))
    return Measured(
        float(np.mean(losses)),
        predicted,
        (np.array(losses) - predicted) / predicted,
        (e.seed,),
        f"n = {MANY}, λ = 1e-9; loss on as many fresh noisy samples by Monte Carlo",
        signed=True,
    )


def truncated(e: Generalization) -> Generalization:
    """The first block loses all units but one."""
    w1_SDP, w2_SDP = e.nets.w1.copy(), e.nets.w2.copy()
    for net, (w1, w2) in enumerate(e.nets.pairs):
        units = np.flatnonzero(assign_blocks(w1, w2, e.problem.x, e.problem.labels) == 0)
        w1_SDP[net][:, units[1:]] = 0
        w2_SDP[net][:, units[1:]] = 0
    return replace(e, replaced=replace(e.nets, w1=w1_SDP, w2=w2_SDP))


def bias_only(
    m_DD: Float[np.ndarray, "D D"], second_moment_DD: Float[np.ndarray, "D D"], _: float
) -> float:
    """Test loss of a linear map without its noise term."""
    return linear_test_loss(m_DD, second_moment_DD, 0.0)


LIMIT_MISPRINTS = (
    misprint("Kλ for λ/ρ_k", "predict_limit", priors_K=np.ones_like),
    misprint("λ for λ/ρ_k", "predict_limit", lam=lambda lam: lam / 3),
    misprint("gain 1", "predict_limit", sigma=lambda sigma: 1e-9, lam=lambda lam: 0.0),
    misprint("σ for σ², as printed", "predict_limit", sigma=np.sqrt),
)

CLAIMS = (
    Claim(
        id="cor3.3/population-blocks",
        statement="Samples with the population's means and covariances have its blocks (6).",
        source="docs/THEORY.md#eq-6",
        requires=(KNOWN_MIXTURE, *CLUSTERED),
        measure=population_blocks,
        tolerance=1e-8,
        mutants=LIMIT_MISPRINTS,
        kind=Kind.EXACT,
    ),
    Claim(
        id="cor3.3/population-rate",
        statement="The blocks of n samples (2) tend to the population's (6) at rate n^(−1/2).",
        source="docs/THEORY.md#population-rate",
        requires=(KNOWN_MIXTURE, *CLUSTERED),
        measure=population_rate,
        tolerance=0.1,
        mutants=LIMIT_MISPRINTS,
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.3/trained-population",
        statement="Trained blocks are as far from the population's (6) as sampling alone explains.",
        source="docs/THEORY.md#eq-6",
        requires=(KNOWN_MIXTURE, *SEPARATE),
        measure=trained_population,
        tolerance=0.02,
        mutants=(SCALED, Mutant("first cluster cut to one unit", truncated), UNTRAINED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.3/test-loss",
        statement="A net's test loss is Σ_k ρ_k [tr((M−I)S_k(M−I)ᵀ) + σ²‖M‖²] of its blocks M.",
        source="docs/THEORY.md#test-loss",
        requires=(KNOWN_MIXTURE, *SEPARATE),
        measure=exact_test_loss,
        tolerance=0.02,
        mutants=(instead("σ²‖M‖² left out", "linear_loss", bias_only), UNTRAINED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.3/test-loss-limit",
        statement="For n → ∞, λ → 0 the test loss is Σ_k ρ_k [Σ eσ²/(e+σ²) + Σ_{j>p_k} e].",
        source="docs/THEORY.md#eq-7",
        requires=(KNOWN_MIXTURE, *CLUSTERED),
        measure=limit_loss,
        tolerance=0.02,
        mutants=(instead("eσ⁴/(e+σ²)², as printed", "test_loss_limit", printed_test_loss),),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
)
