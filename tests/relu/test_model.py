"""The two-layer net as functions and as a Flax module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory.relu.model import ReluDAE, denoise, encode, init_weights


def weights_and_samples():
    random = np.random.RandomState(0)
    w1, w2 = random.normal(size=(2, 4, 6))
    return w1, w2, random.normal(size=(5, 4))


def test_encode_and_denoise_equal_a_loop_over_units():
    w1, w2, x = weights_and_samples()
    for i, sample in enumerate(x):
        h = [max(sum(w1[d, j] * sample[d] for d in range(4)), 0.0) for j in range(6)]
        np.testing.assert_allclose(encode(w1, x)[i], h, atol=1e-14)
        output = sum(w2[:, j] * h[j] for j in range(6))
        np.testing.assert_allclose(denoise(w1, w2, x)[i], output, atol=1e-13)


def test_net_is_positively_homogeneous():
    w1, w2, x = weights_and_samples()
    np.testing.assert_allclose(denoise(w1, w2, 3 * x), 3 * denoise(w1, w2, x), rtol=1e-13)
    np.testing.assert_allclose(denoise(2 * w1, w2 / 2, x), denoise(w1, w2, x), rtol=1e-13)


@pytest.mark.parametrize("tied", [False, True])
def test_module_computes_what_the_functions_compute(tied):
    _, _, x = weights_and_samples()
    model = ReluDAE(width=6, tied=tied)
    variables = model.init(jax.random.key(0), jnp.asarray(x))
    params = variables["params"]
    assert set(params) == ({"w1"} if tied else {"w1", "w2"})
    w1, w2 = params["w1"], params.get("w2", params["w1"])
    assert w1.shape == w2.shape == (4, 6)
    np.testing.assert_allclose(
        model.apply(variables, x), np.maximum(x @ w1, 0) @ np.asarray(w2).T, rtol=1e-12
    )
    h = model.apply(variables, x, method="encode")
    np.testing.assert_allclose(h, np.maximum(x @ w1, 0), rtol=1e-12)


def test_initial_columns_have_the_given_scale():
    d, width, scale = 200, 500, 2.5
    w1, w2 = init_weights(jax.random.key(1), d, width, scale=scale)
    for w in (w1, w2):
        square = np.sum(np.asarray(w) ** 2, axis=0)
        # A column is scale N(0, I/d): its squared norm has mean scale², variance 2 scale⁴/d.
        standard_error = scale**2 * np.sqrt(2 / d / width)
        assert abs(square.mean() - scale**2) < 5 * standard_error
    assert abs(np.corrcoef(np.ravel(w1), np.ravel(w2))[0, 1]) < 5 / np.sqrt(d * width)


def test_initial_weights_depend_on_the_key_and_have_the_dtype():
    first, again = (init_weights(jax.random.key(2), 5, 3, dtype=jnp.float64) for _ in range(2))
    other = init_weights(jax.random.key(3), 5, 3, dtype=jnp.float64)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert first[0].dtype == jnp.float64
    assert init_weights(jax.random.key(2), 5, 3)[0].dtype == jnp.float32


def test_tied_initial_weights_are_equal():
    w1, w2 = init_weights(jax.random.key(4), 5, 3, tied=True)
    np.testing.assert_array_equal(w1, w2)
