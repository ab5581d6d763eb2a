"""The detect regime beyond its verdicts: parts built when asked for, predicted nets, bad input."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory import InputError
from dae_theory.theory.problem import Problem
from dae_theory.weights.read import SavedWeights
from proofs_checks.blocks import predict_on
from proofs_checks.config import RunConfig
from proofs_checks.detect import auroc, others
from proofs_checks.detect.conditions import MISSING, without_caption
from proofs_checks.detect.experiment import build, from_weights
from proofs_checks.detect.relu_nets import LIVE, N_STORED, PLANS, Pooled, detecting, everywhere
from proofs_checks.monte_carlo import TRAINED_MARGIN
from proofs_checks.nets import Nets

SEED = 7  # a development seed


def silent(what: str, done: int, total: int) -> None:
    pass


def predicted(seed: int, plan):
    """An experiment whose net is the planted start without its perturbation: no solver."""
    e = detecting(seed, plan, silent)
    w_DP = predict_on(replace(e.problem, widths=plan.units)).w1
    e.solving.__dict__["nets"] = Nets(w_DP[None], w_DP[None].copy(), (seed,))
    return e


@pytest.fixture(scope="module")
def net():
    return predicted(SEED, PLANS[0])


def test_nothing_is_built_before_it_is_asked_for():
    e = build(RunConfig("detect", quick=True), silent)
    assert e.built == {}
    assert (e.settings, e.data, e.arrays) == ({}, (), {})
    draws = e.relu.draws
    assert [draw.plan for draw in draws] == list(PLANS)
    assert not any(draw.has_nets for draw in draws)
    assert e.arrays == {}
    assert set(e.built) == {"relu"}
    assert len(e.data) == len(draws)
    assert len(e.conditions.draws) < len(draws)


def test_plans_fill_the_live_units_and_hold_both_cases():
    units = [plan.units for plan in PLANS if plan.units]
    assert {sum(one) for one in units} == {LIVE}
    assert any(max(one[:N_STORED]) >= min(one[N_STORED:]) for one in units)
    assert sum(plan.units is None for plan in PLANS) == 2
    margins = [predict_on(detecting(seed, PLANS[0], silent).problem).margin for seed in range(8)]
    assert min(margins) > TRAINED_MARGIN


def test_predicted_nets_have_the_predicted_areas(net):
    assert len(net.comparisons_made) == 12
    assert auroc.std_auroc(net).error < 0.01
    assert auroc.std_tpr(net).error < 0.02
    assert others.energy_auroc(net).error < 0.02
    assert others.trace_levels(net).error < 1e-3
    assert others.evenness(net) == pytest.approx(1.0)


def test_a_net_without_settings_has_no_rates(net):
    none = replace(net)
    none.__dict__["comparisons_made"] = ()
    assert np.isnan(auroc.std_tpr(none).error)
    assert auroc.area_arrays((none,))["predicted_tpr"].size == 0
    assert auroc.area_arrays((net,))["measured_tpr"].shape == (12,)


def test_mutants_of_all_nets_change_each(net):
    pooled = Pooled((net, net))
    changed = everywhere(auroc.ONE_UNIT).apply(pooled)
    assert len(changed.draws_of) == 2
    for one in changed.draws_of:
        assert one.response(2, 0.03).unit_sums == pytest.approx([1.0])
        assert one.solving is net.solving


def test_merging_a_samples_units_changes_no_output(net):
    merged = auroc.one_unit_nets(net)
    y_ND = net.drawn(2, net.comparisons_made[0], 50)[1]
    outputs = [np.maximum(y_ND @ e.nets.w1[0], 0) @ e.nets.w2[0].T for e in (net, merged)]
    np.testing.assert_allclose(*outputs, atol=1e-12)
    assert np.sum(np.linalg.norm(merged.nets.w1[0], axis=0) > 0) < LIVE
    setting = net.comparisons_made[0]
    width = net.plan.width + 5
    whole = auroc.split_area(net, setting, 1, width)
    assert whole == pytest.approx(auroc.split_area(merged, setting, 1, width))


def test_noise_is_each_settings_own(net):
    first, second, *_ = net.comparisons_made
    drawn = [net.drawn(first.stored, setting, 5) for setting in (first, first, second)]
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])
    noise = [(y - x) for x, y in drawn]
    assert not np.allclose(noise[0] / first.sigma, noise[2] / second.sigma)


def test_without_the_caption_one_sample_is_missing(net):
    e = without_caption(net)
    cosine_N = e.problem.x @ net.mixture.means[MISSING]
    assert np.all(cosine_N < 0)
    assert len(e.problem.widths) == len(net.problem.widths) - 1


def test_data_and_weights_of_the_user_are_refused():
    with pytest.raises(InputError, match="data: regime detect"):
        build(RunConfig("detect", data="faces"), silent)
    x_ND = np.eye(3)
    saved = SavedWeights(x_ND, x_ND, Problem(x_ND, 0.1, 0.0))
    with pytest.raises(InputError, match="weights: regime detect"):
        from_weights(saved)
