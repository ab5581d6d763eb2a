"""The shipped deep models: what they are, what is kept of them, and claims without their images."""

import pytest

from dae_theory.deep.checkpoints import FOLDER, SHIPPED, load_checkpoint
from proofs_checks.claims import Verdict, check
from proofs_checks.config import RunConfig
from proofs_checks.diffusion import CLAIMS
from proofs_checks.diffusion.experiment import build
from proofs_checks.diffusion.kept import kept

DEEP = ("deep", "denoisers", "jacobian")
MOST_BYTES = 10e6


def test_without_images_claims_are_vacuous(monkeypatch, tmp_path):
    monkeypatch.setattr("dae_theory.data.images.FASHION_MNIST_FOLDER", tmp_path)
    monkeypatch.setattr("dae_theory.data.images.FASHION_MNIST_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("DAE_THEORY_CACHE", str(tmp_path / "cache"))
    experiment = build(RunConfig("diffusion", quick=True), lambda *_: None)
    claims = [claim for claim in CLAIMS if claim.part in DEEP]
    results = [check(claim, experiment) for claim in claims]
    assert {result.verdict for result in results} == {Verdict.VACUOUS}
    assert all("images" in result.unmet for result in results)
    for part in DEEP:
        assert "dataset-fashion-mnist" in getattr(experiment, part).missing
    assert set(experiment.arrays) == {"jacobian/sigmas"}
    assert experiment.data == ()
    assert "dataset-fashion-mnist" in experiment.settings["deep"]


def test_results_are_kept_by_arguments_on_their_object():
    class Counter:
        calls = 0

        @kept
        def twice(self, number):
            self.calls += 1
            return 2 * number

    one, other = Counter(), Counter()
    assert [one.twice(1), one.twice(2), one.twice(1)] == [2, 4, 2]
    assert one.calls == 2
    assert (other.twice(1), other.calls) == (2, 1)


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
