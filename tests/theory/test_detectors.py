"""Predicted scores of detectors against draws from predicted nets, in NumPy, and their limits."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dae_theory import InputError
from dae_theory.data.mixtures import separable_mixture
from dae_theory.statistics import area_under_roc
from dae_theory.theory.closed_forms import predict_blocks, predict_hybrid_gain
from dae_theory.theory.detectors import (
    block_response,
    condition_law,
    energy_law,
    error_law,
    gap_area,
    gap_mean,
    participation_area,
    participation_ratio,
    predict_auroc,
    predict_tpr,
    std_law,
    stored_response,
    trace_law,
)
from dae_theory.theory.quadratic import QuadraticLaw

SIGMA, N, D = 0.05, 100_000, 16
UNITS, AMOUNTS = (2, 4, 4), np.array([0.6, 0.8])


@pytest.fixture(scope="module")
def net():
    """One repeated sample and two clusters, the block minimizer, its first sample split."""
    mixture = separable_mixture(3, D, rank=3, beta=-0.5, alpha=[0.0, 0.12, 0.12], seed=3)
    x_ND, labels_N = mixture.sample(3, 90)
    prediction = predict_blocks(x_ND, labels_N, UNITS, SIGMA, 1e-4)
    return mixture, prediction


@pytest.fixture(scope="module")
def responses(net):
    mixture, prediction = net
    stored = stored_response(mixture.means[0], prediction.gains[0][0], SIGMA, AMOUNTS)
    return stored, block_response(prediction, 1, mixture.means[1], mixture.covs[1], SIGMA)


def drawn(response, seed=0):
    """x and y of a response's population."""
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(response.cov)
    root_DD = vectors * np.sqrt(values.clip(0))
    x_ND = response.mean + rng.standard_normal((N, D)) @ root_DD.T
    return x_ND, x_ND + response.sigma * rng.standard_normal((N, D))


def weights(net):
    """W1 = W2 of the net, the sample in two units of unequal size."""
    mixture, prediction = net
    w_DP = prediction.w1.copy()
    whole_D = mixture.means[0] / np.linalg.norm(mixture.means[0])
    w_DP[:, :2] = np.outer(whole_D * np.sqrt(prediction.gains[0][0]), AMOUNTS)
    return w_DP


def scores(net, responses, score):
    """``score(x, y, h, f)`` of both groups with real gates."""
    w_DP, found = weights(net), []
    for seed, response in enumerate(responses):
        x_ND, y_ND = drawn(response, seed)
        h_NP = np.maximum(y_ND @ w_DP, 0)
        found.append(score(x_ND, y_ND, h_NP, h_NP @ w_DP.T))
    return found


LAWS = {
    "std": (lambda r: std_law(r, 10), lambda x, y, h, f: np.var(h, axis=1)),
    "energy": (energy_law, lambda x, y, h, f: np.sum(h**2, axis=1)),
    "error": (error_law, lambda x, y, h, f: np.sum((f - x) ** 2, axis=1)),
    "condition": (lambda r: condition_law(r, None), lambda x, y, h, f: np.sum(f**2, axis=1)),
}


@pytest.mark.parametrize("name", LAWS)
def test_laws_against_draws(net, responses, name):
    law, score = LAWS[name]
    laws, found = [law(r) for r in responses], scores(net, responses, score)
    for one, values_N in zip(laws, found, strict=True):
        assert one.mean == pytest.approx(values_N.mean(), rel=0.01)
        assert one.variance == pytest.approx(values_N.var(), rel=0.03)
        assert one.cdf(np.quantile(values_N, 0.9)) == pytest.approx(0.9, abs=0.005)
    area = predict_auroc([laws[0]], [laws[1]])
    assert area == pytest.approx(area_under_roc(*found), abs=0.006)
    assert predict_auroc([laws[0]], [laws[1]], low_is_memorized=True) == pytest.approx(1 - area)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("low", [False, True])
def test_rates_at_a_threshold_against_draws(net, responses, name, low):
    law, score = LAWS[name]
    stored, cluster = ([law(r)] for r in responses)
    found = [-s if low else s for s in scores(net, responses, score)]
    for fpr in (0.01, 0.2):
        rate = np.mean(found[0] > np.quantile(found[1], 1 - fpr))
        assert predict_tpr(stored, cluster, fpr, low) == pytest.approx(rate, abs=0.01)
    # Of others as they are, a threshold lets through what was asked for.
    assert predict_tpr(cluster, cluster, 0.01, low) == pytest.approx(0.01, abs=1e-6)


def test_one_threshold_is_set_on_all_other_groups_together():
    """Squares of normals, whose distribution SciPy has."""
    narrow, wide = (QuadraticLaw(np.full(4, w), np.zeros(4)) for w in (1.0, 3.0))
    shares = [stats.chi2.sf(t := 25.0, 4), stats.chi2.sf(t / 3, 4)]
    fpr, positive = np.mean(shares), QuadraticLaw(np.full(4, 9.0), np.zeros(4))
    found = predict_tpr([positive, narrow], [narrow, wide], fpr)
    expected = np.mean([stats.chi2.sf(t / 9, 4), shares[0]])
    assert found == pytest.approx(expected, abs=1e-7)
    alone = predict_tpr([positive], [wide], fpr)
    assert alone == pytest.approx(stats.chi2.sf(stats.chi2.isf(fpr, 4) / 3, 4), abs=1e-7)
    with pytest.raises(InputError, match="fpr"):
        predict_tpr([positive], [wide], 1.0)


def test_areas_of_several_groups_are_means(responses):
    stored, cluster = map(energy_law, responses)
    both = predict_auroc([stored, cluster], [cluster])
    assert both == pytest.approx((stored.exceeds(cluster) + 0.5) / 2)


def matched(net, responses, copies, width, sigma=SIGMA):
    """Area of the std for a sample of exactly the block's mean energy, held by even copies."""
    stored, cluster = (replace(r, sigma=sigma) for r in responses)
    gain = stored.gains[0]
    energy = energy_law(cluster).mean
    x_D = stored.mean / np.linalg.norm(stored.mean) * np.sqrt(energy / gain - sigma**2)
    sample = stored_response(x_D, gain, sigma, np.full(copies, copies**-0.5))
    return predict_auroc([std_law(sample, width)], [std_law(cluster, width)])


def test_as_many_units_as_the_cluster_leave_nothing_to_the_std(net, responses):
    areas = [matched(net, responses, copies, 12) for copies in (1, 2, 3, 4, 6)]
    assert np.all(np.diff(areas) < 0)
    assert areas[0] > 0.9
    assert areas[3] == pytest.approx(0.5, abs=0.02)  # means are matched, skewness is not
    assert areas[4] < 0.3


def test_in_wide_nets_the_std_is_the_norm(net, responses):
    norm = matched(net, responses, 4, 12)
    areas = [matched(net, responses, 1, width) for width in (8, 32, 512, 1 << 14)]
    assert np.all(np.diff(areas) < 0)
    assert areas[-1] == pytest.approx(norm, abs=0.02)
    laws = [[energy_law(r)] for r in responses]
    wide = predict_auroc(*([std_law(r, 1 << 20)] for r in responses))
    assert wide == pytest.approx(predict_auroc(*laws), abs=1e-4)


def test_without_noise_and_spread_any_difference_is_seen(net, responses):
    stored, cluster = responses
    still = replace(cluster, cov=np.zeros((D, D)))
    areas = []
    for sigma in (0.1, 0.03, 1e-3):
        laws = ([std_law(replace(r, sigma=sigma), 24)] for r in (stored, still))
        areas.append(predict_auroc(*laws))
    assert areas[0] < areas[1] < areas[2] == 1.0


def test_rotations_are_read_from_the_net(net, responses):
    mixture, prediction = net
    w_DP = prediction.w1[:, prediction.blocks == 1]
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    turned = block_response(
        prediction, 1, mixture.means[1], mixture.covs[1], SIGMA, w_DP @ rotation
    )
    h_NP = drawn(turned)[1] @ w_DP @ rotation  # without gates
    law = std_law(turned, 10)
    variance_N = np.sum(h_NP**2, axis=1) / 10 - (np.sum(h_NP, axis=1) / 10) ** 2
    assert law.mean == pytest.approx(variance_N.mean(), rel=0.01)
    even = responses[1].unit_sums
    np.testing.assert_allclose(even, [2, 0, 0, 0], atol=1e-9)


def test_trace_of_the_jacobian_and_of_probes(responses):
    stored, cluster = responses
    assert stored.trace < 1 < cluster.trace
    assert trace_law(cluster, 5).mean == pytest.approx(cluster.trace)
    assert trace_law(cluster, 5).variance == pytest.approx(2 * np.sum(cluster.gains**2) / 5)
    one = predict_auroc([trace_law(stored, 1)], [trace_law(cluster, 1)], low_is_memorized=True)
    many = predict_auroc([trace_law(stored, 64)], [trace_law(cluster, 64)], low_is_memorized=True)
    assert 0.5 < one < 0.9 < 0.999 < many
    even = replace(cluster, gains=np.full(4, stored.gains[0]))
    area = predict_auroc([trace_law(stored, 3)], [trace_law(even, 3)], low_is_memorized=True)
    assert area == pytest.approx(stats.f.sf(0.25, 12, 3), abs=1e-9)


def test_effective_units_of_a_split_sample(net, responses):
    assert participation_ratio([1.0]) == 1
    assert participation_ratio([0.5] * 4) == pytest.approx(4)
    found = scores(
        net, responses, lambda x, y, h, f: -(np.sum(h**2, axis=1) ** 2) / np.sum(h**4, axis=1)
    )
    np.testing.assert_allclose(found[0], -participation_ratio(AMOUNTS), rtol=1e-9)
    for amounts in (AMOUNTS, np.full(3, 3**-0.5), np.array([0.45, 0.5, 0.5, 0.545])):
        amounts = amounts / np.linalg.norm(amounts)
        area = np.mean(-found[1] > participation_ratio(amounts))
        assert participation_area(amounts, responses[1]) == pytest.approx(area, abs=0.05)
    assert participation_area(np.full(4, 0.5), responses[1]) == 0.0
    assert participation_area([1.0], responses[1]) == 1.0


def test_gap_ratio_of_outputs(net, responses):
    mixture, _ = net
    (_, y_ND), other_D = drawn(responses[0]), mixture.means[1]
    f_ND = y_ND @ responses[0].operator
    ratio_N = np.linalg.norm(f_ND - mixture.means[0], axis=1) / np.linalg.norm(
        f_ND - other_D, axis=1
    )
    assert gap_mean(responses[0], other_D) == pytest.approx(ratio_N.mean(), rel=0.01)
    expected = 1 - np.mean(ratio_N**3)
    assert gap_area(responses[0], other_D, 3) == pytest.approx(expected, abs=1e-5)


def test_the_gain_of_a_stored_sample_is_that_of_the_block(net):
    mixture, prediction = net
    count = int(np.sum(prediction.labels == 0))
    gain = predict_hybrid_gain(1.0, count, len(prediction.labels), SIGMA, 1e-4)
    assert gain == pytest.approx(prediction.gains[0][0])
    response = block_response(prediction, 0, mixture.means[0], mixture.covs[0], SIGMA)
    assert response.gains == pytest.approx([gain])
    assert response.unit_sums == pytest.approx([2**0.5])
    assert stored_response(mixture.means[0], gain, SIGMA).unit_sums == 1  # in one unit


def test_bad_input(responses):
    with pytest.raises(InputError, match="x and gain"):
        stored_response(np.zeros(3), 1.0, SIGMA)
    with pytest.raises(InputError, match="amounts"):
        stored_response(np.ones(3), 1.0, SIGMA, [1.0, 1.0])
    with pytest.raises(InputError, match="sigma"):
        stored_response(np.ones(3), 1.0, 0.0)
    with pytest.raises(InputError, match="width"):
        std_law(responses[1], 3)
    with pytest.raises(InputError, match="other"):
        condition_law(responses[1], responses[1])
    nothing = predict_blocks(np.eye(3), np.arange(3), (1, 1, 1), SIGMA, 10.0)
    with pytest.raises(InputError, match="keeps no direction"):
        block_response(nothing, 0, np.ones(3), np.zeros((3, 3)), SIGMA)
    with pytest.raises(InputError, match="probes"):
        trace_law(responses[0], 0)
