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
from scipy.special import ndtr

from dae_theory.checks import (
    InputError,
    check_count,
    check_noise_and_decay,
    check_samples,
    check_weights,
)
from dae_theory.relu.units import COLLINEAR_COSINE, collinear_groups

TIED = 1e-15  # relative ‖W1 − W2‖ below which they are one and the same but for scaling
SEEN = 3.0  # pixels within this many uncertainties of zero do not limit a sample's norm


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
    such groups are returned as well, and the third part of the uncertainty is large for them.

    Direction: the leading left singular vector of the group's operator Σ_j w2_j w1_jᵀ, signed
    so that its encoders are positive on it. The decoder is trusted with the direction because
    every gradient of W2 is a combination of samples and of columns of W2, so that gradient noise
    does not turn it away from the samples, whereas the gradient of W1 contains the noise itself,
    and W1 may leave their span even at a minimum (docs/THEORY.md#span).
    W1 forms the groups, gives the sign, and its angle to the decoder is ``direction_errors``.

    Gain: m = uᵀf(u), the net's answer to the direction u itself. It sums w2_j·u (w1_j·u)_+ over
    all units that are active on u, in the group or not: weak units, still dying, at cosines below
    the group's take part of the gain, and stationarity fixes only the total.

    Uncertainty: m is known only as well as training converged, and 1/(1 − m) amplifies its error:
    δ‖x‖² = (nλ + σ²)/(1 − m)² δm, so that δ‖x‖²/‖x‖² ≈ δm/(1 − m). δm adds up, in squares, three
    things that vanish at the minimizer of Corollary 3.2 and can be seen in the weights:
    - √(m/D)·‖W1 − W2‖_F over the group, its units balanced first. There W1 = W2; errors
      that are independent and alike in all D directions move m by this much.
    - (1 − m)(1 − 1/cosh ln(‖w1‖/‖w2‖)), what unequal lengths change in the stationary gain.
    - the largest share of the noisy sample's energy that a wrong gate passes; it is large when
      units are entangled and vanishes like exp(−z²/2) in the gate margin z.
    The first is a model, not a bound: errors that W1 and W2 share leave no trace in the weights.
    Two uncertainties cover 85% of norms [14, 98] over eight trained nets of five images each, not
    the 95% that they promise, and errors are 1.6 times as large as stated (claim
    extraction/coverage, ``python -m proofs_checks.run --regime=memorize --verbose``).
    It is too small where training has not settled, as at a constant learning rate. A tied net
    cannot disagree with itself: where W1 = W2 to rounding, norm_errors are NaN, unknown, and
    direction_errors are 0 and say nothing either. Propagation is linear: read a norm error near
    the norm as "scale unknown".

    λ unknown (``lam=None``): all samples share nλ, and the largest nλ is taken for which every
    image, sample + offset, stays inside ``pixel_range`` (pixels within 3 uncertainties of zero in
    the direction, such as borders that are always black, are left out). It assumes that at least
    one image reaches an end of the range; when none does, λ and all norms come out too large. When
    several nearly do, the smallest of their noisy estimates is taken, which is too low. ``n`` then
    matters only for ``lam``, the norms do not depend on it. The norm errors contain what the image
    that touches the range is uncertain by (its gain, and its direction), but neither of these
    biases.

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
    check_weights(w1_DP, w2_DP, len(w1_DP) if w1_DP.ndim else 0)
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
    if lam is None:
        ends = _checked_range(pixel_range, offset, len(w1_DP))
        reach_K, reach_errors_K = _largest_norms(decoder_KD, angles_K, *ends)
        decay, touching = _decay_from_reach(gains_K, reach_K, sigma)
    else:
        decay = n * lam
    norms_K = np.sqrt(stored_square_norm(gains_K, sigma, decay))
    samples_KD = norms_K[:, None] * decoder_KD
    gain_errors_K = np.hypot(
        _disagreement(w1_DP, w2_DP, groups_P, gains_K), _leaks(w1_DP, groups_P, samples_KD, sigma)
    )
    if lam is None:
        square_errors_K = _square_errors_from_reach(
            gains_K, gain_errors_K, reach_K, reach_errors_K, touching, sigma
        )
    else:
        square_errors_K = (decay + sigma**2) / (1 - gains_K) ** 2 * gain_errors_K
    return Extraction(
        samples=samples_KD,
        gains=gains_K,
        norms=norms_K,
        norm_errors=square_errors_K / (2 * norms_K),
        direction_errors=angles_K,
        groups=groups_P,
        lam=float(decay / n if lam is None else lam),
    )


def psnr(
    reference: Float[np.ndarray, "*S"], estimate: Float[np.ndarray, "*S"], data_range: float
) -> float:
    """Peak signal-to-noise ratio 20 log₁₀(range/rms error) in dB, as scikit-image has it; infinite
    when equal.

    ``data_range`` is highest minus lowest possible pixel value. InputError when the shapes differ
    or the range is not positive.
    """
    from skimage.metrics import peak_signal_noise_ratio

    reference, estimate = np.asarray(reference, float), np.asarray(estimate, float)
    if reference.shape != estimate.shape:
        raise InputError(f"psnr: shapes differ, {reference.shape} and {estimate.shape}")
    if not data_range > 0:
        raise InputError(f"data_range: must be positive, got {data_range}")
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(reference, estimate, data_range=data_range))


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


def _stored_groups(
    w1_DP: Float[np.ndarray, "D P"], w2_DP: Float[np.ndarray, "D P"]
) -> Int[np.ndarray, " P"]:
    """Collinear groups, merged where their decoder directions are collinear; −1 for dead units."""
    groups_P = collinear_groups(w1_DP, w2_DP)
    if np.all(groups_P < 0):
        return groups_P
    _, decoder_KD = _group_directions(w1_DP, w2_DP, groups_P)
    _, merged_K = connected_components(decoder_KD @ decoder_KD.T > COLLINEAR_COSINE, directed=False)
    return np.where(groups_P < 0, -1, merged_K[groups_P])


def _group_directions(
    w1_DP: Float[np.ndarray, "D P"],
    w2_DP: Float[np.ndarray, "D P"],
    groups_P: Int[np.ndarray, " P"],
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


def _answers(
    w1_DP: Float[np.ndarray, "D P"],
    w2_DP: Float[np.ndarray, "D P"],
    u_KD: Float[np.ndarray, "K D"],
) -> Float[np.ndarray, " K"]:
    """uᵀf(u) for unit vectors u: the total gain along each."""
    return np.sum((u_KD @ w2_DP) * np.maximum(u_KD @ w1_DP, 0.0), axis=1)


def _check_gains(gains_K: Float[np.ndarray, " K"], groups_P: Int[np.ndarray, " P"]) -> None:
    for k in np.flatnonzero(~((gains_K > 0) & (gains_K < 1))):
        units = np.flatnonzero(groups_P == k)
        raise InputError(
            f"weights: the group of unit {units[0]} ({len(units)} units) has gain "
            f"{gains_K[k]:.6g}, but a stored sample of finite norm has one between 0 and 1; the "
            "net does not memorize, or is not converged"
        )


def _angles(
    a_KD: Float[np.ndarray, "K D"], b_KD: Float[np.ndarray, "K D"]
) -> Float[np.ndarray, " K"]:
    """Angles between unit vectors, in radians, exact for small ones."""
    return 2 * np.arcsin(np.minimum(np.linalg.norm(a_KD - b_KD, axis=1) / 2, 1.0))


def _disagreement(
    w1_DP: Float[np.ndarray, "D P"],
    w2_DP: Float[np.ndarray, "D P"],
    groups_P: Int[np.ndarray, " P"],
    gains_K: Float[np.ndarray, " K"],
) -> Float[np.ndarray, " K"]:
    """Uncertainty of the gains that W1 and W2 show by disagreeing in direction and in length
    (see `extract_samples`); NaN for groups in which they are equal, as in a tied net."""
    norm1_P, norm2_P = np.linalg.norm(w1_DP, axis=0), np.linalg.norm(w2_DP, axis=0)
    live_P = groups_P >= 0
    errors = []
    for k, gain in enumerate(gains_K):
        unit = live_P & (groups_P == k)
        strength_J = norm1_P[unit] * norm2_P[unit]
        between_DJ = w1_DP[:, unit] / norm1_P[unit] - w2_DP[:, unit] / norm2_P[unit]
        gap = np.sqrt(np.sum(strength_J * np.sum(between_DJ**2, axis=0)))  # ‖W1 − W2‖, balanced
        log_ratio = np.average(np.abs(np.log(norm1_P[unit] / norm2_P[unit])), weights=strength_J)
        isotropic = gap * np.sqrt(gain / len(w1_DP))
        imbalance = (1 - gain) * (1 - 1 / np.cosh(log_ratio))
        tied = gap <= TIED * np.sqrt(np.sum(strength_J))
        errors.append(np.nan if tied else np.hypot(isotropic, imbalance))
    return np.array(errors)


def _leaks(
    w1_DP: Float[np.ndarray, "D P"],
    groups_P: Int[np.ndarray, " P"],
    samples_KD: Float[np.ndarray, "K D"],
    sigma: float,
) -> Float[np.ndarray, " K"]:
    """Largest share of a noisy sample's energy that one wrong gate passes:
    E[(ŵᵀ(x + σε))_+²]/‖x‖² over units of other groups, and of −ŵ over its own."""
    live_P = groups_P >= 0
    z_KP = samples_KD @ (w1_DP[:, live_P] / np.linalg.norm(w1_DP[:, live_P], axis=0)) / sigma
    own_KP = groups_P[live_P] == np.arange(len(samples_KD))[:, None]
    wrong_K = np.max(np.where(own_KP, -z_KP, z_KP), axis=1)
    density_K = np.exp(-(wrong_K**2) / 2) / np.sqrt(2 * np.pi)
    energy_K = (1 + wrong_K**2) * ndtr(wrong_K) + wrong_K * density_K
    return np.maximum(energy_K, 0.0) * sigma**2 / np.sum(samples_KD**2, axis=1)


def _checked_range(
    pixel_range: tuple[float, float], offset: Float[Array, " D"] | float | None, d: int
) -> tuple[float, float, Float[np.ndarray, " D"]]:
    """Both ends of the range and the offset of each pixel, or InputError."""
    ends = np.asarray(pixel_range, float)
    if ends.shape != (2,) or not np.all(np.isfinite(ends)) or not ends[0] < ends[1]:
        raise InputError(f"pixel_range: expected two numbers, low < high, got {pixel_range}")
    offset_D = np.asarray(0.0 if offset is None else offset, float)
    if offset_D.shape not in ((), (d,)):
        raise InputError(f"offset: expected shape ({d},), got {offset_D.shape}")
    if not np.all((offset_D >= ends[0]) & (offset_D <= ends[1])):
        raise InputError(f"offset: must lie inside the pixel range {ends[0]:g} ... {ends[1]:g}")
    return float(ends[0]), float(ends[1]), np.broadcast_to(offset_D, (d,))


def _largest_norms(
    u_KD: Float[np.ndarray, "K D"],
    angles_K: Float[np.ndarray, " K"],
    low: float,
    high: float,
    offset_D: Float[np.ndarray, " D"],
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Largest r for which every pixel of r·u + offset is between low and high, and the
    uncertainty of r by that of u at the pixel that limits it, θ/√D."""
    error_K = np.maximum(angles_K / np.sqrt(u_KD.shape[1]), np.finfo(float).eps)
    room_KD = np.where(u_KD > 0, high - offset_D, offset_D - low)
    seen_KD = np.abs(u_KD) > SEEN * error_K[:, None]
    limit_KD = np.where(seen_KD, room_KD / np.where(seen_KD, np.abs(u_KD), 1.0), np.inf)
    pixel_K = np.argmin(limit_KD, axis=1)
    which_K = np.arange(len(u_KD))
    reach_K = limit_KD[which_K, pixel_K]
    return reach_K, reach_K * error_K / np.abs(u_KD[which_K, pixel_K])


def _decay_from_reach(
    gains_K: Float[np.ndarray, " K"], reach_K: Float[np.ndarray, " K"], sigma: float
) -> tuple[float, int]:
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
    gains_K: Float[np.ndarray, " K"],
    gain_errors_K: Float[np.ndarray, " K"],
    reach_K: Float[np.ndarray, " K"],
    reach_errors_K: Float[np.ndarray, " K"],
    touching: int,
    sigma: float,
) -> Float[np.ndarray, " K"]:
    """Uncertainty of ‖x_k‖² = ((1 − m_t)R² + σ²(m_k − m_t))/(1 − m_k), where the sample t that
    touches the range has norm R. For t itself m_t drops out, but which sample touches is known
    only as well as the gains, so nothing is taken off for it."""
    reach, reach_error = reach_K[touching], reach_errors_K[touching]
    shrink_K, touching_shrink = 1 - gains_K, 1 - gains_K[touching]
    square_K = (touching_shrink * reach**2 + sigma**2 * (touching_shrink - shrink_K)) / shrink_K
    own_K = (square_K + sigma**2) / shrink_K * gain_errors_K
    touching_K = (reach**2 + sigma**2) / shrink_K * gain_errors_K[touching]
    range_K = touching_shrink / shrink_K * 2 * reach * reach_error
    return np.sqrt(own_K**2 + touching_K**2 + range_K**2)
