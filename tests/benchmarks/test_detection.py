"""The benchmark of detection times the programs that it says."""

import numpy as np
import pytest
from drawn_networks import drawn_checkpoint

from benchmarks import detection
from dae_theory.deep.network import NetworkConfig
from dae_theory.detect.model import of_checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    network = NetworkConfig("dit", size=4, width=8, depth=1, heads=2, text=True)
    return drawn_checkpoint(network)


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
