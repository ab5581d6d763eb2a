"""What detectors are asked of labelled images."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory.detect.scores.score import Context
from dae_theory.detect.study.images import Group, Labelled
from dae_theory.detect.study.measure import CAPTION, ask, detectors
from dae_theory.detect.study.settings import TEXT_DIT
from dae_theory.diffusion.denoisers import gaussian_denoiser
from tests.detect.detect_models import counted, exact_model

CAPTIONS = ("other", "copied", "another", "other", "copied", "other")
BY_NAME = {detector.name: detector for detector in detectors(TEXT_DIT, whole=True)}


@pytest.fixture
def model():
    """A model whose samples of 'copied' are all alike, and what its calls cost an image."""
    wide, narrow = (gaussian_denoiser(np.zeros(4), v * np.eye(4)) for v in (1.0, 0.1))
    return counted(exact_model(wide, narrow), len(CAPTIONS))


@pytest.fixture
def images():
    count = len(CAPTIONS)
    rows = np.random.default_rng(0).standard_normal((count, 4))
    group, planted = np.full(count, Group.OTHER), np.zeros(count, int)
    return Labelled(rows, CAPTIONS, group, planted, np.zeros(1, int), {})


def test_generations_are_made_once_a_caption_and_shared(model, images):
    detector, captions = BY_NAME["generation_radius"], np.array(CAPTIONS)
    found = ask(detector, model[0], images, Context(), 3)
    np.testing.assert_array_equal(found[captions == "copied"], 0)
    assert np.all(found[captions != "copied"] < 0)
    assert len(np.unique(found[captions == "other"])) == 1
    assert len(np.unique(found)) == 3
    made = len(set(CAPTIONS)) * detector.settings.generations
    assert sum(model[1]) == pytest.approx(made * model[0].passes_a_sample / len(CAPTIONS))


@pytest.mark.parametrize("name", [f"std, {CAPTION}", "guidance_norm"])
def test_others_are_asked_once_an_image_whatever_its_caption(name, model, images):
    same = replace(images, captions=("other",) * len(CAPTIONS))
    found = ask(BY_NAME[name], model[0], same, Context(), 3)
    assert len(np.unique(found)) == len(CAPTIONS)


def test_captions_are_told_to_those_only_that_need_them(model, images):
    told, untold = (
        ask(BY_NAME[name], model[0], images, Context(), 3)
        for name in (f"denoising_error, {CAPTION}", "denoising_error")
    )
    assert np.all(told != untold)
    empty = replace(images, captions=("",) * len(CAPTIONS))
    named = ask(BY_NAME[f"denoising_error, {CAPTION}"], model[0], empty, Context(), 3)
    np.testing.assert_array_equal(named, untold)
