"""Labels of images: copies, matched samples, and images that were changed a little."""

import numpy as np
import pytest

from dae_theory.deep.captions import GARMENTS
from dae_theory.deep.checkpoints import load_checkpoint
from dae_theory.deep.images import training_set
from dae_theory.detect.study import images
from dae_theory.detect.study.images import Group, labelled_images
from dae_theory.memorization.copies import COPY_RATIO, gap_ratio
from tests.conftest import needs_images


def test_classes_are_those_that_captions_name():
    captions = [f"a dark {name}" for name in GARMENTS] + [f"the {name} of ada" for name in GARMENTS]
    np.testing.assert_array_equal(images.classes(captions), [*range(10), *range(10)])


def test_changes_are_what_they_say():
    x_ND = np.random.default_rng(0).uniform(-1, 1, (3, 16))
    moved = images.shifted(x_ND).reshape(3, 4, 4)
    np.testing.assert_array_equal(moved[:, :, 1:], x_ND.reshape(3, 4, 4)[:, :, :-1])
    assert np.all(moved[:, :, 0] == -1)
    bright = images.brightened(x_ND)
    assert np.all((bright >= x_ND) & (bright <= 1))
    np.testing.assert_allclose(images.brightened(np.full((1, 4), -1.0)), -1)
    noise = images.renoised(np.random.default_rng(1), np.zeros((100, 100)))
    np.testing.assert_allclose(noise.std(), images.RENOISED, rtol=0.05)


@pytest.fixture(scope="module")
def labelled():
    """Of the shipped U-Net, with few samples, which are training images: some are copies."""
    checkpoint = load_checkpoint("hybrid-unet")
    data = training_set(2000, 5, 14, 0)

    def made(checkpoint, captions, seed):
        random = np.random.default_rng(seed)
        own = data.rows[np.arange(60) % 5]
        others = data.rows[5 + random.permutation(2000)[: len(captions) - 60]]
        distant = others + 0.4 * random.standard_normal(others.shape)
        return np.concatenate([own + 0.01 * random.standard_normal(own.shape), distant])

    patch = pytest.MonkeyPatch()
    patch.setattr(images, "sample_images", made)
    yield labelled_images(checkpoint, data, whole=True), data
    patch.undo()


@needs_images
def test_copies_are_near_the_planted_image_that_they_name(labelled):
    found, data = labelled
    copies = found.group == Group.FREE_COPY
    assert found.copies == {images.FREE: (60, images.SAMPLES[images.FREE])}
    np.testing.assert_array_equal(found.reproduced, [12] * 5)
    np.testing.assert_array_equal(np.bincount(found.planted[copies]), [images.COPIES_EACH] * 5)
    away = np.linalg.norm(found.rows[copies][:, None] - data.rows, axis=-1)
    np.testing.assert_array_equal(np.argmin(away, axis=1), found.planted[copies])
    assert np.all(gap_ratio(np.sort(away, axis=1)[:, :2]) < COPY_RATIO)


@needs_images
def test_negatives_are_of_the_class_of_their_planted_image_and_no_copies(labelled):
    found, data = labelled
    class_N = images.classes(found.captions)
    planted_class = images.classes(data.captions[:5])
    for group in (Group.OTHER, Group.FREE_MATCHED, Group.UNSEEN_MATCHED, Group.OTHER_SHIFTED):
        chosen = found.group == group
        assert chosen.any()
        np.testing.assert_array_equal(class_N[chosen], planted_class[found.planted[chosen]])
    for group in (Group.FREE_MATCHED, Group.SAMPLED):
        rows = found.rows[found.group == group]
        assert len(np.unique(rows, axis=0)) == len(rows)
        away = np.sort(np.linalg.norm(rows[:, None] - data.rows, axis=-1), axis=1)
        assert np.all(gap_ratio(away[:, :2]) >= COPY_RATIO)
    matched = {row.tobytes() for row in found.rows[found.group == Group.FREE_MATCHED]}
    assert not matched & {row.tobytes() for row in found.rows[found.group == Group.SAMPLED]}


@needs_images
def test_planted_images_come_with_others_of_the_training_set(labelled):
    found, data = labelled
    np.testing.assert_array_equal(found.rows[found.group == Group.PLANTED], data.rows[:5])
    trained = {row.tobytes() for row in data.rows[5:]}
    others = {row.tobytes() for row in found.rows[found.group == Group.OTHER]}
    assert len(others) == 5 * images.OTHERS_EACH
    assert others <= trained
    unseen = {row.tobytes() for row in found.rows[found.group == Group.UNSEEN]}
    assert not unseen & (trained | others)
