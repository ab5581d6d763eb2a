"""Conformal p-values: exact formulas, and what they promise in simulations."""

import numpy as np
import pytest
import scipy.stats

from dae_theory import InputError
from dae_theory.detect.calibrate import calibrate, fewest_images

CALIBRATIONS = 200


def test_p_values_by_hand():
    found = calibrate(np.array([3.0, 1, 2, 2]), 0.4)
    np.testing.assert_allclose(
        found.p_values([0, 1, 2, 2.5, 3, 4]), np.array([5, 5, 4, 2, 2, 1]) / 5
    )
    # k = ⌊.4·5⌋ = 2: strictly above the second highest score.
    assert (found.allowed, found.threshold, found.rate) == (2, 2.0, 0.4)
    np.testing.assert_array_equal(found.flagged([2, 2.5, 3]), [False, True, True])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "fpr"), [(19, 0.05), (99, 0.01), (100, 0.29), (57, 0.11)])
def test_a_flag_is_a_p_value_and_the_rate_is_kept_on_the_calibration_set(n, fpr, ties):
    rng = np.random.default_rng(n)
    scores = rng.integers(0, 6, n).astype(float) if ties else rng.standard_normal(n)
    found = calibrate(scores, fpr)
    asked = np.concatenate([scores, rng.standard_normal(50)])
    np.testing.assert_array_equal(found.flagged(asked), found.p_values(asked) <= fpr + 1e-12)
    assert np.mean(found.flagged(scores)) <= fpr
    assert found.rate <= fpr + 1e-12


@pytest.mark.parametrize("fpr", [0.5, 0.1, 0.05, 0.01, 0.001, 1 / 3, 0.29])
def test_fewest_images(fpr):
    fewest = fewest_images(fpr)
    assert fewest >= 1 / fpr - 1 - 1e-9
    assert fewest - 1 < 1 / fpr - 1
    scores = np.arange(fewest, dtype=float)
    assert calibrate(scores, fpr).allowed >= 1
    with pytest.raises(InputError, match=f"at least {fewest} images"):
        calibrate(scores[1:], fpr)


def simulated_rates(n, fpr, draw, images=None):
    """Rates of false positives of many calibrations: exact under a standard normal, or the share of
    ``images`` new ones."""
    rng = np.random.default_rng(1000)
    rates, bounds, alarms = [], [], []
    for _ in range(CALIBRATIONS):
        found = calibrate(draw(rng, n), fpr)
        if images is None:
            rates.append(scipy.stats.norm.sf(found.threshold))
        else:
            flagged = found.flagged(draw(rng, images))
            rates.append(np.mean(flagged))
            alarms.append(np.sum(flagged) <= found.most_false_alarms(images))
        bounds.append(found.highest_rate())
    return np.array(rates), np.array(bounds), np.array(alarms)


def normal(rng, n):
    return rng.standard_normal(n)


@pytest.mark.parametrize(("n", "fpr"), [(99, 0.01), (200, 0.05), (500, 0.01)])
def test_the_achieved_rate_is_within_its_bound(n, fpr):
    rates, bounds, _ = simulated_rates(n, fpr, normal)
    assert np.mean(rates <= bounds) >= 0.95
    # Its law: Beta(k, n + 1 − k), whose mean is at most the rate asked for.
    k = calibrate(np.arange(n, dtype=float), fpr).allowed
    law = scipy.stats.beta(k, n + 1 - k)
    assert scipy.stats.kstest(rates, law.cdf).pvalue > 1e-3
    assert law.mean() <= fpr + 1e-12
    # Mutants: a place too many or too few.
    for wrong in (k + 2, k - 2):
        if wrong > 0:
            mutant = scipy.stats.beta(wrong, n + 1 - wrong)
            assert scipy.stats.kstest(rates, mutant.cdf).pvalue < 1e-3


@pytest.mark.parametrize(
    "draw",
    [normal, lambda rng, n: rng.standard_cauchy(n), lambda rng, n: rng.integers(0, 40, n) * 1.0],
    ids=["normal", "heavy tails", "ties"],
)
def test_false_alarms_stay_below_their_bound_whatever_the_distribution(draw):
    rates, _, alarms = simulated_rates(199, 0.05, draw, images=100)
    assert np.mean(alarms) >= 0.95
    assert rates.mean() <= 0.05 + 3 * rates.std() / CALIBRATIONS**0.5


def test_an_uncalibrated_threshold_breaks_the_promise():
    """The quantile of the calibration scores at 1 − fpr, as others use it, is too low too often."""
    rng, fpr, n = np.random.default_rng(1001), 0.01, 99
    thresholds = [np.quantile(rng.standard_normal(n), 1 - fpr) for _ in range(CALIBRATIONS)]
    assert np.mean(scipy.stats.norm.sf(thresholds)) > 1.3 * fpr


def test_false_alarms_follow_the_beta_binomial_law():
    found = calibrate(np.arange(99.0), 0.05)
    law = scipy.stats.betabinom(40, 5, 95)
    assert found.expected_false_alarms(40) == pytest.approx(law.mean())
    most = found.most_false_alarms(40)
    assert law.cdf(most) >= 0.99 > law.cdf(most - 1)
    bound = found.highest_rate(0.9)
    assert scipy.stats.beta(5, 95).cdf(bound) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("scores", "fpr", "message"),
    [
        (np.zeros(0), 0.5, "at least 1 "),
        (np.array([np.nan, 1.0]), 0.5, "NaN"),
        (np.zeros((3, 2)), 0.5, "shape"),
        (np.zeros(5), 0.0, "fpr"),
        (np.zeros(5), 1.0, "fpr"),
        (np.zeros(5), np.nan, "fpr"),
    ],
)
def test_unusable_calibrations_are_refused(scores, fpr, message):
    with pytest.raises(InputError, match=message):
        calibrate(scores, fpr)
