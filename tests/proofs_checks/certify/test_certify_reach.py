"""Reach of the closed forms: verdicts, mutants, the descent and the leak formula by other means."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize

from dae_theory import predict_blocks, predict_memorization, solve_local_minimum
from dae_theory.solve.newton import newton_modulo_symmetry
from dae_theory.theory.closed_forms import block_eigenvalues
from proofs_checks import certify_reach as reach
from proofs_checks import certify_reach_evidence as measured
from proofs_checks.blocks import Blocks, at_margin, predict_on
from proofs_checks.claims import Verdict, judge
from proofs_checks.probes import exact_loss_value

CLAIMS = {claim.id.removeprefix("certify/reach-"): claim for claim in reach.CLAIMS}


@pytest.fixture(scope="module")
def experiment():
    return reach.build((0, 1, 2, 3), quick=True)


def descended(blocks, **options):
    start = predict_on(blocks)
    weights = np.stack([start.w1, start.w2])
    return measured.descend(weights, blocks.x, blocks.sigma, blocks.lam, **options)


def operators(weights, prediction):
    w1, w2 = weights
    blocks = prediction.blocks
    return [w2[:, blocks == k] @ w1[:, blocks == k].T for k in range(len(prediction.directions))]


# --- claims ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLAIMS)
def test_verdict_is_expected_and_note_is_short(experiment, name):
    evidence = CLAIMS[name].check(experiment)
    assert judge(evidence) is CLAIMS[name].expected
    assert np.isfinite([evidence.measured, evidence.predicted, evidence.error]).all()
    assert 0 < len(evidence.note) <= 95
    assert evidence.seeds == (0, 1)


@pytest.mark.parametrize(
    ("claim", "mutant"),
    [pytest.param(c, m, id=f"{c.id}: {m.name}") for c in reach.CLAIMS for m in c.mutants],
)
def test_mutant_fails(experiment, claim, mutant):
    assert judge(claim.check(mutant.apply(experiment))) is Verdict.FAILS


@pytest.mark.parametrize("name", ["beta", "alpha", "sigma", "sigma-clusters", "width"])
def test_without_a_margin_the_claim_is_vacuous(experiment, name):
    noisy = replace(
        experiment.sweeps[name], blocks=lambda _, seed: measured.at_cluster_noise(0.2, seed)
    )
    changed = replace(experiment, sweeps=experiment.sweeps | {name: noisy})
    assert judge(CLAIMS[name].check(changed)) is Verdict.VACUOUS


def test_shared_variation_is_harmless_under_little_decay(experiment):
    def little_decay(cosine, seed):
        blocks = measured.at_shared_variation(cosine, seed)
        return at_margin(replace(blocks, lam=blocks.lam / 10), measured.SHARED_MARGIN)

    mild = replace(experiment.sweeps["shared"], blocks=little_decay)
    changed = replace(experiment, sweeps=experiment.sweeps | {"shared": mild})
    assert judge(CLAIMS["shared"].check(changed)) is Verdict.HOLDS
    assert judge(CLAIMS["drawn"].check(changed)) is Verdict.VACUOUS


def test_units_over_the_rank_change_nothing(experiment):
    sweep = experiment.sweeps["width"]
    (_, three, five), (_, *starts) = sweep.minima, sweep.starts
    assert sweep.values == (1, 3, 5)
    for minima in zip(three, five, *starts, strict=True):
        a, b = (
            operators(end.weights[:, :, : start.w1.shape[1]], start)
            for end, start in zip(minima[:2], minima[2:], strict=True)
        )
        np.testing.assert_allclose(a, b, atol=1e-4)
        assert minima[0].losses[1] == pytest.approx(minima[1].losses[1], rel=1e-6)


def test_results_are_arrays_of_values_by_seeds(experiment):
    arrays = reach.results(experiment)
    for name, sweep in experiment.sweeps.items():
        shape = len(sweep.values), len(sweep.seeds)
        assert arrays[f"{name}/values"].shape == shape[:1]
        for field in ("z", "reached", "error", "gradient", "leak"):
            assert arrays[f"{name}/{field}"].shape == shape
            assert np.isfinite(arrays[f"{name}/{field}"]).all()
    assert arrays["lambda/gains"].shape[2] == measured.N


# --- descent ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cosine", [-0.2, -0.1, 0.0])
def test_descent_agrees_with_the_solver_on_stored_samples(cosine):
    blocks = measured.at_cosine(cosine, 0)
    start = predict_on(blocks)
    solution = solve_local_minimum(start.w1, start.w2, blocks.x, blocks.sigma, blocks.lam)
    assert solution.converged
    minimum = descended(blocks)
    np.testing.assert_allclose(minimum.weights, [solution.w1, solution.w2], atol=1e-6)
    assert minimum.losses[1] == pytest.approx(solution.loss, rel=1e-12)
    assert minimum.losses[0] == pytest.approx(
        exact_loss_value(start.w1, start.w2, blocks.x, blocks.sigma, blocks.lam), rel=1e-12
    )


def test_descent_agrees_with_newton_where_rotations_are_nearly_flat():
    blocks = measured.at_spread(0.1, 0)
    start = predict_on(blocks)
    newton = newton_modulo_symmetry(start.w1, start.w2, blocks.x, blocks.sigma, blocks.lam)
    weights = descended(blocks).weights
    for a, b in zip(
        operators(weights, start), operators((newton.w1, newton.w2), start), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("lowest", [-1.0, 0.5])
@pytest.mark.parametrize("radius", [0.1, 10.0])
def test_trust_step_minimizes_the_model_within_the_radius(lowest, radius):
    rng = np.random.default_rng(0)
    values, slope = np.sort([lowest, *rng.uniform(1, 3, 3)]), rng.standard_normal(4)
    step = measured._trust_step(values, slope, radius)

    def model(s):
        return slope @ s + s @ (values * s) / 2

    assert np.linalg.norm(step) <= radius * (1 + 1e-9)
    found = min(
        scipy.optimize.minimize(
            model,
            radius * rng.standard_normal(4) / 4,
            constraints={"type": "ineq", "fun": lambda s: radius**2 - s @ s},
            method="SLSQP",
        ).fun
        for _ in range(8)
    )
    assert model(step) == pytest.approx(found, rel=1e-5)


def test_zero_columns_stay_and_the_loss_never_rises():
    blocks = measured.at_cosine(-0.1, 1)
    start = predict_memorization(blocks.x, blocks.sigma, blocks.lam, width=7)
    weights = np.stack([start.w1, start.w2])
    losses = [
        measured.descend(weights, blocks.x, blocks.sigma, blocks.lam, steps).losses[1]
        for steps in range(4)
    ]
    assert np.all(np.diff(losses) < 0)
    end = measured.descend(weights, blocks.x, blocks.sigma, blocks.lam).weights
    assert not end[:, :, 5:].any()


# --- formulas and data -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "sigma"),
    [
        pytest.param([[1.0, 0.0]], 0.8, id="own gate closes"),
        pytest.param([[2.0, 0.0], [-0.1, 2.0]], 0.1, id="other gates open"),
    ],
)
def test_leak_is_exact_where_gates_flip_one_at_a_time(x, sigma):
    x = np.array(x)
    blocks = Blocks(x, np.arange(len(x)), (1,) * len(x), sigma, 0.01)
    prediction = predict_on(blocks)
    assert prediction.margin < 1.5
    excess = exact_loss_value(prediction.w1, prediction.w2, x, sigma, 0.01) - prediction.loss
    assert abs(excess) > 1e-4
    assert measured.leak_loss(prediction, blocks) == pytest.approx(excess, rel=1e-9)


def test_leak_sums_over_more_gates_the_better_the_wider_the_margin():
    blocks = measured.at_cluster_noise(0.05, 0)
    misses = []
    for z in (2.5, 3.0, 3.5):
        at_z = at_margin(blocks, z)
        p = predict_on(at_z)
        excess = exact_loss_value(p.w1, p.w2, at_z.x, at_z.sigma, at_z.lam) - p.loss
        misses.append(abs(measured.leak_loss(p, at_z) / excess - 1))
    assert misses[0] > misses[1] > misses[2]


def test_crossing_of_an_exponential():
    values = np.linspace(0, 1, 11)[:, None] * np.ones(2)
    error = np.stack([1e-3 * np.exp(6 * values[:, 0]), np.full(11, 1e-3)], axis=1)
    found = measured.crossings(values, error, 0.01)
    assert found[0] == pytest.approx(np.log(10) / 6, rel=1e-9)
    assert np.isnan(found[1])


@pytest.mark.parametrize("share", [0.0, 1 / 16, 3 / 16])
def test_label_noise_changes_the_share_it_says(share):
    clean, noisy = (measured.at_label_noise(value, 3) for value in (0.0, share))
    assert np.mean(clean.labels != noisy.labels) == pytest.approx(share)
    np.testing.assert_array_equal(clean.x, noisy.x)
    assert clean.lam == noisy.lam


def test_samples_are_as_described():
    blocks = measured.at_cosine(-0.15, 0)
    norms = np.linalg.norm(blocks.x, axis=1)
    cosines = (blocks.x @ blocks.x.T / np.outer(norms, norms))[np.triu_indices(len(norms), 1)]
    np.testing.assert_allclose(cosines, -0.15, atol=1e-12)
    assert len(norms) * blocks.lam == pytest.approx(measured.DECAY * np.min(norms) ** 2)

    shared = measured.at_shared_variation(0.4, 0)
    assert predict_on(shared).margin == pytest.approx(measured.SHARED_MARGIN, rel=1e-6)
    means = [shared.x[shared.labels == k].mean(axis=0) for k in range(2)]
    axes = [np.linalg.svd(shared.x[shared.labels == k] - means[k])[2][0] for k in range(2)]
    assert abs(axes[0] @ axes[1]) == pytest.approx(0.4)

    for blocks in (measured.at_spread(0.2, 1), shared):
        assert [len(values) for values in block_eigenvalues(blocks.x, blocks.labels)] == [2, 2]
    assert not np.allclose(measured.at_spread(0.2, 0).x, measured.at_spread(0.2, 1).x)


def test_coordinates_in_the_span_keep_inner_products():
    x = np.random.default_rng(0).standard_normal((3, 20))
    inside = measured.in_span(x, 5)
    assert inside.shape == (3, 5)
    np.testing.assert_allclose(inside @ inside.T, x @ x.T, atol=1e-12)
    faces = [measured.face_samples(seed) for seed in (0, 1)]
    assert not np.allclose(*faces)
    for samples in faces:
        gram = samples @ samples.T
        assert np.all(gram[np.triu_indices(measured.N, 1)] < 0)


def test_formulas_without_threshold_agree_above_it():
    blocks = measured.at_decay(0.6, 0)
    arguments = blocks.x, blocks.labels, blocks.widths, blocks.sigma, blocks.lam
    linear, soft = reach.no_threshold(*arguments), predict_blocks(*arguments)
    np.testing.assert_allclose(np.concatenate(linear.gains), np.concatenate(soft.gains))
    arguments = (*arguments[:-1], 3 * blocks.lam)
    assert np.min(np.concatenate(reach.no_threshold(*arguments).gains)) < 0
