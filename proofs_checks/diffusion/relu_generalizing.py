"""What the same nets sample when they were trained on many more samples than they have units."""

from dataclasses import replace

import numpy as np

from dae_theory.memorization.copies import COPY_RATIO, copy_threshold
from proofs_checks.claims import Claim, Kind, Measured, Mutant, at_least
from proofs_checks.diffusion.relu_denoisers import SAMPLES
from proofs_checks.diffusion.relu_sampling import GENERALIZING, ReluSampling, with_samples

FALSE_ALARM = 0.01  # share of held-out samples that a calibrated threshold calls copies
OUTNUMBERED = at_least("n/p", 10, lambda e: len(e.task("many").x) / e.task("many").width)


def no_copies(e: ReluSampling) -> Measured:
    """Share of copies among the samples of generalizing nets; the worst kind."""
    share_KS = np.stack([np.mean(e.ratios(name) < COPY_RATIO, axis=1) for name in GENERALIZING])
    memorizing = np.mean(e.ratios("few/set") < COPY_RATIO)
    return Measured(
        float(np.mean(share_KS)),
        0.0,
        np.max(share_KS, axis=0),
        e.seeds,
        f"worst of {len(GENERALIZING)} kinds; same nets on "
        f"{len(e.task('few').x)} samples: {memorizing:.0%}",
    )


def no_calibrated_copies(e: ReluSampling) -> Measured:
    """The same below a threshold that calls FALSE_ALARM of held-out samples copies."""
    held_out_TD = e.task("many").held_out
    threshold = copy_threshold(held_out_TD, e.reference("many"), FALSE_ALARM).gap_ratio
    share_KS = np.stack([np.mean(e.ratios(name) < threshold, axis=1) for name in GENERALIZING])
    return Measured(
        float(np.mean(share_KS)),
        FALSE_ALARM,
        np.max(share_KS, axis=0),
        e.seeds,
        f"gap ratio below {threshold:.2f}, as in {FALSE_ALARM:.0%} of held-out samples; worst kind",
    )


def memorizing_nets(e: ReluSampling) -> ReluSampling:
    """The same nets on few samples in place of the generalizing ones, with their errors."""
    return replace(
        e,
        samples=lambda name: e.samples(name.replace("many/", "few/")),
        errors=lambda name: e.errors(name.replace("many/", "few/")),
        references={"many": e.task("few").x},
    )


def copied_training(e: ReluSampling) -> ReluSampling:
    """Samples that are training samples with a little noise."""
    task, rng = e.task("many"), np.random.default_rng(0)
    noise = rng.standard_normal((len(e.seeds), SAMPLES, task.x.shape[1]))
    copies = task.x[:SAMPLES] + 0.02 * task.scale / task.x.shape[1] ** 0.5 * noise
    return with_samples(e, dict.fromkeys(GENERALIZING, copies))


MEMORIZING_NETS = Mutant("memorizing nets for generalizing ones", memorizing_nets)
COPIED = Mutant("training samples with a little noise", copied_training)

CLAIMS = (
    Claim(
        id="diffusion/no-copies",
        statement="Sampling with the same nets trained on n ≫ p samples gives no training samples.",
        source="docs/THEORY.md#cor-3.3",
        part="relu",
        requires=(OUTNUMBERED,),
        measure=no_copies,
        tolerance=0.05,
        mutants=(MEMORIZING_NETS, COPIED),
        kind=Kind.CONFIRMATORY,
    ),
    Claim(
        id="diffusion/no-copies-calibrated",
        statement="Nor by a threshold on the gap ratio that 1% of held-out samples pass.",
        source="docs/THEORY.md#copies",
        part="relu",
        requires=(OUTNUMBERED,),
        measure=no_calibrated_copies,
        tolerance=0.02,
        mutants=(MEMORIZING_NETS, COPIED),
        kind=Kind.CONFIRMATORY,
    ),
)
