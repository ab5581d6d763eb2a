"""Tables of a made-up study whose areas are known."""

import numpy as np
import pytest

from dae_theory.detect.evaluate import area
from dae_theory.detect.study import report
from dae_theory.detect.study.__main__ import main
from dae_theory.detect.study.images import Group
from dae_theory.detect.study.store import Study
from dae_theory.statistics import Interval, area_ends, share_interval
from tests.detect.study.made_up import write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    write_study(out)
    return Study.load(out)


def shown_area(area: float, clusters: int) -> str:
    """An area that all models have, of so many clusters of each kind in all of them together."""
    return Interval(area, *area_ends(area, clusters, clusters)).shown(3)


def test_a_question_has_the_test_images_of_its_groups(study):
    model = study.models[1]
    asked = report.question(model, "std", report.TRAINING)
    chosen = (model.group == Group.PLANTED) & (model.planted % 2 == 1)
    np.testing.assert_array_equal(asked.positive, model.scores["std"][chosen])
    assert [len(side) for side in asked] == [2, 2, 6, 6, 120]
    assert report.question(model, "nothing", report.TRAINING) is None
    assert report.question(study.models[0], "std", report.FREE_SAMPLES) is None  # not measured
    never = report.question(model, "std", report.TRAINING, model.reproduced == 0)
    np.testing.assert_array_equal(never.positive_cluster, [3])


def test_areas_are_those_of_the_made_up_scores(study):
    for model in report.ends(study):
        for kind in report.MAIN:
            assert area(report.question(model, "jacobian_trace", kind)) == 1
            assert area(report.question(model, "chosen", kind)) == 0.5


def test_tables_say_so(study):
    lines = report.main_table(report.ends(study, judging=True), report.TRAINING)
    trace = next(line for line in lines if line.startswith("| jacobian_trace"))
    clusters = 8  # four of each of two models
    areas = shown_area(1.0, clusters)
    all_of_them, none = share_interval(clusters, clusters), share_interval(0, clusters)
    cells = " | ".join([areas, all_of_them.shown(3), none.shown(3)])
    assert trace == f"| jacobian_trace | 8 | 2 | {cells} |"
    differences = report.difference_table(report.ends(study), report.TRAINING, "chosen")
    assert "| jacobian_trace | 4 | -0.500 [-0.500, -0.500] |" in differences
    controls = report.control_table(report.ends(study), ("jacobian_trace",))
    assert controls[-1] == f"| {report.NOT_REPRODUCED} | {shown_area(1.0, 4)}, 4 models |"
    assert "|  |" in controls[4]  # nothing was brightened


def test_what_holds_by_construction_is_not_reported(study):
    """Areas of 1 that the made-up gap ratio has on samples and against unseen images, and of ½ on
    training images, say nothing; beside images that were changed a little they do."""
    models = report.ends(study)
    for kind in (*report.MAIN, report.UNSEEN):
        assert report.questions(models, "jacobian_trace", kind)
        assert not report.questions(models, "training_gap", kind)
    lines = report.kinds_table(models, "training_gap")
    assert [line.split(" | ")[:3] for line in lines[2:]] == [
        ["| shifted by a pixel", "4", shown_area(0.5, 12)],
        ["| shifted, against unseen images", "4", shown_area(1.0, 12)],
    ]


def test_the_command_shows_them_and_refuses_nonsense(tmp_path, capsys):
    write_study(tmp_path, seeds=(1000,))
    assert main(["study", "--show", f"--out={tmp_path}"]) == 0
    assert "| made-up-1000 | 20 | 0.300 | 0.900 |" in capsys.readouterr().out
    assert main(["study"]) == 2
    assert "out" in capsys.readouterr().err
    assert main(["study", "--groups=all", f"--out={tmp_path}"]) == 2
    assert "groups" in capsys.readouterr().err
