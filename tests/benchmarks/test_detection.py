"""The benchmark of detection times the programs that it says."""

import jax
import numpy as np
import pytest

from benchmarks import detection
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.training import DeepConfig, shapes_of_params
from dae_theory.detect.model import of_checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    network = NetworkConfig("dit", size=4, width=8, depth=1, heads=2, text=True)
    config = DeepConfig(network, images=30, planted=3)
    leaves, tree = jax.tree.flatten(shapes_of_params(config.network))
    rng = np.random.default_rng(0)
    params = [np.float32(0.3 * rng.standard_normal(a.shape)) for a in leaves]
    return Checkpoint("drawn", config, tree.unflatten(params), {})


def test_the_programs_answer_as_the_model(checkpoint):
    programs, model = detection.programs(checkpoint, batch=6), of_checkpoint(checkpoint)
    y = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
    expected, pooled = model.denoise(y, 0.1), model.activations(y, 0.1)
    out, tapped = programs["tapped"]()
    np.testing.assert_allclose(programs["forward"]().reshape(6, -1), expected, atol=1e-5)
    np.testing.assert_allclose(out.reshape(6, -1), expected, atol=1e-5)
    for found in (tapped, programs["layer"]()):
        np.testing.assert_allclose(found, pooled, atol=1e-5)


def test_times_are_positive(checkpoint):
    found = detection.ratios(checkpoint, rounds=1, calls=3)
    assert set(found) == {"forward_ms", "tapped", "layer"}
    assert min(found.values()) > 0
    assert detection.score_seconds(checkpoint, 10) > 0


def test_bad_input_is_one_line(capsys):
    assert detection.main(["detection", "--rounds=0"]) == 2
    assert "rounds: must be at least 1" in capsys.readouterr().err
