"""The variables in which the solver for many samples works."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory.coordinates import (
    MOST_TURNING,
    plain_coordinates,
    scaled_coordinates,
    turning_curvature,
    turning_metric,
)
from dae_theory.solve_large import principal_directions

SIGMA, LAM = 0.3, 2e-3
FLATTEST_TURN = 1e-3
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


def scaled(w, turning=True):
    with jax.enable_x64(True):
        flattest = FLATTEST_TURN if turning else None
        return scaled_coordinates(w, principal(), WEIGHT, SIGMA, LAM, flattest)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("turning", [True, False])
def test_the_variables_of_weights_give_them_back(tied, turning):
    w = net(1, tied)
    with jax.enable_x64(True):
        for coordinates in (scaled(w, turning), plain_coordinates(w, turning)):
            variables = coordinates.variables(w)
            assert variables.shape == (w.size + turning * P * (P - 1) // 2,)
            np.testing.assert_allclose(coordinates.weights(variables), w, atol=1e-13)
            # Then a gradient that is small in v is small in W.
            assert np.min(coordinates.scale) >= 1
        # Mutant: scaled the other way.
        coordinates = scaled(w, turning)
        mirrored = coordinates._replace(scale=1 / coordinates.scale)
        assert np.max(np.abs(mirrored.weights(coordinates.variables(w)) - w)) > 1e-2


def test_turns_are_rotations_of_the_units_that_start_as_given():
    w = net(2)
    coordinates = scaled(w)
    variables = coordinates.variables(w)
    turn = np.random.default_rng(3).standard_normal(P * (P - 1) // 2)
    with jax.enable_x64(True):
        turned = coordinates.weights(variables + np.append(np.zeros(w.size), turn))
        at = lambda t: coordinates.weights(jnp.append(variables[: w.size], t * turn))  # noqa: E731
        slope = jax.jacfwd(at)(0.0)
    np.testing.assert_allclose(turned @ turned.mT, w @ w.swapaxes(1, 2), atol=1e-12)
    assert np.max(np.abs(turned - w)) > 0.1
    np.testing.assert_allclose(slope, w @ antisymmetric(turn @ coordinates.turns), atol=1e-12)


def frozen_cost(w1, w2, entries):
    """E‖change of f‖² to first order in A with gates held, decoder columns made orthogonal."""
    a = principal() @ w1
    gates, skew = (a > 0).astype(float), antisymmetric(entries)
    # f = W2 Q [Qᵀ a] with the gates of a, Q = 1 + A.
    change = (gates * a) @ skew.T + gates * (a @ skew)
    return WEIGHT @ (change**2 @ np.sum(w2**2, axis=0))


def test_the_metric_is_what_turns_cost_with_frozen_gates():
    w1, w2 = net(4)
    with jax.enable_x64(True):
        metric = turning_metric(np.asarray(turning_curvature(w1, w2, principal(), WEIGHT)))
    for seed in range(5):
        entries = np.random.default_rng(seed).standard_normal(len(metric))
        np.testing.assert_allclose(
            entries @ metric @ entries, frozen_cost(w1, w2, entries), rtol=1e-12
        )
    # Units that are all active turn for free.
    with jax.enable_x64(True):
        free = turning_curvature(np.abs(w1), w2, np.abs(principal()), WEIGHT)
    assert np.max(turning_metric(np.asarray(free))) == 0


def test_unit_turns_all_cost_the_largest_curvature():
    w1, w2 = net(5)
    coordinates = scaled(np.stack([w1, w2]))
    # Where the scale is one; the least curved directions of W cost this, too.
    h = np.maximum(principal() @ w1, 0)
    power = WEIGHT @ principal() ** 2 + SIGMA**2
    encoder = np.outer(power, (WEIGHT @ (h > 0)) * np.sum(w2**2, axis=0)) + LAM
    decoder = np.linalg.eigvalsh(h.T * WEIGHT @ h + SIGMA**2 / 2 * w1.T @ w1) + LAM
    largest = max(np.max(encoder), np.max(decoder))
    costs = [frozen_cost(w1, w2, turn) for turn in coordinates.turns]
    floors = FLATTEST_TURN * largest * np.sum(coordinates.turns**2, axis=1)
    np.testing.assert_allclose(costs + floors, largest, rtol=1e-10)


def test_wide_nets_go_without_turns():
    width = MOST_TURNING + 1
    w = np.random.default_rng(6).standard_normal((1, D, width)).astype(np.float32)
    coordinates = scaled_coordinates(
        w, principal().astype(np.float32), WEIGHT.astype(np.float32), SIGMA, LAM, FLATTEST_TURN
    )
    assert coordinates.turns.shape == (0, 0)
    assert coordinates.scale.dtype == np.float32
    assert coordinates.variables(w).size == w.size
