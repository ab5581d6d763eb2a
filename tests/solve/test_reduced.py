"""Parallel units merged, or repeats of a sample: neither loss nor size of its gradient changes."""

import numpy as np
import pytest

from dae_theory.relu.loss import exact_loss
from dae_theory.solve.derivatives import loss_and_gradient_norm, value_and_grad
from dae_theory.solve.reduced import (
    FEW_UNITS,
    common_span,
    distinct_samples,
    few_units,
    frames_of_one_size,
    merge_parallel,
    program_size,
    weight_frames,
)

D, P, SPLITS = 5, 4, 40


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
    norms = [loss_and_gradient_norm(*net, x_ND, 0.3, 0.1)[1] for net in (whole, split)]
    np.testing.assert_allclose(*norms, rtol=1e-11)


def test_few_units_stay_as_they_are():
    whole, split = split_net()
    np.testing.assert_array_equal(few_units(*whole), whole)
    assert few_units(*split)[0].shape == (D, P)
    zeros = np.zeros((D, FEW_UNITS + 1))
    assert few_units(zeros, zeros)[0].shape == (D, 0)


@pytest.mark.parametrize("shape", [(3, 5, 9), (7, 40, 6)])
def test_frames_filled_up_have_the_loss_and_the_gradient_of_the_net(shape):
    n, d, p = shape
    rng = np.random.default_rng(n)
    w1, w2 = rng.standard_normal((2, d, p)) / np.sqrt(d)
    x, weight = rng.standard_normal((n, d)), rng.dirichlet(np.ones(n))
    loss, gradient = value_and_grad(np.stack([w1, w2]), x, weight, 0.3, 0.1)
    found = loss_and_gradient_norm(w1, w2, x, 0.3, 0.1, weight)
    np.testing.assert_allclose(found, (loss, np.linalg.norm(gradient)), rtol=1e-12)
    framed, x_MR, weight_M = frames_of_one_size(w1, w2, x, weight)
    assert framed.shape == (2, x_MR.shape[1], program_size(p))
    assert x_MR.shape == (len(weight_M), program_size(min(d, n + p)))
    np.testing.assert_allclose(weight_M.sum(), 1)


def test_sizes_of_programs_are_few_and_near():
    counts = np.arange(1, 3000)
    sizes = np.array([program_size(int(count)) for count in counts])
    assert np.all((sizes >= counts) & (sizes % 4 == 0))
    assert np.all((sizes - counts)[counts >= 32] <= counts[counts >= 32] / 8)
    assert len(set(sizes)) < 70
    assert [program_size(int(size)) for size in sizes] == sizes.tolist()


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
