"""When do diffusion models memorize, and when do they generalize? A theory, verified in numbers.

Public API of the package; equations are numbered as in the documentation of `theory`.
"""

from dae_theory.compare import Comparison, collinear_groups, compare_weights
from dae_theory.denoisers import (
    Denoiser,
    empirical_denoiser,
    gaussian_denoiser,
    mixture_denoiser,
    relu_denoiser,
)
from dae_theory.errors import InputError
from dae_theory.extract import Extraction, Match, extract_samples, match_samples, psnr
from dae_theory.loss import MehlerLoss, exact_loss, mehler_loss, sampled_loss
from dae_theory.model import ReluDAE, denoise, encode, init_weights
from dae_theory.representation import merge_groups, spikiness
from dae_theory.separability import (
    Separability,
    SeparableSubset,
    gate_margin,
    separability,
    separable_subset,
)
from dae_theory.solve import Solution, gradient_norm, solve_local_minimum
from dae_theory.theory import (
    Prediction,
    predict_blocks,
    predict_generalization,
    predict_hybrid_gain,
    predict_memorization,
)
from dae_theory.train import TrainConfig, TrainResult, live_units, train, train_many

__all__ = [
    "Comparison",
    "Denoiser",
    "Extraction",
    "InputError",
    "Match",
    "MehlerLoss",
    "Prediction",
    "ReluDAE",
    "Separability",
    "SeparableSubset",
    "Solution",
    "TrainConfig",
    "TrainResult",
    "collinear_groups",
    "compare_weights",
    "denoise",
    "empirical_denoiser",
    "encode",
    "exact_loss",
    "extract_samples",
    "gate_margin",
    "gaussian_denoiser",
    "gradient_norm",
    "init_weights",
    "live_units",
    "match_samples",
    "mehler_loss",
    "merge_groups",
    "mixture_denoiser",
    "predict_blocks",
    "predict_generalization",
    "predict_hybrid_gain",
    "predict_memorization",
    "psnr",
    "relu_denoiser",
    "sampled_loss",
    "separability",
    "separable_subset",
    "solve_local_minimum",
    "spikiness",
    "train",
    "train_many",
]
