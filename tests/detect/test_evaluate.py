"""Questions with known answers: areas, thresholds, matching, and intervals over models."""

import numpy as np
import pytest
from scipy.stats import norm

from dae_theory import InputError
from dae_theory.detect import evaluate
from dae_theory.detect.evaluate import (
    Question,
    area_over_models,
    detected_over_models,
    false_alarms_over_models,
    matched,
    paired_difference,
)
from dae_theory.statistics import area_under_roc, grouped_area_interval, share_interval

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
    interval = area_over_models(models)
    assert interval.low < norm.cdf(1 / np.sqrt(2)) < interval.high
    assert interval.value == np.mean([evaluate.area(model) for model in models])


def test_intervals_grow_with_the_spread_of_models():
    random = np.random.default_rng(2)
    alike = [normal_question(random) for _ in range(6)]
    apart = [normal_question(random, apart) for apart in (-1, 0, 1, 1, 2, 3)]
    for over_models in (area_over_models, detected_over_models):
        widths = [np.ptp(over_models(some)[1:]) for some in (alike, apart)]
        assert widths[1] > 2 * widths[0]


def test_images_of_one_cluster_count_as_one():
    # Models that agree: what is left is the uncertainty over their clusters.
    cluster = np.repeat(np.arange(8), 10)
    one = normal_question(np.random.default_rng(3), clusters=8, each=10)
    single = one._replace(positive_cluster=np.arange(80), negative_cluster=np.arange(80))
    for over_models in (area_over_models, detected_over_models, false_alarms_over_models):
        widths = [np.ptp(over_models([some] * 3)[1:]) for some in (single, one)]
        assert widths[1] > 1.5 * widths[0]
    assert np.array_equal(one.positive_cluster, cluster)
    found, apart = evaluate.detected(one), [evaluate.area(one)] * 3
    assert detected_over_models([one] * 3)[1:] == share_interval(round(24 * found), 24)[1:]
    assert area_over_models([one] * 3) == grouped_area_interval(apart, 24, 24)


def test_models_without_an_error_do_not_prove_that_there_is_none():
    far = [normal_question(np.random.default_rng(s), apart=50.0, clusters=5) for s in range(4)]
    assert area_over_models(far).value == detected_over_models(far).value == 1.0
    assert 0.8 < area_over_models(far).low < 1.0
    assert detected_over_models(far) == share_interval(20, 20)
    one = false_alarms_over_models(far[:1])
    assert one.low == 0.0 < one.high


def test_paired_differences_are_narrower_than_unpaired_ones_and_need_the_same_images():
    random = np.random.default_rng(3)
    first = [normal_question(random, apart) for apart in (0.5, 0.8, 1.0, 1.2, 1.5)]
    worse = [q._replace(positive=q.positive - 0.2) for q in first]
    paired = paired_difference(first, worse)
    assert 0 < paired.low < paired.value < paired.high
    assert np.ptp(paired[1:]) < 0.5 * np.ptp(area_over_models(first)[1:])
    assert paired_difference(first, first) == (0, 0, 0)
    assert paired_difference(first[:1], worse[:1]) is None
    with pytest.raises(InputError, match="same images"):
        paired_difference(first, first[1:])


@pytest.mark.parametrize("models", [[], [Question(*5 * [np.array([])])]])
def test_nothing_to_judge_is_refused(models):
    with pytest.raises(InputError, match=r"models|images"):
        area_over_models(models)
