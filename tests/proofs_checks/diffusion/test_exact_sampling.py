"""Experiments with exact denoisers: what their measurements are made of."""

import jax
import numpy as np
import pytest

from dae_theory.diffusion.denoisers import gaussian_denoiser
from proofs_checks.diffusion import exact


@pytest.mark.xdist_group("diffusion-default-exact")
@pytest.mark.parametrize("claim", exact.CLAIMS, ids=lambda claim: claim.id)
def test_measurements_are_finite_and_notes_short(result_of, claim):
    found = result_of("diffusion", "default", claim.id).measured
    assert np.isfinite([found.measured, found.predicted, found.error]).all()
    assert 0 < len(found.note) <= 95
    nothing_is_random = claim.measure is exact.copies_on_the_way
    assert found.seeds == (() if nothing_is_random else tuple(range(1000, 1008)))


def test_distances_are_to_training_samples_of_the_same_seed():
    x = np.array([[[0.0, 0.0], [10.0, 0.0]], [[20.0, 0.0], [40.0, 0.0]]])
    samples = np.array([[[1.0, 0.0], [0.0, 1.0], [13.0, 0.0], [20.0, 7.0]]])
    np.testing.assert_allclose(exact.rms_distance(samples, x), [[1.0], [7.0]])


def test_the_denoiser_of_a_seed_knows_its_samples():
    x = np.array([[[0.0, 1.0], [10.0, 0.0]], [[20.0, 0.0], [40.0, 0.0]]])
    near = exact.ExactSampling((0, 1), x).denoiser(x.reshape(-1, 2) + 0.1, 0.01)
    np.testing.assert_allclose(near, x.reshape(-1, 2))


@pytest.mark.parametrize("sampler", [exact.euler, exact.heun, exact.late_corrector])
def test_steps_of_no_length_change_nothing(sampler):
    short, long = np.geomspace(3.0, 0.1, 5), np.geomspace(3.0, 0.1, 9)
    padded = exact.equally_long([short, long])
    np.testing.assert_array_equal(padded[0], [3.0] * 4 + short.tolist())
    np.testing.assert_array_equal(padded[1], long)
    denoiser = gaussian_denoiser(np.ones(2), np.diag([4.0, 0.5]))
    start = 3.0 * np.random.default_rng(0).standard_normal((6, 2))
    sample = jax.jit(lambda sigmas: sampler(denoiser, start, sigmas))
    np.testing.assert_allclose(sample(padded[0]), sample(short), rtol=1e-12)
