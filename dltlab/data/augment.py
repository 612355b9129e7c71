"""Change the images of a batch at random, each in its own way, with Keras' own layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dltlab.errors import LabError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


Change = Callable[..., Any]


@dataclass(frozen=True)
class Augmentation:
    """What happens to the images of a batch; `augmentation` describes it."""

    crop: int
    flip: bool
    cutout: int
    mixup: float

    def change(self, shape: list[int], num_classes: int) -> Change:
        """A function of a batch: images, labels and a key that decides what happens to them.

        Images are float32 `(b, height, width, channels)` in [0, 1], before and after; labels are
        int64 `(b,)`, and with mixup float32 shares of the classes `(b, num_classes)`; the key is
        int64 `(2,)`.

        Args:
            shape: Of one image.
            num_classes: How many there are.
        """
        import keras
        import tensorflow as tf

        layers = self.layers(*shape[:2])
        if self.mixup:
            layers.append(keras.layers.MixUp(self.mixup))

        def change(images: "tf.Tensor", labels: "tf.Tensor", key: "tf.Tensor") -> Any:
            seeds = _seeds(key)
            if self.mixup:
                labels = tf.one_hot(labels, num_classes)
            for layer in layers:
                how = layer.get_random_transformation(images, training=True, seed=seeds)
                images = layer.transform_images(images, how, training=True)
                labels = layer.transform_labels(labels, how, training=True)
            return images, labels

        return change

    def layers(self, height: int, width: int) -> list["keras.Layer"]:
        """The layers that change images alone, to stand at the head of a model instead.

        There they run on the device, which pays where that is a GPU and the processor is busy.

        Args:
            height: Of an image, in pixels.
            width: Of an image, in pixels.
        """
        import keras

        found = []
        if self.crop:
            shift = (self.crop / height, self.crop / width)
            found.append(keras.layers.RandomTranslation(*shift, "reflect", "nearest"))
        if self.flip:
            found.append(keras.layers.RandomFlip("horizontal"))
        if self.cutout:
            share = self.cutout**2 / (height * width)
            found.append(keras.layers.RandomErasing((1, 1), (share, share), 0.5, (0, 1)))
        return found


def augmentation(
    *, crop: int = 0, flip: bool = False, cutout: int = 0, mixup: float = 0.0
) -> Augmentation:
    """Changes for `load(…, augment=…)`, each image of a batch in its own way.

    Args:
        crop: Shift by up to so many pixels in both directions; what comes in is the reflection.
        flip: Mirror every other image, left to right.
        cutout: Gray out a square of so many pixels a side.
        mixup: Blend every image, and its label, with another of the batch, by a share from a
            Beta distribution with this parameter on both sides (Zhang et al. 2018,
            arXiv:1710.09412). The labels become shares of each class: use the loss
            `CategoricalCrossentropy`.

    Raises:
        LabError: A value is negative.
    """
    for name, value in (("crop", crop), ("cutout", cutout), ("mixup", mixup)):
        if value < 0:
            raise LabError(f"{name} is {value}; it must be 0 or more.")
    return Augmentation(crop, flip, cutout, mixup)


def _seeds(key: "tf.Tensor") -> Any:
    """A source of Keras seeds that keeps no state: the same key gives the same seeds.

    With a layer's own source, which counts in a variable, batches that are changed in parallel
    would draw in another order each time.
    """
    import keras
    import tensorflow as tf

    class Keyed(keras.random.SeedGenerator):  # type: ignore[misc]
        def __init__(self) -> None:
            self.drawn = 0

        def next(self, ordered: bool = True) -> "tf.Tensor":
            self.drawn += 1
            return tf.random.experimental.stateless_fold_in(key, self.drawn)

    return Keyed()
