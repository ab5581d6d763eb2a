"""Reach of the closed forms, beyond verdicts: what the sweeps show, and the data they are on."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory import predict_blocks
from dae_theory.theory.closed_forms import block_eigenvalues
from dae_theory.theory.remainder import leak_loss
from proofs_checks.blocks import at_margin, predict_on
from proofs_checks.certify.reach import CLAIMS, no_threshold
from proofs_checks.certify.reach_curves import crossings
from proofs_checks.certify.reach_sweeps import (
    DECAY,
    SHARED_MARGIN,
    N,
    at_cluster_noise,
    at_cosine,
    at_decay,
    at_label_noise,
    at_shared_variation,
    at_spread,
    face_samples,
    in_span,
)
from proofs_checks.claims import Verdict, judge, measure_assumptions
from proofs_checks.monte_carlo import exact_loss_value

pytestmark = pytest.mark.xdist_group("certify-default-reach")
BY_NAME = {claim.id.removeprefix("certify/reach-"): claim for claim in CLAIMS}
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if claim.slow else [])
    for name, claim in BY_NAME.items()
]


@pytest.fixture(scope="module")
def reach(experiment_of):
    return experiment_of("certify", "default").reach


def operators(weights, prediction):
    w1, w2 = weights
    blocks = prediction.blocks
    return [w2[:, blocks == k] @ w1[:, blocks == k].T for k in range(len(prediction.directions))]


# --- curves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_finite_and_notes_are_short(result_of, name):
    found = result_of("certify", "default", BY_NAME[name].id).measured
    assert np.isfinite([found.measured, found.predicted, found.error]).all()
    assert found.note
    assert found.seeds == tuple(range(1000, 1000 + len(found.seeds)))


@pytest.mark.parametrize("name", ["beta", "alpha", "sigma", "sigma-clusters", "width"])
def test_without_a_margin_the_claim_is_vacuous_and_nothing_descends(reach, name):
    noisy = replace(reach.sweeps[name], problem=lambda _, seed: at_cluster_noise(0.2, seed))
    changed = replace(reach, sweeps=reach.sweeps | {name: noisy})
    (assumption,) = measure_assumptions(BY_NAME[name].requires, changed).values()
    assert not assumption.met
    assert "minima" not in vars(noisy)


@pytest.mark.slow
def test_shared_variation_is_harmless_under_little_decay(reach):
    def little_decay(cosine, seed):
        problem = at_shared_variation(cosine, seed)
        return at_margin(replace(problem, lam=problem.lam / 10), SHARED_MARGIN)

    mild = replace(reach.sweeps["shared"], problem=little_decay)
    changed = replace(reach, sweeps=reach.sweeps | {"shared": mild})
    shared, drawn = BY_NAME["shared"], BY_NAME["drawn"]
    assert judge(shared.measure(changed), shared.tolerance) is Verdict.HOLDS
    assert not all(a.met for a in measure_assumptions(drawn.requires, changed).values())


@pytest.mark.slow
def test_units_over_the_rank_change_nothing(reach):
    sweep = reach.sweeps["width"]
    (_, three, five), (_, *starts) = sweep.minima, sweep.starts
    assert sweep.values == (1, 3, 5)
    for minima in zip(three, five, *starts, strict=True):
        a, b = (
            operators(end.weights[:, :, : start.w1.shape[1]], start)
            for end, start in zip(minima[:2], minima[2:], strict=True)
        )
        np.testing.assert_allclose(a, b, atol=1e-4)
        assert minima[0].losses[1] == pytest.approx(minima[1].losses[1], rel=1e-6)


@pytest.mark.slow
def test_arrays_are_of_values_by_seeds(reach):
    arrays = reach.arrays
    for name, sweep in reach.sweeps.items():
        shape = len(sweep.values), len(sweep.seeds)
        assert arrays[f"{name}/values"].shape == shape[:1]
        for field in ("z", "reached", "error", "gradient", "leak"):
            assert arrays[f"{name}/{field}"].shape == shape
            assert np.isfinite(arrays[f"{name}/{field}"]).all()
    assert arrays["lambda/gains"].shape[2] == N


def test_crossing_of_an_exponential():
    values = np.linspace(0, 1, 11)[:, None] * np.ones(2)
    error = np.stack([1e-3 * np.exp(6 * values[:, 0]), np.full(11, 1e-3)], axis=1)
    found = crossings(values, error, 0.01)
    assert found[0] == pytest.approx(np.log(10) / 6, rel=1e-9)
    assert np.isnan(found[1])


# --- formulas and data -----------------------------------------------------------------------


def test_leak_sums_over_more_gates_the_better_the_wider_the_margin():
    problem = at_cluster_noise(0.05, 0)
    misses = []
    for z in (2.5, 3.0, 3.5):
        at_z = at_margin(problem, z)
        p = predict_on(at_z)
        excess = exact_loss_value(p.w1, p.w2, at_z.x, at_z.sigma, at_z.lam) - p.loss
        misses.append(abs(leak_loss(p, at_z.x) / excess - 1))
    assert misses[0] > misses[1] > misses[2]


def test_formulas_without_threshold_agree_above_it():
    problem = at_decay(0.6, 0)
    linear, soft = predict_on(problem, no_threshold), predict_on(problem, predict_blocks)
    np.testing.assert_allclose(np.concatenate(linear.gains), np.concatenate(soft.gains))
    below = predict_on(replace(problem, lam=3 * problem.lam), no_threshold)
    assert np.min(np.concatenate(below.gains)) < 0


@pytest.mark.parametrize("share", [0.0, 1 / 16, 3 / 16])
def test_label_noise_changes_the_share_it_says(share):
    clean, noisy = (at_label_noise(value, 3) for value in (0.0, share))
    assert np.mean(clean.labels != noisy.labels) == pytest.approx(share)
    np.testing.assert_array_equal(clean.x, noisy.x)
    assert clean.lam == noisy.lam


def test_samples_are_as_described():
    stored = at_cosine(-0.15, 0)
    norms = np.linalg.norm(stored.x, axis=1)
    cosines = (stored.x @ stored.x.T / np.outer(norms, norms))[np.triu_indices(len(norms), 1)]
    np.testing.assert_allclose(cosines, -0.15, atol=1e-12)
    assert len(norms) * stored.lam == pytest.approx(DECAY * np.min(norms) ** 2)

    shared = at_shared_variation(0.4, 0)
    assert predict_on(shared).margin == pytest.approx(SHARED_MARGIN, rel=1e-6)
    means = [shared.x[shared.labels == k].mean(axis=0) for k in range(2)]
    axes = [np.linalg.svd(shared.x[shared.labels == k] - means[k])[2][0] for k in range(2)]
    assert abs(axes[0] @ axes[1]) == pytest.approx(0.4)

    for clustered in (at_spread(0.2, 1), shared):
        assert [len(values) for values in block_eigenvalues(clustered.x, clustered.labels)] == [
            2,
            2,
        ]
    assert not np.allclose(at_spread(0.2, 0).x, at_spread(0.2, 1).x)


def test_coordinates_in_the_span_keep_inner_products():
    x = np.random.default_rng(0).standard_normal((3, 20))
    inside = in_span(x, 5)
    assert inside.shape == (3, 5)
    np.testing.assert_allclose(inside @ inside.T, x @ x.T, atol=1e-12)
    faces = [face_samples(seed) for seed in (0, 1)]
    assert not np.allclose(*faces)
    for samples in faces:
        gram = samples @ samples.T
        assert np.all(gram[np.triu_indices(N, 1)] < 0)
