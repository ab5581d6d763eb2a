"""Spikiness statistics in closed cases, and merging split units."""

import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory import InputError, merge_groups, spikiness
from dae_theory.relu import units

WIDTH = 9
SCALE_FREE = ("l4_l2", "participation_ratio", "hoyer", "top1_share")


def assert_statistics(h, **expected):
    measured = spikiness(h)
    assert set(measured) == {"std", "n_active", *SCALE_FREE}
    for name, value in expected.items():
        np.testing.assert_allclose(measured[name], value, atol=1e-12)


def test_one_active_unit():
    std = 3 * np.sqrt(WIDTH - 1) / WIDTH  # of one 3 among zeros
    assert_statistics(
        3 * np.eye(WIDTH)[4],
        std=std,
        l4_l2=1,
        participation_ratio=1,
        hoyer=1,
        top1_share=1,
        n_active=1,
    )


def test_flat_representation():
    assert_statistics(
        np.full(WIDTH, 0.7),
        std=0,
        l4_l2=WIDTH**-0.25,
        participation_ratio=WIDTH,
        hoyer=0,
        top1_share=1 / WIDTH,
        n_active=WIDTH,
    )


def test_some_equal_units_among_zeros():
    assert_statistics(
        np.array([2.0, 2, 2, 2, 0, 0, 0, 0, 0]),
        std=2 * np.sqrt(4 * 5) / 9,
        l4_l2=4**-0.25,
        participation_ratio=4,
        hoyer=(3 - 2) / (3 - 1),
        top1_share=0.25,
        n_active=4,
    )


def test_zero_representation_is_undefined_without_a_warning():
    measured = spikiness(np.zeros((2, WIDTH)))
    for name in SCALE_FREE:
        assert np.all(np.isnan(measured[name]))
    np.testing.assert_array_equal(measured["std"], 0)
    np.testing.assert_array_equal(measured["n_active"], 0)


def test_single_unit_has_no_hoyer_sparsity():
    assert np.isnan(spikiness(np.ones((3, 1)))["hoyer"]).all()


def test_all_but_the_standard_deviation_are_scale_free():
    h = np.maximum(np.random.RandomState(0).normal(size=(5, 20)), 0)
    base, scaled = spikiness(h), spikiness(1e3 * h)
    for name in (*SCALE_FREE, "n_active"):
        np.testing.assert_allclose(scaled[name], base[name], rtol=1e-12)
    np.testing.assert_allclose(scaled["std"], 1e3 * base["std"], rtol=1e-12)


def test_leading_axes_are_kept_and_units_may_be_permuted():
    h = np.random.RandomState(1).uniform(size=(2, 3, 7))
    permuted = spikiness(h[..., [3, 1, 0, 6, 5, 4, 2]])
    for name, value in spikiness(h).items():
        assert value.shape == (2, 3)
        np.testing.assert_allclose(permuted[name], value, rtol=1e-12)
        np.testing.assert_allclose(value[1, 2], spikiness(h[1, 2])[name], rtol=1e-12)


@pytest.mark.parametrize("h", [np.float64(1.0), np.zeros((3, 0))])
def test_a_representation_without_units_is_refused(h):
    with pytest.raises(InputError, match="h: expected at least one unit"):
        spikiness(h)


def test_units_are_live_beside_the_largest_of_their_own_net():
    """Products 4, 1.2e-3·4 and .8e-3·4, in one net and in another a million times larger."""
    w1 = np.diag([2.0, 2.0, 2.0])
    w2 = np.diag([2.0, 1.2e-3 * 2, 0.8e-3 * 2])
    for xp in (np.asarray, jnp.asarray):
        both = xp(np.stack([w1, 1e6 * w1])), xp(np.stack([w2, w2]))
        np.testing.assert_array_equal(units.live_units(*both), [[True, True, False]] * 2)
        np.testing.assert_array_equal(units.live_units(xp(w1), xp(w2)), [True, True, False])


def test_merging_undoes_a_split():
    h = np.maximum(np.random.RandomState(2).normal(size=(6, 4)), 0)
    split = np.column_stack([0.6 * h[:, 0], h[:, 1:], 0.8 * h[:, 0]])
    np.testing.assert_allclose(merge_groups(split, np.array([0, 1, 2, 3, 0])), h, atol=1e-14)


def test_merging_leaves_out_negative_groups():
    h = np.array([[3.0, 4.0, 7.0, 1.0]])
    np.testing.assert_allclose(merge_groups(h, np.array([0, 0, -1, 1])), [[5, 1]])
    assert merge_groups(h, np.full(4, -1)).shape == (1, 0)


def test_parallel_columns_are_one_group():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 3))
    many = np.concatenate([w, 2 * w[:, [2, 0]], -w[:, :1], np.zeros((4, 1))], axis=1)
    assert units.parallel_groups(many).tolist() == [0, 1, 2, 2, 0, 3, 4]
    decoder = np.ones((4, many.shape[1]))
    assert units.collinear_groups(many, decoder).tolist() == [0, 1, 2, 2, 0, 3, -1]
