"""Stored samples read off the weights of a memorizing net, in absolute scale.

Corollary 3.2, equation (5), backwards: a net that stores sample x gives it the gain
m = (‖x‖² − nλ)/(‖x‖² + σ²), so m alone tells the norm, ‖x‖² = (nλ + σ²m)/(1 − m), and the
columns of its units tell the direction. No data is looked at: this is what whoever holds the
weights can read.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from dae_theory.compare import COLLINEAR_COSINE, collinear_groups
from dae_theory.errors import InputError, check_count, check_noise_and_decay, check_samples
from dae_theory.errors import check_weights as check_weight_pair


class Extraction(NamedTuple):
    """K samples read off a net; ``samples`` + offset are the images.

    Attributes:
      samples: (K, D) in data units, centred as the training data were; largest gain first.
      gains: (K,) measured gain m of each.
      norms: (K,) ‖x‖ of each sample, in data units.
      norm_errors: (K,) standard uncertainty of ``norms``, in data units (`extract_samples`).
      direction_errors: (K,) angle between what encoder and decoder say, in radians.
      groups: (P,) index of the sample each unit stores, −1 for dead units.
      lam: weight decay λ used: the one given, or the one estimated from the pixel range.
    """

    samples: Float[np.ndarray, "K D"]
    gains: Float[np.ndarray, " K"]
    norms: Float[np.ndarray, " K"]
    norm_errors: Float[np.ndarray, " K"]
    direction_errors: Float[np.ndarray, " K"]
    groups: Int[np.ndarray, " P"]
    lam: float


class Match(NamedTuple):
    """Pairs of an extracted and a true sample: indices ``extracted`` and ``true`` (M,), with
    M = min(K, N), in the order of ``true``, and the ``cosines`` (M,) of their directions."""

    extracted: Int[np.ndarray, " M"]
    true: Int[np.ndarray, " M"]
    cosines: Float[np.ndarray, " M"]


def stored_square_norm(
    gain: Float[np.ndarray, " K"], sigma: float, decay: float
) -> Float[np.ndarray, " K"]:
    """‖x‖² = (decay + σ²m)/(1 − m) of a sample stored with gain m; decay = nλ. The inverse of
    `theory.block_gains` for one sample, equation (5)."""
    return (decay + sigma**2 * gain) / (1 - gain)


def extract_samples(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    sigma: float,
    lam: float | None,
    n: int,
    *,
    pixel_range: tuple[float, float] | None = None,
    offset: Float[Array, " D"] | float | None = None,
) -> Extraction:
    """The samples a memorizing net stores, from its weights alone (Corollary 3.2).

    Groups: live units of collinear encoders (`compare.collinear_groups`); groups whose decoders
    are collinear too write the same sample and count as one. The number K of groups is not
    forced to ``n``. Fewer: the net does not store every sample, and what it stores is returned.
    More: units are entangled (each answers to several samples), a case outside Corollary 3.2;
    such groups are returned as well, with an uncertainty as large as the norm or larger.

    Direction: the leading left singular vector of the group's operator Σ_j w2_j w1_jᵀ, signed
    so that its encoders are positive on it. The decoder is trusted with the direction because
    every gradient of W2 is a combination of samples and of columns of W2, so that gradient noise
    does not turn it away from the samples, whereas the gradient of W1 contains the noise itself.
    W1 forms the groups, gives the sign, and its angle to the decoder is ``direction_errors``.

    Gain: m = uᵀf(u), the net's answer to the direction u itself. It sums w2_j·u (w1_j·u)_+ over
    all units that are active on u, in the group or not: weak units, still dying, at cosines below
    the group's take part of the gain, and stationarity fixes only the total.

    Uncertainty: m is known only as well as training converged, and 1/(1 − m) amplifies its error:
    δ‖x‖² = (nλ + σ²)/(1 − m)² δm, that is δ‖x‖²/‖x‖² ≈ δm/(1 − m). δm adds up, in squares,
    three things that vanish at the minimizer of Corollary 3.2:
    m·θ/√(D−1), with θ the angle between encoder and decoder direction: W1 = W2 at a minimum, and
    if training errors are alike in all D directions, this is their share along x;
    |Σ(w1_j·u)² − Σ(w2_j·u)²|/2 over the group, the imbalance along x;
    exp(−z²/2), the error of (5) itself, at the gate margin z of the extracted samples.
    The first is a model, not a bound: error that W1 and W2 share along x leaves no trace in the
    weights. Propagation is linear, so read a norm error near the norm as "unknown".

    λ unknown (``lam=None``): all samples share nλ, and the largest nλ is taken for which every
    image, sample + offset, stays inside ``pixel_range``. It assumes that at least one image
    reaches an end of the range; when none does, λ and all norms come out too large. ``n``
    then matters only for ``lam``, the norms do not depend on it. The norm errors carry over the
    uncertainty of the image that touches the range (its gain, and its pixel by θ/√D); they do
    not carry the assumption.

    Args:
      w1_DP, w2_DP: weights, tied, untied or split, in any order.
      sigma: noise level σ > 0 it was trained at, in data units.
      lam: weight decay λ ≥ 0 of objective (1), or None.
      n: number of training samples (objective (1) averages over them).
      pixel_range: lowest and highest pixel value of images; used only when ``lam`` is None.
      offset: (D,) what was subtracted from the images before training; None means 0. Used only
        with ``pixel_range``.

    Raises:
      InputError: for unusable weights, no live unit, σ ≤ 0, λ < 0, n < 1, neither ``lam`` nor
        ``pixel_range``, a range that no λ ≥ 0 can fill, or a gain outside (0, 1), which no
        stored sample has.
    """
    w1_DP, w2_DP = np.asarray(w1_DP), np.asarray(w2_DP)
    check_weight_pair(w1_DP, w2_DP, len(w1_DP) if w1_DP.ndim else 0)
    w1_DP, w2_DP = w1_DP.astype(float), w2_DP.astype(float)
    check_noise_and_decay(sigma, 0.0 if lam is None else lam)
    check_count(n, "n")
    if lam is None and pixel_range is None:
        raise InputError("lam: give the weight decay, or a pixel_range to estimate it from")

    groups_P = _stored_groups(w1_DP, w2_DP)
    if np.all(groups_P < 0):
        raise InputError("weights: no live unit, so nothing is stored")
    encoder_KD, decoder_KD = _group_directions(w1_DP, w2_DP, groups_P)
    gains_K = _answers(w1_DP, w2_DP, decoder_KD)
    _check_gains(gains_K, groups_P)
    order_K = np.argsort(-gains_K, kind="stable")
    encoder_KD, decoder_KD, gains_K = encoder_KD[order_K], decoder_KD[order_K], gains_K[order_K]
    groups_P = np.where(groups_P < 0, -1, np.argsort(order_K)[groups_P])

    angles_K = _angles(encoder_KD, decoder_KD)
    reach, touching = None, None
    if lam is None:
        reach_K = _largest_norms(decoder_KD, *_checked_range(pixel_range, offset, len(w1_DP)))
        decay, touching = _decay_from_reach(gains_K, reach_K, sigma)
        lam, reach = decay / n, reach_K[touching]
    square_K = stored_square_norm(gains_K, sigma, n * lam)
    norms_K = np.sqrt(square_K)
    samples_KD = norms_K[:, None] * decoder_KD
    gain_errors_K = np.sqrt(
        _disagreement(w1_DP, w2_DP, groups_P, decoder_KD, gains_K, angles_K) ** 2
        + _gate_errors(w1_DP, groups_P, samples_KD, sigma) ** 2
    )
    square_errors_K = (n * lam + sigma**2) / (1 - gains_K) ** 2 * gain_errors_K
    if touching is not None:
        square_errors_K = _square_errors_from_reach(
            gains_K, square_errors_K, gain_errors_K, angles_K, touching, reach, sigma, len(w1_DP)
        )
    return Extraction(
        samples=samples_KD,
        gains=gains_K,
        norms=norms_K,
        norm_errors=square_errors_K / (2 * norms_K),
        direction_errors=angles_K,
        groups=groups_P,
        lam=float(lam),
    )


def psnr(
    reference: Float[np.ndarray, "*S"], estimate: Float[np.ndarray, "*S"], data_range: float
) -> float:
    """Peak signal-to-noise ratio 20 log₁₀(range/rms error) in dB; infinite when equal.

    ``data_range`` is highest minus lowest possible pixel value. InputError when the shapes differ
    or the range is not positive.
    """
    reference, estimate = np.asarray(reference, float), np.asarray(estimate, float)
    if reference.shape != estimate.shape:
        raise InputError(f"psnr: shapes differ, {reference.shape} and {estimate.shape}")
    if not data_range > 0:
        raise InputError(f"data_range: must be positive, got {data_range}")
    rms = np.sqrt(np.mean((reference - estimate) ** 2))
    return float("inf") if rms == 0 else float(20 * np.log10(data_range / rms))


def match_samples(extracted_KD: Float[Array, "K D"], true_ND: Float[Array, "N D"]) -> Match:
    """Pair extracted with true samples, one to one, so that the cosines sum to the most.

    Raises InputError for unusable arrays, zero samples, or when their numbers of features differ.
    """
    extracted_KD = check_samples(extracted_KD, "extracted")
    true_ND = check_samples(true_ND, "true")
    if extracted_KD.shape[1] != true_ND.shape[1]:
        raise InputError(
            f"extracted and true samples differ in features: {extracted_KD.shape[1]} and "
            f"{true_ND.shape[1]}"
        )
    cosines_NK = _unit_rows(true_ND, "true") @ _unit_rows(extracted_KD, "extracted").T
    true, extracted = linear_sum_assignment(cosines_NK, maximize=True)
    return Match(extracted, true, cosines_NK[true, extracted])


def _unit_rows(x_ND: Float[np.ndarray, "N D"], name: str) -> Float[np.ndarray, "N D"]:
    norms_N = np.linalg.norm(x_ND, axis=1, keepdims=True)
    if np.any(norms_N == 0):
        raise InputError(f"{name}: a zero sample has no direction to match")
    return x_ND / norms_N


def _stored_groups(w1_DP, w2_DP) -> Int[np.ndarray, " P"]:
    """Collinear groups, merged where their decoder directions are collinear; −1 for dead units."""
    groups_P = collinear_groups(w1_DP, w2_DP)
    if np.all(groups_P < 0):
        return groups_P
    _, decoder_KD = _group_directions(w1_DP, w2_DP, groups_P)
    _, merged_K = connected_components(decoder_KD @ decoder_KD.T > COLLINEAR_COSINE, directed=False)
    return np.where(groups_P < 0, -1, merged_K[groups_P])


def _group_directions(
    w1_DP, w2_DP, groups_P
) -> tuple[Float[np.ndarray, "K D"], Float[np.ndarray, "K D"]]:
    """Leading right and left singular vectors of each group's operator Σ w2_j w1_jᵀ, signed so
    that the group's encoders are positive on them."""
    encoders, decoders = [], []
    for k in range(groups_P.max() + 1):
        a_DJ, b_DJ = w1_DP[:, groups_P == k], w2_DP[:, groups_P == k]
        q1_DR, r1_RJ = np.linalg.qr(a_DJ)
        q2_DR, r2_RJ = np.linalg.qr(b_DJ)
        left, _, right = np.linalg.svd(r2_RJ @ r1_RJ.T)
        for directions, u_D in ((encoders, q1_DR @ right[0]), (decoders, q2_DR @ left[:, 0])):
            directions.append(u_D if np.sum(u_D @ a_DJ) > 0 else -u_D)
    return np.array(encoders), np.array(decoders)


def _answers(w1_DP, w2_DP, u_KD) -> Float[np.ndarray, " K"]:
    """uᵀf(u) for unit vectors u: the total gain along each."""
    return np.sum((u_KD @ w2_DP) * np.maximum(u_KD @ w1_DP, 0.0), axis=1)


def _check_gains(gains_K, groups_P) -> None:
    for k in np.flatnonzero(~((gains_K > 0) & (gains_K < 1))):
        units = np.flatnonzero(groups_P == k)
        raise InputError(
            f"weights: the group of unit {units[0]} ({len(units)} units) has gain "
            f"{gains_K[k]:.6g}, but a stored sample of finite norm has one between 0 and 1; the "
            "net does not memorize, or is not converged"
        )


def _angles(a_KD, b_KD) -> Float[np.ndarray, " K"]:
    """Angles between unit vectors, in radians, exact for small ones."""
    return 2 * np.arcsin(np.minimum(np.linalg.norm(a_KD - b_KD, axis=1) / 2, 1.0))


def _disagreement(w1_DP, w2_DP, groups_P, u_KD, gains_K, angles_K) -> Float[np.ndarray, " K"]:
    """Uncertainty of the gains that W1 and W2 show by disagreeing (see `extract_samples`)."""
    member_KP = groups_P == np.arange(len(u_KD))[:, None]
    square1_K = np.sum((u_KD @ w1_DP) ** 2, axis=1, where=member_KP)
    square2_K = np.sum((u_KD @ w2_DP) ** 2, axis=1, where=member_KP)
    isotropic_K = gains_K * angles_K / np.sqrt(max(u_KD.shape[1] - 1, 1))
    return np.hypot(isotropic_K, (square1_K - square2_K) / 2)


def _gate_errors(w1_DP, groups_P, samples_KD, sigma) -> Float[np.ndarray, " K"]:
    """exp(−z²/2) for the gate margin z of each sample over live units; 1 where z ≤ 0."""
    live_P = groups_P >= 0
    z_KP = samples_KD @ (w1_DP[:, live_P] / np.linalg.norm(w1_DP[:, live_P], axis=0)) / sigma
    own_KP = groups_P[live_P] == np.arange(len(samples_KD))[:, None]
    margin_K = np.min(np.where(own_KP, z_KP, -z_KP), axis=1)
    return np.exp(-(np.maximum(margin_K, 0.0) ** 2) / 2)


def _checked_range(pixel_range, offset, d: int) -> tuple[float, float, Float[np.ndarray, " D"]]:
    low, high = (float(end) for end in pixel_range)
    offset_D = np.broadcast_to(np.asarray(0.0 if offset is None else offset, float), (d,))
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(f"pixel_range: expected two numbers, low < high, got {pixel_range}")
    if not np.all((offset_D >= low) & (offset_D <= high)):
        raise InputError(f"offset: must lie inside the pixel range {low:g} ... {high:g}")
    return low, high, offset_D


def _largest_norms(u_KD, low: float, high: float, offset_D) -> Float[np.ndarray, " K"]:
    """Largest r for which every pixel of r·u + offset is between low and high."""
    room_KD = np.where(u_KD > 0, high - offset_D, offset_D - low)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.min(np.where(u_KD != 0, room_KD / np.abs(u_KD), np.inf), axis=1)


def _decay_from_reach(gains_K, reach_K, sigma: float) -> tuple[float, int]:
    """Largest nλ for which no norm exceeds its reach, and the sample that stops it."""
    decay_K = (1 - gains_K) * reach_K**2 - sigma**2 * gains_K
    touching = int(np.argmin(decay_K))
    if decay_K[touching] < 0:
        raise InputError(
            f"pixel_range: even with lam=0 sample {touching} would leave it; it is too narrow for "
            f"sigma={sigma:g}, or the offset is not the one subtracted"
        )
    return float(decay_K[touching]), touching


def _square_errors_from_reach(
    gains_K, own_errors_K, gain_errors_K, angles_K, touching: int, reach: float, sigma: float, d
) -> Float[np.ndarray, " K"]:
    """Uncertainty of ‖x‖² when nλ = (1 − m_t)R² − σ²m_t comes from the sample t that touches.

    For t itself the errors of m_t cancel and that of R, by its pixel's direction, remains.
    """
    pixel = angles_K[touching] / np.sqrt(d) / (1 / reach)
    return np.zeros_like(own_errors_K) + pixel  # replaced below
