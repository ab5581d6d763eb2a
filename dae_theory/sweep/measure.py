"""What a sweep measures of one trained net: pure, masked, and mapped over nets from outside.

Samples and units may be padded: padding has sample weight 0, or is a zero column, and changes no
number. All arithmetic is in the dtype of the weights.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dae_theory.diffusion.denoisers import Denoiser
from dae_theory.memorization.copies import COPY_RATIO
from dae_theory.relu.gaussian_moments import unit_columns
from dae_theory.relu.loss import exact_loss, weight_penalty
from dae_theory.relu.mehler import mehler_loss
from dae_theory.relu.model import denoise, encode
from dae_theory.relu.optimize import Level
from dae_theory.relu.units import COLLINEAR_COSINE, live_units
from dae_theory.sweep.plan import EXACT_PAIRS, PROBES, exact_chunk
from dae_theory.weights.compare import STORED_GAIN

SPIKINESS = (
    "std",
    "l4_l2",
    "participation_ratio",
    "hoyer",
    "top1_share",
    "n_active",
    "merged_participation_ratio",
)
MEASURES = (
    "exact_loss",
    "train_mse",
    "test_mse",
    "mse_bound",
    "live_units",
    "gain_min",
    "gain_mean",
    "stored_share",
    "stored_operator_error",
    "block_operator_error",
    *(f"train_{name}" for name in SPIKINESS),
    *(f"test_{name}" for name in SPIKINESS),
    "gap_ratio",
    "gap_share",
    "femp_distance_train",
    "femp_distance",
    "fgt_distance_train",
    "fgt_distance",
    "femp_test_mse",
    "fgt_test_mse",
)


class Blocks(NamedTuple):
    """Clusters of one data set: ``member`` (K, N) one-hot, 0 for padding, and the eigenpairs of
    each X_kX_kᵀ, ``values`` (K, D) and ``vectors`` (K, D, D), largest first."""

    member: Float[Array, "K N"]
    values: Float[Array, "K D"]
    vectors: Float[Array, "K D D"]


class Problem(NamedTuple):
    """What one net was trained on: samples (N, D), their weights (N), clusters if known, (σ, λ)."""

    x: Float[Array, "N D"]
    weight: Float[Array, " N"]
    level: Level
    blocks: Blocks | None


def cluster_blocks(
    x_ND: Float[np.ndarray, "N D"], labels_N: Int[np.ndarray, " N"], n_clusters: int, padded: int
) -> Blocks:
    """Clusters of a data set, for ``padded`` ≥ N samples; float64, on the host."""
    member_KN = np.zeros((n_clusters, padded))
    member_KN[labels_N, np.arange(len(x_ND))] = 1.0
    masked_KND = member_KN[:, : len(x_ND), None] * x_ND
    values_KD, vectors_KDD = np.linalg.eigh(np.swapaxes(masked_KND, 1, 2) @ masked_KND)
    return Blocks(member_KN, np.maximum(values_KD[:, ::-1], 0.0), vectors_KDD[:, :, ::-1])


def measure_net(
    key: PRNGKeyArray,
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    width: Int[Array, ""],
    problem: Problem,
    held_out_TD: Float[Array, "T D"],
    ground_truth: Denoiser | None,
) -> dict[str, Float[Array, ""]]:
    """All of MEASURES for one net with ``width`` units; NaN where a measure does not exist.

    exact_loss: objective (1) with the noise integrated out; train_mse, test_mse: the same without
    decay, on training and on held-out samples; mse_bound: largest truncation error of the two, 0
    where pairs of units were evaluated exactly. live_units: `train.live_units`.
    gain_min, gain_mean: gains summed over the units that store a sample, relative to (5), over
    samples; stored_share: samples with STORED_GAIN of that or more; stored_operator_error: mean
    over samples of the relative error of the operators; block_operator_error: mean over known
    clusters of the relative error against (2) at the measured width.
    train_*, test_*: mean spikiness of the noised samples' representations
    (`representation.spikiness`); merged: with collinear units merged.
    gap_ratio: median over noised held-out samples of the distance of the denoised sample to its
    nearest training sample relative to the second nearest; gap_share: share below 1/3.
    femp_distance, fgt_distance: rms distance to f_emp and f_gt relative to their rms, on noised
    held-out samples, or training samples (_train); femp_test_mse, fgt_test_mse: their own errors.
    """
    train_key, test_key = jax.random.split(key)
    probe_ND, dtype, sigma = problem.x[:PROBES], w1_DP.dtype, problem.level.sigma
    clean_MD = jnp.concatenate([probe_ND, held_out_TD])
    # Drawn apart: the noise of a held-out sample must not depend on padding.
    noise_MD = jnp.concatenate(
        [
            jax.random.normal(train_key, probe_ND.shape, dtype),
            jax.random.normal(test_key, held_out_TD.shape, dtype),
        ]
    )
    y_MD = clean_MD + sigma * noise_MD
    held_out_M = jnp.arange(len(clean_MD)) >= len(probe_ND)
    trained_M = jnp.pad(problem.weight[:PROBES] > 0, (0, len(held_out_TD)))
    output_MD = denoise(w1_DP, w2_DP, y_MD)

    measures = _losses(w1_DP, w2_DP, problem, held_out_TD)
    measures["live_units"] = jnp.sum(live_units(w1_DP, w2_DP))
    measures |= stored_samples(w1_DP, w2_DP, problem)
    measures["block_operator_error"] = _block_operator_error(w1_DP, w2_DP, problem)
    measures |= gap_ratios(output_MD[len(probe_ND) :], problem)
    spikiness_M = spikiness_rows(w1_DP, w2_DP, y_MD, width)
    for name, rows_M in (("train", trained_M), ("test", held_out_M)):
        for field, value_M in spikiness_M.items():
            measures[f"{name}_{field}"] = masked_mean(value_M, rows_M & ~jnp.isnan(value_M))
    femp_MD = empirical_mean(problem, y_MD)
    fgt_MD = ground_truth(y_MD, sigma) if ground_truth else jnp.full_like(y_MD, jnp.nan)
    for name, reference_MD in (("femp", femp_MD), ("fgt", fgt_MD)):
        distance_M = jnp.sum((output_MD - reference_MD) ** 2, axis=1)
        power_M = jnp.sum(reference_MD**2, axis=1)
        for suffix, rows_M in (("_train", trained_M), ("", held_out_M)):
            ratio = masked_mean(distance_M, rows_M) / masked_mean(power_M, rows_M)
            measures[f"{name}_distance{suffix}"] = jnp.sqrt(ratio)
        error_M = jnp.sum((reference_MD - clean_MD) ** 2, axis=1)
        measures[f"{name}_test_mse"] = masked_mean(error_M, held_out_M)
    return {name: measures[name].astype(dtype) for name in MEASURES}


def _losses(w1_DP, w2_DP, problem: Problem, held_out_TD) -> dict[str, Array]:
    n_train, n_test = len(problem.x), len(held_out_TD)
    uniform_T = jnp.full(n_test, 1 / n_test, w1_DP.dtype)
    weight_2M = jnp.stack([jnp.pad(problem.weight, (0, n_test)), jnp.pad(uniform_T, (n_train, 0))])
    x_MD = jnp.concatenate([problem.x, held_out_TD])
    loss_2, bound_2 = noise_free_losses(w1_DP, w2_DP, x_MD, weight_2M, problem.level.sigma)
    return {
        "exact_loss": loss_2[0] + weight_penalty(w1_DP, w2_DP, problem.level.lam),
        "train_mse": loss_2[0],
        "test_mse": loss_2[1],
        "mse_bound": jnp.max(bound_2),
    }


def noise_free_losses(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_MD: Float[Array, "M D"],
    weight_KM: Float[Array, "K M"],
    sigma: Float[Array, ""],
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Objective (1) without decay and without noise, for K weightings of the same samples, and
    bounds on the truncation errors.

    Exact while samples × pairs of units stay below EXACT_PAIRS. Beyond, by Mehler's expansion with
    as many exact pairs, the nearly collinear ones first, as that number allows.
    """
    n_samples, width = x_MD.shape[0], w1_DP.shape[1]
    pairs = width * (width - 1) // 2
    if n_samples * pairs > EXACT_PAIRS:
        exact_pairs = EXACT_PAIRS // n_samples
        chunk = min(n_samples, exact_chunk(max(exact_pairs, 4 * width)))

        def expanded(weight_M):
            return mehler_loss(
                w1_DP, w2_DP, x_MD, sigma, 0.0, weight_M, exact_pairs=exact_pairs, chunk=chunk
            )

        result = jax.vmap(expanded)(weight_KM)
        return result.loss, result.error_bound
    chunk = min(n_samples, exact_chunk(pairs))
    padding = -n_samples % chunk
    x_CMD = jnp.pad(x_MD, ((0, padding), (0, 0))).reshape(-1, chunk, x_MD.shape[1])
    weight_KCM = jnp.pad(weight_KM, ((0, 0), (0, padding))).reshape(len(weight_KM), -1, chunk)

    # Without decay the loss is a sum over samples.
    def add_chunk(total_K, part):
        x, weight_K = part
        loss_K = jax.vmap(lambda weight: exact_loss(w1_DP, w2_DP, x, sigma, 0.0, weight))(weight_K)
        return total_K + loss_K, None

    zero_K = jnp.zeros(len(weight_KM), w1_DP.dtype)
    total_K, _ = jax.lax.scan(add_chunk, zero_K, (x_CMD, jnp.moveaxis(weight_KCM, 1, 0)))
    return total_K, zero_K


def _units_of(w1_DP, w2_DP, energy_KP):
    """One-hot (K, P): the cluster on which a live unit holds most energy, as in `compare`."""
    owner_P = jnp.argmax(energy_KP, axis=0)
    counts_P = live_units(w1_DP, w2_DP) & (jnp.max(energy_KP, axis=0) > 0)
    return jax.nn.one_hot(owner_P, len(energy_KP), axis=0, dtype=w1_DP.dtype) * counts_P


def stored_samples(w1_DP, w2_DP, problem: Problem) -> dict[str, Array]:
    """Each sample as a cluster of its own, against equation (5)."""
    x_ND, weight_N, (sigma, lam), _ = problem
    true_N = weight_N > 0
    count = jnp.sum(true_N)
    square_N = jnp.sum(x_ND**2, axis=1)
    u_ND = x_ND / jnp.sqrt(jnp.where(square_N > 0, square_N, 1.0))[:, None]
    energy_NP = encode(w1_DP, x_ND) ** 2
    member_NP = _units_of(w1_DP, w2_DP, jnp.where(true_N[:, None], energy_NP, 0.0))
    gain_N = jnp.sum(member_NP * (u_ND @ w1_DP) * (u_ND @ w2_DP), axis=1)
    predicted_N = jnp.maximum(square_N - count * lam, 0.0) / (square_N + sigma**2)
    kept_N = true_N & (predicted_N > 0)
    relative_N = gain_N / jnp.where(kept_N, predicted_N, 1.0)
    # ‖Σ w2_j w1_jᵀ‖² from the Gram matrices: no D×D operator per sample.
    gram_PP = (w1_DP.T @ w1_DP) * (w2_DP.T @ w2_DP)
    power_N = jnp.sum((member_NP @ gram_PP) * member_NP, axis=1)
    difference_N = power_N - 2 * predicted_N * gain_N + predicted_N**2
    error_N = jnp.sqrt(jnp.maximum(difference_N, 0.0)) / jnp.where(kept_N, predicted_N, 1.0)
    return {
        "gain_min": jnp.where(
            jnp.any(kept_N), jnp.min(jnp.where(kept_N, relative_N, jnp.inf)), jnp.nan
        ),
        "gain_mean": masked_mean(relative_N, kept_N),
        "stored_share": masked_mean(1.0 * (kept_N & (relative_N >= STORED_GAIN)), true_N),
        "stored_operator_error": masked_mean(error_N, kept_N),
    }


def _block_operator_error(w1_DP, w2_DP, problem: Problem) -> Array:
    """Mean over the clusters that (2) keeps of ‖M_k − predicted‖/‖predicted‖."""
    if problem.blocks is None:
        return jnp.full((), jnp.nan, w1_DP.dtype)
    sigma, lam = problem.level
    member_KN, values_KD, vectors_KDD = problem.blocks
    size_K = jnp.sum(member_KN, axis=1)
    energy_KP = member_KN @ encode(w1_DP, problem.x) ** 2 / jnp.maximum(size_K, 1.0)[:, None]
    unit_KP = _units_of(w1_DP, w2_DP, energy_KP)
    kept_KD = jnp.arange(values_KD.shape[1]) < jnp.sum(unit_KP, axis=1)[:, None]
    decay, noise_K = jnp.sum(size_K) * lam, size_K * sigma**2
    gain_KD = jnp.maximum(values_KD - decay, 0.0) / jnp.maximum(
        values_KD + noise_K[:, None], jnp.finfo(w1_DP.dtype).tiny
    )
    gain_KD = jnp.where(kept_KD, gain_KD, 0.0)
    predicted_KDD = jnp.einsum("kde,ke,kfe->kdf", vectors_KDD, gain_KD, vectors_KDD)
    measured_KDD = jnp.einsum("dp,kp,ep->kde", w2_DP, unit_KP, w1_DP)
    norm_K = jnp.linalg.norm(gain_KD, axis=1)
    error_K = jnp.linalg.norm(measured_KDD - predicted_KDD, axis=(1, 2))
    return masked_mean(error_K / jnp.where(norm_K > 0, norm_K, 1.0), norm_K > 0)


def spikiness_rows(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    y_MD: Float[Array, "M D"],
    width: Int[Array, ""],
) -> dict[str, Float[Array, " M"]]:
    """`representation.spikiness` of each row, of a net with ``width`` units and zero columns."""
    h_MP = encode(w1_DP, y_MD)
    # Padding units add nothing to sums: only the number of units must be the true one.
    total_M, width = jnp.sum(h_MP, axis=1), width.astype(h_MP.dtype)
    square_M, fourth_M = jnp.sum(h_MP**2, axis=1), jnp.sum(h_MP**4, axis=1)
    variance_M = square_M / width - (total_M / width) ** 2
    live_P = live_units(w1_DP, w2_DP)
    u_DP, _ = unit_columns(jnp.where(live_P, w1_DP, 0.0))
    collinear_PP = (u_DP.T @ u_DP > COLLINEAR_COSINE).astype(h_MP.dtype)
    live_MP = jnp.where(live_P, h_MP**2, 0.0)
    merged_fourth_M = jnp.sum((live_MP @ collinear_PP) * live_MP, axis=1)
    # A row that is zero gives 0/0 = NaN.
    return {
        "std": jnp.sqrt(jnp.maximum(variance_M, 0.0)),
        "l4_l2": fourth_M**0.25 / jnp.sqrt(square_M),
        "participation_ratio": square_M**2 / fourth_M,
        "hoyer": (jnp.sqrt(width) - total_M / jnp.sqrt(square_M)) / (jnp.sqrt(width) - 1),
        "top1_share": jnp.max(h_MP, axis=1) ** 2 / square_M,
        "n_active": jnp.sum(h_MP > 0, axis=1).astype(h_MP.dtype),
        "merged_participation_ratio": jnp.sum(live_MP, axis=1) ** 2 / merged_fourth_M,
    }


def gap_ratios(output_TD, problem: Problem) -> dict[str, Array]:
    """Distance of outputs to their nearest training sample over that to the second nearest."""
    x_ND, weight_N = problem.x, problem.weight
    if len(x_ND) < 2:
        nothing = jnp.full((), jnp.nan, x_ND.dtype)
        return {"gap_ratio": nothing, "gap_share": nothing}
    square_TN = jnp.sum(x_ND**2, axis=1) - 2 * output_TD @ x_ND.T
    square_TN = square_TN + jnp.sum(output_TD**2, axis=1)[:, None]
    square_TN = jnp.where(weight_N > 0, jnp.maximum(square_TN, 0.0), jnp.inf)
    nearest_T2 = -jax.lax.top_k(-square_TN, 2)[0]
    # Two distances of 0 are duplicates of one sample: a ratio of 1.
    second_T = nearest_T2[:, 1]
    ratio_T = jnp.sqrt(jnp.where(second_T > 0, nearest_T2[:, 0] / second_T, 1.0))
    enough = jnp.sum(weight_N > 0) >= 2
    return {
        "gap_ratio": jnp.where(enough, jnp.median(ratio_T), jnp.nan),
        "gap_share": jnp.where(enough, jnp.mean(ratio_T < COPY_RATIO), jnp.nan),
    }


def empirical_mean(problem: Problem, y_MD: Array) -> Array:
    """f_emp(y), as `denoisers.empirical_denoiser`, with padding left out."""
    x_ND, weight_N = problem.x, problem.weight
    logits_MN = (y_MD @ x_ND.T - 0.5 * jnp.sum(x_ND**2, axis=1)) / problem.level.sigma**2
    return jax.nn.softmax(jnp.where(weight_N > 0, logits_MN, -jnp.inf), axis=1) @ x_ND


def masked_mean(values_N: Array, mask_N: Array) -> Array:
    """Mean over the true entries; NaN when there are none."""
    total = jnp.sum(jnp.where(mask_N, values_N, 0.0))
    count = jnp.sum(mask_N)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)
