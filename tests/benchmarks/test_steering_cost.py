"""The benchmark of steering times the programs that it says."""

import numpy as np

from benchmarks import steering
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.training import DeepConfig, init_state
from dae_theory.steer.nets import of_checkpoint


def test_it_times_the_same_samples_with_and_without_steering():
    network = NetworkConfig("dit", size=4, width=8, depth=1, heads=2)
    config = DeepConfig(network, images=30)
    checkpoint = Checkpoint("drawn", config, init_state(config).params, {})
    programs = steering.programs(checkpoint, steps=2)
    plain, steered = programs["plain"](), programs["steered"]()
    model = of_checkpoint(checkpoint)
    assert plain.shape == (steering.BATCH, model.size)
    np.testing.assert_allclose(plain, steered, atol=1e-4)  # the gates of a new network are closed
    found = steering.overhead(checkpoint, rounds=1, steps=2)
    assert min(found.values()) > 0


def test_bad_input_is_one_line(capsys):
    assert steering.main(["steering", "--rounds=0"]) == 2
    assert "rounds: must be at least 1" in capsys.readouterr().err
