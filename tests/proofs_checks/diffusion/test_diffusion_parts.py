"""The regime's parts: built when a claim asks for them, reported only then."""

import pytest

from dae_theory import InputError
from dae_theory.data import simplex
from dae_theory.theory.problem import Problem
from dae_theory.weights.read import SavedWeights
from proofs_checks.config import RunConfig
from proofs_checks.diffusion.experiment import build, from_weights


def test_only_parts_that_were_asked_for_are_reported():
    experiment = build(RunConfig("diffusion", quick=True), lambda what, done, total: None)
    assert (experiment.settings, experiment.data, experiment.arrays) == ({}, (), {})
    assert experiment.exact.seeds == tuple(range(1000, 1008))
    assert experiment.pair.seeds == (1000, 1001, 1002, 1003)
    assert set(experiment.built) == {"relu"}
    assert experiment.settings["images"] == 5
    assert {name.split("/")[0] for name in experiment.arrays} == {"relu"}
    assert len(experiment.data) == 3 * 8


def test_weights_of_one_noise_level_are_refused():
    x_ND = simplex(3, 8).x
    with pytest.raises(InputError, match="nets for all noise levels"):
        from_weights(SavedWeights(x_ND.T, x_ND.T, Problem(x_ND, 0.1, 0.01)))
