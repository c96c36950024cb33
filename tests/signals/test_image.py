"""Reading images: right colors from every mode, and a clear error that names the file for everything else."""

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from icc_profiles import linear_gray, red_for_cyan, swapped_rgb
from PIL import Image, ImageFile, features

from visiontok.base.errors import SignalError
from visiontok.signals.image_reading import MAX_PIXELS, read_image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 48, width: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def assert_color(image: Image.Image, expected: tuple[int, int, int], tolerance: int = 0, at: tuple[int, int] = (0, 0)) -> None:
    assert image.mode == "RGB"
    assert np.abs(np.subtract(image.getpixel(at), expected)).max() <= tolerance, f"{image.getpixel(at)} where {expected} was expected"


def png(width: int, height: int, depth: int, color_type: int, row: bytes, *chunks: bytes) -> bytes:
    """A PNG with equal rows, for the bit depths that Pillow does not write."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IDAT", zlib.compress((b"\0" + row) * height)) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# --- modes ---------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_rgb_is_unchanged_by_lossless_files(kind: str) -> None:
    image = noise()
    assert np.array_equal(read_image(encoded(image, kind)), np.asarray(image))


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("JPEG2000", {}), ("AVIF", {"quality": 100}), ("JPEG", {"quality": 95})])
def test_other_formats_keep_the_color(kind: str, options: dict) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert_color(read_image(encoded(Image.new("RGB", (16, 16), (200, 100, 50)), kind, **options)), (200, 100, 50), 4)


def test_gray_and_one_bit() -> None:
    assert_color(read_image(encoded(Image.new("L", (8, 8), 77), "PNG")), (77, 77, 77))
    assert_color(read_image(encoded(Image.new("1", (8, 8), 1), "PNG")), WHITE)
    assert_color(read_image(encoded(Image.new("1", (8, 8), 0), "TIFF")), BLACK)


def test_16_bit_gray_is_scaled_and_not_clipped() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (4, 1))
    image = Image.fromarray(ramp)
    for source in (image, encoded(image, "PNG"), encoded(image, "TIFF"), b"P5 256 4 65535\n" + ramp.astype(">u2").tobytes()):
        assert np.array_equal(np.asarray(read_image(source))[0, :, 0], np.arange(256))


def test_16_bit_tiff_of_big_endian_white_is_zero_and_12_bits() -> None:
    def tiff(order: str, bits: int, photometric: int, pixels: bytes) -> bytes:
        entries = [(256, 3, 2), (257, 3, 2), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 200), (277, 3, 1), (278, 3, 2)]
        entries.append((279, 4, len(pixels)))
        packed = [struct.pack(order + ("HHIHxx" if kind == 3 else "HHII"), tag, kind, 1, value) for tag, kind, value in entries]
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries)) + b"".join(packed) + bytes(4)
        return head.ljust(200, b"\0") + pixels

    assert_color(read_image(tiff(">", 16, 1, struct.pack(">4H", *[51400] * 4))), (200, 200, 200))
    assert_color(read_image(tiff("<", 16, 0, struct.pack("<4H", *[51400] * 4))), (55, 55, 55))
    assert_color(read_image(tiff("<", 12, 1, bytes([0x80, 0x08, 0x00] * 2))), (128, 128, 128))  # 0x800 of 0xfff


def test_16_bit_color_and_alpha_png() -> None:
    opaque, clear, half = b"\xff\xff", b"\0\0", b"\x80\0"
    assert_color(read_image(png(2, 2, 16, 2, (half + clear + opaque) * 2)), (128, 0, 255), 1)
    assert_color(read_image(png(2, 2, 16, 6, (half + clear + opaque + clear) * 2)), WHITE)
    assert_color(read_image(png(2, 2, 16, 4, (half + opaque) * 2)), (128, 128, 128), 1)


@pytest.mark.parametrize(
    ("depth", "color_type", "row", "key"),
    [
        (1, 0, b"\x80", struct.pack(">H", 1)),
        (2, 0, b"\xd0", struct.pack(">H", 3)),
        (4, 0, b"\xb3", struct.pack(">H", 11)),
        (8, 0, b"\x90\x10", struct.pack(">H", 0x90)),
        (16, 0, b"\x80\x01\x10\x00", struct.pack(">H", 0x8001)),
        (8, 2, b"\x01\x02\x03\x00\x00\x00", struct.pack(">3H", 1, 2, 3)),
        (16, 2, b"\x80\x01\x00\x00\x12\x34" + bytes(6), struct.pack(">3H", 0x8001, 0, 0x1234)),
    ],
)
def test_a_color_key_is_laid_on_white_at_every_depth(depth: int, color_type: int, row: bytes, key: bytes) -> None:
    image = read_image(png(2, 2, depth, color_type, row, png_chunk(b"tRNS", key)))
    assert_color(image, WHITE, at=(0, 0))
    assert image.getpixel((1, 0))[1] < 100, "the other pixel is dark and opaque"


def test_palettes_with_and_without_transparency() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*BLUE, *RED, *GREEN])
    assert_color(read_image(encoded(image, "PNG")), RED)
    assert_color(read_image(encoded(image, "GIF")), RED)
    image.putpixel((0, 0), 2)
    assert_color(read_image(encoded(image, "PNG", transparency=2)), WHITE)
    assert_color(read_image(encoded(image, "GIF", transparency=2)), WHITE)
    half = read_image(encoded(image, "PNG", transparency=bytes([255, 128, 255])))
    assert_color(half, (255, 127, 127), 1, at=(1, 1))
    assert_color(half, GREEN)


def test_alpha_is_composited_on_white() -> None:
    assert_color(read_image(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG")), WHITE)
    assert_color(read_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 255, 128)), "PNG")), (127, 127, 255), 1)
    assert_color(read_image(encoded(Image.new("LA", (4, 4), (0, 64)), "PNG")), (191, 191, 191), 1)
    assert_color(read_image(Image.new("RGBA", (4, 4), (0, 0, 0, 64)).quantize(kmeans=0).convert("PA")), (191, 191, 191), 2)
    assert_color(read_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "WEBP", lossless=True)), WHITE)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize(("inks", "expected"), [((0, 255, 255, 0), RED), ((255, 255, 0, 0), BLUE), ((0, 0, 0, 0), WHITE), ((0, 0, 0, 255), BLACK)])
def test_cmyk_keeps_its_colors(kind: str, inks: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    assert_color(read_image(encoded(Image.new("CMYK", (16, 16), inks), kind)), expected, 3)


def test_ycck_jpeg_keeps_its_colors() -> None:
    """Pillow writes no YCCK: store the YCbCr of the inks in place of the inks, and patch the Adobe marker from CMYK to YCCK."""
    expected = (200, 40, 90)
    inks = tuple(255 - value for value in expected)
    luma_chroma = Image.new("RGB", (1, 1), inks).convert("YCbCr").getpixel((0, 0))
    stored = Image.new("CMYK", (16, 16), (*(255 - value for value in luma_chroma), 0))
    data = bytearray(encoded(stored, "JPEG", quality=100))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    assert_color(read_image(bytes(data)), expected, 4)


def test_ycbcr_lab_and_hsv() -> None:
    assert_color(read_image(Image.new("YCbCr", (16, 16), (76, 85, 255))), RED, 3)
    assert_color(read_image(encoded(Image.new("LAB", (16, 16), (255, 128, 128)), "TIFF")), WHITE, 2)
    assert_color(read_image(Image.new("HSV", (4, 4), (0, 255, 255))), RED)


def test_floats_and_32_bit_integers_have_no_defined_range() -> None:
    with pytest.raises(SignalError, match="32-bit floats"):
        read_image(encoded(Image.new("F", (4, 4), 0.5), "TIFF"), name="depth.tif")
    with pytest.raises(SignalError, match=r"depth\.tif holds 32-bit integers"):
        read_image(encoded(Image.new("I", (4, 4), 70000), "TIFF"), name="depth.tif")


# --- color profiles -----------------------------------------------------------------------------------------------------------------------------


def test_an_embedded_rgb_profile_is_converted() -> None:
    for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
        assert_color(read_image(encoded(Image.new("RGB", (16, 16), RED), kind, icc_profile=swapped_rgb())), GREEN, 8)


def test_profiles_of_gray_palette_and_transparent_images() -> None:
    assert_color(read_image(encoded(Image.new("L", (4, 4), 128), "PNG", icc_profile=linear_gray())), (188, 188, 188), 2)
    assert_color(read_image(encoded(Image.new("L", (4, 4), 255), "PNG", icc_profile=swapped_rgb())), WHITE, 1)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([*RED, *BLUE])
    assert_color(read_image(encoded(palette, "PNG", icc_profile=swapped_rgb())), GREEN, 3)
    assert_color(read_image(encoded(Image.new("RGBA", (4, 4), (*RED, 128)), "PNG", icc_profile=swapped_rgb())), (127, 255, 127), 3)


def test_a_cmyk_profile_is_converted() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert_color(read_image(encoded(cyan, "JPEG")), (0, 255, 255), 3)
    assert_color(read_image(encoded(cyan, "JPEG", icc_profile=red_for_cyan())), RED, 12)


def test_srgb_profiles_change_nothing_and_unusable_ones_are_ignored() -> None:
    from PIL import ImageCms

    image = noise()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile", swapped_rgb()[:200], red_for_cyan()):
        assert np.array_equal(read_image(encoded(image, "PNG", icc_profile=profile)), np.asarray(image))


# --- orientation and frames ----------------------------------------------------------------------------------------------------------------------


STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright[::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    upright = np.asarray(noise(6, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))), kind, exif=exif, **options)
    image = read_image(data)
    assert np.array_equal(image, upright)
    assert np.array_equal(read_image(image), upright), "reading the result again turns nothing"
    assert np.array_equal(read_image(Image.open(io.BytesIO(data))), upright), "a PIL image is treated like its file"


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")
def test_a_rotated_jpeg_and_damaged_or_odd_exif() -> None:
    stripes = Image.new("RGB", (32, 16), RED)
    stripes.paste(BLUE, (16, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read_image(encoded(stripes, "JPEG", exif=exif))
    assert turned.size == (16, 32)
    assert_color(turned, RED, 4, at=(8, 4))
    assert_color(turned, BLUE, 4, at=(8, 28))
    exif[0x0112] = 99
    assert read_image(encoded(stripes, "JPEG", exif=exif)).size == (32, 16)
    for damage in (b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        assert_color(read_image(encoded(stripes, "JPEG", exif=damage)), RED, 4)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert_color(read_image(data), RED, 3)


# --- sources -------------------------------------------------------------------------------------------------------------------------------------


def test_every_kind_of_source(tmp_path: Path) -> None:
    image = noise()
    path = tmp_path / "an image.png"
    image.save(path)
    for source in (path, str(path), path.read_bytes(), image, np.asarray(image), Image.open(path)):
        assert np.array_equal(read_image(source), np.asarray(image))


def test_arrays() -> None:
    gray = np.full((4, 6), 90, dtype=np.uint8)
    assert_color(read_image(gray), (90, 90, 90))
    assert read_image(gray).size == (6, 4)
    assert_color(read_image(gray[:, :, None]), (90, 90, 90))
    assert_color(read_image(np.zeros((4, 6, 4), dtype=np.uint8)), WHITE)
    turned = np.asarray(noise()).swapaxes(0, 1)[::2]
    assert np.array_equal(read_image(turned), turned)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3), dtype=np.float32), "float32"),
        (np.zeros((4, 4, 3), dtype=np.uint16), "uint16"),
        (np.zeros((4, 4), dtype=bool), "bool"),
        (np.zeros((3, 8, 8), dtype=np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((2, 8, 8, 3), dtype=np.uint8), r"\(2, 8, 8, 3\)"),
        (np.zeros((8, 8, 2), dtype=np.uint8), r"\(8, 8, 2\)"),
        (np.zeros((0, 8, 3), dtype=np.uint8), "no pixel"),
        (np.zeros((1, 8, 3), dtype=np.uint8), "at least 2"),
    ],
)
def test_wrong_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(SignalError, match=message):
        read_image(array)


def test_other_objects_are_refused() -> None:
    with pytest.raises(SignalError, match="int; expected a path"):
        read_image(3)


# --- bad files -----------------------------------------------------------------------------------------------------------------------------------


def test_missing_folder_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.png", tmp_path / "notes.png"
    empty.touch()
    text.write_text("this is not an image")
    for path, message in [(tmp_path / "gone.png", "no file"), (tmp_path, "folder"), (empty, "0 bytes"), (text, "not an image")]:
        with pytest.raises(SignalError, match=message) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
    with pytest.raises(SignalError, match="cannot be read"):
        read_image("nul\0byte.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "PPM"])
def test_truncated_files_are_errors(tmp_path: Path, kind: str) -> None:
    data = encoded(noise().quantize() if kind == "GIF" else noise(), kind)
    path = tmp_path / "short.bin"
    for kept in (len(data) // 3, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:kept])
        with pytest.raises(SignalError, match=r"short\.bin"):
            read_image(path)
        with pytest.raises(SignalError, match=r"short\.bin"):
            read_image(Image.open(path)) if kept > len(data) // 2 and kind not in ("PNG", "TIFF", "WEBP", "JPEG2000") else read_image(path)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_any_damaged_byte_of_a_png_is_noticed() -> None:
    data = encoded(noise(8, 8), "PNG", compress_level=0)
    end_chunk = 12  # holds no pixel
    for offset in range(8, len(data) - end_chunk):
        damaged = bytearray(data)
        damaged[offset] ^= 0x10
        with pytest.raises(SignalError):
            read_image(bytes(damaged))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "PPM"])
def test_random_damage_never_escapes_as_another_error(kind: str) -> None:
    data = encoded(noise(24, 24).quantize() if kind == "GIF" else noise(24, 24), kind)
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(60):
            damaged = bytearray(data)
            for offset in rng.integers(0, min(len(data), 200), size=4):
                damaged[offset] = rng.integers(256)
            with contextlib.suppress(SignalError):
                assert read_image(bytes(damaged)).mode == "RGB"


@pytest.mark.parametrize("side", [10_000, 30_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, 2, 1, 0, b"\0").replace(*_height_field(side)))
    assert path.stat().st_size < 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SignalError, match=r"bomb\.png.*pixels|bomb\.png is not an image"):
            read_image(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SignalError, match=r"bomb\.png"):
            read_image(path)
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS, "Pillow's own bound is left as it is"


def _height_field(side: int) -> tuple[bytes, bytes]:
    """The header chunk of an image `side` x 2, and that of one `side` x `side` with the right check sum."""
    flat, square = (png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, height, 1, 0, 0, 0, 0)) for height in (2, side))
    return flat, square


def test_an_image_of_one_pixel_is_refused() -> None:
    with pytest.raises(SignalError, match="1 x 1"):
        read_image(encoded(Image.new("RGB", (1, 1)), "GIF"), name="tracker.gif")
    with pytest.raises(SignalError, match="0 x 0"):
        read_image(Image.new("RGB", (0, 0)))


def test_formats_that_run_other_programs_are_not_opened() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    with pytest.raises(SignalError, match="known format"):
        read_image(buffer.getvalue())
