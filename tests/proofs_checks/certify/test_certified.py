"""Certificates of the closed forms beyond their verdicts: where they hold, what they measure."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dae_theory.minima import enclosure
from dae_theory.weights.compare import compare_weights
from proofs_checks.blocks import at_margin
from proofs_checks.certify import closed_forms
from proofs_checks.certify.certified import MARGINS, operator_errors
from proofs_checks.certify.closed_forms import SADDLE, claims_about, margin_needed
from proofs_checks.certify.experiment import build
from proofs_checks.claims import Verdict, check
from proofs_checks.config import RunConfig
from proofs_checks.monte_carlo import exact_loss_value

PARTS = [
    pytest.param(part, marks=pytest.mark.xdist_group(f"certify-default-{part}"))
    for part in ("simplex", "mixture", "faces")
]


def certificates(part):
    """The claims about a part, by kind."""
    claims = claims_about(part, part, in_blocks=part == "mixture")
    return {claim.id.rpartition("/")[2]: claim for claim in claims}


@pytest.fixture
def certified(experiment_of):
    return lambda part: getattr(experiment_of("certify", "default"), part)


def result(kind, part, subject):
    return check(certificates(part)[kind], SimpleNamespace(**{part: subject}))


# --- what is proved --------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_existence_is_proved_and_where_it_cannot_be_rounding_is_allowed_for(
    certified, part, monkeypatch
):
    proved = certified(part).existence
    assert proved.enclosed
    monkeypatch.setattr(enclosure, "LARGEST_ENCLOSED", 1)
    again = replace(certified(part))
    assert not again.existence.enclosed
    assert proved.radius < again.existence.radius < 1e-6
    assert "allowance for rounding" in result("exists", part, again).measured.note


def test_parts_that_no_claim_asked_for_are_not_computed_for_figures():
    fresh = build(RunConfig("certify", quick=True), lambda what, done, total: None)
    assert not fresh.arrays
    assert fresh.simplex.prediction
    assert {name.partition("/")[0] for name in fresh.arrays} == {"simplex"}


# --- where they hold -------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_theory_does_not_apply_without_a_margin(certified, part):
    noisy = replace(certified(part), problem=at_margin(certified(part).problem, 1.5))
    for kind in certificates(part):
        found = result(kind, part, noisy)
        assert found.verdict is Verdict.VACUOUS
        assert found.assumptions["gate margin z"].value == pytest.approx(1.5)
    assert not noisy.arrays


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("z", [6.0, 6.5])
def test_all_certificates_hold_from_margin_six_on(certified, part, z):
    at_z = replace(certified(part), problem=at_margin(certified(part).problem, z + 1e-6))
    for kind in ("stationary", "spectrum", "flat-directions", "minimum", "exists"):
        found = result(kind, part, at_z)
        assert found.verdict is Verdict.HOLDS
        assert found.measured.note


# --- what they measure -----------------------------------------------------------------------


@pytest.mark.xdist_group("certify-default-mixture")
def test_saddle_is_named_with_the_drop_of_its_loss(certified):
    changed = SADDLE.apply(certified("mixture"))
    found = result("minimum", "mixture", changed).measured
    assert found.note.startswith("saddle")
    assert "the loss falls by" in found.note
    verdict, at, b = changed.second_order, changed.minimizer, changed.problem

    def loss(step):
        w1, w2 = at.w1 + step * verdict.direction[0], at.w2 + step * verdict.direction[1]
        return exact_loss_value(w1, w2, b.x, b.sigma, b.lam)

    step = 0.01
    curvature = (loss(step) - 2 * loss(0.0) + loss(-step)) / step**2
    assert curvature == pytest.approx(verdict.lowest, rel=0.05)
    assert min(loss(step), loss(-step)) < loss(0.0)


@pytest.mark.xdist_group("certify-default-mixture")
def test_operator_errors_are_those_of_a_comparison(certified):
    p, x = certified("mixture").prediction, certified("mixture").problem.x
    w1, w2 = p.w1 + 0.01 * np.random.default_rng(0).standard_normal((2, *p.w1.shape))
    np.testing.assert_allclose(
        operator_errors(w1, w2, p), compare_weights(w1, w2, p, x).operator_errors, rtol=1e-12
    )


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.3])
def test_remainder_law_is_recovered_from_made_up_curves(exponent):
    z = MARGINS
    curve = 3 * np.exp(-(z**2) / 2) ** exponent
    flips = np.exp(-(z**2) / 2)

    curves = {"z": z, "flips": flips, "gradient": curve, "weights": curve, "operator": curve}
    found = closed_forms.remainder(SimpleNamespace(remainder=curves))
    assert found.measured == pytest.approx(exponent)
    assert f"{-exponent / 2:.3f} ± 0.000" in found.note


def test_margin_that_an_error_needs():
    z = np.array([2.0, 3.0, 4.0, 5.0])
    error = np.exp(-(z**2))
    assert margin_needed(z, error, np.exp(-12.25)) == "3.5"
    assert margin_needed(z, error, 0.5) == "<2.0"
    assert margin_needed(z, error, 1e-12) == ">5.0"
    unknown = np.where(z == 2, np.nan, error)
    assert margin_needed(z, unknown, 0.5) == "3.0"
