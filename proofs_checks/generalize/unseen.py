"""Is a generalizing net, on samples it never saw, close to the truth, whatever its samples were?"""

from dataclasses import replace

import numpy as np

from dae_theory.diffusion.denoisers import empirical_denoiser, mixture_denoiser
from dae_theory.relu.model import denoise
from dae_theory.theory.closed_forms import predict_blocks
from proofs_checks.claims import Claim, Kind, Measured, Mutant
from proofs_checks.generalize.experiment import (
    CONTROLS,
    HALVES_AT_MINIMUM,
    KNOWN_MIXTURE,
    TRAINED,
    Generalization,
)
from proofs_checks.monte_carlo import noised, relative_rms
from proofs_checks.nets import untrained


def closer_to_truth(e: Generalization) -> Measured:
    """Distance of the nets to f_gt relative to that to f_emp."""
    sigma, mixture = e.problem.sigma, e.mixture
    y = noised(e.fresh[0], sigma, draws=1)
    f_gt = np.asarray(mixture_denoiser(mixture.means, mixture.covs, mixture.priors)(y, sigma))
    f_emp = np.asarray(empirical_denoiser(e.problem.x)(y, sigma))
    outputs = [np.asarray(denoise(w1, w2, y)) for w1, w2 in e.nets.pairs]
    to_truth = np.array([relative_rms(f - f_gt, f_gt) for f in outputs])
    to_empirical = np.array([relative_rms(f - f_emp, f_emp) for f in outputs])
    return Measured(
        float(np.mean(to_truth)),
        0.0,
        to_truth / to_empirical,
        e.nets.seeds,
        "rms distance to f_gt on fresh noised samples; the error is its ratio to that to "
        f"f_emp, {np.mean(to_empirical):.3f}",
    )


def halves_agree(e: Generalization) -> Measured:
    """Distance between nets trained on disjoint halves."""
    (x_ND, labels_N), p = e.fresh, e.problem
    y = noised(x_ND, p.sigma, draws=1)
    errors = []
    for first, second in zip(*(nets.pairs for nets in e.halves), strict=True):
        f_a, f_b = (np.asarray(denoise(*weights, y)) for weights in (first, second))
        errors.append(relative_rms(f_a - f_b, f_a))
    a, b = (predict_blocks(p.x[i::2], p.labels[i::2], p.widths, p.sigma, p.lam) for i in range(2))
    difference = scale = 0.0
    for k in range(len(p.widths)):
        members = y[labels_N == k]
        difference += np.linalg.norm(members @ (a.operator(k) - b.operator(k))) ** 2
        scale += np.linalg.norm(members @ a.operator(k)) ** 2
    return Measured(
        float(np.mean(errors)),
        float(np.sqrt(difference / scale)),
        np.array(errors),
        e.nets.seeds,
        "rms difference of nets trained on disjoint halves; predicted: that of their (2)",
    )


def memorizing_instead(e: Generalization) -> Generalization:
    """The memorizing nets and their samples in the place of the generalizing ones."""
    samples = replace(e.problem, x=e.exemplars, labels=np.arange(len(e.exemplars)))
    return replace(e, problem=samples, replaced=e.memorizing)


def half_untrained(e: Generalization) -> Generalization:
    """The second half's nets have random columns."""
    return replace(e, replaced_half=untrained(e.halves[1]))


CLAIMS = (
    Claim(
        id="unseen/closer-to-truth",
        statement="The net is closer to f_gt than to f_emp on fresh samples.",
        source="docs/THEORY.md#unseen",
        requires=(KNOWN_MIXTURE, *TRAINED),
        measure=closer_to_truth,
        tolerance=1.0,
        mutants=(Mutant("memorizing nets for generalizing ones", memorizing_instead),),
        kind=Kind.CONFIRMATORY,
    ),
    Claim(
        id="unseen/halves-agree",
        statement="Nets trained on disjoint halves of the data compute the same function.",
        source="docs/THEORY.md#unseen",
        requires=(KNOWN_MIXTURE, CONTROLS, *TRAINED, *HALVES_AT_MINIMUM),
        measure=halves_agree,
        tolerance=0.1,
        mutants=(Mutant("one net random", half_untrained),),
        kind=Kind.CONFIRMATORY,
    ),
)
