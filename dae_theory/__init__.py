"""When do diffusion models memorize, and when do they generalize? A theory, verified in numbers.

This is the public API by room; a room is imported when one of its names is first used. Equations
are numbered as in docs/THEORY.md.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checks": ["InputError"],
        "statistics": ["Interval"],
        "data.subsets": ["SeparableSubset", "separable_subset"],
        "theory.closed_forms": [
            "Prediction",
            "predict_blocks",
            "predict_generalization",
            "predict_hybrid_gain",
            "predict_memorization",
        ],
        "theory.separability": ["Separability", "gate_margin", "separability"],
        "theory.spectrum": ["Spectrum", "predict_curvature"],
        "theory.symmetry": ["distance_modulo_symmetry", "flat_directions", "gate_groups"],
        "relu.loss": ["exact_loss", "sampled_loss"],
        "relu.mehler": ["MehlerLoss", "mehler_loss"],
        "relu.model": ["ReluDAE", "denoise", "encode", "init_weights"],
        "relu.optimize": ["TrainConfig"],
        "relu.train": ["TrainResult", "train", "train_many"],
        "relu.units": ["collinear_groups", "live_units", "merge_groups", "spikiness"],
        "solve.derivatives": ["gradient_norm"],
        "solve.local": ["solve_local_minimum"],
        "solve.newton": ["Solution", "newton_modulo_symmetry"],
        "weights.compare": ["Comparison", "compare_weights"],
        "weights.extract": ["Extraction", "Match", "extract_samples", "match_samples", "psnr"],
        "minima.census": ["Minimum", "classify_minimum", "count_minima", "find_minimum"],
        "minima.dead_units": ["DeadUnitCertificate", "dead_unit_certificate", "first_variation"],
        "minima.existence": ["Existence", "hessian_lipschitz", "newton_kantorovich"],
        "minima.stationarity": ["Remaining", "remaining_decrease"],
        "minima.second_order": ["SecondOrder", "hessian_spectrum", "second_order"],
        "memorization.copies": [
            "COPY_RATIO",
            "CopyThreshold",
            "Reproducibility",
            "copy_threshold",
            "fraction_memorized",
            "gap_ratio",
            "reproducibility",
        ],
        "memorization.nearest": [
            "Nearest",
            "NearestCosine",
            "duplicate_groups",
            "near_duplicate_groups",
            "nearest_cosine",
            "nearest_two",
            "with_mirrored",
        ],
        "diffusion.denoisers": [
            "Denoiser",
            "DenoisingErrors",
            "denoising_errors",
            "empirical_denoiser",
            "gaussian_denoiser",
            "homogeneous_empirical_denoiser",
            "local_pca_denoiser",
            "mixture_denoiser",
            "relu_denoiser",
            "switching_denoiser",
        ],
        "diffusion.multi_sigma": [
            "MultiSigmaConfig",
            "MultiSigmaDAE",
            "MultiSigmaResult",
            "PreconditionedDAE",
            "multi_sigma_denoiser",
            "train_multi_sigma",
        ],
        "diffusion.samplers": ["guided", "sample_ode", "sample_sde", "start_noise"],
        "diffusion.schedules": [
            "edm_coefficients",
            "edm_schedule",
            "geometric_schedule",
            "log_normal_sigmas",
            "log_uniform_sigmas",
        ],
    },
)
