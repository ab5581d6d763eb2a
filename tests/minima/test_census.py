"""Minima from known saddles, and the kinds of nets that are built to be of that kind."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory import InputError, exact_loss, predict_memorization
from dae_theory.data.mixtures import equiangular_directions
from dae_theory.minima.census import (
    KINDS,
    LOSS_TOLERANCE,
    Minimum,
    classify_minimum,
    count_minima,
    find_minima,
    find_minimum,
)
from dae_theory.solve.local import solve_local_minima
from dae_theory.statistics import share_interval

SIGMA, LAM, N, D = 0.03, 0.005, 3, 5
WIDEST = 2 * N  # of the nets here


def samples(cosine=-0.3, n=N):
    return equiangular_directions(n, D, cosine)


def stored_net(x, width=None):
    prediction = predict_memorization(x, SIGMA, LAM, width)
    return prediction.w1.copy(), prediction.w2.copy()


def loss_of(*weights_and_x):
    *weights, x = weights_and_x
    w1, w2 = (np.pad(w, ((0, 0), (0, WIDEST - w.shape[1]))) for w in weights)
    return float(exact_loss(w1, w2, x, SIGMA, LAM))


def classified(w1, w2, x):
    return classify_minimum(w1, w2, x, SIGMA, LAM, loss_of(w1, w2, x))


def on_bisector(x):
    """One unit for two samples, as the closed form (5) stores a single sample of their length."""
    mean = x[:2].mean(axis=0, keepdims=True)
    return stored_net(np.concatenate([mean, x[2:]]))


# --- settling --------------------------------------------------------------------------------


PAIR = samples(0.0, 2)


@pytest.fixture(scope="module")
def starts():
    """Two equal units on the bisector of two orthogonal samples, which no descent tells apart; and
    the net that stores both."""
    column = 0.6 * PAIR.sum(axis=0)[:, None] * np.ones(2)
    return [(column, column), stored_net(PAIR)]


@pytest.fixture(scope="module")
def descended(starts):
    return solve_local_minima(*zip(*starts, strict=True), [PAIR, PAIR], SIGMA, LAM)


@pytest.fixture(scope="module")
def settled(descended):
    weights = zip(*((solution.w1, solution.w2) for solution in descended), strict=True)
    return find_minima(*weights, [PAIR, PAIR], SIGMA, LAM)


def finite_difference_hessian(w1, w2, x, direction, step=1e-4):
    losses = [loss_of(*(np.stack([w1, w2]) + s * direction), x) for s in (-step, 0, step)]
    return (losses[0] - 2 * losses[1] + losses[2]) / step**2


def test_a_saddle_is_left_for_a_minimum(descended, settled):
    start, end = descended[0], settled[0]
    assert start.converged
    apart = np.stack([w * [1, -1] for w in (PAIR[:1] - PAIR[1:]).T * np.ones((2, 1, 1))])
    curvature = finite_difference_hessian(start.w1, start.w2, PAIR, apart / np.linalg.norm(apart))
    assert curvature < -0.01
    assert end.is_minimum
    assert end.grad_norm <= 1e-9
    assert end.lowest >= -1e-7
    assert end.loss < start.loss - 0.01
    assert end.loss == pytest.approx(loss_of(end.w1, end.w2, PAIR), rel=1e-12)


@pytest.mark.parametrize("unit", [1e-4, 1e3])
def test_a_saddle_is_one_in_any_unit_of_measurement(starts, settled, unit):
    end = find_minimum(*starts[0], unit * PAIR, unit * SIGMA, unit**2 * LAM, unit**2 * 1e-9)
    assert end.is_minimum
    assert end.loss == pytest.approx(unit**2 * settled[0].loss, rel=1e-6)


def test_a_minimum_beside_a_saddle_stays_where_it_is(descended, settled):
    start, end = descended[1], settled[1]
    assert end.is_minimum
    assert end.loss == pytest.approx(start.loss, rel=1e-12)
    np.testing.assert_allclose([end.w1, end.w2], [start.w1, start.w2], atol=1e-8)


def test_lowest_curvature_is_below_that_of_random_directions(settled):
    end = settled[1]
    for seed in range(5):
        direction = np.random.default_rng(seed).standard_normal((2, D, 2))
        direction /= np.linalg.norm(direction)
        assert finite_difference_hessian(end.w1, end.w2, PAIR, direction) >= end.lowest - 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_random_starts_settle(seed):
    x = samples()
    start = np.random.default_rng(seed).standard_normal((2, D, N + 1))
    end = find_minimum(*start, x, SIGMA, LAM)
    again = find_minimum(end.w1, end.w2, x, SIGMA, LAM)
    assert end.is_minimum
    assert again.loss == pytest.approx(end.loss, rel=1e-12)


def test_zero_columns_stay_zero_and_all_zero_is_returned():
    x = samples()
    w1, w2 = stored_net(x, N + 1)
    end = find_minimum(w1, w2, x, SIGMA, LAM)
    assert not end.w1[:, N].any()
    assert not end.w2[:, N].any()
    zero = find_minimum(0 * w1, 0 * w2, x, SIGMA, LAM)
    assert zero.loss == pytest.approx(1.0)
    assert not zero.w1.any()


# --- kinds -----------------------------------------------------------------------------------


def split_net(x):
    w1, w2 = stored_net(x, N + 1)
    for w in (w1, w2):
        w[:, N], w[:, 0] = 0.6 * w[:, 0], 0.8 * w[:, 0]
    return w1, w2


def forgetful_net(x):
    w1, w2 = stored_net(x)
    return w1[:, 1:], w2[:, 1:]


def identity_net(x):
    basis = np.linalg.qr(x.T)[0]
    both = np.concatenate([basis, -basis], axis=1)
    return both, both


NETS = {
    "sparse": (stored_net, True, True, ("001", "010", "100")),
    "split": (split_net, True, True, ("001", "010", "100")),
    "entangled": (identity_net, False, False, None),
    "forgetful": (forgetful_net, False, False, ("001", "010")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind_gates_and_memory_of_constructed_nets(kind):
    build, in_weights, in_output, gates = NETS[kind]
    x = samples()
    minimum = classified(*build(x), x)
    assert minimum.kind == kind
    assert minimum.memorizes_weights is in_weights
    assert minimum.memorizes_output is in_output
    assert gates is None or minimum.gates == gates


def test_weights_store_some_samples_beside_a_shared_unit():
    x = samples(0.0)
    minimum = classified(*on_bisector(x), x)
    assert minimum.kind == "entangled"
    np.testing.assert_array_equal(minimum.stored, [False, False, True])
    assert minimum.cosines[0] == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize("kind", ["sparse", "split"])
def test_wrong_gains_are_not_stored(kind):
    x = samples()
    w1, w2 = NETS[kind][0](x)
    minimum = classified(1.02 * w1, w2, x)
    assert minimum.kind == kind
    assert not minimum.memorizes_weights
    assert minimum.memorizes_output
    np.testing.assert_allclose(minimum.gain_errors, 0.02, rtol=1e-6)
    assert not classified(1.3 * w1, w2, x).memorizes_output


@pytest.mark.parametrize("which", ["encoder", "decoder"])
def test_a_sample_is_stored_only_where_both_matrices_point_to_it(which):
    x = samples()
    w1, w2 = stored_net(x)
    beside = np.linalg.svd(x)[2][-1]  # no sample has a part along it
    turned = w2 + 0.5 * np.linalg.norm(w2, axis=0) * beside[:, None]
    pair = (turned, w1) if which == "encoder" else (w1, turned)
    minimum = classified(*pair, x)
    np.testing.assert_allclose(minimum.cosines, 1 / np.sqrt(1.25), rtol=1e-9)
    assert not minimum.stored.any()


def test_numbers_of_the_closed_form():
    x = samples()
    prediction = predict_memorization(x, SIGMA, LAM)
    minimum = classified(prediction.w1, prediction.w2, x)
    assert minimum.excess == pytest.approx(0, abs=1e-8)
    np.testing.assert_allclose(minimum.gains, prediction.gains, rtol=1e-12)
    np.testing.assert_allclose(minimum.output_errors, SIGMA, rtol=0.1)
    np.testing.assert_allclose(minimum.noise_passed, prediction.gains**2, rtol=0.15)


def test_samples_of_any_length_are_stored():
    x = samples() * np.array([[0.8], [1.0], [1.5]])
    prediction = predict_memorization(x, SIGMA, LAM)
    minimum = classified(prediction.w1, prediction.w2, x)
    np.testing.assert_allclose(minimum.cosines, 1, rtol=1e-12)
    np.testing.assert_allclose(minimum.gains, prediction.gains, rtol=1e-12)
    assert minimum.stored.all()


def test_projection_onto_the_span_is_near_but_does_not_memorize():
    x = samples()
    minimum = classified(*identity_net(x), x)
    assert np.all(minimum.output_errors < 0.1)
    np.testing.assert_allclose(minimum.noise_passed, N, rtol=0.15)
    assert not minimum.memorizes_output


def test_a_net_of_zeros_is_forgetful():
    x = samples()
    minimum = classified(np.zeros((D, 2)), np.zeros((D, 2)), x)
    assert minimum.kind == "forgetful"
    assert minimum.gates == ()
    np.testing.assert_array_equal(minimum.cosines, -1)


@pytest.mark.parametrize("seed", range(3))
def test_description_does_not_change_under_symmetries(seed):
    rng = np.random.default_rng(seed)
    x = samples()
    w1, w2 = split_net(x)
    order, scale = rng.permutation(N + 1), rng.uniform(0.5, 2, N + 1)
    loss = loss_of(w1, w2, x)
    a = classify_minimum(w1, w2, x, SIGMA, LAM, loss)
    b = classify_minimum((w1 * scale)[:, order], (w2 / scale)[:, order], x, SIGMA, LAM, loss)
    assert (a.kind, a.gates) == (b.kind, b.gates)
    np.testing.assert_allclose(a.gains, b.gains, rtol=1e-12)


# --- counting --------------------------------------------------------------------------------


@pytest.fixture
def some_minima():
    x = samples()
    sparse, split = classified(*stored_net(x), x), classified(*split_net(x), x)
    w1, w2 = stored_net(x)
    forgetful = [
        classified(np.delete(w1, i, axis=1), np.delete(w2, i, axis=1), x) for i in (0, 0, 1)
    ]
    return [*forgetful, split, sparse, sparse]


@pytest.mark.parametrize(("interchangeable", "counts"), [(False, (3, 2, 1)), (True, (3, 3))])
def test_equal_minima_are_counted_together(some_minima, interchangeable, counts):
    found = count_minima(some_minima, interchangeable)
    assert sorted((d.count for d in found.distinct), reverse=True) == list(counts)
    assert found.distinct[0].minimum.memorizes_weights
    losses = [d.minimum.loss for d in found.distinct]
    assert losses == sorted(losses)
    expected = {"sparse": 2, "split": 1, "entangled": 0, "forgetful": 3}
    assert found.counts == expected | {"weights": 3, "output": 3}
    assert all(found.shares[name] == share_interval(k, 6) for name, k in found.counts.items())
    assert all(d.basin == share_interval(d.count, 6) for d in found.distinct)


@pytest.mark.parametrize(("factor", "distinct"), [(0.5, 1), (2.0, 2)])
def test_losses_closer_than_the_tolerance_are_one(some_minima, factor, distinct):
    minimum = some_minima[-1]
    other = replace(minimum, loss=minimum.loss * (1 + factor * LOSS_TOLERANCE))
    assert len(count_minima([minimum, other]).distinct) == distinct


def test_relabelling_only_joins_what_a_permutation_maps():
    def with_gates(*gates) -> Minimum:
        return Minimum("entangled", 1.0, 0.0, gates, *np.zeros((5, 3)))

    pair, other_pair = with_gates("011", "100"), with_gates("010", "101")
    chain = with_gates("011", "110")
    assert len(count_minima([pair, other_pair, chain], interchangeable=True).distinct) == 2
    assert len(count_minima([pair, other_pair, chain]).distinct) == 3


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lam": 0.0}, "lam"),
        ({"lam": -1.0}, "lam"),
        ({"sigma": 0.0}, "sigma"),
        ({"w1": np.full((D, N), np.nan)}, "W1"),
        ({"w2": np.zeros((D, N + 1))}, "shape"),
        ({"w1": np.zeros((D - 1, N))}, "W1"),
    ],
)
def test_unusable_input_of_settling_is_refused(changes, message):
    x = samples()
    w1, w2 = stored_net(x)
    arguments = {"w1": w1, "w2": w2, "sigma": SIGMA, "lam": LAM} | changes
    with pytest.raises(InputError, match=message):
        find_minimum(arguments["w1"], arguments["w2"], x, arguments["sigma"], arguments["lam"])


def test_unusable_input_of_the_census_is_refused(some_minima):
    x = samples()
    with pytest.raises(InputError, match=r"N\*lam"):
        classify_minimum(*stored_net(x), x, SIGMA, 1.0, 0.0)
    with pytest.raises(InputError, match="at least one"):
        count_minima([])
    many = replace(some_minima[0], gates=("0" * 8,))
    with pytest.raises(InputError, match="8 interchangeable"):
        count_minima([many], interchangeable=True)
