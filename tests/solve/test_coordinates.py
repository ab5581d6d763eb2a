"""The variables in which the solver for many samples works."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory.solve.coordinates import (
    MOST_MIXING,
    gate_curvature,
    plain_coordinates,
    rotation_metric,
    scaled_coordinates,
)
from dae_theory.solve.large import principal_directions

SIGMA, LAM = 0.3, 2e-3
FLATTEST_MIXING = 1e-3
N, D, P = 80, 7, 5
WEIGHT = np.arange(1, N + 1) / (N * (N + 1) / 2)


def samples():
    return 1 + np.random.default_rng(0).standard_normal((N, D)) * np.geomspace(3, 0.1, D)


def principal():
    x = samples()
    return x @ principal_directions(x)


def net(seed, tied=False):
    return np.random.default_rng(seed).standard_normal((1 if tied else 2, D, P)) / 2


def antisymmetric(entries):
    above = np.zeros((P, P))
    above[np.triu_indices(P, 1)] = entries
    return above - above.T


def scaled(w, mixing=True):
    with jax.enable_x64(True):
        flattest = FLATTEST_MIXING if mixing else None
        return scaled_coordinates(w, principal(), WEIGHT, SIGMA, LAM, flattest)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mixing", [True, False])
def test_the_variables_of_weights_give_them_back(tied, mixing):
    w = net(1, tied)
    with jax.enable_x64(True):
        for coordinates in (scaled(w, mixing), plain_coordinates(w, mixing)):
            variables = coordinates.variables(w)
            assert variables.shape == (w.size + mixing * (P * (P - 1) // 2 if tied else P * P),)
            np.testing.assert_allclose(coordinates.weights(variables), w, atol=1e-13)
            # Then a gradient that is small in v is small in W.
            assert np.min(coordinates.scale) >= 1
        # Mutant: scaled the other way.
        coordinates = scaled(w, mixing)
        mirrored = coordinates._replace(scale=1 / coordinates.scale)
        assert np.max(np.abs(mirrored.weights(coordinates.variables(w)) - w)) > 1e-2


def mixed(w, coordinates, t):
    """The weights at t, and how they change from t = 0 on."""
    start = coordinates.variables(w)[: w.size]
    with jax.enable_x64(True):
        slope = jax.jacfwd(lambda share: coordinates.weights(jnp.append(start, share * t)))(0.0)
        return np.asarray(coordinates.weights(jnp.append(start, t))), np.asarray(slope)


def test_tied_units_are_rotated():
    w, coordinates = net(2, True), scaled(net(2, True))
    t = np.random.default_rng(3).standard_normal(P * (P - 1) // 2)
    there, slope = mixed(w, coordinates, t)
    np.testing.assert_allclose(there @ there.swapaxes(1, 2), w @ w.swapaxes(1, 2), atol=1e-12)
    assert np.max(np.abs(there - w)) > 0.1
    np.testing.assert_allclose(slope, w @ antisymmetric(t @ coordinates.mixing), atol=1e-12)


def test_untied_units_are_mixed_and_their_linear_map_stays():
    w, coordinates = net(2), scaled(net(2))
    t = np.random.default_rng(3).standard_normal((P, P))
    there, slope = mixed(w, coordinates, t.ravel())
    np.testing.assert_allclose(there[1] @ there[0].T, w[1] @ w[0].T, atol=1e-11)
    assert np.max(np.abs(there - w)) > 0.1
    e = np.column_stack([t[j] @ coordinates.mixing[j] for j in range(P)])
    np.testing.assert_allclose(slope, [w[0] @ e, -w[1] @ e.T], atol=1e-11)


def frozen_cost(w1, w2, e):
    """E‖change of f‖² to first order in E with gates held, decoder columns made orthogonal."""
    a = principal() @ w1
    gates = (a > 0).astype(float)
    # f = W2 (1 − Eᵀ) [(1 + Eᵀ) a] with the gates of a.
    change = gates * (a @ e) - (gates * a) @ e
    return WEIGHT @ (change**2 @ np.sum(w2**2, axis=0))


def curvature(w1, w2, x):
    with jax.enable_x64(True):
        return np.asarray(gate_curvature(w1, w2, x, WEIGHT))


def test_the_curvature_is_what_mixing_costs_with_frozen_gates():
    w1, w2 = net(4)
    found = curvature(w1, w2, principal())
    metric = rotation_metric(found)
    for seed in range(5):
        e = np.random.default_rng(seed).standard_normal((P, P))
        np.testing.assert_allclose(
            np.einsum("kj,lj,jkl", e, e, found), frozen_cost(w1, w2, e), rtol=1e-12
        )
        entries = e[np.triu_indices(P, 1)]
        rotated = frozen_cost(w1, w2, antisymmetric(entries))
        np.testing.assert_allclose(entries @ metric @ entries, rotated, rtol=1e-12)
    # Units that are all active mix for free.
    free = curvature(np.abs(w1), w2, np.abs(principal()))
    assert np.max(free) == 0


def largest_curvature(w1, w2, tied):
    """Of single weights, with frozen gates and no coupling of different units."""
    a = principal() @ w1
    h = np.maximum(a, 0)
    power = WEIGHT @ principal() ** 2 + SIGMA**2
    gain = (WEIGHT @ (a > 0)) * np.sum(w2**2, axis=0)
    decoder = np.linalg.eigvalsh(h.T * WEIGHT @ h + SIGMA**2 / 2 * w1.T @ w1) + LAM
    if tied:
        return np.max(decoder) + np.max(power) * np.mean(gain) + LAM
    return max(np.max(np.outer(power, gain)) + LAM, np.max(decoder))


def test_unit_steps_all_cost_the_largest_curvature():
    w = net(5, True)
    mixing, largest = scaled(w).mixing, largest_curvature(w[0], w[0], True)
    costs = [frozen_cost(w[0], w[0], antisymmetric(entries)) for entries in mixing]
    floors = FLATTEST_MIXING * largest * np.sum(mixing**2, axis=1)
    np.testing.assert_allclose(costs + floors, largest, rtol=1e-10)
    w1, w2 = net(5)
    mixing, largest = scaled(np.stack([w1, w2])).mixing, largest_curvature(w1, w2, False)
    for j in range(P):
        for column in mixing[j]:
            e = np.zeros((P, P))
            e[:, j] = column
            sizes = np.sum(w1**2, axis=0) + np.sum(w2[:, j] ** 2)
            decay = LAM * np.sum(sizes * column**2)
            floor = FLATTEST_MIXING * largest * np.sum(column**2)
            np.testing.assert_allclose(frozen_cost(w1, w2, e) + decay + floor, largest, rtol=1e-9)


def test_wide_nets_go_without_mixing():
    width = MOST_MIXING + 1
    w = np.random.default_rng(6).standard_normal((1, D, width)).astype(np.float32)
    coordinates = scaled_coordinates(
        w, principal().astype(np.float32), WEIGHT.astype(np.float32), SIGMA, LAM, FLATTEST_MIXING
    )
    assert coordinates.mixing.shape == (0, 0)
    assert coordinates.scale.dtype == np.float32
    assert coordinates.variables(w).size == w.size
