"""Synthetic data against their stated statistics; images and files, and what is wrong with them."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from dae_theory import InputError, data
from dae_theory.data import images


@pytest.mark.parametrize(("n", "cosine"), [(1, 0.0), (4, -1 / 3), (4, -0.2), (5, 0.0), (3, 0.7)])
def test_equiangular_directions_have_the_cosine(n, cosine):
    directions = data.equiangular_directions(n, 6, cosine)
    gram = np.full((n, n), cosine) + (1 - cosine) * np.eye(n)
    assert directions.shape == (n, 6)
    np.testing.assert_allclose(directions @ directions.T, gram, atol=1e-12)


def test_simplex_needs_one_dimension_less_than_samples():
    directions = data.equiangular_directions(4, 3, -1 / 3)
    np.testing.assert_allclose(directions.sum(axis=0), 0, atol=1e-12)
    with pytest.raises(InputError, match=r"d: 4 directions .* need d >= 3, got 2"):
        data.equiangular_directions(4, 2, -1 / 3)
    with pytest.raises(InputError, match="need d >= 4, got 3"):
        data.equiangular_directions(4, 3, -0.1)


@pytest.mark.parametrize("cosine", [-0.4, 1.0])
def test_impossible_cosines_are_refused(cosine):
    with pytest.raises(InputError, match=r"need a cosine in \[-0.3333, 1\)"):
        data.equiangular_directions(4, 8, cosine)


def test_random_rotation_is_orthogonal_and_has_no_preferred_direction():
    rotations = np.array([data.random_rotation(seed, 3) for seed in range(400)])
    np.testing.assert_allclose(rotations[7] @ rotations[7].T, np.eye(3), atol=1e-13)
    # Entries of a Haar rotation have mean 0 and variance 1/d.
    standard_error = np.sqrt(1 / 3 / len(rotations))
    assert np.all(np.abs(rotations.mean(axis=0)) < 5 * standard_error)
    assert np.all(np.abs((rotations**2).mean(axis=0) - 1 / 3) < 0.08)


def test_simplex_samples():
    dataset = data.simplex(5, 9, radius=2.0, seed=3)
    assert dataset.x.shape == (5, 9)
    gram = 4.0 * ((1 + 1 / 4) * np.eye(5) - 1 / 4)
    np.testing.assert_allclose(dataset.x @ dataset.x.T, gram, atol=1e-12)
    np.testing.assert_array_equal(dataset.labels, np.arange(5))
    assert not np.allclose(dataset.x, data.simplex(5, 9, radius=2.0, seed=4).x)
    with pytest.raises(InputError, match="n: must be at least 1"):
        data.simplex(0, 3)


def test_mixture_means_covariances_and_priors():
    mixture = data.separable_mixture(
        3, 12, rank=3, beta=-0.3, alpha=[0.1, 0.2, 0.0], priors=[1, 2, 1]
    )
    gram = 1.3 * np.eye(3) - 0.3
    np.testing.assert_allclose(mixture.means @ mixture.means.T, gram, atol=1e-12)
    np.testing.assert_allclose(mixture.priors, [0.25, 0.5, 0.25])
    np.testing.assert_allclose(
        np.trace(mixture.covs, axis1=1, axis2=2), [0.01, 0.04, 0], atol=1e-14
    )
    for cov in mixture.covs:
        np.testing.assert_allclose(mixture.means @ cov, 0, atol=1e-13)
    spectrum = np.linalg.eigvalsh(mixture.covs[1])[::-1]
    np.testing.assert_allclose(spectrum[:3] / spectrum[2], [3, 2, 1], rtol=1e-10)
    np.testing.assert_allclose(spectrum[3:], 0, atol=1e-14)


def test_mixture_samples_have_the_stated_statistics():
    mixture = data.separable_mixture(2, 6, rank=2, beta=-0.5, alpha=0.5, priors=[1, 3])
    n = 40_000
    x, labels = mixture.sample(0, n)
    np.testing.assert_array_equal(np.bincount(labels), [10_000, 30_000])
    for k in range(2):
        members, cov = x[labels == k], mixture.covs[k]
        mean_error = np.sqrt(np.diag(cov) / len(members)) + 1e-12
        assert np.all(np.abs(members.mean(axis=0) - mixture.means[k]) < 5 * mean_error)
        # Var of a sample covariance entry: (c_ii c_jj + c_ij²)/n.
        cov_error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / len(members)) + 1e-12
        assert np.all(np.abs(np.cov(members.T) - cov) < 5 * cov_error)


def test_mixture_samples_depend_on_the_seed_only():
    mixture = data.separable_mixture(2, 6, rank=2, beta=-0.5, alpha=0.5)
    np.testing.assert_array_equal(mixture.sample(1, 9)[0], mixture.sample(1, 9)[0])
    assert not np.allclose(mixture.sample(1, 9)[0], mixture.sample(2, 9)[0])


def test_zero_alpha_gives_exact_duplicates():
    x, labels = data.separable_mixture(2, 6, rank=1, beta=-0.5, alpha=0.0).sample(0, 10)
    np.testing.assert_allclose(x[labels == 0], np.tile(x[0], (5, 1)), atol=1e-14)


def test_impossible_mixtures_are_refused():
    with pytest.raises(InputError, match=r"rank: 3 means in d=5 leave room for .*rank 2.*, got 3"):
        data.separable_mixture(3, 5, rank=3, beta=-0.2, alpha=0.1)
    with pytest.raises(InputError, match="priors: need 2 positive numbers"):
        data.separable_mixture(2, 8, rank=1, beta=-0.2, alpha=0.1, priors=[1, 0])
    with pytest.raises(InputError, match="n: must be at least 1"):
        data.separable_mixture(2, 8, rank=1, beta=-0.2, alpha=0.1).sample(0, 0)


def test_proportional_counts_sum_and_stay_within_one():
    random = np.random.RandomState(1)
    for n in (1, 2, 7, 100, 1001):
        priors = random.dirichlet(np.ones(5))
        counts = data.proportional_counts(priors, n)
        assert counts.sum() == n
        assert np.all(np.abs(counts - n * priors) < 1)


def test_centred_data_keep_their_offset():
    dataset = data.Dataset("any", np.array([[1.0, 5.0], [3.0, 7.0]]))
    result = data.centred(dataset)
    np.testing.assert_allclose(result.x, [[-1, -1], [1, 1]])
    np.testing.assert_allclose(result.offset, [2, 6])


def test_faces_are_gray_images_in_the_unit_interval():
    faces = data.faces()
    assert faces.x.shape == (100, 625)
    assert faces.image_shape == (25, 25)
    assert faces.x.dtype == np.float64
    assert faces.x.min() >= 0
    assert faces.x.max() <= 1
    assert len(np.unique(faces.x, axis=0)) > 90


def test_patches_are_gray_images_in_the_unit_interval():
    patches = data.patches(50, size=6, seed=1)
    assert patches.x.shape == (50, 36)
    assert patches.image_shape == (6, 6)
    assert patches.x.min() >= 0
    assert patches.x.max() <= 1
    np.testing.assert_array_equal(patches.x, data.patches(50, size=6, seed=1).x)
    assert not np.array_equal(patches.x, data.patches(50, size=6, seed=2).x)
    with pytest.raises(InputError, match="size: patches are at most"):
        data.patches(1, size=10_000)


def idx(array):
    """Bytes of a gzipped idx file of unsigned bytes."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}i", *array.shape
    )
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion_cache(tmp_path, monkeypatch):
    """A cache folder, and no Debian package beside it."""
    monkeypatch.setattr(images, "FASHION_MNIST_FOLDER", tmp_path / "absent")
    monkeypatch.setenv("DAE_THEORY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def test_fashion_mnist_is_read_from_the_cache(fashion_cache):
    images = np.arange(2 * 3 * 4).reshape(2, 3, 4) * 10
    (fashion_cache / data.FASHION_MNIST_FILES["test"]).write_bytes(idx(images))
    (fashion_cache / data.FASHION_MNIST_LABELS["test"]).write_bytes(idx(np.array([7, 3])))
    dataset = data.fashion_mnist("test")
    np.testing.assert_allclose(dataset.x, images.reshape(2, 12) / 255)
    np.testing.assert_array_equal(dataset.labels, [7, 3])
    assert dataset.image_shape == (3, 4)


@pytest.mark.parametrize("kept", [0, 5, 40, -9])
def test_truncated_fashion_mnist_is_refused(fashion_cache, kept):
    images = np.random.RandomState(2).randint(0, 255, (5, 6, 6))
    (fashion_cache / data.FASHION_MNIST_FILES["train"]).write_bytes(idx(images)[:kept])
    with pytest.raises(InputError, match="truncated or not an idx"):
        data.fashion_mnist("train")


def test_truncation_inside_a_valid_gzip_is_refused(fashion_cache):
    raw = gzip.decompress(idx(np.zeros((5, 6, 6))))
    for length in (2, 10, 50):
        path = fashion_cache / data.FASHION_MNIST_FILES["train"]
        path.write_bytes(gzip.compress(raw[:length]))
        with pytest.raises(InputError, match="truncated or not an idx"):
            data.fashion_mnist("train")


def test_failing_download_names_the_remedy(fashion_cache, monkeypatch):
    monkeypatch.setattr(images, "FASHION_MNIST_URL", "file:///nowhere/")
    with pytest.raises(InputError, match="install the Debian package dataset-fashion-mnist"):
        data.fashion_mnist("train")
    assert list(fashion_cache.iterdir()) == []


def test_download_lands_in_the_cache(fashion_cache, monkeypatch, tmp_path):
    server = tmp_path / "server"
    server.mkdir()
    images = np.ones((2, 3, 3))
    (server / data.FASHION_MNIST_FILES["train"]).write_bytes(idx(images))
    (server / data.FASHION_MNIST_LABELS["train"]).write_bytes(idx(np.array([1, 2])))
    monkeypatch.setattr(images, "FASHION_MNIST_URL", server.as_uri() + "/")
    np.testing.assert_allclose(data.fashion_mnist("train").x, 1 / 255)
    assert {p.name for p in fashion_cache.iterdir()} == {p.name for p in server.iterdir()}


def test_unknown_split_is_refused():
    with pytest.raises(InputError, match="split: expected 'train' or 'test', got 'valid'"):
        data.fashion_mnist("valid")


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


def test_unusable_array_files_are_refused(tmp_path):
    np.savez(tmp_path / "keys.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    np.savez(tmp_path / "labels.npz", X=np.ones((2, 2)), labels=np.ones(3))
    np.save(tmp_path / "nan.npy", np.array([[1.0, np.nan]]))
    np.save(tmp_path / "vector.npy", np.ones(3))
    np.save(tmp_path / "empty.npy", np.ones((0, 3)))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "object.npy", np.array([[{}, None]]), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.ones((2, 2), complex))
    whole = tmp_path / "whole.npz"
    np.savez(whole, X=np.ones((30, 30)))
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:500])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "vector.npy").read_bytes()[:-5])
    (tmp_path / "notes.txt").write_text("x")
    expected = {
        "keys.npz": "none of them 'X'",
        "labels.npz": "labels have shape",
        "nan.npy": "NaN or infinite",
        "vector.npy": r"expected a \(N, D\) array",
        "empty.npy": "at least one sample",
        "text.npy": "expected real numbers",
        "object.npy": "truncated or not an .npy",
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
