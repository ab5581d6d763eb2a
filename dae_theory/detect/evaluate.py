"""How well a score tells memorized images from others, with intervals over models.

A `Question` is one model's scores of images whose labels are known. Images that stand or fall
together, the copies of one training image and the negatives matched to them, are a cluster: to
intervals they are one image.

The threshold at a false-positive rate is that of `calibrate`: above at most that share of the
calibration images, whatever it does on others.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError, check_count
from dae_theory.detect.calibrate import calibrate
from dae_theory.statistics import (
    Interval,
    area_under_roc,
    grouped_area_interval,
    grouped_share_interval,
    mean_interval,
)

FPR = 0.01


class Question(NamedTuple):
    """Scores of one model, high = memorized, and the cluster of each image.

    ``calibration`` are scores of further images that are not memorized; none is among the
    negatives.
    """

    positive: Float[np.ndarray, " P"]
    positive_cluster: Int[np.ndarray, " P"]
    negative: Float[np.ndarray, " N"]
    negative_cluster: Int[np.ndarray, " N"]
    calibration: Float[np.ndarray, " C"]


def area(question: Question) -> float:
    """Area under the ROC curve, ties counting half."""
    return area_under_roc(question.positive, question.negative)


def threshold(question: Question, fpr: float = FPR) -> float:
    """What a score must exceed to be flagged; see `calibrate.Calibration.threshold`."""
    return calibrate(question.calibration, fpr).threshold


def detected(question: Question) -> float:
    """Share of memorized images flagged at FPR."""
    return float(np.mean(question.positive > threshold(question)))


def false_alarms(question: Question) -> float:
    """Share of the negatives flagged at FPR: what was promised for images like the calibration
    images, achieved on others."""
    return float(np.mean(question.negative > threshold(question)))


def matched(
    class_P: Int[np.ndarray, " P"],
    distance_P: Float[np.ndarray, " P"],
    class_N: Int[np.ndarray, " N"],
    distance_N: Float[np.ndarray, " N"],
    each: int = 1,
) -> Int[np.ndarray, "P each"]:
    """For each positive the ``each`` negatives of its class at the nearest distance, none twice.

    In turns: every positive has its first before one has a second. −1 where a class has run out.
    """
    check_count(each, "each")
    chosen_PE = np.full((len(class_P), each), -1)
    free_N = np.ones(len(class_N), bool)
    for turn in range(each):
        for row in range(len(class_P)):
            candidates = np.flatnonzero(free_N & (class_N == class_P[row]))
            if len(candidates):
                away = np.abs(distance_N[candidates] - distance_P[row])
                chosen_PE[row, turn] = candidates[np.argmin(away)]
                free_N[chosen_PE[row, turn]] = False
    return chosen_PE


def area_over_models(questions: Sequence[Question]) -> Interval:
    """Mean over models of `area`, by `grouped_area_interval`: models differ, and the clusters of
    all together are few.

    Raises:
      InputError: for no model, or a model without positives, negatives or calibration images.
    """
    return grouped_area_interval(_values(area, questions), *clusters(questions))


def detected_over_models(questions: Sequence[Question]) -> Interval:
    """Mean over models of `detected`, by `grouped_share_interval` of clusters of memorized images.

    Raises:
      InputError: as `area_over_models`.
    """
    shares_S = _values(detected, questions)
    return grouped_share_interval(shares_S, clusters(questions)[0] / len(questions))


def false_alarms_over_models(questions: Sequence[Question]) -> Interval:
    """Mean over models of `false_alarms`, by `grouped_share_interval` of clusters of the others.

    Raises:
      InputError: as `area_over_models`.
    """
    shares_S = _values(false_alarms, questions)
    return grouped_share_interval(shares_S, clusters(questions)[1] / len(questions))


def paired_difference(first: Sequence[Question], second: Sequence[Question]) -> Interval | None:
    """Mean over models of `area` of the first minus that of the second, two scores of the same
    images of the same models, by `mean_interval`; None for a single model.

    Raises:
      InputError: as `area_over_models`, and unless both are of the same images.
    """
    same = len(first) == len(second) and all(
        np.array_equal(a.positive_cluster, b.positive_cluster)
        and np.array_equal(a.negative_cluster, b.negative_cluster)
        and len(a.calibration) == len(b.calibration)
        for a, b in zip(first, second, strict=False)
    )
    if not same:
        raise InputError("scores: both must be of the same images of the same models")
    return mean_interval(_values(area, first) - _values(area, second), symmetric=True)


def _values(
    statistic: Callable[[Question], float], questions: Sequence[Question]
) -> Float[np.ndarray, " S"]:
    check_count(len(questions), "number of models")
    for question in questions:
        if not (len(question.positive) and len(question.negative) and len(question.calibration)):
            raise InputError("images: each model needs positives, negatives and calibration images")
    return np.array([statistic(question) for question in questions])


def clusters(questions: Sequence[Question]) -> tuple[int, int]:
    """Clusters that have positives, and that have negatives, of all models."""
    return (
        sum(len(np.unique(question.positive_cluster)) for question in questions),
        sum(len(np.unique(question.negative_cluster)) for question in questions),
    )
