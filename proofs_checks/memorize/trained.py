"""Do nets trained from random starts reach (5), in their columns, gains, loss and activities?"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from dae_theory.relu.model import encode
from dae_theory.relu.units import live_units, spikiness
from dae_theory.weights.compare import STORED_GAIN, assign_blocks
from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant, given
from proofs_checks.memorize.experiment import FREE, LIVE, TRAINED, Memorization
from proofs_checks.monte_carlo import merged_representation, noised
from proofs_checks.mutants import DOUBLE_LAMBDA, HALF_LAMBDA, UNTRAINED, misprint
from proofs_checks.nets import with_scaled_columns

WATCHED = given(
    "gradient training",
    "watched step by step",
    lambda e: e.nets.live is not None,
    needs_others=True,
)


def columns(e: Memorization) -> Measured:
    """Worst cosine of a live column with its sample."""
    errors = np.array([1 - float(np.nanmin(c.cosines)) for c in e.comparisons])
    note = "worst cosine of a live column of W1 or W2 with its training sample"
    return Measured(1 - float(np.mean(errors)), 1.0, errors, e.nets.seeds, note)


def coverage(e: Memorization) -> Measured:
    """Share of nets in which some sample is not stored."""
    forgets_S = np.array([float(np.any(~c.stored)) for c in e.comparisons])
    note = (
        f"share of nets in which every sample has {STORED_GAIN:g} of its predicted gain or more; "
        "error: of the others"
    )
    return Measured(1 - float(np.mean(forgets_S)), 1.0, forgets_S, e.nets.seeds, note, cases=1)


def gains(e: Memorization) -> Measured:
    """Worst relative error of a summed gain."""
    return Measured(
        float(np.mean([np.concatenate(c.gains) for c in e.comparisons])),
        float(np.mean(e.prediction.gains)),
        np.array([float(np.max(c.gain_errors)) for c in e.comparisons]),
        e.nets.seeds,
        "summed over collinear units; the error is the worst sample's",
    )


def trained_loss(e: Memorization) -> Measured:
    """Relative distance of the loss of trained nets to the predicted one."""
    return Measured(
        float(np.mean([c.loss for c in e.comparisons])),
        e.prediction.loss,
        np.array([c.loss_error for c in e.comparisons]),
        e.nets.seeds,
    )


def tied(e: Memorization) -> Measured:
    """Largest difference of a live unit's two columns."""
    errors = np.array([float(np.nanmax(c.tie_errors)) for c in e.comparisons])
    note = "largest ‖w1_j − w2_j‖/‖w1_j‖ of a live unit"
    return Measured(float(np.mean(errors)), 0.0, errors, e.nets.seeds, note)


def balance(e: Memorization) -> Measured:
    """Largest imbalance of the norms of a live unit's two columns."""
    errors = np.array([float(np.nanmax(c.balance_errors)) for c in e.comparisons])
    note = "largest |‖w1_j‖/‖w2_j‖ − 1| of a live unit"
    return Measured(float(np.mean(errors)), 0.0, errors, e.nets.seeds, note)


def thinning(e: Memorization) -> Measured:
    """Live units at the end over those at the first look, and the share that came back."""
    live, steps = e.nets.live / e.width, e.nets.steps
    came_back = np.max(live - np.minimum.accumulate(live, axis=1), axis=1)
    left = live[:, -1] / live[:, 0]
    return Measured(
        float(np.mean(left)),
        0.95,
        left + came_back,
        e.nets.seeds,
        f"live units at step {steps[-1]} over those at step {steps[0]}, predicted: at most that; "
        f"{{last:.2f}} of {e.width} are live, the sparse minimum has {len(e.problem.x)} units; "
        "share that came back {came_back:.3f}",
        details={"last": np.mean(live[:, -1]), "came_back": np.mean(came_back)},
    )


def spiky(e: Memorization) -> Measured:
    """Energy share outside the largest unit, collinear units merged. It is 0 for every noised
    sample whose noise opens no other gate, and so its mean may have no spread: each is a case."""
    x_ND, sigma = e.problem.x, e.problem.sigma
    y_MD = noised(x_ND, sigma)
    merged = [spikiness(merged_representation(w1, w2, y_MD)) for w1, w2 in e.nets.pairs]
    share = np.array([np.mean(np.nan_to_num(s["top1_share"])) for s in merged])
    raw = [spikiness(np.asarray(encode(w1, noised(x_ND, sigma, 4)))) for w1, _ in e.nets.pairs]
    units = np.mean([np.nanmean(s["participation_ratio"]) for s in raw])
    std = np.mean([np.mean(s["std"]) for s in raw])
    return Measured(
        float(np.mean(share)),
        1.0,
        1 - share,
        e.nets.seeds,
        "energy share of the largest unit, collinear units merged; unmerged: "
        f"{{units:.1f}} effective units of {e.width}, std {{std:.3f}}",
        details={"units": units, "std": std},
        cases=len(y_MD),
    )


def units_of_first_sample(e: Memorization) -> Bool[np.ndarray, "S P"]:
    """(S, P) units that store the first sample."""
    x_ND = e.problem.x
    labels_N = np.arange(len(x_ND))
    return np.stack([assign_blocks(w1, w2, x_ND, labels_N) == 0 for w1, w2 in e.nets.pairs])


def scaled(encoder: float, decoder: float) -> Callable[[Memorization], Memorization]:
    """Columns that store the first sample scaled."""

    def apply(e: Memorization) -> Memorization:
        chosen_SP = units_of_first_sample(e)
        return replace(e, replaced=with_scaled_columns(e.nets, chosen_SP, encoder, decoder))

    return apply


def perturbed_column(which: str, share: float) -> Callable[[Memorization], Memorization]:
    """One live column of W1 or W2 moved by a share of its norm in a random direction."""

    def apply(e: Memorization) -> Memorization:
        rng = np.random.default_rng(0)
        w_SDP = getattr(e.nets, which).copy()
        for w_DP, (w1, w2) in zip(w_SDP, e.nets.pairs, strict=True):
            j = int(np.argmax(live_units(w1, w2)))
            direction = rng.standard_normal(len(w_DP))
            length = share * np.linalg.norm(w_DP[:, j]) / np.linalg.norm(direction)
            w_DP[:, j] += length * direction
        return replace(e, replaced=replace(e.nets, **{which: w_SDP}))

    return apply


def reversed_training(e: Memorization) -> Memorization:
    """The count of live units runs backwards."""
    return replace(e, replaced=replace(e.nets, live=e.nets.live[:, ::-1]))


FORGOTTEN = Mutant("first sample forgotten", scaled(0.0, 0.0))
GAIN_OFF = Mutant("first sample's units scaled by 1.1", scaled(1.1, 1.1))
SLIGHTLY_OFF = Mutant("first sample's units scaled by 1.015", scaled(1.015, 1.015))
GAIN_ONE = misprint("gain 1", sigma=lambda sigma: 1e-9, lam=lambda lam: 0.0)
MEAN_DECAY = misprint("λ for nλ", lam=lambda lam: lam / 5)

CLAIMS = (
    Claim(
        id="cor3.2/columns",
        statement="From random starts, every live column is collinear with a training sample.",
        source="docs/THEORY.md#eq-5",
        requires=LIVE,
        measure=columns,
        tolerance=0.01,
        mutants=(
            UNTRAINED,
            Mutant("one column of W2 moved by 30%", perturbed_column("w2", 0.3)),
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.2/coverage",
        statement="From random starts, most nets store every training sample.",
        source="docs/THEORY.md#eq-5",
        requires=TRAINED,
        measure=coverage,
        tolerance=0.5,
        mutants=(FORGOTTEN, UNTRAINED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.2/gains",
        statement="The summed gain of the units that store x is (‖x‖²−nλ)/(‖x‖²+σ²).",
        source="docs/THEORY.md#eq-5",
        requires=TRAINED,
        measure=gains,
        tolerance=0.007,
        mutants=(
            GAIN_OFF,
            SLIGHTLY_OFF,
            GAIN_ONE,
            MEAN_DECAY,
            DOUBLE_LAMBDA,
            HALF_LAMBDA,
            UNTRAINED,
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.2/trained-loss",
        statement="Trained nets reach the loss of (5).",
        source="docs/THEORY.md#cor-3.2",
        requires=LIVE,
        measure=trained_loss,
        tolerance=1e-3,
        mutants=(GAIN_OFF, FORGOTTEN, UNTRAINED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.2/tied",
        statement="Encoder and decoder agree, W1 = W2, though trained freely.",
        source="docs/THEORY.md#eq-5",
        requires=FREE,
        measure=tied,
        tolerance=0.05,
        mutants=(Mutant("one column of W1 moved by 10%", perturbed_column("w1", 0.1)), UNTRAINED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="balance/columns",
        statement="At a stationary point with λ > 0, ‖w1_j‖ = ‖w2_j‖ for every unit.",
        source="docs/THEORY.md#balance",
        requires=FREE,
        measure=balance,
        tolerance=0.01,
        mutants=(
            Mutant("first sample's W1 columns scaled by 1.1", scaled(1.1, 1 / 1.1)),
            UNTRAINED,
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.2/live-units",
        statement="Training thins the units out towards zero columns: of those live early on a "
        "twentieth die, and none that died comes back.",
        source="docs/THEORY.md#zero-columns",
        requires=(*LIVE, WATCHED),
        measure=thinning,
        tolerance=0.95,
        mutants=(Mutant("training run backwards", reversed_training),),
        kind=Kind.EXPLORATORY,  # how many die depends on the data
    ),
    Claim(
        id="cor3.2/spiky",
        statement="The representation of a noised training sample is spiky: one unit holds its "
        "energy.",
        source="docs/THEORY.md#representation",
        requires=LIVE,
        measure=spiky,
        tolerance=0.01,
        mutants=(UNTRAINED,),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
)
