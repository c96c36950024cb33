"""Reading images safely: every mode that files come in becomes 8-bit sRGB with right colors, or an error that names the file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from visiontok.base.errors import SignalError

MAX_PIXELS = 89_478_485
"""The largest image that is decoded: a quarter of a GiB of 24-bit pixels, where Pillow begins to warn of decompression bombs."""

MAX_BYTES = 2**30
"""The largest file that is read at all."""

MIN_SIDE = 2
"""A side of one pixel is a tracking pixel or a damaged header, not an image."""

# What is opened. Deliberately not opened: formats that start other programs (EPS), nest images of undeclared size (ICO), or lack a signature (TGA).
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")

_ORIENTATION, _TIFF_BITS, _TIFF_PHOTOMETRIC = 0x0112, 0x0102, 0x0106

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: Image.Image | np.ndarray | str | Path | bytes, *, name: str | None = None) -> Image.Image:
    """Any image as an upright 8-bit RGB image in sRGB.

    EXIF orientation is applied; 16-bit values are scaled; an embedded color profile is converted to sRGB (one that cannot be used is ignored, as
    viewers do); transparency is laid on white; of an animation or a file of several pages the first frame is taken.

    Args:
        source: a path, the bytes of a file, a PIL image, or a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        name: what errors call the image; by default the path or the kind of the source.

    Raises:
        SignalError: if there is no such file, it is empty, not an image, truncated, corrupt, above `MAX_PIXELS`, below `MIN_SIDE`, or holds values
            without a defined range (32-bit integers, floats).
    """
    if isinstance(source, str | Path):
        return _decode(_read_bytes(Path(source), name or str(source)), name or str(source))
    if isinstance(source, bytes):
        return _decode(source, name or f"the image of {len(source)} bytes")
    if isinstance(source, np.ndarray):
        return _convert(_from_array(source, name or "the array"), name or "the array")
    if isinstance(source, Image.Image):
        return _convert(source, name or getattr(source, "filename", "") or "the image")
    raise SignalError(f"{name or 'the image'} is a {type(source).__name__}; expected a path, bytes, a PIL image or a uint8 array (H, W, 3)")


def _read_bytes(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            raise SignalError(f"{name} is a folder; expected an image file")
        if path.exists() and not path.is_file():
            raise SignalError(f"{name} is not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise SignalError(f"{name} has {path.stat().st_size / 2**30:.1f} GiB; images above {MAX_BYTES / 2**30:.0f} GiB are not read")
        return path.read_bytes()
    except SignalError:
        raise
    except FileNotFoundError as error:
        raise SignalError(f"there is no file {name}") from error
    except (OSError, ValueError) as error:
        raise SignalError(f"{name} cannot be read: {error}") from error


def _decode(data: bytes, name: str) -> Image.Image:
    if not data:
        raise SignalError(f"{name} is empty (0 bytes)")
    image = _open(data, name)
    _check_size(image, name)
    if image.format == "PNG":
        # Pillow decodes without looking at the check sums, so that a damaged byte could pass as another color.
        try:
            image.verify()
        except Exception as error:
            raise SignalError(f"{name} is truncated or corrupt: {error}") from error
        image = _open(data, name)
        _scale_color_key(image, bit_depth=data[24])
    return _convert(image, name)


def _open(data: bytes, name: str) -> Image.Image:
    Image.init()
    try:
        return Image.open(BytesIO(data), formats=[known for known in _FORMATS if known in Image.OPEN])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SignalError(f"{name} is too large to decode: it has more than {MAX_PIXELS} pixels (decompression bomb?)") from error
    except Exception as error:  # a parser can raise anything on damaged bytes
        raise SignalError(f"{name} is not an image of a known format ({', '.join(_FORMATS)}), or its header is damaged") from error


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise SignalError(f"{name} has {width} x {height} pixels; both sides must have at least {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise SignalError(f"{name} has {width} x {height} pixels, more than the {MAX_PIXELS} that are decoded: make it smaller first")


def _scale_color_key(image: Image.Image, *, bit_depth: int) -> None:
    """Pillow scales a PNG's samples to 8 bits but leaves the transparent color as it is in the file."""
    key = image.info.get("transparency")
    if image.mode in ("1", "L") and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**bit_depth - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and bit_depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _convert(image: Image.Image, name: str) -> Image.Image:
    _check_size(image, name)
    try:
        image.load()
    except Exception as error:  # a decoder can raise anything on damaged bytes
        raise SignalError(f"{name} is truncated or corrupt: {error}") from error
    profile, orientation = image.info.get("icc_profile"), _orientation(image)
    colors, alpha = _split_alpha(_to_8_bits(image, name))
    rgb = _to_srgb(colors, profile)
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    rgb.info = {}  # nothing is left to apply a second time
    return rgb


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 where EXIF is absent or too damaged to tell (the pixels are good)."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _to_8_bits(image: Image.Image, name: str) -> Image.Image:
    """Gray of 9 to 16 bits becomes 8-bit gray (with alpha where a color key marks transparency); other modes pass."""
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not sixteen_bit:
        if image.mode in ("I", "F"):
            kind = "32-bit integers" if image.mode == "I" else "32-bit floats"
            raise SignalError(f"{name} holds {kind}, whose range is not defined: save it with 8 or 16 bits per channel first")
        return image
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image).astype(np.float32)
    gray = values * (255 / (2 ** tags.get(_TIFF_BITS, (16,))[0] - 1))
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is zero
        gray = 255 - gray
    result = Image.fromarray(np.rint(gray).astype(np.uint8))
    if "transparency" in image.info:
        result.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return result


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colors in mode L, RGB or CMYK, and the alpha channel where there is one."""
    if image.has_transparency_data:
        wide = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        return wide.convert(wide.mode[:-1]), wide.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            if source.profile.xcolor_space == "RGB " and image.mode == "L":
                image = image.convert("RGB")
            fits = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(source.profile.xcolor_space) == image.mode
            # sRGB to sRGB would only add rounding.
            if fits and not (source.profile.profile_description or "").startswith("sRGB"):
                converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                return image.convert("RGB") if converted is None else converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a profile that cannot be used is ignored, as viewers do
    return image.convert("RGB")


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.dtype != np.uint8:
        raise SignalError(f"{name} has dtype {array.dtype}; expected uint8 in 0..255 (floats in [0, 1] go in as a tensor (3, H, W))")
    pixels = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[2] in (3, 4)):
        hint = "; move the channels last: array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise SignalError(f"{name} has shape {array.shape}; expected (H, W), (H, W, 3) or (H, W, 4){hint}")
    if 0 in pixels.shape:
        raise SignalError(f"{name} has shape {array.shape}: it holds no pixel")
    return Image.fromarray(np.ascontiguousarray(pixels))
