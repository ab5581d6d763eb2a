"""Parallel units merged, or repeats of a sample: neither loss nor size of its gradient changes."""

import jax
import numpy as np

from dae_theory.relu.loss import exact_loss as plain_loss
from dae_theory.solve.derivatives import gradient_norm
from dae_theory.solve.reduced import (
    FEW_UNITS,
    common_span,
    distinct_samples,
    few_units,
    merge_parallel,
    weight_frames,
)

D, P, SPLITS = 5, 4, 40
exact_loss = jax.jit(plain_loss)


def split_net():
    """A net, and the same with each unit split into SPLITS parts and zero columns in between."""
    rng = np.random.default_rng(0)
    w1, w2 = rng.standard_normal((2, D, P))
    shares = np.sqrt(rng.dirichlet(np.ones(SPLITS), P)).T
    many = [np.concatenate([s * w for s in shares] + [np.zeros((D, 3))], axis=1) for w in (w1, w2)]
    order = rng.permutation(many[0].shape[1])
    return (w1, w2), tuple(w[:, order] for w in many)


def test_parallel_units_become_one():
    whole, split = split_net()
    merged = merge_parallel(*split)
    assert merged[0].shape == (D, P)
    key = np.argsort(merged[0][0]), np.argsort(whole[0][0])
    for found, expected in zip(merged, whole, strict=True):
        np.testing.assert_allclose(found[:, key[0]], expected[:, key[1]], rtol=1e-12)


def test_loss_and_gradient_norm_do_not_change():
    whole, split = split_net()
    x_ND = np.random.default_rng(1).standard_normal((3, D))
    np.testing.assert_allclose(
        exact_loss(*merge_parallel(*split), x_ND, 0.3, 0.1),
        exact_loss(*split, x_ND, 0.3, 0.1),
        rtol=1e-12,
    )
    assert split[0].shape[1] > FEW_UNITS
    norms = [gradient_norm(*net, x_ND, 0.3, 0.1) for net in (whole, split)]
    np.testing.assert_allclose(*norms, rtol=1e-11)


def test_few_units_stay_as_they_are():
    whole, split = split_net()
    np.testing.assert_array_equal(few_units(*whole), whole)
    assert few_units(*split)[0].shape == (D, P)
    zeros = np.zeros((D, FEW_UNITS + 1))
    assert few_units(zeros, zeros)[0].shape == (D, 0)


def test_repeats_are_one_sample_with_their_weight():
    whole, _ = split_net()
    x_ND = np.random.default_rng(1).standard_normal((3, D))
    weight_N = np.array([0.1, 0.2, 0.3, 0.4])
    few, weight_M = distinct_samples(x_ND[[0, 1, 0, 2]], weight_N)
    assert few.shape == (3, D)
    losses = [
        exact_loss(*whole, x, 0.3, 0.1, sample_weight=weight)
        for x, weight in ((x_ND[[0, 1, 0, 2]], weight_N), (few, weight_M))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-13)
    found, weight = distinct_samples(x_ND, np.ones(3))
    assert found is x_ND  # in their order
    np.testing.assert_array_equal(weight, 1)


def test_nets_of_one_size_have_frames_of_one_size():
    """Whatever part of them is inside the span of the samples."""
    x_ND = np.random.default_rng(1).standard_normal((2, 9))
    inside_DR, random = common_span(x_ND.T), np.random.default_rng(2)
    for part_DR in (inside_DR, np.eye(9)[:, :3], np.eye(9)):
        weights_2DP = part_DR @ random.standard_normal((2, part_DR.shape[1], P))
        frames, reduced_2RP, x_NR = weight_frames(weights_2DP, x_ND)
        assert reduced_2RP.shape == (2, 2 + P, P)
        assert x_NR.shape == (2, 2 + P)
        for frame_DR, w_RP, w_DP in zip(frames, reduced_2RP, weights_2DP, strict=True):
            used = frame_DR.shape[1]
            np.testing.assert_allclose(frame_DR @ w_RP[:used], w_DP, atol=1e-13)
            assert not w_RP[used:].any()
        np.testing.assert_allclose(frames[0] @ x_NR[:, : frames[0].shape[1]].T, x_ND.T, atol=1e-13)
