"""Comparison with the prediction: blind to what changes no loss, and sharp for what does."""

import numpy as np
import pytest

from dae_theory import (
    InputError,
    collinear_groups,
    compare_weights,
    data,
    predict_blocks,
    predict_generalization,
    predict_memorization,
)
from dae_theory.weights.compare import assign_blocks

SIGMA, LAM = 0.03, 1e-3


def memorized():
    x = data.simplex(4, 10).x
    return x, predict_memorization(x, SIGMA, LAM)


def blocks():
    mixture = data.separable_mixture(3, 16, rank=2, beta=-0.5, alpha=0.04)
    x, labels = mixture.sample(0, 30)
    return x, predict_blocks(x, labels, (4, 3, 3), 0.02, 1e-5)


def assert_perfect(comparison, tolerance=1e-9):
    assert np.all(comparison.stored)
    assert comparison.entangled == 0
    assert np.all(comparison.separate)
    assert comparison.gate_agreement == 1.0
    assert np.max(comparison.gain_errors) < tolerance
    assert np.max(comparison.operator_errors) < tolerance
    assert np.max(comparison.range_angles) < 1e-6  # arccos near 1 loses half the digits
    assert np.nanmax(comparison.tie_errors) < tolerance
    assert np.nanmax(comparison.balance_errors) < tolerance
    assert comparison.loss_error < 1e-8


@pytest.mark.parametrize("make", [memorized, blocks])
def test_the_prediction_agrees_with_itself(make):
    x, prediction = make()
    comparison = compare_weights(prediction.w1, prediction.w2, prediction, x)
    assert_perfect(comparison)
    np.testing.assert_array_equal(comparison.blocks, prediction.blocks)
    np.testing.assert_array_equal(comparison.widths, np.bincount(prediction.blocks))
    for measured, expected in zip(comparison.gains, comparison.predicted_gains, strict=True):
        np.testing.assert_allclose(measured, expected, atol=1e-12)


@pytest.mark.parametrize("make", [memorized, blocks])
def test_permuting_units_changes_nothing(make):
    x, prediction = make()
    order = np.random.RandomState(0).permutation(prediction.w1.shape[1])
    comparison = compare_weights(prediction.w1[:, order], prediction.w2[:, order], prediction, x)
    assert_perfect(comparison)
    np.testing.assert_array_equal(comparison.blocks, prediction.blocks[order])


@pytest.mark.parametrize("make", [memorized, blocks])
def test_splitting_units_and_dead_units_change_nothing(make):
    x, prediction = make()
    w = prediction.w1
    split = np.column_stack(
        [0.6 * w[:, 0], w[:, 1:], 0.8 * w[:, 0], np.zeros(len(w)), 1e-5 * w[:, 1]]
    )
    comparison = compare_weights(split, split, prediction, x)
    assert_perfect(comparison, tolerance=1e-8)
    np.testing.assert_array_equal(comparison.live[-2:], False)
    np.testing.assert_array_equal(comparison.blocks[-2:], -1)
    assert np.all(np.isnan(comparison.tie_errors[-2:]))
    assert np.all(np.isnan(comparison.cosines[-2:]))
    assert comparison.widths[0] == np.sum(prediction.blocks == 0) + 1


def test_rotating_inside_a_block_changes_nothing():
    x, prediction = blocks()
    # Reflections that keep the constant vector, so every unit still sees the mean direction.
    random = np.random.RandomState(1)
    w = prediction.w1.copy()
    for k in range(3):
        unit = prediction.blocks == k
        v = random.normal(size=unit.sum())
        v -= v.mean()
        w[:, unit] = w[:, unit] @ (np.eye(len(v)) - 2 * np.outer(v, v) / (v @ v))
    assert np.max(np.abs(w - prediction.w1)) > 0.1
    assert_perfect(compare_weights(w, w, prediction, x))


def test_memorized_columns_point_at_their_samples():
    x, prediction = memorized()
    comparison = compare_weights(prediction.w1, prediction.w2, prediction, x)
    np.testing.assert_allclose(comparison.cosines, 1.0, rtol=1e-12)


def test_a_longer_column_is_a_gain_error():
    x, prediction = memorized()
    w1 = prediction.w1.copy()
    w1[:, 2] *= 1.1
    comparison = compare_weights(w1, prediction.w2, prediction, x)
    np.testing.assert_allclose(comparison.gain_errors, [0, 0, 0.1, 0], atol=1e-10)
    np.testing.assert_allclose(comparison.operator_errors, [0, 0, 0.1, 0], atol=1e-10)
    np.testing.assert_allclose(comparison.balance_errors, [0, 0, 0.1, 0], atol=1e-10)
    np.testing.assert_allclose(comparison.tie_errors, [0, 0, 0.1 / 1.1, 0], atol=1e-10)
    assert comparison.loss_error > 1e-3


def test_rescaling_encoder_against_decoder_is_an_imbalance_only():
    x, prediction = memorized()
    comparison = compare_weights(1.1 * prediction.w1, prediction.w2 / 1.1, prediction, x)
    np.testing.assert_allclose(comparison.balance_errors, 0.21, rtol=1e-10)
    np.testing.assert_allclose(comparison.gain_errors, 0, atol=1e-10)


def test_a_missing_sample_is_not_stored():
    x, prediction = memorized()
    kept = [0, 1, 3]
    comparison = compare_weights(prediction.w1[:, kept], prediction.w2[:, kept], prediction, x)
    np.testing.assert_array_equal(comparison.stored, [True, True, False, True])
    np.testing.assert_allclose(comparison.gain_errors, [0, 0, 1, 0], atol=1e-10)
    np.testing.assert_allclose(comparison.operator_errors, [0, 0, 1, 0], atol=1e-10)
    np.testing.assert_allclose(comparison.range_angles[2], np.pi / 2)
    np.testing.assert_array_equal(comparison.widths, [1, 1, 0, 1])
    np.testing.assert_array_equal(comparison.separate, [True, True, False, True])


def test_a_sample_too_short_to_be_stored_has_no_error_unless_something_is():
    x = data.simplex(3, 6).x * np.array([1, 1, 1e-3])[:, None]
    prediction = predict_memorization(x, SIGMA, LAM)
    assert prediction.gains[2] == 0
    found = compare_weights(prediction.w1, prediction.w2, prediction, x)
    np.testing.assert_allclose(found.operator_errors, 0, atol=1e-14)
    w = np.column_stack([prediction.w1[:, :2], 100 * x[2]])
    assert compare_weights(w, w, prediction, x).operator_errors[2] == 1


def test_units_that_cancel_point_nowhere():
    x, prediction = memorized()
    w1, w2 = (np.column_stack([w[:, :1], w]) for w in (prediction.w1, prediction.w2))
    w2[:, 0] *= -1
    comparison = compare_weights(w1, w2, prediction, x)
    np.testing.assert_allclose(comparison.range_angles, [np.pi / 2, 0, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(comparison.stored, [False, True, True, True])


def test_a_sample_is_stored_by_gain_not_by_who_answers():
    x, prediction = memorized()
    w2 = prediction.w2 * np.array([0.6, 0.4, -1.0, 1.0])
    comparison = compare_weights(prediction.w1, w2, prediction, x)
    np.testing.assert_array_equal(comparison.widths, [1, 1, 1, 1])
    np.testing.assert_array_equal(comparison.stored, [True, False, False, True])


@pytest.mark.parametrize("angle", [0.01, 0.2])
def test_a_rotated_column_is_seen_in_its_cosine(angle):
    x, prediction = memorized()
    complement = np.linalg.svd(x)[2][-1]  # orthogonal to all samples
    w = prediction.w1.copy()
    norm = np.linalg.norm(w[:, 1])
    w[:, 1] = np.cos(angle) * w[:, 1] + np.sin(angle) * norm * complement
    comparison = compare_weights(w, w, prediction, x)
    np.testing.assert_allclose(comparison.cosines, [1, np.cos(angle), 1, 1], rtol=1e-10)
    np.testing.assert_allclose(comparison.range_angles, [0, angle, 0, 0], atol=1e-6)
    # M = m uuᵀ with u turned by the angle: ‖M − M'‖ = √2 sin(angle) ‖M‖.
    np.testing.assert_allclose(comparison.operator_errors[1], np.sqrt(2) * np.sin(angle), rtol=1e-9)


def test_the_smaller_cosine_of_encoder_and_decoder_counts():
    x, prediction = memorized()
    complement = np.linalg.svd(x)[2][-1]
    w2 = prediction.w2.copy()
    w2[:, 0] += complement
    comparison = compare_weights(prediction.w1, w2, prediction, x)
    gain = prediction.gains[0]
    np.testing.assert_allclose(comparison.cosines[0], np.sqrt(gain / (gain + 1)), rtol=1e-10)
    np.testing.assert_allclose(comparison.tie_errors[0], 1 / np.sqrt(gain), rtol=1e-10)


def test_a_missing_direction_of_a_block_is_seen():
    x, prediction = blocks()
    u = prediction.directions[0][:, 1]
    w = prediction.w1.copy()
    unit = prediction.blocks == 0
    w[:, unit] -= np.outer(u, u @ w[:, unit])
    comparison = compare_weights(w, w, prediction, x)
    np.testing.assert_allclose(comparison.gain_errors, [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(comparison.gains[0][1], 0, atol=1e-12)
    np.testing.assert_allclose(comparison.range_angles[0], np.pi / 2, atol=1e-6)
    assert np.max(comparison.range_angles[1:]) < 1e-6


def test_units_open_on_two_clusters_are_counted():
    x, prediction = memorized()
    w = prediction.w1.copy()
    w[:, 0] = x[0] + 0.9 * x[1]  # inner products .7, .57 with its two samples, negative with others
    comparison = compare_weights(w, w, prediction, x)
    assert comparison.entangled == 1
    np.testing.assert_array_equal(comparison.separate, [False, False, True, True])
    np.testing.assert_allclose(comparison.gate_agreement, 15 / 16)


def test_blocks_are_assigned_by_energy():
    x, labels = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), np.array([0, 0, 1])
    w = np.array([[1.0, 0.5, 0.1, -1.0, 1e-9], [0.0, 0.7, 1.0, -1.0, 0.0]])
    # Mean energies on (cluster 0, 1): (2.5, 0), (.625, .49), (.025, 1), none, dead.
    np.testing.assert_array_equal(assign_blocks(w, w, x, labels), [0, 0, 1, -1, -1])


def test_collinear_groups_merge_split_columns():
    _, prediction = memorized()
    w = prediction.w1
    split = np.column_stack([w, 0.5 * w[:, 2], 0.3 * w[:, 0], -w[:, 1], np.zeros(len(w))])
    groups = collinear_groups(split, split)
    assert groups[4] == groups[2]
    assert groups[5] == groups[0]
    assert groups[7] == -1
    assert len(set(groups[:4].tolist()) | {groups[6]}) == 5
    np.testing.assert_array_equal(collinear_groups(0 * w, 0 * w), -1)


def test_collinear_groups_respect_the_cosine():
    angles = np.array([0.0, 0.1, 1.0])
    w = np.array([np.cos(angles), np.sin(angles)])
    assert len(set(collinear_groups(w, w, cosine=0.999))) == 3
    groups = collinear_groups(w, w, cosine=0.99)
    assert groups[0] == groups[1] != groups[2]
    assert len(set(collinear_groups(w, w, cosine=0.5))) == 1


def test_unusable_comparisons_are_refused():
    x, prediction = memorized()
    w = prediction.w1
    with pytest.raises(InputError, match="must be made for exactly these samples"):
        compare_weights(w, w, prediction, x[:3])
    population = predict_generalization(x, np.zeros((4, 10, 10)), np.ones(4), [1] * 4, SIGMA, LAM)
    with pytest.raises(InputError, match="must be made for exactly these samples"):
        compare_weights(w, w, population, x)
    with pytest.raises(InputError, match="W1: has 9 rows"):
        compare_weights(w[:9], w[:9], prediction, x)
    with pytest.raises(InputError, match="W2: contains NaN"):
        compare_weights(w, w * np.nan, prediction, x)
