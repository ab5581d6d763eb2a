"""How far do the closed forms reach? Sweeps of β, α, σ, λ, p_k and label noise (THEORY.md §13).

Wherever the gate margin z of the closed form is at least REACH_MARGIN, the minimizer next to it
is within 1%, with one exception: clusters that share a direction of variation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dae_theory.theory.closed_forms import Prediction, predict_blocks
from proofs_checks.blocks import Blocks
from proofs_checks.certify_mutants import double_sigma, half_lambda, one_unit_more
from proofs_checks.certify_reach_evidence import (
    Curve,
    Sweep,
    at_cluster_noise,
    at_cosine,
    at_decay,
    at_label_noise,
    at_noise,
    at_shared_variation,
    at_spread,
    at_width,
    crossings,
    leak_loss,
    trace,
)
from proofs_checks.claims import (
    Assumption,
    Claim,
    Evidence,
    Mutant,
    Verdict,
    confidence_interval,
    measure_or_vacuous,
)
from proofs_checks.probes import TRAINED_MARGIN

REACH_MARGIN, ACCURATE = 3.0, 0.01
LOST, FAR = 0.05, 0.5  # errors of closed forms that have nothing to do with the minimizer
RESOLVED = 1e-12  # loss difference, relative to the loss, well above rounding

SWEEPS = {  # problem, values, and every how many of them are enough for a quick look
    "beta": (at_cosine, (-0.25, -0.2, -0.15, -0.12, -0.1, -0.08, -0.05, 0.0, 0.1, 0.2, 0.3), 3),
    "alpha": (at_spread, (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4), 3),
    "sigma": (at_noise, (0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3), 3),
    "sigma-clusters": (at_cluster_noise, (0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12), 3),
    "lambda": (at_decay, (0.01, 0.03, 0.1, 0.3, 0.6, 0.8, 0.9, 1.0, 1.1, 1.3, 1.5), 4),
    "width": (at_width, (1, 2, 3, 4, 5), 2),
    "labels": (at_label_noise, (0.0, 1 / 16, 2 / 16, 3 / 16), 1),
    "shared": (at_shared_variation, (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8), 2),
}
OPTIONS = {
    # A column that λ makes vanish must be there at the start, and takes many short steps.
    "lambda": {"start_decay": 0.5, "steps": 500},
    # Units over the rank drift along flat splittings, which move no operator.
    "width": {"steps": 80},
}
QUICK_SEEDS = 2
EVERYWHERE = ("beta", "alpha", "sigma", "sigma-clusters")  # what one margin is to serve
LEAKING = ("beta", "alpha", "sigma", "shared")  # no units collinear, where gates flip together


@dataclass(frozen=True)
class Reach:
    """Sweeps by name and the formulas under test: ``predict`` (2)-(4), and ``leak``, by how much
    flipped gates change the loss. The minimizers do not depend on the formulas."""

    sweeps: dict[str, Sweep]
    predict: Callable[..., Prediction] = predict_blocks
    leak: Callable[[Prediction, Blocks], float] = leak_loss

    def curve(self, name: str) -> Curve:
        """The curve of one sweep."""
        return trace(self.sweeps[name], self.predict, self.leak)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the data."""
        return self.sweeps["beta"].seeds


def build(seeds: tuple[int, ...], quick: bool) -> Reach:
    """All sweeps; ``seeds`` draw the data, ``quick`` takes two of them and fewer values."""
    seeds = seeds[:QUICK_SEEDS] if quick else seeds
    sweeps = {}
    for name, (blocks, values, step) in SWEEPS.items():
        values = values[:: step if quick else 1]
        sweeps[name] = Sweep(values, seeds, blocks, **OPTIONS.get(name, {}))
    return Reach(sweeps)


# --- what is measured ------------------------------------------------------------------------


def worst(curve: Curve, margin: float, error_VS: np.ndarray | None = None) -> np.ndarray:
    """(S,) largest error over the points with z at least ``margin``; NaN where there is none."""
    error_VS = curve.error if error_VS is None else error_VS
    inside_VS = curve.z >= margin
    largest_S = np.max(error_VS, axis=0, where=inside_VS, initial=-1.0)
    return np.where(np.any(inside_VS, axis=0), largest_S, np.nan)


def interval(values_S: np.ndarray) -> str:
    """Mean and 95% interval of the values that are there, in words."""
    there = values_S[np.isfinite(values_S)]
    limits = confidence_interval(there)
    bounds = "" if limits is None else f" [{limits[0]:.3g}, {limits[1]:.3g}]"
    return f"{np.mean(there):.3g}{bounds}"


def crossing(curve: Curve, level: float = ACCURATE) -> str:
    """Where the error passes ``level``, in the swept quantity and in z, in words."""
    values_VS = np.broadcast_to(curve.values[:, None], curve.error.shape)
    where_S = crossings(values_VS, curve.error, level)
    passed = f"{np.sum(np.isfinite(where_S))} of {len(where_S)} seeds pass {level:.0%}"
    if not np.any(np.isfinite(where_S)):
        return passed
    return f"{passed}: at {interval(where_S)}, z {interval(crossings(curve.z, curve.error, level))}"


def errors_of(experiment: Reach, errors_S: np.ndarray, note: str) -> dict:
    """Evidence from one error a seed, each 0 by the claim."""
    return {
        "measured": float(np.mean(errors_S)),
        "predicted": 0.0,
        "errors": errors_S,
        "seeds": experiment.seeds,
        "note": note,
    }


def measure_within(name: str) -> Callable[[Reach], dict]:
    """Largest operator error where the margin allows for none."""

    def measure(experiment: Reach) -> dict:
        curve = experiment.curve(name)
        return errors_of(experiment, worst(curve, REACH_MARGIN), crossing(curve))

    return measure


def measure_beta(experiment: Reach) -> dict:
    """The same, plus what is missing to an error of LOST from β = 0 on."""
    curve = experiment.curve("beta")
    beyond_S = np.min(curve.error[curve.values >= 0], axis=0)
    errors_S = worst(curve, REACH_MARGIN) + np.maximum(LOST - beyond_S, 0)
    return errors_of(experiment, errors_S, crossing(curve))


def measure_gains(experiment: Reach) -> dict:
    """Gains beside the soft threshold, on both sides of it."""
    curve = experiment.curve("lambda")
    vanished = curve.gains[curve.predicted_gains <= 0]
    note = f"largest gain of {len(vanished)} columns to vanish: {np.max(vanished, initial=0):.1e}"
    return errors_of(experiment, worst(curve, REACH_MARGIN), note)


def measure_width(experiment: Reach) -> dict:
    """Operators and losses (3) of blocks that are narrower or wider than the rank."""
    curve = experiment.curve("width")
    both_VS = np.maximum(curve.error, curve.loss_error)
    gained_S = np.max(curve.reached - curve.z, axis=0)
    note = f"rank 2; largest gain in z from closed form to minimizer: {interval(gained_S)}"
    return errors_of(experiment, worst(curve, REACH_MARGIN, both_VS), note)


def measure_labels(experiment: Reach) -> dict:
    """The error with right labels, and what wrong ones leave of the margin and of (4)."""
    curve = experiment.curve("labels")
    wrong = curve.values > 0
    z_S, error_S = np.max(curve.z[wrong], axis=0), np.min(curve.error[wrong], axis=0)
    errors_S = curve.error[0] + np.maximum(z_S, 0) + np.maximum(FAR - error_S, 0)
    note = f"one wrong label of 16: z {interval(curve.z[1])}, error {interval(curve.error[1])}"
    return errors_of(experiment, errors_S, note)


def measure_pooled(experiment: Reach) -> dict:
    """The largest error of all sweeps but the exceptional one, at the margin asked of nets."""
    errors = [worst(experiment.curve(name), TRAINED_MARGIN) for name in EVERYWHERE]
    note = f"tight clusters: {crossing(experiment.curve('sigma-clusters'))}"
    return errors_of(experiment, np.nanmax(errors, axis=0), note)


def measure_leak(experiment: Reach) -> dict:
    """The formula beside exact loss minus (3), at the closed forms."""
    errors, count = [], 0
    for name in LEAKING:
        curve = experiment.curve(name)
        clear_VS = (curve.z >= REACH_MARGIN) & (np.abs(curve.excess) > RESOLVED)
        ratio_VS = curve.leak / np.where(clear_VS, curve.excess, 1.0)
        errors.append(np.max(np.abs(ratio_VS - 1), axis=0, where=clear_VS, initial=0.0))
        count += np.sum(clear_VS)
    note = f"largest relative error over {count} points of {len(LEAKING)} sweeps"
    return errors_of(experiment, np.max(errors, axis=0), note)


def drawn(experiment: Reach) -> np.ndarray:
    """(V, S) points of the sweep over shared variation where flipped gates lower the loss."""
    curve = experiment.curve("shared")
    return (curve.z >= REACH_MARGIN) & (curve.leak < 0)


def measure_drawn(experiment: Reach) -> dict:
    """Share of these points whose minimizer is accurate all the same, for each seed."""
    curve, drawn_VS = experiment.curve("shared"), drawn(experiment)
    stay_VS = drawn_VS & (curve.error <= ACCURATE)
    left = np.sum(~drawn_VS & (curve.error > ACCURATE))
    note = f"drawn away: {np.sum(drawn_VS)} of {drawn_VS.size} points; {left} others left, too"
    share_S = stay_VS.sum(axis=0) / np.maximum(drawn_VS.sum(axis=0), 1)
    return errors_of(experiment, share_S, note)


# --- claims ----------------------------------------------------------------------------------


def with_margin(*names: str, margin: float = REACH_MARGIN) -> Callable[[Reach], dict]:
    """Every seed has points with that margin on the sweeps together."""

    def assume(experiment: Reach) -> dict[str, Assumption]:
        counts_S = sum(np.sum(experiment.curve(name).z >= margin, axis=0) for name in names)
        fewest = int(np.min(counts_S))
        return {f"points a seed with z >= {margin:g}": Assumption(fewest, ">= 1", fewest >= 1)}

    return assume


def some_drawn(experiment: Reach) -> dict[str, Assumption]:
    """There are points where flipped gates lower the loss."""
    count = int(np.sum(drawn(experiment)))
    return {"points that are drawn away": Assumption(count, ">= 1", count >= 1)}


def _claim(name, statement, source, assume, measure, tolerance, mutants, fails=False) -> Claim:
    def check(experiment: Reach) -> Evidence:
        return measure_or_vacuous(experiment, assume(experiment), measure, tolerance)

    expected = Verdict.FAILS if fails else Verdict.HOLDS
    return Claim(f"certify/reach-{name}", statement, source, check, mutants, expected)


def _formula(what: str, **changes: Callable) -> Mutant:
    """Another formula under test."""
    return Mutant(what, lambda experiment: replace(experiment, **changes))


def no_threshold(x_ND, labels_N, widths, sigma, lam) -> Prediction:
    """(2)-(4) with (s − nλ)/(s + n_kσ²) for the gains, negative or not."""
    prediction = predict_blocks(x_ND, labels_N, widths, sigma, lam)
    gains = []
    for k, u_DR in enumerate(prediction.directions):
        members_ND = x_ND[labels_N == k]
        s_R = np.sum((members_ND @ u_DR) ** 2, axis=0)
        gains.append((s_R - len(x_ND) * lam) / (s_R + len(members_ND) * sigma**2))
    return replace(prediction, gains=tuple(gains))


def right_labels(experiment: Reach) -> Reach:
    """No label is changed after all."""
    sweep = experiment.sweeps["labels"]
    clean = replace(sweep, blocks=lambda _, seed: sweep.blocks(0.0, seed))
    return replace(experiment, sweeps=experiment.sweeps | {"labels": clean})


HALF_LAMBDA = _formula("λ/2 for λ", predict=half_lambda)

CLAIMS = (
    _claim(
        "beta",
        "Stored samples at cosine β: (5) is within 1% if z ≥ 3, and off by more than 5% if β ≥ 0.",
        "Theorem 3.1, β < 0",
        with_margin("beta"),
        measure_beta,
        ACCURATE,
        (HALF_LAMBDA,),
    ),
    _claim(
        "alpha",
        "Clusters that spread by α: (4) is within 1% wherever z ≥ 3.",
        "Theorem 3.1, α",
        with_margin("alpha"),
        measure_within("alpha"),
        ACCURATE,
        (_formula("2σ for σ", predict=double_sigma), HALF_LAMBDA),
    ),
    _claim(
        "sigma",
        "Stored faces at noise σ: (5) is within 1% wherever z ≥ 3.",
        "Corollary 3.2, remainder",
        with_margin("sigma"),
        measure_within("sigma"),
        ACCURATE,
        (HALF_LAMBDA,),
    ),
    _claim(
        "sigma-clusters",
        "Tight clusters at noise σ: (4) is within 1% wherever z ≥ 3.",
        "Theorem 3.1, remainder",
        with_margin("sigma-clusters"),
        measure_within("sigma-clusters"),
        ACCURATE,
        (_formula("2σ for σ", predict=double_sigma), HALF_LAMBDA),
    ),
    _claim(
        "margin-two",
        "z ≥ 2 is enough for 1%.",
        "THEORY §2",
        with_margin(*EVERYWHERE, margin=TRAINED_MARGIN),
        measure_pooled,
        ACCURATE,
        (HALF_LAMBDA,),
        fails=True,
    ),
    _claim(
        "lambda",
        "Gains are (s−nλ)_+/(s+σ²), below and above nλ = s: a column past it vanishes.",
        "THEORY (2), (5)",
        with_margin("lambda"),
        measure_gains,
        ACCURATE,
        (_formula("no soft threshold", predict=no_threshold), HALF_LAMBDA),
    ),
    _claim(
        "width",
        "Blocks narrower or wider than the rank: (2), (3) are within 1% wherever z ≥ 3.",
        "Theorem 3.1, p_k",
        with_margin("width"),
        measure_width,
        ACCURATE,
        (_formula("p_k + 1 for p_k", predict=one_unit_more), HALF_LAMBDA),
    ),
    _claim(
        "labels",
        "One wrong label leaves no margin, z < 0, and a minimizer that is more than 50% off (4).",
        "Theorem 3.1, α",
        lambda experiment: {},
        measure_labels,
        ACCURATE,
        (Mutant("labels not changed", right_labels),),
    ),
    _claim(
        "shared",
        "z ≥ 3 is enough for 1% also for clusters that share a direction of variation.",
        "Theorem 3.1, existence",
        with_margin("shared"),
        measure_within("shared"),
        ACCURATE,
        (HALF_LAMBDA,),
        fails=True,
    ),
    _claim(
        "leak",
        "Exact loss at (4) minus (3) is a sum over gates, flipped one by one: `leak_loss`.",
        "THEORY §2, derived",
        with_margin(*LEAKING),
        measure_leak,
        ACCURATE,
        (
            _formula("2σ for σ", leak=lambda p, b: leak_loss(p, replace(b, sigma=2 * b.sigma))),
            _formula("flips counted twice", leak=lambda p, b: 2 * leak_loss(p, b)),
        ),
    ),
    _claim(
        "drawn",
        "Where flipped gates lower the loss, the minimizer is over 1% off (4), in spite of z ≥ 3.",
        "Theorem 3.1, derived",
        some_drawn,
        measure_drawn,
        0.0,
        (_formula("the opposite sign", leak=lambda p, b: -leak_loss(p, b)),),
    ),
)


def results(experiment: Reach) -> dict[str, np.ndarray]:
    """Arrays behind the figure, by sweep: values (V,), the rest (V, S), gains (V, S, K)."""
    return {
        f"{name}/{field}": array
        for name in experiment.sweeps
        for field, array in experiment.curve(name)._asdict().items()
    }
