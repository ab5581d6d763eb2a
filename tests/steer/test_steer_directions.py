"""Directions against means and components by hand; files that are refused."""

import dataclasses
import json

import numpy as np
import pytest
from steer_models import LAYER, drawn_model, linear_model

from dae_theory.checks import InputError
from dae_theory.files import npz_bytes
from dae_theory.steer.directions import (
    KINDS,
    Direction,
    References,
    concept_direction,
    load_direction,
    random_like,
    save_direction,
)


def references(seed, mean, spread=1.0):
    random = np.random.default_rng(seed)
    return References(mean + spread * random.standard_normal((40, 4)))


POSITIVE = references(1, np.array([2.0, 0, 0, 0]))
NEGATIVE = references(2, np.array([0.0, 1, 0, 0]))


def along(kind, draws=400, sigma=0.1, positive=POSITIVE):
    model = linear_model()
    found = concept_direction(model, "bag", positive, NEGATIVE, kind=kind, draws=draws, sigma=sigma)
    assert found.layers == (LAYER,)
    return found.arrays[LAYER]


def test_means_and_their_difference():
    # the noise of 400 draws of 40 references has a mean of standard deviation .0008
    np.testing.assert_allclose(along("mean"), POSITIVE.rows.mean(axis=0), atol=4e-3)
    expected = POSITIVE.rows.mean(axis=0) - NEGATIVE.rows.mean(axis=0)
    np.testing.assert_allclose(along("difference"), expected, atol=4e-3)


def test_the_leading_component_is_the_largest_eigenvector_on_the_side_of_the_mean():
    values, vectors = np.linalg.eigh(POSITIVE.rows.T @ POSITIVE.rows)
    found, mean = along("component"), POSITIVE.rows.mean(axis=0)
    assert abs(found @ vectors[:, np.argmax(values)]) > 0.999 * np.linalg.norm(found)
    assert found @ mean > 0
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(mean), rel=1e-2)
    flipped = along("component", positive=References(-POSITIVE.rows))
    assert flipped @ mean < 0


def test_the_single_unit_is_the_one_that_differs_most():
    found = along("unit")
    assert np.flatnonzero(found).tolist() == [0]
    difference = POSITIVE.rows.mean(axis=0) - NEGATIVE.rows.mean(axis=0)
    assert found[0] == pytest.approx(np.linalg.norm(difference), rel=1e-2)
    swapped = concept_direction(linear_model(), "bag", NEGATIVE, POSITIVE, kind="unit")
    assert swapped.arrays[LAYER][0] < 0


def test_a_random_direction_has_the_same_norm_and_is_its_seed_s():
    direction = concept_direction(linear_model(), "bag", POSITIVE)
    first, again, other = (random_like(direction, seed).arrays[LAYER] for seed in (1, 1, 2))
    assert np.linalg.norm(first) == pytest.approx(np.linalg.norm(direction.arrays[LAYER]))
    np.testing.assert_array_equal(first, again)
    assert abs(first @ other) < 0.999 * np.linalg.norm(first) ** 2


def test_captions_count_where_the_model_takes_them():
    model, rows = drawn_model(), np.random.default_rng(0).standard_normal((3, 16))
    plain, told = (
        concept_direction(model, "bag", References(rows, captions), layers=["condition/text"])
        for captions in (None, ["a dark bag"] * 3)
    )
    same = concept_direction(
        model, "bag", References(rows, ["a dark bag"] * 3), layers=["condition/text"]
    )
    assert plain.sha256 != told.sha256 == same.sha256
    assert np.abs(plain.arrays["condition/text"] - told.arrays["condition/text"]).max() > 1e-2


def test_a_saved_direction_is_the_same(tmp_path):
    direction = concept_direction(linear_model(), "bag", POSITIVE, NEGATIVE, kind="difference")
    save_direction(direction, tmp_path / "v.npz")
    found = load_direction(tmp_path / "v.npz")
    assert found.sha256 == direction.sha256
    assert dict(found.card) == dict(direction.card)
    np.testing.assert_array_equal(found.arrays[LAYER], direction.arrays[LAYER])
    assert found.card["references"] == 40
    assert found.card["references_sha256"] == POSITIVE.sha256 != NEGATIVE.sha256
    found.check_fits(linear_model())


@pytest.mark.parametrize("change", ["arrays", "card", "missing", "garbage"])
def test_an_altered_direction_is_refused(tmp_path, change):
    direction = concept_direction(linear_model(), "bag", POSITIVE)
    path = tmp_path / "v.npz"
    save_direction(direction, path)
    if change == "arrays":
        path.write_bytes(npz_bytes({LAYER: direction.arrays[LAYER] * 1.001}))
    elif change == "card":
        card = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps(card | {"concept": "coat"}))
    elif change == "missing":
        path.with_suffix(".json").unlink()
    else:
        path.write_bytes(b"garbage")
    with pytest.raises(InputError):
        load_direction(path)


def test_a_direction_of_another_model_or_shape_is_refused():
    direction = concept_direction(linear_model(), "bag", POSITIVE)
    with pytest.raises(InputError, match="it is of linear, whose parameters are not those"):
        direction.check_fits(linear_model(sha256="bb"))
    wrong = Direction({LAYER: np.ones(3)}, direction.card)
    with pytest.raises(InputError, match="has 4 channels, the direction has shape"):
        wrong.check_fits(linear_model())
    elsewhere = Direction({"nowhere": np.ones(4)}, direction.card)
    with pytest.raises(InputError, match="has no 'nowhere'; it has rows"):
        elsewhere.check_fits(linear_model())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "median"}, f"kind: expected one of {', '.join(KINDS)}"),
        ({"layers": ["nowhere"]}, "layers: linear has no 'nowhere'"),
        ({"sigma": 0.0}, "sigma: the noise level"),
        ({"draws": 0}, "draws: must be at least 1"),
        ({"kind": "difference", "negative": None}, "negative: this kind of direction needs"),
        ({"positive": References(np.ones((2, 3)))}, "references: rows of linear have 4"),
        ({"positive": References(np.ones((2, 4)), ["a"])}, "captions: 2 references have 1"),
        ({"positive": References(np.full((2, 4), np.nan))}, "references: contains NaN"),
    ],
)
def test_bad_input_is_one_line(given, message):
    usual = {"positive": POSITIVE, "negative": NEGATIVE}
    with pytest.raises(InputError, match=message):
        concept_direction(linear_model(), "bag", **usual | given)


def test_a_direction_of_nothing_is_refused():
    model = dataclasses.replace(
        linear_model(), activations=lambda y, sigma, captions, layer: np.zeros_like(y)
    )
    with pytest.raises(InputError, match="zero or not finite"):
        concept_direction(model, "bag", POSITIVE)


def test_a_file_needs_its_ending(tmp_path):
    direction = concept_direction(linear_model(), "bag", POSITIVE)
    with pytest.raises(InputError, match=r"ends in \.npz"):
        save_direction(direction, tmp_path / "v.txt")
