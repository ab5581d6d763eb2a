"""Questions with known answers: areas, thresholds, matching, and the bootstrap over models."""

import numpy as np
import pytest
from scipy.stats import norm

from dae_theory import InputError
from dae_theory.detect import evaluate
from dae_theory.detect.evaluate import Question, matched, over_models, paired_difference
from dae_theory.statistics import area_under_roc

RANDOM = np.random.default_rng(0)


def normal_question(random, apart=1.0, shift=0.0, clusters=30, each=4, calibration=300):
    """Scores of unit spread, ``apart`` between groups; ``shift`` is that of the model."""
    cluster = np.repeat(np.arange(clusters), each)
    size = len(cluster)
    return Question(
        shift + apart + random.standard_normal(size),
        cluster,
        shift + random.standard_normal(size),
        cluster,
        shift + random.standard_normal(calibration),
    )


def test_area_is_that_of_the_ranks_ties_included():
    positive, negative = RANDOM.integers(0, 5, 40), RANDOM.integers(0, 5, 30)
    question = Question(positive, positive, negative, negative, negative)
    np.testing.assert_allclose(evaluate.area(question), area_under_roc(positive, negative))


@pytest.mark.parametrize("count", [99, 100, 150, 199, 400])
def test_the_false_positive_rate_is_never_above_its_bound_on_calibration_images(count):
    score = RANDOM.standard_normal(count)
    question = Question(score, np.arange(count), score, np.arange(count), score)
    assert evaluate.false_alarms(question) <= evaluate.FPR
    flagged = np.sum(score > evaluate.threshold(question))
    assert flagged == int(0.01 * (count + 1)) - 1


def test_too_few_calibration_images_are_refused():
    score = RANDOM.standard_normal(98)
    with pytest.raises(InputError, match="99 images"):
        evaluate.threshold(Question(score, score, score, score, score))


def test_matching_takes_the_nearest_of_the_class_and_none_twice():
    chosen = matched(
        np.array([0, 0, 1, 2]),
        np.array([1.0, 1.1, 5.0, 0.0]),
        np.array([0, 0, 0, 1, 1]),
        np.array([1.05, 3.0, 1.4, 4.0, 9.0]),
    )
    np.testing.assert_array_equal(chosen[:, 0], [0, 2, 3, -1])


def test_matching_in_turns_leaves_the_first_to_everyone():
    # One after the other, the first positive would take both negatives.
    chosen = matched(np.array([0, 0]), np.zeros(2), np.array([0, 0]), np.zeros(2), each=2)
    np.testing.assert_array_equal(chosen, [[0, -1], [1, -1]])


def test_the_mean_area_is_within_models_whatever_their_scale():
    random = np.random.default_rng(1)
    models = [normal_question(random, shift=100.0 * k) for k in range(4)]
    interval = over_models(evaluate.area, models, resamples=200)
    assert interval.low < norm.cdf(1 / np.sqrt(2)) < interval.high
    assert interval.value == np.mean([evaluate.area(model) for model in models])


def test_intervals_grow_with_the_spread_of_models_and_of_clusters():
    random = np.random.default_rng(2)
    alike = [normal_question(random) for _ in range(6)]
    apart = [normal_question(random, apart) for apart in (-1, 0, 1, 1, 2, 3)]
    widths = [
        np.ptp(over_models(evaluate.area, some, resamples=100)[1:]) for some in (alike, apart)
    ]
    assert widths[1] > 2 * widths[0]
    # Copies of one image that all score alike are one observation, not ten.
    random = np.random.default_rng(3)
    per_cluster = random.standard_normal(8)
    cluster = np.repeat(np.arange(8), 10)
    copies = Question(
        per_cluster[cluster],
        cluster,
        random.standard_normal(80),
        cluster,
        random.standard_normal(100),
    )
    single = copies._replace(positive_cluster=np.arange(80), negative_cluster=np.arange(80))
    widths = [
        np.ptp(over_models(evaluate.area, [some] * 3, resamples=200)[1:])
        for some in (single, copies)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_the_interval_covers_in_most_of_many_repetitions():
    truth, hits = norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        models = [normal_question(random, clusters=15, each=1) for _ in range(8)]
        interval = over_models(evaluate.area, models, seed, resamples=100)
        hits += interval.low <= truth <= interval.high
    assert 52 <= hits <= 60  # 95% of 60 is 57


def test_paired_differences_are_narrower_than_unpaired_ones_and_need_the_same_images():
    random = np.random.default_rng(3)
    first = [normal_question(random) for _ in range(5)]
    worse = [q._replace(positive=q.positive - 0.2) for q in first]
    paired = paired_difference(evaluate.area, first, worse, resamples=200)
    single = over_models(evaluate.area, first, resamples=200)
    assert 0 < paired.low < paired.value < paired.high
    assert np.ptp(paired[1:]) < 0.5 * np.ptp(single[1:])
    zero = paired_difference(evaluate.area, first, first, resamples=20)
    assert zero == (0, 0, 0)
    with pytest.raises(InputError, match="same images"):
        paired_difference(evaluate.area, first, first[1:])


def test_clusters_without_negatives_do_not_stop_the_bootstrap():
    question = normal_question(RANDOM, clusters=3)
    some = question._replace(
        negative=question.negative[:2], negative_cluster=question.negative_cluster[:2]
    )
    interval = over_models(evaluate.area, [some, some], resamples=20)
    assert 0 <= interval.low <= interval.high <= 1


@pytest.mark.parametrize("models", [[], [Question(*5 * [np.array([])])]])
def test_nothing_to_judge_is_refused(models):
    with pytest.raises(InputError, match=r"models|images"):
        over_models(evaluate.area, models)
