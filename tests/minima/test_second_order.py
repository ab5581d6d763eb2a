"""Spectra against jax.hessian, differences and the closed form; verdicts on made-up points."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest

import dae_theory.minima.second_order
from dae_theory import (
    InputError,
    data,
    exact_loss,
    predict_blocks,
    predict_generalization,
    predict_memorization,
)
from dae_theory.minima.second_order import STATIONARY, _judge, hessian_spectrum, second_order
from dae_theory.solve.newton import LARGEST_DENSE, newton_modulo_symmetry
from dae_theory.solve.reduced import Reduced
from dae_theory.theory.closed_forms import block_eigenvalues, block_gains, spread_rotation
from dae_theory.theory.spectrum import predict_curvature
from dae_theory.theory.symmetry import (
    distance_modulo_symmetry,
    flat_directions,
    rotation_directions,
)

# One size of problem for all tests: compilation takes longest.
SIGMA, LAM, N, P, D = 0.02, 1e-4, 6, 6, 6
gradient = jax.jit(jax.grad(lambda w, *problem: exact_loss(*w, *problem)))


@cache
def samples():
    """Two clusters at cosine −1, of 3 samples and rank 3 each."""
    return data.separable_mixture(2, D, rank=2, beta=-1.0, alpha=0.2).sample(36, N)


def decay_that_drops():
    """λ between the second and the third eigenvalue over N in both clusters."""
    spectra = np.array(block_eigenvalues(*samples()))
    assert spectra[:, 2].max() < spectra[:, 1].min()
    return (spectra[:, 2].max() + spectra[:, 1].min()) / 2 / N


@cache
def predicted(case):
    """Closed form, samples, and the rank of each block's units."""
    x, labels = samples()
    if case == "simplex":
        x = data.simplex(N, D).x
        return predict_memorization(x, SIGMA, LAM), x, (1,) * N
    if case == "full":
        return predict_blocks(x, labels, (3, 3), SIGMA, LAM), x, (3, 3)
    if case == "over-rank and narrow":
        return predict_blocks(x, labels, (4, 2), SIGMA, LAM), x, (3, 2)
    return predict_blocks(x, labels, (3, 3), SIGMA, decay_that_drops()), x, (2, 2)


CASES = ["simplex", "full", "over-rank and narrow", "dropped"]


def at(p, x):
    return p.w1, p.w2, x, p.sigma, p.lam


@cache
def exact_spectrum(case):
    p, x, _ = predicted(case)
    return hessian_spectrum(*at(p, x))


@cache
def verdict(case):
    p, x, _ = predicted(case)
    return second_order(*at(p, x))


def random_net(rank, d):
    """Net and samples that span a random subspace, with gates that noise opens and closes."""
    rng = np.random.default_rng(0)
    basis = data.random_rotation(0, d)[:, :rank]
    w1, w2 = basis @ rng.standard_normal((2, rank, P))
    return w1, w2, rng.standard_normal((N, rank)) @ basis.T, 0.5, 0.1


# --- spectrum --------------------------------------------------------------------------------


def test_spectrum_is_that_of_the_full_hessian():
    net = random_net(5, 8)
    hessian = jax.jit(jax.hessian(lambda w: exact_loss(*w, *net[2:])))(np.stack(net[:2]))
    full = np.linalg.eigvalsh(np.reshape(hessian, (2 * 8 * P, 2 * 8 * P)))
    found = hessian_spectrum(*net)
    np.testing.assert_allclose(found.sorted_values(), full, atol=1e-12 * full[-1])
    assert found.count_below(1.0) == np.sum(abs(full) <= 1)


@pytest.mark.parametrize(("rank", "d"), [(6, 6), (5, 6)])
def test_spectrum_is_that_of_differences_of_the_gradient(rank, d):
    net = random_net(rank, d)
    weights, step = np.stack(net[:2]), 1e-4
    rows = []
    for direction in np.eye(weights.size).reshape(-1, *weights.shape):
        ahead, behind = (gradient(weights + s * direction, *net[2:]) for s in (step, -step))
        rows.append(np.ravel(ahead - behind) / (2 * step))
    values = np.linalg.eigvalsh(np.array(rows + np.transpose(rows)) / 2)
    found = hessian_spectrum(*net)
    np.testing.assert_allclose(found.sorted_values(), values, atol=1e-6 * values[-1])
    outside = max(d - rank, 1)  # directions with the same 2P eigenvalues
    assert np.sum(found.multiplicities == outside) >= 2 * P


@pytest.mark.parametrize("case", CASES)
def test_prediction_is_the_spectrum_where_gates_are_frozen(case):
    p, x, ranks = predicted(case)
    assert p.margin >= 7
    exact, closed = exact_spectrum(case).sorted_values(), predict_curvature(p, x).sorted_values()
    largest = exact[-1]
    assert len(closed) == len(exact) == 2 * p.w1.size
    np.testing.assert_allclose(closed, exact, atol=1e-10 * largest)
    # λ counts: half of it is seen at once, in the balance directions.
    half = predict_curvature(replace(p, lam=p.lam / 2), x).sorted_values()
    assert np.max(abs(half - exact)) > p.lam
    widths = np.bincount(p.blocks)
    flat = flat_directions(widths, ranks)
    for spectrum in (exact_spectrum(case), predict_curvature(p, x)):
        assert spectrum.count_below(1e-3 * p.lam) == flat


def test_prediction_fails_where_noise_flips_gates():
    x, labels = samples()
    p = predict_blocks(x, labels, (3, 3), 0.5, LAM)
    assert p.margin < 2
    exact = hessian_spectrum(*at(p, x)).sorted_values()
    assert np.max(abs(predict_curvature(p, x).sorted_values() - exact)) > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_balance_directions_have_curvature_four_lambda(case):
    p, x, ranks = predicted(case)
    symmetric = np.random.default_rng(0).standard_normal((P, P))
    symmetric = (symmetric + symmetric.T) * (p.blocks[:, None] == p.blocks)
    weights = np.stack([p.w1, p.w2])
    direction = np.stack([p.w1 @ symmetric, -p.w2 @ symmetric])
    direction /= np.linalg.norm(direction.ravel())
    ahead, behind = (gradient(weights + s * direction, x, p.sigma, p.lam) for s in (1e-5, -1e-5))
    np.testing.assert_allclose((ahead - behind) / 2e-5, 4 * p.lam * direction, atol=1e-8)
    of_balance = sum(r * (r + 1) // 2 for r in ranks)  # at least: S on the range of the block
    assert np.sum(abs(exact_spectrum(case).sorted_values() / p.lam - 4) < 1e-6) >= of_balance


def test_zero_columns_are_left_out():
    p, x, _ = predicted("full")
    padded = [np.insert(w, 2, 0, axis=1) for w in (p.w1, p.w2)]
    found = hessian_spectrum(*padded, *at(p, x)[2:])
    np.testing.assert_array_equal(found.values, exact_spectrum("full").values)
    judged = second_order(*padded, *at(p, x)[2:])
    assert judged.lowest == verdict("full").lowest
    assert not judged.direction[:, :, 2].any()
    end = newton_modulo_symmetry(*padded, *at(p, x)[2:])
    assert not end.w1[:, 2].any()


# --- verdicts --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_closed_form_is_a_minimum_modulo_symmetry(case):
    p, x, ranks = predicted(case)
    found, values = verdict(case), predict_curvature(p, x).values
    assert found.verdict == "minimum"
    assert found.loss_drop == 0
    assert found.lowest == pytest.approx(values[values > 1e-3 * p.lam].min(), rel=1e-5)
    assert len(found.symmetry) == flat_directions(np.bincount(p.blocks), ranks)
    assert np.max(abs(found.symmetry), initial=0.0) < 1e-9
    assert np.linalg.norm(found.direction.ravel()) == pytest.approx(1.0)
    rotations = rotation_directions(p.w1, p.w2, p.blocks).reshape(-1, 2 * p.w1.size)
    assert np.max(abs(rotations @ found.direction.ravel()), initial=0.0) < 1e-8


def test_products_with_the_hessian_lead_to_the_same_verdict(monkeypatch):
    formed = verdict("full")
    monkeypatch.setattr(dae_theory.minima.second_order, "LARGEST_FORMED", 0)
    p, x, _ = predicted("full")
    found = second_order(*at(p, x))
    assert found.verdict == formed.verdict
    assert found.lowest == pytest.approx(formed.lowest, rel=1e-6)
    np.testing.assert_allclose(found.symmetry, formed.symmetry, atol=1e-12)


def test_without_symmetry_directions_rotations_count_as_curvature():
    p, x, _ = predicted("full")
    found = second_order(*at(p, x), groups_P=np.full(P, -1))
    assert found.verdict == "undecided"
    assert abs(found.lowest) < 1e-7 < verdict("full").lowest
    assert len(found.symmetry) == 0


def exchanged():
    """(4) with two units in the first block, the second eigenpair of which is left out for the
    third, and the lowest eigenvalue that the closed form then has."""
    x, labels = samples()
    p = predict_blocks(x, labels, (2, 4), SIGMA, LAM)
    members = x[labels == 0]
    vectors, singular, _ = np.linalg.svd(members.T, full_matrices=False)
    s, noise = singular[:3] ** 2, len(members) * SIGMA**2
    sign = np.where(vectors[:, 0] @ members.mean(axis=0) < 0, -1, 1)
    kept = vectors[:, [0, 2]] * [sign, 1]
    gains = block_gains(s[[0, 2]], N * LAM, noise)
    block = kept * np.sqrt(gains) @ spread_rotation(2, 2).T
    w = np.concatenate([block, p.w1[:, 2:]], axis=1)
    coupling = np.array([[LAM, -s[1] / N], [-s[1] / N, LAM]])
    data_term = np.diag([s[1] + noise, s[2] + noise]) * gains[1] / N
    return (w, w, x, SIGMA, LAM), 2 * np.linalg.eigvalsh(coupling + data_term)[0]


def test_left_out_eigenpair_is_a_saddle_and_its_direction_lowers_the_loss():
    net, lowest = exchanged()
    found = second_order(*net)
    assert lowest < -LAM
    assert found.grad_norm < 1e-8
    assert found.verdict == "saddle"
    assert found.lowest == pytest.approx(lowest, rel=1e-5)
    weights, problem = np.stack(net[:2]), net[2:]

    def move(step):
        return float(exact_loss(*(weights + step * found.direction), *problem))

    at_rest = move(0.0)
    step = 0.02
    assert (move(step) - 2 * at_rest + move(-step)) / step**2 == pytest.approx(lowest, rel=0.05)
    line = [move(t) for t in np.linspace(-1, 1, 81) * np.linalg.norm(weights.ravel())]
    assert 0 < found.loss_drop <= (at_rest - min(line)) * 1.05
    assert found.loss_drop > 0.5 * (at_rest - min(line))


def test_no_verdict_where_the_gradient_does_not_vanish():
    p, x, _ = predicted("full")
    mix = np.eye(P) + 0.05 * np.random.default_rng(0).standard_normal((P, P))
    found = second_order(p.w1 @ mix, p.w2 @ mix, x, p.sigma, p.lam)
    assert found.verdict == "undecided"
    assert found.grad_norm > 1e-3


def test_no_verdict_without_decay():
    x, labels = samples()
    p = predict_blocks(x, labels, (3, 3), SIGMA, 0.0)
    found = second_order(*at(p, x))
    assert found.verdict == "undecided"
    assert abs(found.lowest) < 1e-7


def test_no_verdict_when_the_eigenvalue_is_not_found(monkeypatch):
    monkeypatch.setattr(dae_theory.minima.second_order, "_LANCZOS_VECTORS", 3)
    monkeypatch.setattr(dae_theory.minima.second_order, "_LANCZOS_RESTARTS", 1)
    p, x, _ = predicted("full")
    found = second_order(*at(p, x))
    assert found.verdict == "undecided"
    assert np.isnan(found.lowest)


# --- Newton's method -------------------------------------------------------------------------


def at_small_margin(scale=1.0):
    x, labels = samples()
    p = predict_blocks(scale * x, labels, (3, 3), 0.14 * scale, LAM * scale**2)
    return p, scale * x


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_newton_ends_where_only_rotations_have_a_gradient(scale):
    p, x = at_small_margin(scale)
    end = newton_modulo_symmetry(*at(p, x))
    assert end.converged
    assert 2 <= end.iterations < 10
    rotations = rotation_directions(p.w1, p.w2, p.blocks).reshape(-1, 2 * p.w1.size)

    def parts(w1, w2):
        slope = np.ravel(gradient(np.stack([w1, w2]), x, p.sigma, p.lam)) / scale**2
        along = rotations @ slope
        return np.linalg.norm(along), np.linalg.norm(slope - rotations.T @ along)

    start, stop = parts(p.w1, p.w2), parts(end.w1, end.w2)
    assert stop[1] < 1e-13 < 1e-9 < start[1]
    assert stop[0] > 1e-9  # else there was nothing to leave out
    assert end.grad_norm / scale**2 == pytest.approx(stop[1], abs=1e-14)
    value = float(exact_loss(end.w1, end.w2, x, p.sigma, p.lam))
    assert end.loss == pytest.approx(value, rel=1e-12)
    moved = distance_modulo_symmetry((end.w1, end.w2), p.blocks, (p.w1, p.w2), p.blocks)
    assert 0 < moved < 0.01
    assert second_order(end.w1, end.w2, *at(p, x)[2:]).verdict == "minimum"


def test_newton_ends_at_a_stationary_point_where_there_is_no_symmetry():
    x = data.simplex(N, D).x
    p = predict_memorization(x, 0.05, 0.01)
    end = newton_modulo_symmetry(*at(p, x))
    assert end.converged
    start, stop = (gradient(np.stack(w), *at(p, x)[2:]) for w in ((p.w1, p.w2), (end.w1, end.w2)))
    assert np.linalg.norm(np.ravel(start)) > 1e-7
    assert np.linalg.norm(np.ravel(stop)) < 1e-14


# --- settings and input ----------------------------------------------------------------------


def test_float64_whatever_the_setting():
    p, x, _ = predicted("full")
    with jax.enable_x64(False):
        values, judged = hessian_spectrum(*at(p, x)).values, second_order(*at(p, x))
    np.testing.assert_array_equal(values, exact_spectrum("full").values)
    assert judged.lowest == verdict("full").lowest


def test_a_large_hessian_is_refused_before_it_is_computed(monkeypatch):
    def fail(*_):
        raise AssertionError("the Hessian was computed")

    monkeypatch.setattr(dae_theory.minima.second_order, "expansion", fail)
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((100, 30)), rng.standard_normal((100, 100))
    assert 2 * w.size > LARGEST_DENSE
    for function in (hessian_spectrum, newton_modulo_symmetry):
        with pytest.raises(InputError, match="dense Hessian of 6000 rows exceeds 4000"):
            function(w, w, x, SIGMA, LAM)


BAD = {
    "W1 and W2 differ": {"w1": np.ones((D, 3))},
    "W1: has 4 rows": {"w1": np.ones((4, P))},
    "samples: contains NaN": {"x": np.full((N, D), np.nan)},
    "samples: expected a": {"x": np.ones(D)},
    "W2: contains NaN": {"w2": np.full((D, P), np.inf)},
    "sigma": {"sigma": -0.1},
    "lam": {"lam": -1.0},
    "all units are zero": {"w1": np.zeros((D, P)), "w2": np.zeros((D, P))},
}


@pytest.mark.parametrize("message", BAD)
@pytest.mark.parametrize("function", [hessian_spectrum, second_order, newton_modulo_symmetry])
def test_bad_input(function, message):
    p, x, _ = predicted("full")
    names = ("w1", "w2", "x", "sigma", "lam")
    arguments = dict(zip(names, at(p, x), strict=True)) | BAD[message]
    with pytest.raises(InputError, match=message):
        function(*arguments.values())


def test_bad_groups_decay_and_prediction():
    p, x, _ = predicted("full")
    for function in (second_order, newton_modulo_symmetry):
        with pytest.raises(InputError, match="groups: expected one for each of 6 units"):
            function(*at(p, x), groups_P=np.zeros(5, int))
    with pytest.raises(InputError, match="lam: without weight decay"):
        newton_modulo_symmetry(p.w1, p.w2, x, SIGMA, 0.0)
    limit = predict_generalization(np.eye(2, D), np.zeros((2, D, D)), np.ones(2), (1, 1), 0.1, 0.01)
    with pytest.raises(InputError, match="population limit"):
        predict_curvature(limit, x)


@pytest.mark.parametrize("norm", [0.1, 10.0])
@pytest.mark.parametrize(("share", "verdict"), [(0.9, "minimum"), (1.1, "undecided")])
def test_a_point_counts_as_stationary_by_its_newton_step_relative_to_its_norm(norm, share, verdict):
    curvature = 0.7
    point = Reduced(norm * np.array([0.6, 0.8]), None, None, None)
    slope = share * STATIONARY * norm * curvature
    assert _judge(point, None, curvature, curvature, slope) == (verdict, 0.0)
