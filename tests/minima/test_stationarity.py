"""The predicted decrease of the loss, against what a solver gains and against a dense Hessian."""

import numpy as np
import pytest
from scipy.linalg import null_space

from dae_theory import InputError
from dae_theory.data import simplex
from dae_theory.minima import stationarity
from dae_theory.minima.stationarity import remaining_decrease
from dae_theory.relu.model import denoise
from dae_theory.solve.derivatives import expansion
from dae_theory.solve.local import solve_local_minimum
from dae_theory.theory.closed_forms import predict_memorization

N, D, P = 3, 6, 5
SIGMA, LAM = 0.1, 0.02


def stored():
    """Samples, and a minimum next to (5) with two units split."""
    x_ND = simplex(N, D).x
    p = predict_memorization(x_ND, SIGMA, LAM, P)
    w = p.w1.copy()
    w[:, 3], w[:, 4] = 0.6 * w[:, 0], 0.8 * w[:, 1]
    w[:, 0], w[:, 1] = 0.8 * w[:, 0], 0.6 * w[:, 1]
    found = solve_local_minimum(w, w, x_ND, SIGMA, LAM)
    return x_ND, found


def moved(found, size, seed=0):
    weights = np.stack([found.w1, found.w2])
    random = np.random.default_rng(seed).standard_normal(weights.shape)
    return weights + size * np.linalg.norm(weights) / np.linalg.norm(random) * random


def test_at_a_minimum_nothing_is_left():
    x_ND, found = stored()
    left = remaining_decrease(found.w1, found.w2, x_ND, SIGMA, LAM)
    assert left.movement < 1e-7
    np.testing.assert_allclose([left.loss, left.fitting_lam], [found.loss, LAM], rtol=1e-6)


@pytest.mark.parametrize(("size", "rtol"), [(1e-3, 1e-2), (0.05, 0.2)])
def test_the_solver_gains_what_is_predicted(size, rtol):
    x_ND, found = stored()
    w1, w2 = moved(found, size)
    left = remaining_decrease(w1, w2, x_ND, SIGMA, LAM)
    gained = left.loss - solve_local_minimum(w1, w2, x_ND, SIGMA, LAM).loss
    np.testing.assert_allclose(left.decrease, gained, rtol=rtol)


@pytest.mark.parametrize("cosine", [0.99, 0.9, 0.5])
def test_a_unit_beside_its_sample_has_yet_to_turn_by_the_sine_of_their_angle(cosine):
    x_ND, sigma, lam = simplex(N, 12).x, 0.02, 0.1
    p = predict_memorization(x_ND, sigma, lam, N)
    towards_D, sine = x_ND[1] / np.linalg.norm(x_ND[1]), np.sqrt(1 - cosine**2)
    unit_D = np.linalg.norm(p.w1[:, 1]) * (cosine * towards_D + sine * null_space(x_ND)[:, 0])

    def turning(size):
        w = np.column_stack([p.w1, size * unit_D])
        return remaining_decrease(w, w, x_ND, sigma, lam).turning

    np.testing.assert_allclose(turning(0.035), sine, rtol=0.02)
    longer = p.w1 * np.where(np.arange(N) == 1, 1.1, 1.0)
    assert remaining_decrease(longer, longer, x_ND, sigma, lam).turning < 1e-6  # in place
    assert turning(0.03) < 0.01  # no live unit: below 1e-3 of the largest in energy
    assert remaining_decrease(p.w1, p.w2, x_ND, sigma, lam).turning < 1e-6
    assert np.isinf(remaining_decrease(p.w1, p.w2, x_ND, sigma, 0.0).turning)


def test_all_eigenvectors_give_the_same():
    x_ND, found = stored()
    w1, w2 = moved(found, 0.02)
    weights = np.stack([w1, w2])
    _, gradient, hessian = expansion(weights, x_ND, np.full(N, 1 / N), SIGMA, LAM)
    curvature, vectors = np.linalg.eigh(hessian)
    slopes = vectors.T @ np.ravel(gradient)
    dense = np.sum(slopes**2 / (2 * np.maximum(np.abs(curvature), LAM)))
    left = remaining_decrease(w1, w2, x_ND, SIGMA, LAM)
    np.testing.assert_allclose(left.decrease, dense, rtol=1e-3)
    np.testing.assert_allclose(left.grad_norm, np.linalg.norm(gradient), rtol=1e-10)


def test_it_does_not_depend_on_names_of_units_or_axes():
    x_ND, found = stored()
    w1, w2 = moved(found, 0.02)
    expected = remaining_decrease(w1, w2, x_ND, SIGMA, LAM)
    turn, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((D, D)))
    order = np.random.default_rng(1).permutation(P)
    turned = remaining_decrease(turn @ w1[:, order], turn @ w2[:, order], x_ND @ turn.T, SIGMA, LAM)
    np.testing.assert_allclose(turned, expected, rtol=1e-6)


def test_it_bounds_how_far_the_outputs_move():
    """With gates that hold: E‖f − f*‖² is at most the loss that is lost on the way to f*."""
    x_ND, sigma = simplex(N, D).x, 0.05
    p = predict_memorization(x_ND, sigma, LAM)
    w = p.w1 * [1.03, 0.98, 1.01]
    left = remaining_decrease(w, w, x_ND, sigma, LAM)
    end = solve_local_minimum(w, w, x_ND, sigma, LAM)
    y = np.repeat(x_ND, 4000, axis=0)
    y = y + sigma * np.random.default_rng(0).standard_normal(y.shape)
    before, after = denoise(w, w, y), denoise(end.w1, end.w2, y)
    change = np.sqrt(np.mean(np.sum((before - after) ** 2, axis=1)))
    rms = np.sqrt(np.mean(np.sum(np.square(before), axis=1)))
    assert 0.9 * left.movement < change / rms < 1.02 * left.movement


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_another_lambda_is_found(factor):
    x_ND, found = stored()
    left = remaining_decrease(found.w1, found.w2, x_ND, SIGMA, factor * LAM)
    np.testing.assert_allclose(left.fitting_lam, LAM, rtol=1e-5)
    assert left.movement > 0.005


def test_a_net_near_a_saddle_has_far_to_go():
    x_ND, found = stored()
    tiny = 1e-3 * moved(found, 1.0)
    left = remaining_decrease(*tiny, x_ND, SIGMA, LAM)
    assert left.lowest < -LAM
    assert left.movement > 1
    shrunk = np.stack([found.w1, found.w2]) * np.where(np.isin(np.arange(P), [0, 3]), 1e-3, 1.0)
    assert remaining_decrease(*shrunk, x_ND, SIGMA, LAM).movement > 0.1


def test_a_net_of_zeros_is_stationary():
    zeros = np.zeros((D, P))
    left = remaining_decrease(zeros, zeros, simplex(N, D).x, SIGMA, LAM)
    assert (left.decrease, left.movement, left.loss) == (0.0, 0.0, pytest.approx(1.0))
    assert remaining_decrease(np.eye(D), 0 * np.eye(D), simplex(N, D).x, SIGMA, LAM).movement > 1


def test_many_parallel_units_are_as_few():
    x_ND, found = stored()
    w1, w2 = moved(found, 0.02)
    shares = np.sqrt(np.random.default_rng(0).dirichlet(np.ones(60), P)).T.reshape(60, 1, P)
    many1, many2 = (np.concatenate(shares * w, axis=1) for w in (w1, w2))
    assert many1.shape == (D, 300)
    split = remaining_decrease(many1, many2, x_ND, SIGMA, LAM)
    whole = remaining_decrease(w1, w2, x_ND, SIGMA, LAM)
    np.testing.assert_allclose(split, whole, rtol=1e-6)


def test_what_does_not_fit_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(stationarity, "free_memory", lambda devices: 1e6)
    x_ND = simplex(N, D).x
    w = np.random.default_rng(0).standard_normal((D, 100))
    # Half of 1 MB; 24 floats of 8 bytes for each of 4·104²/2 pairs are 4.15 MB.
    words = r"p=100 units on n=3 .* 0.00415 GB, more than 0.0005; lower n, or p to 34$"
    with pytest.raises(InputError, match=words):
        remaining_decrease(w, w, x_ND, SIGMA, LAM)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="W1: has 6 rows"):
        remaining_decrease(np.eye(6), np.eye(6), np.eye(5), SIGMA, LAM)
    with pytest.raises(InputError, match="sigma"):
        remaining_decrease(np.eye(5), np.eye(5), np.eye(5), 0.0, LAM)
