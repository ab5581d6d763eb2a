"""Dead-unit claims beyond their verdicts: what the measurements must give."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory import data, exact_loss, predict_memorization, solve_local_minimum
from dae_theory.theory.pull import predict_pull
from proofs_checks.certify import dead_units
from proofs_checks.certify import dead_units_nets as nets
from proofs_checks.claims import Verdict, check

CLAIMS = {claim.id.removeprefix("certify/"): claim for claim in dead_units.CLAIMS}


@pytest.fixture(scope="module")
def experiment():
    return nets.build((0, 1, 2, 3), quick=True)


def run(name, experiment):
    return check(replace(CLAIMS[name], part=""), experiment)


def pull_norms(problem, u_DM):
    return np.linalg.norm(problem.pulls(u_DM), axis=0)


@pytest.mark.xdist_group("certify-default-dead_units")
@pytest.mark.parametrize("name", CLAIMS)
def test_numbers_are_finite_and_the_note_is_short(result_of, name):
    measured = result_of("certify", "default", f"certify/{name}").measured
    assert np.isfinite([measured.measured, measured.predicted, measured.error]).all()
    assert 0 < len(measured.note) <= 95
    assert measured.seeds == (tuple(range(1000, 1008)) if name == "stays-dead" else ())


def test_what_is_expected_to_fail_would_hold_for_clusters_of_duplicates(experiment):
    duplicates = nets.block_problem(nets.QUICK_STARTS, spread=0.0)
    changed = replace(experiment, problems=experiment.problems | {"blocks": duplicates})
    assert run("dead-units-blocks", changed).verdict is Verdict.HOLDS


def test_noise_that_flips_gates_is_vacuous(experiment):
    noisy = nets.memorized(data.simplex(8, 16).x, 0.05, 0.01)
    changed = replace(experiment, problems=experiment.problems | {"simplex": noisy})
    for name in ("dead-units-simplex", "dead-unit-formula", "stays-dead", "growth"):
        assert run(name, changed).verdict is Verdict.VACUOUS


@pytest.mark.parametrize("cosine", [-0.05, -0.3, -0.6])
def test_between_a_pair_the_pull_dips_at_the_bisector(cosine):
    x = data.equiangular_directions(2, 16, cosine)
    pair = nets.memorized(x, min(0.02, -cosine / 10), 0.01)
    bisector = nets.unit(x.sum(axis=0)[:, None])
    across = nets.unit((x[0] - x[1])[:, None])
    # To the edge of the cone where both are active, less 8σ, and to the stored sample.
    edge = np.arccos(np.sqrt((1 - cosine) / 2))
    angle = np.linspace(0, edge - np.arcsin(8 * pair.sigma), 16)
    pull = pull_norms(pair, bisector * np.cos(angle) + across * np.sin(angle)) / 0.01
    inside = np.hypot((1 + cosine) * np.cos(angle), (1 - cosine) * np.sin(angle))
    np.testing.assert_allclose(pull, inside, rtol=1e-8)
    assert np.all(np.diff(pull) > 0)
    np.testing.assert_allclose(
        np.hypot((1 + cosine) * np.cos(edge), (1 - cosine) * np.sin(edge)), np.sqrt(1 - cosine**2)
    )
    np.testing.assert_allclose(pull_norms(pair, x.T) / 0.01, 1, rtol=1e-8)


def test_a_unit_shared_by_two_blocks_is_pulled_by_up_to_twice_lambda(experiment):
    problem = experiment.problems["blocks"]
    mean = problem.x[:4].mean(axis=0) + problem.x[4:].mean(axis=0)
    shared = np.eye(nets.DIMENSION)[:, 2:4] + 0.3 * mean[:, None]
    u = nets.unit(shared)
    assert np.all(problem.x @ u > 6 * problem.sigma)
    predicted = np.linalg.norm(predict_pull(problem.prediction, problem.x, u), axis=0)
    np.testing.assert_allclose(pull_norms(problem, u), predicted, rtol=1e-9)
    assert np.all(1.5 * problem.lam < predicted)
    assert np.all(predicted < 2 * problem.lam)


# --- training --------------------------------------------------------------------------------


@pytest.mark.slow  # a net is solved for, and trained for long
def test_a_forgotten_sample_is_learned_from_a_stationary_net(experiment):
    problem = experiment.forgetful
    net = solve_local_minimum(problem.w1, problem.w2, problem.x, problem.sigma, problem.lam)
    assert net.converged
    solved = replace(problem, w1=net.w1, w2=net.w2)
    u = np.column_stack([solved.certificate.direction, nets.clear_directions(solved)[:, 1:]])
    growth, units = nets.grow_units(solved, u, *nets.LONG)
    w1, w2 = np.column_stack([net.w1, units[0, 0]]), np.column_stack([net.w2, units[0, 1]])
    complete = predict_memorization(problem.x, problem.sigma, problem.lam)
    assert growth[0] > 9
    np.testing.assert_allclose(
        exact_loss(w1, w2, problem.x, problem.sigma, problem.lam), complete.loss, rtol=1e-6
    )


def test_the_rate_is_that_of_gradient_flow():
    # The unit turns while it grows, so the rate holds at the start: extrapolate to time zero.
    problem = nets.forgotten(nets.memorized(data.simplex(8, 16).x, 0.05, 0.01))
    u = nets.random_directions(1, 16, nets.DIRECTIONS)
    predicted = nets.growth_rate(pull_norms(problem, u), problem.lam)
    assert np.min(predicted) < 0 < np.max(predicted)
    longer, shorter = (
        nets.grow_units(problem, u, step, 10)[0] / (10 * step) for step in (0.01, 0.005)
    )
    np.testing.assert_allclose(2 * shorter - longer, predicted, atol=1e-3 * np.max(predicted))


def test_a_violation_at_a_block_minimum_grows_and_lowers_the_loss(experiment):
    problem = experiment.problems["blocks"]
    found = problem.certificate
    assert found.violates
    u = np.tile(found.direction[:, None], nets.DIRECTIONS)
    growth, _ = nets.grow_units(problem, u, 0.25, 40)
    np.testing.assert_allclose(growth / 10, 2 * (found.value - problem.lam), rtol=0.01)
    without, with_it = (
        exact_loss(
            np.column_stack([problem.w1, size * found.direction]),
            np.column_stack([problem.w2, size * found.pull / found.value]),
            problem.x,
            problem.sigma,
            problem.lam,
        )
        for size in (0.0, 1e-3)
    )
    gain = 2e-6 * (found.value - problem.lam)
    np.testing.assert_allclose(without - with_it, gain, rtol=0.02)
