"""The closed forms against formulas written out, the exact loss, its gradient, and limits."""

import numpy as np
import pytest

from dae_theory import (
    InputError,
    data,
    denoise,
    exact_loss,
    gradient_norm,
    predict_blocks,
    predict_generalization,
    predict_hybrid_gain,
    predict_memorization,
)
from dae_theory.theory.closed_forms import (
    block_eigenvalues,
    block_gains,
    limit_test_loss,
    linear_test_loss,
    spread_rotation,
)

STATIONARY = 1e-9  # ‖∇L‖ of a correct closed form at a gate margin of 6 or more
SLIPPED = 1e-4  # ‖∇L‖ of a wrong one is above this


def simplex_problem():
    """Samples of different norm, stored with gate margins near 10."""
    scales = np.array([1.0, 1.2, 0.9, 1.1])
    return scales[:, None] * data.simplex(4, 16, seed=1).x, 0.03, 2e-3


def block_problem():
    mixture = data.separable_mixture(3, 32, rank=3, beta=-0.5, alpha=0.04)
    x, labels = mixture.sample(0, 120)
    return x, labels, (4, 4, 4), 0.02, 1e-5


def population():
    mixture = data.separable_mixture(3, 12, rank=3, beta=-0.5, alpha=0.15, priors=[0.5, 0.3, 0.2])
    return mixture, 0.05


def second_moments(mixture):
    return [np.outer(m, m) + c for m, c in zip(mixture.means, mixture.covs, strict=True)]


def loss_of(prediction, x):
    return float(exact_loss(prediction.w1, prediction.w2, x, prediction.sigma, prediction.lam))


def test_memorization_weights_and_gains_equal_equation_5():
    x, sigma, lam = simplex_problem()
    prediction = predict_memorization(x, sigma, lam, width=6)
    assert prediction.w1.shape == (16, 6)
    loss = 0.0
    for i, sample in enumerate(x):
        square = float(sample @ sample)
        r = np.sqrt((square - 4 * lam) / (square**2 + sigma**2 * square))
        np.testing.assert_allclose(prediction.w1[:, i], r * sample, rtol=1e-12)
        np.testing.assert_allclose(prediction.gains[i], r**2 * square, rtol=1e-12)
        loss += (square - (square - 4 * lam) ** 2 / (square + sigma**2)) / 4
    np.testing.assert_array_equal(prediction.w1, prediction.w2)
    np.testing.assert_array_equal(prediction.w1[:, 4:], 0)
    np.testing.assert_array_equal(prediction.blocks, [0, 1, 2, 3, -1, -1])
    np.testing.assert_allclose(prediction.loss, loss, rtol=1e-12)


def test_memorization_loss_without_decay_is_below_the_noise_power():
    x, sigma, _ = simplex_problem()
    square = np.sum(x**2, axis=1)
    expected = np.mean(sigma**2 * square / (sigma**2 + square))
    prediction = predict_memorization(x, sigma, 0.0)
    np.testing.assert_allclose(prediction.loss, expected, rtol=1e-12)
    assert prediction.loss < sigma**2


def test_memorization_is_stationary_and_its_loss_exact_at_a_wide_margin():
    x, sigma, lam = simplex_problem()
    prediction = predict_memorization(x, sigma, lam)
    assert prediction.margin > 8
    np.testing.assert_allclose(loss_of(prediction, x), prediction.loss, rtol=1e-10)
    assert gradient_norm(prediction.w1, prediction.w2, x, sigma, lam) < STATIONARY


def test_error_of_memorization_falls_with_the_gate_margin():
    x = data.simplex(8, 64).x
    norms = []
    for sigma in (0.08, 0.05, 0.035, 0.02):
        prediction = predict_memorization(x, sigma, 1e-4)
        norms.append(gradient_norm(prediction.w1, prediction.w2, x, sigma, 1e-4))
        np.testing.assert_allclose(prediction.margin, 1 / 7 / sigma, rtol=1e-10)
    assert np.all(np.diff(np.log(norms)) < -2)
    assert norms[-1] < 1e-11


def test_memorization_fails_where_samples_are_positively_correlated():
    x = data.equiangular_directions(4, 16, 0.3)
    prediction = predict_memorization(x, 0.05, 1e-3)
    assert prediction.margin < 0
    assert loss_of(prediction, x) > 2 * prediction.loss
    assert gradient_norm(prediction.w1, prediction.w2, x, 0.05, 1e-3) > 0.01


def test_memorization_is_the_rank_one_case_of_blocks():
    x, sigma, lam = simplex_problem()
    single = predict_memorization(x, sigma, lam)
    blocks = predict_blocks(x, np.arange(4), [1] * 4, sigma, lam)
    for k in range(4):
        np.testing.assert_allclose(single.operator(k), blocks.operator(k), atol=1e-13)
    np.testing.assert_allclose(single.w1, blocks.w1, atol=1e-13)
    np.testing.assert_allclose(single.loss, blocks.loss, rtol=1e-12)
    np.testing.assert_allclose(single.margin, blocks.margin, rtol=1e-12)


def test_soft_threshold_drops_samples():
    x = data.simplex(3, 8).x * np.array([[1.0], [0.3], [1.1]])
    sigma, lam = 0.03, 0.04  # 3 lam = .12 exceeds the middle sample's .09
    prediction = predict_memorization(x, sigma, lam)
    np.testing.assert_array_equal(prediction.blocks, [0, -1, 2])
    np.testing.assert_array_equal(prediction.w1[:, 1], 0)
    assert prediction.gains[1] == 0
    assert np.all(prediction.gains[[0, 2]] > 0.5)
    everything = predict_memorization(x, sigma, 1.0)
    np.testing.assert_array_equal(everything.w1, 0)
    assert everything.margin == -np.inf
    np.testing.assert_allclose(everything.loss, np.mean(np.sum(x**2, axis=1)), rtol=1e-14)


def test_dropped_samples_leave_an_exact_loss_when_gates_stay_shut():
    # Two samples, so that the one that is kept shuts out the dropped one.
    x = np.array([[1.0, 0.0, 0.0], [-0.3, 0.0, 0.0]])
    sigma, lam = 0.03, 0.06
    prediction = predict_memorization(x, sigma, lam)
    np.testing.assert_array_equal(prediction.blocks, [0, -1])
    np.testing.assert_allclose(loss_of(prediction, x), prediction.loss, rtol=1e-10)


def test_zero_sample_is_allowed():
    x = np.array([[1.0, 0.0], [0.0, 0.0]])
    prediction = predict_memorization(x, 0.1, 1e-3)
    assert np.all(np.isfinite(prediction.w1))
    np.testing.assert_array_equal(prediction.blocks, [0, -1])


def linear_objective(members, m, n, sigma, lam):
    """What equation (2) minimizes, for one cluster."""
    residual = members.T - m @ members.T
    noise = len(members) * sigma**2 * np.sum(m**2)
    return (np.sum(residual**2) + noise) / n + 2 * lam * np.linalg.norm(m, "nuc")


@pytest.mark.parametrize("widths", [(4, 4, 4), (2, 3, 1)])
def test_blocks_minimize_the_linear_problem_over_matrices_of_their_rank(widths):
    x, labels, _, sigma, _ = block_problem()
    sigma, lam = 0.1, 2e-4  # gains well inside (0, 1)
    prediction = predict_blocks(x, labels, widths, sigma, lam)
    random = np.random.RandomState(0)
    total = 0.0
    for k, width in enumerate(widths):
        members = x[labels == k]
        best = linear_objective(members, prediction.operator(k), len(x), sigma, lam)
        total += best
        columns = prediction.w1[:, prediction.blocks == k]
        np.testing.assert_allclose(columns @ columns.T, prediction.operator(k), atol=1e-12)
        for size in (1e-4, 1e-3, 1e-2, 0.1, 1.0):
            for _ in range(20):
                left, right = random.normal(size=(2, 32, width)) * size / np.sqrt(32)
                trial = (columns + left) @ (columns + right).T
                assert linear_objective(members, trial, len(x), sigma, lam) > best
    np.testing.assert_allclose(prediction.loss, total, rtol=1e-12)


def test_blocks_are_stationary_and_their_loss_exact_at_a_wide_margin():
    x, labels, widths, sigma, lam = block_problem()
    prediction = predict_blocks(x, labels, widths, sigma, lam)
    assert prediction.margin >= 6
    np.testing.assert_allclose(loss_of(prediction, x), prediction.loss, rtol=1e-10)
    assert gradient_norm(prediction.w1, prediction.w2, x, sigma, lam) < STATIONARY


def test_every_unit_sees_its_cluster_mean_equally():
    x, labels, widths, sigma, lam = block_problem()
    prediction = predict_blocks(x, labels, widths, sigma, lam)
    for k in range(3):
        h = prediction.w1[:, prediction.blocks == k].T @ x[labels == k].mean(axis=0)
        assert np.all(h > 0)
        np.testing.assert_allclose(h, h[0], rtol=0.01)


def test_blocks_wider_than_their_rank_keep_every_direction():
    x, labels, _, sigma, lam = block_problem()
    narrow = predict_blocks(x, labels, (4, 4, 4), sigma, lam)
    wide = predict_blocks(x, labels, (7, 8, 6), sigma, lam)
    np.testing.assert_array_equal(np.bincount(wide.blocks), [7, 8, 6])
    for k in range(3):
        np.testing.assert_allclose(wide.operator(k), narrow.operator(k), atol=1e-12)


def test_a_block_of_width_zero_stores_nothing():
    x, labels, _, sigma, lam = block_problem()
    prediction = predict_blocks(x, labels, (4, 0, 4), sigma, lam)
    assert prediction.w1.shape == (32, 8)
    assert 1 not in prediction.blocks
    np.testing.assert_array_equal(prediction.operator(1), 0)
    np.testing.assert_allclose(loss_of(prediction, x), prediction.loss, rtol=1e-9)


def test_block_gains_and_eigenvalues():
    np.testing.assert_allclose(block_gains(np.array([5.0, 2.0, 1.0]), 1.5, 2.0), [0.5, 0.125, 0])
    x, labels, _, _, _ = block_problem()
    for k, values in enumerate(block_eigenvalues(x, labels)):
        gram = x[labels == k] @ x[labels == k].T
        expected = np.linalg.eigvalsh(gram)[::-1]
        assert len(values) == 4
        np.testing.assert_allclose(values, expected[:4], rtol=1e-9)
        np.testing.assert_allclose(expected[4:], 0, atol=1e-11)
    for unit in (1e-4, 1e4):  # which ones count as nonzero does not depend on it
        for values, scaled in zip(
            block_eigenvalues(x, labels), block_eigenvalues(unit * x, labels), strict=True
        ):
            np.testing.assert_allclose(scaled, unit**2 * values, rtol=1e-9)


@pytest.mark.parametrize("width", range(1, 17))
def test_spread_rotation_is_orthonormal_with_a_constant_first_column(width):
    for rank in {1, (width + 1) // 2, width}:
        o = spread_rotation(width, rank)
        assert o.shape == (width, rank)
        np.testing.assert_allclose(o.T @ o, np.eye(rank), atol=1e-13)
        np.testing.assert_allclose(o[:, 0], 1 / np.sqrt(width), rtol=1e-13)
        assert np.max(np.abs(o)) <= np.sqrt(2 / width) + 1e-12


def test_finite_blocks_tend_to_the_population_at_rate_one_half():
    mixture, sigma = population()
    lam, widths, counts, seeds = 1e-3, (4, 3, 2), np.array([200, 800, 3200, 12800]), range(8)
    limit = predict_generalization(mixture.means, mixture.covs, mixture.priors, widths, sigma, lam)
    errors = np.zeros((len(counts), 3))
    for row, n in enumerate(counts):
        for seed in seeds:
            finite = predict_blocks(*mixture.sample(seed, int(n)), widths, sigma, lam)
            for k in range(3):
                difference = finite.operator(k) - limit.operator(k)
                errors[row, k] += np.linalg.norm(difference) / len(seeds)
    for k in range(3):
        slope = np.polyfit(np.log(counts), np.log(errors[:, k]), 1)[0]
        np.testing.assert_allclose(slope, -0.5, atol=0.1)
    np.testing.assert_allclose(finite.loss, limit.loss, rtol=0.02)


def test_population_weights_equal_equation_6():
    mixture, sigma = population()
    lam, widths = 1e-3, (4, 3, 2)
    prediction = predict_generalization(
        mixture.means, mixture.covs, mixture.priors, widths, sigma, lam
    )
    for k, moment in enumerate(second_moments(mixture)):
        product = (moment - lam / mixture.priors[k] * np.eye(12)) @ np.linalg.inv(
            moment + sigma**2 * np.eye(12)
        )
        values, vectors = np.linalg.eigh((product + product.T) / 2)
        top = vectors[:, ::-1][:, : widths[k]]
        expected = (top * np.maximum(values[::-1][: widths[k]], 0)) @ top.T
        w = prediction.w1[:, prediction.blocks == k]
        np.testing.assert_allclose(w @ w.T, expected, atol=1e-12)
        np.testing.assert_allclose(prediction.operator(k), expected, atol=1e-12)


@pytest.mark.parametrize(("alpha", "own_is_nearest"), [(0.1, False), (0.9, True)])
def test_population_margin_counts_spread_inside_a_cluster_as_noise(alpha, own_is_nearest):
    mixture = data.separable_mixture(3, 12, rank=2, beta=-0.5, alpha=[0.02, alpha, 0.1], seed=3)
    prediction = predict_generalization(
        mixture.means, mixture.covs, mixture.priors, (1, 3, 2), 0.1, 1e-3
    )
    margins = []
    for w_D, own in zip(prediction.w1.T, prediction.blocks, strict=True):
        for k, (mean_D, cov_DD) in enumerate(zip(mixture.means, mixture.covs, strict=True)):
            u_D = w_D / np.linalg.norm(w_D)
            z = u_D @ mean_D / np.sqrt(0.1**2 + u_D @ cov_DD @ u_D)
            margins.append((z if k == own else -z, k == own))
    nearest, is_own = min(margins)
    assert is_own == own_is_nearest
    assert prediction.margin == pytest.approx(nearest, rel=1e-12)


def equation_7(mixture, widths, sigma):
    total = 0.0
    for prior, moment, width in zip(mixture.priors, second_moments(mixture), widths, strict=True):
        eig = np.linalg.eigvalsh(moment)[::-1]
        kept, tail = eig[:width], eig[width:]
        total += prior * (np.sum(kept * sigma**2 / (kept + sigma**2)) + tail.sum())
    return total


def test_test_loss_tends_to_equation_7_without_decay():
    mixture, sigma = population()
    widths, decays = (4, 3, 2), np.array([1e-3, 3e-4, 1e-4])
    arguments = (mixture.means, mixture.covs, mixture.priors, widths, sigma)
    expected = equation_7(mixture, widths, sigma)
    np.testing.assert_allclose(limit_test_loss(mixture, widths, sigma), expected, rtol=1e-12)
    np.testing.assert_allclose(
        predict_generalization(*arguments, 0.0).test_loss, expected, rtol=1e-12
    )
    # The minimum is flat: the excess falls with the square of the decay once nothing is dropped.
    excess = [predict_generalization(*arguments, d / 100).test_loss - expected for d in decays]
    np.testing.assert_allclose(np.polyfit(np.log(decays), np.log(excess), 1)[0], 2.0, atol=0.02)


def test_test_loss_equals_the_linear_test_loss():
    mixture, sigma = population()
    prediction = predict_generalization(
        mixture.means, mixture.covs, mixture.priors, (4, 3, 2), sigma, 1e-3
    )
    expected = sum(
        prior * linear_test_loss(prediction.operator(k), moment, sigma)
        for k, (prior, moment) in enumerate(
            zip(mixture.priors, second_moments(mixture), strict=True)
        )
    )
    np.testing.assert_allclose(prediction.test_loss, expected, rtol=1e-12)


def test_linear_test_loss_agrees_with_monte_carlo():
    random = np.random.RandomState(1)
    root, m = random.normal(size=(2, 5, 5)) / 2
    sigma, draws = 0.7, 200_000
    x = random.normal(size=(draws, 5)) @ root.T
    loss = np.sum(((x + sigma * random.normal(size=x.shape)) @ m.T - x) ** 2, axis=1)
    expected = linear_test_loss(m, root @ root.T, sigma)
    assert abs(loss.mean() - expected) < 5 * loss.std() / np.sqrt(draws)


def monte_carlo_test_loss(prediction, mixture, sigma, draws):
    random = np.random.RandomState(2)
    x, _ = mixture.sample(3, draws)
    y = x + sigma * random.normal(size=x.shape)
    loss = np.sum((np.asarray(denoise(prediction.w1, prediction.w2, y)) - x) ** 2, axis=1)
    return loss.mean(), loss.std() / np.sqrt(draws)


def test_test_loss_agrees_with_fresh_samples_and_the_printed_bound_does_not():
    mixture, _ = population()
    sigma, widths = 0.04, (4, 3, 2)
    prediction = predict_generalization(
        mixture.means, mixture.covs, mixture.priors, widths, sigma, 1e-5
    )
    assert prediction.margin > 3
    mean, error = monte_carlo_test_loss(prediction, mixture, sigma, 200_000)
    assert abs(mean - prediction.test_loss) < 5 * error
    # Slip: the bias part alone, eig σ⁴/(eig+σ²)², in place of eig σ²/(eig+σ²).
    printed = 0.0
    for prior, moment, width in zip(mixture.priors, second_moments(mixture), widths, strict=True):
        eig = np.linalg.eigvalsh(moment)[::-1]
        bias = eig[:width] * sigma**4 / (eig[:width] + sigma**2) ** 2
        printed += prior * (bias.sum() + eig[width:].sum())
    assert abs(mean - printed) > 20 * error


def test_hybrid_gain_equals_blocks_of_duplicates():
    mixture = data.separable_mixture(3, 20, rank=2, beta=-0.4, alpha=[0.0, 0.0, 0.1])
    x = np.vstack([np.tile(1.3 * mixture.means[0], (5, 1)), np.tile(mixture.means[1], (2, 1))])
    x = np.vstack([x, mixture.sample(0, 60)[0][40:]])
    labels = np.repeat([0, 1, 2], [5, 2, 20])
    sigma, lam, n = 0.05, 1e-3, 27
    prediction = predict_blocks(x, labels, (1, 1, 3), sigma, lam)
    for k, (norm, count) in enumerate([(1.3, 5), (1.0, 2)]):
        gain = predict_hybrid_gain(norm, count, n, sigma, lam)
        np.testing.assert_allclose(prediction.gains[k], gain, rtol=1e-12)
        column = prediction.w1[:, prediction.blocks == k][:, 0]
        np.testing.assert_allclose(column, np.sqrt(gain) * mixture.means[k], atol=1e-12)
        slips = [
            predict_hybrid_gain(norm, count, n, np.sqrt(sigma), lam),
            predict_hybrid_gain(norm, count, n, sigma, lam / 2),
            predict_hybrid_gain(norm, 1, n, sigma, lam),
        ]
        assert np.all(np.abs(np.array(slips) / gain - 1) > 1e-3)
    assert predict_hybrid_gain(0.1, 1, 100, sigma, 1.0) == 0.0


# Slips: σ in place of σ² is the same formula at √σ; λ with or without ½ at λ/2 or 2λ.
SLIPS = {
    "sigma not squared": lambda sigma, lam: (np.sqrt(sigma), lam),
    "half the decay": lambda sigma, lam: (sigma, lam / 2),
    "twice the decay": lambda sigma, lam: (sigma, 2 * lam),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_slipped_memorization_is_not_stationary(slip):
    x, sigma, lam = simplex_problem()
    slipped = predict_memorization(x, *SLIPS[slip](sigma, lam))
    assert gradient_norm(slipped.w1, slipped.w2, x, sigma, lam) > SLIPPED
    # The value is second order in the slip, and still distinguishes it.
    true = predict_memorization(x, sigma, lam)
    assert loss_of(true, x) < float(exact_loss(slipped.w1, slipped.w2, x, sigma, lam))
    assert abs(slipped.loss / loss_of(true, x) - 1) > 1e-3


@pytest.mark.parametrize("slip", SLIPS)
def test_slipped_blocks_are_not_stationary(slip):
    x, labels, widths, sigma, _ = block_problem()
    lam = 1e-4
    true = predict_blocks(x, labels, widths, sigma, lam)
    assert gradient_norm(true.w1, true.w2, x, sigma, lam) < 1e-6
    slipped = predict_blocks(x, labels, widths, *SLIPS[slip](sigma, lam))
    assert gradient_norm(slipped.w1, slipped.w2, x, sigma, lam) > SLIPPED


@pytest.mark.parametrize("slip", SLIPS)
def test_slipped_population_is_not_the_limit_of_blocks(slip):
    mixture, sigma = population()
    lam, widths = 1e-3, (4, 3, 2)
    arguments = (mixture.means, mixture.covs, mixture.priors, widths)
    finite = predict_blocks(*mixture.sample(0, 20_000), widths, sigma, lam)
    true = predict_generalization(*arguments, sigma, lam)
    slipped = predict_generalization(*arguments, *SLIPS[slip](sigma, lam))
    for k in range(3):
        true_error = np.linalg.norm(true.operator(k) - finite.operator(k))
        slipped_error = np.linalg.norm(slipped.operator(k) - finite.operator(k))
        assert slipped_error > true_error
    assert abs(slipped.loss / finite.loss - 1) > 5 * abs(true.loss / finite.loss - 1)


def test_unusable_input_to_memorization_is_refused():
    x = np.eye(3)
    for arguments, message in (
        ((x, 0.1, 0.0, 2), "width: memorizing 3 samples takes at least 3 units, got 2"),
        ((x, 0.0, 0.0), "sigma: the noise level must be finite and > 0, got 0.0"),
        ((x, np.inf, 0.0), "sigma: the noise level"),
        ((x, 0.1, -1.0), "lam: the weight decay must be finite and >= 0, got -1.0"),
        ((x, 0.1, np.nan), "lam: the weight decay"),
        ((x[0], 0.1, 0.0), "expected a .N, D. array"),
        ((np.full((2, 2), np.nan), 0.1, 0.0), "contains NaN or infinite values"),
        ((np.zeros((0, 3)), 0.1, 0.0), "need at least one sample"),
    ):
        with pytest.raises(InputError, match=message):
            predict_memorization(*arguments)


def test_unusable_input_to_blocks_is_refused():
    x = np.eye(3)
    for arguments, message in (
        ((x, [0, 1], [1, 1], 0.1, 0.0), "labels: expected 3 labels"),
        ((x, [0, 0, 2], [1, 1, 1], 0.1, 0.0), "take each value 0 ... 2"),
        ((x, [0, 1, 2], [1, 1], 0.1, 0.0), "take each value 0 ... 1"),
        ((x, [0, 1, 1], [1, -1], 0.1, 0.0), r"widths\[1\]: must be at least 0, got -1"),
        ((x, [0, 1, 1], [1, 1], -0.1, 0.0), "sigma: the noise level"),
        ((x, [0, 1, 1], [1, 1], 0.1, -0.1), "lam: the weight decay"),
    ):
        with pytest.raises(InputError, match=message):
            predict_blocks(*arguments)


def test_unusable_input_to_generalization_is_refused():
    means, covs = np.eye(3)[:2], np.zeros((2, 3, 3))
    for arguments, message in (
        ((means, covs[:1], [1, 1], [1, 1], 0.1, 0.0), r"covs: expected shape \(2, 3, 3\)"),
        ((means, covs, [1, 0], [1, 1], 0.1, 0.0), "need 2 positive priors"),
        ((means, covs, [1, 1], [1], 0.1, 0.0), "need 2 positive priors and as many widths"),
        ((means, covs, [1, 1], [1, -2], 0.1, 0.0), r"widths\[1\]: must be at least 0"),
        ((means, covs, [1, 1], [1, 1], 0.0, 0.0), "sigma: the noise level"),
        ((means * np.nan, covs, [1, 1], [1, 1], 0.1, 0.0), "means: contains NaN"),
    ):
        with pytest.raises(InputError, match=message):
            predict_generalization(*arguments)
