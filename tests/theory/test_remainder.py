"""Flip weight, its exponent, and the loss that flipped gates leak."""

import jax
import numpy as np
import pytest

from dae_theory import exact_loss, predict_blocks
from dae_theory.theory.remainder import fit_flip_exponent, flip_weight, leak_loss


def test_exponent_of_a_known_law_is_recovered():
    z = np.linspace(3, 5, 9)
    flips = np.exp(-(z**2) / 2) + 5 * np.exp(-((1.3 * z) ** 2) / 2)
    assert fit_flip_exponent(z, flips, 7 * flips**0.8 * z**-3) == pytest.approx(0.8, abs=1e-9)


def test_flip_weight_sums_over_samples_and_units_that_are_not_zero():
    x = np.array([[1.0, 0.0], [0.0, 2.0]])
    w1 = np.array([[3.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    z = np.array([[1.25, 0.0], [0.0, 2.5]])  # sample × unit, σ = .8
    assert flip_weight(w1, x, 0.8) == pytest.approx(np.sum(np.exp(-(z**2) / 2)))


@pytest.mark.parametrize(
    ("x", "sigma"),
    [
        pytest.param([[1.0, 0.0]], 0.8, id="own gate closes"),
        pytest.param([[2.0, 0.0], [-0.1, 2.0]], 0.1, id="other gates open"),
    ],
)
def test_leak_is_exact_where_gates_flip_one_at_a_time(x, sigma):
    x = np.array(x)
    p = predict_blocks(x, np.arange(len(x)), (1,) * len(x), sigma, 0.01)
    assert p.margin < 1.5
    with jax.enable_x64(True):
        excess = float(exact_loss(p.w1, p.w2, x, sigma, 0.01)) - p.loss
    assert abs(excess) > 1e-4
    assert leak_loss(p, x) == pytest.approx(excess, rel=1e-9)
