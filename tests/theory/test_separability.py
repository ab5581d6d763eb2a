"""Separability by hand."""

import numpy as np
import pytest

from dae_theory import InputError, data
from dae_theory.theory.separability import cluster_means, gate_margin, gate_pattern, separability

SIGMA = 0.1


@pytest.mark.parametrize("n", [2, 3, 6])
def test_simplex_is_maximally_separable(n):
    alpha, beta = separability(data.simplex(n, 8).x, np.arange(n))
    np.testing.assert_allclose(beta, -1 / (n - 1), atol=1e-12)
    assert alpha == 0


def test_separability_by_hand():
    x = np.array([[2.0, 0.0], [4.0, 0.0], [0.0, 1.0], [0.0, 3.0], [-1.0, 1.0]])
    labels = np.array([5, 5, 2, 2, 9])
    np.testing.assert_array_equal(cluster_means(x, labels), [[0, 2], [3, 0], [-1, 1]])
    alpha, beta = separability(x, labels)
    np.testing.assert_allclose(alpha, 0.5)  # (0, 1) and (0, 3) around (0, 2)
    np.testing.assert_allclose(beta, np.sqrt(0.5))  # between (0, 2) and (-1, 1)


def test_separability_of_one_cluster_and_of_a_zero_mean():
    x = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert separability(x[:1], np.zeros(1)) == (0.0, -1.0)
    assert separability(x, np.zeros(2)).alpha == np.inf


def test_separability_refuses_unusable_input():
    with pytest.raises(InputError, match=r"labels: expected shape \(3,\), got \(2,\)"):
        separability(np.ones((3, 2)), np.zeros(2))
    with pytest.raises(InputError, match="NaN or infinite"):
        separability(np.array([[np.inf, 1.0]]), np.zeros(1))


def test_gate_margin_by_hand():
    w1 = np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    x = np.array([[1.0, -0.2], [-0.5, 4.0]])
    labels, blocks = np.array([0, 1]), np.array([0, 1, -1])
    # Distances to the gates: unit 0 sees 1 and -0.5, unit 1 sees -0.2 and 4.
    np.testing.assert_allclose(gate_margin(w1, x, labels, blocks, SIGMA), 0.2 / SIGMA)
    np.testing.assert_allclose(gate_margin(w1, -x, labels, blocks, SIGMA), -4.0 / SIGMA)
    # A unit without a block, or a zero column with one, does not count.
    np.testing.assert_allclose(gate_margin(w1, x, labels, np.array([0, -1, 1]), SIGMA), 0.5 / SIGMA)
    assert gate_margin(w1, x, labels, np.full(3, -1), SIGMA) == -np.inf


def test_gate_margin_is_a_flip_probability():
    w1 = np.array([[3.0], [4.0]])
    x = np.array([[0.04, 0.02]])
    z = gate_margin(w1, x, np.array([0]), np.array([0]), SIGMA)
    noise = np.random.RandomState(0).normal(size=(200_000, 2))
    flipped = np.mean((x + SIGMA * noise) @ w1 <= 0)
    from scipy.stats import norm

    expected = norm.cdf(-z)
    assert abs(flipped - expected) < 5 * np.sqrt(expected * (1 - expected) / len(noise))


def test_gate_pattern():
    w1 = np.array([[1.0, -1.0], [0.0, 1.0]])
    np.testing.assert_array_equal(
        gate_pattern(w1, np.array([[1.0, 0.0], [1.0, 2.0]])), [[True, False], [True, True]]
    )
