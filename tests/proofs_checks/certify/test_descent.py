"""The descent beside the solver, Newton's method, gradient flow and SciPy's trust region."""

import jax
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

from dae_theory import solve_local_minimum
from dae_theory.solve.derivatives import expansion
from dae_theory.solve.newton import newton_modulo_symmetry
from proofs_checks.blocks import predict_on
from proofs_checks.certify.descent import ARRIVED, descend, longest_step, trust_step
from proofs_checks.certify.reach_sweeps import N, at_cosine, at_spread
from proofs_checks.monte_carlo import exact_loss_value

pytestmark = pytest.mark.xdist_group("certify-default-reach")


def closed_form(problem):
    start = predict_on(problem)
    return np.stack([start.w1, start.w2])


def operators(weights, prediction):
    w1, w2 = weights
    blocks = prediction.blocks
    return [w2[:, blocks == k] @ w1[:, blocks == k].T for k in range(len(prediction.directions))]


@pytest.mark.parametrize("cosine", [-0.2, -0.1, 0.0])
def test_descent_agrees_with_the_solver_on_stored_samples(cosine):
    problem = at_cosine(cosine, 0)
    start = predict_on(problem)
    on = (problem.x, problem.sigma, problem.lam)
    solution = solve_local_minimum(start.w1, start.w2, *on)
    assert solution.converged
    minimum = descend(closed_form(problem), problem)
    np.testing.assert_allclose(minimum.weights, [solution.w1, solution.w2], atol=1e-6)
    assert minimum.losses[1] == pytest.approx(solution.loss, rel=1e-12)
    assert minimum.losses[0] == pytest.approx(exact_loss_value(start.w1, start.w2, *on), rel=1e-12)


def test_descent_agrees_with_newton_where_rotations_are_nearly_flat():
    problem = at_spread(0.1, 0)
    start = predict_on(problem)
    newton = newton_modulo_symmetry(start.w1, start.w2, problem.x, problem.sigma, problem.lam)
    weights = descend(closed_form(problem), problem).weights
    for a, b in zip(
        operators(weights, start), operators((newton.w1, newton.w2), start), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_descent_ends_where_gradient_flow_does_and_scipys_trust_region_elsewhere():
    problem = at_cosine(0.2, 0)
    start = closed_form(problem)
    n = len(problem.x)
    arguments = (problem.x, np.full(n, 1 / n), problem.sigma, problem.lam)

    def expanded(flat):
        with jax.enable_x64(True):
            loss, gradient, hessian = expansion(flat.reshape(start.shape), *arguments)
        return float(loss), np.ravel(gradient), np.asarray(hessian)

    flow = scipy.integrate.solve_ivp(
        lambda time, flat: -expanded(flat)[1],
        (0, 3000),
        start.ravel(),
        method="BDF",
        jac=lambda time, flat: -expanded(flat)[2],
        rtol=1e-6,
        atol=1e-8,
    ).y[:, -1]
    ours = descend(start, problem).weights.ravel()
    assert np.linalg.norm(ours - flow) < 1e-6

    radius = longest_step(start, problem)
    scipys = scipy.optimize.minimize(
        lambda flat: expanded(flat)[:2],
        start.ravel(),
        jac=True,
        hess=lambda flat: expanded(flat)[2],
        method="trust-exact",
        options={
            "initial_trust_radius": radius / 2,
            "max_trust_radius": radius,
            "gtol": ARRIVED,
            "maxiter": 1000,
        },
    )
    assert scipys.success
    assert np.linalg.norm(scipys.x - flow) > 0.1
    assert expanded(scipys.x)[0] != pytest.approx(expanded(flow)[0], rel=1e-6)


@pytest.mark.parametrize("lowest", [-1.0, 0.5])
@pytest.mark.parametrize("radius", [0.1, 10.0])
def test_trust_step_minimizes_the_model_within_the_radius(lowest, radius):
    rng = np.random.default_rng(0)
    values, slope = np.sort([lowest, *rng.uniform(1, 3, 3)]), rng.standard_normal(4)
    step = trust_step(values, slope, radius)

    def model(s):
        return slope @ s + s @ (values * s) / 2

    assert np.linalg.norm(step) <= radius * (1 + 1e-9)
    found = min(
        scipy.optimize.minimize(
            model,
            radius * rng.standard_normal(4) / 4,
            constraints={"type": "ineq", "fun": lambda s: radius**2 - s @ s},
            method="SLSQP",
        ).fun
        for _ in range(8)
    )
    assert model(step) == pytest.approx(found, rel=1e-5)


def test_zero_columns_stay_and_the_loss_never_rises():
    problem = at_cosine(-0.1, 1)
    weights = closed_form(problem) * (np.arange(N) < 3)
    losses = [descend(weights, problem, steps).losses[1] for steps in range(4)]
    assert np.all(np.diff(losses) < 0)
    end = descend(weights, problem).weights
    assert not end[:, :, 3:].any()
