"""Claims on the ladder: their quantities on made-up tables; verdicts and mutants are the
registry's."""

from pathlib import Path

import numpy as np
import pytest

from dae_theory.deep.ladder.nets import PLAIN
from dae_theory.deep.ladder.rungs import FEW, FIVE, HOMOGENEOUS, LOCAL_PCA, MOST
from dae_theory.deep.ladder.store import Ladder
from proofs_checks.claims import Verdict, check
from proofs_checks.diffusion.deep_ladder import CLAIMS, COUNTS_EXCHANGED, OTHER_IMAGE
from proofs_checks.diffusion.ladder_study import (
    LadderStudy,
    gain_between,
    in_order,
    passed_by,
    trace_ratio,
    worst_of,
)

CARD = {"command": "made up", "sha256": "0" * 64, "data": {"faces": "1" * 64}}


def row(value, kind=PLAIN, n=FEW, depth=3, seed=0, quantity="training/gain"):
    keys = {"data": "faces", "n": n, "kind": kind, "depth": depth, "seed": seed}
    return keys | {quantity: value}


def study(*rows) -> LadderStudy:
    return LadderStudy(Ladder(Path("made-up"), CARD, rows))


def test_gain_between_is_how_far_it_is_outside_the_span_of_the_exact_denoisers():
    ends = (row(0.5, HOMOGENEOUS), row(1.0, FIVE))
    for gain, error in ((0.4, 0.1), (0.5, 0), (0.7, -0.2), (1.2, 0.2)):
        found = gain_between(study(row(gain), *ends).ladder, "faces", FEW, PLAIN, 3)
        assert found.errors == pytest.approx([error])
        assert found.predicted == 0.75


def test_order_of_neighbourhoods_is_judged_by_the_pair_with_the_least_lead():
    cosines = {"1": 0.2, "10": 0.5, "all": 0.6}
    names = {f"held_out/second moment/{k}/cosine": v for k, v in cosines.items()}
    ladder = study(row(0.0) | names).ladder
    rung = ("faces", FEW, PLAIN, 3)
    assert in_order("held_out", ("1", "10"))(ladder, *rung).errors == pytest.approx([-0.3])
    assert in_order("held_out", ("10", "1"))(ladder, *rung).errors == pytest.approx([0.3])
    found = in_order("held_out", ("1", "10"), ("10", "all"))(ladder, *rung)
    assert found.errors == pytest.approx([-0.1])
    assert found.values == [0.6]


def test_traces_of_few_are_compared_with_those_of_many():
    trace = "training/trace"
    rows = (row(2.0, quantity=trace), row(10.0, n=MOST, quantity=trace))
    exact = (row(0.5, HOMOGENEOUS, quantity=trace), row(20.0, LOCAL_PCA, MOST, quantity=trace))
    ladder = study(*rows, *exact).ladder
    assert trace_ratio(ladder, "faces", FEW, PLAIN, 3).errors == pytest.approx([0.2])
    assert trace_ratio(ladder, "faces", FEW, HOMOGENEOUS, 3).errors == pytest.approx([0.025])
    exchanged = COUNTS_EXCHANGED.apply(study(*rows)).ladder
    assert trace_ratio(exchanged, "faces", FEW, PLAIN, 3).errors == pytest.approx([5])


def test_the_worst_depth_decides_and_all_are_named():
    rows = [
        row(1.0 - 0.1 * depth + 0.01 * (seed - 1000), depth=depth, seed=seed)
        for depth in (2, 3, 4)
        for seed in (1000, 1001)
    ]
    ends = [
        row(v, kind, seed=s) for s in (1000, 1001) for v, kind in ((0.75, HOMOGENEOUS), (1, FIVE))
    ]
    measured = worst_of(gain_between, "faces", FEW)(study(*rows, *ends))
    assert measured.seeds == (1000, 1001)
    assert measured.errors == pytest.approx([0.15, 0.14])
    assert "plain, depth 2 0.805" in measured.note


def test_a_claim_that_an_exact_denoiser_fails_is_vacuous():
    claim = next(c for c in CLAIMS if c.id == "diffusion/ladder-gain-faces")
    names = ("gain", "gain_of_5")
    rows = [
        row(0.99, kind, depth=depth) | {f"training/{name}": 0.99 for name in names}
        for kind, depths in ((PLAIN, (2, 3, 4)), (FIVE, (3,)))
        for depth in depths
    ]
    judged = type("Experiment", (), {"ladder": study(*rows)})
    assert check(claim, judged).verdict is Verdict.HOLDS
    rows[-1] |= {"training/gain": 0.5}
    unfair = type("Experiment", (), {"ladder": study(*rows)})
    assert check(claim, unfair).verdict is Verdict.VACUOUS
    requirement = passed_by(FIVE, gain_between, "faces", FEW, 0.1)
    assert requirement.met(0.1)
    assert not requirement.met(0.11)


def test_another_image_takes_the_place_of_the_image():
    names = ("left", "right", "gain")
    given = row(0.0) | {f"training/{name}": 1.0 for name in names}
    given |= {f"training/other_{name}": 0.3 for name in names}
    (changed,) = OTHER_IMAGE.apply(study(given)).ladder.rows
    assert [changed[f"training/{name}"] for name in names] == [0.3] * 3


def test_the_study_says_how_its_ladder_was_made_and_of_which_images():
    e = study(row(1.0))
    assert e.settings == {"ladder": "made up (sha256 of its table 000000000000…)"}
    assert [(used.name, used.sha256) for used in e.data] == [("faces", "1" * 64)]
    assert e.arrays == {}
    assert np.size(e.ladder.values("training/gain", "faces", FEW)) == 1
