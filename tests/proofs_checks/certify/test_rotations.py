"""Rotations inside blocks: what they change, and the slope along them."""

import numpy as np
import pytest
import scipy.linalg

from proofs_checks.blocks import at_margin, predict_on
from proofs_checks.certify.rotations import ROTATION_MARGIN, rotate_blocks, rotated_loss
from proofs_checks.monte_carlo import exact_loss_value

pytestmark = pytest.mark.xdist_group("certify-default-rotations")


@pytest.fixture(scope="module")
def problem(experiment_of):
    return at_margin(experiment_of("certify", "default").rotations.problems[0], ROTATION_MARGIN)


def blocks_of(prediction):
    return np.stack([prediction.w1[:, prediction.blocks == k] for k in range(3)])


def test_rotations_leave_the_loss_formula_alone_and_move_the_loss(problem):
    b, p = problem, predict_on(problem)
    generator = np.triu(np.random.default_rng(0).standard_normal((4, 4)), 1)
    turn = scipy.linalg.expm(0.2 * (generator - generator.T))
    w = np.hstack([block @ turn for block in blocks_of(p)])
    even, turned = (exact_loss_value(v, v, b.x, b.sigma, b.lam) for v in (p.w1, w))
    assert np.allclose(w @ w.T, p.w1 @ p.w1.T)
    assert turned - p.loss > 10 * (even - p.loss) > 0

    angles = np.tile(0.2 * generator[np.triu_indices(4, 1)], (3, 1))
    np.testing.assert_allclose(rotate_blocks(blocks_of(p), angles), w, atol=1e-12)
    assert rotated_loss(blocks_of(p), angles, b)[0] == pytest.approx(turned, rel=1e-12)


def test_slope_along_rotations_is_that_of_differences(problem):
    noisy = at_margin(problem, 1.0)
    w = blocks_of(predict_on(noisy))
    angles = 0.3 * np.random.default_rng(1).standard_normal((3, 6))
    step, differences = 1e-4, []
    for direction in np.eye(angles.size).reshape(-1, *angles.shape):
        ahead, behind = (rotated_loss(w, angles + s * direction, noisy)[0] for s in (step, -step))
        differences.append((ahead - behind) / (2 * step))
    slope = rotated_loss(w, angles, noisy)[1]
    np.testing.assert_allclose(slope.ravel(), differences, atol=1e-6 * np.max(abs(slope)))
