"""Images that work offline, and the download of those that do not."""

import functools
import gzip
import hashlib
import struct
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from dae_theory import InputError, data
from dae_theory.data import images
from dae_theory.data.images import FASHION_MNIST_FILES as FILES
from dae_theory.data.images import FASHION_MNIST_LABELS as LABELS


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


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder whose files are what a download finds."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(images, "FASHION_MNIST_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield folder
        server.shutdown()


def write_fashion(folder, split, pixels_NHW, labels_N):
    """Both files of a split in a folder; their SHA-256 by name."""
    content = {FILES[split]: idx(pixels_NHW), LABELS[split]: idx(labels_N)}
    for name, raw in content.items():
        (folder / name).write_bytes(raw)
    return {name: hashlib.sha256(raw).hexdigest() for name, raw in content.items()}


def test_fashion_mnist_is_read_from_the_cache(fashion_cache):
    pixels = np.arange(2 * 3 * 4).reshape(2, 3, 4) * 10
    write_fashion(fashion_cache, "test", pixels, np.array([7, 3]))
    dataset = data.fashion_mnist("test")
    np.testing.assert_allclose(dataset.x, pixels.reshape(2, 12) / 255)
    np.testing.assert_array_equal(dataset.labels, [7, 3])
    assert dataset.image_shape == (3, 4)
    first = data.fashion_mnist("test", 1)
    np.testing.assert_array_equal(first.x, dataset.x[:1])
    np.testing.assert_array_equal(first.labels, [7])


@pytest.mark.parametrize("kept", [0, 5, 40, -9])
def test_truncated_fashion_mnist_is_refused(fashion_cache, kept):
    pixels = np.random.RandomState(2).randint(0, 255, (5, 6, 6))
    (fashion_cache / FILES["train"]).write_bytes(idx(pixels)[:kept])
    with pytest.raises(InputError, match="truncated or not an idx"):
        data.fashion_mnist("train")


def test_truncation_inside_a_valid_gzip_is_refused(fashion_cache):
    raw = gzip.decompress(idx(np.zeros((5, 6, 6))))
    for length in (2, 10, 50):
        (fashion_cache / FILES["train"]).write_bytes(gzip.compress(raw[:length]))
        with pytest.raises(InputError, match="truncated or not an idx"):
            data.fashion_mnist("train")


def test_failing_download_names_the_three_places(fashion_cache, served):
    with pytest.raises(
        InputError, match="install the Debian package dataset-fashion-mnist"
    ) as error:
        data.fashion_mnist("train")
    assert str(images.FASHION_MNIST_FOLDER) in str(error.value)
    assert str(fashion_cache) in str(error.value)
    assert "the download failed (404" in str(error.value)
    assert list(fashion_cache.iterdir()) == []


def test_no_connection_is_a_failed_download(fashion_cache, monkeypatch):
    monkeypatch.setattr(images, "FASHION_MNIST_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(InputError, match="the download failed"):
        data.fashion_mnist("train")
    assert list(fashion_cache.iterdir()) == []


def test_download_lands_in_the_cache(fashion_cache, served, monkeypatch):
    hashes = write_fashion(served, "train", np.ones((2, 3, 3)), np.array([1, 2]))
    monkeypatch.setattr(images, "FASHION_MNIST_SHA256", hashes)
    np.testing.assert_allclose(data.fashion_mnist("train").x, 1 / 255)
    assert {p.name for p in fashion_cache.iterdir()} == {p.name for p in served.iterdir()}


def test_damaged_download_is_refused_and_not_kept(fashion_cache, served):
    write_fashion(served, "train", np.ones((2, 3, 3)), np.array([1, 2]))
    with pytest.raises(InputError, match="has not the known SHA-256; it was not kept") as error:
        data.fashion_mnist("train")
    assert "\n" not in str(error.value)
    assert list(fashion_cache.iterdir()) == []


def test_every_file_is_downloaded_by_https_with_a_hash():
    assert images.FASHION_MNIST_URL.startswith("https://")
    assert set(images.FASHION_MNIST_SHA256) == {*FILES.values(), *LABELS.values()}


def test_unknown_split_is_refused():
    with pytest.raises(InputError, match="split: expected 'train' or 'test', got 'valid'"):
        data.fashion_mnist("valid")
