"""Nets that are steered: their solves go far enough."""

from dataclasses import replace

import numpy as np
import pytest

from proofs_checks.steer import nets


@pytest.mark.xdist_group("steer-default-pairs")
def test_with_a_hundredth_of_the_gradient_samples_move_by_less_than_1e_6(
    experiment_of, monkeypatch
):
    pair = experiment_of("steer", "default").pairs.draws[0]
    ends_AMD = pair.trained_ends
    monkeypatch.setattr(nets, "GRADIENT", nets.GRADIENT / 100)
    nearer = replace(pair, solving=replace(pair.solving))
    assert 0 < np.max(np.abs(nearer.trained_ends - ends_AMD)) < 1e-6
