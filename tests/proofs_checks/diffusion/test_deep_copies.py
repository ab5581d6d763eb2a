"""The shipped deep models: what they are, what is kept of them, and claims without their images."""

import numpy as np
import pytest
from conftest import needs_images

from dae_theory.deep.checkpoints import FOLDER, SHIPPED, load_checkpoint
from dae_theory.deep.images import held_out_set
from proofs_checks.claims import Verdict, check
from proofs_checks.config import RunConfig
from proofs_checks.diffusion import CLAIMS
from proofs_checks.diffusion.experiment import build
from proofs_checks.diffusion.kept import kept
from proofs_checks.diffusion.shipped import ALL_IMAGES, TEST_IMAGES, ShippedModels

MOST_BYTES = 10e6


def test_without_fashion_mnist_few_claims_are_vacuous(without_fashion_mnist):
    experiment = build(RunConfig("diffusion", quick=True), lambda *_: None)
    needing = [claim for claim in CLAIMS if ALL_IMAGES in claim.requires]
    assert [claim.id for claim in needing] == [
        "diffusion/other-captions",
        "diffusion/copies-are-planted",
        "diffusion/generalizing-copies",
        "diffusion/denoisers-test",
        "diffusion/denoisers-test-high-noise",
    ]
    results = [check(claim, experiment) for claim in needing]
    assert {result.verdict for result in results} == {Verdict.VACUOUS}
    assert all("all images" in result.unmet for result in results)
    assert experiment.arrays == {}
    assert "dataset-fashion-mnist" in experiment.settings["deep"]
    read = {used.selection for used in experiment.data}
    assert "training images of hybrid-unet that come with the package" in read


@needs_images
def test_what_other_claims_look_at_is_the_same_without_fashion_mnist(request):
    def seen():
        models, stored = ShippedModels(), {}
        for name in ("hybrid-text-dit", "memorizing-unet"):
            data, count = models.training_images(name), models.checkpoint(name).stored
            stored[name] = data.images[:count], data.captions[:count], data.planted
        held_out = held_out_set(**models.checkpoint(SHIPPED[0]).config.drawn_as, limit=TEST_IMAGES)
        return stored, models.test_images, held_out

    with_all = seen()
    request.getfixturevalue("without_fashion_mnist")
    np.testing.assert_equal(seen(), with_all)


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
