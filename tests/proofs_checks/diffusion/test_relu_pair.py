"""The net that stores two images: its formula, its flow, and what lies between the two."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dae_theory import data, predict_memorization, relu_denoiser
from dae_theory.diffusion.samplers import sample_ode
from proofs_checks.diffusion import relu_pair
from proofs_checks.diffusion.exact import stored_denoiser
from proofs_checks.diffusion.relu_pair import (
    PAIR_LEVELS,
    StoredPair,
    pair,
    pair_exponent,
    sample_pair,
)

SEEDS = (1000, 1001, 1002, 1003)


@pytest.mark.xdist_group("diffusion-default-pair")
@pytest.mark.parametrize("claim", relu_pair.CLAIMS, ids=lambda claim: claim.id)
def test_measurements_are_finite_and_notes_short(result_of, claim):
    found = result_of("diffusion", "default", claim.id).measured
    assert np.isfinite([found.measured, found.predicted, found.error]).all()
    assert 0 < len(found.note) <= 95
    assert found.seeds == SEEDS


def test_the_stored_denoiser_is_the_net_of_the_closed_form():
    x = data.simplex(3, 8).x
    y = np.random.default_rng(1).standard_normal((20, 8))
    for sigma in (0.01, 0.3, 2.0):
        p = predict_memorization(x, sigma, 0.0)
        expected = relu_denoiser(p.w1, p.w2)(y, sigma)
        np.testing.assert_allclose(stored_denoiser(x)(y, sigma), expected)


@pytest.mark.parametrize("cosine", [-0.25, -0.6])
def test_the_flow_between_two_images_is_the_integral_of_their_gains(cosine):
    # Sum and difference of the coordinates, while both gates are open: SciPy against the sampler.
    x = pair(cosine)
    start = x[0] + 0.98 * x[1]

    def slope(log_sigma, y):
        gain = 1 / (1 + np.exp(2 * log_sigma))
        return y - gain * (np.maximum(x @ y, 0) @ x)

    found = solve_ivp(slope, (np.log(2.0), np.log(0.05)), start, rtol=1e-10, atol=1e-12).y[:, -1]
    sigmas = np.geomspace(2.0, 0.05, 400)
    sampled = sample_ode(stored_denoiser(x), start[None], sigmas)[0]
    np.testing.assert_allclose(sampled, found, rtol=1e-3)
    growth = 0.5 * np.log(4 / 0.05**2 * (1 + 0.05**2) / (1 + 4))
    both_open = found @ x.T
    if np.all(both_open > 0):
        before = start @ x.T
        share = (both_open[0] - both_open[1]) / both_open.sum()
        expected = (before[0] - before[1]) / before.sum() * np.exp(2 * abs(cosine) * growth)
        np.testing.assert_allclose(share, expected, rtol=1e-6)


@pytest.mark.parametrize("cosine", [-0.15, -0.4])
def test_samples_between_images_become_rare_as_predicted(cosine):
    schedules = np.stack([np.geomspace(2.0, last, 60) for last in PAIR_LEVELS])
    samples = sample_pair(StoredPair(SEEDS), cosine, schedules)
    share = np.mean(np.all(samples @ pair(cosine).T > 0, axis=-1), axis=(1, 2))
    slope = np.polyfit(np.log(PAIR_LEVELS), np.log(share), 1)[0]
    assert abs(slope - pair_exponent(cosine)) < 0.1
