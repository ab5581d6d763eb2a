"""Scores against closed forms: Gaussians, mixtures, ReLU nets; their signs, needs and costs."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from detect_models import LAYER, SIGMA_MAX, SIGMA_MIN, counted, exact_model

from dae_theory import InputError
from dae_theory.detect.model import of_relu
from dae_theory.detect.scores import SCORES
from dae_theory.detect.scores.score import Context, Need, ScoreSettings, noised
from dae_theory.diffusion.denoisers import gaussian_denoiser, mixture_denoiser
from dae_theory.diffusion.schedules import edm_schedule

SIGMA = 0.3
MEAN, VARIANCES = np.array([0.2, -0.1, 0.4, 0.0]), np.array([0.5, 0.1, 1.0, 0.02])
OTHER_MEAN, OTHER_VARIANCES = np.array([0.6, -0.1, 0.1, 0.3]), np.array([0.2, 0.3, 0.4, 0.05])
KEY = jax.random.key(3)
ONCE = ScoreSettings(draws=1)


def images(count=5, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 4))


@functools.cache
def gaussian():
    return exact_model(gaussian_denoiser(MEAN, np.diag(VARIANCES)))


@functools.cache
def two_gaussians():
    return exact_model(
        gaussian_denoiser(MEAN, np.diag(VARIANCES)),
        gaussian_denoiser(OTHER_MEAN, np.diag(OTHER_VARIANCES)),
    )


@functools.cache
def two_means(variance=0.3):
    """Equal covariances: what a caption changes does not depend on the noisy image."""
    return exact_model(
        *(gaussian_denoiser(mean, variance * np.eye(4)) for mean in (MEAN, OTHER_MEAN))
    )


def raw(name, model, x, sigma=SIGMA, settings=ONCE, key=KEY, **rest):
    """The quantity, without its sign."""
    score = SCORES[name]
    return score.sign * score(key, model, x, sigma, Context(settings, **rest))


def noise(settings=ONCE, key=KEY, sigma=SIGMA, x=None):
    x = images() if x is None else x
    return np.stack(list(noised(key, x, sigma, settings.draws)))


# --- without a caption ----------------------------------------------------------------------------


def test_the_error_of_a_wiener_filter():
    x = np.tile(images(1), (4000, 1))
    error = raw("denoising_error", gaussian(), x)
    kept = VARIANCES / (VARIANCES + SIGMA**2)
    expected = np.sum(((1 - kept) * (MEAN - x[0])) ** 2) + SIGMA**2 * np.sum(kept**2)
    assert abs(error.mean() - expected) < 5 * error.std() / 4000**0.5
    mutant = expected + SIGMA**2 * np.sum(kept - kept**2)  # gains, not their squares
    assert abs(error.mean() - mutant) > 5 * error.std() / 4000**0.5


def test_the_trace_of_a_wiener_filter():
    found = raw("jacobian_trace", gaussian(), images(), settings=ScoreSettings(draws=2, probes=3))
    np.testing.assert_allclose(found, np.sum(VARIANCES / (VARIANCES + SIGMA**2)), rtol=1e-10)


def test_the_trace_is_unbiased_where_directions_mix():
    factor = np.random.default_rng(1).standard_normal((4, 4))
    covariance = factor @ factor.T
    model = exact_model(gaussian_denoiser(MEAN, covariance))
    found = raw("jacobian_trace", model, images(4000))
    expected = np.trace(covariance @ np.linalg.inv(covariance + SIGMA**2 * np.eye(4)))
    assert found.std() > 0.01
    assert abs(found.mean() - expected) < 5 * found.std() / 4000**0.5


def log_densities(x, sigma):
    """Of two clusters apart in the first direction, noised."""
    variances = np.array([VARIANCES, OTHER_VARIANCES]) + sigma**2
    means = np.array([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    parts = [
        scipy.stats.norm.logpdf(x, mean, np.sqrt(variance)).sum(axis=1) + np.log(0.5)
        for mean, variance in zip(means, variances, strict=True)
    ]
    return scipy.special.logsumexp(parts, axis=0)


def test_the_dimension_is_how_the_density_falls_with_the_noise():
    means = np.array([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    variances = np.stack([np.diag(VARIANCES), np.diag(OTHER_VARIANCES)])
    model = exact_model(mixture_denoiser(means, variances, np.full(2, 0.5)))
    x = np.tile(0.3 * images(1), (1000, 1))
    found = raw("local_dimension", model, x, settings=ScoreSettings(draws=4))
    step = 1e-4
    slope = log_densities(x[:1], SIGMA * np.exp(step)) - log_densities(x[:1], SIGMA / np.exp(step))
    expected = 4 + slope / (2 * step)
    bound = 1e-6 + 5 * found.std() / 1000**0.5
    assert bound < 0.02
    assert abs(found.mean() - expected) < bound


def test_the_dimension_of_a_subspace():
    flat = exact_model(gaussian_denoiser(np.zeros(4), np.diag([1.0, 2.0, 0, 0])))
    on_it = images() * [1, 1, 0, 0]
    np.testing.assert_allclose(raw("local_dimension", flat, on_it, 1e-3), 2, atol=1e-4)


def test_the_sharpness_of_a_gaussian():
    settings = ScoreSettings(draws=2)
    found = raw("sharpness", gaussian(), images(), settings=settings)
    precision = 1 / (VARIANCES + SIGMA**2)
    expected = np.mean(np.sum((precision**2 * (noise(settings) - MEAN)) ** 2, axis=2), axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # Where images are of the Gaussian itself, it is −tr H³ on average.
    x = MEAN + np.sqrt(VARIANCES) * images(20000)
    found = raw("sharpness", gaussian(), x)
    assert abs(found.mean() - np.sum(precision**3)) < 5 * found.std() / 20000**0.5


# --- with a caption -------------------------------------------------------------------------------

CAPTIONS = ["a caption"] * 5


def test_wens_norm_where_the_caption_moves_the_mean():
    settings = ScoreSettings(steps=6, guidance=2.0)
    found = raw("guidance_norm", two_means(), images(), settings=settings, captions=CAPTIONS)
    levels = edm_schedule(SIGMA_MAX, SIGMA_MIN, 6)[:-1]
    expected = np.mean(levels / (0.3 + levels**2)) * np.linalg.norm(OTHER_MEAN - MEAN)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_wens_norm_follows_the_guided_sampler():
    found = raw(
        "guidance_norm",
        two_gaussians(),
        images(),
        settings=ScoreSettings(steps=4, guidance=3.0),
        captions=CAPTIONS,
    )
    levels = edm_schedule(SIGMA_MAX, SIGMA_MIN, 4)
    y = SIGMA_MAX * np.asarray(jax.random.normal(KEY, (5, 4)))
    norms = []
    for level, following in itertools.pairwise(levels):
        slopes = [
            level * (y - mean) / (variances + level**2)
            for mean, variances in ((MEAN, VARIANCES), (OTHER_MEAN, OTHER_VARIANCES))
        ]
        norms.append(np.linalg.norm(slopes[1] - slopes[0], axis=1))
        y = y + (following - level) * (slopes[0] + 3.0 * (slopes[1] - slopes[0]))
    np.testing.assert_allclose(found, np.mean(norms, axis=0), rtol=1e-9)


def test_the_sharpness_that_a_caption_adds():
    found = raw("sharpness_difference", two_gaussians(), images(), captions=CAPTIONS)
    y = noise(sigma=SIGMA_MAX, x=np.zeros((5, 4)))[0]
    precisions = [1 / (v + SIGMA_MAX**2) for v in (VARIANCES, OTHER_VARIANCES)]
    score = precisions[0] * (y - MEAN) - precisions[1] * (y - OTHER_MEAN)
    expected = np.sum(((precisions[0] - precisions[1]) * score) ** 2, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_curvature_that_a_caption_adds():
    found = raw("curvature_difference", two_gaussians(), images(), captions=CAPTIONS)
    traces = [-np.sum(1 / (v + SIGMA**2)) for v in (VARIANCES, OTHER_VARIANCES)]
    np.testing.assert_allclose(found, traces[1] - traces[0], rtol=1e-9)


def test_size_and_alignment_of_the_guidance():
    found = raw("anisotropy", two_means(), images(), captions=CAPTIONS)
    moved = OTHER_MEAN - MEAN
    size = SIGMA_MAX**2 / (0.3 + SIGMA_MAX**2) * np.sqrt(np.mean(moved**2))
    toward = MEAN - noise(key=jax.random.split(KEY)[1])[0]
    cosine = toward @ moved / np.linalg.norm(toward, axis=1) / np.linalg.norm(moved)
    np.testing.assert_allclose(found, size + cosine, rtol=1e-9)


def test_an_empty_caption_changes_nothing():
    for name in ("guidance_norm", "sharpness_difference", "curvature_difference", "anisotropy"):
        found = raw(name, two_gaussians(), images(), captions=[""] * 5)
        np.testing.assert_array_equal(found, 0)


# --- in a layer -----------------------------------------------------------------------------------

ENCODER = np.array([[1.0, 0, 0, 1], [0, 2, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])


@functools.cache
def net():
    return of_relu(ENCODER, ENCODER, SIGMA)


def test_statistics_of_the_units_of_a_net():
    settings = ScoreSettings(draws=3)
    x = np.abs(images()) + 0.5
    h = np.maximum(noise(settings, x=x) @ ENCODER, 0)
    square, fourth, first = (np.sum(h**k, axis=2) for k in (2, 4, 1))
    expected = {
        "std": np.sqrt(square / 4 - (first / 4) ** 2),
        "variation": np.sqrt(square / 4 - (first / 4) ** 2) / (first / 4),
        "l4_l2": fourth**0.25 / square**0.5,
        "hoyer": 2 - first / square**0.5,
        "participation_ratio": square**2 / fourth,
    }
    for name, values in expected.items():
        found = raw(name, net(), x, settings=settings)
        np.testing.assert_allclose(found, values.mean(axis=0), rtol=1e-9, err_msg=name)


def test_where_nothing_is_active_nothing_is_spiky():
    x = np.full((2, 4), -9.0)
    expected = {"std": 0, "variation": 0, "l4_l2": 4**-0.25, "hoyer": 0, "participation_ratio": 4}
    for name, value in expected.items():
        np.testing.assert_allclose(raw(name, net(), x), value)


def test_merging_undoes_a_split():
    """Unit 0 of a net in two, of weights .6 and .8: merged units do not see it, the std does."""
    split = np.concatenate([0.6 * ENCODER[:, :1], 0.8 * ENCODER], axis=1)
    split[:, 2:] = ENCODER[:, 1:]
    x = np.abs(images())
    nets = [net(), of_relu(split, split, SIGMA)]
    merged = [raw("merged_units", m, x) for m in nets]
    np.testing.assert_allclose(merged[1], merged[0], rtol=1e-9)
    np.testing.assert_allclose(merged[0], raw("participation_ratio", net(), x), rtol=1e-9)
    assert np.max(np.abs(raw("participation_ratio", nets[1], x) - merged[0])) > 0.1
    with pytest.raises(InputError, match="collinear"):
        raw("merged_units", gaussian(), x)


def test_units_that_answer_as_to_no_reference_image():
    reference = images(50, seed=4)
    found = raw("activation_outlier", gaussian(), images(), 1e-9, reference=reference)
    spread = reference.std(axis=0, ddof=1)
    expected = np.max(np.abs(images() - reference.mean(axis=0)) / spread, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    dead = reference * [1, 1, 1, 0]
    with pytest.raises(InputError, match="varies"):
        raw("activation_outlier", net(), images(), 1e-9, reference=np.full((3, 4), -9.0))
    with pytest.raises(InputError, match="fit on"):
        raw("activation_outlier", gaussian(), images(), reference=dead[:1])


# --- generations, training images -----------------------------------------------------------------


def test_generations_that_repeat_themselves():
    captions = ["copied", "other"] * 2
    settings = ScoreSettings(generations=5, clique=2)
    x = images(4)
    found = raw("generation_radius", two_gaussians(), x, settings=settings, captions=captions)
    every = [c for c in captions for _ in range(5)]
    made = two_gaussians().sample(KEY, 20, every).reshape(4, 5, 4)
    expected = [
        min(sorted(np.linalg.norm(a - b) for b in group)[2] for a in group) for group in made
    ]
    np.testing.assert_allclose(found, expected)
    assert np.all(found[::2] == 0)


def test_the_gap_to_the_training_images():
    training = images(20, seed=7)
    x = np.concatenate([training[:2] + 1e-3, images(3)])
    found = raw("training_gap", gaussian(), x, training=training)
    distances = np.sort(np.linalg.norm(x[:, None] - training, axis=2), axis=1)
    np.testing.assert_allclose(found, distances[:, 0] / distances[:, 1], rtol=1e-9)


# --- all of them ----------------------------------------------------------------------------------


@functools.cache
def point_and_cluster():
    """One stored image, and a cluster: what a model that does both should answer."""
    means = np.array([[2.0, 0, 0, 0], [-2.0, 0, 0, 0]])
    covariances = np.stack([np.zeros((4, 4)), np.diag([0.0, 1, 1, 1])])
    return exact_model(mixture_denoiser(means, covariances, np.full(2, 0.5)))


@pytest.mark.parametrize(
    "name", ["denoising_error", "jacobian_trace", "local_dimension", "sharpness"]
)
def test_the_stored_image_scores_high(name):
    ordinary = np.concatenate([np.full((20, 1), -2.0), images(20)[:, 1:]], axis=1)
    x = np.concatenate([np.array([[2.0, 0, 0, 0]] * 20), ordinary])
    settings = ScoreSettings(draws=32)
    scores = SCORES[name](KEY, point_and_cluster(), x, SIGMA, Context(settings))
    assert scores[:20].min() > scores[20:].max()


@pytest.mark.parametrize(
    "name", ["guidance_norm", "sharpness_difference", "curvature_difference", "anisotropy"]
)
def test_the_caption_of_a_stored_image_scores_high(name):
    without = gaussian_denoiser(np.zeros(4), np.eye(4))
    stored = np.array([1.0, 0.5, 0, 0])
    models = [
        exact_model(without, gaussian_denoiser(mean, variance * np.eye(4)))
        for mean, variance in ((stored, 0.0), (0.2 * stored, 0.8))
    ]
    settings = ScoreSettings(draws=16)
    high, low = (
        SCORES[name](KEY, m, np.tile(stored, (5, 1)), SIGMA, Context(settings, CAPTIONS))
        for m in models
    )
    assert high.min() > low.max()


def whole_context(settings, n=5):
    reference = images(9, seed=5)
    return Context(settings, ["other"] * n, images(8, seed=6), reference, ["other"] * 9)


@pytest.mark.parametrize("name", SCORES)
def test_a_score_costs_what_the_table_says(name):
    score, settings = SCORES[name], ScoreSettings(draws=2, probes=3, steps=4, generations=3)
    base = two_gaussians()
    if name == "merged_units":
        base = dataclasses.replace(base, groups={LAYER: np.arange(4)})
    model, costs = counted(base, 5)
    found = score(KEY, model, images(), SIGMA, whole_context(settings))
    assert found.shape == (5,)
    assert sum(costs) == score.passes(settings, model.passes_a_sample)
    again = score(KEY, model, images(), SIGMA, whole_context(settings))
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("name", SCORES)
def test_what_is_missing_is_said(name):
    score, context = SCORES[name], whole_context(ONCE)
    without = {
        Need.CAPTION: (two_gaussians(), {"captions": None}, "captions: "),
        Need.TRAINING: (two_gaussians(), {"training": None}, "training: "),
        Need.CALIBRATION: (two_gaussians(), {"reference": None}, "calibration: "),
        Need.GENERATIONS: (dataclasses.replace(two_gaussians(), sample=None), {}, "generations"),
        Need.JACOBIAN: (dataclasses.replace(two_gaussians(), push=None), {}, "derivatives"),
        Need.LAYER: (dataclasses.replace(two_gaussians(), layers=()), {}, "layer: "),
    }
    for need in score.needs - {Need.IMAGE}:
        model, changes, words = without[need]
        with pytest.raises(InputError, match=words):
            score(KEY, model, images(), SIGMA, dataclasses.replace(context, **changes))
    if Need.CAPTION in score.needs:
        with pytest.raises(InputError, match="takes none"):
            score(KEY, gaussian(), images(), SIGMA, Context(ONCE))


def test_captions_must_be_taken_and_be_one_an_image():
    with pytest.raises(InputError, match="trained without"):
        raw("std", gaussian(), images(), captions=CAPTIONS)
    with pytest.raises(InputError, match="got 4 for 5"):
        raw("std", two_gaussians(), images(), captions=CAPTIONS[:4])


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": "median"},
        {"draws": 0},
        {"probes": 0},
        {"steps": 0},
        {"generations": 1},
        {"clique": 8},
        {"guidance": np.inf},
    ],
)
def test_unusable_settings_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        ScoreSettings(**changes)


def test_a_score_does_not_depend_on_jax_arrays():
    x = images()
    np.testing.assert_array_equal(
        raw("jacobian_trace", gaussian(), x), raw("jacobian_trace", gaussian(), jnp.asarray(x))
    )
