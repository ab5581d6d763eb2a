"""When do diffusion models memorize, and when do they generalize? A theory, verified in numbers.

Public API of the package; equations are numbered as in the documentation of `theory`.
"""

from dae_theory.census import Minimum, classify_minimum, count_minima, settle_minimum
from dae_theory.compare import Comparison, collinear_groups, compare_weights
from dae_theory.curvature import (
    SecondOrder,
    Spectrum,
    hessian_spectrum,
    newton_modulo_symmetry,
    predict_curvature,
    second_order,
)
from dae_theory.dead_units import DeadUnitCertificate, dead_unit_certificate, unit_pull
from dae_theory.denoisers import (
    Denoiser,
    DenoisingErrors,
    denoising_errors,
    empirical_denoiser,
    gaussian_denoiser,
    local_pca_denoiser,
    mixture_denoiser,
    relu_denoiser,
    switching_denoiser,
)
from dae_theory.diffusion import (
    edm_coefficients,
    edm_schedule,
    ema_update,
    geometric_schedule,
    guided,
    log_normal_sigmas,
    log_uniform_sigmas,
    sample_ode,
    sample_sde,
    start_noise,
)
from dae_theory.errors import InputError
from dae_theory.existence import Existence, hessian_lipschitz, newton_kantorovich
from dae_theory.extract import Extraction, Match, extract_samples, match_samples, psnr
from dae_theory.loss import MehlerLoss, exact_loss, mehler_loss, sampled_loss
from dae_theory.memorization import (
    COPY_RATIO,
    CopyThreshold,
    Reproducibility,
    Share,
    copy_threshold,
    fraction_memorized,
    gap_ratio,
    reproducibility,
)
from dae_theory.model import ReluDAE, denoise, encode, init_weights
from dae_theory.multi_sigma import (
    MultiSigmaConfig,
    MultiSigmaDAE,
    MultiSigmaResult,
    PreconditionedDAE,
    multi_sigma_denoiser,
    train_multi_sigma,
)
from dae_theory.nearest import (
    Nearest,
    NearestCosine,
    duplicate_groups,
    nearest_cosine,
    nearest_two,
)
from dae_theory.representation import merge_groups, spikiness
from dae_theory.separability import (
    Separability,
    SeparableSubset,
    gate_margin,
    separability,
    separable_subset,
)
from dae_theory.solve import Solution, gradient_norm, solve_local_minimum
from dae_theory.symmetry import distance_modulo_symmetry, flat_directions, gate_groups
from dae_theory.theory import (
    Prediction,
    predict_blocks,
    predict_generalization,
    predict_hybrid_gain,
    predict_memorization,
)
from dae_theory.train import TrainConfig, TrainResult, live_units, train, train_many

__all__ = [
    "COPY_RATIO",
    "Comparison",
    "CopyThreshold",
    "DeadUnitCertificate",
    "Denoiser",
    "DenoisingErrors",
    "Existence",
    "Extraction",
    "InputError",
    "Match",
    "MehlerLoss",
    "Minimum",
    "MultiSigmaConfig",
    "MultiSigmaDAE",
    "MultiSigmaResult",
    "Nearest",
    "NearestCosine",
    "PreconditionedDAE",
    "Prediction",
    "ReluDAE",
    "Reproducibility",
    "SecondOrder",
    "Separability",
    "SeparableSubset",
    "Share",
    "Solution",
    "Spectrum",
    "TrainConfig",
    "TrainResult",
    "classify_minimum",
    "collinear_groups",
    "compare_weights",
    "copy_threshold",
    "count_minima",
    "dead_unit_certificate",
    "denoise",
    "denoising_errors",
    "distance_modulo_symmetry",
    "duplicate_groups",
    "edm_coefficients",
    "edm_schedule",
    "ema_update",
    "empirical_denoiser",
    "encode",
    "exact_loss",
    "extract_samples",
    "flat_directions",
    "fraction_memorized",
    "gap_ratio",
    "gate_groups",
    "gate_margin",
    "gaussian_denoiser",
    "geometric_schedule",
    "gradient_norm",
    "guided",
    "hessian_lipschitz",
    "hessian_spectrum",
    "init_weights",
    "live_units",
    "local_pca_denoiser",
    "log_normal_sigmas",
    "log_uniform_sigmas",
    "match_samples",
    "mehler_loss",
    "merge_groups",
    "mixture_denoiser",
    "multi_sigma_denoiser",
    "nearest_cosine",
    "nearest_two",
    "newton_kantorovich",
    "newton_modulo_symmetry",
    "predict_blocks",
    "predict_curvature",
    "predict_generalization",
    "predict_hybrid_gain",
    "predict_memorization",
    "psnr",
    "relu_denoiser",
    "reproducibility",
    "sample_ode",
    "sample_sde",
    "sampled_loss",
    "second_order",
    "separability",
    "separable_subset",
    "settle_minimum",
    "solve_local_minimum",
    "spikiness",
    "start_noise",
    "switching_denoiser",
    "train",
    "train_many",
    "train_multi_sigma",
    "unit_pull",
]
