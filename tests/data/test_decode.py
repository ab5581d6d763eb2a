"""Image files of every kind that cameras, browsers and tools write."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from dae_theory import InputError, data
from dae_theory.data.decode import LUMINANCE, read_image


def colours(seed, shape=(12, 16)):
    """A smooth random picture, (H, W, 3) bytes."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[: shape[0], : shape[1]]
    waves = [np.sin(a * column + b * row + c) for a, b, c in rng.uniform(0.1, 0.5, (3, 3))]
    return (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def rms(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


@pytest.fixture
def saved(tmp_path):
    """Save an image under a name; returns its path."""

    def save(image, name, **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def test_bytes_are_read_as_zero_to_one(saved):
    pixels = colours(0)
    path = saved(Image.fromarray(pixels), "a.png")
    np.testing.assert_allclose(read_image(path, gray=False), pixels / 255, atol=1e-15)
    np.testing.assert_allclose(read_image(path), pixels / 255 @ LUMINANCE, atol=1e-15)


def test_gray_with_and_without_transparency_is_the_same(saved):
    gray = Image.fromarray(colours(1)).convert("L")
    plain, transparent = saved(gray, "a.png"), saved(gray.convert("LA"), "b.png")
    for how in (True, False):
        np.testing.assert_array_equal(
            read_image(plain, gray=how), read_image(transparent, gray=how)
        )


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK"])
def test_a_mode_looks_like_its_rgb_twin(saved, mode):
    image = Image.fromarray(colours(2))
    suffix, options = ("jpg", {"quality": 98}) if mode == "CMYK" else ("png", {})
    twin = saved(image, f"a.{suffix}", **options)
    found = read_image(saved(image.convert(mode), f"b.{suffix}", **options), gray=False)
    # A palette has few colours; a negative would be .5 away.
    assert rms(found, read_image(twin, gray=False)) < (0.1 if mode == "P" else 0.03)


def test_one_bit_and_sixteen_bits(saved):
    gray = np.asarray(Image.fromarray(colours(3)).convert("L"))
    eight = read_image(saved(Image.fromarray(gray), "a.png"))
    sixteen = read_image(saved(Image.fromarray(gray.astype(np.uint16) * 257), "b.png"))
    np.testing.assert_allclose(sixteen, eight, atol=1e-12)
    one = read_image(saved(Image.fromarray(gray > 128), "c.png"))
    np.testing.assert_array_equal(one, gray > 128)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cameras_orientations_are_undone(saved, orientation):
    upright = Image.fromarray(colours(4))
    undone_by = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    turned = upright if orientation == 1 else upright.transpose(undone_by[orientation])
    exif = Image.Exif()
    exif[0x112] = orientation
    path = saved(turned, "turned.jpg", quality=98, exif=exif)
    twin = saved(upright, "upright.jpg", quality=98)
    assert rms(read_image(path), read_image(twin)) < 0.02


@pytest.mark.parametrize(("mode", "suffix"), [("I", "tif"), ("F", "tif"), ("LAB", "tif")])
def test_other_modes_are_refused_by_name(saved, mode, suffix):
    values = colours(5)[..., 0]
    image = {
        "I": Image.fromarray(values.astype(np.int32)),
        "F": Image.fromarray(values.astype(np.float32)),
        "LAB": Image.frombytes("LAB", (16, 12), colours(5).tobytes()),
    }[mode]
    with pytest.raises(InputError, match=rf"a\.{suffix}: is of mode '{mode}'.*save it with 8"):
        read_image(saved(image, f"a.{suffix}"))


@pytest.mark.parametrize("suffix", ["tif", "webp"])
def test_several_pages_or_frames_are_refused(saved, suffix):
    frames = [Image.fromarray(colours(i)) for i in range(3)]
    path = saved(frames[0], f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=rf"a\.{suffix}: has 3 pages or frames; save the one"):
        read_image(path)


@pytest.mark.parametrize("side", [9_500, 20_000])  # of which Pillow warns, and which it refuses
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, side):
    content = io.BytesIO()
    Image.new("1", (side, 1)).save(content, "PNG")
    # Only the header says that the image is high.
    header = content.getvalue()[:20] + side.to_bytes(4, "big") + content.getvalue()[24:]
    crc = zlib.crc32(header[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(header[:29] + crc + header[33:])
    with pytest.raises(InputError, match=r"a\.png: has more than 89 million pixels"):
        read_image(tmp_path / "a.png", size=8)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_shrinking_before_numbers_become_floats_changes_little(saved, monkeypatch, suffix):
    path = saved(Image.fromarray(colours(6, (600, 400))), f"a.{suffix}")
    shrunk = read_image(path, size=8, gray=False)
    monkeypatch.setattr("dae_theory.data.decode.OVERSAMPLED", 1000)
    assert rms(shrunk, read_image(path, size=8, gray=False)) < 0.01


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: cannot be read as an image"):
        read_image(tmp_path / "a.png")


def test_a_folder_says_what_it_left_out(saved, tmp_path):
    for i in range(5):
        saved(Image.fromarray(colours(i)), f"{i}.png")
    saved(Image.fromarray(colours(9)), "z.gif")
    (tmp_path / "._0.png").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "README").write_text("x")
    (tmp_path / "dir.png").mkdir()
    dataset = data.load_path(tmp_path)
    assert len(dataset.x) == 5
    assert dataset.note == (
        "5 of 5 images read; left out: 1 hidden, 1 without suffix, 1 folder, 1 .txt, 1 .gif"
    )
    assert data.load(str(tmp_path), 2, center=True).note.startswith("2 of 5 images read")


def test_only_as_many_images_are_decoded_as_asked_for(saved, tmp_path, monkeypatch):
    for i in range(4):
        saved(Image.fromarray(colours(i)), f"{i}.png")
    saved(Image.fromarray(colours(9)), "z.png")
    (tmp_path / "z.png").write_bytes(b"damaged")
    assert len(data.load_path(tmp_path, limit=4).x) == 4
    with pytest.raises(InputError, match=r"z\.png: cannot be read"):
        data.load_path(tmp_path)


def test_a_folder_of_folders_says_so(tmp_path):
    (tmp_path / "cats").mkdir()
    with pytest.raises(InputError, match=r"holds no image .*it holds 1 folder"):
        data.load_path(tmp_path)
