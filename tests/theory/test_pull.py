"""The pull on a new unit at the closed forms against the exact one."""

import numpy as np
import pytest

from dae_theory.checks import InputError
from dae_theory.data.mixtures import separable_mixture, simplex
from dae_theory.minima.dead_units import first_variation
from dae_theory.theory.closed_forms import (
    block_eigenvalues,
    predict_blocks,
    predict_generalization,
    predict_memorization,
)
from dae_theory.theory.pull import predict_pull

D, SIGMA, CLEAR = 16, 0.02, 8.0  # noise standard deviations that u keeps from every gate
DIRECTIONS = 32


def clusters():
    """Two tight clusters of rank 4, and the eigenvalues of each."""
    mixture = separable_mixture(2, D, rank=3, beta=-1.0, alpha=0.2, seed=3)
    x_ND, labels_N = mixture.sample(3, 16)
    return x_ND, labels_N, block_eigenvalues(x_ND, labels_N)


def clear_directions(x_ND, labels_N):
    """Random directions active on whole clusters, away from every gate."""
    u_DM = np.random.default_rng(0).standard_normal((D, 4000))
    u_DM /= np.linalg.norm(u_DM, axis=0)
    towards_NM = np.sign([x_ND[labels_N == k].mean(axis=0) @ u_DM for k in labels_N])
    clear_M = np.all(towards_NM * (x_ND @ u_DM) >= CLEAR * SIGMA, axis=0)
    return u_DM[:, clear_M][:, :DIRECTIONS]


def predict(widths, decay):
    """Samples, directions and (4), with nλ at ``decay`` of the spectra of both clusters."""
    x_ND, labels_N, spectra = clusters()
    prediction = predict_blocks(x_ND, labels_N, widths, SIGMA, decay(*spectra) / len(x_ND))
    return x_ND, clear_directions(x_ND, labels_N), prediction


def kept_alone(prediction, u_DM):
    """λ Σ_{k∈A} U_kU_kᵀ u."""
    pull_DM = np.zeros_like(u_DM)
    for u_DR, m in zip(prediction.directions, prediction.gains, strict=True):
        kept_DR = u_DR[:, m > 0]
        pull_DM += prediction.lam * kept_DR @ ((kept_DR[:, 0] @ u_DM > 0) * (kept_DR.T @ u_DM))
    return pull_DM


@pytest.mark.parametrize(
    ("widths", "decay", "kept"),
    [
        pytest.param((4, 4), lambda s, t: 0.3 * min(s[3], t[3]), (4, 4), id="all kept"),
        pytest.param((4, 4), lambda s, t: 1.5 * max(s[2], t[2]), (2, 2), id="threshold"),
        pytest.param((2, 2), lambda s, t: 0.5 * min(s[2], t[2]), (2, 2), id="width"),
        pytest.param((2, 4), lambda s, t: 0.5 * (t[2] + t[3]), (2, 3), id="both"),
    ],
)
def test_pull_at_blocks_equals_the_exact_one(widths, decay, kept):
    x_ND, u_DM, prediction = predict(widths, decay)
    assert prediction.margin > 7
    assert tuple(int(np.sum(m > 0)) for m in prediction.gains) == kept
    assert u_DM.shape == (D, DIRECTIONS)
    exact_DM = np.asarray(first_variation(u_DM, prediction.w1, prediction.w2, x_ND, SIGMA))
    predicted_DM = predict_pull(prediction, x_ND, u_DM)
    np.testing.assert_allclose(predicted_DM, exact_DM, atol=1e-8 * prediction.lam)
    dropped_M = np.sum(u_DM * (predicted_DM - kept_alone(prediction, u_DM)), axis=0)
    assert np.all(dropped_M >= -1e-12 * prediction.lam)
    if kept == (4, 4):
        assert np.max(dropped_M) < 1e-12 * prediction.lam


def test_dropped_directions_pull_with_their_eigenvalue():
    """Below λ by the threshold, above λ by the width."""
    for widths, share in (((4, 4), 1.5), ((2, 2), 0.5)):
        x_ND, _, prediction = predict(widths, lambda s, t, share=share: share * max(s[2], t[2]))
        members_ND = x_ND[prediction.labels == 0]
        values, vectors = np.linalg.eigh(members_ND.T @ members_ND)
        leading_D, dropped_D = vectors[:, -1], vectors[:, -3]
        leading_D = leading_D * np.sign(leading_D @ members_ND.mean(axis=0))
        u_D = leading_D + 1e-3 * dropped_D
        pull_D = predict_pull(prediction, x_ND, u_D[:, None])[:, 0]
        assert leading_D @ pull_D == pytest.approx(prediction.lam)
        along = dropped_D @ pull_D / 1e-3
        assert along == pytest.approx(values[-3] / len(x_ND))
        assert (along > prediction.lam) == (share < 1)


def test_pull_at_stored_samples_is_lambda_at_each_of_them():
    x_ND = simplex(5, D).x
    prediction = predict_memorization(x_ND, SIGMA, 0.01)
    pull_DN = predict_pull(prediction, x_ND, x_ND.T)
    np.testing.assert_allclose(pull_DN, 0.01 * x_ND.T, rtol=1e-12, atol=1e-15)


def test_population_limit_has_no_samples():
    mixture = separable_mixture(2, D, rank=3, beta=-1.0, alpha=0.2)
    parts = mixture.means, mixture.covs, mixture.priors
    prediction = predict_generalization(*parts, (4, 4), SIGMA, 0.01)
    with pytest.raises(InputError, match="made for samples"):
        predict_pull(prediction, np.eye(2, D), np.eye(D))
