"""Jacobians of denoisers against closed forms, finite differences and the theory's predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory import InputError, predict_blocks, predict_memorization
from dae_theory.data.mixtures import separable_mixture, simplex
from dae_theory.deep.captions import tokenize
from dae_theory.deep.network import NetworkConfig, deep_denoiser, make_network
from dae_theory.diffusion.denoisers import (
    empirical_denoiser,
    gaussian_denoiser,
    mixture_denoiser,
    relu_denoiser,
)
from dae_theory.diffusion.jacobian import (
    Operator,
    align_jacobians,
    decompose,
    denoiser_jacobians,
    empirical_jacobians,
    gains_along,
    jacobian_matrices,
    local_operator,
    nearest_samples,
    stored_operator,
    summarize_jacobians,
    top_direction_cosines,
)

D, SIGMA = 6, 0.7


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def covariance(seed=1):
    root = random(D, D, seed=seed)
    return root @ root.T / D


def wiener(cov, sigma=SIGMA):
    return cov @ np.linalg.inv(cov + sigma**2 * np.eye(D))


def stacked(operators):
    return Operator(*map(np.stack, zip(*operators, strict=True)))


def three_denoisers():
    means, covs = random(3, D, seed=2), np.stack([covariance(seed) for seed in (3, 4, 5)])
    return {
        "mixture": mixture_denoiser(means, covs, np.array([0.5, 0.2, 0.3])),
        "empirical": empirical_denoiser(random(9, D, seed=6)),
        "relu": relu_denoiser(random(D, 8, seed=7), random(D, 8, seed=8)),
    }


# --- measurement ----------------------------------------------------------------------------------


def test_gaussian_denoiser_has_the_wiener_filter():
    cov, y = covariance(), random(4, D)
    measured = denoiser_jacobians(gaussian_denoiser(random(D), cov), y, SIGMA)
    np.testing.assert_allclose(measured.matrix, np.stack([wiener(cov)] * 4), atol=1e-12)
    eigenvalues = np.linalg.eigvalsh(cov)[::-1]
    gains = eigenvalues / (eigenvalues + SIGMA**2)
    np.testing.assert_allclose(measured.values, np.stack([gains] * 4), atol=1e-12)
    summary = summarize_jacobians(measured)
    np.testing.assert_allclose(summary.trace, gains.sum())
    np.testing.assert_allclose(summary.stable_rank, np.sum(gains**2) / gains[0] ** 2)
    np.testing.assert_allclose(summary.participation_ratio, gains.sum() ** 2 / np.sum(gains**2))
    np.testing.assert_allclose(summary.top, gains[0])
    np.testing.assert_allclose(summary.asymmetry, 0, atol=1e-12)


@pytest.mark.parametrize("name", ["mixture", "empirical", "relu"])
def test_matrices_are_finite_differences(name):
    denoiser, y, step = three_denoisers()[name], random(3, D), 1e-5
    expected = np.stack(
        [
            (denoiser(y + step * e, SIGMA) - denoiser(y - step * e, SIGMA)) / (2 * step)
            for e in np.eye(D)
        ],
        axis=2,
    )
    np.testing.assert_allclose(jacobian_matrices(denoiser, y, SIGMA), expected, atol=1e-8)


@pytest.mark.parametrize("rows", [1, 4, 7, 10_000])
def test_block_size_changes_nothing(rows):
    denoiser, y = three_denoisers()["mixture"], random(3, D)
    jacobian = jax.jit(jax.vmap(jax.jacobian(lambda at: denoiser(at[None], SIGMA)[0])))
    expected = jacobian(y)
    np.testing.assert_allclose(jacobian_matrices(denoiser, y, SIGMA, rows), expected, atol=1e-13)


def test_compiled_once_for_all_points_and_noise_levels():
    traces = []

    def denoiser(y, sigma):
        traces.append(sigma)
        return y / (1 + sigma**2)

    for sigma in (0.1, 0.2, 2.0):
        found = jacobian_matrices(denoiser, random(2, D, seed=int(10 * sigma)), sigma)
        np.testing.assert_allclose(found, np.stack([np.eye(D) / (1 + sigma**2)] * 2))
    assert len(traces) == 1


def test_captions_go_with_their_rows():
    config = NetworkConfig("dit", size=4, width=8, depth=1, heads=2, text=True)
    captions = ["a dark bag", "the coat of ada"]
    arguments = jnp.zeros((1, 4, 4, 1)), jnp.zeros(1), tokenize([""])
    shapes = jax.eval_shape(make_network(config).init, jax.random.key(0), *arguments)
    leaves, tree = jax.tree.flatten(shapes)
    drawn = [0.3 * random(*a.shape, seed=i) for i, a in enumerate(leaves)]
    variables, y = tree.unflatten(drawn), random(2, 16)
    together = jacobian_matrices(deep_denoiser(config, variables, tokenize(captions)), y, 0.5)

    @jax.jit
    def alone(tokens, at):
        return jax.jacobian(lambda y: deep_denoiser(config, variables, tokens)(y, 0.5)[0])(at)

    for row, caption in enumerate(captions):
        jacobian = alone(tokenize([caption]), y[row : row + 1])[:, 0]
        np.testing.assert_allclose(together[row], jacobian, atol=1e-5)
    assert np.max(np.abs(together[0] - together[1])) > 1e-3


@pytest.mark.parametrize(
    ("y", "sigma", "rows", "word"),
    [
        (np.zeros(D), 1.0, 9, "y"),
        (np.full((1, D), np.nan), 1.0, 9, "y"),
        (np.zeros((1, D)), 0.0, 9, "sigma"),
        (np.zeros((1, D)), 1.0, 0, "rows"),
        (np.zeros((1, D)), 1.0, 9, "denoiser"),
    ],
)
def test_unusable_input_is_refused(y, sigma, rows, word):
    with pytest.raises(InputError, match=word):
        jacobian_matrices(lambda y, sigma: jnp.sqrt(y), y, sigma, rows)


# --- decomposition --------------------------------------------------------------------------------


def test_decomposition_and_directions():
    left, right = np.linalg.qr(random(D, D))[0], np.linalg.qr(random(D, D, seed=1))[0]
    values = np.array([5.0, 1, 0.5, 0.1, 0, 0])
    matrix = (left * values) @ right.T
    found = decompose(matrix[None])
    np.testing.assert_allclose(found.values[0], values, atol=1e-12)
    rebuilt = (found.left * found.values[:, None]) @ found.right.swapaxes(1, 2)
    np.testing.assert_allclose(rebuilt, found.matrix, atol=1e-12)
    np.testing.assert_allclose(found.symmetric[0], (matrix + matrix.T) / 2)
    # A sample's length and sign do not matter; outputs and inputs are told apart.
    cosines = top_direction_cosines(found, -3 * right[:, :1].T)
    np.testing.assert_allclose(cosines, [[abs(left[:, 0] @ right[:, 0])], [1]], atol=1e-12)
    np.testing.assert_allclose(gains_along(found.matrix, 2 * np.eye(D)[:1]), matrix[0, 0])


def test_asymmetry_of_a_rotation_is_one_and_zero_has_none():
    turn = np.zeros((1, D, D))
    turn[0, 0, 1], turn[0, 1, 0] = 1, -1
    assert summarize_jacobians(decompose(turn)).asymmetry == pytest.approx(1)
    zero = summarize_jacobians(decompose(0 * turn))
    assert zero.trace == 0
    assert np.isnan(zero.stable_rank)


# --- predictions ----------------------------------------------------------------------------------


def test_empirical_jacobians_are_those_of_the_empirical_denoiser():
    x, y = random(9, D, seed=6), random(4, D)
    for sigma in (0.2, SIGMA, 3.0):
        measured = jacobian_matrices(empirical_denoiser(x), y, sigma)
        np.testing.assert_allclose(empirical_jacobians(y, x, sigma), measured, atol=1e-9)
    # Near a sample they vanish with the noise, where (5) keeps its direction.
    near = x[:1] + 0.01 * random(1, D)
    assert np.linalg.norm(empirical_jacobians(near, x, 0.05)) < 1e-12
    assert stored_operator(x[:1], 0.05).gains[0, 0] > 0.99


def memorized():
    """The simplex with the net of (5), and noised samples whose gates are right."""
    x, sigma, lam = simplex(5, 16).x, 0.05, 1e-3
    prediction = predict_memorization(x, sigma, lam)
    return x, sigma, lam, prediction, x + sigma * random(*x.shape)


def test_memorizing_relu_net_keeps_the_stored_sample_alone():
    x, sigma, lam, prediction, y = memorized()
    assert prediction.margin > 4
    measured = denoiser_jacobians(relu_denoiser(prediction.w1, prediction.w2), y, sigma)
    predicted = stored_operator(x, sigma, lam)
    np.testing.assert_allclose(measured.matrix, predicted.matrix, atol=1e-12)
    np.testing.assert_allclose(predicted.gains[:, 0], prediction.gains)
    summary = summarize_jacobians(measured)
    np.testing.assert_allclose(summary.stable_rank, 1)
    np.testing.assert_allclose(summary.trace, prediction.gains)
    np.testing.assert_allclose(top_direction_cosines(measured, x), 1)
    np.testing.assert_allclose(gains_along(measured.matrix, x), prediction.gains)
    alignment = align_jacobians(measured, predicted, 1)
    np.testing.assert_allclose(alignment.energy_share, 1)
    np.testing.assert_allclose(alignment.spectrum_cosine, 1)
    np.testing.assert_allclose(alignment.spectrum_distance, 0, atol=1e-12)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda x, sigma, lam: stored_operator(np.roll(x, 1, axis=0), sigma, lam),
        lambda x, sigma, lam: stored_operator(x, np.sqrt(sigma), lam),
        lambda x, sigma, lam: stored_operator(x, sigma, lam, count=10 * len(x)),
    ],
    ids=["other sample", "σ for σ²", "ten times the samples"],
)
def test_mutants_of_the_memorized_prediction_fail(mutant):
    x, sigma, lam, prediction, y = memorized()
    measured = denoiser_jacobians(relu_denoiser(prediction.w1, prediction.w2), y, sigma)
    alignment = align_jacobians(measured, mutant(x, sigma, lam), 1)
    assert np.all(alignment.operator_distance > 0.005)
    right = align_jacobians(measured, stored_operator(x, sigma, lam), 1)
    assert np.all(right.operator_distance < 1e-10)


def blocks(rank=3):
    """A block net of (4) at λ = 0, its clusters, and noised samples."""
    x, labels = separable_mixture(3, 16, rank=rank, beta=-0.5, alpha=0.1, seed=0).sample(0, 60)
    sigma = 0.02
    prediction = predict_blocks(x, labels, [rank + 1] * 3, sigma, 0.0)
    return x, labels, sigma, prediction, x + sigma * random(*x.shape)


@pytest.mark.parametrize(("centred", "holds"), [(False, True), (True, False)])
def test_generalizing_relu_net_has_the_operators_of_its_clusters(centred, holds):
    x, labels, sigma, prediction, y = blocks()
    assert prediction.margin > 4
    measured = denoiser_jacobians(relu_denoiser(prediction.w1, prediction.w2), y, sigma)
    by_cluster = [local_operator(x[labels == k], sigma, centred, 4) for k in range(3)]
    predicted = stacked([by_cluster[k] for k in labels])
    distance = align_jacobians(measured, predicted, 4).operator_distance
    # Without biases the mean is a direction like any other: the second moment is about 0.
    assert np.all(distance < 1e-10) if holds else np.all(distance > 0.3)
    shuffled = stacked([by_cluster[(k + 1) % 3] for k in labels])
    assert np.all(align_jacobians(measured, shuffled, 4).operator_distance > 0.3)


def test_local_operator_has_its_limits():
    x = 2 + random(40, D)
    moment = x.T @ x / 40
    np.testing.assert_allclose(local_operator(x, SIGMA, False).matrix, wiener(moment), atol=1e-12)
    centred = wiener(np.cov(x.T, bias=True))
    np.testing.assert_allclose(local_operator(x, SIGMA).matrix, centred, atol=1e-12)
    np.testing.assert_allclose(local_operator(x, 1e-6).matrix, np.eye(D), atol=1e-8)
    assert local_operator(x[:1], SIGMA).gains.max() == 0  # one neighbour: f_emp's
    one = local_operator(x[:1], SIGMA, False, 1)
    np.testing.assert_allclose(one.matrix, stored_operator(x[:1], SIGMA).matrix[0], atol=1e-12)


def test_energy_share_of_random_directions_is_theirs_by_chance():
    directions = np.linalg.qr(random(300, D, D))[0]
    identity = decompose(np.broadcast_to(np.eye(D), (300, D, D)))
    share = align_jacobians(identity, Operator(np.ones((300, D)), directions), 2).energy_share
    np.testing.assert_allclose(share, 2 / D)
    rank_one = decompose(np.broadcast_to(np.diag(np.eye(D)[0]), (300, D, D)))
    share = align_jacobians(rank_one, Operator(np.ones((300, D)), directions), 2).energy_share
    # (uᵀPu)² for P onto 2 of D random directions is Beta(1, (D − 2)/2) squared.
    expected = 2 * (2 + 2) / (D * (D + 2))
    assert abs(share.mean() - expected) < 5 * share.std() / 300**0.5


def test_nearest_samples_are_sorted():
    x, y = random(20, D), random(3, D, seed=1)
    distances = np.linalg.norm(y[:, None] - x, axis=2)
    np.testing.assert_array_equal(nearest_samples(y, x, 5), np.argsort(distances, axis=1)[:, :5])


@pytest.mark.parametrize(
    "call",
    [
        lambda: local_operator(np.zeros((3, D)), SIGMA, rank=D + 1),
        lambda: local_operator(np.zeros((0, D)), SIGMA),
        lambda: stored_operator(np.zeros((3, D)), -1.0),
        lambda: nearest_samples(np.zeros((1, D)), np.zeros((3, D)), 4),
        lambda: empirical_jacobians(np.zeros((1, D)), np.zeros((3, D + 1)), SIGMA),
        lambda: align_jacobians(decompose(np.eye(D)[None]), stored_operator(np.eye(D)[:1], 1.0), 2),
    ],
)
def test_impossible_predictions_are_refused(call):
    with pytest.raises(InputError, match=r"rank|neighbours|sigma|count|features"):
        call()
