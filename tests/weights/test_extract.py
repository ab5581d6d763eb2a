"""Extraction against nets that are written down by hand, solved, trained, and disturbed."""

from functools import partial
from itertools import permutations
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm

from dae_theory import (
    InputError,
    TrainConfig,
    data,
    init_weights,
    separable_subset,
    solve_local_minimum,
    train_many,
)
from dae_theory.weights.extract import (
    _leaks,
    _square_errors_from_reach,
    extract_samples,
    match_samples,
    psnr,
    stored_square_norm,
)
from figures import fig_extraction
from figures.results import RunResults

SIGMA, LAM = 0.05, 1e-3


def gain_of(square: float, sigma: float, decay: float) -> float:
    """Gain of a stored sample by root finding on the slope of its loss
    (m − 1)²s + σ²m² + 2·decay·m, not by the formula."""
    return brentq(lambda m: (m - 1) * square + sigma**2 * m + decay, 0, 1, xtol=1e-15)


def samples(n: int = 4, d: int = 12) -> np.ndarray:
    """Simplex directions with norms 1, 1.3, 1.6, ..."""
    return data.simplex(n, d).x * (1 + 0.3 * np.arange(n))[:, None]


def stored(x: np.ndarray, sigma: float = SIGMA, lam: float = LAM) -> np.ndarray:
    """Weights (D, N), one unit a sample."""
    square = np.sum(x**2, axis=1)
    gains = np.array([gain_of(s, sigma, len(x) * lam) for s in square])
    return (x * np.sqrt(gains / square)[:, None]).T


def disturbed(w: np.ndarray, scale: float, rng: np.random.Generator) -> list[np.ndarray]:
    """W1 and W2 with independent errors of that size in every entry."""
    return [w + scale * rng.standard_normal(w.shape) for _ in range(2)]


def in_order(extraction, x: np.ndarray) -> np.ndarray:
    """Extracted samples in the order of the true ones; as many of both."""
    assert extraction.samples.shape == x.shape
    return extraction.samples[match_samples(extraction.samples, x).extracted]


def test_stored_samples_come_back_in_absolute_scale():
    x = samples()
    w = stored(x)
    extraction = extract_samples(w, w, SIGMA, LAM, len(x))
    np.testing.assert_allclose(in_order(extraction, x), x, atol=1e-10)
    np.testing.assert_allclose(extraction.norms, [1.9, 1.6, 1.3, 1.0], rtol=1e-10)
    assert np.all(np.diff(extraction.gains) < 0)
    np.testing.assert_array_equal(extraction.groups, [3, 2, 1, 0])
    assert extraction.lam == LAM


def split(w1, w2):
    return (
        np.column_stack([0.6 * w1, 0.8 * w1, 1e-5 * w1, np.zeros(len(w1))]),
        np.column_stack([0.6 * w2, 0.8 * w2, 1e-5 * w2, np.zeros(len(w1))]),
    )


def test_dead_and_negligible_units_are_in_no_group():
    w1, w2 = split(stored(samples()), stored(samples()))
    groups = extract_samples(w1, w2, SIGMA, LAM, 4).groups
    np.testing.assert_array_equal(groups, [3, 2, 1, 0] * 2 + [-1] * 5)


def test_leak_is_the_energy_behind_the_worst_wrong_gate():
    """By quadrature: the gates of other groups' units, and the opposites of its own."""
    w, lengths_K, groups = np.array([[1.0, -0.4], [0.0, 1.0]]), np.array([2.0, 0.5]), np.arange(2)
    cosines_K = np.array([-0.4 / np.hypot(0.4, 1), 0.0])  # to the unit of the other sample
    for sigma in (0.5, 2.0):
        z_K = lengths_K * cosines_K / sigma
        energy_K = [quad(lambda g, z=z: (z + g) ** 2 * norm.pdf(g), -z, 40)[0] for z in z_K]
        expected = sigma**2 * np.array(energy_K) / lengths_K**2
        found = _leaks(w, groups, np.diag(lengths_K), sigma)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def permuted(w1, w2):
    order = np.random.default_rng(1).permutation(w1.shape[1])
    return w1[:, order], w2[:, order]


def rescaled(w1, w2):
    factors = np.linspace(0.5, 2.0, w1.shape[1])
    return w1 * factors, w2 / factors


def test_errors_of_norms_grow_with_noise_and_decay_as_norms_do():
    """δ‖x‖² is the slope of ‖x‖² = (nλ + σ²m)/(1 − m) in m, times an error of m that only weights
    tell."""
    w1, w2 = disturbed(stored(samples()), 1e-4, np.random.default_rng(0))
    per_slope = []
    for lam in (1e-5, 1e-3):
        found = extract_samples(w1, w2, SIGMA, lam, 4)
        square, step = partial(stored_square_norm, sigma=SIGMA, decay=4 * lam), 1e-6
        slope = (square(found.gains + step) - square(found.gains - step)) / (2 * step)
        per_slope.append(2 * found.norms * found.norm_errors / slope)
    np.testing.assert_allclose(*per_slope, rtol=1e-4)


@pytest.mark.parametrize("change", [split, permuted, rescaled], ids=lambda f: f.__name__)
def test_what_leaves_the_net_unchanged_leaves_the_samples_unchanged(change):
    x = samples()
    w1, w2 = disturbed(stored(x), 1e-4, np.random.default_rng(0))
    before = extract_samples(w1, w2, SIGMA, LAM, len(x))
    after = extract_samples(*change(w1, w2), SIGMA, LAM, len(x))
    np.testing.assert_allclose(after.samples, before.samples, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(after.direction_errors, before.direction_errors, rtol=1e-5)
    if change is not rescaled:  # unequal lengths are a sign of an unfinished net
        np.testing.assert_allclose(after.norm_errors, before.norm_errors, rtol=1e-5)


def test_weak_units_beside_the_group_count():
    x = samples()
    w1 = stored(x)
    w2 = w1.copy()
    unit_x, other = x[0] / np.linalg.norm(x[0]), x[1] / np.linalg.norm(x[1])
    cosine = unit_x @ other
    w2[:, 0] *= 1 - 0.01  # its gain falls by 1% of m, which a unit at cosine .95 makes up for
    across = (other - cosine * unit_x) / np.sqrt(1 - cosine**2)
    missing = 0.01 * np.linalg.norm(w1[:, 0]) ** 2
    w1 = np.column_stack([w1, 0.95 * unit_x - np.sqrt(1 - 0.95**2) * across])
    w2 = np.column_stack([w2, missing / 0.95 * unit_x])
    extraction = extract_samples(w1, w2, SIGMA, LAM, len(x))
    np.testing.assert_allclose(in_order(extraction, x), x, atol=1e-9)
    assert extraction.groups[-1] == extraction.groups[0]


def test_no_decay_still_gives_norms():
    x = samples()
    w = stored(x, lam=0.0)
    np.testing.assert_allclose(in_order(extract_samples(w, w, SIGMA, 0, 4), x), x, atol=1e-9)


def test_fewer_groups_than_samples_are_returned():
    x = samples()
    w = stored(x)[:, 1:]
    extraction = extract_samples(w, w, SIGMA, LAM, 4)
    match = match_samples(extraction.samples, x)
    np.testing.assert_array_equal(match.true, [1, 2, 3])
    np.testing.assert_allclose(extraction.samples[match.extracted], x[1:], atol=1e-9)


def test_entangled_nets_say_that_the_scale_is_unknown():
    x = np.zeros((2, 8))
    x[0, 0], x[1, :2] = 1, (0.3, np.sqrt(1 - 0.09))
    start = init_weights(jax.random.key(0), 8, 6)
    net = solve_local_minimum(*(np.asarray(w) for w in start), x, SIGMA, 0.01)
    extraction = extract_samples(net.w1, net.w2, SIGMA, 0.01, 2)
    assert len(extraction.norms) > len(x)
    assert np.all(extraction.norm_errors > 0.5 * extraction.norms)


# --- mutants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"n": 5}, {"lam": 2 * LAM}, {"lam": 0.0}, {"sigma": 2 * SIGMA}])
def test_wrong_settings_give_wrong_norms(wrong):
    x = samples()
    w = stored(x)
    settings = {"sigma": SIGMA, "lam": LAM, "n": 4} | wrong
    factor = np.median(extract_samples(w, w, **settings).norms / [1.9, 1.6, 1.3, 1.0])
    assert abs(factor - 1) > 0.05


# --- uncertainty -------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_independent_errors_of_the_weights_are_stated_correctly(known):
    x = 3 * samples(d=40)
    w = stored(x, lam=0.02)
    norms, scale = 3 * np.array([1.9, 1.6, 1.3, 1.0]), 5e-5
    rng = np.random.default_rng(0)
    # The largest sample fills the range, the next one two thirds of it.
    settings = {} if known else {"pixel_range": (x.min(), x.max() + 1)}
    pulls, angles = [], []
    for _ in range(200):
        w1, w2 = disturbed(w, scale, rng)
        extraction = extract_samples(w1, w2, SIGMA, 0.02 if known else None, 4, **settings)
        pulls.append((extraction.norms - norms) / extraction.norm_errors)
        angles.append(extraction.direction_errors)
    assert np.mean(angles) == pytest.approx(scale * np.sqrt(2 * 39), rel=0.05)
    rms = np.sqrt(np.mean(np.square(pulls), axis=0))
    exact = np.ones(4) if known else np.array([0, 1, 1, 1])  # what touches is overstated
    assert np.all((rms > 0.85 * exact) & (rms < 1.15)), rms


def test_unequal_lengths_are_stated_as_what_they_shift():
    x = samples(n=1, d=6)
    square, decay, n = float(np.sum(x**2)), 0.05, 1
    gap = 0.6  # a² − b² is kept by the part of the gradient that drives the gain

    def loss(m):
        return (m - 1) ** 2 * square + SIGMA**2 * m**2 + decay * np.sqrt(gap**2 + 4 * m**2)

    m = minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-12}).x
    a2 = (gap + np.sqrt(gap**2 + 4 * m**2)) / 2
    u = x.T / np.sqrt(square)
    # Equal directions count as tied: turn one a little.
    turned = np.sqrt(a2) * (u + 1e-9 * np.eye(6)[:, :1])
    extraction = extract_samples(turned, m / np.sqrt(a2) * u, SIGMA, decay, n)
    error = extraction.norms[0] - np.sqrt(square)
    assert error > 0.01
    assert error / extraction.norm_errors[0] == pytest.approx(1, abs=0.1)


def test_errors_by_an_unknown_decay_are_those_of_its_formula():
    """First order in the gains and the reach, by differences of ‖x_k‖² itself."""
    gains, reach, sigma, touching = np.array([0.6, 0.9, 0.7]), np.array([2.0, 9.0, 8.0]), 0.8, 0
    gain_errors, reach_errors = np.array([2e-3, 3e-3, 1e-3]), np.array([4e-3, 7.0, 7.0])

    def squares(gain_errors: np.ndarray, touching_error: float, reach_error: float) -> np.ndarray:
        of_touching = 1 - gains[touching] - touching_error
        decay = of_touching * (reach[touching] + reach_error) ** 2
        decay -= sigma**2 * (1 - of_touching)
        m = gains + gain_errors
        return (decay + sigma**2 * m) / (1 - m)

    at, h = (np.zeros(3), 0.0, 0.0), 1e-6
    ends = [
        (squares(h * gain_errors, 0, 0) - squares(*at)) / h,
        (squares(np.zeros(3), h * gain_errors[touching], 0) - squares(*at)) / h,
        (squares(np.zeros(3), 0, h * reach_errors[touching]) - squares(*at)) / h,
    ]
    found = _square_errors_from_reach(gains, gain_errors, reach, reach_errors, touching, sigma)
    # Of the sample that touches nothing drops out: which one does is as uncertain as the gains.
    np.testing.assert_allclose(found, np.linalg.norm(ends, axis=0), rtol=1e-4)


def test_a_tied_net_states_no_uncertainty():
    w = stored(samples())
    w += 1e-4 * np.random.default_rng(0).standard_normal(w.shape)
    assert np.all(np.isnan(extract_samples(w, w, SIGMA, LAM, 4).norm_errors))
    assert np.all(np.isnan(extract_samples(1.1 * w, w / 1.1, SIGMA, LAM, 4).norm_errors))


# --- unknown decay -----------------------------------------------------------------------------


def images() -> tuple[np.ndarray, np.ndarray]:
    """Separable centred samples and their offset; the images leave some room in [0, 1]. Four
    pixels are always black."""
    x = np.pad(samples(d=30) / 5, ((0, 0), (0, 4)))
    return x, np.pad(np.full(30, 0.5), (0, 4))


def test_decay_is_recovered_when_an_image_fills_the_range():
    x, offset = images()
    ends = (0.0, (x + offset).max())
    w1, w2 = disturbed(stored(x), 0.0, np.random.default_rng(0))
    for n in (4, 8):
        extraction = extract_samples(w1, w2, SIGMA, None, n, pixel_range=ends, offset=offset)
        assert extraction.lam == pytest.approx(LAM * 4 / n, rel=1e-9)
        np.testing.assert_allclose(in_order(extraction, x), x, atol=1e-10)


def test_decay_is_overestimated_when_none_does_and_then_one_touches():
    x, offset = images()
    w = stored(x)
    extraction = extract_samples(w, w, SIGMA, None, 4, pixel_range=(0, 1), offset=offset)
    pictures = extraction.samples + offset
    assert extraction.lam > 1.02 * LAM
    assert np.all(extraction.norms > [0.38, 0.32, 0.26, 0.2])
    assert pictures.min() > -1e-9
    assert pictures.max() < 1 + 1e-9
    assert min(pictures[:, :30].min(), 1 - pictures.max()) < 1e-9


def test_noise_in_black_pixels_does_not_limit_the_scale():
    x, offset = images()
    w1, w2 = disturbed(stored(x), 1e-5, np.random.default_rng(0))
    ends = (0.0, (x + offset).max())
    extraction = extract_samples(w1, w2, SIGMA, None, 4, pixel_range=ends, offset=offset)
    assert extraction.lam == pytest.approx(LAM, rel=0.02)


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"lam": -1.0}, "lam"),
        ({"lam": None}, "pixel_range"),
        ({"n": 0}, "n: "),
        ({"w1": np.zeros((12, 4))}, "no live unit"),
        ({"w2": np.ones((12, 3))}, "differ in shape"),
        ({"w1": np.full((12, 4), np.nan)}, "NaN"),
        ({"w1": np.ones(12)}, "W1"),
        ({"lam": None, "pixel_range": (1, 0)}, "low < high"),
        ({"lam": None, "pixel_range": (0, 0.5, 1)}, "expected two numbers"),
        ({"lam": None, "pixel_range": (1, 1)}, "low < high"),
        ({"lam": None, "pixel_range": (0, 1), "offset": -1.0}, "inside the pixel range 0 ... 1"),
        ({"lam": None, "pixel_range": (0, 1), "offset": 1.5}, "inside the pixel range 0 ... 1"),
        ({"lam": None, "pixel_range": (0, 1), "offset": np.ones(3)}, "expected shape"),
        ({"lam": None, "pixel_range": (-1e-4, 1e-4)}, "too narrow"),
    ],
)
def test_bad_input_is_refused(change, message):
    w = stored(samples())
    arguments = {"w1": w, "w2": w, "sigma": SIGMA, "lam": LAM, "n": 4} | change
    w1, w2 = arguments.pop("w1"), arguments.pop("w2")
    with pytest.raises(InputError, match=message):
        extract_samples(w1, w2, **arguments)


@pytest.mark.parametrize("factor", [1.2, -1.0])
def test_the_group_with_an_impossible_gain_is_named(factor):
    w = stored(samples())
    w2 = w * np.where(np.arange(4) == 2, factor, 1.0)
    with pytest.raises(InputError, match=r"unit 2 \(1 units\) has gain"):
        extract_samples(w, w2, SIGMA, LAM, 4)
    halves = (np.column_stack([each, each]) / 2**0.5 for each in (w, w2))
    with pytest.raises(InputError, match=r"unit 2 \(2 units\) has gain"):
        extract_samples(*halves, SIGMA, LAM, 4)


# --- helpers -----------------------------------------------------------------------------------


def test_psnr_by_hand():
    a, b = np.random.default_rng(0).random((2, 5, 7))
    assert psnr(a, b, 2.0) == pytest.approx(20 * np.log10(2 / np.sqrt(np.mean((a - b) ** 2))))
    assert psnr(a, a, 1.0) == np.inf
    with pytest.raises(InputError, match="shapes"):
        psnr(a, b[0], 1.0)
    with pytest.raises(InputError, match="data_range"):
        psnr(a, b, 0.0)


@pytest.mark.parametrize(("k", "n"), [(4, 4), (5, 3), (3, 5)])
def test_matching_is_the_best_of_all(k, n):
    rng = np.random.default_rng(k)
    extracted, true = rng.standard_normal((k, 3)), rng.standard_normal((n, 3))
    cosine = np.array([[a @ b / np.sqrt(a @ a * (b @ b)) for b in true] for a in extracted])
    small, wide = (cosine, n) if k <= n else (cosine.T, k)
    best = max(
        sum(row[j] for row, j in zip(small, chosen, strict=True))
        for chosen in permutations(range(wide), len(small))
    )
    match = match_samples(extracted, true)
    assert np.sum(match.cosines) == pytest.approx(best)
    np.testing.assert_allclose(cosine[match.extracted, match.true], match.cosines)
    assert np.all(np.diff(match.true) > 0)
    with pytest.raises(InputError, match="features"):
        match_samples(extracted, true[:, :2])
    with pytest.raises(InputError, match="zero sample"):
        match_samples(np.zeros((1, 3)), true)


# --- faces -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces():
    """The five faces of the memorize regime, σ = .05, nλ = 2% of the smallest ‖x‖²."""
    dataset = data.centred(data.faces())
    x = dataset.x[separable_subset(dataset.x, 5).indices]
    return x, dataset.offset, 0.02 * np.min(np.sum(x**2, axis=1)) / 5


@pytest.mark.parametrize("tied", [True, False])
def test_faces_of_a_solved_net_are_exact(faces, tied):
    x, offset, lam = faces
    start = init_weights(jax.random.key(0), x.shape[1], 20, tied=tied)
    net = solve_local_minimum(*(np.asarray(w) for w in start), x, 0.05, lam, tol=1e-10)
    extraction = extract_samples(net.w1, net.w2, 0.05, lam, 5)
    assert min(psnr(*pair, 1.0) for pair in zip(x, in_order(extraction, x), strict=True)) > 150
    assert np.max(extraction.norm_errors) < 1e-8
    ends = ((x + offset).min(), (x + offset).max())
    guessed = extract_samples(net.w1, net.w2, 0.05, None, 5, pixel_range=ends, offset=offset)
    assert guessed.lam == pytest.approx(lam, rel=1e-6)
    assert min(psnr(*pair, 1.0) for pair in zip(x, in_order(guessed, x), strict=True)) > 120


@pytest.mark.slow  # they are trained for it, as for the claim extraction/coverage
def test_faces_of_trained_nets(faces):
    x, _, lam = faces
    config = TrainConfig(width=100, sigma=0.05, lam=lam, steps=4000, learning_rate=3e-3)
    result = train_many(jax.vmap(jax.random.key)(np.arange(2)), [x], config)
    norms = np.linalg.norm(x, axis=1)
    pulls, ratios, directions = [], [], []
    for w1, w2 in zip(result.w1[0], result.w2[0], strict=True):
        extraction = extract_samples(w1, w2, 0.05, lam, 5)
        found = in_order(extraction, x)
        stated = extraction.norm_errors[match_samples(extraction.samples, x).extracted]
        length = np.linalg.norm(found, axis=1)
        pulls.extend((length - norms) / stated)
        assert np.all((stated / norms > 0.002) & (stated / norms < 0.05))
        for x_D, found_D, true, own in zip(x, found, norms, length, strict=True):
            ratios.append(psnr(x_D, found_D, 1.0))
            directions.append(psnr(x_D, found_D * true / own, 1.0))
    assert min(ratios) >= 35
    assert min(directions) >= 70
    assert np.mean(np.abs(pulls) < 3) >= 0.8
    assert np.sqrt(np.mean(np.square(pulls))) > 0.3


# --- figure ------------------------------------------------------------------------------------


def run_results(with_image: bool, lost: int | None = None) -> RunResults:
    x = samples(d=16)
    w = stored(x)
    if lost is not None:
        w[:, lost] = 0
    arrays = {"x": x, "w1": w[None], "w2": w[None], "sigma": SIGMA, "lam": LAM}
    if with_image:
        arrays |= {"image_shape": np.array([4, 4]), "offset": np.full(16, 0.5)}
    return RunResults(Path(), {f"memorize/{k}": np.asarray(v) for k, v in arrays.items()}, {})


def test_figure_shows_each_sample_with_its_error():
    figure = fig_extraction.draw(run_results(True, lost=2))
    axes = np.array(figure.axes).reshape(3, 4)
    labels = [ax.get_xlabel() for ax in axes[-1]]
    assert labels[2] == "not stored"
    assert labels[0].endswith(" dB")
    assert float(labels[1]) > 150
    assert [len(ax.images) for ax in axes[:, 2]] == [1, 0, 0]
    np.testing.assert_allclose(axes[0, 0].images[0].get_array(), axes[1, 0].images[0].get_array())
    np.testing.assert_allclose(axes[2, 0].images[0].get_array(), 0.5)


def test_figure_of_samples_that_are_not_images():
    figure = fig_extraction.draw(run_results(False, lost=0))
    assert figure.axes[0].get_title() == "not stored"
    assert float(figure.axes[1].get_title().split()[-1]) < 1e-9
