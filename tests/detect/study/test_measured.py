"""The study and the two models that come with the package."""

import pytest

from dae_theory.deep.checkpoints import load_checkpoint
from dae_theory.detect.study.run import said_choice
from dae_theory.detect.study.settings import CHECKPOINTS, SETTINGS, SHIPPED
from dae_theory.detect.study.store import MEASURED, Study


def test_the_study_in_the_package_is_that_of_the_settings():
    study = Study.load()
    assert study.card["chosen"] == said_choice()
    looked_at = {(m.name, m.step) for m in study.models if m.name not in SHIPPED}
    assert looked_at == {(s.name, step) for s in SETTINGS for step in CHECKPOINTS}
    assert {m.name for m in study.models if m.judging} == {s.name for s in SETTINGS if s.judging}


@pytest.mark.parametrize(("name", "setting"), [("told-dit", 1002), ("free-dit", 1000)])
def test_two_of_its_models_come_with_the_package(name, setting):
    path = MEASURED / f"{name}.npz"
    assert path.stat().st_size < 1e6
    (trained,) = [s.config for s in SETTINGS if s.config.seed == setting]
    assert load_checkpoint(path).config == trained
