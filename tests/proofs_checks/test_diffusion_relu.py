"""Claims on sampling with ReLU nets: verdicts, mutants, and what the measurements must give."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dae_theory import InputError, data, predict_memorization, relu_denoiser, switching_denoiser
from dae_theory.diffusion.samplers import sample_ode
from proofs_checks import diffusion_exact_evidence as exact
from proofs_checks import diffusion_relu as claims
from proofs_checks import diffusion_relu_evidence as measured
from proofs_checks import diffusion_relu_nets as nets
from proofs_checks.claims import Verdict, judge
from proofs_checks.config import RunConfig

CLAIMS = {claim.id.removeprefix("diffusion/"): claim for claim in claims.CLAIMS}
SEEDS = (0, 1, 2, 3)


def silent(what, done, total):
    """No progress bar."""


@pytest.fixture(scope="module")
def experiment():
    return claims.build(RunConfig("all", quick=True), None, True, silent)


@pytest.fixture(scope="module")
def simplex():
    x = data.simplex(3, 8).x
    return nets.Problem(x, -x, 1.0, 8)


@pytest.mark.parametrize("name", CLAIMS)
def test_verdict_is_expected_and_note_is_short(experiment, name):
    evidence = CLAIMS[name].check(experiment)
    assert judge(evidence) is CLAIMS[name].expected
    assert np.isfinite([evidence.measured, evidence.predicted, evidence.error]).all()
    assert 0 < len(evidence.note) <= 95
    assert evidence.seeds == (() if name in ("floor", "stored-error") else SEEDS)


@pytest.mark.parametrize(
    ("claim", "mutant"),
    [pytest.param(c, m, id=f"{c.id}: {m.name}") for c in claims.CLAIMS for m in c.mutants],
)
def test_mutant_fails(experiment, claim, mutant):
    assert judge(claim.check(mutant.apply(experiment))) is Verdict.FAILS


@pytest.mark.parametrize("kind", ["closed", "set", "plain", "preconditioned"])
def test_what_is_expected_to_fail_would_hold_for_copies(experiment, kind):
    problem = "few" if kind == "preconditioned" else "images"
    name, x = f"{problem}/{kind}", experiment.problems[problem].x
    copies = np.tile(x, (len(SEEDS), 10, 1)) * 1.05
    changed = replace(experiment, samples=experiment.samples | {name: copies})
    assert judge(CLAIMS[f"copies-{kind}"].check(changed)) is Verdict.HOLDS


def test_without_nets_the_rest_is_checked():
    untrained = claims.build(RunConfig("all", quick=True), data.simplex(5, 16), False, silent)
    assert set(untrained.samples) == {"images/closed", "few/closed"}
    assert untrained.errors == {}
    assert judge(CLAIMS["copies-closed"].check(untrained)) is Verdict.FAILS


def test_equal_samples_are_refused():
    equal = data.Dataset("equal", np.zeros((8, 5)))
    with pytest.raises(InputError, match="equal"):
        claims.build(RunConfig("diffusion", quick=True), equal, False, silent)


def test_samples_that_are_not_separable_are_vacuous(experiment):
    images = experiment.problems["images"]
    close = replace(images, x=np.abs(images.x))
    changed = replace(experiment, problems=experiment.problems | {"images": close})
    assert judge(CLAIMS["copies-closed"].check(changed)) is Verdict.VACUOUS


def test_results_hold_every_kind_and_every_denoiser(experiment):
    arrays = claims.results(experiment)
    samples = {name for name in arrays if name.endswith("/samples")}
    assert samples == {f"{name}/samples" for name in experiment.families}
    for denoiser in ("exact", "empirical", "gaussian", "local_pca", "set", "plain"):
        for on in ("train", "test", "generated"):
            mean = arrays[f"many/{denoiser}/{on}/mean"]
            assert mean.shape[1] == nets.LEVELS
            assert np.all(mean > 0) or (denoiser, on) == ("empirical", "train")
    assert all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f")
    assert claims.settings(experiment)["seeds"] == len(SEEDS)


def test_seeds_give_different_nets_and_samples(experiment):
    for family in experiment.families.values():
        w = jax.tree.leaves(family.params)[-1]
        assert len(w) == len(SEEDS)
    for name, samples in experiment.samples.items():
        assert not np.allclose(samples[0], samples[1]), name
    w1 = experiment.families["few/set"].params[1]
    assert np.abs(w1[0] - w1[1]).max() > 0.1


# --- nets ---------------------------------------------------------------------------------------


def test_a_set_of_nets_is_the_switching_denoiser(simplex):
    rng = np.random.default_rng(0)
    w1, w2 = rng.standard_normal((2, nets.LEVELS, 8, 4))
    switching = switching_denoiser(
        [relu_denoiser(*pair) for pair in zip(w1, w2, strict=True)], simplex.levels
    )
    looked_up = nets.level_set((np.asarray(simplex.levels), w1, w2))
    y = rng.standard_normal((5, 8))
    for sigma in (*np.geomspace(0.001, 10, 40), 0.0):
        np.testing.assert_allclose(looked_up(y, sigma), switching(y, sigma), rtol=1e-12)


def test_the_stored_denoiser_is_the_net_of_the_closed_form(simplex):
    y = np.random.default_rng(1).standard_normal((20, 8))
    for sigma in (0.01, 0.3, 2.0):
        p = predict_memorization(simplex.x, sigma, 0.0)
        expected = relu_denoiser(p.w1, p.w2)(y, sigma)
        np.testing.assert_allclose(measured.stored_denoiser(simplex.x)(y, sigma), expected)


def test_nets_of_a_level_are_those_of_that_noise():
    problem = nets.Problem(data.simplex(3, 8).x, -np.eye(8), 1.0, 8)
    (family,) = nets.train_level_sets([problem], (0,), None)
    levels, w1, w2 = (leaf[0] for leaf in family.params)
    for level in (-2, -1):
        p = predict_memorization(problem.x, float(levels[level]), problem.lam)
        y = np.float32(problem.x)
        trained = relu_denoiser(w1[level], w2[level])(y, 1.0)
        np.testing.assert_allclose(trained, relu_denoiser(p.w1, p.w2)(y, 1.0), atol=0.05)


# --- formulas -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cosine", [-0.25, -0.6])
def test_the_flow_between_two_images_is_the_integral_of_their_gains(cosine):
    # Sum and difference of the coordinates, while both gates are open: SciPy against the sampler.
    x = measured.pair(cosine)
    start = x[0] + 0.98 * x[1]

    def slope(log_sigma, y):
        gain = 1 / (1 + np.exp(2 * log_sigma))
        return y - gain * (np.maximum(x @ y, 0) @ x)

    found = solve_ivp(slope, (np.log(2.0), np.log(0.05)), start, rtol=1e-10, atol=1e-12).y[:, -1]
    sigmas = np.geomspace(2.0, 0.05, 400)
    sampled = sample_ode(measured.stored_denoiser(x), start[None], sigmas)[0]
    np.testing.assert_allclose(sampled, found, rtol=1e-3)
    growth = 0.5 * np.log(4 / 0.05**2 * (1 + 0.05**2) / (1 + 4))
    both_open = found @ x.T
    if np.all(both_open > 0):
        before = start @ x.T
        share = (both_open[0] - both_open[1]) / both_open.sum()
        expected = (before[0] - before[1]) / before.sum() * np.exp(2 * abs(cosine) * growth)
        np.testing.assert_allclose(share, expected, rtol=1e-6)


@pytest.mark.parametrize("cosine", [-0.15, -0.4])
def test_samples_between_images_become_rare_as_predicted(experiment, cosine):
    schedules = np.stack([np.geomspace(2.0, last, 60) for last in measured.PAIR_LEVELS])
    samples = measured.sample_pair(experiment, cosine, schedules)
    share = np.mean(np.all(samples @ measured.pair(cosine).T > 0, axis=-1), axis=(1, 2))
    slope = np.polyfit(np.log(measured.PAIR_LEVELS), np.log(share), 1)[0]
    assert abs(slope - measured.pair_exponent(cosine)) < 0.1


def test_lengths_and_directions_of_multiples_are_found(experiment):
    x = experiment.problems["few"].x
    samples = np.stack([[0.3 * x[1], 2.0 * x[4]]] * len(SEEDS))
    changed = replace(experiment, samples=experiment.samples | {"few/set": samples})
    cosine, length = measured.along(changed, "few/set")
    np.testing.assert_allclose(cosine, 1.0)
    np.testing.assert_allclose(length, np.tile([0.3, 2.0], (len(SEEDS), 1)))


def test_distances_are_grouped_by_seed():
    x = np.array([[0.0, 0.0], [10.0, 0.0]])
    samples = np.array([[[1.0, 0.0], [0.0, 1.0], [13.0, 0.0], [10.0, 3.0]]])
    np.testing.assert_allclose(exact.rms_distance(samples, x, 2), [[1.0], [3.0]])
