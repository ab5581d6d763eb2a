"""Are the closed forms minima, how near is the true one, and modulo which symmetry?

The same six claims of each problem: (4) on clusters, (5) on samples that are stored. Below a gate
margin of EXACT_MARGIN the theory does not apply to exact statements: they are vacuous.
"""

from dataclasses import replace

import numpy as np
import scipy

from dae_theory.minima.second_order import SecondOrder
from dae_theory.statistics import log_log_slope
from dae_theory.theory.closed_forms import Prediction, predict_blocks
from proofs_checks.certify.certified import EXACT, Certified
from proofs_checks.claims import ACCURACY, Claim, Kind, Measured, Mutant
from proofs_checks.monte_carlo import relative_gradient
from proofs_checks.mutants import DOUBLE_SIGMA, HALF_LAMBDA, instead, misprint

LAW_MARGIN = 4.0  # from which exponents are fitted
LEVELS = (1e-2, 1e-3, 1e-6)  # relative errors for which the margin that is needed is looked up
PROVED = "proved where enclosed (see the note), else up to an allowance for rounding"
FLAT = 1e-3  # largest modulus, relative to λ, of an eigenvalue that counts as zero


def stationary(c: Certified) -> Measured:
    """Relative gradient norm at the closed form."""
    b, p = c.problem, c.prediction
    relative = relative_gradient(p.w1, p.w2, b.x, b.sigma, b.lam)
    note = f"‖∇L‖ relative to the mean of ‖x‖², z={c.margin:.2f}"
    return Measured(relative, 0.0, np.array([relative]), note=note)


def remainder(c: Certified) -> Measured:
    """Exponents of gradient and ‖R‖ in the flip weight F, the smaller one; the operator's beside.

    F counts all gates alike. With powers of 1/z the exponent comes out a little above 1; where
    the gate of the smallest margin moves the weights less than others do, a little below.
    """
    r = c.remainder
    law = {name: values[r["z"] >= LAW_MARGIN] for name, values in r.items()}
    exponents = {
        kind: log_log_slope(law["flips"], law[kind]) for kind in ("gradient", "weights", "operator")
    }
    smallest = min(exponents["gradient"], exponents["weights"])
    line = scipy.stats.linregress(law["z"] ** 2, np.log(law["weights"]))
    width = scipy.stats.t.ppf(0.975, len(law["z"]) - 2) * line.stderr
    needed = " / ".join(margin_needed(r["z"], r["operator"], level) for level in LEVELS)
    return Measured(
        smallest,
        1.0,
        np.array([max(1 - smallest, 0.0)]),
        note="exponents: "
        + ", ".join(f"{kind} {exponent:.3f}" for kind, exponent in exponents.items())
        + f"; slope of log ‖R‖ against z² {line.slope:.3f} ± {width:.3f}; operator errors below "
        + " / ".join(f"{level:g}" for level in LEVELS)
        + f" from z = {needed} on",
    )


def margin_needed(z: np.ndarray, error: np.ndarray, level: float) -> str:
    """Margin from which on the error stays below the level, in words: between two measured ones
    the logarithm is taken as linear in z²."""
    above = np.flatnonzero(~(error <= level))
    if len(above) == 0:
        return f"<{z[0]:.1f}"
    if above[-1] == len(z) - 1:
        return f">{z[-1]:.1f}"
    if np.isnan(error[above[-1]]):
        return f"{z[above[-1] + 1]:.1f}"
    pair = slice(above[-1], above[-1] + 2)
    square = np.interp(-np.log(level), -np.log(error[pair]), z[pair] ** 2)
    return f"{np.sqrt(square):.1f}"


def spectrum(c: Certified) -> Measured:
    """Largest difference of a Hessian eigenvalue from the closed form, relative to the largest."""
    measured = c.spectrum.sorted_values()
    predicted = c.predicted_spectrum.sorted_values()
    if len(measured) != len(predicted):
        error = np.inf
    else:
        error = float(np.max(np.abs(measured - predicted)) / measured[-1])
    positive = [values[values > FLAT * c.problem.lam] for values in (measured, predicted)]
    return Measured(
        float(positive[0].min()),
        float(positive[1].min()),
        np.array([error]),
        note=f"smallest non-zero eigenvalue of {len(measured)}; error: largest difference over "
        f"all of them, relative to the largest, {measured[-1]:.3g}; λ = {c.problem.lam:.3g}",
    )


def flat_directions(c: Certified) -> Measured:
    """Number of zero eigenvalues beside that of symmetry directions."""
    found = c.spectrum.count_below(FLAT * c.problem.lam)
    predicted = c.flat_directions(c.problem.widths, c.ranks)
    values = np.abs(c.spectrum.values)
    largest = values[values <= FLAT * c.problem.lam].max(initial=0.0)
    note = f"eigenvalues below {FLAT:g} λ, the largest of them {largest:.1e}"
    return Measured(float(found), float(predicted), np.array([abs(found - predicted)]), note=note)


def minimum(c: Certified) -> Measured:
    """Verdict at the point that Newton's method reaches; how far the lowest eigenvalue is off."""
    verdict, values = c.second_order, c.predicted_spectrum.values
    predicted = float(values[values > FLAT * c.problem.lam].min())
    is_other = float(verdict.verdict != "minimum")
    return Measured(
        verdict.lowest,
        predicted,
        np.array([abs(verdict.lowest / predicted - 1) + is_other]),
        note=verdict_in_words(verdict),
    )


def verdict_in_words(verdict: SecondOrder) -> str:
    """The verdict and what it rests on."""
    words = f"{verdict.verdict}; lowest eigenvalue orthogonal to {len(verdict.symmetry)} symmetry "
    words += f"directions; ‖∇L‖ = {verdict.grad_norm:.1e}"
    if verdict.verdict == "saddle":
        words += f"; along its direction the loss falls by {verdict.loss_drop:.2e}"
    return words


def existence(c: Certified) -> Measured:
    """Radius in which a true minimizer exists, and whether Newton's method found it there."""
    e, p = c.existence, c.prediction
    distance = np.nan  # Newton's method need not converge where no minimizer is near
    if np.isfinite(e.radius):
        distance = float(np.linalg.norm([c.minimizer.w1 - p.w1, c.minimizer.w2 - p.w2]))
    rounding = 1e3 * np.finfo(float).eps * float(np.linalg.norm([p.w1, p.w2]))
    found = distance <= e.radius + rounding
    flat = len(c.second_order.symmetry)
    what = f"up to {flat} rotations" if flat else "a true local minimizer"
    bounds = f"‖∇L‖ {e.grad_norm:.1e}, μ {e.curvature:.2e}, K {e.lipschitz:.3g}"
    how = "enclosed by ball arithmetic: proved"
    if not e.enclosed:
        how = "K proved, ‖∇L‖ and μ computed in float64 with an allowance for rounding"
    return Measured(
        e.radius,
        distance,
        np.array([e.radius if found else np.inf]),
        note=f"{what}; predicted: the distance Newton's method went; bounds, in few digits: "
        f"h {e.kantorovich:.1e}, {bounds}; {how}",
    )


def last_direction_exchanged(x_ND, labels_N, widths, sigma, lam) -> Prediction:
    """(4) with the last kept eigenpair of block 0 exchanged for the next one: a saddle."""
    wider = predict_blocks(x_ND, labels_N, [p + 1 for p in widths], sigma, lam)
    p = predict_blocks(x_ND, labels_N, widths, sigma, lam)
    rank = p.directions[0].shape[1]
    if wider.directions[0].shape[1] == rank or rank < 2:
        return p
    old, new = p.directions[0][:, -1], wider.directions[0][:, -1]
    old_gain, new_gain = p.gains[0][-1], wider.gains[0][-1]
    scale = np.sqrt(new_gain / old_gain) if old_gain > 0 else 0.0
    change = np.eye(len(old)) + np.outer(scale * new - old, old)
    block_P = p.blocks == 0
    w1 = np.where(block_P, change @ p.w1, p.w1)
    return replace(p, w1=w1, w2=w1.copy())


def first_unit_negated(x_ND, labels_N, widths, sigma, lam) -> Prediction:
    """(4) with the first unit −(w1; w2): the same operator, but its gate opens on other samples."""
    p = predict_blocks(x_ND, labels_N, widths, sigma, lam)
    w_DP = np.where(np.arange(len(p.blocks)) == 0, -p.w1, p.w1)
    return replace(p, w1=w_DP, w2=w_DP.copy())


ONE_MORE = misprint(
    "p_k + 1 for p_k",
    field="flat_directions",
    widths=lambda widths: [width + 1 for width in widths],
)
SADDLE = instead(
    "last eigenpair exchanged for the next: a saddle", "predict", last_direction_exchanged
)
NEGATED = instead("first unit negated: wrong gates", "predict", first_unit_negated)
SHRUNK = Mutant("first unit shrunk to 1e-6: a saddle", lambda c: replace(c, shrunk=True))
UNPROJECTED = Mutant(
    "rotations counted as curvature", lambda c: replace(c, projects_symmetry=False)
)
CURVATURE_OF_HALF = misprint(
    "λ/2 in the eigenvalues",
    field="curvature",
    prediction=lambda prediction: replace(prediction, lam=prediction.lam / 2),
)
FULL_ORTHOGONAL = instead(
    "p_k(p_k+1)/2 flat directions",
    "flat_directions",
    lambda widths, ranks: sum(width * (width + 1) // 2 for width in widths),
)
NO_SYMMETRY = instead("no flat directions", "flat_directions", lambda widths, ranks: 0)


def claims_about(part: str, what: str, in_blocks: bool) -> tuple[Claim, ...]:
    """Every certificate of one closed form: (4) in blocks, (5) otherwise."""
    return (
        Claim(
            id=f"certify/{part}/stationary",
            statement=f"{what}: {'(4)' if in_blocks else '(5)'} is stationary.",
            source=f"docs/THEORY.md#{'eq-4' if in_blocks else 'eq-5'}",
            requires=EXACT,
            measure=stationary,
            tolerance=1e-8,
            mutants=(DOUBLE_SIGMA, HALF_LAMBDA) if in_blocks else (HALF_LAMBDA,),
            kind=Kind.EXACT,
            part=part,
        ),
        Claim(
            id=f"certify/{part}/remainder",
            statement=f"{what}: ∇L and ‖R‖, to the true minimizer, fall with σ as fast as "
            "F = Σ exp(−z_ij²/2).",
            source="docs/THEORY.md#remainder",
            requires=EXACT,
            measure=remainder,
            tolerance=0.2,
            mutants=(HALF_LAMBDA,),
            kind=Kind.EXPLORATORY,  # one data set; residual-decay judges the law on several
            part=part,
        ),
        Claim(
            id=f"certify/{part}/spectrum",
            statement=f"{what}: all Hessian eigenvalues are those of frozen gates.",
            source="docs/THEORY.md#spectrum",
            requires=EXACT,
            measure=spectrum,
            tolerance=1e-8,
            mutants=(CURVATURE_OF_HALF,),
            kind=Kind.EXACT,
            part=part,
        ),
        Claim(
            id=f"certify/{part}/flat-directions",
            statement=f"{what}: as many eigenvalues vanish as rotations within blocks move the "
            "weights.",
            source="docs/THEORY.md#symmetry",
            requires=EXACT,
            measure=flat_directions,
            tolerance=0.0,
            mutants=(FULL_ORTHOGONAL, ONE_MORE) + ((NO_SYMMETRY,) if in_blocks else ()),
            kind=Kind.EXACT,
            part=part,
        ),
        Claim(
            id=f"certify/{part}/minimum",
            statement=f"{what}: the stationary point there is a strict minimum modulo symmetry.",
            source="docs/THEORY.md#local-minimum",
            requires=EXACT,
            measure=minimum,
            tolerance=0.01,
            mutants=(SADDLE, UNPROJECTED) if in_blocks else (SHRUNK,),
            kind=Kind.EXACT,
            origin=ACCURACY,
            part=part,
        ),
        Claim(
            id=f"certify/{part}/exists",
            statement=f"{what}: a true local minimizer exists within 1e-6"
            + (", modulo rotations in blocks" if in_blocks else "")
            + f"; {PROVED}.",
            source="docs/THEORY.md#newton-kantorovich",
            requires=EXACT,
            measure=existence,
            tolerance=1e-6,
            mutants=(HALF_LAMBDA, NEGATED),
            kind=Kind.EXACT,
            origin=ACCURACY,
            part=part,
        ),
    )


CLAIMS = (
    *claims_about("simplex", "Simplex", in_blocks=False),
    *claims_about("mixture", "Mixture", in_blocks=True),
    *claims_about("faces", "Faces", in_blocks=False),
)
DATA_CLAIMS = (
    *claims_about("samples", "Most separable samples", in_blocks=False),
    *claims_about("clusters", "Clusters", in_blocks=True),
)
