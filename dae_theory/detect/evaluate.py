"""How well a score tells memorized images from others, with intervals over images and models.

A `Question` is one model's scores of images whose labels are known. Images that stand or fall
together, the copies of one training image and the negatives matched to them, are a cluster. The
bootstrap draws models, then clusters within each model, with replacement.

The threshold at a false-positive rate is that of `calibrate`: above at most that share of the
calibration images, whatever it does on others.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError, check_count
from dae_theory.detect.calibrate import calibrate
from dae_theory.statistics import CONFIDENCE, Interval, area_under_roc

FPR = 0.01
RESAMPLES = 200


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


Statistic = Callable[[Question], float]


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


Cluster = tuple[Int[np.ndarray, " P"], Int[np.ndarray, " N"]]  # its positives and negatives


def clusters_of(question: Question) -> list[Cluster]:
    """The images of each cluster that has positives."""
    sides = (question.positive_cluster, question.negative_cluster)
    return [
        tuple(np.flatnonzero(side == cluster) for side in sides)
        for cluster in np.unique(question.positive_cluster)
    ]


def resampled(
    random: np.random.Generator, question: Question, clusters: Sequence[Cluster]
) -> Question:
    """Clusters and calibration images drawn with replacement."""
    drawn = [clusters[i] for i in random.integers(len(clusters), size=len(clusters))]
    positive, negative = (np.concatenate(rows) for rows in zip(*drawn, strict=True))
    return Question(
        question.positive[positive],
        question.positive_cluster[positive],
        question.negative[negative],
        question.negative_cluster[negative],
        random.choice(question.calibration, len(question.calibration)),
    )


def over_models(
    statistic: Statistic, questions: Sequence[Question], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean over models of a statistic, with the percentile interval of the bootstrap over models
    and clusters.

    With few models the interval is too short, as every bootstrap's is.

    Raises:
      InputError: for no model, or a model without positives, negatives or calibration images.
    """
    return _interval(_means(statistic, questions, seed, resamples))


def paired_difference(
    statistic: Statistic,
    first: Sequence[Question],
    second: Sequence[Question],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean over models of statistic(first) − statistic(second), two scores of the same images of
    the same models, drawn together.

    Raises:
      InputError: as `over_models`, and unless both are of the same images.
    """
    same = len(first) == len(second) and all(
        np.array_equal(a.positive_cluster, b.positive_cluster)
        and np.array_equal(a.negative_cluster, b.negative_cluster)
        and len(a.calibration) == len(b.calibration)
        for a, b in zip(first, second, strict=False)
    )
    if not same:
        raise InputError("scores: both must be of the same images of the same models")
    values = (_means(statistic, questions, seed, resamples) for questions in (first, second))
    return _interval(np.subtract(*values))


def _means(
    statistic: Statistic, questions: Sequence[Question], seed: int, resamples: int
) -> Float[np.ndarray, " 1+R"]:
    """The mean over models, then that of each resample; equal seeds draw equal images."""
    check_count(len(questions), "number of models")
    check_count(resamples, "resamples")
    for question in questions:
        if not (len(question.positive) and len(question.negative) and len(question.calibration)):
            raise InputError("images: each model needs positives, negatives and calibration images")
    random = np.random.default_rng(seed)
    means = [np.mean([statistic(question) for question in questions])]
    clustered = [(question, clusters_of(question)) for question in questions]
    for _ in range(resamples):
        drawn = random.integers(len(questions), size=len(questions))
        means.append(np.mean([_statistic_of(statistic, random, *clustered[i]) for i in drawn]))
    return np.array(means)


def _statistic_of(
    statistic: Statistic,
    random: np.random.Generator,
    question: Question,
    clusters: Sequence[Cluster],
) -> float:
    """Of a resample that has negatives: clusters whose class had run out have none."""
    while True:
        drawn = resampled(random, question, clusters)
        if len(drawn.negative):
            return statistic(drawn)


def _interval(means: Float[np.ndarray, " 1+R"]) -> Interval:
    ends = np.quantile(means[1:], ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(float(means[0]), *map(float, ends))
