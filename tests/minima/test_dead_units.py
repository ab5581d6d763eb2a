"""The pull on a new unit against gradients and Monte Carlo, its maximum against brute force."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory import InputError, data, exact_loss, predict_memorization, solve_local_minimum
from dae_theory.minima.dead_units import GRADIENT_TOLERANCE, dead_unit_certificate, first_variation

SIGMA, LAM, STARTS = 0.02, 0.01, 61  # starts that do not fill a size of programs
certify = partial(dead_unit_certificate, starts=STARTS)


def unit(w_DM):
    return w_DM / np.linalg.norm(w_DM, axis=0)


def random_net(seed, n=4, d=5, p=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((d, p)), rng.standard_normal((d, p)), rng.standard_normal((n, d))


def pulls(u_DM, *net):
    return np.linalg.norm(first_variation(u_DM, *net), axis=0)


def with_unit(w_DP, column_D):
    return np.column_stack([w_DP, column_D])


# --- the pull at a direction -----------------------------------------------------------------


@jax.jit
def decoder_slope(u_DM, w1, w2, x, sigma, weight):
    def with_decoder(decoder_D, u_D):
        net = jnp.column_stack([w1, u_D]), jnp.column_stack([w2, decoder_D])
        return exact_loss(*net, x, sigma, 0.3, weight)

    zero_D = jnp.zeros(len(u_DM))
    return jax.vmap(jax.grad(with_decoder), in_axes=(None, 1), out_axes=1)(zero_D, u_DM)


@pytest.mark.parametrize("sigma", [0.05, 1.0])
@pytest.mark.parametrize("weight", [np.full(4, 0.25), np.array([0.1, 0.2, 0.3, 0.4])])
def test_pull_is_the_derivative_of_the_loss_in_the_decoder(sigma, weight):
    w1, w2, x = random_net(0)
    w1[:, 1] = 0
    u = np.random.default_rng(1).standard_normal((5, 6))
    u[:, 0] = -2 * w1[:, 0]  # opposite to a unit
    u[:, 1] = w1[:, 2]  # collinear with a unit
    slope = decoder_slope(u, w1, w2, x, sigma, weight)
    np.testing.assert_allclose(first_variation(u, w1, w2, x, sigma, weight), -slope / 2, atol=1e-12)


def test_pull_equals_monte_carlo():
    w1, w2, x = random_net(2)
    u = unit(np.random.default_rng(3).standard_normal((5, 3)))
    y = x + 0.7 * np.random.default_rng(4).standard_normal((100_000, *x.shape))
    residual = x - np.maximum(y @ w1, 0) @ w2.T
    draws = np.mean(residual[..., None] * np.maximum(y @ u, 0)[..., None, :], axis=1)
    error = draws.std(axis=0) / np.sqrt(len(draws))
    np.testing.assert_array_less(
        abs(draws.mean(axis=0) - first_variation(u, w1, w2, x, 0.7)), 4 * error
    )


def test_pull_is_homogeneous_and_zero_for_a_zero_column():
    w1, w2, x = random_net(5)
    u = np.random.default_rng(6).standard_normal((5, 3))
    np.testing.assert_allclose(
        first_variation(3 * u, w1, w2, x, 0.3), 3 * first_variation(u, w1, w2, x, 0.3), rtol=1e-12
    )
    np.testing.assert_array_equal(first_variation(0 * u, w1, w2, x, 0.3), 0)


def test_only_the_length_counts_outside_the_span():
    w1, w2, x = (np.pad(a, pad) for a, pad in zip(random_net(7), PADS, strict=True))
    inside, outside = np.random.default_rng(8).standard_normal((2, 9, 8))
    inside[5:], outside[:5] = 0, 0
    u = unit(inside[:, :1]) + 0.8 * unit(outside)
    same = first_variation(u, w1, w2, x, 0.4)
    np.testing.assert_allclose(same, same[:, :1] * np.ones(8), atol=1e-14)
    assert abs(pulls(unit(inside), w1, w2, x, 0.4) / pulls(u, w1, w2, x, 0.4) - 1)[0] > 0.01


PADS = (((0, 4), (0, 0)), ((0, 4), (0, 0)), ((0, 0), (0, 4)))


@pytest.mark.parametrize("sigma", [0.1, 0.6])
def test_a_small_unit_changes_the_loss_by_twice_lambda_minus_the_pull(sigma):
    w1, w2, x = random_net(9)
    u = unit(np.random.default_rng(10).standard_normal((5, 3)))
    g = np.asarray(first_variation(u, w1, w2, x, sigma))[:, :1]
    u, pull, v = u[:, :1], np.linalg.norm(g), unit(g)
    base = float(exact_loss(with_unit(w1, 0 * u), with_unit(w2, 0 * v), x, sigma, 0.2))
    sizes = np.array([0.1, 0.05, 0.025])
    excess = []
    for size in sizes:
        changed = exact_loss(with_unit(w1, size * u), with_unit(w2, size * v), x, sigma, 0.2)
        excess.append(float(changed) - base - 2 * size**2 * (0.2 - pull))
    slope = np.polyfit(np.log(sizes), np.log(excess), 1)[0]
    assert abs(slope - 4) < 1e-3


# --- the maximum -----------------------------------------------------------------------------


def circle_maxima(net, count=20_000):
    angle = np.arange(count) * 2 * np.pi / count
    value = pulls(np.stack([np.cos(angle), np.sin(angle)]), *net)
    return np.sort(value[(value > np.roll(value, 1)) & (value > np.roll(value, -1))])[::-1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sigma", [0.15, 0.5])
def test_all_maxima_in_the_plane_are_found(seed, sigma):
    net = (*random_net(seed, n=7, d=2, p=3), sigma)
    found = certify(*net, lam=0.1)
    expected = circle_maxima(net)
    assert found.converged == 1
    assert found.counts.sum() == STARTS
    np.testing.assert_allclose(found.value, expected[0], rtol=1e-6)
    merged = [e for e in expected if np.min(abs(found.values / e - 1)) > 1e-6]
    assert len(merged) <= len(expected) - len(found.values)
    assert found.violates == (expected[0] > 0.1)


def test_nothing_on_the_sphere_is_larger_and_the_direction_is_stationary():
    net = (*random_net(0, n=8, d=4, p=9), 0.3)
    found = certify(*net, lam=0.1)
    u = unit(np.random.default_rng(0).standard_normal((4, 20_000)))
    dense = pulls(u, *net)
    assert 0.98 * found.value < dense.max() <= found.value
    np.testing.assert_allclose(pulls(found.directions, *net), found.values, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(found.pull), found.value, rtol=1e-10)
    steps = 1e-5 * np.linalg.svd(found.direction[None])[2][1:].T
    ahead, behind = (pulls(unit(found.direction[:, None] + s * steps), *net) for s in (1, -1))
    assert np.max(abs(ahead - behind) / 2e-5) < 1e-6 * found.value
    assert np.all(ahead < found.value)
    assert found.gradient.shape == (STARTS,)
    assert np.mean(found.gradient <= GRADIENT_TOLERANCE) == found.converged


def test_a_direction_outside_the_span_is_found():
    # f(y) = y₁/2 is the best linear map here; a unit that sees noise only acts as a bias, and
    # the best one: along the sample the same pull is smaller by exp(−1/2).
    x = np.array([[1.0, 0.0, 0.0]])
    w = np.sqrt(0.5) * np.array([[1.0, -1.0], [0.0, 0.0], [0.0, 0.0]])
    found = certify(w, w, x, 1.0, 0.1)
    assert abs(found.direction[0]) < 1e-6
    np.testing.assert_allclose(found.value, 0.5 / np.sqrt(2 * np.pi), rtol=1e-9)
    np.testing.assert_allclose(found.live_values, found.value * np.exp(-0.5), rtol=1e-9)


@jax.jit
@partial(jax.vmap, in_axes=(0, None, None))
@jax.value_and_grad
def pulled(u_D, towards_D, net):
    return towards_D @ first_variation(u_D[:, None], *net)[:, 0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("sigma", [0.05, 1.0])
def test_pull_and_slope_are_smooth_through_collinearity(sign, sigma):
    w1, w2, x = random_net(13)
    at, towards = sign * unit(w1)[:, 0], np.random.default_rng(14).standard_normal((2, 5))
    distance = np.array([0.0, 1e-16, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6])
    value, slope = pulled(at + distance[:, None] * towards[1], towards[0], (w1, w2, x, sigma))
    np.testing.assert_allclose(value, value[0] + distance * (slope[0] @ towards[1]), atol=1e-10)
    change = np.linalg.norm(slope[1:] - slope[0], axis=1)
    assert np.all(change < 100 / sigma**2 * distance[1:] + 1e-14)


def stored(name):
    if name == "simplex":
        return data.simplex(8, 16).x
    return data.equiangular_directions(2, 16, -0.3) * np.array([[1.0], [1.7]])


@pytest.mark.parametrize("name", ["simplex", "pair"])
def test_stored_samples_are_all_the_maxima_at_the_closed_form(name):
    x = stored(name)
    p = predict_memorization(x, SIGMA, LAM, width=len(x) + 2)
    found = certify(p.w1, p.w2, x, SIGMA, LAM)
    assert not found.violates
    assert found.elsewhere == 0
    assert found.converged == 1
    np.testing.assert_allclose(found.values / LAM, np.ones(len(x)), rtol=1e-9)
    np.testing.assert_allclose(found.live_values[: len(x)] / LAM, 1, rtol=1e-9)
    assert np.isnan(found.live_values[len(x) :]).all()
    cosines = found.directions.T @ unit(x.T)
    np.testing.assert_allclose(cosines.max(axis=0), 1, rtol=1e-9)
    np.testing.assert_allclose(found.cosines, 1, rtol=1e-9)


def test_a_forgotten_sample_is_the_violation():
    x = stored("simplex")
    p = predict_memorization(x, SIGMA, LAM)
    keep = np.arange(8) != 3
    found = certify(p.w1 * keep, p.w2 * keep, x, SIGMA, LAM)
    np.testing.assert_allclose(found.live_values[keep] / LAM, 1, rtol=1e-9)
    assert found.violates
    np.testing.assert_allclose(found.value, np.sum(x[3] ** 2) / 8, rtol=1e-6)
    np.testing.assert_allclose(found.direction, x[3], atol=1e-6)
    np.testing.assert_allclose(found.pull / found.value, x[3], atol=1e-6)
    assert found.elsewhere == found.value
    assert np.sum(found.values > LAM * (1 + 1e-6)) == 1


def test_the_verdict_depends_on_the_tolerance_alone_where_noise_flips_gates():
    x = stored("simplex")
    p = predict_memorization(x, 0.1, LAM)  # z = 1.4: (5) is stationary to 1% only
    strict, loose = (certify(p.w1, p.w2, x, 0.1, LAM, tolerance=t) for t in (1e-6, 0.05))
    assert strict.violates
    assert not loose.violates
    assert strict.value == loose.value
    assert strict.elsewhere == 0
    assert 1e-3 < np.max(abs(strict.live_values / LAM - 1)) < 0.05


@pytest.mark.parametrize("cosine", [-0.3, 0.3])
def test_no_wider_net_is_better_by_more_than_the_excess(cosine):
    x = data.equiangular_directions(2, 2, cosine)
    p = predict_memorization(x, 0.05, LAM, width=6)
    narrow = solve_local_minimum(p.w1, p.w2, x, 0.05, LAM)
    found = certify(narrow.w1, narrow.w2, x, 0.05, LAM)
    np.testing.assert_allclose(found.live_values[:2] / LAM, 1, rtol=1e-6)
    assert found.violates == (cosine > 0)
    starts = np.random.default_rng(0).standard_normal((4, 2, 2, 6)) / 2
    best = min(solve_local_minimum(*start, x, 0.05, LAM).loss for start in starts)
    bound = (found.ratio - 1) * np.mean(np.sum(x**2, axis=1))
    assert narrow.loss - best <= bound + 1e-9
    if cosine > 0:  # the excess is real: a wider net uses it
        assert narrow.loss - best > 1e-5


def test_units_of_measurement_change_nothing():
    w1, w2, x = random_net(11)
    small = certify(w1, w2, x, 0.3, 0.1)
    large = certify(w1, w2, 1e3 * x, 300.0, 1e5)
    np.testing.assert_allclose(large.ratio, small.ratio, rtol=1e-9)
    np.testing.assert_allclose(large.direction, small.direction, atol=1e-6)


def test_permuted_split_and_zero_columns_change_nothing():
    w1, w2, x = random_net(12)
    split = np.sqrt(np.array([0.3, 0.7]))
    both = [np.column_stack([w[:, 2], w[:, :1] * split, np.zeros(5), w[:, 1]]) for w in (w1, w2)]
    one, other = (certify(*net, x, 0.3, 0.1) for net in ((w1, w2), both))
    np.testing.assert_allclose(other.value, one.value, rtol=1e-9)
    np.testing.assert_allclose(
        other.live_values[[1, 2, 0, 4]], one.live_values[[0, 0, 2, 1]], rtol=1e-9
    )


def test_float64_whatever_the_setting_and_reproducible():
    x = stored("pair")
    p = predict_memorization(x, SIGMA, LAM)
    run = partial(certify, p.w1, p.w2, x, SIGMA, LAM)
    with jax.enable_x64(False):
        single = run()
    double = run()
    assert abs(single.ratio - 1) < 1e-12
    np.testing.assert_array_equal(single.direction, double.direction)
    assert not np.array_equal(run(seed=1).gradient, double.gradient)


def test_an_empty_net_and_a_single_start():
    x = stored("simplex")
    zeros = np.zeros((16, 2))
    found = dead_unit_certificate(zeros, zeros, x, SIGMA, LAM, starts=1)
    assert found.violates
    assert found.cosines.tolist() == [-1]
    assert found.elsewhere == found.value
    assert np.isnan(found.live_values).all()


BAD = {
    "W1 and W2 differ": {"w1": np.ones((16, 3))},
    "W1: has 4 rows": {"w1": np.ones((4, 8))},
    "samples: contains NaN": {"x": np.full((8, 16), np.nan)},
    "W2: contains NaN": {"w2": np.full((16, 8), np.inf)},
    "sigma": {"sigma": 0.0},
    "lam: the weight decay": {"lam": -1.0},
    "lam: without weight decay": {"lam": 0.0},
    "starts": {"starts": 0},
    "tolerance": {"tolerance": -1e-3},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    x = stored("simplex")
    p = predict_memorization(x, SIGMA, LAM)
    good = {"w1": p.w1, "w2": p.w2, "x": x, "sigma": SIGMA, "lam": LAM} | BAD[message]
    options = {name: good.pop(name) for name in ("starts", "tolerance") if name in good}
    with pytest.raises(InputError, match=message):
        dead_unit_certificate(*good.values(), **options)
