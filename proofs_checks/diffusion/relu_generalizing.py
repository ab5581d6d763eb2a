"""What the same nets sample when they were trained on many more samples than they have units."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist, pdist

from dae_theory.memorization.copies import COPY_RATIO, copy_threshold
from dae_theory.memorization.nearest import directions
from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant, at_least
from proofs_checks.diffusion.relu_denoisers import SAMPLES
from proofs_checks.diffusion.relu_sampling import GENERALIZING, ReluSampling, with_samples

SPLITS = 40  # of held-out samples, for the null interval
FARTHEST = 0.6  # of noise's distance to the data: see `copies_or_worse`
FALSE_ALARM = 0.01  # share of held-out samples that a calibrated threshold calls copies
OUTNUMBERED = at_least("n/p", 10, lambda e: len(e.task("many").x) / e.task("many").width)


class Quality(NamedTuple):
    """Distances of directions to those of held-out samples: of the samples of K kinds of nets with
    S seeds, of noise, and the 95% interval of those of other held-out samples."""

    samples: Float[np.ndarray, "K S"]
    noise: float
    null: tuple[float, float]


def distance_of_directions(y_MD: Float[np.ndarray, "M D"], x_ND: Float[np.ndarray, "N D"]) -> float:
    """Energy distance (Székely and Rizzo 2013) between two sets of samples, each sample divided by
    its norm, which nets without biases do not fix; diagonals left out, so that it is about 0 for
    two sets of one distribution."""
    y_MD, x_ND = (directions(z, np.zeros(z.shape[1])) for z in (y_MD, x_ND))
    return float(2 * np.mean(cdist(y_MD, x_ND)) - np.mean(pdist(y_MD)) - np.mean(pdist(x_ND)))


def quality(e: ReluSampling) -> Quality:
    """Distance to held-out samples of the samples of each kind of net, (K, S), of Gaussian noise,
    and the 95% interval of that of as many other held-out samples."""
    held_out_TD = e.task("many").held_out
    rng = np.random.default_rng(0)
    noise = distance_of_directions(
        rng.standard_normal((SAMPLES, held_out_TD.shape[1])), held_out_TD
    )
    splits = [rng.permutation(len(held_out_TD)) for _ in range(SPLITS)]
    null = [
        distance_of_directions(held_out_TD[split[:SAMPLES]], held_out_TD[split[SAMPLES:]])
        for split in splits
    ]
    found_KS = np.array(
        [
            [distance_of_directions(y_MD, held_out_TD) for y_MD in e.samples(name)]
            for name in GENERALIZING
        ]
    )
    return Quality(found_KS, noise, tuple(np.quantile(null, (0.025, 0.975))))


def copies_or_worse(e: ReluSampling, threshold: float) -> Measured:
    """Share of samples of generalizing nets that are no new data: copies by a threshold on the gap
    ratio, or all of a net's where their directions are beyond FARTHEST; the worst kind of net.

    FARTHEST is midway from what one Gaussian of the data's moments samples, a crude denoiser (.19
    to .42 of noise's distance on ten seeds below 1000), to noise; memorizing nets' samples are
    farther than noise. The null interval, which ends at .14 to .32, asks for more than these nets
    give: theirs are at −.08 to .49.
    """
    share_KS = np.stack([np.mean(e.ratios(name) < threshold, axis=1) for name in GENERALIZING])
    found = quality(e)
    too_far_KS = found.samples > FARTHEST * found.noise
    return Measured(
        float(np.mean(share_KS)),
        0.0,
        np.max(np.where(too_far_KS, 1.0, share_KS), axis=0),
        e.seeds,
        f"worst of {len(GENERALIZING)} kinds; energy distance of directions to held-out samples "
        "{far:.4f}, of other held-out ones {low:.4f} to {high:.4f}, of noise {noise:.4f}",
        cases=SAMPLES,
        details={
            "far": float(np.mean(found.samples)),
            "low": float(found.null[0]),
            "high": float(found.null[1]),
            "noise": found.noise,
        },
    )


def no_copies(e: ReluSampling) -> Measured:
    """The same with the threshold of copies in the literature."""
    found, few = copies_or_worse(e, COPY_RATIO), np.mean(e.ratios("few/set") < COPY_RATIO)
    note = f"same nets on {len(e.task('few').x)} samples: {{few:.0%}}; {found.note}"
    return replace(found, note=note, details=found.details | {"few": float(few)})


def no_calibrated_copies(e: ReluSampling) -> Measured:
    """The same with a threshold that calls FALSE_ALARM of held-out samples copies."""
    held_out_TD = e.task("many").held_out
    threshold = copy_threshold(held_out_TD, e.reference("many"), FALSE_ALARM).gap_ratio
    found = copies_or_worse(e, threshold)
    note = (
        f"gap ratio below {{ratio:.2f}}, as in {FALSE_ALARM:.0%} of held-out samples; {found.note}"
    )
    details = found.details | {"ratio": threshold}
    return replace(found, predicted=FALSE_ALARM, note=note, details=details)


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


def pure_noise(e: ReluSampling) -> ReluSampling:
    """Gaussian noise of the samples' norm."""
    task = e.task("many")
    shape = (len(e.seeds), SAMPLES, task.x.shape[1])
    noise = np.random.default_rng(0).standard_normal(shape) * task.scale / shape[2] ** 0.5
    return with_samples(e, dict.fromkeys(GENERALIZING, noise))


NOISE = Mutant("pure noise", pure_noise)
MEMORIZING_NETS = Mutant("memorizing nets for generalizing ones", memorizing_nets)
COPIED = Mutant("training samples with a little noise", copied_training)

CLAIMS = (
    Claim(
        id="diffusion/no-copies",
        statement="Sampling with the same nets trained on n ≫ p samples gives no training samples, "
        "but samples whose directions are nearer to the data's than noise.",
        source="docs/THEORY.md#cor-3.3",
        part="relu",
        requires=(OUTNUMBERED,),
        measure=no_copies,
        tolerance=0.05,
        mutants=(MEMORIZING_NETS, COPIED, NOISE),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="diffusion/no-copies-calibrated",
        statement="Nor by a threshold on the gap ratio that 1% of held-out samples pass.",
        source="docs/THEORY.md#copies",
        part="relu",
        requires=(OUTNUMBERED,),
        measure=no_calibrated_copies,
        tolerance=0.02,
        mutants=(MEMORIZING_NETS, COPIED, NOISE),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
)
