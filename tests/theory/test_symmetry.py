"""Symmetry directions against the loss and counted ranks; distances against brute force."""

from functools import partial

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from dae_theory import InputError, data, exact_loss, predict_blocks
from dae_theory.theory.symmetry import (
    distance_modulo_symmetry,
    flat_directions,
    gate_groups,
    rotation_directions,
)

SIGMA, LAM, D = 0.02, 1e-4, 8


def problem():
    """Two clusters of rank 3, seen by blocks of 4 (over-rank), 2 units."""
    x, labels = data.separable_mixture(2, D, rank=2, beta=-1.0, alpha=0.1).sample(0, 12)
    return x, predict_blocks(x, labels, (4, 2), SIGMA, LAM)


def random_weights(seed, ranks, widths):
    """Stacked weights (2, D, P) whose groups have the given ranks, and the groups."""
    rng = np.random.default_rng(seed)
    blocks = [
        rng.standard_normal((2 * D, rank)) @ rng.standard_normal((rank, width))
        for rank, width in zip(ranks, widths, strict=True)
    ]
    groups = np.repeat(np.arange(len(widths)), widths)
    return np.concatenate(blocks, axis=1).reshape(2, D, -1), groups


def random_rotation(rng, groups):
    """Orthogonal (P, P) that mixes units of one group only."""
    q = np.eye(len(groups))
    for k in np.unique(groups[groups >= 0]):
        units = np.flatnonzero(groups == k)
        q[np.ix_(units, units)] = scipy.stats.ortho_group.rvs(len(units), random_state=rng)
    return q


# --- groups ----------------------------------------------------------------------------------


def test_groups_are_the_blocks_and_zero_columns_have_none():
    x, p = problem()
    np.testing.assert_array_equal(gate_groups(p.w1, x), p.blocks)
    order = np.array([4, 0, 5, 1, 2, 3])
    w1 = np.insert(p.w1[:, order], 1, 0, axis=1)
    np.testing.assert_array_equal(gate_groups(w1, x), [0, -1, 1, 0, 1, 1, 1])


# --- directions ------------------------------------------------------------------------------

CASES = {  # ranks, widths
    "full rank": ((3, 2), (3, 2)),
    "over-rank": ((2, 3), (5, 4)),
    "one stored sample, split": ((1, 1), (4, 1)),
    "more units than features": ((3,), (20,)),
}


@pytest.mark.parametrize("case", CASES)
def test_directions_are_an_orthonormal_basis_of_all_rotations(case):
    ranks, widths = CASES[case]
    weights, groups = random_weights(0, ranks, widths)
    found = rotation_directions(*weights, groups).reshape(-1, weights.size)
    assert len(found) == flat_directions(widths, ranks)
    np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-12)
    moves = []  # every antisymmetric generator by itself
    for i, j in zip(*np.triu_indices(len(groups), 1), strict=True):
        if groups[i] == groups[j]:
            a = np.zeros((len(groups), len(groups)))
            a[i, j], a[j, i] = 1, -1
            moves.append((weights @ a).ravel())
    moves = np.array(moves).reshape(-1, weights.size)
    assert np.linalg.matrix_rank(moves, tol=1e-8) == len(found)
    np.testing.assert_allclose(moves @ found.T @ found, moves, atol=1e-11)


def test_directions_of_a_shared_rank_are_fewer_than_full_rank_predicts():
    weights, groups = random_weights(1, (2,), (5,))
    assert len(rotation_directions(*weights, groups)) == 7 != flat_directions((5,), (5,))


@pytest.mark.parametrize(("small", "count"), [(1e-2, 3), (1e-4, 3), (1e-7, 3), (1e-10, 2)])
def test_rotations_of_small_directions_count_down_to_rounding(small, count):
    frames = [scipy.stats.ortho_group.rvs(n, random_state=n)[:, :3] for n in (2 * D, 3)]
    weights = (frames[0] * [1, small, small]) @ frames[1].T
    assert len(rotation_directions(*weights.reshape(2, D, 3), np.zeros(3, int))) == count


def test_units_without_a_group_and_single_units_have_no_direction():
    weights, _ = random_weights(2, (3,), (3,))
    assert rotation_directions(*weights, np.full(3, -1)).shape == (0, 2, D, 3)
    assert rotation_directions(*weights, np.arange(3)).shape == (0, 2, D, 3)
    found = rotation_directions(*weights, np.array([0, -1, 0]))
    assert len(found) == 1
    assert not found[..., 1].any()


def test_loss_is_constant_along_rotations_and_not_across_blocks():
    x, p = problem()
    assert p.margin > 8
    weights = np.stack([p.w1, p.w2])
    at = partial(exact_loss, x_ND=x, sigma=SIGMA, lam=LAM)
    within, across = np.zeros((2, 6, 6))
    within[0, 1], within[4, 5], across[0, 4] = 1, 1, 1
    for angle in (1e-3, 0.03):
        for generator, is_flat in ((within, True), (across, False)):
            turned = weights @ scipy.linalg.expm(angle * (generator - generator.T))
            change = abs(float(at(*turned)) - float(at(*weights)))
            assert change < 1e-14 if is_flat else change > 0.01 * angle**2


def test_directions_are_null_directions_of_the_loss():
    x, p = problem()
    weights = np.stack([p.w1, p.w2])
    found = rotation_directions(p.w1, p.w2, p.blocks)
    assert len(found) == flat_directions((4, 2), (3, 2)) == 7
    step, rng = 2e-4, np.random.default_rng(0)  # rounding over step², and step²: both below 3e-8
    others = rng.standard_normal((3, *weights.shape))
    others /= np.sqrt(np.sum(others**2, axis=(1, 2, 3), keepdims=True))
    at = partial(exact_loss, x_ND=x, sigma=SIGMA, lam=LAM)

    def curvature(direction):
        ends = (float(at(*(weights + s * step * direction))) for s in (-1, 1))
        return (sum(ends) - 2 * float(at(*weights))) / step**2

    assert max(abs(curvature(v)) for v in found) < 1e-7
    assert min(curvature(v) for v in others) > 1e-2


def test_flat_directions_of_theory():
    assert flat_directions((4, 4, 4), (4, 4, 4)) == 18
    assert flat_directions((5,), (1,)) == 4
    assert flat_directions((0, 1), (0, 1)) == 0


# --- distances -------------------------------------------------------------------------------


def test_distance_is_the_least_over_rotations():
    w, groups = random_weights(3, (3, 2), (3, 2))
    v, _ = random_weights(4, (3, 2), (3, 2))
    found = distance_modulo_symmetry(w, groups, v, groups)
    rng = np.random.default_rng(5)
    tried = [np.linalg.norm(w @ random_rotation(rng, groups) - v) for _ in range(2000)]
    assert found <= min(tried) < 1.2 * found
    nuclear = sum(
        np.linalg.norm(np.concatenate(w[:, :, g]).T @ np.concatenate(v[:, :, g]), "nuc")
        for g in (groups == 0, groups == 1)
    )
    square = np.sum(w**2) + np.sum(v**2) - 2 * nuclear
    assert found == pytest.approx(np.sqrt(square), rel=1e-10)


def test_rotated_permuted_and_split_copies_are_the_same_point():
    w, groups = random_weights(6, (3, 2), (3, 2))
    scale, rng = np.linalg.norm(w), np.random.default_rng(7)
    rotated = w @ random_rotation(rng, groups)
    assert distance_modulo_symmetry(rotated, groups, w, groups) < 1e-13 * scale
    order = rng.permutation(5)
    assert distance_modulo_symmetry(w[..., order], groups[order], w, groups) < 1e-13 * scale
    split = np.concatenate([w * np.where(np.arange(5) == 1, 0.6, 1.0), 0.8 * w[..., 1:2]], axis=2)
    groups_of_split = np.append(groups, 0)
    assert distance_modulo_symmetry(split, groups_of_split, w, groups) < 1e-13 * scale
    assert distance_modulo_symmetry(w, groups, split, groups_of_split) < 1e-13 * scale


def test_distance_keeps_its_digits():
    w, groups = random_weights(8, (3, 2), (3, 2))
    away = np.random.default_rng(9).standard_normal(w.shape)
    flat = rotation_directions(*w, groups).reshape(-1, w.size)
    away = away - (flat.T @ (flat @ away.ravel())).reshape(w.shape)  # rotations would shorten it
    away /= np.linalg.norm(away)
    found = distance_modulo_symmetry(w + 1e-9 * away, groups, w, groups)
    assert found == pytest.approx(1e-9, rel=1e-4)


def test_units_in_no_group_and_groups_on_one_side_are_held_against_zero():
    w, _ = random_weights(10, (3, 2), (3, 2))
    none, own = np.full(5, -1), np.array([0, 0, 0, 7, 7])
    assert distance_modulo_symmetry(w, none, 0 * w, none) == pytest.approx(np.linalg.norm(w))
    found = distance_modulo_symmetry(w, own, w[..., :3], own[:3])
    assert found == pytest.approx(np.linalg.norm(w[..., 3:]))


def test_bad_input():
    w, groups = random_weights(11, (3, 2), (3, 2))
    with pytest.raises(InputError, match="reference: 3 features, but the weights have 8"):
        distance_modulo_symmetry(w, groups, w[:, :3], groups)
    with pytest.raises(InputError, match="weights: expected one group for each of 5 units"):
        distance_modulo_symmetry(w, groups[:4], w, groups)
    with pytest.raises(InputError, match="reference: contains NaN"):
        distance_modulo_symmetry(w, groups, w * np.nan, groups)
    with pytest.raises(InputError, match="differ in shape"):
        rotation_directions(w[0], w[1, :, :4], groups)
    with pytest.raises(InputError, match="weights: expected one group"):
        rotation_directions(*w, groups[:4])
