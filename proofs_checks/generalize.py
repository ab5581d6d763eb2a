"""Generalization (Theorem 3.1, Corollary 3.3): the weights hold the local data statistics."""

from dataclasses import replace

import numpy as np

from dae_theory.checks import InputError
from dae_theory.data.dataset import Dataset
from dae_theory.data.mixtures import separable_mixture
from proofs_checks.blocks import (
    N_CLUSTERS,
    TIGHT_ALPHA,
    TIGHT_SIGMA,
    Blocks,
    assumptions,
    block_arrays,
    block_training,
    cluster_labels,
    default_decay,
    even_widths,
    loss_formula_evidence,
    predict_on,
    settings,
    some_follow_gates,
    stationarity_evidence,
    vacuous_or,
)
from proofs_checks.claims import (
    Claim,
    Mutant,
    unmet,
)
from proofs_checks.config import RunConfig
from proofs_checks.generalize_evidence import (
    Generalization,
    known_mixture,
    measure_balanced,
    measure_block_structure,
    measure_closer_to_truth,
    measure_halves_agree,
    measure_population_rate,
    measure_residual_decay,
    measure_test_loss_exact,
    measure_test_loss_limit,
    measure_trained_blocks,
    measure_trained_loss,
    measure_trained_population,
    measure_unseen_units,
    printed_test_loss,
    several_directions,
    with_controls,
)
from proofs_checks.generalize_mutants import (
    DOUBLE_SIGMA,
    EXCHANGED,
    HALF_LAMBDA,
    OTHER_MIXTURE,
    PRINTED_SIGMA,
    SCALED,
    SHUFFLED,
    SWAPPED,
    UNTRAINED,
    bias_only,
    limit_formula,
    one_half_untrained,
    truncated,
)
from proofs_checks.nets import (
    Progress,
    WeightsFile,
    make_nets,
)
from proofs_checks.probes import (
    EXACT_MARGIN,
    TRAINED_MARGIN,
)

DIMENSION, RANK, BETA, ALPHA = 32, 3, -0.5, 0.2
DEFAULT_N, DEFAULT_P, DEFAULT_SIGMA = 300, 12, 0.05


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
    exemplars = x_ND[np.unique(labels_N, return_index=True)[1]]
    data_sets = [x_ND, x_ND[::2], x_ND[1::2], exemplars]
    if len(x_ND) < 2:
        raise InputError("n: two disjoint halves need at least two samples")
    nets, half_a, half_b, memorizing = make_nets(
        data_sets, block_training(blocks), config, "training generalizing nets", progress
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


def tight_blocks(widths: tuple[int, ...], n: int = 120) -> Blocks:
    """Tight clusters on which the gate margin makes the closed forms exact."""
    mixture = separable_mixture(
        N_CLUSTERS, DIMENSION, rank=RANK, beta=BETA, alpha=TIGHT_ALPHA, seed=1
    )
    x_ND, labels_N = mixture.sample(1, n)
    lam = default_decay(x_ND, labels_N, widths)
    return Blocks(x_ND, labels_N, widths, TIGHT_SIGMA, lam)


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
        vacuous_or(EXACT_MARGIN, "tight", measure_residual_decay, 0.1),
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
        vacuous_or(TRAINED_MARGIN, "blocks", measure_block_structure, 0.1),
        (UNTRAINED,),
        uses_nets=True,
    ),
    Claim(
        "thm3.1/trained-blocks",
        "Trained nets whose units keep to one cluster hold the block operators (2).",
        "Theorem 3.1, (2)",
        vacuous_or(TRAINED_MARGIN, "blocks", measure_trained_blocks, 0.05, some_follow_gates),
        (SCALED, PRINTED_SIGMA),
        uses_nets=True,
    ),
    Claim(
        "thm3.1/trained-loss",
        "Such nets reach the loss (3).",
        "Theorem 3.1, (3)",
        vacuous_or(TRAINED_MARGIN, "blocks", measure_trained_loss, 2e-3, some_follow_gates),
        (SCALED, DOUBLE_SIGMA),
        uses_nets=True,
    ),
    Claim(
        "cor3.3/population-rate",
        "The blocks of n samples (2) tend to the population's (6) at rate n^(−1/2).",
        "Corollary 3.3, (6)",
        vacuous_or(TRAINED_MARGIN, "blocks", measure_population_rate, 0.05, known_mixture),
        (
            Mutant(
                "λ for λ/ρ_k",
                limit_formula(lambda m, c, r, w, s, lam: (m, c, r, w, s, lam * r[0])),
            ),
            Mutant(
                "σ for σ², as printed",
                limit_formula(lambda m, c, r, w, s, lam: (m, c, r, w, np.sqrt(s), lam)),
            ),
        ),
    ),
    Claim(
        "cor3.3/trained-population",
        "Trained blocks are as far from the population's (6) as sampling alone explains.",
        "Corollary 3.3, (6)",
        vacuous_or(
            TRAINED_MARGIN,
            "blocks",
            measure_trained_population,
            0.02,
            known_mixture,
            some_follow_gates,
        ),
        (
            SCALED,
            Mutant("first cluster cut to one unit", truncated),
        ),
        uses_nets=True,
    ),
    Claim(
        "cor3.3/test-loss",
        "A net's test loss is Σ_k ρ_k [tr((M−I)S_k(M−I)ᵀ) + σ²‖M‖²] of its blocks M.",
        "THEORY §5",
        vacuous_or(
            TRAINED_MARGIN,
            "blocks",
            measure_test_loss_exact,
            0.01,
            known_mixture,
            some_follow_gates,
        ),
        (
            Mutant(
                "σ²‖M‖² left out",
                lambda experiment: replace(experiment, linear_loss=bias_only),
            ),
        ),
        uses_nets=True,
    ),
    Claim(
        "cor3.3/test-loss-limit",
        "For n → ∞, λ → 0 the test loss is Σ_k ρ_k [Σ eσ²/(e+σ²) + Σ_{j>p_k} e].",
        "THEORY §5, (7)",
        vacuous_or(TRAINED_MARGIN, "blocks", measure_test_loss_limit, 0.02, known_mixture),
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
        vacuous_or(
            TRAINED_MARGIN, "blocks", measure_balanced, 0.5, several_directions, with_controls
        ),
        (EXCHANGED,),
        uses_nets=True,
    ),
    Claim(
        "sec13/unseen-units",
        "On fresh samples as many units carry the representation as on the training samples.",
        "THEORY §13",
        vacuous_or(TRAINED_MARGIN, "blocks", measure_unseen_units, 0.05, known_mixture),
        (OTHER_MIXTURE,),
        uses_nets=True,
    ),
    Claim(
        "sec13/closer-to-truth",
        "The net is closer to f_gt than to f_emp on fresh samples.",
        "THEORY §13",
        vacuous_or(TRAINED_MARGIN, "blocks", measure_closer_to_truth, 1.0, known_mixture),
        (SWAPPED,),
        uses_nets=True,
    ),
    Claim(
        "sec13/halves-agree",
        "Nets trained on disjoint halves of the data compute the same function.",
        "THEORY §13",
        vacuous_or(
            TRAINED_MARGIN, "blocks", measure_halves_agree, 0.1, known_mixture, with_controls
        ),
        (Mutant("one net random", one_half_untrained),),
        uses_nets=True,
    ),
)


def results(experiment: Generalization) -> dict[str, np.ndarray]:
    """Arrays behind the figures."""
    arrays = block_arrays(experiment)
    if predict_on(experiment.tight).margin > 0:
        arrays["residual"] = np.stack(experiment.residual)
    if experiment.memorizing is not None:
        arrays |= {
            "exemplars": experiment.exemplars,
            "memorizing_w1": experiment.memorizing.w1,
            "memorizing_w2": experiment.memorizing.w2,
        }
    return arrays


__all__ = ["CLAIMS", "DEFAULT_N", "build", "from_weights", "results", "settings"]
