"""Laws of quadratic forms against SciPy's special cases and Monte Carlo."""

import numpy as np
import pytest
from scipy import stats

from dae_theory import InputError
from dae_theory.theory.quadratic import QuadraticLaw, norm_law, quadratic_law

N = 200_000


def central(count: int, weight: float = 1.0) -> QuadraticLaw:
    return QuadraticLaw(np.full(count, weight), np.zeros(count))


@pytest.mark.parametrize(("above", "below", "weight"), [(1, 1, 1.0), (3, 1, 0.7), (1, 3, 1e-3)])
def test_central_sums_compare_as_fishers_f(above, below, weight):
    expected = stats.f.sf(below / above / weight, above, below)
    assert central(above, weight).exceeds(central(below)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0, 5.0, 150.0])
def test_two_shifted_squares_compare_as_two_normals(shift):
    """(ξ+b)² > (η+c)² factors into two independent normals, ξ+η+b+c and ξ−η+b−c."""
    c = shift + 0.7
    first, second = (stats.norm.cdf((shift + sign * c) / 2**0.5) for sign in (1, -1))
    expected = first * second + (1 - first) * (1 - second)
    one, other = (QuadraticLaw(np.ones(1), np.array([b])) for b in (shift, c))
    assert one.exceeds(other) == pytest.approx(expected, abs=1e-10)


def test_a_law_against_draws():
    rng = np.random.default_rng(0)
    weights, shifts = np.array([0.5, 0.3, -0.2]), np.array([1.5, -2.0, 1.0])
    drawn = ((rng.standard_normal((N, 3)) + shifts) ** 2) @ weights
    law = QuadraticLaw(weights, shifts)
    assert law.mean == pytest.approx(drawn.mean(), abs=0.02)
    assert law.variance == pytest.approx(drawn.var(), rel=0.02)
    zero = QuadraticLaw(np.zeros(1), np.zeros(1))
    assert law.exceeds(zero) == pytest.approx(np.mean(drawn > 0), abs=0.004)
    for value in (-1.0, 0.5, 3.0):
        assert law.cdf(value) == pytest.approx(np.mean(drawn <= value), abs=0.004)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_comparisons_have_no_unit(unit):
    weights, shifts = np.array([0.5, 0.3]), np.array([1.5, -2.0])
    law, scaled = QuadraticLaw(weights, shifts), QuadraticLaw(unit * weights, shifts)
    expected = law.exceeds(central(2))
    assert scaled.exceeds(central(2, unit)) == pytest.approx(expected, abs=1e-12)
    assert scaled.cdf(unit) == pytest.approx(law.cdf(1.0), abs=1e-12)


def test_distribution_and_quantile_against_scipys():
    four, shifted = central(4), QuadraticLaw(np.ones(1), np.array([40**0.5]))
    for value in (0.5, 4.0, 9.0):
        assert four.cdf(value) == pytest.approx(stats.chi2.cdf(value, 4), abs=1e-9)
    for value in (20.0, 40.0, 60.0):
        assert shifted.cdf(value) == pytest.approx(stats.ncx2.cdf(value, 1, 40), abs=1e-9)
        assert central(1).cdf(value / 20) == pytest.approx(stats.chi2.cdf(value / 20, 1), abs=1e-5)
    assert four.quantile(0.99) == pytest.approx(stats.chi2.ppf(0.99, 4), abs=1e-7)


def test_forms_and_norms_against_draws():
    rng = np.random.default_rng(1)
    root, mean = rng.standard_normal((3, 3)), np.array([1.0, -0.5, 2.0])
    matrix = np.diag([1.0, 0.5, -0.3]) + 0.2
    v = mean + rng.standard_normal((N, 3)) @ root.T
    drawn = np.einsum("ni,ij,nj->n", v, matrix, v)
    law = quadratic_law(matrix, mean, root @ root.T)
    assert law.mean == pytest.approx(drawn.mean(), rel=0.02)
    assert law.cdf(law.mean) == pytest.approx(np.mean(drawn <= law.mean), abs=0.004)
    flat = root.copy()
    flat[:, 0] = 0.0  # a direction without variance: the mean adds a constant there
    v = mean + rng.standard_normal((N, 3)) @ flat.T
    norm = norm_law(mean, flat @ flat.T)
    assert norm.mean == pytest.approx(np.mean(np.sum(v**2, axis=1)), rel=0.02)
    median = float(np.median(np.sum(v**2, axis=1)))
    assert norm.cdf(median) == pytest.approx(0.5, abs=0.004)


def test_certain_comparisons():
    far = QuadraticLaw(np.ones(1), np.array([1e4]))
    assert far.exceeds(central(2)) == 1.0
    assert central(2).exceeds(far) == 0.0
    assert far.exceeds(far) == pytest.approx(0.5, abs=1e-9)
    constant = QuadraticLaw(np.zeros(1), np.zeros(1))
    assert constant.exceeds(constant) == 0.5
    assert central(1).exceeds(constant) == 1.0  # without an integral, and its rounding
    assert central(1, -1.0).exceeds(constant) == 0.0
    assert (constant.cdf(-0.1), constant.cdf(0.0), constant.quantile(0.5)) == (0.0, 1.0, 0.0)


def test_bad_input():
    with pytest.raises(InputError, match="expected"):
        quadratic_law(np.eye(2), np.ones(3), np.eye(3))
    with pytest.raises(InputError, match="positive definite"):
        quadratic_law(np.eye(2), np.ones(2), np.zeros((2, 2)))
    with pytest.raises(InputError, match="share"):
        central(1).quantile(1.0)
