"""Read one image file: decoded, upright, in color, of a given size."""

import io
import logging
import re
import stat
import warnings
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

# What to do with an image that is not square. See `import_images`.
Resize = Literal["crop", "squash", "fit"]
RESIZES: tuple[Resize, ...] = get_args(Resize)  # all values of `Resize`

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
MIN_SIDE = 8  # pixels; an image with a shorter side shows nothing
MAX_PIXELS = 100_000_000  # more than any camera takes, and 300 MB in memory
MAX_FILE_BYTES = 200_000_000  # a larger file is not an image
MAX_GRAY = 65_535  # the largest value in 16 bits
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
_METADATA_LIMIT = re.compile("MAX_TEXT_CHUNK|text chunks")  # in the messages of Pillow
_TIFF = (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")
_JPEG, _EXIF, _EXIF_BYTES = b"\xff\xd8", b"Exif\0\0", 1 << 16

# Pillow logs some of what is wrong with a TIFF file before it raises an error.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnusableImage(Exception):
    """A file that cannot be used as an image; the message is the reason, in a few words."""


def read_image(
    file: bytes | Path, size: int, resize: Resize, *, white: int | None = None
) -> np.ndarray:
    """Read a JPEG, PNG, TIFF, BMP or WebP file as a square image.

    The image is upright, as its EXIF orientation says. Gray, palette and CMYK images become RGB;
    transparent pixels become white; of several frames or pages the first is read. A large photo is
    reduced while it is decoded, so it costs little more than a small one.

    Args:
        file: The bytes of the file, or its path.
        size: The side of the result, in pixels.
        resize: How another shape becomes a square: "crop" keeps the middle, "squash" changes the
            proportions, "fit" keeps everything and fills the rest with black.
        white: The value in an image of 16 bits of gray that becomes white, by default 65,535; many
            cameras use only 10 or 12 of the 16 bits.

    Returns:
        uint8 RGB `(size, size, 3)`.

    Raises:
        UnusableImage: The file cannot be read, or it is empty, damaged, tiny, huge or not an image.
    """
    return read_image_and_peak(file, size, resize, white or MAX_GRAY)[0]


def read_image_and_peak(
    file: bytes | Path, size: int, resize: Resize, white: int
) -> tuple[np.ndarray, int]:
    """Read an image as `read_image` does, with the largest value of its 16 bits of gray.

    Returns:
        The image, and the largest value; 0 for an image of another kind.
    """
    content = _file_content(file) if isinstance(file, Path) else file
    if not content:
        raise UnusableImage("is empty")
    if content.startswith(_JPEG) and content.find(_EXIF, 0, _EXIF_BYTES) < 0:
        # A small JPEG would spend most of its time in Pillow's Python code; this is far faster.
        try:
            # A larger image does not fit into the buffer, and is refused before it is decoded.
            buffer = np.empty((size, size, 3), np.uint8)
            pixels = simplejpeg.decode_jpeg(content, buffer=buffer)
        except ValueError:
            pixels = _decoded_jpeg(content, size)
        if pixels is not None:
            if pixels.shape == buffer.shape:
                return buffer, 0
            _check_size(*pixels.shape[:2])
            return _resized(Image.fromarray(pixels), size, resize), 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, and sizes below MAX_PIXELS
            image, peak = _opened(content, size, white)
            return _resized(image, size, resize), peak
    except UnusableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnusableImage(f"is too large: more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:
        if _METADATA_LIMIT.search(str(error)):
            raise UnusableImage(
                "has more metadata than Pillow reads (1 MB in a text or color profile): save it "
                "without metadata"
            ) from error
        if content.startswith(_TIFF):
            raise UnusableImage(
                "is damaged, or a TIFF that Pillow does not read (such as 16 bits of color): save "
                "it as PNG"
            ) from error
        # Decoders raise many kinds of errors for damaged bytes: SyntaxError, IndexError, …
        raise UnusableImage("is damaged or not an image") from error


def _file_content(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device might have no end
            raise UnusableImage("is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise UnusableImage(f"is too large: {status.st_size / 1e6:,.0f} MB")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnusableImage("does not exist") from error
    except OSError as error:
        raise UnusableImage(f"cannot be read ({error.strerror or error})") from error


def _decoded_jpeg(content: bytes, size: int) -> np.ndarray | None:
    """Return the RGB pixels of a JPEG file, reduced while both sides are `2 * size` or more.

    None where it is damaged, or unusual in a way that Pillow tolerates.
    """
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
        _check_size(height, width)
        if colors in ("CMYK", "YCCK"):
            return None
        min_side = 2 * size
        return np.asarray(simplejpeg.decode_jpeg(content, min_height=min_side, min_width=min_side))
    except ValueError:
        return None


def _opened(content: bytes, size: int, white: int) -> tuple[Image.Image, int]:
    """Return an upright RGB Pillow image, and the largest value of its 16 bits of gray, else 0.

    A JPEG is reduced, but not below `2 * size`.
    """
    image: Image.Image = Image.open(io.BytesIO(content), formats=_FORMATS)
    _check_size(image.height, image.width)
    image.draft("RGB", (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of gray
        values = np.asarray(image)
        if values.min() < 0 or values.max() > MAX_GRAY:
            raise UnusableImage("has gray values outside 0 to 65,535: save it with 16 bits")
        values = values.astype(np.uint32)
        levels = ((np.minimum(values, white) * 255 + white // 2) // white).astype(np.uint8)
        return Image.fromarray(levels).convert("RGB"), int(values.max())
    if image.mode == "F":
        raise UnusableImage("has floating-point values: save it with 8 or 16 bits of gray")
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, colors).convert("RGB"), 0
    return image.convert("RGB"), 0


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise UnusableImage(f"is tiny: {width}×{height} pixels")
    if height * width > MAX_PIXELS:
        raise UnusableImage(f"is too large: {width}×{height} pixels")


def _resized(image: Image.Image, size: int, resize: Resize) -> np.ndarray:
    """Return `image` as a square, uint8 `(size, size, 3)`."""
    bicubic = Image.Resampling.BICUBIC
    if resize == "crop":
        image = ImageOps.fit(image, (size, size), bicubic)
    elif resize == "fit":
        width, height = (max(1, round(side * size / max(image.size))) for side in image.size)
        scaled = image.resize((width, height), bicubic)
        image = Image.new("RGB", (size, size))
        image.paste(scaled, ((size - width) // 2, (size - height) // 2))
    else:
        image = image.resize((size, size), bicubic)
    return np.asarray(image)
