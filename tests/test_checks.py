"""Errors of input are one line that says what is wrong."""

import numpy as np
import pytest

from dae_theory.checks import (
    InputError,
    check_count,
    check_noise_and_decay,
    check_sample_weight,
    check_samples,
    check_seed,
    check_weights,
)

EYE = np.eye(3)


def test_samples_come_back_as_float64():
    for x in ([[1, 2]], np.ones((2, 3), np.float32), np.ones((2, 3), bool).astype(int)):
        found = check_samples(x)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(3), r"x: expected a \(N, D\) array .* got shape \(3,\)"),
        (np.ones((0, 3)), "x: need at least one sample and one feature"),
        (np.ones((3, 0)), "x: need at least one sample and one feature"),
        (np.array([["a"]]), "x: expected real numbers, got dtype"),
        (np.ones((1, 1), complex), "x: expected real numbers, got dtype"),
        (np.array([[np.nan]]), "x: contains NaN or infinite values"),
        (np.array([[np.inf]]), "x: contains NaN or infinite values"),
    ],
)
def test_unusable_samples_are_refused(x, message):
    with pytest.raises(InputError, match=message) as caught:
        check_samples(x, "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("w1", "w2", "message"),
    [
        (EYE[:2], EYE, "W1: has 2 rows, but the samples have 3 features"),
        (EYE, EYE[:2], "W2: has 2 rows, but the samples have 3 features"),
        (EYE, EYE[:, :2], r"W1 and W2 differ in shape: \(3, 3\) and \(3, 2\)"),
        (EYE, np.full((3, 3), np.nan), "W2: contains NaN"),
    ],
)
def test_unusable_weights_are_refused(w1, w2, message):
    check_weights(EYE, EYE, 3)
    with pytest.raises(InputError, match=message):
        check_weights(w1, w2, 3)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.full(2, 0.5), r"expected one for each of 3 samples, got shape \(2,\)"),
        (np.full((3, 1), 1 / 3), r"expected one for each of 3 samples, got shape \(3, 1\)"),
        (np.ones(3), "must be >= 0 and sum to 1"),
        ([1.5, -0.5, 0.0], "must be >= 0 and sum to 1"),
        ([1.0, np.nan, 0.0], "must be >= 0 and sum to 1"),
    ],
)
def test_unusable_sample_weights_are_refused(weight, message):
    with pytest.raises(InputError, match=f"sample_weight: {message}"):
        check_sample_weight(weight, 3)


def test_sample_weights_are_uniform_by_default():
    np.testing.assert_array_equal(check_sample_weight(None, 4), np.full(4, 0.25))
    float32 = np.full(60_000, 1 / 60_000, np.float32)
    np.testing.assert_array_equal(check_sample_weight(float32, 60_000), float32)


def test_counts_and_seeds_have_bounds():
    check_count(3, "n", 3, 3)
    check_seed(0)
    for value, message in ((2, "n: must be at least 3, got 2"), (4, "n: must be at most 3, got 4")):
        with pytest.raises(InputError, match=message):
            check_count(value, "n", 3, 3)
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match="seed: must be at"):
            check_seed(seed)


@pytest.mark.parametrize(
    ("sigma", "lam", "message"),
    [
        (0.0, 0.1, "sigma: the noise level must be finite and > 0, got 0.0"),
        (np.inf, 0.1, "sigma: the noise level must be finite and > 0, got inf"),
        (0.1, -0.1, "lam: the weight decay must be finite and >= 0, got -0.1"),
        (0.1, np.nan, "lam: the weight decay must be finite and >= 0, got nan"),
    ],
)
def test_noise_and_decay_are_finite_and_not_negative(sigma, lam, message):
    check_noise_and_decay(0.1, 0.0)
    with pytest.raises(InputError, match=message):
        check_noise_and_decay(sigma, lam)


def test_counts_have_a_minimum():
    check_count(1, "n")
    check_count(0, "seed", 0)
    for value, minimum in ((0, 1), (-1, 0)):
        with pytest.raises(InputError, match=f"n: must be at least {minimum}, got {value}"):
            check_count(value, "n", minimum)
