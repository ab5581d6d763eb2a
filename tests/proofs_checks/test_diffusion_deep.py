"""Claims about the shipped deep models, their mutants, and what happens without their images."""

import pytest
from conftest import needs_images

from dae_theory.deep.checkpoints import FOLDER, SHIPPED, load_checkpoint
from proofs_checks import diffusion_deep
from proofs_checks.claims import Verdict, judge
from proofs_checks.config import RunConfig

CLAIMS = {claim.id: claim for claim in diffusion_deep.CLAIMS}
# The transformer takes longest; run it by hand with -m slow.
BY_HAND = ("planted-captions", "other-captions", "copies-are-planted", "test-loss")


def parameter(claim, *others, name):
    marks = pytest.mark.slow if claim.id.removeprefix("diffusion/") in BY_HAND else ()
    return pytest.param(claim, *others, id=name, marks=marks)


VERDICTS = [parameter(claim, name=claim.id) for claim in diffusion_deep.CLAIMS]
MUTANTS = [
    parameter(claim, mutant, name=f"{claim.id}: {mutant.name}")
    for claim in diffusion_deep.CLAIMS
    for mutant in claim.mutants
]
MOST_BYTES = 10e6


@pytest.fixture(scope="module")
def experiment():
    return diffusion_deep.build(RunConfig("diffusion", seeds=2))


@needs_images
@pytest.mark.parametrize("claim", VERDICTS)
def test_claim_has_its_expected_verdict(experiment, claim):
    assert judge(claim.check(experiment)) is claim.expected


@needs_images
@pytest.mark.parametrize(("claim", "mutant"), MUTANTS)
def test_mutant_fails(experiment, claim, mutant):
    assert judge(claim.check(mutant.apply(experiment))) is Verdict.FAILS


def test_without_images_claims_are_vacuous(monkeypatch, tmp_path):
    monkeypatch.setattr("dae_theory.data.images.FASHION_MNIST_FOLDER", tmp_path)
    monkeypatch.setattr("dae_theory.data.images.FASHION_MNIST_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("DAE_THEORY_CACHE", str(tmp_path / "cache"))
    experiment = diffusion_deep.build(RunConfig("diffusion", quick=True))
    assert "dataset-fashion-mnist" in experiment.missing
    assert {judge(claim.check(experiment)) for claim in CLAIMS.values()} == {Verdict.VACUOUS}
    assert diffusion_deep.results(experiment) == {}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_are_small_and_say_what_they_do(name):
    card = load_checkpoint(name).card
    assert (FOLDER / f"{name}.npz").stat().st_size < MOST_BYTES
    assert card["loss_curve"][-1][0] == card["steps"]
    assert card["command"].startswith("python -m dae_theory.deep.training --out=DIR")
    assert card["evaluation"]["test_loss"]["value"] > 0
    assert all(row["samples"] >= 1000 for row in card["evaluation"]["copies"].values())


def test_same_sizes_are_compared():
    networks = {name: load_checkpoint(name).config.network for name in SHIPPED}
    assert networks["hybrid-unet"] == networks["generalizing-unet"] == networks["memorizing-unet"]
    assert networks["hybrid-text-dit"] == networks["generalizing-text-dit"]
