"""The list of data sets: every name loads, and is what its loader gives."""

import numpy as np
import pytest
from conftest import needs_images
from skimage.io import imsave

from dae_theory import InputError, data


def test_every_name_is_loaded_offline():
    for name in data.NAMES:
        if name.startswith("fashion"):
            continue
        dataset = data.load(name, 5)
        assert dataset.name == name
        assert dataset.x.shape[0] == 5
        assert dataset.x.dtype == np.float64
        assert (dataset.image_shape is None) == (name in ("simplex", "mixture"))


@needs_images
@pytest.mark.parametrize(
    ("name", "split"), [("fashion_mnist", "train"), ("fashion_mnist_test", "test")]
)
def test_fashion_mnist_by_name(name, split):
    dataset = data.load(name, 3)
    assert dataset.name == name
    np.testing.assert_array_equal(dataset.x, data.fashion_mnist(split).x[:3])
    assert len(dataset.labels) == 3


def test_mixture_is_the_one_of_the_checks():
    dataset = data.load("mixture")
    expected = data.separable_mixture(3, 32, rank=3, beta=-0.5, alpha=0.2)
    x, labels = expected.sample(0, 200)
    np.testing.assert_array_equal(dataset.x, x)
    np.testing.assert_array_equal(dataset.labels, labels)
    np.testing.assert_array_equal(dataset.mixture.covs, expected.covs)


def test_mixture_as_asked_for():
    dataset = data.load("mixture", 40, dimension=12, clusters=5, alpha=0.4)
    expected = data.separable_mixture(5, 12, rank=3, beta=-1 / 4, alpha=0.4)
    np.testing.assert_array_equal(dataset.x, expected.sample(0, 40)[0])
    one = data.load("mixture", 4, clusters=1).mixture
    np.testing.assert_allclose(np.linalg.norm(one.means, axis=1), [1.0])


@pytest.mark.parametrize(
    ("limit", "dimension", "shape"), [(None, None, (8, 64)), (70, None, (70, 70)), (4, 3, (4, 3))]
)
def test_simplex_has_room_for_its_samples(limit, dimension, shape):
    dataset = data.load("simplex", limit, dimension=dimension)
    np.testing.assert_array_equal(dataset.x, data.simplex(*shape).x)


def test_patches_have_the_size_asked_for():
    np.testing.assert_array_equal(data.load("patches").x, data.patches(200).x)
    np.testing.assert_array_equal(data.load("patches", 7, size=5).x, data.patches(7, size=5).x)


def test_images_and_files_are_centred_and_synthetic_data_are_not(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(3, 2))
    for name in ("faces", "patches", str(tmp_path / "x.npy")):
        whole, centred = data.load(name, 2), data.load(name, 2, center=True)
        np.testing.assert_allclose(centred.x.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(centred.x + centred.offset, whole.x, atol=1e-12)
    for name in ("simplex", "mixture"):
        dataset = data.load(name, 7, center=True)
        assert dataset.offset is None
        assert dataset.sha256 == data.load(name, 7).sha256


def test_no_more_images_of_a_folder_are_read_than_asked_for(tmp_path):
    for name in ("a.png", "b.png"):
        imsave(tmp_path / name, np.full((4, 6), 51, np.uint8), check_contrast=False)
    (tmp_path / "c.png").write_bytes(b"no image")
    assert data.load(str(tmp_path), 2).image_shape == (4, 6)
    assert data.load(str(tmp_path), 2, size=3, gray=False).x.shape == (2, 27)
    with pytest.raises(InputError, match="cannot be read as an image"):
        data.load(str(tmp_path))


def test_unknown_names_and_impossible_counts_are_refused():
    with pytest.raises(
        InputError, match="data: mnist is none of simplex, mixture, faces, patches, "
    ):
        data.load("mnist")
    with pytest.raises(InputError, match=r"expected an \.npy or .npz file, or a folder of images"):
        data.load("missing.txt")
    with pytest.raises(InputError, match=r"missing\.npy: no such file"):
        data.load("missing.npy")
    for option in ("limit", "size", "dimension"):
        with pytest.raises(InputError, match=f"{option}: must be at least 1, got 0"):
            data.load("mixture", **{option: 0})
