"""The other detectors in nets whose theory is known: what each reads, and when it fails."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dae_theory.memorization.copies import gap_ratio
from dae_theory.memorization.nearest import duplicate_groups, nearest_two
from dae_theory.relu.model import denoise
from dae_theory.relu.units import spikiness
from dae_theory.statistics import area_under_roc
from dae_theory.theory.detectors import (
    energy_law,
    error_law,
    gap_area,
    gap_mean,
    participation_area,
    trace_law,
)
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Verdict, average
from proofs_checks.detect.auroc import (
    ENOUGH,
    RANDOM_NET,
    TWICE_SIGMA,
    UNIT_NORMS,
    agreement,
    areas_of,
    misread,
)
from proofs_checks.detect.origin import FIXED_HERE
from proofs_checks.detect.relu_nets import (
    COUNTS,
    DRAWS,
    LIVE,
    N_STORED,
    RANK,
    TRAINED,
    Detecting,
    Pooled,
    Setting,
    everywhere,
)
from proofs_checks.monte_carlo import merged_representation
from proofs_checks.nets import with_scaled_columns

PROBES = 2  # of Hutchinson's estimate
TRACE_POINTS = 16
GAP_DRAWS, GAP_OTHERS = 1000, 100
EVENNESS = 0.95  # of rotations, from which on the approximation for even ones is tried


def energy_auroc(e: Detecting) -> Measured:
    """Areas of ‖h‖², predicted and measured."""

    def score(x_ND: np.ndarray, y_ND: np.ndarray) -> Float[np.ndarray, " N"]:
        return np.sum(e.representation(y_ND) ** 2, axis=1)

    return agreement(areas_of(e, energy_law, score), e.seed, "AUROC of ‖h‖, mean over settings")


def error_auroc(e: Detecting) -> Measured:
    """Areas of the squared denoising error, low for memorized, predicted and measured."""

    def score(x_ND: np.ndarray, y_ND: np.ndarray) -> Float[np.ndarray, " N"]:
        return np.sum((np.asarray(denoise(*e.nets.pairs[0], y_ND)) - x_ND) ** 2, axis=1)

    areas = areas_of(e, error_law, score, low=True)
    return agreement(areas, e.seed, "AUROC of the denoising error, low is memorized")


@jax.jit
def _jacobians(w1: jax.Array, w2: jax.Array, y_ND: jax.Array) -> jax.Array:
    """Jacobian (N, D, D) of the net at each input, by automatic differentiation."""
    return jax.vmap(jax.jacfwd(lambda y_D: denoise(w1, w2, y_D[None])[0]))(y_ND)


@jax.jit
def _probe(w1: jax.Array, w2: jax.Array, y_ND: jax.Array, v_ND: jax.Array) -> jax.Array:
    """vᵀJv (N,) at each input."""
    _, jv_ND = jax.jvp(lambda y: denoise(w1, w2, y), (y_ND,), (v_ND,))
    return jnp.sum(v_ND * jv_ND, axis=1)


def trace_levels(e: Detecting) -> Measured:
    """Traces of the Jacobian at stored samples and at those of clusters, beside Σ m_j."""
    errors, areas = [], []
    for setting in e.comparisons_made:
        ends = []
        for k in (setting.stored, setting.cluster):
            _, y_ND = e.drawn(k, setting, TRACE_POINTS)
            trace_N = np.trace(_jacobians(*e.nets.pairs[0], y_ND), axis1=1, axis2=2)
            predicted = e.response(k, setting.sigma).trace
            errors.append(np.mean(np.abs(trace_N - predicted)) / predicted)
            ends.append(-trace_N)
        areas.append(area_under_roc(*ends))
    return Measured(
        average(errors),
        0.0,
        np.array([average(errors)]),
        (e.seed,),
        "relative distance of the trace from Σ m_j; AUROC {area:.3f}",
        details={"area": average(areas)},
    )


def trace_probed(e: Detecting) -> Measured:
    """Areas of Hutchinson's estimate of the trace, predicted and measured."""
    rng = np.random.default_rng([e.seed, 5])

    def score(x_ND: np.ndarray, y_ND: np.ndarray) -> Float[np.ndarray, " N"]:
        v_KND = rng.standard_normal((PROBES, *y_ND.shape))
        return np.mean([_probe(*e.nets.pairs[0], y_ND, v_ND) for v_ND in v_KND], axis=0)

    areas = areas_of(e, lambda r: trace_law(r, PROBES), score, low=True)
    return agreement(areas, e.seed, f"AUROC of Hutchinson's estimate with {PROBES} probes")


def effective_units(h_NP: np.ndarray) -> Float[np.ndarray, " N"]:
    """Participation ratio of each representation."""
    return spikiness(h_NP)["participation_ratio"]


def merged_units(e: Detecting) -> Measured:
    """Share of pairs that effective units order wrongly once collinear units are merged. Noised
    copies of a stored sample, of which one is like the other, count once."""
    areas = []
    for setting in e.comparisons_made:
        scores = e.scores(
            setting, lambda x, y: -effective_units(merged_representation(*e.nets.pairs[0], y))
        )
        areas.append(area_under_roc(*scores))
    stored = {setting.stored for setting in e.comparisons_made}
    clusters = {setting.cluster for setting in e.comparisons_made}
    return Measured(
        average(areas),
        1.0,
        np.array([1 - average(areas)]),
        (e.seed,),
        "AUROC of merged units",
        pairs=(len(stored), DRAWS * len(clusters)),
    )


def single_units(e: Pooled) -> Measured:
    """Areas of the participation ratio of single units, predicted and measured, in nets whose
    rotations are nearly even."""
    measured, predicted = [], []
    nets = [net for net in e.usable if evenness(net) >= EVENNESS]
    for net in nets:
        for setting in net.comparisons_made:
            scores = net.scores(
                setting, lambda x, y, net=net: -effective_units(net.representation(y))
            )
            measured.append(area_under_roc(*scores))
            units_P = net.comparison.blocks == setting.stored
            amounts_G = np.linalg.norm(net.solving.nets.w1[0][:, units_P], axis=0)
            amounts_G = net.amounts(amounts_G / np.linalg.norm(amounts_G))
            cluster = net.read(net.even(setting.cluster, setting.sigma))
            predicted.append(participation_area(amounts_G, cluster))
    return Measured(
        average(measured),
        average(predicted),
        np.array([average(np.abs(np.array(measured) - predicted))]),
        tuple(net.seed for net in nets),
        "AUROC of the participation ratio of single units, fewer is memorized; {settings:.0f} "
        "settings, {inverted:.2f} of them below ½",
        details={
            "settings": len(measured),
            "inverted": average([value < 0.5 for value in measured]),
        },
    )


def evenness(e: Detecting) -> float:
    """Smallest a_1²/p_k of the clusters, 1 for even rotations."""
    clusters = range(N_STORED, len(COUNTS))
    sums = (e.response(k, e.problem.sigma).unit_sums[0] ** 2 for k in clusters)
    return min(s / e.comparison.widths[k] for k, s in zip(clusters, sums, strict=True))


def gap_of_stored(e: Detecting) -> Measured:
    """Mean gap ratio of outputs at stored samples, relative to the predicted; the area beside the
    bound."""
    p, errors, areas, found = e.problem, [], [], []
    groups_N = duplicate_groups(p.x)

    def ratios(k: int, setting: Setting, draws: int) -> Float[np.ndarray, " N"]:
        f_ND = np.asarray(denoise(*e.nets.pairs[0], e.drawn(k, setting, draws)[1]))
        return gap_ratio(nearest_two(f_ND, p.x, groups_N).distances)

    for setting in e.comparisons_made:
        if setting.cluster != N_STORED:  # the first cluster alone: a sample's ratio knows of none
            continue
        stored_N = ratios(setting.stored, setting, GAP_DRAWS)
        response = e.response(setting.stored, setting.sigma)
        others_ND = p.x[p.labels != setting.stored]
        distance_N = np.sum((others_ND - e.mixture.means[setting.stored]) ** 2, axis=1)
        nearest_D = others_ND[np.argmin(distance_N)]
        predicted = gap_mean(response, nearest_D)
        errors.append(abs(np.mean(stored_N) / predicted - 1))
        other_N = ratios(setting.cluster, setting, GAP_OTHERS)
        areas.append((area_under_roc(-stored_N, -other_N), gap_area(response, nearest_D, RANK)))
        found.append((np.mean(stored_N), predicted))
    (measured, predicted), (area, bound) = (np.mean(pairs, axis=0) for pairs in (found, areas))
    return Measured(
        float(measured),
        float(predicted),
        np.array([average(errors)]),
        (e.seed,),
        "mean gap ratio of outputs at stored samples; error: relative; AUROC {area:.4f}, at least "
        "{bound:.4f} predicted",
        details={"area": area, "bound": bound},
    )


BLOCK_GAINS = misread("gains 1", lambda r: replace(r, gains=np.ones(len(r.gains))))
MEAN_ALONE = misread(
    "the mean direction alone",
    lambda r: replace(r, gains=r.gains[:1], directions=r.directions[:, :1]),
)
SQUARED_GAINS = misread("m² for m", lambda r: replace(r, gains=r.gains**2))
ROOT_GAINS = misread("√m for m", lambda r: replace(r, gains=np.sqrt(r.gains)))
NO_SPREAD = misread("no spread of the cluster", lambda r: replace(r, cov=np.zeros_like(r.cov)))


ROOT_SIGMA = misread("σ/√2 for σ", lambda r: replace(r, sigma=r.sigma / 2**0.5))
UNIT_COUNT = misread(
    "P for p_k",
    lambda r: replace(r, unit_sums=r.unit_sums * LIVE**0.5 / np.linalg.norm(r.unit_sums)),
)


ONE_AMOUNT = Mutant("one unit a sample", lambda e: replace(e, amounts=lambda c_G: np.ones(1)))
SQUARES = Mutant("Σc² for Σc⁴", lambda e: replace(e, amounts=np.sqrt))
LARGER = Mutant(
    "units scaled by 1.05",
    lambda e: replace(
        e,
        replaced=with_scaled_columns(e.solving.nets, np.ones((1, LIVE), bool), 1.05, 1.05),
    ),
)


def turned(e: Detecting) -> Detecting:
    """Nets whose units are turned at random by some degrees, collinear ones among them."""
    nets, rng = e.solving.nets, np.random.default_rng(0)
    w1, w2 = (
        w + 0.3 * np.linalg.norm(w, axis=1, keepdims=True) * unit_columns(rng, w.shape)
        for w in (nets.w1, nets.w2)
    )
    return replace(e, replaced=replace(nets, w1=w1, w2=w2))


def unit_columns(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random columns of length one."""
    drawn = rng.standard_normal(shape)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def claim(
    name: str,
    statement: str,
    source: str,
    measure: Callable[[Detecting], Measured],
    tolerance: float,
    mutants: tuple[Mutant, ...],
    expected: Verdict = Verdict.HOLDS,
) -> Claim:
    """A confirmatory claim about nets at a minimum."""
    return Claim(
        id=f"detect/{name}",
        statement=statement,
        source=f"docs/THEORY.md#{source}",
        part="relu",
        requires=TRAINED,
        measure=measure,
        tolerance=tolerance,
        mutants=mutants,
        kind=Kind.CONFIRMATORY,
        origin=FIXED_HERE,
        expected=expected,
    )


CLAIMS = (
    claim(
        "energy-auroc",
        "The AUROC of ‖h‖ follows from gains, norms and noise, whatever the units.",
        "detection-energy",
        energy_auroc,
        0.02,
        (UNIT_NORMS, TWICE_SIGMA, ROOT_SIGMA, RANDOM_NET),
    ),
    claim(
        "error-auroc",
        "The AUROC of the denoising error follows from the gains of both blocks.",
        "detection-error",
        error_auroc,
        0.02,
        (BLOCK_GAINS, MEAN_ALONE, SQUARED_GAINS, NO_SPREAD, RANDOM_NET),
    ),
    claim(
        "trace",
        "The trace of the Jacobian is Σ m_j of the active block.",
        "detection-trace",
        trace_levels,
        0.01,
        (BLOCK_GAINS, MEAN_ALONE, SQUARED_GAINS, ROOT_GAINS, RANDOM_NET),
    ),
    claim(
        "trace-probed",
        "The AUROC of Hutchinson's estimate of it follows from the gains and the number of probes.",
        "detection-trace",
        trace_probed,
        0.02,
        (BLOCK_GAINS, MEAN_ALONE, RANDOM_NET),
    ),
    claim(
        "merged-units",
        "Effective units, collinear ones merged, tell stored samples from clusters with spread.",
        "detection-units",
        merged_units,
        0.01,
        (RANDOM_NET, Mutant("collinear units a little apart", turned)),
        Verdict.INCONCLUSIVE,  # all are told apart, of 18 stored samples
    ),
    Claim(
        id="detect/single-units",
        statement="The AUROC of the participation ratio of single units follows from how a stored "
        "sample is split, and from the units of the cluster.",
        source="docs/THEORY.md#detection-units",
        part="pooled",
        requires=(ENOUGH,),
        measure=single_units,
        tolerance=0.05,
        mutants=tuple(map(everywhere, (ONE_AMOUNT, SQUARES, UNIT_COUNT, RANDOM_NET))),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_HERE,
    ),
    claim(
        "gap-stored",
        "Outputs at a stored sample have the mean gap ratio that follows from gain and noise.",
        "detection-gap",
        gap_of_stored,
        0.05,
        (TWICE_SIGMA, ROOT_SIGMA, LARGER),
    ),
)
