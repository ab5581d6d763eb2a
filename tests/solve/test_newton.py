"""Newton's method along rotations inside blocks, where the loss is all but flat."""

import numpy as np
import pytest

from dae_theory import InputError, data, predict_memorization
from dae_theory.relu.loss import exact_loss
from dae_theory.solve import newton
from dae_theory.solve.derivatives import expansion
from dae_theory.solve.newton import newton_along_rotations, newton_modulo_symmetry
from dae_theory.theory.problem import Problem
from proofs_checks.blocks import at_margin, predict_on


def clusters(margin):
    """Two clusters of three samples, with two units each, and (4)."""
    mixture = data.separable_mixture(2, 4, rank=2, beta=-0.5, alpha=0.05, seed=0)
    x, labels = mixture.sample(0, 6)
    problem = at_margin(Problem(x, 1e-2, 1e-5, labels, (2, 2)), margin)
    return problem, predict_on(problem)


def turned(w, blocks, angle):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.hstack([w[:, blocks == k] @ rotation for k in (0, 1)])


def settled(problem, w):
    return newton_along_rotations(w, w, problem.x, problem.sigma, problem.lam)


def loss_of(problem, w1, w2):
    return float(exact_loss(w1, w2, problem.x, problem.sigma, problem.lam))


@pytest.mark.parametrize("margin", [4.0, 5.0])
def test_all_rotations_end_in_one_strict_minimum(margin):
    problem, p = clusters(margin)
    ends = [settled(problem, turned(p.w1, p.blocks, angle)) for angle in (0.0, 0.2)]
    share = np.full(len(problem.x), 1 / len(problem.x))
    for end in ends:
        assert end.converged
        assert end.grad_norm < 1e-14
        weights = np.stack([end.w1, end.w2])
        hessian = expansion(weights, problem.x, share, problem.sigma, problem.lam)[2]
        assert np.linalg.eigvalsh(np.asarray(hessian))[0] > 1e-10
        # One may have the units of a block exchanged.
        for one, other in zip((end.w1, end.w2), (ends[0].w1, ends[0].w2), strict=True):
            np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-6)
    assert ends[1].loss == pytest.approx(ends[0].loss, abs=1e-13)


def test_modulo_symmetry_a_rotation_still_lowers_the_loss():
    """What the loss itself says, at angles on both sides of either end."""
    problem, p = clusters(4.0)
    end = settled(problem, p.w1)
    stop = newton_modulo_symmetry(p.w1, p.w1, problem.x, problem.sigma, problem.lam)
    assert loss_of(problem, end.w1, end.w2) < loss_of(problem, stop.w1, stop.w2) - 1e-10
    lowest = []
    for net in (end, stop):
        losses = [
            loss_of(problem, *(turned(w, p.blocks, angle) for w in net[:2]))
            for angle in (-1e-2, 0.0, 1e-2)
        ]
        lowest.append(int(np.argmin(losses)))
    assert lowest[0] == 1
    assert lowest[1] != 1


def test_a_hessian_serves_for_several_steps(monkeypatch):
    problem, p = clusters(4.0)
    taken, plain = [], newton.expansion
    monkeypatch.setattr(newton, "expansion", lambda *a: taken.append(a[0]) or plain(*a))
    start = turned(p.w1, p.blocks, 0.1)
    stop = newton_modulo_symmetry(start, start, problem.x, problem.sigma, problem.lam)
    assert stop.converged
    assert 1 <= len(taken) < stop.iterations


def test_without_rotations_it_is_newton_modulo_symmetry():
    x = data.simplex(3, 4).x
    p = predict_memorization(x, 0.2, 0.02)
    along = newton_along_rotations(p.w1, p.w2, x, 0.2, 0.02)
    modulo = newton_modulo_symmetry(p.w1, p.w2, x, 0.2, 0.02)
    np.testing.assert_allclose(along.w1, modulo.w1, atol=1e-13)
    assert along.converged


def test_where_gates_are_too_near_it_says_that_it_did_not_converge():
    problem, p = clusters(3.0)
    assert not settled(problem, p.w1).converged


def test_zero_columns_stay_and_bad_input_is_refused():
    problem, p = clusters(4.0)
    w = np.insert(p.w1, 1, 0.0, axis=1)
    end = settled(problem, w)
    assert end.converged
    assert not end.w1[:, 1].any()
    with pytest.raises(InputError, match="lam"):
        newton_along_rotations(w, w, problem.x, problem.sigma, 0.0)
    with pytest.raises(InputError, match="sigma"):
        newton_along_rotations(w, w, problem.x, -1.0, 0.1)
