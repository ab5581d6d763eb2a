"""Sets of nets, one a noise level: they are looked up, trained at their level, trained once."""

import numpy as np
import pytest

from dae_theory import data, predict_memorization, relu_denoiser, switching_denoiser
from proofs_checks.diffusion.relu_denoisers import LEVELS, Task, level_set
from proofs_checks.diffusion.relu_nets import FamilyTraining


def test_a_set_of_nets_is_the_switching_denoiser():
    x, rng = data.simplex(3, 8).x, np.random.default_rng(0)
    levels = Task(x, -x, 1.0, 8).levels
    w1, w2 = rng.standard_normal((2, LEVELS, 8, 4))
    switching = switching_denoiser(
        [relu_denoiser(*pair) for pair in zip(w1, w2, strict=True)], levels
    )
    looked_up = level_set((levels, w1, w2))
    y = rng.standard_normal((5, 8))
    for sigma in (*np.geomspace(0.001, 10, 40), 0.0):
        np.testing.assert_allclose(looked_up(y, sigma), switching(y, sigma), rtol=1e-12)


@pytest.mark.xdist_group("diffusion-default-relu")  # whose experiment it uses
@pytest.mark.parametrize("name", ["few/set", "images/set"])
def test_nets_of_a_level_are_those_of_that_noise(experiment_of, name):
    relu = experiment_of("diffusion", "default").relu.draws[0]
    task, params = relu.task(name), relu.nets.family(name).params
    y = np.float32(task.x)
    for levels, w1, w2 in zip(*params, strict=True):
        for level in (-2, -1):
            p = predict_memorization(task.x, float(levels[level]), task.lam)
            trained = relu_denoiser(w1[level], w2[level])(y, 1.0)
            np.testing.assert_allclose(trained, relu_denoiser(p.w1, p.w2)(y, 1.0), atol=0.05)


def test_families_are_trained_together_and_once():
    calls, seen = [], []

    def train():
        calls.append(1)
        return ["first", "second", "third", "fourth"]

    training = FamilyTraining(("a/set", "b/set"), train, lambda *progress: seen.append(progress))
    assert not training.done
    assert training.families[0] == {"a/set": "first", "b/set": "second"}
    assert training.families[1] == {"a/set": "third", "b/set": "fourth"}
    assert training.done
    assert len(calls) == 1
    assert [progress[1:] for progress in seen] == [(0, 1), (1, 1)]
