"""The steered flow in closed form, against numerical integration of its differential equation."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dae_theory.checks import InputError
from dae_theory.theory import steering
from dae_theory.theory.steering import (
    Levels,
    Window,
    steer_block,
    steer_stored,
    steering_rate,
    switch_strength,
)

LEVELS = Levels(20.0, 0.01, Window(5.0, 0.03))


def integrated(slope, y_D, levels):
    """y at σ_min of dy/dlog σ = slope(y, σ, steered), piece by piece of the window."""
    ends = [levels.sigma_max, *levels.steered, levels.sigma_min]
    for high, low, steered in zip(ends, ends[1:], (0, 1, 0), strict=False):
        if high > low:
            right = lambda x, y, on=steered: slope(y, np.exp(x), on)  # noqa: E731
            found = solve_ivp(right, np.log([high, low]), y_D, rtol=1e-9, atol=1e-11, max_step=0.05)
            y_D = found.y[:, -1]
    return y_D


def three_images(cosine, norm):
    gram_NN = np.full((3, 3), cosine) + (1 - cosine) * np.eye(3)
    return norm * np.linalg.cholesky(gram_NN) @ np.eye(3, 5)


@pytest.mark.parametrize("strength", [-0.5, 0.0, 0.3, 0.8])
def test_steered_between_stored_samples(strength):
    x_ND, decay = three_images(-0.3, 1.3), 0.1
    unit_ND, square = x_ND / 1.3, 1.3**2

    def slope(y_D, sigma, steered):
        gain = (square - decay) / (square + sigma**2)
        output_D = gain * (np.maximum(unit_ND @ y_D, 0) @ unit_ND + steered * strength * x_ND[1])
        return y_D - output_D

    start_MD = 20 * np.random.default_rng(0).standard_normal((2, 5))
    found_MD = steer_stored(x_ND, 1, start_MD, [strength], LEVELS, decay)[0]
    for found_D, start_D in zip(found_MD, start_MD, strict=True):
        np.testing.assert_allclose(found_D, integrated(slope, start_D, LEVELS), atol=1e-7)


def test_gates_are_looked_at_often_enough(monkeypatch):
    """Some open and close again on the way: of five samples that are anywhere."""
    random = np.random.default_rng(9)
    x_ND = random.standard_normal((5, 6))
    x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
    asked = x_ND, 0, 2 * random.standard_normal((8, 6)), [-2.0, 2.0], Levels(2.0, 0.01), 0.1
    found_AMD = steer_stored(*asked)
    monkeypatch.setattr(steering, "STEP", 0.01)
    np.testing.assert_allclose(found_AMD, steer_stored(*asked), atol=1e-9)


def test_steering_between_stored_samples_has_no_unit_of_length():
    """Norms that differ by rounding are equal in any."""
    x_ND = three_images(-0.3, 1.0)
    start_MD = 20 * np.random.default_rng(0).standard_normal((2, 5))
    ends_MD = steer_stored(x_ND, 1, start_MD, [0.3], LEVELS, 0.1)[0]
    x_ND *= 1 + 1e-8 * np.arange(3)[:, None]
    for unit in (1e-3, 1e3):
        levels = Levels(20 * unit, 0.01 * unit, Window(5 * unit, 0.03 * unit))
        found_AMD = steer_stored(unit * x_ND, 1, unit * start_MD, [0.3], levels, 0.1 * unit**2)
        np.testing.assert_allclose(found_AMD[0], unit * ends_MD, atol=1e-6 * unit)


def test_steered_inside_a_block():
    rng = np.random.default_rng(0)
    u_DR, e_R, decay = np.linalg.qr(rng.standard_normal((4, 2)))[0], np.array([1.2, 0.1]), 0.02
    start_D, concept_D = 20 * rng.standard_normal(4), rng.standard_normal(4)
    base_1D, slope_D = steer_block(start_D[None], concept_D, u_DR, e_R, LEVELS, decay)

    def slope(y_D, sigma, steered, strength):
        gain_R = (e_R - decay) / (e_R + sigma**2)
        return y_D - u_DR @ (gain_R * (u_DR.T @ (y_D + steered * strength * concept_D)))

    for strength in (0.0, 0.7):
        expected_D = integrated(lambda y, s, on, a=strength: slope(y, s, on, a), start_D, LEVELS)
        np.testing.assert_allclose(base_1D[0] + strength * slope_D, expected_D, atol=1e-7)


def test_rate_without_decay_is_elementary():
    e_R = np.array([1.3, 0.2, 1e-3])

    def primitive(sigma):
        r_R = np.sqrt(e_R + sigma**2)
        return np.arctanh(np.sqrt(e_R) / r_R) / np.sqrt(e_R) - 1 / r_R

    high, low = LEVELS.steered
    expected_R = np.sqrt(e_R + LEVELS.sigma_min**2) * (primitive(low) - primitive(high))
    np.testing.assert_allclose(steering_rate(e_R, LEVELS), expected_R, rtol=1e-10)


def test_rate_far_below_and_above_the_norm():
    assert steering_rate([1.0], Levels(1e-3, 1e-5))[0] == pytest.approx(np.log(100), rel=1e-5)
    assert steering_rate([1.0], Levels(1e4, 1e-4, Window(1e4, 1e3)))[0] < 1e-8
    assert steering_rate([0.5], LEVELS, decay=0.5)[0] == 0  # a dropped direction


@pytest.mark.parametrize("cosine", [-0.7, -0.3, -0.05])
def test_halfway_at_the_strength_of_the_law(cosine):
    x_ND = np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]])
    strength, levels = switch_strength(cosine, np.log(1000)), Levels(1e-3, 1e-6)
    below, at, above = steer_stored(x_ND, 1, x_ND[:1], strength * np.array([0.99, 1, 1.01]), levels)
    assert abs((x_ND[1] - x_ND[0]) @ at[0]) < 1e-4
    assert (x_ND[1] - x_ND[0]) @ below[0] < -1e-3 < 1e-3 < (x_ND[1] - x_ND[0]) @ above[0]


def test_nearly_orthogonal_samples_are_superposed():
    assert switch_strength(-1e-7, 4.0) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize(
    "levels",
    [Levels(1.0, 2.0), Levels(1.0, 0.0), Levels(1.0, 0.1, Window(2.0, 0.5)), Levels(np.inf, 0.1)],
)
def test_levels_that_are_none(levels):
    with pytest.raises(InputError, match="levels: expected"):
        steering_rate([1.0], levels)


def test_bad_input_is_named():
    x_ND = three_images(-0.3, 1.0)
    with pytest.raises(InputError, match="equal norm"):
        steer_stored(x_ND * np.array([[1], [2], [1]]), 1, x_ND[:1], [0.0], LEVELS)
    with pytest.raises(InputError, match="decay: must be below"):
        steer_stored(x_ND, 1, x_ND[:1], [0.0], LEVELS, 1.0)
    with pytest.raises(InputError, match=r"target: expected 0 \.\.\. 2, got 3"):
        steer_stored(x_ND, 3, x_ND[:1], [0.0], LEVELS)
    with pytest.raises(InputError, match="start: rows must have 5 numbers"):
        steer_stored(x_ND, 1, np.ones((1, 4)), [0.0], LEVELS)
    with pytest.raises(InputError, match="eigenvalues and decay"):
        steering_rate([0.0], LEVELS)
    with pytest.raises(InputError, match="start and concept"):
        steer_block(np.ones((1, 3)), np.ones(4), np.eye(4)[:, :1], [1.0], LEVELS)
    with pytest.raises(InputError, match="cosine and e_folds"):
        switch_strength(0.1, 1.0)
