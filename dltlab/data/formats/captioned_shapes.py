"""Color images of one shape each, with a caption, drawn from a seed."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from pydantic import Field

from dltlab.data.captions import CAPTION_ATTRIBUTES, CAPTIONS, attributes_of
from dltlab.data.card import ImageCard, Seed, Sentence, SplitName
from dltlab.data.formats.registry import register
from dltlab.data.formats.shapes import OUTLINES
from dltlab.data.packed_images import PackedImages

# Labels of the captions that no training image has: a tenth of all.
UNSEEN_CAPTIONS: tuple[int, ...] = tuple(
    sorted(np.random.RandomState(5).permutation(len(CAPTIONS))[: len(CAPTIONS) // 10].tolist())
)

_SHAPES = {"circle": "disc", "square": "square", "triangle": "triangle", "cross": "cross"}
_COLORS = {
    "red": (1, 0.1, 0.1),
    "green": (0.1, 0.85, 0.1),
    "blue": (0.15, 0.25, 1),
    "yellow": (1, 0.9, 0.1),
    "magenta": (1, 0.2, 0.9),
    "cyan": (0.1, 0.9, 0.95),
}
# Lengths are fractions of the image's side, colors are in [0, 1].
_RADII = {"small": 0.205, "large": 0.32}
_CENTERS = {
    "center": (0.5, 0.5),
    "left": (0.3, 0.5),
    "right": (0.7, 0.5),
    "top": (0.5, 0.3),
    "bottom": (0.5, 0.7),
}
_JITTER, _STRETCH = 0.035, (0.92, 1.08)  # of the center, and of the radius
_BRIGHTNESS, _TINT, _BACKGROUND = (0.85, 1.0), 0.04, (0.0, 0.25)
_CHUNK_IMAGES = 512  # drawn at once


@register("captioned_shapes")
class CaptionedShapesCard(ImageCard):
    """The images of `captioned_shapes`; each split has a seed of its own.

    A label is an index into `CAPTIONS`. Training images have none of `UNSEEN_CAPTIONS`.
    """

    seed: Seed
    class_names: list[Sentence] = Field(default_factory=lambda: list(CAPTIONS), min_length=2)

    def read_split(self, split: SplitName) -> PackedImages:
        """Draw the images of one split."""
        seed = self.seed + self.split_names.index(split)
        size = self.splits[split].size
        return self.pack(split, *_cached(size, seed, self.shape[0], split == "train"))


@lru_cache(maxsize=4)
def _cached(num: int, seed: int, size: int, only_seen: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays of `captioned_shapes`, read-only; a lab loads a split many times."""
    seen = [label for label in range(len(CAPTIONS)) if label not in UNSEEN_CAPTIONS]
    images, labels = captioned_shapes(num, seed, captions=seen if only_seen else None, size=size)
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels


def captioned_shapes(
    num_images: int, seed: int, *, captions: Sequence[int] | None = None, size: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Draw images of one shape on a plain gray background, as their captions say.

    Place, size, brightness, tint and background vary a little; all captions are equally frequent,
    up to one image.

    Args:
        num_images: The number of images.
        seed: The images depend on nothing but the arguments, to the bit on one platform. A smaller
            `num_images` gives other images, not the first of these.
        captions: Labels to choose from, indices into `CAPTIONS`; by default all.
        size: The side of an image in pixels.

    Returns:
        uint8 RGB images `(num_images, size, size, 3)` and int64 labels `(num_images,)`, in random
        order.
    """
    # RandomState's stream never changes; those of newer generators may between versions.
    random = np.random.RandomState(seed)
    choices = np.asarray(range(len(CAPTIONS)) if captions is None else captions, np.int64)
    labels = choices[random.permutation(np.arange(num_images) % len(choices))]
    scenes = _scenes(random, attributes_of(labels), size)
    images = np.empty((num_images, size, size, 3), np.uint8)
    for number, shape in enumerate(CAPTION_ATTRIBUTES["shape"]):
        rows = np.flatnonzero(scenes.shape == number)
        for start in range(0, len(rows), _CHUNK_IMAGES):
            chunk = rows[start : start + _CHUNK_IMAGES]
            scene = _Scenes(*(values[chunk] for values in scenes))
            images[chunk] = _draw(scene, _SHAPES[shape], size)
    return images, labels


class _Scenes(NamedTuple):
    """What `n` images show: lengths in pixels, colors in [0, 1]."""

    shape: np.ndarray  # (n,), a place in CAPTION_ATTRIBUTES["shape"]
    center: np.ndarray  # float32 (n, 2)
    radius: np.ndarray  # float32 (n,)
    color: np.ndarray  # float32 (n, 3)
    background: np.ndarray  # float32 (n, 1)


def _scenes(random: np.random.RandomState, attributes: np.ndarray, size: int) -> _Scenes:
    num = len(attributes)
    sizes, colors, shapes, places = attributes.T
    radius = np.array(list(_RADII.values()))[sizes] * random.uniform(*_STRETCH, num)
    center = np.array(list(_CENTERS.values()))[places] + random.uniform(-_JITTER, _JITTER, (num, 2))
    color = np.array(list(_COLORS.values()))[colors] * random.uniform(*_BRIGHTNESS, (num, 1))
    color = np.clip(color + random.uniform(-_TINT, _TINT, (num, 3)), 0, 1)
    background = random.uniform(*_BACKGROUND, (num, 1))
    lengths = (size * center, size * radius, color, background)
    return _Scenes(shapes, *(values.astype(np.float32) for values in lengths))


def _draw(scene: _Scenes, outline: str, size: int) -> np.ndarray:
    """Draw scenes of one shape: uint8 `(n, size, size, 3)`."""
    middle = np.arange(size, dtype=np.float32) + 0.5
    radius = scene.radius[:, np.newaxis, np.newaxis]
    right = (
        middle[np.newaxis, np.newaxis, :] - scene.center[:, 0, np.newaxis, np.newaxis]
    ) / radius
    down = (middle[np.newaxis, :, np.newaxis] - scene.center[:, 1, np.newaxis, np.newaxis]) / radius
    distance = OUTLINES[outline](right, -down) * radius
    cover = np.clip(0.5 - distance, 0, 1)[..., np.newaxis]  # a pixel on the edge, in part
    background = scene.background[:, np.newaxis, np.newaxis]
    image = background + cover * (scene.color[:, np.newaxis, np.newaxis] - background)
    pixels: np.ndarray = np.rint(255 * image).astype(np.uint8)
    return pixels
