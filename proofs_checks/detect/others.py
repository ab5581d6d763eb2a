"""The other detectors in nets whose theory is known: what each reads, and when it fails."""

from collections.abc import Callable
from dataclasses import replace

import jax
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
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Requirement, average
from proofs_checks.detect.auroc import (
    RANDOM_NET,
    TWICE_SIGMA,
    UNIT_NORMS,
    agreement,
    areas_of,
    misread,
)
from proofs_checks.detect.origin import FIXED_HERE
from proofs_checks.detect.relu_nets import EVEN, RANK, TRAINED, Detecting
from proofs_checks.monte_carlo import merged_representation

PROBES = 2  # of Hutchinson's estimate
TRACE_POINTS = 16
GAP_POINTS = 400


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


def jacobians(e: Detecting, y_ND: np.ndarray) -> Float[np.ndarray, "N D D"]:
    """Jacobian of the net at each input, by automatic differentiation."""
    w1, w2 = e.nets.pairs[0]
    return np.asarray(jax.vmap(jax.jacfwd(lambda y_D: denoise(w1, w2, y_D[None])[0]))(y_ND))


def trace_levels(e: Detecting) -> Measured:
    """Traces of the Jacobian at stored samples and at those of clusters, beside Σ m_j."""
    errors, areas = [], []
    for setting in e.comparisons_made:
        ends = []
        for k in (setting.stored, setting.cluster):
            _, y_ND = e.drawn(k, setting, TRACE_POINTS)
            trace_N = np.trace(jacobians(e, y_ND), axis1=1, axis2=2)
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
        w1, w2 = e.nets.pairs[0]
        found = []
        for _ in range(PROBES):
            v_ND = rng.standard_normal(y_ND.shape)
            _, jv_ND = jax.jvp(lambda y: denoise(w1, w2, y), (y_ND,), (v_ND,))
            found.append(np.sum(v_ND * np.asarray(jv_ND), axis=1))
        return np.mean(found, axis=0)

    areas = areas_of(e, lambda r: trace_law(r, PROBES), score, low=True)
    return agreement(areas, e.seed, f"AUROC of Hutchinson's estimate with {PROBES} probes")


def merged_units(e: Detecting) -> Measured:
    """Share of pairs that effective units order wrongly once collinear units are merged."""
    areas = []
    for setting in e.comparisons_made:
        scores = e.scores(
            setting,
            lambda x, y: (
                -spikiness(merged_representation(*e.nets.pairs[0], y))["participation_ratio"]
            ),
        )
        areas.append(area_under_roc(*scores))
    return Measured(
        average(areas), 1.0, np.array([1 - average(areas)]), (e.seed,), "AUROC of merged units"
    )


def single_units(e: Detecting) -> Measured:
    """Areas of the participation ratio of single units, predicted and measured."""
    measured, predicted = [], []
    for setting in e.comparisons_made:
        stored, other = e.scores(
            setting, lambda x, y: -spikiness(e.representation(y))["participation_ratio"]
        )
        measured.append(area_under_roc(stored, other))
        units_P = e.comparison.blocks == setting.stored
        amounts_G = np.linalg.norm(e.solving.nets.w1[0][:, units_P], axis=0)
        amounts_G = e.amounts(amounts_G / np.linalg.norm(amounts_G))
        response = e.read(e.even(setting.cluster, setting.sigma))
        predicted.append(participation_area(amounts_G, response))
    errors = np.abs(np.array(measured) - predicted)
    return Measured(
        average(measured),
        average(predicted),
        np.array([average(errors)]),
        (e.seed,),
        "AUROC of the participation ratio of single units, fewer is memorized; "
        "{inverted:.2f} of settings below ½",
        details={"inverted": average([value < 0.5 for value in measured])},
    )


def gap_of_stored(e: Detecting) -> Measured:
    """Mean gap ratio of outputs at stored samples, relative to the predicted; the area beside the
    bound."""
    p, errors, areas, bounds, means = e.problem, [], [], [], []
    groups_N = duplicate_groups(p.x)
    for setting in e.comparisons_made:

        def score(x_ND: np.ndarray, y_ND: np.ndarray) -> Float[np.ndarray, " N"]:
            f_ND = np.asarray(denoise(*e.nets.pairs[0], y_ND))
            return gap_ratio(nearest_two(f_ND, p.x, groups_N).distances)

        stored, other = e.scores(setting, score, GAP_POINTS)
        response = e.response(setting.stored, setting.sigma)
        others_ND = p.x[p.labels != setting.stored]
        distance_N = np.sum((others_ND - e.mixture.means[setting.stored]) ** 2, axis=1)
        nearest_D = others_ND[np.argmin(distance_N)]
        predicted = gap_mean(response, nearest_D)
        means.append(predicted)
        errors.append(abs(np.mean(stored) / predicted - 1))
        areas.append(area_under_roc(-stored, -other))
        bounds.append(gap_area(response, nearest_D, RANK))
    return Measured(
        average(means),
        average(means),
        np.array([average(errors)]),
        (e.seed,),
        "mean gap ratio of outputs at stored samples; AUROC {area:.4f}, at least {bound:.4f} "
        "predicted",
        details={"area": average(areas), "bound": average(bounds)},
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
    "√p_k for p_k",
    lambda r: replace(r, unit_sums=np.sign(r.unit_sums) * np.abs(r.unit_sums) ** 0.5),
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
    requires: tuple[Requirement, ...] = TRAINED,
) -> Claim:
    """A confirmatory claim about nets at a minimum."""
    return Claim(
        id=f"detect/{name}",
        statement=statement,
        source=f"docs/THEORY.md#detection-{source}",
        part="relu",
        requires=requires,
        measure=measure,
        tolerance=tolerance,
        mutants=mutants,
        kind=Kind.CONFIRMATORY,
        origin=FIXED_HERE,
    )


CLAIMS = (
    claim(
        "energy-auroc",
        "The AUROC of ‖h‖ follows from gains, norms and noise, whatever the units.",
        "energy",
        energy_auroc,
        0.02,
        (UNIT_NORMS, TWICE_SIGMA, ROOT_SIGMA, RANDOM_NET),
    ),
    claim(
        "error-auroc",
        "The AUROC of the denoising error follows from the gains of both blocks.",
        "error",
        error_auroc,
        0.02,
        (BLOCK_GAINS, MEAN_ALONE, SQUARED_GAINS, NO_SPREAD, RANDOM_NET),
    ),
    claim(
        "trace",
        "The trace of the Jacobian is Σ m_j of the active block.",
        "trace",
        trace_levels,
        0.01,
        (BLOCK_GAINS, MEAN_ALONE, SQUARED_GAINS, ROOT_GAINS, RANDOM_NET),
    ),
    claim(
        "trace-probed",
        "The AUROC of Hutchinson's estimate of it follows from the gains and the number of probes.",
        "trace",
        trace_probed,
        0.02,
        (BLOCK_GAINS, MEAN_ALONE, RANDOM_NET),
    ),
    claim(
        "merged-units",
        "Effective units, collinear ones merged, tell stored samples from clusters with spread.",
        "units",
        merged_units,
        0.01,
        (RANDOM_NET, Mutant("collinear units a little apart", turned)),
    ),
    claim(
        "single-units",
        "The AUROC of the participation ratio of single units follows from how a stored sample is "
        "split, and from the units of the cluster.",
        "units",
        single_units,
        0.05,
        (
            Mutant("one unit a sample", lambda e: replace(e, amounts=lambda c_G: np.ones(1))),
            Mutant("Σc² for Σc⁴", lambda e: replace(e, amounts=np.sqrt)),
            UNIT_COUNT,
            RANDOM_NET,
        ),
        requires=(*TRAINED, EVEN),
    ),
    claim(
        "gap-stored",
        "Outputs at a stored sample have the mean gap ratio that follows from gain and noise.",
        "gap",
        gap_of_stored,
        0.05,
        (TWICE_SIGMA, ROOT_SIGMA, RANDOM_NET),
    ),
)
