"""What memorizing ReLU nets sample: copies of training samples, or multiples of them?"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from dae_theory.diffusion.denoisers import Denoiser, empirical_denoiser
from dae_theory.memorization.copies import COPY_RATIO
from proofs_checks.claims import FIXED, FLOAT32, Claim, Kind, Measured, Mutant, Verdict
from proofs_checks.diffusion.exact import opposite_score
from proofs_checks.diffusion.relu_denoisers import SAMPLES, Family, same_for_all
from proofs_checks.diffusion.relu_sampling import (
    DIRECTED,
    GENERALIZING,
    MEMORIZING,
    ReluSampling,
    memorized,
    separated,
    with_samples,
)

SAME_DIRECTION = 0.95  # cosine from which a sample is said to lie along a training image
Change = Callable[[ReluSampling], ReluSampling]


def copies_of(name: str) -> Callable[[ReluSampling], Measured]:
    """Share of the samples that are copies of training images, beside the 1 of the theory."""

    def measure(e: ReluSampling) -> Measured:
        share_S = np.mean(e.ratios(name) < COPY_RATIO, axis=1)
        centred = np.mean(e.centred_cosines(name) > SAME_DIRECTION)
        cosine_SM, length_SM = e.along(name)
        low, high = np.quantile(length_SM, (0.1, 0.9))
        return Measured(
            float(np.mean(share_S)),
            1.0,
            1 - share_S,
            e.seeds,
            "centred cosine > .95: {centred:.0%}, not centred: {along:.0%}; 80% of lengths in "
            "{low:.2f} .. {high:.2f}",
            cases=length_SM.shape[1],
            details={
                "centred": float(centred),
                "along": float(np.mean(cosine_SM > SAME_DIRECTION)),
                "low": float(low),
                "high": float(high),
            },
        )

    return measure


def doubled_distance(e: ReluSampling) -> Measured:
    """Distance of the samples of doubled noise to doubled samples."""
    names = MEMORIZING + GENERALIZING
    worst_S = np.zeros(len(e.seeds))
    for name in names:
        twice_SMD = e.doubled(name)
        once_SMD = 2 * e.samples(name)[:, : twice_SMD.shape[1]]
        difference_S = np.linalg.norm(twice_SMD - once_SMD, axis=(1, 2))
        worst_S = np.maximum(worst_S, difference_S / np.linalg.norm(once_SMD, axis=(1, 2)))
    return Measured(
        float(np.mean(worst_S)),
        0.0,
        worst_S,
        e.seeds,
        f"distance to twice the samples, relative; the worst of {len(names)} kinds of nets",
    )


def rays(e: ReluSampling) -> Measured:
    """Share of samples that are not along a training sample; the worst kind of net."""

    def along(name: str) -> Float[np.ndarray, " S"]:
        return np.mean(e.along(name)[0] > SAME_DIRECTION, axis=1)

    share_KS = np.stack([along(name) for name in DIRECTED])
    kinds = np.mean(share_KS, axis=1)
    return Measured(
        float(np.mean(share_KS)),
        1.0,
        1 - np.min(share_KS, axis=0),
        e.seeds,
        "cosine > .95: {least:.0%} to {most:.0%} of the samples; preconditioned nets {edm:.0%}",
        cases=SAMPLES,
        details={
            "least": float(np.min(kinds)),
            "most": float(np.max(kinds)),
            "edm": float(np.mean(along("few/preconditioned"))),
        },
    )


# --- mutants ------------------------------------------------------------------------------------


def opposite_references(e: ReluSampling) -> ReluSampling:
    """The reference set is the training images reflected in the origin."""
    return replace(e, references={name: -task.x for name, task in e.nets.tasks.items()})


def held_out(*names: str) -> Change:
    """Samples replaced by held-out data, the same for every seed."""

    def apply(e: ReluSampling) -> ReluSampling:
        data = {name: np.stack([e.task(name).held_out[:SAMPLES]] * len(e.seeds)) for name in names}
        return with_samples(e, data)

    return apply


def generalizing_nets(e: ReluSampling) -> ReluSampling:
    """In place of the memorizing nets' samples, those of the same nets on many samples."""
    return replace(e, samples=lambda name: e.samples(name.replace("few/", "many/")))


def wrong_sign(e: ReluSampling) -> ReluSampling:
    """Sampled with the score's sign exchanged."""

    def flipped(name: str) -> Float[np.ndarray, "S M D"]:
        family = e.nets.family(name)
        return Family(opposed(family.make), family.params).draw(e.task(name), e.seeds).samples

    return with_samples(e, {name: flipped(name) for name in DIRECTED})


@functools.cache  # one program for all data sets
def opposed(make: Callable[[Any], Denoiser]) -> Callable[[Any], Denoiser]:
    """Denoisers whose scores have the opposite sign."""
    return lambda params: opposite_score(make(params))


def other_denoisers(name: str, make: Callable[[ReluSampling, str], Family]) -> Change:
    """Other denoisers under the name of some nets."""

    def apply(e: ReluSampling) -> ReluSampling:
        drawn = make(e, name).draw(e.task(name), e.seeds)
        return replace(
            with_samples(e, {name: drawn.samples}),
            doubled=lambda asked: drawn.doubled if asked == name else e.doubled(asked),
        )

    return apply


def empirical_family(e: ReluSampling, name: str) -> Family:
    """f_emp of the task's training samples."""
    return same_for_all(empirical_denoiser, np.float32(e.task(name).x), e.seeds)


def biased_family(e: ReluSampling, name: str) -> Family:
    """The nets with a decoder bias of 1% of the rms norm."""
    task, family = e.task(name), e.nets.family(name)
    return Family(biased(family.make, 0.01 * task.scale / task.x.shape[1] ** 0.5), family.params)


@functools.cache
def biased(make: Callable[[Any], Denoiser], bias: float) -> Callable[[Any], Denoiser]:
    """Denoisers with a decoder bias."""

    def with_bias(params: tuple[Array, ...]) -> Denoiser:
        denoiser = make(params)
        return lambda y_MD, sigma: denoiser(y_MD, sigma) + bias

    return with_bias


OPPOSITE = Mutant("the training images' negatives as reference", opposite_references)


def copies_claim(kind: str, name: str, statement: str, trained: bool) -> Claim:
    """The paper's sentence about sampling, for one kind of memorizing nets."""
    return Claim(
        id=f"diffusion/copies-{kind}",
        statement=statement,
        source="docs/THEORY.md#homogeneity",
        part="relu",
        requires=(*separated(name), memorized(name)) if trained else separated(name),
        measure=copies_of(name),
        tolerance=0.05,
        mutants=(OPPOSITE, Mutant("held-out data for the samples", held_out(name))),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
        expected=Verdict.FAILS,
    )


CLAIMS = (
    copies_claim(
        "closed",
        "images/closed",
        "Sampling with the weights (5), one net a noise level, gives training samples.",
        trained=False,
    ),
    copies_claim(
        "set",
        "images/set",
        "Sampling with trained memorizing nets, one a noise level, gives training samples.",
        trained=True,
    ),
    copies_claim(
        "plain",
        "images/plain",
        "Sampling with one memorizing net for all noise levels gives training samples.",
        trained=True,
    ),
    copies_claim(
        "preconditioned",
        "few/preconditioned",
        "It does so with a net preconditioned as in EDM.",
        trained=True,
    ),
    Claim(
        id="diffusion/homogeneous",
        statement="Nets without biases cannot fix a length: twice the noise samples twice the "
        "image.",
        source="docs/THEORY.md#homogeneity",
        part="relu",
        measure=doubled_distance,
        tolerance=1e-5,
        origin=FLOAT32,
        mutants=(
            Mutant("f_emp for the nets", other_denoisers("few/set", empirical_family)),
            Mutant("nets with a small bias", other_denoisers("few/set", biased_family)),
        ),
        kind=Kind.EXACT,
    ),
    Claim(
        id="diffusion/rays",
        statement="What memorizing nets fix, unless preconditioned, is the direction: most samples "
        "are multiples of a training image.",
        source="docs/THEORY.md#homogeneity",
        part="relu",
        requires=(*separated("images", "few"), memorized(*DIRECTED)),
        measure=rays,
        tolerance=0.5,
        mutants=(
            Mutant("generalizing nets for memorizing ones", generalizing_nets),
            OPPOSITE,
            Mutant("held-out data for the samples", held_out(*DIRECTED)),
            Mutant("score of opposite sign", wrong_sign),
        ),
        kind=Kind.EXPLORATORY,
    ),
)
