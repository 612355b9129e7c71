"""Augment the images of a batch at random, each differently, with Keras' own layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dltlab.errors import Invalid

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


Change = Callable[..., Any]


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the images of a batch; `augmentation` describes the fields."""

    crop: int
    flip: bool
    cutout: int
    mixup: float

    def change(self, shape: list[int], num_classes: int) -> Change:
        """Return a function of images, labels and a key that decides the changes.

        Images are float32 `(b, height, width, channels)` in [0, 1], before and after; labels are
        int64 `(b,)`, and with mixup float32 class probabilities `(b, num_classes)`; the key is
        int64 `(2,)`.

        Args:
            shape: Height, width and channels of an image.
            num_classes: The number of classes.
        """
        import keras
        import tensorflow as tf

        layers = self.layers(*shape[:2])
        if self.mixup:
            layers.append(keras.layers.MixUp(self.mixup))

        def change(images: "tf.Tensor", labels: "tf.Tensor", key: "tf.Tensor") -> Any:
            seeds = _stateless_seeds(key)
            if self.mixup:
                labels = tf.one_hot(labels, num_classes)
            for layer in layers:
                transformation = layer.get_random_transformation(images, training=True, seed=seeds)
                images = layer.transform_images(images, transformation, training=True)
                labels = layer.transform_labels(labels, transformation, training=True)
            return images, labels

        return change

    def layers(self, height: int, width: int) -> list["keras.Layer"]:
        """Return the layers that change only images, to use as the first layers of a model.

        There they run on the device, which helps where that is a GPU and the processor is busy.

        Args:
            height: The height of an image in pixels.
            width: The width of an image in pixels.
        """
        import keras

        layers = []
        if self.crop:
            shift = (self.crop / height, self.crop / width)
            layers.append(keras.layers.RandomTranslation(*shift, "reflect", "nearest"))
        if self.flip:
            layers.append(keras.layers.RandomFlip("horizontal"))
        if self.cutout:
            area = self.cutout**2 / (height * width)
            layers.append(keras.layers.RandomErasing((1, 1), (area, area), 0.5, (0, 1)))
        return layers


def augmentation(
    *, crop: int = 0, flip: bool = False, cutout: int = 0, mixup: float = 0.0
) -> Augmentation:
    """Return random changes for `load(…, augment=…)`; each image of a batch is changed differently.

    Args:
        crop: Shift by up to this number of pixels in both directions; the border is filled with a
            reflection.
        flip: Mirror half of the images, left to right.
        cutout: Fill a square with this side in pixels with gray.
        mixup: Blend every image, and its label, with another of the batch. The weight is drawn
            from a Beta distribution with this value for both of its parameters (Zhang et al. 2018,
            arXiv:1710.09412). The labels become probabilities of the classes: use the loss
            `CategoricalCrossentropy`.

    Raises:
        Invalid: A value is negative.
    """
    for name, value in (("crop", crop), ("cutout", cutout), ("mixup", mixup)):
        if value < 0:
            raise Invalid(f"{name} is {value}; it must be 0 or more.")
    return Augmentation(crop, flip, cutout, mixup)


def _stateless_seeds(key: "tf.Tensor") -> Any:
    """Return a Keras seed generator without a state: equal keys give equal seeds.

    A layer's own generator counts in a variable, so batches that are changed in parallel would draw
    in a different order each time.
    """
    import keras
    import tensorflow as tf

    class StatelessSeedGenerator(keras.random.SeedGenerator):  # type: ignore[misc]
        def __init__(self) -> None:
            self.num_drawn = 0

        def next(self, ordered: bool = True) -> "tf.Tensor":
            self.num_drawn += 1
            return tf.random.experimental.stateless_fold_in(key, self.num_drawn)

    return StatelessSeedGenerator()
