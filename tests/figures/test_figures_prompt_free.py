"""The figure of prompt-free detection, from a made-up study whose areas are known."""

import matplotlib as mpl
import numpy as np
import pytest

from dae_theory.detect.study.store import Study
from figures import fig_prompt_free
from figures.make import load_any, main
from figures.style import RC
from tests.detect.study.made_up import write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    write_study(out)
    return out


def test_a_point_is_a_model_at_a_step(folder):
    with mpl.rc_context(RC):
        figure = fig_prompt_free.draw(Study.load(folder))
    panels = dict(zip(fig_prompt_free.PANELS, figure.axes, strict=True))
    points = panels["jacobian_trace"].lines[:-1]  # the last line is that of no separation
    assert len(points) == 8
    np.testing.assert_allclose([p.get_data(orig=False) for p in points], [[[0.3], [1.0]]] * 8)
    assert sum(p.get_markerfacecolor() == "none" for p in points) == 4
    chosen = panels["chosen"].lines[:-1]
    np.testing.assert_allclose([p.get_ydata(orig=False) for p in chosen], 0.5)


def test_the_command_draws_it(folder, tmp_path):
    assert isinstance(load_any(folder), Study)
    source = f"--from={folder}"
    assert main(["make", "--figure=prompt_free", f"--out={tmp_path}", source]) == 0
    assert (tmp_path / "prompt_free.pdf").stat().st_size > 5_000
