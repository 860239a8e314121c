"""decode: every form that an image of a tile comes in, and every way in which a file is none."""

import os
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from histolatent.errors import InputError
from histolatent.images import TileWarning, decode

ORIENTATION = 274


def white_under(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The oracle: composite on white, by hand."""
    share = alpha[..., None] / 255.0
    return colour * share + 255.0 * (1 - share)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
def test_lossless_forms_keep_every_pixel(tmp_path, picture, suffix):
    Image.fromarray(picture).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(decode(tmp_path / f"a{suffix}"), picture)


@pytest.mark.parametrize(("suffix", "options"), [(".webp", {"lossless": True}), (".jp2", {}), (".j2k", {})])
def test_lossless_modes_of_lossy_forms(tmp_path, picture, suffix, options):
    Image.fromarray(picture).save(tmp_path / f"a{suffix}", **options)
    np.testing.assert_array_equal(decode(tmp_path / f"a{suffix}"), picture)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_forms_are_close(tmp_path, picture, suffix):
    Image.fromarray(picture).save(tmp_path / f"a{suffix}", quality=95)
    found = decode(tmp_path / f"a{suffix}")
    assert found.shape == picture.shape
    assert np.abs(found.astype(int) - picture).mean() < 4


def test_the_content_decides_and_not_the_ending(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(decode(tmp_path / "a.jpg"), picture)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_is_repeated(tmp_path, picture, suffix):
    Image.fromarray(picture[..., 0]).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(decode(tmp_path / f"a{suffix}"), np.repeat(picture[..., :1], 3, axis=2))


def test_one_bit(tmp_path, picture):
    bits = picture[..., 0] > 100
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png")[..., 1], np.where(bits, 255, 0))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_is_scaled_not_cut(tmp_path, suffix):
    deep = np.linspace(0, 65535, 40 * 52).reshape(40, 52).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(decode(tmp_path / f"a{suffix}")[..., 2], np.rint(deep / 257))


def test_sixteen_bit_colour_is_scaled(tmp_path, picture):
    cv2 = pytest.importorskip("cv2")
    deep = picture.astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), picture)


def test_float_images_are_refused(tmp_path):
    Image.fromarray(np.zeros((20, 20), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"floating-point image.*a\.tif.*Fix: save it as 8-bit RGB"):
        decode(tmp_path / "a.tif")


def test_grey_beyond_sixteen_bits_is_refused(tmp_path):
    Image.fromarray(np.full((20, 20), 70000, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"outside 0 to 65535. Received: .*a\.tif"):
        decode(tmp_path / "a.tif")


def test_palette(tmp_path, picture):
    coloured = Image.fromarray(picture).quantize(32)
    coloured.save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), np.asarray(coloured.convert("RGB")))


def test_palette_with_transparency_lies_on_white(tmp_path, picture):
    coloured = Image.fromarray(picture).quantize(32)
    alpha = bytes(range(0, 256, 8))
    coloured.save(tmp_path / "a.png", transparency=alpha)
    expected = white_under(np.asarray(coloured.convert("RGB")), np.frombuffer(alpha, np.uint8)[np.asarray(coloured)])
    np.testing.assert_allclose(decode(tmp_path / "a.png"), expected, atol=1)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_transparency_lies_on_white(tmp_path, picture, suffix):
    alpha = np.linspace(0, 255, 40 * 52).reshape(40, 52).astype(np.uint8)
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / f"a{suffix}", **options)
    found = decode(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(found, white_under(picture, alpha), atol=1)
    assert (found[0, 0] == 255).all()


def test_grey_with_transparency_and_a_transparent_colour(tmp_path, picture):
    Image.merge("LA", [Image.fromarray(picture[..., 0]), Image.new("L", (52, 40), 0)]).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png") == 255).all()
    Image.fromarray(picture).save(tmp_path / "b.png", transparency=tuple(picture[7, 9].tolist()))
    expected = picture.copy()
    expected[(picture == picture[7, 9]).all(axis=2)] = 255
    np.testing.assert_array_equal(decode(tmp_path / "b.png"), expected)


def test_cmyk(tmp_path):
    Image.new("CMYK", (30, 20), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = decode(tmp_path / "a.jpg").reshape(-1, 3).mean(axis=0)
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, picture, orientation):
    # How a camera stores the picture for each value of the tag (Exif 2.3, 4.6.4).
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture),
        7: np.rot90(picture, 2).transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), picture)


def test_a_colour_profile_is_noted(tmp_path, picture):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=profile)
    with pytest.warns(TileWarning, match="ICC profile ignored"):
        found = decode(tmp_path / "a.png")
    np.testing.assert_array_equal(found, picture)


def test_further_pages_are_noted(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.tif", save_all=True, append_images=[Image.new("RGB", (52, 40))])
    with pytest.warns(TileWarning, match="only the first page"):
        found = decode(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, picture)


def test_files_that_are_not_there_or_hold_nothing(tmp_path, picture):
    (tmp_path / "empty.png").touch()
    Image.fromarray(picture).save(tmp_path / "a.png")
    for name, what in {
        "missing.png": "image file not found",
        "empty.png": "image file is empty",
        "a.png/b.png": "image file cannot be opened",
        "nul\0.png": "image file cannot be opened",
        ".": "image file cannot be opened",
    }.items():
        with pytest.raises(InputError, match=what):
            decode(tmp_path / name)


def test_what_looks_like_an_image_and_is_none(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.png", "w") as archive:
        archive.writestr("b.txt", "text")
    with pytest.raises(InputError, match=r"looks like a ZIP archive. Received: .*a\.png. Valid: \.png, \.jpg"):
        decode(tmp_path / "a.png")
    for content, guess in {
        b"%PDF-1.7 ...": "a PDF document",
        b"<html>": "text",
        b"version https://git-lfs.github.com/spec/v1\n": "a Git LFS pointer",
        b"path,label\n": "something else",
    }.items():
        (tmp_path / "b.jpg").write_bytes(content)
        with pytest.raises(InputError, match=f"not an image: the file looks like {guess}"):
            decode(tmp_path / "b.jpg")


def png_header(width: int, height: int) -> bytes:
    """The bytes of a one-bit PNG of the given size, without any pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (1, 1, "tile is 1 x 1 px, too small"),
        (15, 200, "tile is 15 x 200 px, too small"),
        (8193, 16, "image is 8193 x 16 px: a slide, not a tile"),
        (12000, 9000, "image is 12000 x 9000 px: a slide, not a tile"),
        (30000, 30000, "image is far larger than a tile"),
    ],
)
def test_sizes_that_are_no_tile_are_refused_before_decoding(tmp_path, width, height, message):
    (tmp_path / "a.png").write_bytes(png_header(width, height))
    with pytest.raises(InputError, match=message) as raised:
        decode(tmp_path / "a.png")
    assert str(tmp_path / "a.png") in str(raised.value)


def test_the_smallest_tile(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").shape == (16, 16, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_truncated_files_are_damaged(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise).save(path)
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(InputError, match=rf"(damaged|cannot be opened|not an image).*a\{suffix}"):
        decode(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".jp2"])
def test_damaged_bytes_give_a_tile_or_an_input_error(tmp_path, picture, suffix):
    path = tmp_path / f"a{suffix}"
    options = {"save_all": True, "append_images": [Image.new("RGB", (52, 40))]} if suffix == ".tif" else {}
    Image.fromarray(picture).save(path, **options)
    whole = path.read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for attempt in range(60):
        bytes_ = bytearray(whole)
        if attempt % 2:
            del bytes_[int(rng.integers(1, len(whole))) :]
        else:
            for place in rng.integers(0, min(len(whole), 400), 6):
                bytes_[place] = rng.integers(0, 256)
        path.write_bytes(bytes_)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert decode(path).dtype == np.uint8
            except InputError as error:
                refused += 1
                assert str(path) in str(error)
    assert refused > 20
