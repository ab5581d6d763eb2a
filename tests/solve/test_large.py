"""The solver for many samples, judged by the quadrature loss, which it does not use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory import InputError, data, exact_loss, predict_memorization
from dae_theory.data.mixtures import separable_mixture
from dae_theory.solve.large import Stage, default_stages, principal_directions, solve_large
from dae_theory.solve.local import solve_local_minimum

SIGMA, LAM, TOLERANCE = 0.3, 2e-3, 1e-7
D, P, N = 8, 6, 60

slopes = jax.jit(jax.grad(exact_loss, argnums=(0, 1)))


def clusters(n=N, seed=0):
    mixture = separable_mixture(3, D, rank=3, beta=-0.4, alpha=0.5, seed=seed)
    return mixture.sample(seed, n)[0]


def random_start(seed, d=D, p=P):
    return np.random.RandomState(seed).normal(size=(2, d, p)) / np.sqrt(d)


def exact_gradient(solution, x, lam=LAM, tied=False):
    slope1, slope2 = slopes(solution.w1, solution.w2, x, SIGMA, lam)
    parts = [slope1 + slope2] if tied else [slope1, slope2]
    return float(jnp.sqrt(sum(jnp.sum(part**2) for part in parts)))


@pytest.fixture(scope="module")
def solution():
    return solve_large(*random_start(0), clusters(), SIGMA, LAM, TOLERANCE)


def test_it_reaches_a_stationary_point_of_the_exact_loss(solution):
    assert solution.converged
    assert solution.grad_norm <= TOLERANCE
    assert exact_gradient(solution, clusters()) <= 3 * TOLERANCE
    assert solution.evaluations > solution.iterations > 10


def test_the_reported_loss_is_exact_within_the_reported_bound(solution):
    exact = float(exact_loss(solution.w1, solution.w2, clusters(), SIGMA, LAM))
    assert solution.error_bound <= 1e-9 * exact
    assert abs(solution.loss - exact) <= solution.error_bound + 1e-14


def test_stages_and_float32_end_at_the_same_tolerance():
    x, start = clusters(), random_start(1)
    stages = (Stage(N // 2, 4, "float32", 20), Stage())
    staged = solve_large(*start, x, SIGMA, LAM, TOLERANCE, stages=stages)
    assert staged.converged
    assert exact_gradient(staged, x) <= 3 * TOLERANCE
    # Mutant: without the last stage.
    first = solve_large(*start, x, SIGMA, LAM, TOLERANCE, stages=stages[:1])
    assert first.w1.dtype == np.float64
    assert not first.converged
    assert exact_gradient(first, x) > 1e3 * TOLERANCE


def test_tied_weights_are_stationary_in_one_matrix():
    w, x = random_start(2)[0], clusters()
    tied = solve_large(w, w, x, SIGMA, LAM, TOLERANCE, tied=True)
    assert tied.converged
    np.testing.assert_array_equal(tied.w1, tied.w2)
    assert exact_gradient(tied, x, tied=True) <= 3 * TOLERANCE
    # Mutant: a decay that is counted once instead of twice.
    assert exact_gradient(tied, x, lam=LAM / 2, tied=True) > 1e3 * TOLERANCE


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_memorization_from_random_starts_reaches_the_closed_form(seed):
    x = data.simplex(3, 12).x
    start = random_start(seed, 12, 9)
    stored = solve_large(*start, x, 0.05, 1e-3, 1e-8)
    prediction = predict_memorization(x, 0.05, 1e-3, width=9)
    assert stored.converged
    np.testing.assert_allclose(stored.loss, prediction.loss, rtol=1e-8)
    exact = solve_local_minimum(*start, x, 0.05, 1e-3)
    np.testing.assert_allclose(stored.w1 @ stored.w2.T, exact.w1 @ exact.w2.T, atol=1e-4)


def test_the_expansion_is_refined_until_its_bound_is_small_enough():
    w, x = random_start(4), clusters()
    w[:, :, 1] = 0.6 * w[:, :, 0]
    fine = solve_large(*w, x, SIGMA, LAM, TOLERANCE, terms=1, accuracy=1e-10)
    assert fine.terms > 1
    assert fine.exact_pairs >= P
    assert fine.error_bound <= 1e-10 * fine.loss
    assert exact_gradient(fine, x) <= 3 * TOLERANCE
    # Mutant: one term, never refined, stops beside the minimum.
    rough = solve_large(*w, x, SIGMA, LAM, TOLERANCE, terms=1, accuracy=np.inf)
    assert exact_gradient(rough, x) > 1e3 * TOLERANCE
    error = abs(rough.loss - float(exact_loss(rough.w1, rough.w2, x, SIGMA, LAM)))
    assert error <= rough.error_bound < 1e4 * error
    assert error > fine.error_bound


def test_sample_weights_are_those_of_the_objective():
    x, weights = clusters(), np.arange(N) / (N * (N - 1) / 2)
    weighted = solve_large(*random_start(5), x, SIGMA, LAM, TOLERANCE, sample_weight=weights)
    slope = slopes(weighted.w1, weighted.w2, x, SIGMA, LAM, weights)
    assert np.linalg.norm(np.stack(slope)) <= 3 * TOLERANCE


@pytest.mark.parametrize("shape", [(30, 6), (5, 20), (12, 12)])
def test_principal_directions_span_the_data_by_falling_power(shape):
    x = np.random.RandomState(7).normal(size=shape)
    x[:, -1] = x[:, 0]
    frame = principal_directions(x)
    rank = np.linalg.matrix_rank(x)
    assert frame.shape == (shape[1], rank)
    np.testing.assert_allclose(frame.T @ frame, np.eye(rank), atol=1e-12)
    np.testing.assert_allclose(x @ frame @ frame.T, x, atol=1e-6)
    power = np.sum((x @ frame) ** 2, axis=0)
    np.testing.assert_allclose(power, np.linalg.svd(x)[1][:rank] ** 2, rtol=1e-8)


def test_default_stages_end_with_everything():
    for n in (5, 10_000):
        *_, last = default_stages(n, 100)
        assert last == Stage(mixing=n == 10_000)


def nearly_linear():
    """Bright samples, which open nearly all gates of a net that starts near them."""
    random = np.random.default_rng(0)
    x = 4 + random.standard_normal((300, 20)) @ np.diag(np.geomspace(4, 0.1, 20))
    start = np.abs(random.standard_normal((20, 8))) / 4
    return x, start


@pytest.mark.slow  # the second solver takes thousands of steps
@pytest.mark.parametrize("tied", [True, False])
def test_mixing_takes_fewer_steps_to_a_stationary_point(tied):
    x, w = nearly_linear()
    found = [
        solve_large(w, w, x, SIGMA, LAM, 1e-5, tied=tied, stages=(Stage(mixing=mixing),))
        for mixing in (True, False)
    ]
    assert all(solution.converged for solution in found)
    assert all(exact_gradient(solution, x, tied=tied) <= 3e-5 for solution in found)
    assert 3 * found[0].iterations < found[1].iterations


def test_solver_works_in_float64_without_global_x64(run_python):
    code = """
import jax, numpy as np
from dae_theory.data import simplex
from dae_theory.solve.large import solve_large
w = np.random.RandomState(2).normal(size=(2, 12, 6)) / np.sqrt(12)
s = solve_large(*w, simplex(3, 12).x, 0.1, 1e-3, 1e-8)
print(jax.config.jax_enable_x64, s.converged, s.w1.dtype)
"""
    assert run_python(code).split() == ["False", "True", "float64"]


@pytest.mark.parametrize("tied", [True, False])
def test_zero_weights_stay_where_they_are(tied):
    x, w = clusters(), np.zeros((D, P))
    for lam in (0.0, LAM):
        found = solve_large(w, w, x, SIGMA, lam, tied=tied, stages=(Stage(mixing=True),))
        assert np.all(found.w1 == 0)
        np.testing.assert_allclose(found.loss, np.mean(np.sum(x**2, axis=1)), rtol=1e-12)


def test_unusable_input_is_refused():
    x, w = np.eye(3), np.ones((3, 2))
    for arguments, options, message in (
        ((w[:2], w[:2], x, SIGMA, LAM), {}, "W1: has 2 rows, but the samples have 3 features"),
        ((w, w, x * np.nan, SIGMA, LAM), {}, "contains NaN or infinite"),
        ((w, w, x, 0.0, LAM), {}, "sigma: the noise level must be finite and > 0"),
        ((w, w, x, SIGMA, LAM), {"terms": 0}, "terms: must be at least 1"),
        ((w, w, x, SIGMA, LAM), {"stages": ()}, "stages: must be at least 1"),
        ((w, 2 * w, x, SIGMA, LAM), {"tied": True}, "tied: W1 and W2 must be equal"),
    ):
        with pytest.raises(InputError, match=message):
            solve_large(*arguments, **options)
