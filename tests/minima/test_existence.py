"""The Lipschitz bound against sampled Hessians, the radius against minimizers that are found."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from scipy.stats import norm

from dae_theory import InputError, data, exact_loss, predict_memorization
from dae_theory.minima import existence
from dae_theory.minima.existence import (
    BALL,
    hessian_lipschitz,
    newton_kantorovich,
    rounding_allowance,
    smaller_root,
)
from dae_theory.minima.second_order import LANCZOS_TOLERANCE

N, P, D = 3, 3, 4
SIGMA, LAM = 0.05, 0.02


def loss(weights, x, sigma):
    return exact_loss(*weights, x, sigma, LAM)


gradient, hessian = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))


@jax.jit
def third(weights, x, sigma, direction):
    """T(v, v, ·), the third derivative of the loss along v twice."""

    def along(at):
        return jax.jvp(lambda w: jax.grad(loss)(w, x, sigma), (at,), (direction,))[1]

    return jax.jvp(along, (weights,), (direction,))[1]


def worst_direction(weights, x, sigma, seed, steps=60):
    """Largest |T(v, v, v)| over unit v that a power iteration with a shift finds."""
    v = np.random.default_rng(seed).standard_normal(weights.shape)
    best, shift = 0.0, 0.0
    for _ in range(steps):
        v /= np.linalg.norm(v.ravel())
        image = np.asarray(third(weights, x, sigma, v))
        best = max(best, abs(np.sum(image * v)))
        shift = max(shift, 0.5 * np.linalg.norm(image.ravel()))
        v = np.sign(np.sum(image * v)) * image + shift * v
    return best


def simplex_net(sigma):
    """The closed form (5) for a simplex: wide margins for small σ."""
    x = data.simplex(N, D).x
    p = predict_memorization(x, sigma, LAM)
    return np.stack([p.w1, p.w2]), x, sigma


def narrow_net(sigma):
    """Samples far out along the hyperplanes of the units, so that gates matter: z from 1.2 to 2."""
    rng = np.random.default_rng(0)
    w1 = np.eye(D)[:, :P]
    w2 = rng.standard_normal((D, P))
    x = sigma * rng.uniform(1.2, 2.0, (N, D)) * rng.choice([-1, 1], (N, D))
    x[:, P] = [1.0, -0.8, 0.5]
    return np.stack([w1, w2]), x, sigma


NETS = {
    "simplex, z=2.5": partial(simplex_net, 0.2),
    "simplex, z=12": partial(simplex_net, 0.04),
    "narrow, sigma=0.3": partial(narrow_net, 0.3),
    "narrow, sigma=0.02": partial(narrow_net, 0.02),
}


@cache
def net_and_worst(name):
    """Net, bound at the net itself, and the largest third derivative found there."""
    net = NETS[name]()
    bound = hessian_lipschitz(*net[0], *net[1:], radius=0.0)
    return net, bound, max(worst_direction(*net, seed) for seed in range(6))


# --- Lipschitz constant ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_third_derivative_is_within_the_bound(name):
    _, bound, worst = net_and_worst(name)
    assert 1e-3 * bound < worst <= bound


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("share", [1e-3, 0.03])
def test_hessians_in_the_ball_differ_by_less_than_the_bound(name, share):
    (weights, x, sigma), _, _ = net_and_worst(name)
    radius = share * sigma  # margins must not close
    bound = hessian_lipschitz(*weights, x, sigma, radius)
    rng = np.random.default_rng(0)
    for _ in range(100):
        ends = rng.standard_normal((2, *weights.shape))
        ends *= radius / np.sqrt(np.sum(ends**2, axis=(1, 2, 3), keepdims=True))
        one, other = (np.reshape(hessian(weights + e, x, sigma), (weights.size,) * 2) for e in ends)
        distance = np.linalg.norm((ends[0] - ends[1]).ravel())
        assert np.linalg.norm(one - other, 2) <= bound * distance


@pytest.mark.parametrize("name", NETS)
def test_bound_grows_with_the_ball(name):
    (weights, x, sigma), bound, _ = net_and_worst(name)
    radii = sigma * np.array([1e-4, 1e-3, 1e-2])
    bounds = [hessian_lipschitz(*weights, x, sigma, r) for r in radii]
    assert bound < bounds[0] < bounds[1] < bounds[2]
    assert bounds[0] == pytest.approx(bound, rel=1e-2)


def test_a_ball_that_brings_a_gate_within_a_standard_deviation_is_refused():
    (weights, x, sigma), *_ = net_and_worst("narrow, sigma=0.3")
    norm_P, length_N = np.linalg.norm(weights[0], axis=0), np.linalg.norm(x, axis=1)
    slack_NP = np.abs(x @ weights[0]) - sigma * norm_P  # a unit turns by at most 2·radius/‖w‖
    reach = np.min(slack_NP / (2 * length_N[:, None]))
    assert np.isfinite(hessian_lipschitz(*weights, x, sigma, 0.99 * reach))
    with pytest.raises(InputError, match="within one standard deviation"):
        hessian_lipschitz(*weights, x, sigma, 1.01 * reach)


def test_without_its_gate_part_the_bound_is_wrong(monkeypatch):
    (weights, x, sigma), bound, worst = net_and_worst("narrow, sigma=0.02")
    monkeypatch.setattr(existence, "density", np.zeros_like)
    smooth = hessian_lipschitz(*weights, x, sigma, 0.0)
    assert smooth < worst <= bound


def test_without_its_smooth_part_the_bound_is_wrong():
    (weights, x, sigma), bound, worst = net_and_worst("simplex, z=12")
    # Gates are frozen here: what is left of the bound is its smooth part, by hand.
    second = x.T @ x / N + sigma**2 * np.eye(D)
    c = np.linalg.norm(second, 2)
    energy = np.sqrt(np.trace(weights[0].T @ second @ weights[0]))
    smooth = 12 / np.sqrt(2) * max(np.sqrt(c) * energy, np.linalg.norm(weights[1], 2) * c)
    assert bound == pytest.approx(smooth, rel=1e-9)
    assert worst > 0.1 * bound > 1e9 * (bound - smooth)


def test_the_bound_is_its_formula_sample_by_sample():
    """docs/THEORY.md#newton-kantorovich, in loops, on columns whose norms are not one."""
    weights, x, sigma = narrow_net(0.3)
    weights = weights * np.array([0.6, 0.9, 1.3])
    (w1, w2), radius = weights, 0.01
    a, b = (np.linalg.norm(w, 2) + radius for w in weights)
    second = x.T @ x / N + sigma**2 * np.eye(D)
    c = np.linalg.norm(second, 2)
    energy = np.sqrt(np.trace(w1.T @ second @ w1)) + radius * np.sqrt(c)
    gates = 0.0
    for sample in x:
        length = np.linalg.norm(sample)
        y = length + sigma * ((D + 1) * (D + 3)) ** 0.25
        r = a * b * y + length
        of_units = []
        for one, two in zip(w1.T, w2.T, strict=True):
            size, reach = np.linalg.norm(one), np.linalg.norm(two) + radius
            z = (abs(sample @ one) - 2 * radius * length) / (sigma * size)
            size -= radius
            opened = 6 * y**2 * (reach * (a + b) * y + r)
            closed = z * y**3 * r / (sigma * size) + 3 * y**2 * r / size + a * b * y**3 / size
            of_units.append(norm.pdf(z) / (sigma * size) * (opened + 2 * reach * closed))
        gates += max(of_units) / N
    bound = 12 / np.sqrt(2) * max(np.sqrt(c) * energy, b * c) + gates
    assert hessian_lipschitz(*weights, x, sigma, radius) == pytest.approx(bound, rel=1e-9)


def test_zero_columns_do_not_count_and_units_of_measurement_do():
    (weights, x, sigma), bound, _ = net_and_worst("narrow, sigma=0.3")
    padded = np.insert(weights, 1, 0, axis=2)
    assert hessian_lipschitz(*padded, x, sigma, 0.0) == pytest.approx(bound, rel=1e-12)
    scaled = hessian_lipschitz(*weights, 10 * x, 10 * sigma, 0.0)
    assert scaled == pytest.approx(100 * bound, rel=1e-12)


# --- existence -------------------------------------------------------------------------------


@cache
def minimizer():
    """Samples, the local minimizer at (5), its lowest eigenvalue and a soft unit direction."""
    x = data.simplex(N, D).x
    p = predict_memorization(x, SIGMA, LAM)
    weights = newton(np.stack([p.w1, p.w2]), x)
    values, vectors = np.linalg.eigh(hessian_matrix(weights, x))
    return x, weights, values[0], vectors[:, 0].reshape(weights.shape)


def hessian_matrix(weights, x):
    return np.reshape(hessian(weights, x, SIGMA), (weights.size,) * 2)


def slope(weights, x):
    return np.ravel(gradient(weights, x, SIGMA))


def newton(weights, x):
    """Newton's method, undamped."""
    for _ in range(5):
        step = np.linalg.solve(hessian_matrix(weights, x), slope(weights, x))
        weights = weights - step.reshape(weights.shape)
    assert np.linalg.norm(slope(weights, x)) < 1e-14
    return weights


def at_distance(distance, direction):
    """Existence at a point this far from the minimizer, from what is computed there."""
    x, weights, _, _ = minimizer()
    start = weights + distance * direction
    curvature = np.linalg.eigvalsh(hessian_matrix(start, x))[0]
    g = np.linalg.norm(slope(start, x))
    return start, newton_kantorovich(*start, x, SIGMA, LAM, g, curvature)


@pytest.mark.parametrize("distance", [1e-9, 1e-7, 1e-5])
@pytest.mark.parametrize("seed", range(3))
def test_the_minimizer_is_within_the_radius(distance, seed):
    x, weights, _, _ = minimizer()
    direction = np.random.default_rng(seed).standard_normal(weights.shape)
    direction /= np.linalg.norm(direction.ravel())
    start, found = at_distance(distance, direction)
    moved = np.linalg.norm((newton(start, x) - start).ravel())
    assert moved == pytest.approx(distance, rel=1e-5)
    assert moved <= found.radius <= 2 * found.grad_norm / found.curvature
    assert found.kantorovich <= 0.5
    assert found.curvature > found.lipschitz * found.radius  # hence a minimum


def test_radius_is_tight_along_the_softest_direction():
    x, _, lowest, soft = minimizer()
    start, found = at_distance(1e-6, soft)
    assert found.radius == pytest.approx(1e-6, rel=1e-2)
    for g, mu in ((found.grad_norm / 2, lowest), (found.grad_norm, 2 * lowest)):  # mutants
        assert newton_kantorovich(*start, x, SIGMA, LAM, g, mu).radius < 0.6e-6


def test_radius_is_the_smaller_root():
    x, weights, mu, _ = minimizer()
    found = newton_kantorovich(*weights, x, SIGMA, LAM, 1e-5, mu)
    g, mu, k = found.grad_norm, found.curvature, found.lipschitz
    roots = np.roots([k / 2, -mu, g])  # K r²/2 − μ r + g = 0
    assert found.radius == pytest.approx(roots.min(), rel=1e-9)
    assert found.kantorovich == pytest.approx(k * g / mu**2)
    smallest = np.min(np.linalg.norm(weights[0], axis=0))
    assert found.ball == pytest.approx(BALL * smallest)
    assert k == pytest.approx(hessian_lipschitz(*weights, x, SIGMA, found.ball))
    assert smaller_root(0.0, mu, k, found.ball) == (0, 0)
    assert not found.enclosed


def test_rounding_widens_the_bound():
    x, weights, mu, _ = minimizer()
    found = newton_kantorovich(*weights, x, SIGMA, LAM, 1e-12, mu)
    assert 1e-12 < found.grad_norm < 1e-11
    assert mu * (1 - 1e-4) < found.curvature < mu
    assert 1e-12 / mu < found.radius < 1e-9


def test_weight_decay_is_rounded_like_the_rest():
    x, weights, _, _ = minimizer()
    (g, h), (decayed_g, decayed_h) = (rounding_allowance(*weights, x, SIGMA, lam) for lam in (0, 9))
    gamma = (decayed_g - g) / (2 * 9 * np.linalg.norm(weights.ravel()))
    terms = existence.SUMS * (D + P) + N + existence.MOMENTS
    assert gamma == pytest.approx(terms * np.finfo(float).eps / 2, rel=1e-6)
    assert decayed_h - h == pytest.approx(2 * 9 * (gamma + LANCZOS_TOLERANCE), rel=1e-6)


def test_no_radius_beyond_what_is_proved():
    k, ball = 3.0, 1e-3
    soft, stiff = k * ball / 2, 10 * k * ball
    for factor, finite in ((0.99, True), (1.0001, False)):
        h, radius = smaller_root(factor * soft**2 / (2 * k), soft, k, ball)
        assert h == pytest.approx(factor / 2)
        assert np.isfinite(radius) == finite
    for curvature in (0.0, -soft):
        assert smaller_root(1e-12, curvature, k, ball) == (np.inf, np.inf)
    # h < 1/2, but the radius would be larger than the ball that K holds in.
    h, radius = smaller_root(0.8 * stiff**2 / (2 * k), stiff, k, ball)
    assert h == pytest.approx(0.4)
    assert radius == np.inf


# --- input -----------------------------------------------------------------------------------

BAD = {
    "W1 and W2 differ": {"w2": np.ones((D, 2))},
    "W1: has 2 rows": {"w1": np.ones((2, P)), "w2": np.ones((2, P))},
    "W1: expected a": {"w1": np.ones(D)},
    "W2: contains NaN": {"w2": np.full((D, P), np.nan)},
    "samples: contains NaN": {"x": np.full((N, D), np.inf)},
    "sigma": {"sigma": -0.1},
    "all units are zero": {"w1": np.zeros((D, P))},
    "within one standard deviation": {"sigma": 5.0},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    x, weights, mu, _ = minimizer()
    good = {"w1": weights[0], "w2": weights[1], "x": x, "sigma": SIGMA} | BAD[message]
    with pytest.raises(InputError, match=message):
        newton_kantorovich(*good.values(), LAM, 1e-9, mu)
    with pytest.raises(InputError, match=message):
        hessian_lipschitz(*good.values(), 1e-9)


@pytest.mark.parametrize("radius", [1.0, -1e-3, np.nan, np.inf])
def test_bad_radius(radius):
    x, weights, _, _ = minimizer()
    with pytest.raises(InputError, match="radius: "):
        hessian_lipschitz(*weights, x, SIGMA, radius)


@pytest.mark.parametrize("numbers", [(np.nan, 1.0), (1.0, np.nan), (-1.0, 1.0), (np.inf, 1.0)])
def test_bad_numbers(numbers):
    x, weights, _, _ = minimizer()
    with pytest.raises(InputError, match="grad_norm and curvature"):
        newton_kantorovich(*weights, x, SIGMA, LAM, *numbers)
