"""Sampling along a direction, where the answer is known."""

import dataclasses

import numpy as np
import pytest
from steer_models import LAYER, drawn_model, linear_model

from dae_theory.checks import InputError
from dae_theory.steer.apply import Steering, steer_samples
from dae_theory.steer.directions import References, concept_direction, random_like


@pytest.fixture(scope="module")
def direction():
    rows = np.random.default_rng(0).standard_normal((10, 4)) + 3
    return concept_direction(linear_model(), "bag", References(rows))


def test_absolute_strengths_add_multiples_of_the_direction(direction):
    start = linear_model().starts(0, 3)
    made = steer_samples(
        linear_model(), direction, [-1, 0.0, 2], start, steering=Steering(relative=False)
    )
    vector = direction.arrays[LAYER]
    np.testing.assert_allclose(made, [start - vector, start, start + 2 * vector])


def test_relative_strengths_are_of_the_unit_vector(direction):
    calls = []
    start = linear_model().starts(0, 3)
    steering = Steering(first=1, last=4, branch="both")
    steer_samples(linear_model(calls=calls), direction, [0.5], start, None, steering)
    ((count, change),) = calls
    assert (count, change.relative, change.first, change.last) == (3, True, 1, 4)
    assert change.branch == "both"
    np.testing.assert_allclose(np.linalg.norm(change.shifts[LAYER], axis=1), 0.5)


def test_strength_zero_is_the_unsteered_sample_bit_for_bit():
    model, rows = drawn_model(), np.random.default_rng(0).standard_normal((3, 16))
    layers = ("condition/text", "block1/units")
    direction = concept_direction(model, "bag", References(rows), layers=layers)
    start, captions = model.starts(3, 4), ["a dark bag"] * 4
    made = steer_samples(model, direction, [-1.0, 0.0, 1.0], start, captions)
    np.testing.assert_array_equal(made[1], model.sample(start, captions))
    again = steer_samples(model, direction, [0.0, 1.0], start, captions)
    np.testing.assert_array_equal(again, made[1:])
    assert np.abs(made[0] - made[1]).max() > 1e-3


def test_a_direction_for_each_start(direction):
    others = [random_like(direction, seed) for seed in range(3)]
    model, start = linear_model(), linear_model().starts(0, 3)
    made = steer_samples(model, others, [-1.0, 0.0, 2.0], start)
    for i, one in enumerate(others):
        alone = steer_samples(model, one, [-1.0, 0.0, 2.0], start[i : i + 1])
        np.testing.assert_allclose(made[:, i], alone[:, 0])
    with pytest.raises(InputError, match="direction: 3 starts take 1 or 3, got 2"):
        steer_samples(model, others[:2], [1.0], start)


@pytest.mark.parametrize("strengths", [[], [np.nan], [1.0, np.inf], [[1.0]]])
def test_strengths_are_finite_numbers(direction, strengths):
    with pytest.raises(InputError, match="strengths: expected finite numbers"):
        steer_samples(linear_model(), direction, strengths, linear_model().starts(0, 2))


def test_samples_that_are_not_finite_are_one_line(direction):
    def sample(start_ND, captions=None, change=None):
        made = np.array(start_ND)
        made[np.abs(sum(change.shifts.values())).max(axis=1) > 1] = np.nan
        return made

    model = dataclasses.replace(linear_model(), sample=sample)
    with pytest.raises(InputError, match="at 7 samples of linear are not finite"):
        steer_samples(model, direction, [0.1, 7.0], model.starts(0, 2))


def test_a_direction_of_another_model_is_refused(direction):
    with pytest.raises(InputError, match="make one from linear"):
        steer_samples(linear_model(sha256="bb"), direction, [1.0], linear_model().starts(0, 2))
