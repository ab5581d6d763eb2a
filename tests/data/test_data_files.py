"""Array files and folders of images, and what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from dae_theory import InputError, data


def test_npy_and_npz_files(tmp_path):
    x = np.random.RandomState(3).normal(size=(6, 4))
    np.save(tmp_path / "flat.npy", x)
    np.save(tmp_path / "images.npy", x.reshape(6, 2, 2))
    np.savez(tmp_path / "named.npz", X=x, labels=np.arange(6), extra=np.zeros(2))
    np.savez(tmp_path / "single.npz", anything=x.astype(np.float32))
    for name in ("flat.npy", "images.npy", "named.npz", "single.npz"):
        dataset = data.load_path(tmp_path / name)
        np.testing.assert_allclose(dataset.x, x, rtol=1e-6)
        assert dataset.x.dtype == np.float64
        assert dataset.name == Path(name).stem
    assert data.load_path(tmp_path / "images.npy").image_shape == (2, 2)
    limited = data.load_path(str(tmp_path / "named.npz"), limit=2)
    np.testing.assert_array_equal(limited.x, x[:2])
    np.testing.assert_array_equal(limited.labels, [0, 1])


def test_samples_without_names_are_read_with_their_labels(tmp_path):
    pixels = np.random.RandomState(3).randint(0, 256, (6, 2, 2, 3)).astype(np.uint8)
    np.savez(tmp_path / "sampled.npz", pixels, np.arange(6))  # as guided-diffusion does
    np.savez(tmp_path / "unlabelled.npz", pixels)
    for name in ("sampled", "unlabelled"):
        dataset = data.load_path(tmp_path / f"{name}.npz", limit=4)
        np.testing.assert_allclose(dataset.x, pixels[:4].reshape(4, 12) / 255, atol=1e-15)
        assert dataset.image_shape == (2, 2, 3)
        assert dataset.note == "bytes 0 to 255 read as 0 to 1"
    np.testing.assert_array_equal(
        data.load_path(tmp_path / "sampled.npz", limit=4).labels, range(4)
    )
    np.save(tmp_path / "counts.npy", pixels.reshape(6, 12))  # bytes, but no images
    np.testing.assert_array_equal(data.load_path(tmp_path / "counts.npy").x, pixels.reshape(6, 12))


def test_upper_case_suffixes(tmp_path):
    x = np.random.RandomState(3).normal(size=(3, 2))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", X=x)
    for name in ("x.npy", "x.npz"):
        upper = (tmp_path / name).rename(tmp_path / name.upper())
        np.testing.assert_array_equal(data.load_path(upper).x, x)


def test_unusable_array_files_are_refused(tmp_path):
    np.savez(tmp_path / "keys.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    np.savez(tmp_path / "labels.npz", X=np.ones((2, 2)), labels=np.ones(3))
    np.savez(tmp_path / "nan_label.npz", X=np.ones((2, 2)), labels=np.array([np.nan, 1.0]))
    np.save(tmp_path / "nan.npy", np.array([[1.0, np.nan]]))
    np.save(tmp_path / "vector.npy", np.ones(3))
    np.save(tmp_path / "empty.npy", np.ones((0, 3)))
    np.save(tmp_path / "no_image.npy", np.ones((0, 6, 6)))
    np.save(tmp_path / "no_pixel.npy", np.ones((2, 0, 6)))
    np.save(tmp_path / "timedelta.npy", np.zeros((4, 3), "m8[s]"))
    np.save(tmp_path / "datetime.npy", np.zeros((4, 3), "M8[s]"))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "object.npy", np.array([[{}, None]]), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.ones((2, 2), complex))
    np.savez(tmp_path / "timedelta_label.npz", X=np.ones((2, 2)), labels=np.zeros(2, "m8[s]"))
    np.savez(tmp_path / "archive.npz", X=np.ones((2, 2)))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    whole = tmp_path / "whole.npz"
    np.savez(whole, X=np.ones((30, 30)))
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:500])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "vector.npy").read_bytes()[:-5])
    (tmp_path / "notes.txt").write_text("x")
    expected = {
        "keys.npz": "name the samples 'X'",
        "labels.npz": "labels have shape",
        "nan_label.npz": "labels contain NaN",
        "nan.npy": "NaN or infinite",
        "vector.npy": r"expected a \(N, D\) array",
        "empty.npy": "at least one sample",
        "no_image.npy": "at least one sample",
        "no_pixel.npy": "at least one sample",
        "timedelta.npy": "expected real numbers",
        "datetime.npy": "expected real numbers",
        "text.npy": "expected real numbers",
        "object.npy": "holds Python objects",
        "archive.npy": "is an .npz archive",
        "timedelta_label.npz": "labels must be numbers or text",
        "complex.npy": "expected real numbers",
        "cut.npz": "truncated or not an .npz",
        "cut.npy": "truncated or not an .npy",
        "notes.txt": "expected an .npy or .npz file, or a folder",
        "missing.npy": "no such file",
        "missing.npz": "no such file",
    }
    for name, message in expected.items():
        with pytest.raises(InputError, match=message):
            data.load_path(tmp_path / name)


def test_scalar_array_file_is_refused(tmp_path):
    np.save(tmp_path / "scalar.npy", np.float64(3))
    with pytest.raises(InputError, match=r"expected a \(N, D\) array"):
        data.load_path(tmp_path / "scalar.npy")


def test_image_folder(tmp_path):
    random = np.random.RandomState(4)
    gray = random.randint(0, 256, (2, 5, 7)).astype(np.uint8)
    imsave(tmp_path / "b.png", gray[1], check_contrast=False)
    imsave(tmp_path / "a.png", gray[0], check_contrast=False)
    (tmp_path / "readme.txt").write_text("no image")
    dataset = data.load_path(tmp_path)
    assert dataset.image_shape == (5, 7)
    np.testing.assert_allclose(dataset.x, gray.reshape(2, 35) / 255, atol=1e-12)
    colour = data.load_path(tmp_path, gray=False)
    assert colour.image_shape == (5, 7, 3)
    np.testing.assert_allclose(colour.x.reshape(2, 5, 7, 3)[..., 1], gray / 255, atol=1e-12)
    resized = data.load_path(tmp_path, size=4, limit=1)
    assert resized.x.shape == (1, 16)
    assert resized.x.min() >= 0
    assert resized.x.max() <= 1


def test_colour_images_become_gray_by_luminance(tmp_path):
    image = np.zeros((3, 3, 3), np.uint8)
    image[..., 1] = 255
    imsave(tmp_path / "green.png", image, check_contrast=False)
    np.testing.assert_allclose(data.load_path(tmp_path).x, 0.7154, atol=1e-12)


def test_unusable_image_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no image"):
        data.load_path(tmp_path)
    imsave(tmp_path / "a.png", np.zeros((4, 4), np.uint8), check_contrast=False)
    imsave(tmp_path / "b.png", np.zeros((5, 4), np.uint8), check_contrast=False)
    with pytest.raises(InputError, match="give a size to resize them all"):
        data.load_path(tmp_path)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    with pytest.raises(InputError, match="cannot be read as an image"):
        data.load_path(tmp_path)
