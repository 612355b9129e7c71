"""Color images of ten shapes on busy backgrounds, drawn from a seed."""

from collections.abc import Callable, Iterator
from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np

from dltlab.data.card import ImageCard, Seed, SplitName
from dltlab.data.formats.registry import register
from dltlab.data.packed_images import PackedImages

CLASS_NAMES: tuple[str, ...] = (
    "disc",
    "ring",
    "triangle",
    "square",
    "pentagon",
    "star",
    "cross",
    "heart",
    "crescent",
    "arrow",
)

# Lengths are fractions of the image's side, colors are in [0, 1].
_RADIUS = (0.28, 0.42)
_TURN = np.pi / 6
_CONTRAST = (0.3, 0.7)
_RAMP = 0.2
_STRIPE, _STRIPE_PERIOD = 0.12, (0.08, 0.3)
_NOISE = (0.04, 0.16)
_LINE_LENGTH, _LINE_WIDTH, _BLOT_RADIUS = (0.15, 0.5), (0.0125, 0.035), (0.04, 0.1)

CHUNK_IMAGES = 128  # drawn at once; their canvas is 1.5 MB at 32 × 32, small enough for a cache


@register("shapes")
class ShapesCard(ImageCard):
    """The images of `shapes`; each split has a seed of its own."""

    seed: Seed

    def read_split(self, split: SplitName) -> PackedImages:
        """Draw the images of one split."""
        seed = self.seed + self.split_names.index(split)
        size = self.splits[split].size
        return self.pack(split, *_cached_shapes(size, seed, self.shape[0]))


@lru_cache(maxsize=4)
def _cached_shapes(num_images: int, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays of `shapes`, read-only; a lab loads the same split many times."""
    images, labels = shapes(num_images, seed, size)
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels


def shapes(num_images: int, seed: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Draw images of the ten `CLASS_NAMES`, one shape in each.

    A shape lies inside its image, at a random place and of a random size, rotated by up to 30°
    from upright. The background has a gradient, stripes and noise. A line and a blot lie behind the
    shape, and another pair may cover part of it. All colors are random; every channel of a shape's
    color differs from that of the plain background by at least 0.3 of full scale, up or down with
    equal probability. So a class cannot be told from colors, and hardly from any single pixel. An
    image's mirror image, left for right, is as likely as the image and shows the same class.

    Args:
        num_images: The number of images; those of any two classes differ by at most one.
        seed: The images depend on nothing but the three arguments, to the bit on one platform.
            A smaller `num_images` gives other images, not the first of these; for training and
            test images, draw all at once and divide them.
        size: The side of an image in pixels. Noise and edges are one pixel fine at any size.

    Returns:
        uint8 RGB images `(num_images, size, size, 3)` and int64 labels `(num_images,)`, indices
        into `CLASS_NAMES`, in random order.
    """
    # RandomState's stream never changes; those of newer generators may between versions.
    random = np.random.RandomState(seed)
    labels = random.permutation(np.arange(num_images) % len(CLASS_NAMES)).astype(np.int64)
    scenes = _scenes(random, num_images, size)
    images = random.randint(0, 256, (num_images, size, size, 3), np.uint8)  # at first, the noise
    for label, name in enumerate(CLASS_NAMES):
        rows = np.flatnonzero(labels == label)
        for start in range(0, len(rows), CHUNK_IMAGES):
            chunk = rows[start : start + CHUNK_IMAGES]
            scene = _Scenes(*(values[chunk] for values in scenes))
            image = _image(scene, OUTLINES[name], size)
            images[chunk] = _with_noise(image, images[chunk], scene.noise)
    return images, labels


class _Scenes(NamedTuple):
    """What `n` images show: float32, lengths in pixels, colors in [0, 1], turns as (cos, sin).

    The four marks of an image are a line and a blot behind its shape, then a line and a blot in
    front of it. A mark is the set of points within its width of a straight stroke; the stroke of a
    blot has length zero.
    """

    center: np.ndarray  # (n, 2)
    radius: np.ndarray  # (n,)
    turn: np.ndarray  # (n, 2)
    color: np.ndarray  # (n, 3)
    background: np.ndarray  # (n, 3)
    ramp: np.ndarray  # (n, 3, 2): how the background changes from side to side, along x and y
    stripe: np.ndarray  # (n, 3)
    stripe_waves: np.ndarray  # (n, 2): waves per pixel along x and y
    mark_center: np.ndarray  # (n, 4, 2)
    mark_turn: np.ndarray  # (n, 4, 2)
    mark_length: np.ndarray  # (n, 4): half of it
    mark_width: np.ndarray  # (n, 4): half of it
    mark_color: np.ndarray  # (n, 4, 3)
    noise: np.ndarray  # (n,)


def _scenes(random: np.random.RandomState, num: int, size: int) -> _Scenes:
    """Draw the parameters of `num` images at once, so that no image depends on its chunk."""

    def draw(low: float, high: float, *shape: int) -> np.ndarray:
        return random.uniform(low, high, (num, *shape))

    def turn(limit: float, *shape: int) -> np.ndarray:
        angle = draw(-limit, limit, *shape)
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    radius = size * draw(*_RADIUS)
    background = draw(0, 1, 3)
    line_length, no_length = draw(*_LINE_LENGTH, 2), np.zeros((num, 2))
    line_width, blot_radius = draw(*_LINE_WIDTH, 2), draw(*_BLOT_RADIUS, 2)
    scenes = _Scenes(
        center=size / 2 + draw(-1, 1, 2) * (size / 2 - radius)[:, np.newaxis],
        radius=radius,
        turn=turn(_TURN),
        color=(background + draw(*_CONTRAST, 3)) % 1,  # wrapped or not, it differs by 0.3 or more
        background=background,
        ramp=draw(-_RAMP, _RAMP, 3, 2),
        stripe=draw(-_STRIPE, _STRIPE, 3),
        stripe_waves=turn(np.pi) / (size * draw(*_STRIPE_PERIOD, 1)),
        mark_center=size * draw(0, 1, 4, 2),
        mark_turn=turn(np.pi, 4),
        mark_length=size * np.stack([line_length, no_length], axis=2).reshape(num, 4),
        mark_width=size * np.stack([line_width, blot_radius], axis=2).reshape(num, 4),
        mark_color=draw(0, 1, 4, 3),
        noise=draw(*_NOISE),
    )
    return _Scenes(*(values.astype(np.float32) for values in scenes))


def _image(scene: _Scenes, outline: "Outline", size: int) -> np.ndarray:
    """Draw the scenes without noise: float32 `(n, 3, size, size)`, where [0, 1] is full scale.

    Only sums, products, quotients and roots are used, which IEEE 754 rounds in only one way.
    """
    middle = np.arange(size, dtype=np.float32) + 0.5
    x, y = middle[np.newaxis, np.newaxis, :], middle[np.newaxis, :, np.newaxis]
    canvas = _background(scene, x, y, size)
    for mark in (0, 1):
        _paint_mark(canvas, scene, mark, x, y)
    radius = _per_pixel(scene.radius)
    right, down = _rotated(x, y, scene.center, scene.turn)
    _paint(canvas, outline(right / radius, -down / radius) * radius, scene.color)
    for mark in (2, 3):
        _paint_mark(canvas, scene, mark, x, y)
    return canvas


def _background(scene: _Scenes, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Draw the background with its gradient and its stripes, which are triangular waves."""
    phase = x * _per_pixel(scene.stripe_waves[:, 0]) + y * _per_pixel(scene.stripe_waves[:, 1])
    wave = 4 * np.abs(phase - np.floor(phase) - 0.5) - 1
    ramp_x, ramp_y = scene.ramp[..., 0], scene.ramp[..., 1]
    canvas: np.ndarray = _per_pixel(scene.stripe) * wave[:, np.newaxis]
    canvas += _per_pixel(ramp_x) * (x / size - 0.5) + _per_pixel(ramp_y) * (y / size - 0.5)
    canvas += _per_pixel(scene.background)
    return canvas


def _paint_mark(
    canvas: np.ndarray, scene: _Scenes, mark: int, x: np.ndarray, y: np.ndarray
) -> None:
    along, across = _rotated(x, y, scene.mark_center[:, mark], scene.mark_turn[:, mark])
    beyond = np.maximum(np.abs(along) - _per_pixel(scene.mark_length[:, mark]), 0)
    distance = _hypot(beyond, across) - _per_pixel(scene.mark_width[:, mark])
    _paint(canvas, distance, scene.mark_color[:, mark])


def _paint(canvas: np.ndarray, distance: np.ndarray, color: np.ndarray) -> None:
    """Paint `color` on the canvas where the distance from an edge, in pixels, is negative.

    A pixel on the edge is covered in proportion, so that edges are smooth.
    """
    cover = np.clip(0.5 - distance, 0, 1)[:, np.newaxis]
    canvas += cover * (_per_pixel(color) - canvas)


def _with_noise(image: np.ndarray, noise: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Return uint8 images, channels last, with uniform noise up to `amplitude` of full scale."""
    spread = (2 * amplitude)[:, np.newaxis, np.newaxis, np.newaxis]
    noisy = image.transpose(0, 2, 3, 1) * 255 + spread * (noise - np.float32(127.5))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _rotated(
    x: np.ndarray, y: np.ndarray, center: np.ndarray, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates relative to something at `center` that is rotated by `turn`."""
    cos, sin = _per_pixel(turn[:, 0]), _per_pixel(turn[:, 1])
    x, y = x - _per_pixel(center[:, 0]), y - _per_pixel(center[:, 1])
    return x * cos + y * sin, y * cos - x * sin


def _per_pixel(values: np.ndarray) -> np.ndarray:
    return values[..., np.newaxis, np.newaxis]


def _hypot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    root: np.ndarray = np.sqrt(x * x + y * y)  # unlike np.hypot, exactly rounded
    return root


# An outline takes x to the right and y upwards, in units of the shape's radius, and returns the
# signed distance of a point from the shape's edge, in the same unit: negative inside. Every shape
# is its own mirror image and fits into the circle of radius 1. Near a corner, the distance is that
# to the line through a side, which keeps corners sharp.

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]

_SIN_45, _SIN_60 = np.float32(np.sqrt(0.5)), np.float32(np.sqrt(0.75))


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _hypot(x, y) - 0.85


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(_hypot(x, y) - 0.7) - 0.2


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _intersection(-y, 0.5 * y + _SIN_60 * np.abs(x)) - 0.5


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _intersection(np.abs(x), np.abs(y)) - 0.7


def _pentagon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return reduce(_intersection, _towards_five_sides(x, y)) - 0.8


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A pentagram: a point inside is beyond at most one of its five lines."""
    first, *others = _towards_five_sides(x, y)
    second = np.full_like(first, -np.inf)
    for other in others:
        second = _intersection(second, _union(first, other))
        first = _intersection(first, other)
    return second - 0.309


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return _intersection(_union(x, y) - 0.28, _intersection(x, y) - 0.92)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A square on its corner, with a disc on each of its upper sides."""
    x, y = np.abs(x), y + 0.1
    square = _SIN_45 * (x + np.abs(y)) - 0.5
    lobe = _hypot(x - 0.5 * _SIN_45, y - 0.5 * _SIN_45) - 0.5
    return _union(square, lobe)


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A disc minus another disc above it."""
    return _intersection(_hypot(x, y) - 0.9, 0.72 - _hypot(x, y - 0.5))


def _arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    head = _intersection(-y, _SIN_45 * (x + y) - 0.65)
    shaft = _intersection(x - 0.22, np.abs(y + 0.45) - 0.5)
    return _union(head, shaft)


def _towards_five_sides(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the distance from the center toward each side of a pentagon, the lowest first."""
    for angle in np.pi * (0.4 * np.arange(5) - 0.5):
        yield x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))


def _intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the outline of the intersection of two shapes."""
    distance: np.ndarray = np.maximum(first, second)
    return distance


def _union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the outline of the union of two shapes."""
    distance: np.ndarray = np.minimum(first, second)
    return distance


OUTLINES: dict[str, Outline] = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "pentagon": _pentagon,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "crescent": _crescent,
    "arrow": _arrow,
}
