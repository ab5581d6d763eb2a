"""The table of scores. A new one is a file with its function, and a line here."""

from collections.abc import Mapping
from types import MappingProxyType

from dae_theory.detect.scores import (
    curvature,
    density,
    guidance,
    spikiness,
    trace,
)
from dae_theory.detect.scores.denoising_error import denoising_error
from dae_theory.detect.scores.gap import training_gap
from dae_theory.detect.scores.merged import merged_units
from dae_theory.detect.scores.outlier import activation_outlier
from dae_theory.detect.scores.score import Need, Score

IMAGE = frozenset({Need.IMAGE})
CAPTION = frozenset({Need.CAPTION})
IN_A_LAYER = IMAGE | {Need.LAYER}
THIS_PAPER = "arXiv 2512.20963"

_ALL = (
    Score("std", spikiness.std, 1, IN_A_LAYER, lambda s, m: s.draws, THIS_PAPER),
    Score(
        "variation",
        spikiness.coefficient_of_variation,
        1,
        IN_A_LAYER,
        lambda s, m: s.draws,
        "scale-free std",
    ),
    Score("l4_l2", spikiness.l4_l2, 1, IN_A_LAYER, lambda s, m: s.draws, "scale-free std"),
    Score("hoyer", spikiness.hoyer, 1, IN_A_LAYER, lambda s, m: s.draws, "Hoyer 2004"),
    Score(
        "participation_ratio",
        spikiness.participation_ratio,
        -1,
        IN_A_LAYER,
        lambda s, m: s.draws,
        "effective number of units",
    ),
    Score(
        "merged_units",
        merged_units,
        -1,
        IN_A_LAYER,
        lambda s, m: s.draws,
        "effective number of merged units",
        "docs/THEORY.md#representation",
    ),
    Score(
        "denoising_error",
        denoising_error,
        -1,
        IMAGE,
        lambda s, m: s.draws,
        "denoising error at low noise",
    ),
    Score(
        "jacobian_trace",
        trace.jacobian_trace,
        -1,
        IMAGE | {Need.JACOBIAN},
        lambda s, m: 2 * s.draws * s.probes,
        "kept directions",
    ),
    Score(
        "local_dimension",
        trace.local_dimension,
        -1,
        IMAGE | {Need.JACOBIAN},
        lambda s, m: 2 * s.draws * s.probes + 1,
        "Kamkari et al. 2024, Ross et al. 2025",
    ),
    Score(
        "sharpness",
        curvature.sharpness,
        1,
        IMAGE | {Need.JACOBIAN},
        lambda s, m: 3 * s.draws,
        "after Jeon et al. 2025, without caption",
    ),
    Score(
        "activation_outlier",
        activation_outlier,
        1,
        IN_A_LAYER | {Need.CALIBRATION},
        lambda s, m: s.draws,
        "after Hintersdorf et al. 2024",
    ),
    Score(
        "guidance_norm",
        guidance.guidance_norm,
        1,
        CAPTION,
        lambda s, m: 2 * s.steps,
        "Wen et al. 2024",
    ),
    Score(
        "sharpness_difference",
        curvature.sharpness_difference,
        1,
        CAPTION | {Need.JACOBIAN},
        lambda s, m: 6 * s.draws,
        "Jeon et al. 2025",
    ),
    Score(
        "curvature_difference",
        curvature.curvature_difference,
        -1,
        IMAGE | CAPTION | {Need.JACOBIAN},
        lambda s, m: 4 * s.draws * s.probes,
        "Hessian difference, 2026",
    ),
    Score(
        "anisotropy",
        guidance.anisotropy,
        1,
        IMAGE | CAPTION,
        lambda s, m: 4 * s.draws,
        "Asthana and Belagiannis 2026",
    ),
    Score(
        "generation_radius",
        density.generation_radius,
        -1,
        CAPTION | {Need.GENERATIONS},
        lambda s, m: s.generations * m,
        "after Carlini et al. 2023",
    ),
    Score(
        "training_gap",
        training_gap,
        -1,
        IMAGE | {Need.TRAINING},
        lambda s, m: 0,
        "Yoon et al. 2023",
        "docs/THEORY.md#copies",
    ),
)
SCORES: Mapping[str, Score] = MappingProxyType({score.name: score for score in _ALL})
