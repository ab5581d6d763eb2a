"""Is a generalizing net, on samples it never saw, close to the truth, whatever its samples were?"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dae_theory.diffusion.denoisers import (
    Denoiser,
    empirical_denoiser,
    gaussian_denoiser,
    mixture_denoiser,
)
from dae_theory.relu.model import denoise
from dae_theory.theory.closed_forms import predict_blocks
from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant
from proofs_checks.generalize.experiment import (
    CONTROLS,
    HALVES_AT_MINIMUM,
    KNOWN_MIXTURE,
    TRAINED,
    Generalization,
)
from proofs_checks.monte_carlo import noised, relative_rms
from proofs_checks.mutants import UNTRAINED
from proofs_checks.nets import untrained


def closer_to_truth(e: Generalization) -> Measured:
    """Distance to f_gt of the nets, or of what stands in their place, relative to f_emp's."""
    sigma, mixture = e.problem.sigma, e.mixture
    y = noised(e.fresh[0], sigma, draws=1)
    f_gt = np.asarray(mixture_denoiser(mixture.means, mixture.covs, mixture.priors)(y, sigma))
    f_emp = np.asarray(empirical_denoiser(e.problem.x)(y, sigma))
    pairs = e.nets.pairs
    outputs = (
        [np.asarray(denoise(w1, w2, y)) for w1, w2 in pairs]
        if e.rival is None
        else [np.asarray(e.rival(e.problem.x)(y, sigma))]
    )
    to_truth = np.array([relative_rms(f - f_gt, f_gt) for f in outputs])
    of_empirical = relative_rms(f_emp - f_gt, f_gt)
    return Measured(
        float(np.mean(to_truth)),
        of_empirical,
        to_truth / of_empirical,
        e.nets.seeds,
        "rms distance to f_gt on fresh noised samples; predicted: less than that of f_emp; the "
        "error is their ratio",
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
    predicted = float(np.sqrt(difference / scale))
    return Measured(
        float(np.mean(errors)),
        predicted,
        np.array(errors) / predicted,
        e.nets.seeds,
        "rms difference of nets trained on disjoint halves; predicted: that of their (2), which "
        "samples differ in; the error is their ratio",
    )


def identity(x_ND: Float[np.ndarray, "N D"]) -> Denoiser:
    """No denoising at all."""
    return lambda y, sigma: y


def one_gaussian(x_ND: Float[np.ndarray, "N D"]) -> Denoiser:
    """Posterior mean of the normal distribution with the samples' mean and covariance."""
    return gaussian_denoiser(x_ND.mean(axis=0), np.cov(x_ND.T))


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
        statement="On fresh samples the net is closer to f_gt than f_emp is, by a tenth or more.",
        source="docs/THEORY.md#unseen",
        requires=(KNOWN_MIXTURE, *TRAINED),
        measure=closer_to_truth,
        tolerance=0.9,
        mutants=(
            Mutant("memorizing nets for generalizing ones", memorizing_instead),
            UNTRAINED,
            Mutant("the identity", lambda e: replace(e, rival=identity)),
            Mutant("the denoiser of one Gaussian", lambda e: replace(e, rival=one_gaussian)),
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="unseen/halves-agree",
        statement="Nets trained on disjoint halves of the data differ by no more than two and "
        "a half times what their samples explain.",
        source="docs/THEORY.md#unseen",
        requires=(KNOWN_MIXTURE, CONTROLS, *TRAINED, *HALVES_AT_MINIMUM),
        measure=halves_agree,
        tolerance=2.5,
        mutants=(Mutant("one net random", half_untrained),),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
)
