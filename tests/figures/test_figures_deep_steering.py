"""The figure of steering in deep models, from a made-up study whose curves are known."""

import matplotlib as mpl
import numpy as np
import pytest

from dae_theory.steer.metrics import probability
from dae_theory.steer.study.store import Study
from figures import fig_deep_steering
from figures.make import load_any, main
from figures.style import RC
from tests.steer.study.made_up_steering import CONCEPTS, MODELS, RISING, STRENGTHS, write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    write_study(out)
    return out


def test_a_thick_line_is_the_mean_over_concepts_of_what_was_measured(folder, monkeypatch):
    monkeypatch.setattr(fig_deep_steering, "TEXT_MODELS", MODELS)
    with mpl.rc_context(RC):
        figure = fig_deep_steering.draw(Study.load(folder))
    assert [axes.get_title(loc="left")[4:] for axes in figure.axes] == list(MODELS)
    for axes in figure.axes:
        assert len(axes.lines) == 2 * (len(CONCEPTS) + 1) + 1
        named = {line.get_label(): line for line in axes.lines}
        for group, heights in RISING.items():
            x, y = named[group].get_data()
            np.testing.assert_allclose(x, STRENGTHS)
            np.testing.assert_allclose(y, probability(np.array(heights, float)), rtol=1e-6)
        np.testing.assert_allclose(named["random directions"].get_ydata(), 0.5)


def test_the_command_draws_that_of_the_package(tmp_path):
    assert main(["make", "--figure=deep_steering", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "deep_steering.pdf").stat().st_size > 5_000


def test_a_study_of_steering_is_told_from_one_of_detection(folder):
    assert isinstance(load_any(folder), Study)
