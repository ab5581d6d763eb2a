"""Is (5) a stationary point, what does it miss, and is its loss what the formula says?"""

from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from proofs_checks.claims import FIXED, Claim, Kind, Measured, Mutant, derived
from proofs_checks.memorize.experiment import TIGHT, Memorization, separable
from proofs_checks.monte_carlo import (
    POINTS_SEEN,
    exact_loss_value,
    noised,
    relative_gradient,
    residual_exponent,
)
from proofs_checks.mutants import DOUBLE_SIGMA, HALF_LAMBDA, PRINTED_SIGMA

FLIP_DRAWS = 5_000


def flip_probability(e: Memorization) -> Measured:
    """Frequency with which noise flips the tightest gate, at the σ where z = 2."""
    w1, labels, blocks = e.prediction.w1, e.prediction.labels, e.prediction.blocks
    live = blocks >= 0
    u = w1[:, live] / np.linalg.norm(w1[:, live], axis=0)
    sign = np.where(labels[:, None] == blocks[None, live], 1.0, -1.0)
    i, j = np.unravel_index(np.argmin(sign * (e.problem.x @ u)), sign.shape)
    y = noised(e.problem.x[i : i + 1], e.problem.sigma * e.z / 2, FLIP_DRAWS)
    flips = float(np.mean(sign[i, j] * (y @ u[:, j]) < 0))
    predicted = float(ndtr(-2))
    standard_error = np.sqrt(predicted * (1 - predicted) / FLIP_DRAWS)
    return Measured(
        flips,
        predicted,
        np.array([abs(flips - predicted) / standard_error]),
        note=f"error in standard errors of {FLIP_DRAWS} draws; here z={e.z:.2f}",
    )


def stationary(e: Memorization) -> Measured:
    """Relative gradient norm at (5)."""
    b, p = e.tight, e.predicted(e.tight)
    relative = relative_gradient(p.w1, p.w2, b.x, b.sigma, b.lam)
    note = "‖∇L‖ at (5), relative to the mean of ‖x‖²"
    return Measured(relative, 0.0, np.array([relative]), note=note)


def residual_decay(e: Memorization) -> Measured:
    """Exponent of what (5) misses of stationarity."""
    return residual_exponent(*e.residual)


def loss_formula(e: Memorization) -> Measured:
    """Exact loss at (5) beside the formula."""
    b, p = e.tight, e.predicted(e.tight)
    loss = exact_loss_value(p.w1, p.w2, b.x, b.sigma, b.lam)
    return Measured(loss, p.loss, np.array([abs(loss - p.loss) / p.loss]))


def other_samples(e: Memorization) -> Memorization:
    """The prediction's columns are random directions instead of the samples."""

    def predict(*arguments):
        prediction = e.predict(*arguments)
        w = np.random.default_rng(0).standard_normal(prediction.w1.shape)
        w *= np.linalg.norm(prediction.w1, axis=0) / np.linalg.norm(w, axis=0)
        return replace(prediction, w1=w, w2=w)

    return replace(e, predict=predict)


CLAIMS = (
    Claim(
        id="separability/margin",
        statement="Noise flips the tightest gate of (5) with probability Φ(−z).",
        source="docs/THEORY.md#gate-margin",
        requires=separable(0.5),
        measure=flip_probability,
        tolerance=4.0,
        mutants=(Mutant("columns in random directions", other_samples),),
        kind=Kind.CONFIRMATORY,
        origin=derived("docs/THEORY.md#gate-margin"),
    ),
    Claim(
        id="cor3.2/stationary",
        statement="The weights (5) are a stationary point of the exact loss.",
        source="docs/THEORY.md#eq-5",
        requires=TIGHT,
        measure=stationary,
        tolerance=1e-8,
        mutants=(DOUBLE_SIGMA, HALF_LAMBDA, PRINTED_SIGMA),
        kind=Kind.EXACT,
    ),
    Claim(
        id="cor3.2/residual-decay",
        statement="What (5) misses of stationarity falls like exp(−z²/2), up to a power of z.",
        source="docs/THEORY.md#remainder",
        requires=(*TIGHT, POINTS_SEEN),
        measure=residual_decay,
        tolerance=0.1,
        mutants=(DOUBLE_SIGMA,),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="cor3.2/loss-formula",
        statement="The loss at (5) is (1/n) Σ [s − (s−nλ)²/(s+σ²)], s = ‖x‖².",
        source="docs/THEORY.md#cor-3.2",
        requires=TIGHT,
        measure=loss_formula,
        tolerance=1e-8,
        mutants=(DOUBLE_SIGMA, PRINTED_SIGMA),
        kind=Kind.EXACT,
    ),
)
