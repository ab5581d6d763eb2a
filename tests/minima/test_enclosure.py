"""Balls against mpmath, JAX and the float64 bound; the allowance for rounding against balls."""

from functools import cache

import flint
import mpmath
import numpy as np
import pytest
import scipy.stats
from flint import arb

from dae_theory import InputError, data, predict_blocks, predict_memorization
from dae_theory.minima import enclosure
from dae_theory.minima.enclosure import (
    LARGEST_ENCLOSED,
    both_active,
    enclose_derivatives,
    lowest_eigenvalue,
    prove_existence,
    prove_minimizer,
)
from dae_theory.minima.existence import (
    MOMENTS,
    hessian_lipschitz,
    newton_kantorovich,
    rounding_allowance,
)
from dae_theory.minima.second_order import hessian_spectrum, second_order
from dae_theory.relu.gaussian_moments import pair_moments
from dae_theory.solve.derivatives import expansion
from dae_theory.solve.newton import newton_along_rotations, newton_modulo_symmetry

N, D, P, LAM = 3, 4, 3, 0.02  # one size: one compilation


def near_gates(sigma, seed=0):
    """Random weights, W1 ≠ W2, and samples: margins of the order of 1/σ, some near zero."""
    rng = np.random.default_rng(seed)
    return *rng.standard_normal((2, D, P)), rng.standard_normal((N, D)), sigma


def stored(sigma):
    """(5) for a simplex."""
    x = data.simplex(N, D).x
    p = predict_memorization(x, sigma, LAM)
    return p.w1, p.w2, x, sigma


NETS = {
    "near, sigma=1": near_gates(1.0),
    "near, sigma=0.3": near_gates(0.3, seed=1),
    "near, sigma=0.02": near_gates(0.02, seed=2),
    "simplex, z=2.5": stored(0.2),
    "simplex, z=10": stored(0.05),
}


@cache
def enclosed(name):
    with flint.ctx.workprec(128):
        return enclose_derivatives(*NETS[name], LAM)


def in_order(gradient, hessian):
    """The order of `expansion`: (2, D, P)."""
    size = gradient.size
    turned = hessian.transpose(0, 2, 1, 3, 5, 4).reshape(size, size)
    return gradient.transpose(0, 2, 1).ravel(), turned


def in_float64(name):
    w1, w2, x, sigma = NETS[name]
    _, gradient, hessian = expansion(np.stack([w1, w2]), x, np.full(N, 1 / N), sigma, LAM)
    return np.ravel(gradient), np.asarray(hessian)


# --- gradient and Hessian --------------------------------------------------------------------


def mpmath_loss(weights, units, x, sigma):
    """(1) with E h_j h_k by quadrature over one pre-activation: no Φ2, no rule of derivation."""
    half = len(weights) // 2
    columns = [[w[j::units] for j in range(units)] for w in (weights[:half], weights[half:])]
    lam, sigma = mpmath.mpf(LAM), mpmath.mpf(sigma)

    def dot(a, b):
        return mpmath.fsum(s * t for s, t in zip(a, b, strict=True))

    def rectified(t):
        return t * mpmath.ncdf(t) + mpmath.npdf(t)

    norms = [mpmath.sqrt(dot(w, w)) for w in columns[0]]
    total = mpmath.mpf(0)
    for sample in x:
        sample = [mpmath.mpf(float(value)) for value in sample]
        z = [dot(w, sample) / (sigma * s) for w, s in zip(columns[0], norms, strict=True)]
        total += dot(sample, sample)
        for j in range(units):
            mean = sigma * norms[j] * rectified(z[j])
            total -= 2 * dot(columns[1][j], sample) * mean
            square = (1 + z[j] ** 2) * mpmath.ncdf(z[j]) + z[j] * mpmath.npdf(z[j])
            total += dot(columns[1][j], columns[1][j]) * (sigma * norms[j]) ** 2 * square
            for k in range(j):
                rho = dot(columns[0][j], columns[0][k]) / (norms[j] * norms[k])
                q = mpmath.sqrt(1 - rho**2)

                def integrand(y, h=z[j], k=z[k], rho=rho, q=q):
                    return (k + y) * mpmath.npdf(y) * q * rectified((h + rho * y) / q)

                low = -z[k]
                points = [low, low + 2, low + 4, low + 7, low + 11, low + 16, low + 22]
                moment = sigma**2 * norms[j] * norms[k] * mpmath.quad(integrand, points)
                total += 2 * dot(columns[1][j], columns[1][k]) * moment
    decay = mpmath.fsum(w**2 for w in weights)
    return total / len(x) + lam * decay


def test_derivatives_are_those_of_the_loss_by_quadrature():
    """Slope and curvature along a random direction, by differences of 40 digits."""
    rng, sigma = np.random.default_rng(3), 1.0
    (w1, w2), x = rng.standard_normal((2, 2, 3)), rng.standard_normal((1, 2))
    direction = rng.standard_normal(12)
    with flint.ctx.workprec(128):
        gradient, hessian = in_order(*enclose_derivatives(w1, w2, x, sigma, LAM))
        v = np.array([arb(value) for value in direction])
        slope, bend = v @ gradient, v @ (hessian @ v)
        found = [mpmath.mpf(value.mid().str(35, radius=False)) for value in (slope, bend)]
    with mpmath.workdps(40):
        start = [mpmath.mpf(float(w)) for w in (*w1.ravel(), *w2.ravel())]
        step = mpmath.mpf("1e-8")

        def along(t):
            moved = [w + t * mpmath.mpf(float(v)) for w, v in zip(start, direction, strict=True)]
            return mpmath_loss(moved, 3, x, sigma)

        ahead, here, behind = along(step), along(mpmath.mpf(0)), along(-step)
        expected = (ahead - behind) / (2 * step), (ahead - 2 * here + behind) / step**2
        for one, other in zip(found, expected, strict=True):
            assert abs(one - other) < 1e-13 * abs(other)  # step² of the error of differences


@pytest.mark.parametrize("name", NETS)
def test_derivatives_are_those_of_the_float64_code(name):
    scale = max(float(ball.abs_upper()) for ball in enclosed(name)[1].ravel())
    for balls, floats in zip(in_order(*enclosed(name)), in_float64(name), strict=True):
        errors = [
            float(abs(b - float(f))) for b, f in zip(balls.ravel(), floats.ravel(), strict=True)
        ]
        assert max(errors) < 1e-13 * scale
        assert max(float(ball.rad()) for ball in balls.ravel()) < 1e-30 * scale


def test_a_higher_precision_lies_inside():
    """Balls at 64 bits contain those at 256: what was rounded is counted."""
    results = {}
    for bits in (64, 256):
        with flint.ctx.workprec(bits):
            results[bits] = enclose_derivatives(*NETS["near, sigma=0.3"], LAM)
    for wide, narrow in zip(results[64], results[256], strict=True):
        assert all(w.contains(n) for w, n in zip(wide.ravel(), narrow.ravel(), strict=True))


@pytest.mark.parametrize("margins", [(0.3, -1.2, 0.5), (-7.0, 7.0, -1 / 3), (2.0, 2.1, 0.999)])
def test_both_active(margins):
    h, k, rho = margins
    with mpmath.workdps(30):
        q = mpmath.sqrt(1 - mpmath.mpf(rho) ** 2)
        points = [-k, -k + 3, -k + 6, -k + 12, -k + 20]
        exact = mpmath.quad(lambda y: mpmath.npdf(y) * mpmath.ncdf((h + rho * y) / q), points)
        with flint.ctx.workprec(100):
            found = both_active(arb(h), arb(k), arb(rho))
            assert abs(mpmath.mpf(found.mid().str(28, radius=False)) - exact) < 1e-24


# --- the lowest eigenvalue -------------------------------------------------------------------


def symmetric(values):
    return np.vectorize(lambda v: arb(float(v)), otypes=[object])(values)


def test_lowest_eigenvalue_of_a_chain():
    """2 on the diagonal, −1 beside it: 2 − 2 cos(π/(n+1))."""
    n = 12
    matrix = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    with flint.ctx.workprec(128):
        found = lowest_eigenvalue(symmetric(matrix))
        exact = 2 - 2 * (arb.pi() / (n + 1)).cos()
        assert found.lower() <= exact
        assert exact - found < 1e-13
        for shift in (0.07, 1.0):  # indefinite, and negative on the diagonal
            assert lowest_eigenvalue(symmetric(matrix - shift * np.eye(n))) == arb.neg_inf()


def test_lowest_eigenvalue_counts_what_balls_leave_open():
    matrix = symmetric(np.diag([1.0, 2.0, 3.0]))
    with flint.ctx.workprec(128):
        matrix[0, 1] = matrix[1, 0] = arb(0, 0.5)
        assert lowest_eigenvalue(matrix).lower() <= 2.5 - np.sqrt(0.5) - 1  # of [[1, ½], [½, 2]]
        for unknown in (arb(0, 1.5), arb.nan()):
            matrix[0, 1] = matrix[1, 0] = unknown
            assert lowest_eigenvalue(matrix) == arb.neg_inf()


def test_lowest_eigenvalue_is_a_bound_whatever_the_vectors_are(monkeypatch):
    """Vectors twice as long, or not orthogonal, weaken the bound, and no more."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((6, 6))
    matrix = root @ root.T + np.eye(6)
    lowest = np.linalg.eigvalsh(matrix)[0]
    vectors = np.linalg.eigh(matrix)[1]
    for wrong in (2 * vectors, vectors + 1e-3 * rng.standard_normal((6, 6))):
        monkeypatch.setattr(np.linalg, "eigh", lambda _, wrong=wrong: (None, wrong))
        found = float(lowest_eigenvalue(symmetric(matrix)).lower())
        assert 0.5 * lowest < found <= lowest * (1 + 1e-12)


# --- existence -------------------------------------------------------------------------------

SIGMA = 0.05


@cache
def minimizer():
    """Samples, the minimizer at (5) to rounding, its lowest eigenvalue and soft direction."""
    w1, w2, x, _ = stored(SIGMA)
    weights, share = np.stack([w1, w2]), np.full(N, 1 / N)
    for _ in range(4):
        _, gradient, hessian = expansion(weights, x, share, SIGMA, LAM)
        step = np.linalg.solve(hessian, np.ravel(gradient))
        weights = weights - step.reshape(weights.shape)
    values, vectors = np.linalg.eigh(hessian)
    return x, weights, values[0], vectors[:, 0].reshape(weights.shape)


@pytest.mark.parametrize("distance", [1e-9, 1e-6])
def test_radius_is_tight_along_the_softest_direction(distance):
    """Half the gradient, or twice the curvature, would be noticed on either side."""
    x, weights, lowest, soft = minimizer()
    found = prove_existence(*(weights + distance * soft), x, SIGMA, LAM)
    assert found.enclosed
    assert distance * (1 - 1e-5) <= found.radius <= 1.001 * distance
    assert found.grad_norm == pytest.approx(distance * lowest, rel=1e-4)
    assert found.curvature == pytest.approx(lowest, rel=1e-4)


def test_the_minimizer_is_within_the_radius():
    x, weights, *_ = minimizer()
    for seed in range(3):
        move = np.random.default_rng(seed).standard_normal(weights.shape)
        move *= 1e-7 / np.linalg.norm(move.ravel())
        found = prove_existence(*(weights + move), x, SIGMA, LAM)
        assert 1e-7 <= found.radius <= 2 * found.grad_norm / found.curvature
        assert found.kantorovich <= 0.5


def test_the_bound_with_an_allowance_is_wider():
    """What would be noticed: an allowance of the other sign."""
    w1, w2, x, sigma = stored(SIGMA)
    at = second_order(w1, w2, x, sigma, LAM)
    allowed = newton_kantorovich(w1, w2, x, sigma, LAM, at.grad_norm, at.lowest)
    proved = prove_existence(w1, w2, x, sigma, LAM)
    assert proved.radius < allowed.radius < 1e-9
    assert proved.grad_norm < allowed.grad_norm
    assert proved.curvature > allowed.curvature
    assert not allowed.enclosed


@pytest.mark.parametrize("name", ["near, sigma=0.3", "simplex, z=10"])
def test_sizes_in_the_bound_are_those_of_the_net(name):
    w1, w2, x, sigma = NETS[name]
    sizes = enclosure._sizes(*map(enclosure._balls, (w1, w2, x)), sigma, 0.1)
    energy = np.mean(np.sum((x @ w1) ** 2, axis=1)) + sigma**2 * np.sum(w1**2)
    assert float(sizes.energy) == pytest.approx(energy, rel=1e-12)
    for found, matrix in ((sizes.op1, w1), (sizes.op2, w2)):
        assert np.linalg.norm(matrix, 2) <= float(found) <= np.linalg.norm(matrix)
    assert float(sizes.chi) ** 4 == pytest.approx(scipy.stats.chi(x.shape[1]).moment(4), rel=1e-9)
    second = float(sizes.second - sigma**2) * N
    assert np.linalg.norm(x, 2) ** 2 <= second <= np.linalg.norm(x) ** 2
    for found, each in ((sizes.norms1, w1.T), (sizes.norms2, w2.T), (sizes.lengths, x)):
        np.testing.assert_allclose(list(map(float, found)), np.linalg.norm(each, axis=1))


@pytest.mark.parametrize("name", ["simplex, z=2.5", "simplex, z=10"])
def test_lipschitz_is_not_below_that_of_float64(name):
    w1, w2, x, sigma = NETS[name]
    proved = prove_existence(w1, w2, x, sigma, LAM)
    floats = hessian_lipschitz(w1, w2, x, sigma, proved.ball)
    assert floats * (1 - 1e-12) <= proved.lipschitz < 1.5 * floats


def test_nothing_is_proved_far_away_or_at_a_saddle():
    x, weights, _, soft = minimizer()
    far = prove_existence(*(weights + 0.1 * soft), x, SIGMA, LAM)
    assert far.radius == np.inf
    shrunk = weights * np.where(np.arange(P) == 0, 1e-3, 1.0)
    saddle = prove_existence(*shrunk, x, SIGMA, LAM)
    assert (saddle.radius, saddle.curvature) == (np.inf, -np.inf)


# --- with rotations --------------------------------------------------------------------------


@cache
def rotated_minimizer():
    """Two clusters whose gates tell rotations apart, the minimizer among these, its lowest
    eigenvalue and soft direction."""
    w1, w2, x, _, lam = clusters()
    sigma = 0.1  # gate margin 4.5
    end = newton_along_rotations(w1, w2, x, sigma, lam)
    weights = np.stack([end.w1, end.w2])
    hessian = expansion(weights, x, np.full(len(x), 1 / len(x)), sigma, lam)[2]
    values, vectors = np.linalg.eigh(np.asarray(hessian))
    return (x, sigma, lam), weights, values[0], vectors[:, 0].reshape(weights.shape)


@pytest.mark.parametrize("distance", [1e-7, 1e-6])
def test_the_minimizer_among_rotations_is_as_far_as_the_radius_says(distance):
    problem, weights, lowest, soft = rotated_minimizer()
    off = prove_minimizer(*weights, *problem).radius  # rounding of float64 over curvature
    assert off < distance / 2
    found = prove_minimizer(*(weights + distance * soft), *problem)
    assert found.enclosed
    assert found.radius == pytest.approx(distance, abs=off + 1e-3 * distance)
    assert found.curvature == pytest.approx(lowest, rel=1e-3)
    assert found.kantorovich <= 1e-3
    # Seen from float64 the theorem speaks of what is orthogonal to rotations only.
    modulo = prove_existence(*weights, *problem)
    assert modulo.curvature > 100 * found.curvature
    assert modulo.radius < 1e-9


def test_no_minimizer_is_proved_where_a_rotation_still_lowers_the_loss():
    (x, sigma, lam), *_ = rotated_minimizer()
    w1, w2, *_ = clusters()
    end = newton_modulo_symmetry(w1, w2, x, sigma, lam)
    assert end.converged
    assert prove_minimizer(end.w1, end.w2, x, sigma, lam).radius == np.inf


def test_without_rotations_both_bounds_are_about_one_minimizer():
    w1, w2, x, sigma = stored(SIGMA)
    one, other = (prove(w1, w2, x, sigma, LAM) for prove in (prove_minimizer, prove_existence))
    assert one == other  # no step was needed


def test_newton_steps_in_the_span_are_those_outside():
    """Turned into 40 dimensions, in coordinates of the span."""
    (x, sigma, lam), weights, _, soft = rotated_minimizer()
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0][:, :D]
    start = weights + 1e-6 * soft
    found = prove_minimizer(*(turn @ w for w in start), x @ turn.T, sigma, lam)
    few = prove_minimizer(*start, x, sigma, lam)
    assert found.radius == pytest.approx(few.radius, rel=1e-6)
    assert found.curvature == pytest.approx(few.curvature, rel=1e-6)


def test_zero_columns_do_not_count():
    w1, w2, x, sigma = stored(SIGMA)
    padded = (np.insert(w, 1, 0, axis=1) for w in (w1, w2))
    assert prove_existence(*padded, x, sigma, LAM) == prove_existence(w1, w2, x, sigma, LAM)


def clusters():
    """(4) for two clusters of three samples, with two units each."""
    mixture = data.separable_mixture(2, D, rank=2, beta=-0.5, alpha=0.05, seed=0)
    x, labels = mixture.sample(0, 6)
    p = predict_blocks(x, labels, (2, 2), 1e-3, 1e-5)
    return p.w1, p.w2, x, 1e-3, 1e-5


@pytest.mark.parametrize("net", [(*stored(SIGMA), LAM), clusters()], ids=["stored", "clusters"])
def test_many_features_are_those_of_the_span(net):
    """Turned into 40 dimensions the net is the same one, but for directions outside."""
    w1, w2, x, sigma, lam = net
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0][:, :D]
    turned = (turn @ w1, turn @ w2, x @ turn.T, sigma, lam)
    few, many = prove_existence(*net), prove_existence(*turned)
    assert few.curvature == pytest.approx(second_order(*net).lowest, rel=1e-6)
    assert many.curvature == pytest.approx(second_order(*turned).lowest, rel=1e-6)
    assert few.lipschitz < many.lipschitz < 1.1 * few.lipschitz
    assert 0 < max(few.radius, many.radius) < 1e-8


def test_a_unit_without_output_spans_nothing():
    """In 40 dimensions its zero column is no part of a basis, and next to it is no minimum."""
    w1, w2, x, sigma = stored(SIGMA)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0][:, :D]
    silent = w2 * [1, 0, 1]
    assert prove_existence(turn @ w1, turn @ silent, x @ turn.T, sigma, LAM).radius == np.inf


def test_directions_outside_the_span_count():
    """One stored sample: 4λ along it, about 2λ in features that are zero everywhere."""
    x, lam = np.eye(1, 6), 0.01
    w = np.sqrt(0.98) * x.T
    found = prove_existence(w, w, x, SIGMA, lam).curvature
    inside = prove_existence(w[:1], w[:1], x[:, :1], SIGMA, lam).curvature
    assert found == pytest.approx(hessian_spectrum(w, w, x, SIGMA, lam).values[0], rel=1e-9)
    assert found < 0.7 * inside


def test_bad_input(monkeypatch):
    w1, w2, x, sigma = stored(SIGMA)
    with pytest.raises(InputError, match=rf"at most {LARGEST_ENCLOSED} and"):
        prove_existence(*np.ones((2, D, LARGEST_ENCLOSED)), x, sigma, LAM)
    with pytest.raises(InputError, match="collinear"):
        prove_existence(w1[:, [0, 0]], w2[:, [0, 0]], x, sigma, LAM)
    with pytest.raises(InputError, match="sigma"):
        prove_existence(w1, w2, x, 0.0, LAM)
    with pytest.raises(InputError, match="lam"):
        prove_existence(w1, w2, x, sigma, np.nan)
    with pytest.raises(InputError, match="within one standard deviation"):
        prove_existence(w1, w2, x, 0.8, LAM)
    wide = np.random.default_rng(0).standard_normal((40, 2))
    with pytest.raises(InputError, match="exactly dependent"):
        prove_existence(wide, wide, np.stack([wide[:, 0], 2 * wide[:, 0]]), sigma, LAM)
    monkeypatch.setattr(enclosure, "PAIRS_ENCLOSED", N * P * (P - 1) // 2 - 1)
    with pytest.raises(InputError, match="9 pairs"):
        prove_existence(w1, w2, x, sigma, LAM)
    assert flint.ctx.prec == 53  # whatever happened


# --- the allowance for rounding --------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_float64_is_within_the_allowance(name):
    off_gradient, off_curvature = rounding_allowance(*NETS[name], LAM)
    differences = []
    for balls, floats in zip(in_order(*enclosed(name)), in_float64(name), strict=True):
        pairs = zip(balls.ravel(), floats.ravel(), strict=True)
        differences.append(np.reshape([float(b - float(f)) for b, f in pairs], balls.shape))
    assert np.linalg.norm(differences[0]) < off_gradient
    assert np.linalg.norm(differences[1], 2) < off_curvature
    at = second_order(*NETS[name], LAM, np.full(P, -1))
    exact = np.linalg.eigvalsh(np.vectorize(float)(in_order(*enclosed(name))[1]))[0]
    assert abs(at.lowest - exact) < off_curvature


def test_moments_are_as_accurate_as_the_allowance_assumes():
    rng = np.random.default_rng(0)
    h, k = 8 * rng.standard_normal((2, 200))
    rho = np.tanh(rng.standard_normal(200))
    q = np.sqrt((1 - rho) * (1 + rho))
    moments = [np.asarray(each) for each in pair_moments(h, k, rho, q)]
    worst = 0.0
    with flint.ctx.workprec(128):
        for s in range(200):
            margins = np.array([[arb(h[s])], [arb(k[s])]])
            units = np.array([[arb(1), arb(0)], [arb(rho[s]), (1 - arb(rho[s]) ** 2).sqrt()]])
            pair = enclosure._pair(*units, *margins)
            other = pair.exchanged()
            exact = (pair.relu_relu, pair.gate_relu, other.gate_relu, pair.both)
            first, last = 1 + abs(h[s]), 1 + abs(k[s])
            for each, found, scale in zip(
                exact, moments, (first * last, last, first, 1.0), strict=True
            ):
                worst = max(worst, float(abs(each[0] - float(found[s]))) / scale)
    assert worst < MOMENTS * np.finfo(float).eps / 2


def test_allowance_has_the_units_of_the_loss():
    w1, w2, x, sigma = NETS["near, sigma=0.3"]
    gradient, curvature = rounding_allowance(w1, w2, x, sigma, LAM)
    scaled = rounding_allowance(w1, w2, 10 * x, 10 * sigma, 100 * LAM)
    np.testing.assert_allclose(scaled, (100 * gradient, 100 * curvature), rtol=1e-12)
    with pytest.raises(InputError, match="lam"):
        rounding_allowance(w1, w2, x, sigma, -1.0)
