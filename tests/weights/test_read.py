"""Weights from a user's file, and what is wrong with them."""

import numpy as np
import pytest

from dae_theory import InputError
from dae_theory.weights.read import read_weights

RNG = np.random.default_rng(0)
GOOD = {
    "W1": RNG.standard_normal((4, 3)).astype(np.float32),
    "W2": RNG.standard_normal((4, 3)).astype(np.float32),
    "X": RNG.standard_normal((5, 4)),
    "sigma": np.array([0.1]),
    "lam": np.array(1),
}


def saved(tmp_path, **changes):
    path = tmp_path / "net.npz"
    np.savez(path, **{k: v for k, v in (GOOD | changes).items() if v is not None})
    return path


def test_weights_and_their_problem(tmp_path):
    found = read_weights(saved(tmp_path, labels=np.arange(5) % 2))
    np.testing.assert_array_equal(found.w1, GOOD["W1"])
    assert found.w2.dtype == np.float64
    assert (found.problem.sigma, found.problem.lam) == (0.1, 1.0)
    np.testing.assert_array_equal(found.problem.labels, [0, 1, 0, 1, 0])
    assert read_weights(str(saved(tmp_path))).problem.labels is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W2": None}, "key 'W2' is missing"),
        ({"b2": np.zeros(4), "b1": np.zeros(3)}, "b1, b2: unknown; the net is .* without biases"),
        ({"sigma": np.array([0.1, 0.2])}, "sigma must be one number"),
        ({"sigma": np.array([])}, "sigma must be one number"),
        ({"lam": np.array("x")}, "lam must be one number"),
        ({"sigma": np.array(0.0)}, "sigma: the noise level must be finite and > 0"),
        ({"lam": np.array(-1.0)}, "lam: the weight decay"),
        ({"W1": GOOD["W1"].T}, "W1: has 3 rows, but the samples have 4 features"),
        ({"W1": GOOD["W1"][:, :2]}, "W1 and W2 differ in shape"),
        ({"W1": GOOD["W1"] * np.nan}, "W1: contains NaN"),
        ({"W1": GOOD["W1"] * 1e30}, "W1: has values up to .* too large to compute with"),
        ({"W2": GOOD["W2"] * 1e30}, "W2: has values up to"),
        ({"X": GOOD["X"] * 1e30}, "X: has values up to"),
        ({"X": GOOD["X"] + 1j}, "X: expected real numbers"),
        ({"labels": np.array([0.0, 1, 1, np.nan, 0])}, "labels contain NaN"),
        ({"labels": np.zeros((5, 1))}, "labels have shape"),
        ({"labels": np.array([None] * 5)}, "holds Python objects"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_weights(saved(tmp_path, **changes))
