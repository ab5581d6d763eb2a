"""The solver reaches stationary points, judged by gradients that it did not compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory import InputError, data, exact_loss, gradient_norm, predict_memorization
from dae_theory.solve import local
from dae_theory.solve.derivatives import hessian_product, loss_and_gradient_norm
from dae_theory.solve.large import solve_large
from dae_theory.solve.local import solve_local_minima, solve_local_minimum
from dae_theory.solve.reduced import common_span, span_and_outside

TOLERANCE = 1e-9
SIGMA, LAM = 0.1, 1e-3

slopes = jax.jit(jax.grad(exact_loss, argnums=(0, 1)))


def own_gradient_norm(w1, w2, x, sigma, lam):
    return float(jnp.sqrt(sum(jnp.sum(s**2) for s in slopes(w1, w2, x, sigma, lam))))


def random_start(seed, d, p):
    return np.random.RandomState(seed).normal(size=(2, d, p)) / np.sqrt(d)


def test_gradient_norm_equals_central_differences():
    x = data.simplex(3, 12).x
    w1, w2 = random_start(0, 12, 6)
    step, square = 1e-5, 0.0
    for which in range(2):
        for index in np.ndindex(w1.shape):
            shift = np.zeros((2, *w1.shape))
            shift[which][index] = step
            ahead = exact_loss(w1 + shift[0], w2 + shift[1], x, SIGMA, LAM)
            behind = exact_loss(w1 - shift[0], w2 - shift[1], x, SIGMA, LAM)
            square += float((ahead - behind) / (2 * step)) ** 2
    np.testing.assert_allclose(gradient_norm(w1, w2, x, SIGMA, LAM), np.sqrt(square), rtol=1e-7)


def test_perturbed_prediction_returns_to_the_predicted_loss():
    x, sigma = data.simplex(3, 12).x, 0.05
    prediction = predict_memorization(x, sigma, LAM, width=6)
    random = np.random.RandomState(1)
    shift = 0.02 * random.normal(size=(2, 12, 6))
    shift[:, :, 3:] = 0  # the unused units stay unused
    start = [w + s for w, s in zip((prediction.w1, prediction.w2), shift, strict=True)]
    solution = solve_local_minimum(*start, x, sigma, LAM, TOLERANCE)
    assert solution.converged
    assert solution.grad_norm <= TOLERANCE
    assert own_gradient_norm(solution.w1, solution.w2, x, sigma, LAM) <= 1.01 * TOLERANCE
    assert solution.loss <= float(exact_loss(*start, x, sigma, LAM))
    np.testing.assert_allclose(solution.loss, prediction.loss, rtol=1e-9)
    np.testing.assert_allclose(solution.w1, prediction.w1, atol=1e-5)


@pytest.mark.parametrize("seed", [2, 3])
def test_random_start_reaches_a_stationary_balanced_point(seed):
    x = data.simplex(3, 12).x
    start = random_start(seed, 12, 6)
    solution = solve_local_minimum(*start, x, SIGMA, LAM, TOLERANCE)
    assert solution.converged
    assert own_gradient_norm(solution.w1, solution.w2, x, SIGMA, LAM) <= 1.01 * TOLERANCE
    np.testing.assert_allclose(solution.loss, exact_loss(solution.w1, solution.w2, x, SIGMA, LAM))
    assert solution.loss < float(exact_loss(*start, x, SIGMA, LAM))
    # ReLU is homogeneous: with decay, encoder and decoder norms agree at any stationary point.
    np.testing.assert_allclose(
        np.linalg.norm(solution.w1, axis=0), np.linalg.norm(solution.w2, axis=0), atol=1e-5
    )


def test_solution_is_a_local_minimum():
    x = data.simplex(3, 12).x
    solution = solve_local_minimum(*random_start(2, 12, 6), x, SIGMA, LAM, TOLERANCE)
    random = np.random.RandomState(4)
    for _ in range(50):
        shift = 1e-3 * random.normal(size=(2, 12, 6))
        nearby = exact_loss(solution.w1 + shift[0], solution.w2 + shift[1], x, SIGMA, LAM)
        assert float(nearby) > solution.loss


def test_reduction_to_the_span_changes_nothing():
    # A problem in three dimensions, as it stands and embedded into twenty.
    x = data.simplex(3, 3, seed=5).x
    start = random_start(6, 3, 6)
    basis = data.random_rotation(7, 20)[:, :3]
    small = solve_local_minimum(*start, x, SIGMA, LAM, TOLERANCE)
    large = solve_local_minimum(
        basis @ start[0], basis @ start[1], x @ basis.T, SIGMA, LAM, TOLERANCE
    )
    assert small.converged
    assert large.converged
    np.testing.assert_allclose(large.loss, small.loss, rtol=1e-9)
    np.testing.assert_allclose(
        large.w1 @ large.w2.T, basis @ (small.w1 @ small.w2.T) @ basis.T, atol=1e-5
    )
    assert own_gradient_norm(large.w1, large.w2, x @ basis.T, SIGMA, LAM) <= 1.01 * TOLERANCE


@pytest.mark.parametrize("seed", range(10))
def test_a_descent_begins_at_the_start(seed):
    # Six columns in three dimensions, two of which the data span: one direction is left, no more.
    x = data.simplex(3, 3, seed=5).x @ data.random_rotation(3, 3)
    start = random_start(seed, 3, 6)
    solution = solve_local_minimum(*start, x, SIGMA, LAM, tol=1e6)
    np.testing.assert_allclose([solution.w1, solution.w2], start, atol=1e-13)
    np.testing.assert_allclose(solution.loss, exact_loss(*start, x, SIGMA, LAM), rtol=1e-12)


def test_starts_side_by_side_end_where_each_ends_alone(monkeypatch):
    monkeypatch.setattr(local, "LANES", 2)  # three starts take two turns
    x = data.simplex(3, 12).x
    samples = [x, 0.8 * x[::-1], x @ data.random_rotation(0, 12)]
    starts = [random_start(2, 12, 6), random_start(3, 12, 6), random_start(13, 12, 6)]
    starts[1][:, :, 4:] = 0
    together = solve_local_minima(*zip(*starts, strict=True), samples, SIGMA, LAM, TOLERANCE)
    for found, start, x in zip(together, starts, samples, strict=True):
        alone = solve_local_minimum(*start, x, SIGMA, LAM, TOLERANCE)
        assert found.converged
        assert own_gradient_norm(found.w1, found.w2, x, SIGMA, LAM) <= 1.01 * TOLERANCE
        np.testing.assert_allclose(found.loss, alone.loss, rtol=1e-10)
        np.testing.assert_allclose([found.w1, found.w2], [alone.w1, alone.w2], atol=1e-5)


def test_starts_side_by_side_have_equal_shapes():
    x, w = np.eye(3), np.ones((3, 2))
    with pytest.raises(InputError, match="equal shapes"):
        solve_local_minima([w, w[:, :1]], [w, w[:, :1]], [x, x], SIGMA, LAM)
    with pytest.raises(InputError, match="differ in shape"):
        solve_local_minima([w], [w[:, :1]], [x], SIGMA, LAM)


@pytest.mark.parametrize("which", [0, 1])
def test_only_one_matrix_starts_outside_the_span_of_the_data(which):
    x = data.simplex(3, 40).x
    start = random_start(11, 40, 6)
    inside = common_span(x.T)
    start[which] = inside @ (inside.T @ start[which])
    solution = solve_local_minimum(*start, x, SIGMA, LAM, TOLERANCE)
    assert solution.converged
    assert own_gradient_norm(solution.w1, solution.w2, x, SIGMA, LAM) <= 1.01 * TOLERANCE
    np.testing.assert_allclose(solution.loss, exact_loss(solution.w1, solution.w2, x, SIGMA, LAM))
    # With decay and gates this certain, only the data hold weights up: nothing is left outside.
    for w in (solution.w1, solution.w2):
        np.testing.assert_allclose(inside @ (inside.T @ w), w, atol=1e-5)


def test_newton_alone_converges_near_a_minimum():
    x = data.simplex(3, 12).x
    minimum = solve_local_minimum(*random_start(2, 12, 6), x, SIGMA, LAM, TOLERANCE)
    shift = 1e-5 * random_start(12, 12, 6)
    start = minimum.w1 + shift[0], minimum.w2 + shift[1]
    assert own_gradient_norm(*start, x, SIGMA, LAM) > 1e3 * TOLERANCE
    solution = solve_local_minimum(*start, x, SIGMA, LAM, TOLERANCE, max_iterations=0)
    assert solution.converged
    assert own_gradient_norm(solution.w1, solution.w2, x, SIGMA, LAM) <= 1.01 * TOLERANCE
    np.testing.assert_allclose(solution.loss, minimum.loss, rtol=1e-9)


def test_hessian_product_equals_central_differences_of_the_gradient():
    x = data.simplex(3, 12).x
    weights, direction = random_start(13, 12, 6), random_start(14, 12, 6)
    step = 1e-5
    ahead, behind = (
        np.stack(slopes(*(weights + shift * direction), x, SIGMA, LAM)) for shift in (step, -step)
    )
    product = hessian_product(weights, direction, x, np.full(3, 1 / 3), SIGMA, LAM)
    np.testing.assert_allclose(product, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)


def test_a_start_whose_loss_overflows_does_not_converge():
    w1, w2 = 1e100 * random_start(15, 12, 6)
    solution = solve_local_minimum(w1, w2, data.simplex(3, 12).x, SIGMA, LAM)
    assert not solution.converged
    assert solution.iterations == 0


def test_common_span():
    random = np.random.RandomState(8)
    a, b = random.normal(size=(7, 2)), random.normal(size=(7, 1))
    basis = common_span(a, b, a @ random.normal(size=(2, 5)))
    assert basis.shape == (7, 3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-13)
    for matrix in (a, b):
        np.testing.assert_allclose(basis @ (basis.T @ matrix), matrix, atol=1e-13)
    np.testing.assert_array_equal(common_span(np.eye(3), b[:3]), np.eye(3))
    assert common_span(np.zeros((4, 2))).shape == (4, 1)


@pytest.mark.parametrize("rank", [1, 5, 6, 7])
def test_one_direction_outside_the_span_is_added_if_there_is_any(rank):
    random = np.random.RandomState(9)
    matrix = random.normal(size=(7, rank)) @ random.normal(size=(rank, 20))
    basis = span_and_outside(matrix[:, :3], matrix[:, 3:])
    assert basis.shape == (7, min(rank + 1, 7))
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-14)
    np.testing.assert_allclose(basis @ (basis.T @ matrix), matrix, atol=1e-13)
    if rank < 7:
        np.testing.assert_allclose(basis[:, -1] @ matrix, 0, atol=1e-13)
    np.testing.assert_array_equal(span_and_outside(matrix[:, :3], matrix[:, 3:]), basis)


def test_zero_columns_stay_zero():
    x = data.simplex(3, 12).x
    prediction = predict_memorization(x, 0.05, LAM, width=6)
    solution = solve_local_minimum(prediction.w1, prediction.w2, x, 0.05, LAM, TOLERANCE)
    np.testing.assert_array_equal(solution.w1[:, 3:], 0)
    assert solution.converged


def test_sample_weights_act_like_duplicates():
    x = data.simplex(3, 12).x
    start = random_start(9, 12, 6)
    repeats = np.array([2, 1, 1])
    weighted = solve_local_minimum(*start, x, SIGMA, LAM, sample_weight=repeats / 4)
    assert weighted.converged
    duplicated = np.repeat(x, repeats, axis=0)
    assert own_gradient_norm(weighted.w1, weighted.w2, duplicated, SIGMA, LAM) <= 1.01 * TOLERANCE
    assert own_gradient_norm(weighted.w1, weighted.w2, x, SIGMA, LAM) > 1e-4


def test_duplicates_act_like_sample_weights(monkeypatch):
    """And no evaluation of the loss takes longer for them."""
    seen = []
    plain = local.lbfgs
    monkeypatch.setattr(local, "lbfgs", lambda *a: seen.append(a[2][0].shape) or plain(*a))
    x, weights = data.simplex(3, 12).x, np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    start, order = random_start(9, 12, 6), np.array([2, 0, 1, 2, 0])
    repeated = solve_local_minimum(*start, x[order], SIGMA, LAM, sample_weight=weights)
    once = np.bincount(order, weights)
    weighted = solve_local_minimum(*start, x, SIGMA, LAM, sample_weight=once)
    np.testing.assert_allclose(repeated.w1, weighted.w1, atol=1e-6)
    assert repeated.loss == pytest.approx(weighted.loss, rel=1e-12)
    assert seen[0] == seen[1]


def test_too_few_iterations_are_reported():
    x = data.simplex(3, 12).x
    start = 30 * random_start(10, 12, 6)
    solution = solve_local_minimum(*start, x, SIGMA, LAM, 1e-13, max_iterations=1)
    assert not solution.converged
    assert solution.grad_norm > 1e-13
    np.testing.assert_allclose(
        solution.grad_norm, own_gradient_norm(solution.w1, solution.w2, x, SIGMA, LAM), rtol=1e-6
    )


def test_solver_works_in_float64_without_global_x64(run_python):
    code = """
import jax, numpy as np
from dae_theory import data, solve_local_minimum
w1, w2 = np.random.RandomState(2).normal(size=(2, 12, 6)) / np.sqrt(12)
s = solve_local_minimum(w1, w2, data.simplex(3, 12).x, 0.1, 1e-3)
print(jax.config.jax_enable_x64, s.converged, s.w1.dtype, repr(s.loss))
"""
    x64, converged, dtype, value = run_python(code).split()
    here = solve_local_minimum(*random_start(2, 12, 6), data.simplex(3, 12).x, SIGMA, LAM)
    assert (x64, converged, dtype) == ("False", "True", "float64")
    np.testing.assert_allclose(float(value), here.loss, rtol=1e-10)


@pytest.mark.parametrize("function", [loss_and_gradient_norm, solve_local_minimum, solve_large])
def test_sample_weights_are_checked(function):
    x, w = np.eye(3), np.ones((3, 2))
    with pytest.raises(InputError, match="sample_weight: expected one for each of 3 samples"):
        function(w, w, x, SIGMA, LAM, sample_weight=np.full(2, 0.5))


@pytest.mark.parametrize("function", [gradient_norm, solve_local_minimum])
def test_unusable_input_is_refused(function):
    x, w = np.eye(3), np.ones((3, 2))
    for arguments, message in (
        ((w[:2], w[:2], x, SIGMA, LAM), "W1: has 2 rows, but the samples have 3 features"),
        ((w, w[:, :1], x, SIGMA, LAM), "W1 and W2 differ in shape"),
        ((w, w * np.nan, x, SIGMA, LAM), "W2: contains NaN or infinite"),
        ((w, w, x[0], SIGMA, LAM), "expected a .N, D. array"),
        ((w, w, x, 0.0, LAM), "sigma: the noise level must be finite and > 0"),
        ((w, w, x, SIGMA, -LAM), "lam: the weight decay must be finite and >= 0"),
    ):
        with pytest.raises(InputError, match=message):
            function(*arguments)
