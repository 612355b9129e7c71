"""What becomes of an image file: its colors, its stand, its shape, and what cannot serve."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltlab.data.images import LARGEST, RESIZES, Resize, Unusable, read_image

RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
Color = tuple[int, int, int]


def packed(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def halves(width: int = 64, height: int = 64, left: Color = RED, right: Color = BLUE) -> Any:
    image = Image.new("RGB", (width, height), left)
    image.paste(right, (width // 2, 0, width, height))
    return image


def thirds(width: int, height: int) -> Image.Image:
    """Red, green and blue along the longer side."""
    image = Image.new("RGB", (width, height), GREEN)
    across = width > height
    for color, part in ((RED, 0), (BLUE, 2)):
        corner = (width * part // 3, 0) if across else (0, height * part // 3)
        box = (width // 3, height) if across else (width, height // 3)
        image.paste(color, (*corner, corner[0] + box[0], corner[1] + box[1]))
    return image


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def assert_is(pixel: np.ndarray, color: Color, near: int = 6) -> None:
    assert np.abs(pixel.astype(int) - color).max() <= near, (pixel, color)


def assert_halves(pixels: np.ndarray, left: Color, right: Color, near: int = 6) -> None:
    """Away from the seam, where a codec may blur."""
    seam = pixels.shape[1] // 2
    assert_is(pixels[:, : seam - 8], left, near)
    assert_is(pixels[:, seam + 8 :], right, near)


@pytest.mark.parametrize("size", [16, 64, 100])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_each_format_is_read_in_its_colors(form: str, size: int) -> None:
    pixels = read_image(packed(halves(), form), size, "crop")
    assert (pixels.shape, pixels.dtype) == ((size, size, 3), np.uint8)
    assert_is(pixels[size // 2, 2], RED, near=12)
    assert_is(pixels[size // 2, -3], BLUE, near=12)


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_a_image_of_the_wanted_size_keeps_every_pixel(form: str) -> None:
    image = noise(32, 32)
    assert np.array_equal(read_image(packed(image, form), 32, "crop"), np.asarray(image))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_large_image_is_reduced_and_not_cut(form: str) -> None:
    pixels = read_image(packed(halves(1500, 1500), form), 32, "crop")
    assert_halves(pixels, RED, BLUE, near=12)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_gray_becomes_three_equal_channels(form: str) -> None:
    image = halves(left=(50, 50, 50), right=(200, 200, 200)).convert("L")
    pixels = read_image(packed(image, form), 64, "crop")
    assert_halves(pixels, (50, 50, 50), (200, 200, 200))
    assert np.ptp(pixels.astype(int), axis=2).max() == 0 or form == "WEBP"


def test_one_bit_becomes_black_and_white() -> None:
    image = halves(left=BLACK, right=WHITE).convert("1")
    assert_halves(read_image(packed(image), 64, "crop"), BLACK, WHITE, near=0)


def test_sixteen_bits_of_gray_keep_their_upper_eight() -> None:
    values = np.repeat([[0x1234] * 32 + [0xFE98] * 32], 64, axis=0).astype(np.uint16)
    pixels = read_image(packed(Image.fromarray(values)), 64, "crop")
    assert_halves(pixels, (0x12,) * 3, (0xFE,) * 3, near=0)


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_a_palette_is_looked_up(form: str) -> None:
    image = halves().quantize(4)
    assert_halves(read_image(packed(image, form), 64, "crop"), RED, BLUE, near=1)


def test_a_transparent_color_of_a_palette_becomes_white() -> None:
    image = halves().quantize(4)
    content = packed(image, transparency=image.getpixel((60, 0)))
    assert_halves(read_image(content, 64, "crop"), RED, WHITE, near=1)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_what_is_transparent_becomes_white_and_half_of_it_half(form: str) -> None:
    image = halves(left=RED, right=BLACK).convert("RGBA")
    image.putalpha(halves(left=BLACK, right=(128, 128, 128)).convert("L"))
    pixels = read_image(packed(image, form, lossless=True), 64, "crop")
    assert_halves(pixels, WHITE, (127, 127, 127), near=1)


@pytest.mark.parametrize("side", [32, 64, 400])
def test_a_cmyk_jpeg_has_the_colors_of_its_rgb_twin(side: int) -> None:
    image = halves(side, side)
    content = packed(image.convert("CMYK"), "JPEG", quality=95)
    assert_halves(read_image(content, 32, "squash"), RED, BLUE, near=12)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
    ],
)
def test_a_image_is_turned_upright_as_its_exif_says(
    form: str, orientation: int, stored: Image.Transpose
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = packed(halves(80, 64).transpose(stored), form, exif=exif)
    assert_halves(read_image(content, 64, "squash"), RED, BLUE, near=12)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    first, second = halves(), halves(left=GREEN, right=GREEN)
    content = packed(first, "WEBP", save_all=True, append_images=[second], lossless=True)
    assert_halves(read_image(content, 64, "crop"), RED, BLUE)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("side", [40, 160])
def test_crop_keeps_the_middle(side: int, form: str) -> None:
    for shape in ((3 * side, side), (side, 3 * side)):
        pixels = read_image(packed(thirds(*shape), form, quality=95), 40, "crop")
        assert_is(pixels[4:-4, 4:-4], GREEN, near=12)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("side", [40, 160])
def test_squash_keeps_all_and_fills_the_square(side: int, form: str) -> None:
    for shape in ((3 * side, side), (side, 3 * side)):
        pixels = read_image(packed(thirds(*shape), form, quality=95), 48, "squash")
        along = pixels[24] if shape[0] > shape[1] else pixels[:, 24]
        for place, color in ((4, RED), (24, GREEN), (44, BLUE)):
            assert_is(along[place], color, near=12)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("side", [40, 160])
def test_fit_keeps_all_in_proportion_between_black_bars(side: int, form: str) -> None:
    for shape in ((3 * side, side), (side, 3 * side)):
        pixels = read_image(packed(thirds(*shape), form, quality=95), 48, "fit")
        if shape[0] < shape[1]:
            pixels = pixels.transpose(1, 0, 2)
        assert (pixels[:15] == 0).all()
        assert (pixels[33:] == 0).all()
        for place, color in ((4, RED), (24, GREEN), (44, BLUE)):
            assert_is(pixels[24, place], color, near=12)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("shape", [(1000, 8), (8, 1000), (16000, 8), (8, 16000)])
@pytest.mark.parametrize("size", [8, 64])
def test_a_very_long_image_still_becomes_a_square(
    shape: tuple[int, int], form: str, resize: Resize, size: int
) -> None:
    pixels = read_image(packed(Image.new("RGB", shape, GREEN), form), size, resize)
    assert pixels.shape == (size, size, 3)
    assert_is(pixels.reshape(-1, 3).max(0), GREEN, near=12)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("shape", [(7, 100), (100, 7), (1, 1)])
def test_a_image_with_a_side_below_eight_pixels_is_tiny(shape: tuple[int, int], form: str) -> None:
    content = packed(Image.new("RGB", shape), form)
    with pytest.raises(Unusable, match=rf"^is tiny: {shape[0]}×{shape[1]} pixels$"):
        read_image(content, 64, "crop")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_eight_pixels_are_enough(form: str) -> None:
    content = packed(Image.new("RGB", (8, 8), GREEN), form)
    assert_is(read_image(content, 16, "crop")[8, 8], GREEN, near=12)


def png_that_declares(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


def bmp_that_declares(width: int, height: int) -> bytes:
    content = bytearray(packed(Image.new("RGB", (8, 8)), "BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def jpeg_that_declares(width: int, height: int) -> bytes:
    content = bytearray(packed(Image.new("RGB", (8, 8)), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize("declare", [png_that_declares, bmp_that_declares, jpeg_that_declares])
@pytest.mark.parametrize("side", [10_001, 20_000, 60_000])
def test_more_than_a_hundred_million_pixels_are_too_large_to_be_decoded(
    declare: Callable[[int, int], bytes], side: int
) -> None:
    assert side**2 > LARGEST
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Unusable, match=r"^is too large: "):
            read_image(declare(side, side), 64, "crop")


def test_nothing_is_empty() -> None:
    with pytest.raises(Unusable, match=r"^is empty$"):
        read_image(b"", 64, "crop")


@pytest.mark.parametrize(
    "content",
    [
        b"\0",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"RIFF\0\0\0\0WEBP",
        b"<svg/>",
        b"a text\n" * 100,
        bytes(5000),
    ],
)
def test_what_is_no_image_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(Unusable, match=r"^is damaged or no image$"):
        read_image(content, 64, "crop")


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PPM", "ICO"])
def test_other_formats_are_not_read_whatever_their_suffix_says(form: str) -> None:
    with pytest.raises(Unusable, match=r"^is damaged or no image$"):
        read_image(packed(halves(), form), 64, "crop")


@pytest.mark.parametrize("size", [16, 48, 100])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_truncated_image_is_damaged_wherever_it_ends(form: str, size: int) -> None:
    content = packed(noise(48, 48), form)
    for end in np.linspace(1, len(content) * 0.98, 40).astype(int):
        with pytest.raises(Unusable, match=r"^is damaged or no image$"):
            read_image(content[:end], size, "crop")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("exif", [False, True])
def test_flipped_bytes_lead_to_pixels_or_to_unusable_and_to_nothing_else(
    form: str, exif: bool
) -> None:
    tags = Image.Exif()
    if exif:
        tags[0x0112] = 6
    content = packed(noise(24, 24), form, **({"exif": tags} if form != "BMP" else {}))
    random = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(content)
        for place in random.integers(0, min(len(content), 400), 3):
            damaged[place] = random.integers(256)
        try:
            pixels = read_image(bytes(damaged), 16, "fit")
        except Unusable:
            continue
        assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
