"""How far do the closed forms reach? Sweeps of β, α, σ, λ, p_k and label noise
(docs/THEORY.md#reach).

Wherever the gate margin z of the closed form is at least REACH_MARGIN, the minimizer next to it
is within 1%, with one exception: clusters that share a direction of variation.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from dae_theory.statistics import mean_interval
from dae_theory.theory.closed_forms import Prediction, predict_blocks
from dae_theory.theory.remainder import leak_loss
from proofs_checks.certify.reach_curves import Curve, Reach, crossings, worst
from proofs_checks.claims import (
    FIXED,
    Claim,
    Kind,
    Measured,
    Mutant,
    Requirement,
    Verdict,
    at_least,
)
from proofs_checks.mutants import DOUBLE_LAMBDA, DOUBLE_SIGMA, HALF_LAMBDA, instead, misprint

REACH_MARGIN, TWO, ACCURATE = 3.0, 2.0, 0.01
LOST, FAR = 0.05, 0.5  # errors of closed forms that have nothing to do with the minimizer
RESOLVED = 1e-12  # loss difference, relative to the loss, well above rounding
EVERYWHERE = ("beta", "alpha", "sigma", "sigma-clusters")  # what one margin is to serve
LEAKING = ("beta", "alpha", "sigma", "shared")  # no units collinear, where gates flip together


def interval(values_S: Float[np.ndarray, " S"]) -> str:
    """Mean and 95% interval of the values that are there, in words."""
    there = values_S[np.isfinite(values_S)]
    found = mean_interval(there)
    bounds = "" if found is None else f" [{found.low:.3g}, {found.high:.3g}]"
    return f"{np.mean(there):.3g}{bounds}"


def crossing(curve: Curve, level: float = ACCURATE) -> str:
    """Where the error passes ``level``, in the swept quantity and in z, in words."""
    values_VS = np.broadcast_to(curve.values[:, None], curve.error.shape)
    where_S = crossings(values_VS, curve.error, level)
    passed = f"{np.sum(np.isfinite(where_S))} of {len(where_S)} seeds pass {level:.0%}"
    if not np.any(np.isfinite(where_S)):
        return passed
    return f"{passed}: at {interval(where_S)}, z {interval(crossings(curve.z, curve.error, level))}"


def of_errors(reach: Reach, errors_S: Float[np.ndarray, " S"], note: str) -> Measured:
    """One error a seed, each 0 by the claim."""
    return Measured(float(np.mean(errors_S)), 0.0, errors_S, reach.seeds, note)


def within(name: str) -> Callable[[Reach], Measured]:
    """Largest operator error where the margin allows for none."""

    def measure(reach: Reach) -> Measured:
        curve = reach.curve(name)
        return of_errors(reach, worst(curve, REACH_MARGIN), crossing(curve))

    return measure


def beta(reach: Reach) -> Measured:
    """Largest operator error where the margin allows for none, plus what is missing to an error
    of LOST from β = 0 on."""
    curve = reach.curve("beta")
    beyond_S = np.min(curve.error[curve.values >= 0], axis=0)
    errors_S = worst(curve, REACH_MARGIN) + np.maximum(LOST - beyond_S, 0)
    return of_errors(reach, errors_S, crossing(curve))


def gains(reach: Reach) -> Measured:
    """Gains beside the soft threshold, on both sides of it."""
    curve = reach.curve("lambda")
    vanished = curve.gains[curve.predicted_gains <= 0]
    note = f"largest gain of {len(vanished)} columns to vanish: {np.max(vanished, initial=0):.1e}"
    return of_errors(reach, worst(curve, REACH_MARGIN), note)


def width(reach: Reach) -> Measured:
    """Operators and losses (3) of blocks that are narrower or wider than the rank."""
    curve = reach.curve("width")
    both_VS = np.maximum(curve.error, curve.loss_error)
    gained_S = np.max(curve.reached - curve.z, axis=0)
    note = f"rank 2; largest gain in z from closed form to minimizer: {interval(gained_S)}"
    return of_errors(reach, worst(curve, REACH_MARGIN, both_VS), note)


def labels(reach: Reach) -> Measured:
    """The error with right labels, and what wrong ones leave of the margin and of (4)."""
    curve = reach.curve("labels")
    wrong = curve.values > 0
    z_S, error_S = np.max(curve.z[wrong], axis=0), np.min(curve.error[wrong], axis=0)
    errors_S = curve.error[0] + np.maximum(z_S, 0) + np.maximum(FAR - error_S, 0)
    note = f"one wrong label of 16: z {interval(curve.z[1])}, error {interval(curve.error[1])}"
    return of_errors(reach, errors_S, note)


def pooled(reach: Reach) -> Measured:
    """The largest error of all sweeps but the exceptional one, at the margin asked of nets."""
    errors = [worst(reach.curve(name), TWO) for name in EVERYWHERE]
    note = f"tight clusters: {crossing(reach.curve('sigma-clusters'))}"
    return of_errors(reach, np.nanmax(errors, axis=0), note)


def leak(reach: Reach) -> Measured:
    """The formula beside exact loss minus (3), at the closed forms."""
    errors, count = [], 0
    for name in LEAKING:
        curve = reach.curve(name)
        clear_VS = (curve.z >= REACH_MARGIN) & (np.abs(curve.excess) > RESOLVED)
        ratio_VS = curve.leak / np.where(clear_VS, curve.excess, 1.0)
        errors.append(np.max(np.abs(ratio_VS - 1), axis=0, where=clear_VS, initial=0.0))
        count += np.sum(clear_VS)
    note = f"largest relative error over {count} points of {len(LEAKING)} sweeps"
    return of_errors(reach, np.max(errors, axis=0), note)


def are_drawn(reach: Reach) -> Bool[np.ndarray, "V S"]:
    """Points of the sweep over shared variation where flipped gates lower the loss."""
    curve = reach.curve("shared")
    return (curve.z >= REACH_MARGIN) & (curve.leak < 0)


def drawn(reach: Reach) -> Measured:
    """What the minimizer of these points, of each seed that has any, misses to be inaccurate;
    negative where it is farther off. The nearest decides."""
    curve, drawn_VS = reach.curve("shared"), are_drawn(reach)
    left = np.sum(~drawn_VS & (curve.error > ACCURATE))
    note = f"drawn away: {np.sum(drawn_VS)} of {drawn_VS.size} points; {left} others left, too"
    nearest_S = np.min(np.where(drawn_VS, curve.error, np.inf), axis=0)[drawn_VS.any(axis=0)]
    return of_errors(reach, ACCURATE - nearest_S, note)


def with_margin(*names: str, margin: float = REACH_MARGIN) -> tuple[Requirement, ...]:
    """Every seed has points with that margin on the sweeps together."""

    def fewest(reach: Reach) -> int:
        return np.min(sum(np.sum(reach.sweeps[n].margins >= margin, axis=0) for n in names))

    return (at_least(f"points a seed with z >= {margin:g}", 1, fewest),)


SOME_DRAWN = (at_least("points that are drawn away", 1, lambda reach: np.sum(are_drawn(reach))),)


def no_threshold(x_ND, labels_N, widths, sigma, lam) -> Prediction:
    """(2)-(4) with (s − nλ)/(s + n_kσ²) for the gains, negative or not."""
    prediction = predict_blocks(x_ND, labels_N, widths, sigma, lam)
    gains = []
    for k, u_DR in enumerate(prediction.directions):
        members_ND = x_ND[labels_N == k]
        s_R = np.sum((members_ND @ u_DR) ** 2, axis=0)
        gains.append((s_R - len(x_ND) * lam) / (s_R + len(members_ND) * sigma**2))
    return replace(prediction, gains=tuple(gains))


def right_labels(reach: Reach) -> Reach:
    """No label is changed after all."""
    sweep = reach.sweeps["labels"]
    clean = replace(sweep, problem=lambda _, seed: sweep.problem(0.0, seed))
    return replace(reach, sweeps=reach.sweeps | {"labels": clean})


def claim(
    name: str,
    statement: str,
    measure: Callable[[Reach], Measured],
    mutants: tuple[Mutant, ...],
    *,
    requires: tuple[Requirement, ...],
    source: str = "reach",
    tolerance: float = ACCURATE,
    kind: Kind = Kind.EXPLORATORY,
    expected: Verdict = Verdict.HOLDS,
    slow: bool = True,
) -> Claim:
    """A claim about the sweeps; that z ≥ 3 is what it takes was found by looking at them. Most
    sweeps take too long for tests that run all the time."""
    return Claim(
        id=f"certify/reach-{name}",
        statement=statement,
        source=f"docs/THEORY.md#{source}",
        requires=requires,
        measure=measure,
        tolerance=tolerance,
        mutants=mutants,
        kind=kind,
        origin=FIXED if kind is Kind.CONFIRMATORY else None,
        expected=expected,
        part="reach",
        slow=slow,
    )


CLAIMS = (
    claim(
        "beta",
        "Stored samples at cosine β: (5) is within 1% if z ≥ 3, and off by more than 5% if β ≥ 0.",
        beta,
        (HALF_LAMBDA,),
        requires=with_margin("beta"),
        slow=False,
    ),
    claim(
        "alpha",
        "Clusters that spread by α: (4) is within 1% wherever z ≥ 3.",
        within("alpha"),
        (DOUBLE_SIGMA, DOUBLE_LAMBDA),
        requires=with_margin("alpha"),
    ),
    claim(
        "sigma",
        "Stored faces at noise σ: (5) is within 1% wherever z ≥ 3.",
        within("sigma"),
        (HALF_LAMBDA,),
        requires=with_margin("sigma"),
        slow=False,
    ),
    claim(
        "sigma-clusters",
        "Tight clusters at noise σ: (4) is within 1% wherever z ≥ 3.",
        within("sigma-clusters"),
        (DOUBLE_SIGMA, DOUBLE_LAMBDA),
        requires=with_margin("sigma-clusters"),
    ),
    claim(
        "margin-two",
        "z ≥ 2 is enough for 1%.",
        pooled,
        (HALF_LAMBDA,),
        requires=with_margin(*EVERYWHERE, margin=TWO),
        expected=Verdict.FAILS,
    ),
    claim(
        "lambda",
        "Gains are (s−nλ)_+/(s+σ²), below and above nλ = s: a column past it vanishes.",
        gains,
        (instead("no soft threshold", "predict", no_threshold), HALF_LAMBDA),
        requires=with_margin("lambda"),
        source="eq-2",
    ),
    claim(
        "width",
        "Blocks narrower or wider than the rank: (2), (3) are within 1% wherever z ≥ 3.",
        width,
        (
            misprint("p_k + 1 for p_k", widths=lambda widths: [width + 1 for width in widths]),
            DOUBLE_LAMBDA,
        ),
        requires=with_margin("width"),
    ),
    claim(
        "labels",
        "One wrong label leaves no margin, z < 0, and a minimizer that is more than 50% off (4).",
        labels,
        (Mutant("labels not changed", right_labels),),
        requires=(),
        kind=Kind.CONFIRMATORY,
        slow=False,
    ),
    claim(
        "shared",
        "z ≥ 3 is enough for 1% also for clusters that share a direction of variation.",
        within("shared"),
        (HALF_LAMBDA,),
        requires=with_margin("shared"),
        expected=Verdict.FAILS,
    ),
    claim(
        "leak",
        "Exact loss at (4) minus (3) is a sum over gates, flipped one by one: `leak_loss`.",
        leak,
        (
            misprint(
                "σ twice as large", field="leak", prediction=lambda p: replace(p, sigma=2 * p.sigma)
            ),
            instead("flips counted twice", "leak", lambda p, x_ND: 2 * leak_loss(p, x_ND)),
        ),
        requires=with_margin(*LEAKING),
        source="leak",
    ),
    claim(
        "drawn",
        "Where flipped gates lower the loss, the minimizer is over 1% off (4), in spite of z ≥ 3.",
        drawn,
        (instead("the opposite sign", "leak", lambda p, x_ND: -leak_loss(p, x_ND)),),
        requires=SOME_DRAWN,
        source="leak",
        tolerance=0.0,
    ),
)
