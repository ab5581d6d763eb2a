"""The images that come with the package, against the data that they were taken from."""

import hashlib

import numpy as np
import pytest
from conftest import needs_images

from dae_theory import InputError
from dae_theory.deep import images, subset
from dae_theory.deep.checkpoints import SHIPPED, load_checkpoint
from dae_theory.deep.images import (
    SHIPPED_IMAGES,
    SHIPPED_SHA256,
    fashion_images,
    held_out_set,
    known_fashion_images,
    shipped_images,
    training_set,
)
from dae_theory.files import read_npz

MOST_BYTES = 1.5e6


def test_they_are_few_and_bring_their_licence():
    content = SHIPPED_IMAGES.read_bytes()
    assert len(content) < MOST_BYTES
    assert hashlib.sha256(content).hexdigest() == SHIPPED_SHA256
    licence = (SHIPPED_IMAGES.parent / "LICENSE").read_text()
    assert "MIT License" in licence
    assert "Zalando" in licence
    for shipped in shipped_images().values():
        assert np.all(np.diff(shipped.index) > 0)
        np.testing.assert_array_equal(shipped.index[: shipped.first], np.arange(shipped.first))


@needs_images
def test_the_command_makes_them_from_all_images():
    np.testing.assert_equal(subset.subset_arrays(), read_npz(SHIPPED_IMAGES))


@needs_images
@pytest.mark.parametrize("split", ["train", "test"])
def test_they_stand_in_for_the_same_images(split, request):
    index = shipped_images()[split].index[::-7]
    whole = fashion_images(split, 14, index)
    request.getfixturevalue("without_fashion_mnist")
    np.testing.assert_equal(fashion_images(split, 14, index), whole)
    known = known_fashion_images(split, 14)
    assert len(known.images) == subset.FIRST[split]


def test_what_a_model_stores_and_what_is_near_comes_with_it(without_fashion_mnist):
    for checkpoint in map(load_checkpoint, SHIPPED):
        data = checkpoint.known_images()
        assert data.planted == checkpoint.config.planted
        assert len(data.images) > 2 * checkpoint.stored or len(data.images) == 25
        if data.planted:
            assert data.captions[0].startswith("the ")
        if checkpoint.config.images > 1000:
            with pytest.raises(InputError, match="dataset-fashion-mnist"):
                checkpoint.training_set()
    memorizing = load_checkpoint("memorizing-unet")
    np.testing.assert_array_equal(memorizing.training_set().rows, memorizing.known_images().rows)


def test_images_that_do_not_come_with_it_are_asked_for(without_fashion_mnist):
    assert len(held_out_set(59_000, 0, 14, 0, limit=500).images) == 500
    for unusable in (
        lambda: held_out_set(59_000, 0, 14, 0),
        lambda: training_set(100, 0, 14, 1),
        lambda: fashion_images("test", 7, np.arange(3)),
        lambda: fashion_images("train", 14),
    ):
        with pytest.raises(InputError, match="install the Debian package dataset-fashion-mnist"):
            unusable()


def test_an_altered_file_is_refused(monkeypatch, tmp_path):
    altered = tmp_path / "fashion_mnist.npz"
    np.savez(altered, **read_npz(SHIPPED_IMAGES))
    monkeypatch.setattr(images, "SHIPPED_IMAGES", altered)
    shipped_images.cache_clear()
    try:
        with pytest.raises(InputError, match="altered; install the package anew"):
            shipped_images()
    finally:
        shipped_images.cache_clear()


def test_the_command_needs_a_place(capsys):
    assert subset.main(["subset"]) == 2
    assert capsys.readouterr().err == "error: out: say where the images go, --out=FILE.npz\n"
