"""Reading one image file: its colors, orientation and shape, and what is not usable."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dltlab.data.image_file import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    RESIZES,
    Resize,
    UnusableImage,
    read_image,
)

RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
Color = tuple[int, int, int]


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def halves(width: int = 64, height: int = 64, left: Color = RED, right: Color = BLUE) -> Any:
    """Return an image of two colors side by side."""
    image = Image.new("RGB", (width, height), left)
    image.paste(right, (width // 2, 0, width, height))
    return image


def thirds(width: int, height: int) -> Image.Image:
    """Red, green and blue along the longer side."""
    image = Image.new("RGB", (width, height), GREEN)
    is_wide = width > height
    for color, part in ((RED, 0), (BLUE, 2)):
        corner = (width * part // 3, 0) if is_wide else (0, height * part // 3)
        box = (width // 3, height) if is_wide else (width, height // 3)
        image.paste(color, (*corner, corner[0] + box[0], corner[1] + box[1]))
    return image


def random_image(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def assert_is(pixel: np.ndarray, color: Color, tolerance: int = 6) -> None:
    assert np.abs(pixel.astype(int) - color).max() <= tolerance, (pixel, color)


def assert_halves(pixels: np.ndarray, left: Color, right: Color, tolerance: int = 6) -> None:
    """Compare both halves, except near their border, where a codec may blur."""
    border = pixels.shape[1] // 2
    assert_is(pixels[:, : border - 8], left, tolerance)
    assert_is(pixels[:, border + 8 :], right, tolerance)


@pytest.mark.parametrize("size", [16, 64, 100])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP"])
def test_each_format_is_read_in_its_colors(format_: str, size: int) -> None:
    pixels = read_image(encoded(halves(), format_), size, "crop")
    assert (pixels.shape, pixels.dtype) == ((size, size, 3), np.uint8)
    assert_is(pixels[size // 2, 2], RED, tolerance=12)
    assert_is(pixels[size // 2, -3], BLUE, tolerance=12)


@pytest.mark.parametrize("format_", ["PNG", "BMP"])
def test_an_image_of_the_requested_size_keeps_every_pixel(format_: str) -> None:
    image = random_image(32, 32)
    assert np.array_equal(read_image(encoded(image, format_), 32, "crop"), np.asarray(image))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_large_image_is_reduced_and_not_cropped(format_: str) -> None:
    pixels = read_image(encoded(halves(1500, 1500), format_), 32, "crop")
    assert_halves(pixels, RED, BLUE, tolerance=12)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP"])
def test_gray_becomes_three_equal_channels(format_: str) -> None:
    image = halves(left=(50, 50, 50), right=(200, 200, 200)).convert("L")
    pixels = read_image(encoded(image, format_), 64, "crop")
    assert_halves(pixels, (50, 50, 50), (200, 200, 200))
    assert np.ptp(pixels.astype(int), axis=2).max() == 0 or format_ == "WEBP"


def test_one_bit_becomes_black_and_white() -> None:
    image = halves(left=BLACK, right=WHITE).convert("1")
    assert_halves(read_image(encoded(image), 64, "crop"), BLACK, WHITE, tolerance=0)


@pytest.mark.parametrize(
    ("white", "dark", "bright"), [(None, 0, 16), (65_535, 0, 16), (4_095, 2, 255), (1_023, 9, 255)]
)
def test_sixteen_bits_of_gray_are_scaled_by_the_value_of_white(
    white: int | None, dark: int, bright: int
) -> None:
    values = np.repeat([[36] * 32 + [4_095] * 32], 64, axis=0).astype(np.uint16)
    pixels = read_image(encoded(Image.fromarray(values)), 64, "crop", white=white)
    assert_halves(pixels, (dark,) * 3, (bright,) * 3, tolerance=0)


def test_too_much_metadata_is_named_as_the_reason() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 2_000_000, zip=True)
    content = encoded(halves(), pnginfo=text)
    with pytest.raises(UnusableImage, match="has more metadata than Pillow reads"):
        read_image(content, 64, "crop")


@pytest.mark.parametrize("format_", ["PNG", "BMP"])
def test_a_palette_is_looked_up(format_: str) -> None:
    image = halves().quantize(4)
    assert_halves(read_image(encoded(image, format_), 64, "crop"), RED, BLUE, tolerance=1)


def test_a_transparent_color_of_a_palette_becomes_white() -> None:
    image = halves().quantize(4)
    content = encoded(image, transparency=image.getpixel((60, 0)))
    assert_halves(read_image(content, 64, "crop"), RED, WHITE, tolerance=1)


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_transparent_pixels_are_blended_with_white(format_: str) -> None:
    image = halves(left=RED, right=BLACK).convert("RGBA")
    image.putalpha(halves(left=BLACK, right=(128, 128, 128)).convert("L"))
    pixels = read_image(encoded(image, format_, lossless=True), 64, "crop")
    assert_halves(pixels, WHITE, (127, 127, 127), tolerance=1)


@pytest.mark.parametrize("side", [32, 64, 400])
def test_a_cmyk_jpeg_has_the_colors_of_the_rgb_image(side: int) -> None:
    image = halves(side, side)
    content = encoded(image.convert("CMYK"), "JPEG", quality=95)
    assert_halves(read_image(content, 32, "squash"), RED, BLUE, tolerance=12)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
    ],
)
def test_an_image_is_rotated_upright_as_its_exif_says(
    format_: str, orientation: int, stored: Image.Transpose
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(halves(80, 64).transpose(stored), format_, exif=exif)
    assert_halves(read_image(content, 64, "squash"), RED, BLUE, tolerance=12)


def test_the_first_frame_of_an_animation_is_read() -> None:
    first, second = halves(), halves(left=GREEN, right=GREEN)
    content = encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True)
    assert_halves(read_image(content, 64, "crop"), RED, BLUE)


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
@pytest.mark.parametrize("side", [40, 160])
def test_crop_keeps_the_middle(side: int, format_: str) -> None:
    for shape in ((3 * side, side), (side, 3 * side)):
        pixels = read_image(encoded(thirds(*shape), format_, quality=95), 40, "crop")
        assert_is(pixels[4:-4, 4:-4], GREEN, tolerance=12)


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
@pytest.mark.parametrize("side", [40, 160])
def test_squash_keeps_everything_and_fills_the_square(side: int, format_: str) -> None:
    for shape in ((3 * side, side), (side, 3 * side)):
        pixels = read_image(encoded(thirds(*shape), format_, quality=95), 48, "squash")
        line = pixels[24] if shape[0] > shape[1] else pixels[:, 24]
        for position, color in ((4, RED), (24, GREEN), (44, BLUE)):
            assert_is(line[position], color, tolerance=12)


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
@pytest.mark.parametrize("side", [40, 160])
def test_fit_keeps_everything_in_proportion_between_black_bars(side: int, format_: str) -> None:
    for shape in ((3 * side, side), (side, 3 * side)):
        pixels = read_image(encoded(thirds(*shape), format_, quality=95), 48, "fit")
        if shape[0] < shape[1]:
            pixels = pixels.transpose(1, 0, 2)
        assert (pixels[:15] == 0).all()
        assert (pixels[33:] == 0).all()
        for position, color in ((4, RED), (24, GREEN), (44, BLUE)):
            assert_is(pixels[24, position], color, tolerance=12)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("shape", [(1000, 8), (8, 1000), (16000, 8), (8, 16000)])
@pytest.mark.parametrize("size", [8, 64])
def test_a_very_long_image_still_becomes_a_square(
    shape: tuple[int, int], format_: str, resize: Resize, size: int
) -> None:
    pixels = read_image(encoded(Image.new("RGB", shape, GREEN), format_), size, resize)
    assert pixels.shape == (size, size, 3)
    assert_is(pixels.reshape(-1, 3).max(0), GREEN, tolerance=12)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("shape", [(7, 100), (100, 7), (1, 1)])
def test_an_image_with_a_side_below_eight_pixels_is_tiny(
    shape: tuple[int, int], format_: str
) -> None:
    content = encoded(Image.new("RGB", shape), format_)
    with pytest.raises(UnusableImage, match=rf"^is tiny: {shape[0]}×{shape[1]} pixels$"):
        read_image(content, 64, "crop")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP"])
def test_eight_pixels_are_enough(format_: str) -> None:
    content = encoded(Image.new("RGB", (8, 8), GREEN), format_)
    assert_is(read_image(content, 16, "crop")[8, 8], GREEN, tolerance=12)


def png_declaring(width: int, height: int) -> bytes:
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


def bmp_declaring(width: int, height: int) -> bytes:
    content = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def jpeg_declaring(width: int, height: int) -> bytes:
    content = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize("declare", [png_declaring, bmp_declaring, jpeg_declaring])
@pytest.mark.parametrize("side", [10_001, 20_000, 60_000])
def test_more_than_a_hundred_million_pixels_are_not_decoded(
    declare: Callable[[int, int], bytes], side: int
) -> None:
    assert side**2 > MAX_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnusableImage, match=r"^is too large: "):
            read_image(declare(side, side), 64, "crop")


def test_no_bytes_are_an_empty_file() -> None:
    with pytest.raises(UnusableImage, match=r"^is empty$"):
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
def test_other_content_is_not_an_image(content: bytes) -> None:
    with pytest.raises(UnusableImage, match=r"^is damaged or not an image$"):
        read_image(content, 64, "crop")


@pytest.mark.parametrize("format_", ["GIF", "PPM", "ICO"])
def test_other_formats_are_not_read(format_: str) -> None:
    with pytest.raises(UnusableImage, match=r"^is damaged or not an image$"):
        read_image(encoded(halves(), format_), 64, "crop")


@pytest.mark.parametrize("size", [16, 48, 100])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_truncated_image_is_damaged_wherever_it_ends(format_: str, size: int) -> None:
    content = encoded(random_image(48, 48), format_)
    for end in np.linspace(1, len(content) * 0.98, 40).astype(int):
        with pytest.raises(UnusableImage, match=r"^is damaged or not an image$"):
            read_image(content[:end], size, "crop")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("exif", [False, True])
def test_changed_bytes_lead_to_pixels_or_to_unusable_image(format_: str, exif: bool) -> None:
    tags = Image.Exif()
    if exif:
        tags[0x0112] = 6
    content = encoded(random_image(24, 24), format_, **({"exif": tags} if format_ != "BMP" else {}))
    random = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(content)
        for position in random.integers(0, min(len(content), 400), 3):
            damaged[position] = random.integers(256)
        try:
            pixels = read_image(bytes(damaged), 16, "fit")
        except UnusableImage:
            continue
        assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_a_tiff_is_read_like_a_png(mode: str) -> None:
    image = halves().convert(mode)
    png = encoded(image.convert("RGB"))
    for options in ({}, {"compression": "tiff_lzw"}, {"big_tiff": True}):
        tiff = encoded(image, "TIFF", **options)
        difference = read_image(tiff, 32, "crop").astype(int) - read_image(png, 32, "crop")
        assert np.abs(difference).max() <= 6


def test_sixteen_bits_of_gray_in_a_tiff_are_scaled_as_in_a_png() -> None:
    image = Image.fromarray(np.tile(np.arange(0, 1_024, 16, dtype=np.uint16), (64, 1)))
    pixels = read_image(encoded(image, "TIFF"), 64, "crop", white=1_023)
    assert np.array_equal(pixels, read_image(encoded(image), 64, "crop", white=1_023))
    assert pixels.max() > 240


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            np.full((32, 32), 0.5, np.float32),
            "has floating-point values: save it with 8 or 16 bits",
        ),
        (np.full((32, 32), -1, np.int32), "has gray values outside 0 to 65,535: save it with"),
        (np.full((32, 32), 65_536, np.int32), "has gray values outside 0 to 65,535: save it with"),
    ],
)
def test_other_numbers_in_a_tiff_are_refused_with_the_reason(
    values: np.ndarray, reason: str
) -> None:
    with pytest.raises(UnusableImage, match=reason):
        read_image(encoded(Image.fromarray(values), "TIFF"), 32, "crop")


def test_a_tiff_that_pillow_does_not_read_is_refused_with_the_reason() -> None:
    content = bytearray(encoded(random_image(32, 32), "TIFF"))
    eight_bits = struct.pack("<3H", 8, 8, 8)
    position = content.index(eight_bits)
    content[position : position + 6] = struct.pack("<3H", 16, 16, 16)
    for damaged in (content, content[:60]):
        with pytest.raises(
            UnusableImage, match=r"a TIFF that Pillow does not read .*save it as PNG"
        ):
            read_image(bytes(damaged), 32, "crop")


def test_what_pillow_logs_is_not_printed(tmp_path: Path) -> None:
    content = encoded(random_image(32, 32), "TIFF")
    samples = struct.pack("<HHIH", 277, 3, 1, 3)
    path = tmp_path / "damaged.tif"
    path.write_bytes(content.replace(samples, samples[:-2] + struct.pack("<H", 2_048)))
    assert path.read_bytes() != content
    code = (
        "import sys; from dltlab.data.image_file import UnusableImage, read_image\n"
        "try: read_image(open(sys.argv[1], 'rb').read(), 32, 'crop')\n"
        "except UnusableImage: print('refused')"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_a_path_is_read_like_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(encoded(random_image(32, 32)))
    assert np.array_equal(read_image(path, 16, "crop"), read_image(path.read_bytes(), 16, "crop"))


def test_a_path_without_a_readable_file_is_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "huge.png").open("wb") as huge:
        huge.truncate(MAX_FILE_BYTES + 1)
    (tmp_path / "secret.png").write_bytes(b"secret")
    monkeypatch.setattr(Path, "read_bytes", fail)
    for name, reason in {
        "none.png": "does not exist",
        "pipe.png": "is not a regular file",
        ".": "is not a regular file",
        "huge.png": "is too large: 200 MB",
        "secret.png": r"cannot be read \(Permission denied\)",
    }.items():
        with pytest.raises(UnusableImage, match=f"^{reason}$"):
            read_image(tmp_path / name, 16, "crop")
