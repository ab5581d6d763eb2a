"""Folders of the study: what is written is read, and damage is named."""

import numpy as np
import pytest

from dae_theory import InputError
from dae_theory.detect.study.images import Group
from dae_theory.detect.study.settings import SETTINGS
from dae_theory.detect.study.store import CARD, TABLE, Study
from tests.detect.study.made_up import PLANTED, images, scores, write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    assert write_study(out) == 8
    return out


def test_what_was_measured_is_read_again(folder):
    study = Study.load(folder)
    assert Study.found_in(folder)
    assert [m.step for m in study.models] == [10, 20] * 4
    model = study.models[1]
    labelled = images()
    np.testing.assert_array_equal(model.group, labelled.group)
    np.testing.assert_array_equal(model.planted, labelled.planted)
    expected = scores(labelled, np.random.default_rng((0, 20)))
    assert list(model.scores) == list(expected)
    for name, score_N in expected.items():
        np.testing.assert_allclose(model.scores[name], score_N, rtol=1e-6)
    assert (model.free_share, model.judging) == (0.3, False)
    np.testing.assert_array_equal(model.reproduced, [9, 9, 9, 0])


def test_development_models_are_tested_on_planted_images_of_odd_index_only(folder):
    models = Study.load(folder).models
    for model, expected in ((models[1], [1, 3]), (models[5], range(PLANTED))):
        used = model.test & (model.group == Group.PLANTED)
        np.testing.assert_array_equal(model.planted[used], expected)
        assert model.test[model.group == Group.UNSEEN].all()


def test_damage_is_named(folder, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Study.load(tmp_path)
    (tmp_path / CARD).write_bytes((folder / CARD).read_bytes())
    with pytest.raises(InputError, match="no such file"):
        Study.load(tmp_path)
    content = bytearray((folder / TABLE).read_bytes())
    content[-1] ^= 1
    (tmp_path / TABLE).write_bytes(content)
    with pytest.raises(InputError, match=r"damaged|truncated|not the scores"):
        Study.load(tmp_path)


def test_models_that_judge_have_seeds_and_planted_images_of_their_own():
    seeds = [setting.config.seed for setting in SETTINGS]
    assert len(set(seeds)) == len(seeds)
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    text = [setting for setting in SETTINGS if setting.config.network.text]
    assert sum(not setting.judging for setting in text) >= 6
    assert sum(setting.judging for setting in text) >= 4
