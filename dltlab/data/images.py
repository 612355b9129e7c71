"""One image file to pixels: decoded, upright, in color, of the wanted size."""

import io
import warnings
from typing import Literal, get_args

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

Resize = Literal["crop", "squash", "fit"]
RESIZES: tuple[Resize, ...] = get_args(Resize)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SMALLEST = 8  # pixels; an image with a shorter side than this shows nothing
LARGEST = 100_000_000  # pixels; more than any camera takes, and 300 MB in memory
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_JPEG, _EXIF, _HEAD = b"\xff\xd8", b"Exif\0\0", 1 << 16


class Unusable(Exception):
    """A file that cannot serve as an image; says why in a few words."""


def read_image(content: bytes, size: int, resize: Resize) -> np.ndarray:
    """The image in a JPEG, PNG, BMP or WebP file as a square of `size` pixels a side.

    It stands upright, as its EXIF orientation says. Gray, palette and CMYK images become RGB;
    what is transparent becomes white; of an animation the first frame is taken. A large photo is
    reduced while it is decoded, so that it costs little more than a small one.

    Args:
        content: The bytes of the file.
        size: The side of the result, in pixels.
        resize: How another shape becomes a square: "crop" keeps the middle, "squash" changes the
            proportions, "fit" keeps all of it and fills the rest with black.

    Returns:
        uint8 RGB `(size, size, 3)`.

    Raises:
        Unusable: The file is empty, damaged, tiny, huge or no image.
    """
    if not content:
        raise Unusable("is empty")
    if content.startswith(_JPEG) and content.find(_EXIF, 0, _HEAD) < 0:
        # A small JPEG would spend most of its time in Pillow's Python code: this is far faster.
        try:
            # A larger image has no room here, and is refused before it is decoded.
            room = np.empty((size, size, 3), np.uint8)
            pixels = simplejpeg.decode_jpeg(content, buffer=room)
        except ValueError:
            pixels = _decoded_jpeg(content, size)
        if pixels is not None:
            if pixels.shape == room.shape:
                return room
            _check_size(*pixels.shape[:2])
            return _resized(Image.fromarray(pixels), size, resize)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that LARGEST allows
            return _resized(_opened(content, size), size, resize)
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(f"is too large: more than {LARGEST:,} pixels") from error
    except Exception as error:
        # Decoders raise whatever damaged bytes lead them to: SyntaxError, IndexError, struct.error.
        raise Unusable("is damaged or no image") from error


def _decoded_jpeg(content: bytes, size: int) -> np.ndarray | None:
    """The RGB pixels of a JPEG file, reduced while it has twice `size` or more.

    None where it is damaged, or odd in a way that Pillow forgives.
    """
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
        _check_size(height, width)
        if colors in ("CMYK", "YCCK"):
            return None
        least = 2 * size
        return np.asarray(simplejpeg.decode_jpeg(content, min_height=least, min_width=least))
    except ValueError:
        return None


def _opened(content: bytes, size: int) -> Image.Image:
    """The image in `content` as an upright RGB Pillow image, at least `size` where it can be."""
    image: Image.Image = Image.open(io.BytesIO(content), formats=_FORMATS)
    _check_size(image.height, image.width)
    image.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded no larger than it must be
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of gray
        return Image.fromarray((np.asarray(image, np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, colors).convert("RGB")
    return image.convert("RGB")


def _check_size(height: int, width: int) -> None:
    if min(height, width) < SMALLEST:
        raise Unusable(f"is tiny: {width}×{height} pixels")
    if height * width > LARGEST:
        raise Unusable(f"is too large: {width}×{height} pixels")


def _resized(image: Image.Image, size: int, resize: Resize) -> np.ndarray:
    """`image` as a square of `size`, `(size, size, 3)`."""
    bicubic = Image.Resampling.BICUBIC
    if resize == "crop":
        image = ImageOps.fit(image, (size, size), bicubic)
    elif resize == "fit":
        width, height = (max(1, round(side * size / max(image.size))) for side in image.size)
        whole = image.resize((width, height), bicubic)
        image = Image.new("RGB", (size, size))
        image.paste(whole, ((size - width) // 2, (size - height) // 2))
    else:
        image = image.resize((size, size), bicubic)
    return np.asarray(image)
