"""The paper's detector in nets whose theory is known: is its area under the ROC curve predicted?

Its score is the standard deviation over all units. It reads energy and the number of units that
share the mean direction, and so is no function of the net f at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from dae_theory.detect.calibrate import calibrate
from dae_theory.detect.evaluate import FPR
from dae_theory.statistics import Interval, area_under_roc, area_under_roc_interval
from dae_theory.theory.detectors import Response, energy_law, predict_auroc, predict_tpr
from dae_theory.theory.quadratic import QuadraticLaw, quadratic_law
from proofs_checks.claims import Claim, Kind, Measured, Mutant, at_least, average
from proofs_checks.detect.origin import FIXED_HERE, FIXED_RATES
from proofs_checks.detect.relu_nets import (
    MATCHED,
    TRAINED,
    Detecting,
    Pooled,
    Setting,
    everywhere,
)
from proofs_checks.nets import untrained

SMALL = 0.1  # beyond ½, up to which an area is that of a detector that fails
FEWEST = 20  # settings


@dataclass(frozen=True)
class Area:
    """The area under the ROC curve in one setting, predicted and measured."""

    setting: Setting
    predicted: float
    measured: Interval

    @property
    def error(self) -> float:
        """Distance between the two."""
        return abs(self.predicted - self.measured.value)

    @property
    def outside(self) -> bool:
        """The prediction is outside the measured interval."""
        return not self.measured.low <= self.predicted <= self.measured.high


Law = Callable[[Response], QuadraticLaw]
Score = Callable[[np.ndarray, np.ndarray], Float[np.ndarray, " N"]]


def areas_of(e: Detecting, law: Law, score: Score, low: bool = False) -> list[Area]:
    """Predicted areas beside measured ones in every setting of a net.

    Args:
      e: the net.
      law: of the score, or of a rising function of it, given the theory's response.
      score: of clean samples and their noised copies.
      low: memorized samples score low.
    """
    found = []
    for setting in e.comparisons_made:
        scores = e.scores(setting, score)
        measured = area_under_roc_interval(*(-s if low else s for s in scores))
        found.append(Area(setting, predict_auroc(*laws_of(e, setting, law), low), measured))
    return found


def laws_of(e: Detecting, setting: Setting, law: Law) -> list[list[QuadraticLaw]]:
    """Of a score of the stored sample, and of the cluster."""
    return [[law(e.response(k, setting.sigma))] for k in (setting.stored, setting.cluster)]


def agreement(areas: list[Area], seed: int, note: str) -> Measured:
    """Mean distance between predicted and measured areas of one net."""
    return Measured(
        average([area.measured.value for area in areas]),
        average([area.predicted for area in areas]),
        np.array([average([area.error for area in areas])]),
        (seed,),
        note + "; {settings:.0f} settings a net, worst {worst:.3f}",
        details={
            "settings": len(areas),
            "worst": max((area.error for area in areas), default=np.nan),
        },
    )


def law_of_std(e: Detecting) -> Law:
    """The theory's law of the std over units, squared."""
    return lambda response: e.std(response, e.plan.width)


def score_of_std(e: Detecting) -> Score:
    """The std over units, as the net has it."""
    return lambda x, y: np.std(e.representation(y), axis=1)


def std_areas(e: Detecting) -> list[Area]:
    """Areas of the std over units."""
    return areas_of(e, law_of_std(e), score_of_std(e))


def std_rates(e: Detecting) -> list[tuple[float, float]]:
    """Share of noised stored samples whose std is above the threshold at a false-positive rate of
    FPR, in every setting of a net: predicted, and with the threshold that the scores of the cluster
    calibrate."""
    found = []
    for setting in e.comparisons_made:
        stored, other = e.scores(setting, score_of_std(e))
        measured = float(np.mean(stored > calibrate(other, FPR).threshold))
        found.append((predict_tpr(*laws_of(e, setting, law_of_std(e)), FPR), measured))
    return found


def std_tpr(e: Detecting) -> Measured:
    """Shares of stored samples found at FPR, predicted and measured."""
    predicted, measured = np.array(std_rates(e)).reshape(-1, 2).T
    errors = np.abs(predicted - measured)
    return Measured(
        average(measured),
        average(predicted),
        np.array([average(errors)]),
        (e.seed,),
        "share found by the std at a false-positive rate of 1%, mean over settings; "
        "{settings:.0f} settings a net, worst {worst:.3f}",
        details={"settings": len(errors), "worst": max(errors, default=np.nan)},
    )


def std_auroc(e: Detecting) -> Measured:
    """Areas of the std over units, predicted and measured."""
    areas = std_areas(e)
    found = agreement(areas, e.seed, "AUROC of the std over units, mean over settings")
    even = average([abs(area.predicted - even_area(e, area.setting)) for area in areas])
    note = found.note + "; the even rotation moves the prediction by {even:.4f}"
    return replace(found, note=note, details={**found.details, "even": even})


def even_area(e: Detecting, setting: Setting) -> float:
    """The area that the even rotation would have: p_k alone instead of the net's own a."""
    stored = e.response(setting.stored, setting.sigma)
    cluster = e.read(e.even(setting.cluster, setting.sigma))
    return predict_auroc(*([e.std(one, e.plan.width)] for one in (stored, cluster)))


def std_within(e: Pooled) -> Measured:
    """Share of settings in which the prediction is outside the 95% interval."""
    areas = [area for net in e.usable for area in std_areas(net)]
    outside = average([area.outside for area in areas])
    return Measured(
        1 - outside,
        0.95,
        np.array([outside]),
        tuple(net.seed for net in e.usable),
        "share of {settings:.0f} settings whose 95% interval holds the prediction",
        details={"settings": len(areas)},
    )


def area_arrays(nets: tuple[Detecting, ...]) -> dict[str, np.ndarray]:
    """Every setting of the std, for the figure: predicted and measured areas with their intervals,
    shares found at FPR, units P, those of sample and cluster, norm and noise."""
    rows = [
        (
            area.predicted,
            *area.measured,
            *rates,
            net.plan.width,
            *(net.comparison.widths[k] for k in area.setting[:2]),
            np.linalg.norm(net.mixture.means[area.setting.stored]),
            area.setting.sigma,
        )
        for net in nets
        for area, rates in zip(std_areas(net), std_rates(net), strict=True)
    ]
    names = ("predicted", "measured", "low", "high", "predicted_tpr", "measured_tpr", "p")
    names += ("stored_units", "cluster_units", "norm", "sigma")
    return dict(zip(names, np.array(rows).reshape(-1, len(names)).T, strict=True))


def blind_settings(net: Detecting) -> list[Area]:
    """Settings of samples of matched norm with no fewer units than the cluster has."""
    found = []
    for area in std_areas(net):
        stored, cluster, _ = area.setting
        units = [net.comparison.widths[k] for k in (stored, cluster)]
        norm = np.linalg.norm(net.mixture.means[stored])
        if units[0] >= units[1] and np.isclose(norm, MATCHED):
            found.append(area)
    return found


def std_blind(e: Pooled) -> Measured:
    """How far above ½ the area is where the theory says that it must fail."""
    areas = [area for net in e.usable for area in blind_settings(net)]
    values = [area.measured.value for area in areas]
    return Measured(
        average(values),
        average([area.predicted for area in areas]),
        np.array([average([max(value - 0.5, 0.0) for value in values])]),
        tuple(net.seed for net in e.usable),
        "AUROC of the std where a stored sample of matched norm has as many units as the cluster, "
        "or more; {settings:.0f} settings",
        details={"settings": len(areas)},
    )


def std_of_split(e: Detecting) -> Measured:
    """How the area changes when a stored sample's units are merged, or split into as many as the
    cluster has: neither changes f or the loss."""
    measured, predicted = [], []
    for setting in e.comparisons_made:
        cluster_units = int(e.comparison.widths[setting.cluster])
        width = e.plan.width + cluster_units  # room for the parts, silent otherwise
        found = [e.std(e.response(setting.cluster, setting.sigma), width)]
        stored = e.response(setting.stored, setting.sigma)
        areas = []
        for parts in (1, cluster_units):
            sums_R = np.array([np.sqrt(parts)])
            predicted_law = e.std(e.read(replace(stored, unit_sums=sums_R)), width)
            areas.append(predict_auroc([predicted_law], found))
        predicted.append(areas[0] - areas[1])
        areas = [split_area(e, setting, parts, width) for parts in (1, cluster_units)]
        measured.append(areas[0] - areas[1])
    errors = np.abs(np.array(measured) - predicted)
    return Measured(
        average(measured),
        average(predicted),
        np.array([average(errors)]),
        (e.seed,),
        "AUROC of the std with one unit for a stored sample minus that with as many as the "
        "cluster's; f and the loss are the same",
    )


def split_area(e: Detecting, setting: Setting, parts: int, width: int) -> float:
    """Area of the std once a stored sample's units are ``parts`` even ones."""
    units_P = e.comparison.blocks == setting.stored

    def score(x_ND: np.ndarray, y_ND: np.ndarray) -> np.ndarray:
        h_NP = np.maximum(y_ND @ e.nets.w1[0], 0.0)
        merged_N1 = np.linalg.norm(h_NP[:, units_P], axis=1, keepdims=True)
        h_NQ = np.concatenate([h_NP[:, ~units_P], *[merged_N1 / parts**0.5] * parts], axis=1)
        return np.std(np.pad(h_NQ, ((0, 0), (0, width - h_NQ.shape[1]))), axis=1)

    return area_under_roc(*e.scores(setting, score))


def is_stored(response: Response) -> bool:
    """A response of rank one, to a stored sample."""
    return len(response.gains) == 1


def misread(name: str, change: Callable[[Response], Response]) -> Mutant:
    """Responses changed before the laws are made of them."""
    return Mutant(name, lambda e: replace(e, read=change))


def std_instead(name: str, law: Callable[[Response, int], QuadraticLaw]) -> Mutant:
    """Another law of the std."""
    return Mutant(name, lambda e: replace(e, std=law))


def without_square(response: Response, width: int) -> QuadraticLaw:
    """(Σh)²/P for (Σh)²/P²."""
    a_R = response.unit_sums
    return quadratic_law((np.eye(len(a_R)) - np.outer(a_R, a_R)) / width, *response.units)


def negated(response: Response, width: int) -> QuadraticLaw:
    """Minus the squared std: low counts as memorized."""
    a_R = response.unit_sums
    matrix_RR = np.outer(a_R, a_R) / width**2 - np.eye(len(a_R)) / width
    return quadratic_law(matrix_RR, *response.units)


ONE_UNIT = misread(
    "one unit a sample",
    lambda r: replace(r, unit_sums=np.ones(1)) if is_stored(r) else r,
)
ONE_UNIT_A_CLUSTER = misread(
    "one unit a cluster",
    lambda r: r if is_stored(r) else replace(r, unit_sums=np.eye(len(r.gains))[0]),
)
UNIT_NORMS = misread("norms 1", lambda r: replace(r, mean=r.mean / np.linalg.norm(r.mean)))
TWICE_SIGMA = misread("σ twice as large", lambda r: replace(r, sigma=2 * r.sigma))
NO_MEAN_TERM = std_instead("‖h‖²/P alone", lambda r, width: energy_law(r).scaled(1 / width))
NO_SQUARE = std_instead("(Σh)²/P for (Σh)²/P²", without_square)
RANDOM_NET = Mutant("untrained nets", lambda e: replace(e, replaced=untrained(e.solving.nets)))
NEGATED = std_instead("low is memorized", negated)


def one_unit_nets(e: Detecting) -> Detecting:
    """Nets whose stored samples have one unit each: the same f, the same loss."""
    w1, w2 = e.solving.nets.w1[0].copy(), e.solving.nets.w2[0].copy()
    for k in {setting.stored for setting in e.comparisons_made}:
        first, *rest = np.flatnonzero(e.comparison.blocks == k)
        amounts = np.linalg.norm(w1[:, [first, *rest]], axis=0)
        for w in (w1, w2):
            w[:, first] *= np.linalg.norm(amounts) / amounts[0]
        w1[:, rest] = w2[:, rest] = 0.0
    return replace(e, replaced=replace(e.solving.nets, w1=w1[None], w2=w2[None]))


ENOUGH = at_least(
    "settings of nets at a minimum",
    FEWEST,
    lambda e: sum(len(net.comparisons_made) for net in e.usable),
)
CLAIMS = (
    Claim(
        id="detect/std-auroc",
        statement="The AUROC of the std over units follows from gains, norms, units and noise.",
        source="docs/THEORY.md#detection-auroc",
        part="relu",
        requires=TRAINED,
        measure=std_auroc,
        tolerance=0.015,
        mutants=(
            ONE_UNIT,
            ONE_UNIT_A_CLUSTER,
            UNIT_NORMS,
            TWICE_SIGMA,
            NO_MEAN_TERM,
            NO_SQUARE,
            NEGATED,
            RANDOM_NET,
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_HERE,
    ),
    Claim(
        id="detect/std-tpr",
        statement="The share that the std finds at a false-positive rate of 1% follows from gains, "
        "norms, units and noise.",
        source="docs/THEORY.md#detection-tpr",
        part="relu",
        requires=TRAINED,
        measure=std_tpr,
        tolerance=0.03,
        # One unit a sample, and norms 1, which the areas tell, change nothing in some of the nets.
        mutants=(ONE_UNIT_A_CLUSTER, TWICE_SIGMA, NO_MEAN_TERM, NO_SQUARE, NEGATED, RANDOM_NET),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_RATES,
    ),
    Claim(
        id="detect/std-auroc-within",
        statement="In nine of ten settings the 95% interval of the measured AUROC holds it.",
        source="docs/THEORY.md#detection-auroc",
        part="pooled",
        requires=(ENOUGH,),
        measure=std_within,
        tolerance=0.1,
        mutants=tuple(
            map(everywhere, (ONE_UNIT, ONE_UNIT_A_CLUSTER, UNIT_NORMS, TWICE_SIGMA, NO_MEAN_TERM))
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_HERE,
    ),
    Claim(
        id="detect/std-blind",
        statement="Where a stored sample of matched norm has as many units as a cluster, the std "
        "does not find it.",
        source="docs/THEORY.md#detection-std",
        part="pooled",
        requires=(ENOUGH,),
        measure=std_blind,
        tolerance=SMALL,
        mutants=(everywhere(Mutant("one unit a sample, by merging", one_unit_nets)),),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_HERE,
    ),
    Claim(
        id="detect/std-split",
        statement="Splitting a stored unit, which changes neither f nor the loss, lowers the AUROC "
        "of the std by what the theory says.",
        source="docs/THEORY.md#detection-std",
        part="relu",
        requires=TRAINED,
        measure=std_of_split,
        tolerance=0.03,
        mutants=(
            misread("a function of f", lambda r: replace(r, unit_sums=np.ones(len(r.gains)))),
            NO_MEAN_TERM,
            NO_SQUARE,
            RANDOM_NET,
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_HERE,
    ),
)
