"""Sampling with ReLU nets: results of the whole experiment, and what it says where little is known.

The first tests use the experiment of the claims; the others train nothing.
"""

from dataclasses import replace

import jax
import numpy as np
import pytest

from dae_theory import InputError, data
from dae_theory.diffusion.denoisers import DenoisingErrors
from proofs_checks.claims import Verdict, check
from proofs_checks.config import RunConfig
from proofs_checks.diffusion import CLAIMS, relu_sampling
from proofs_checks.diffusion.relu_denoisers import LEVELS, RIVALS
from proofs_checks.diffusion.relu_generalizing import distance_of_directions, pure_noise
from proofs_checks.diffusion.relu_sampling import GENERALIZING, MEMORIZING, with_samples

BY_ID = {claim.id.removeprefix("diffusion/"): claim for claim in CLAIMS if claim.part == "relu"}
KINDS = {"images/closed", "few/closed", *MEMORIZING, *GENERALIZING}
SEEDS, STARTS = tuple(range(1000, 1008)), (1000, 1001, 1002, 1003)


class Whole:
    """A regime's experiment of which one part is known."""

    def __init__(self, relu):
        self.relu = relu


def checked(name, experiment):
    return check(BY_ID[name], Whole(experiment))


@pytest.fixture(scope="module")
def trained(experiment_of):
    relu = experiment_of("diffusion", "default").relu
    for name in KINDS:
        relu.draws[0].nets.family(name)
    return relu


@pytest.fixture(scope="module")
def drawn():
    return relu_sampling.build(RunConfig("diffusion", quick=True), lambda what, done, total: None)


@pytest.fixture(scope="module")
def experiment(drawn):
    return drawn.draws[0]


in_group_of_claims = pytest.mark.xdist_group("diffusion-default-relu")


@in_group_of_claims
@pytest.mark.parametrize("name", BY_ID)
def test_measurements_are_finite_and_notes_short(result_of, name):
    found = result_of("diffusion", "default", f"diffusion/{name}").measured
    assert np.isfinite([found.measured, found.predicted, found.error]).all()
    assert found.note
    assert found.seeds == (() if name in ("floor", "stored-error") else SEEDS)


@in_group_of_claims
def test_arrays_hold_every_kind_and_every_denoiser(trained):
    arrays = trained.arrays
    samples = {name for name in arrays if name.endswith("/samples")}
    assert samples == {f"{name}/samples" for name in KINDS}
    for denoiser in (*RIVALS, "set", "plain", "preconditioned"):
        for points in ("train", "test", "generated"):
            for problem in ("few", "many"):
                mean = arrays[f"{problem}/{denoiser}/{points}/mean"]
                assert mean.shape[1] == LEVELS
                assert np.all(mean > 0) or (denoiser, points) == ("empirical", "train")
    assert all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f")
    assert trained.settings["seeds"] == len(SEEDS)


@in_group_of_claims
def test_seeds_give_different_nets_and_samples(trained):
    first, second = trained.draws[:2]
    for name in KINDS:
        assert len(jax.tree.leaves(first.nets.family(name).params)[-1]) == 1
        assert not np.allclose(first.samples(name), second.samples(name)), name
    w1, other = (e.nets.family("few/set").params[1] for e in (first, second))
    assert np.abs(w1 - other).max() > 0.1


@in_group_of_claims
def test_noise_counts_as_samples_that_are_no_new_data(trained):
    noise = pure_noise(trained.draws[0])
    for name in ("no-copies", "no-copies-calibrated"):
        assert BY_ID[name].measure(noise).error == 1
        assert BY_ID[name].measure(trained.draws[0]).error < 0.05


def test_each_seed_has_data_of_its_own(drawn):
    assert [e.seeds for e in drawn.draws] == [(seed,) for seed in SEEDS]
    assert [e.data[0].name for e in drawn.draws] == ["faces", "patches"] * 4
    for task in ("images", "few", "many"):
        arrays = [e.task(task).x for e in drawn.draws]
        assert len({array.shape for array in arrays}) == 1
        assert len({array.tobytes() for array in arrays}) == len(SEEDS)
    for e in drawn.draws:
        np.testing.assert_allclose(np.mean(np.sum(e.task("images").x ** 2, axis=1)), 1)


def test_the_users_data_are_one_data_set_with_several_starts():
    config = RunConfig("diffusion", data="simplex", n=5, quick=True)
    own = relu_sampling.build(config, lambda what, done, total: None)
    assert own.seeds == STARTS
    samples = own.samples("images/closed")
    assert len(samples) == len(STARTS)
    assert not np.allclose(samples[0], samples[1])


@pytest.mark.parametrize("kind", ["closed", "set", "plain", "preconditioned"])
def test_what_is_expected_to_fail_would_hold_for_copies(experiment, kind):
    name = f"{'few' if kind == 'preconditioned' else 'images'}/{kind}"
    copies = {name: np.tile(experiment.task(name).x, (1, 10, 1)) * 1.05}
    no_error = DenoisingErrors(*np.zeros((2, 1, LEVELS)))
    changed = replace(with_samples(experiment, copies), errors=lambda name: no_error)
    assert checked(f"copies-{kind}", changed).verdict is Verdict.HOLDS
    assert not experiment.nets.trained


def test_nets_that_have_not_memorized_are_vacuous(experiment):
    large = DenoisingErrors(*np.full((2, 1, LEVELS), 10.0))
    changed = replace(experiment, errors=lambda name: large)
    for name in ("copies-set", "copies-plain", "copies-preconditioned", "rays"):
        result = checked(name, changed)
        assert result.verdict is Verdict.VACUOUS
        assert set(result.unmet) == {"error at the lowest noise"}


def test_before_a_claim_asks_for_nets_there_are_none():
    config = RunConfig("diffusion", data="simplex", n=5, quick=True)
    fresh = relu_sampling.build(config, lambda what, done, total: None)
    samples = {name for name in fresh.arrays if name.endswith("/samples")}
    assert samples == {"images/closed/samples", "few/closed/samples"}
    assert not any(name.endswith("/mean") for name in fresh.arrays)
    assert checked("copies-closed", fresh).verdict is Verdict.FAILS
    assert not fresh.nets.trained


def test_equal_samples_are_refused(tmp_path):
    np.save(tmp_path / "equal.npy", np.zeros((8, 5)))
    config = RunConfig("diffusion", data=str(tmp_path / "equal.npy"), quick=True)
    with pytest.raises(InputError, match="equal"):
        relu_sampling.build(config, lambda what, done, total: None)


def test_samples_that_are_not_separable_are_vacuous(experiment):
    images = experiment.nets.tasks["images"]
    tasks = experiment.nets.tasks | {"images": replace(images, x=np.abs(images.x))}
    changed = replace(experiment, nets=replace(experiment.nets, tasks=tasks))
    for name in ("copies-closed", "copies-set", "copies-plain", "rays"):
        assert checked(name, changed).verdict is Verdict.VACUOUS
    assert not experiment.nets.trained


def test_lengths_and_directions_of_multiples_are_found(experiment):
    x = experiment.task("few").x
    samples = np.stack([[0.3 * x[1], 2.0 * x[4]]])
    changed = with_samples(experiment, {"few/set": samples})
    cosine, length = changed.along("few/set")
    np.testing.assert_allclose(cosine, 1.0)
    np.testing.assert_allclose(length, [[0.3, 2.0]])


def test_the_samples_are_named(experiment):
    names = [(used.name, used.selection.split(":")[0]) for used in experiment.data]
    assert names[1:] == [("mixture", "few"), ("mixture", "many")]
    assert names[0][0] == "faces"
    assert len({used.selected_sha256 for used in experiment.data}) == 3
    assert data.Dataset("", experiment.task("few").x).sha256 == experiment.data[1].selected_sha256


def test_distance_of_directions_tells_distributions_apart_and_ignores_lengths():
    rng = np.random.default_rng(0)
    data, more = (rng.standard_normal((300, 5)) * [3, 2, 1, 1, 1] for _ in range(2))
    assert abs(distance_of_directions(data, more)) < 0.01
    np.testing.assert_allclose(
        distance_of_directions(5 * data, more), distance_of_directions(data, more)
    )
    assert (
        distance_of_directions(rng.standard_normal((300, 5)), more) > 0.03
    )  # thrice what two samples of one distribution may have
