"""The study and the two models that come with the package."""

import numpy as np
import pytest

from dae_theory.deep.checkpoints import load_checkpoint
from dae_theory.detect.load import load_model
from dae_theory.detect.study.images import Group
from dae_theory.detect.study.measure import detectors
from dae_theory.detect.study.report import ends
from dae_theory.detect.study.run import said_choice
from dae_theory.detect.study.settings import CHECKPOINTS, SETTINGS, SHIPPED
from dae_theory.detect.study.store import Study
from dae_theory.memorization.copies import COPY_RATIO

STUDY = Study.load()


def test_the_study_in_the_package_is_that_of_the_settings():
    assert STUDY.card["chosen"] == said_choice()
    looked_at = {(m.name, m.step) for m in STUDY.models if m.name not in SHIPPED}
    assert looked_at == {(s.name, step) for s in SETTINGS for step in CHECKPOINTS}
    assert {m.name for m in STUDY.models if m.judging} == {s.name for s in SETTINGS if s.judging}


def test_every_detector_was_asked_about_every_model():
    networks = {setting.name: setting.config.network for setting in SETTINGS}
    networks |= {name: load_checkpoint(name).config.network for name in SHIPPED}
    for model in STUDY.models:
        asked = detectors(networks[model.name], whole=model.last)
        assert set(model.scores) == {detector.name for detector in asked}


def test_what_the_gap_ratio_says_by_construction():
    """Which is why tables leave it out there: it labels samples, and training images are near."""
    copies, others = (Group.FREE_COPY, Group.TOLD_COPY), (Group.FREE_MATCHED, Group.SAMPLED)
    for model in ends(STUDY):
        ratio_N = -model.scores["training_gap"]
        assert np.all(ratio_N[np.isin(model.group, (Group.PLANTED, Group.OTHER))] == 0)
        assert np.all(ratio_N[model.group == Group.UNSEEN_MATCHED] > 0)
        assert np.all(ratio_N[np.isin(model.group, copies)] < COPY_RATIO)
        assert np.all(ratio_N[np.isin(model.group, others)] >= COPY_RATIO)


@pytest.mark.parametrize(("name", "seed"), [("told-dit", 1002), ("free-dit", 1000)])
def test_two_of_its_models_are_shipped_under_names(name, seed):
    (trained,) = [s.config for s in SETTINGS if s.config.seed == seed]
    assert load_checkpoint(name).config == trained
    assert load_model(name).model.name == name
