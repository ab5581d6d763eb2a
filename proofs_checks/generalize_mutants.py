"""Changes to a generalization experiment on which its claims must fail."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dae_theory.theory.closed_forms import (
    Prediction,
    linear_test_loss,
    predict_blocks,
    predict_generalization,
)
from dae_theory.weights.compare import assign_blocks
from proofs_checks.blocks import BlockExperiment
from proofs_checks.claims import Mutant
from proofs_checks.generalize_evidence import Generalization
from proofs_checks.nets import (
    untrained,
    with_scaled_columns,
)


def formula(change: Callable) -> Callable[[BlockExperiment], BlockExperiment]:
    """Formula (2)-(4) with changed arguments (x, labels, widths, σ, λ)."""

    def predict(*arguments) -> Prediction:
        return predict_blocks(*change(*arguments))

    return lambda experiment: replace(experiment, predict=predict)


def limit_formula(change: Callable) -> Callable[[Generalization], Generalization]:
    """Formula (6) with changed arguments (means, covs, priors, widths, σ, λ)."""

    def predict(*arguments) -> Prediction:
        return predict_generalization(*change(*arguments))

    return lambda experiment: replace(experiment, predict_limit=predict)


def shuffled_labels(x_ND, labels_N, widths, sigma, lam):
    """Cluster labels in random order."""
    return x_ND, np.random.default_rng(0).permutation(labels_N), widths, sigma, lam


def with_untrained(experiment: BlockExperiment) -> BlockExperiment:
    """Random columns of the same norms."""
    return replace(experiment, nets=untrained(experiment.nets))


def scaled_block(experiment: Generalization) -> Generalization:
    """One cluster's units scaled by 1.1 in both layers."""
    b = experiment.blocks
    chosen = np.stack(
        [assign_blocks(w1, w2, b.x, b.labels) == 0 for w1, w2 in experiment.nets.pairs]
    )
    return replace(experiment, nets=with_scaled_columns(experiment.nets, chosen, 1.1, 1.1))


def truncated(experiment: Generalization) -> Generalization:
    """The first block loses all units but one."""
    w1, w2 = experiment.nets.w1.copy(), experiment.nets.w2.copy()
    b = experiment.blocks
    for net, (a, c) in enumerate(experiment.nets.pairs):
        units = np.flatnonzero(assign_blocks(a, c, b.x, b.labels) == 0)
        w1[net][:, units[1:]] = 0
        w2[net][:, units[1:]] = 0
    return replace(experiment, nets=replace(experiment.nets, w1=w1, w2=w2))


def opposite_means(experiment: Generalization) -> Generalization:
    """Fresh samples come from a mixture with the means turned around."""
    mixture = experiment.mixture
    return replace(experiment, mixture=replace(mixture, means=-mixture.means))


def regimes_swapped(experiment: Generalization) -> Generalization:
    """The memorizing nets and their samples in the place of the generalizing ones."""
    exemplars = experiment.exemplars
    blocks = replace(experiment.blocks, x=exemplars, labels=np.arange(len(exemplars)))
    return replace(
        experiment,
        blocks=blocks,
        nets=experiment.memorizing,
        memorizing=experiment.nets,
        exemplars=experiment.blocks.x,
    )


def nets_exchanged(experiment: Generalization) -> Generalization:
    """Memorizing and generalizing nets exchanged; the data stay."""
    return replace(experiment, nets=experiment.memorizing, memorizing=experiment.nets)


def bias_only(m_DD, second_moment_DD, sigma: float) -> float:
    """Test loss of a linear map without its noise term."""
    return linear_test_loss(m_DD, second_moment_DD, 0.0)


def one_half_untrained(experiment: Generalization) -> Generalization:
    """The second half's nets have random columns."""
    first, second = experiment.halves
    return replace(experiment, halves=(first, untrained(second)))


DOUBLE_SIGMA = Mutant("σ twice as large", formula(lambda x, y, w, s, lam: (x, y, w, 2 * s, lam)))
PRINTED_SIGMA = Mutant("σ for σ²", formula(lambda x, y, w, s, lam: (x, y, w, np.sqrt(s), lam)))
HALF_LAMBDA = Mutant("λ/2 for λ", formula(lambda x, y, w, s, lam: (x, y, w, s, lam / 2)))
SHUFFLED = Mutant("cluster labels shuffled", formula(shuffled_labels))
UNTRAINED = Mutant("random columns of the same norms", with_untrained)
EXCHANGED = Mutant("memorizing and generalizing nets exchanged", nets_exchanged)
OTHER_MIXTURE = Mutant("fresh samples from the opposite means", opposite_means)
SWAPPED = Mutant("memorizing nets for generalizing ones", regimes_swapped)
SCALED = Mutant("first cluster's units scaled by 1.1", scaled_block)
