"""What is measured of a denoiser of the ladder, as pure functions of its outputs and Jacobians.

The theory says (docs/THEORY.md#jacobian, #local-statistics): at a stored image J = m x̂x̂ᵀ; where a
net generalizes, J = S(S + σ²)⁻¹ of the images around, with S their second moment about 0 (their
covariance in a net with biases). One image is the smallest neighbourhood, and all images the
largest, so that both are ends of one series.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dae_theory.diffusion.jacobian import (
    decompose,
    gains_along,
    local_operator,
    nearest_samples,
    summarize_jacobians,
    top_direction_cosines,
)
from dae_theory.memorization.copies import COPY_RATIO, gap_ratio
from dae_theory.memorization.nearest import nearest_two
from dae_theory.relu.units import spikiness

NEIGHBOURS = (1, 10, 100, 1000)
MOMENTS = {"second moment": False, "covariance": True}  # whether it is taken about the mean
OWNED = 0.5  # share of a unit's energy in one image from which on the unit stores it


class Points(NamedTuple):
    """Images ``clean``, what was made ``noisy`` of them, ``denoised``, and Jacobians there."""

    clean: Float[np.ndarray, "N D"]
    noisy: Float[np.ndarray, "N D"]
    denoised: Float[np.ndarray, "N D"]
    matrix: Float[np.ndarray, "N D D"]


def jacobian_quantities(points: Points, sigma: float) -> dict[str, float]:
    """Means over the points.

    trace, participation (ratio of the singular values), stable_rank, top (singular value);
    antisymmetric, share of the energy ‖J‖²;
    left, right, |cosine| of the top direction of outputs and of inputs with the image; gain, x̂ᵀJx̂;
    other_left, other_right, other_gain, the same with the image of another point;
    gain_of_5, ‖x‖²/(‖x‖² + σ²), what (5) says of the gain;
    degree, ⟨Jy, D⟩/‖D‖², that of homogeneity where there is one;
    error, Σ‖D − x‖²/Σ‖x‖².
    """
    jacobians = decompose(points.matrix)
    summary = summarize_jacobians(jacobians)
    square_N = np.sum(points.clean.astype(np.float64) ** 2, axis=1)
    moved_ND = np.einsum("nde,ne->nd", points.matrix, points.noisy)
    with np.errstate(invalid="ignore"):  # a denoiser that is 0 has no degree
        degree_N = np.sum(moved_ND * points.denoised, axis=1) / np.sum(points.denoised**2, axis=1)
    found = {
        "trace": summary.trace,
        "participation": summary.participation_ratio,
        "stable_rank": summary.stable_rank,
        "top": summary.top,
        "antisymmetric": summary.asymmetry**2,
        "gain_of_5": square_N / (square_N + sigma**2),
        "degree": degree_N,
        "error": np.sum((points.denoised - points.clean) ** 2, axis=1) / np.mean(square_N),
    }
    for prefix, x_ND in (("", points.clean), ("other_", np.roll(points.clean, 1, axis=0))):
        left_N, right_N = top_direction_cosines(jacobians, x_ND)
        found |= {f"{prefix}left": left_N, f"{prefix}right": right_N}
        found[f"{prefix}gain"] = gains_along(points.matrix, x_ND)
    return {name: float(np.mean(values_N)) for name, values_N in found.items()}


def copied_share(denoised_ND: np.ndarray, training_MD: np.ndarray) -> float:
    """Share of outputs that are copies of a training image; NaN unless there are two."""
    if len(training_MD) < 2:
        return float("nan")
    ratios_N = gap_ratio(nearest_two(denoised_ND, training_MD).distances)
    return float(np.mean(ratios_N < COPY_RATIO))


def neighbourhood_operators(
    clean_ND: Float[np.ndarray, "N D"],
    labels_N: Int[np.ndarray, " N"] | None,
    training_MD: Float[np.ndarray, "M D"],
    training_labels_M: Int[np.ndarray, " M"] | None,
    sigma: float,
) -> dict[str, Float[np.ndarray, "N D D"]]:
    """S(S + σ²)⁻¹ of the training images nearest to each image, of those of its label, and of all.

    Keys are 'second moment/10', 'covariance/label', …, 'second moment/all'. Neighbourhoods larger
    than the training set, and labels that it lacks, are left out.
    """
    counts = [count for count in NEIGHBOURS if count <= len(training_MD)]
    order_NK = nearest_samples(clean_ND, training_MD, counts[-1])
    groups: dict[str, list[np.ndarray]] = {
        str(count): [training_MD[near_K[:count]] for near_K in order_NK] for count in counts
    }
    if labels_N is not None and set(labels_N) <= set(training_labels_M):
        of_label = {label: training_MD[training_labels_M == label] for label in set(labels_N)}
        groups["label"] = [of_label[label] for label in labels_N]
    groups["all"] = [training_MD]
    operators = {}
    for name, clusters in groups.items():
        for moment, centred in MOMENTS.items():
            if centred and min(map(len, clusters)) < 2:
                continue  # one image has no covariance
            matrices = [local_operator(x_KD, sigma, centred).matrix for x_KD in clusters]
            operators[f"{moment}/{name}"] = np.stack(matrices)
    return operators


def operator_quantities(
    matrix_NDD: Float[np.ndarray, "N D D"], operators: Mapping[str, Float[np.ndarray, "*N D D"]]
) -> dict[str, float]:
    """``NAME/cosine``, ⟨J, M⟩/‖J‖‖M‖, and ``NAME/distance``, ‖J − M‖/‖M‖, means over the points;
    one operator for all points stands for each of them."""
    found = {}
    norm_N = np.linalg.norm(matrix_NDD, axis=(1, 2))
    for name, predicted_NDD in operators.items():
        predicted_N = np.linalg.norm(predicted_NDD, axis=(1, 2))
        inner_N = np.sum(matrix_NDD * predicted_NDD, axis=(1, 2))
        away_N = np.linalg.norm(matrix_NDD - predicted_NDD, axis=(1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            found[f"{name}/cosine"] = float(np.mean(inner_N / (norm_N * predicted_N)))
            found[f"{name}/distance"] = float(np.mean(away_N / predicted_N))
    return found


def layer_quantities(hidden_KMP: Float[np.ndarray, "K M P"]) -> dict[str, float]:
    """Of one layer at M images under K draws of noise.

    units, the effective number (Σh²)²/Σh⁴; hoyer, 0 (balanced) to 1 (one unit), means over images
    and noise; stored, units at least half of whose energy comes from one of the images, for each
    image.
    """
    statistics = spikiness(np.abs(hidden_KMP))
    energy_MP = np.mean(np.asarray(hidden_KMP, np.float64) ** 2, axis=0)
    live_P = np.sum(energy_MP, axis=0) > 0
    share_P = np.max(energy_MP[:, live_P], axis=0) / np.sum(energy_MP[:, live_P], axis=0)
    return {
        "units": float(np.nanmean(statistics["participation_ratio"])),
        "hoyer": float(np.nanmean(statistics["hoyer"])),
        "stored": float(np.sum(share_P >= OWNED) / hidden_KMP.shape[1]),
    }
