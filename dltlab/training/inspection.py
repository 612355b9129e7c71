"""What a trained network has learned to see: its filters, its maps, and where it looks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.display import printable, show
from dltlab.errors import LabError
from dltlab.training.drawing import as_image, label
from dltlab.training.probabilities import (
    SQUASHING,
    class_names,
    ends_in_probabilities,
    is_multi_label,
    last_operation,
    probabilities,
    shape_text,
)

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.figure import Figure

_CHANNELS, _LAYERS, _FILTERS = 8, 12, 64  # that a figure has room for
_POOLING = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


@dataclass(frozen=True, eq=False)
class Maps:
    """What one layer makes of the image.

    Attributes:
        name: Of the layer.
        shape: Rows, columns and channels.
        is_pooled: Whether the layer only makes the maps of another one coarser.
        strongest: float32 `(rows, columns, k)`: the maps of the channels that vary most over the
            image, at most 8, the strongest first.
        channels: The places of these channels among all, `(k,)`.
        heat: float32 `(rows, columns)`: where the layer finds the evidence for the target class,
            by Grad-CAM; in [0, 1], all 0 where there is none.
    """

    name: str
    shape: tuple[int, ...]
    is_pooled: bool
    strongest: np.ndarray
    channels: np.ndarray
    heat: np.ndarray


@dataclass(frozen=True, repr=False, eq=False)
class Inside:
    """What `inspect` has found, at the time it looked.

    Attributes:
        image: float32 `(height, width, channels)`.
        target: The name of the class whose evidence is looked for.
        probability: Of that class, by the model.
        predicted: The name of the class that the model takes the image for.
        first: The name of the first convolution.
        kernel: Its weights, float32 `(rows, columns, inputs, filters)`.
        layers: The layers that give maps, in the order in which they run.
    """

    image: np.ndarray
    target: str
    probability: float
    predicted: str
    first: str
    kernel: np.ndarray
    layers: tuple[Maps, ...]

    def __repr__(self) -> str:
        return (
            f"Inside(predicted: {printable(self.predicted)}, target: {printable(self.target)} with "
            f"probability {self.probability:.3f}, layers with maps: {len(self.layers)})"
        )

    def filters(self) -> tuple["Figure", str]:
        """The kernels of the first convolution as images, and them in words.

        Each is scaled by its largest weight, so that mid-gray is 0. Three inputs are shown as red,
        green and blue; of any other number the mean.
        """
        from matplotlib.figure import Figure

        rows, columns, inputs, num = self.kernel.shape
        shown = min(num, _FILTERS)
        largest = np.abs(self.kernel).max(axis=(0, 1, 2))
        scaled = self.kernel / np.where(largest > 0, 2 * largest, 1) + 0.5
        wide = min(8, shown)
        deep = -(-shown // wide)
        figure = Figure(figsize=(max(0.8 * wide, 5), 0.8 * deep + 0.8), layout="constrained")
        for place, axes in enumerate(figure.subplots(deep, wide, squeeze=False).flat):
            axes.set(xticks=[], yticks=[])
            if place < shown:
                axes.imshow(as_image(scaled[..., place]), cmap="gray", vmin=0, vmax=1)
            else:
                axes.set_axis_off()
        some = f"{num} filters" if shown == num else f"{shown} of {num} filters"
        how = {1: "in gray", 3: "in color"}.get(inputs, f"as the mean of {inputs} inputs")
        size = shape_text((rows, columns))
        figure.suptitle(
            f"{label(self.first, 30)}: {some} of {size}, {how};\n"
            "each scaled by its largest weight, mid-gray is 0",
            fontsize=10,
        )
        return figure, (
            f"The first convolution, {self.first}: {some} of {size} weights as images {how}, "
            f"each scaled by its largest weight so that mid-gray is 0."
        )

    def activations(self) -> tuple["Figure", str]:
        """The maps that the layers make of the image, a row a layer, and them in words.

        Of each layer the channels that vary most over the image, at most 8, each from its lowest
        value, dark, to its highest, bright. Of a network with more than 12 such layers, 12 are
        shown, spread over its depth from the first to the last.
        """
        from matplotlib.figure import Figure

        places = np.linspace(0, len(self.layers) - 1, min(len(self.layers), _LAYERS)).round()
        chosen = [self.layers[int(place)] for place in places]
        figure = Figure(figsize=(9.2, 0.9 * len(chosen) + 0.9), layout="constrained")
        grid = figure.subplots(len(chosen), _CHANNELS, squeeze=False)
        for row, maps in zip(grid, chosen, strict=True):
            for axes in row:
                axes.set(xticks=[], yticks=[], frame_on=False)
            for axes, of_channel in zip(row, np.moveaxis(maps.strongest, -1, 0), strict=False):
                axes.imshow(of_channel, cmap="viridis", interpolation="nearest")
            row[0].set_ylabel(
                f"{label(maps.name, 24)}\n{shape_text(maps.shape)}",
                rotation=0, ha="right", va="center", fontsize=8,
            )  # fmt: skip
        total = len(self.layers)
        some = f"all {total}" if len(chosen) == total else f"{len(chosen)} of {total}"
        figure.suptitle(
            f"What {some} layers with maps make of the image: the channels that vary most,\n"
            "each from its lowest value (dark) to its highest (bright)",
            fontsize=10,
        )
        listed = ", ".join(f"{each.name} {shape_text(each.shape)}" for each in chosen)
        return figure, (
            f"Maps of {some} layers, in the order in which they run, with rows, columns and "
            f"channels: {listed}. Of each the channels that vary most over the image."
        )

    def grad_cam(self, layer: str | None = None) -> tuple["Figure", str]:
        """Where in the image the evidence for the target class lies, and it in words.

        Gradient-weighted class activation mapping (R. R. Selvaraju and others, Grad-CAM: visual
        explanations from deep networks via gradient-based localization, ICCV 2017,
        arXiv:1610.02391): the maps of a layer, each weighted by the mean gradient of the class's
        logit with respect to it, are summed, and what speaks against the class is left out.

        Args:
            layer: The name of one that gives maps; by default the last one, where what is seen has
                most meaning, before any pooling that would only make its maps coarser.

        Raises:
            LabError: There is no such layer.
        """
        from matplotlib.figure import Figure

        maps = self._named(layer)
        height, width = self.image.shape[:2]
        image = as_image(self.image)
        gray = image.mean(axis=-1) if image.ndim == 3 else image
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        plain, seen = figure.subplots(1, 2)
        plain.imshow(image, cmap="gray", vmin=0, vmax=1)
        plain.set_title("the image", fontsize=10)
        seen.imshow(gray, cmap="gray", vmin=0, vmax=1)
        over = (-0.5, width - 0.5, height - 0.5, -0.5)
        heat = seen.imshow(
            maps.heat, cmap="inferno", alpha=0.5, vmin=0, vmax=1, extent=over,
            interpolation="bilinear",
        )  # fmt: skip
        nothing = "" if maps.heat.any() else ": no evidence"
        seen.set_title(f"{label(maps.name, 30)}, {shape_text(maps.shape)}{nothing}", fontsize=10)
        for axes in (plain, seen):
            axes.set(xticks=[], yticks=[])
        bar = figure.colorbar(heat, ax=seen, fraction=0.046)
        bar.set_label("evidence, as a share of the strongest")
        figure.suptitle(
            f"Grad-CAM of '{label(self.target)}', probability {self.probability:.2f}", fontsize=11
        )
        return figure, (
            f"An image, and over it where layer {maps.name} finds the evidence for "
            f"'{printable(self.target)}', which has the probability {self.probability:.2f}: "
            f"{_where(maps.heat)}."
        )

    def _named(self, layer: str | None) -> Maps:
        if layer is None:
            finest = [each for each in self.layers if not each.is_pooled]
            return (finest or self.layers)[-1]
        named = {each.name: each for each in self.layers}
        if layer not in named:
            raise LabError(f"No layer '{layer}' gives maps. Those that do: {', '.join(named)}.")
        return named[layer]

    def show(self) -> None:
        """Show the filters, the maps, and where the evidence lies."""
        show(*self.filters())
        show(*self.activations())
        show(*self.grad_cam())


def inspect(
    model: keras.Model,
    image: np.ndarray,
    target: int | str | None = None,
    classes: Sequence[str] | None = None,
) -> Inside:
    """Let one image run through a model, and keep what each layer makes of it.

    Works for models of any build, nested ones, too, as long as they hold a `keras.layers.Conv2D`
    and their maps have the channels last.

    Args:
        model: Gives `(b, classes)`, logits or probabilities. Of a model whose last layer has a
            softmax or sigmoid as activation, Grad-CAM takes the logits before it; where that is a
            layer or an operation of its own, the logarithm of the probability.
        image: float32 `(height, width, channels)` in [0, 1].
        target: The class whose evidence to look for, by number, or by name where `classes` are
            given; by default the one that the model predicts.
        classes: Their names, in the order of the labels; by default their numbers.

    Raises:
        LabError: The model has no convolution or no maps, the image does not fit it, there is no
            such class, or Keras runs on another backend than TensorFlow.
    """
    if keras.config.backend() != "tensorflow":
        raise LabError(
            f"inspect needs Keras on TensorFlow for its gradients, and it runs on "
            f"{keras.config.backend()}: set KERAS_BACKEND=tensorflow and start Python anew."
        )
    image = _checked(image)
    found = probabilities(model, image[np.newaxis], multi_label=is_multi_label(model))[0]
    names = class_names(classes, len(found))
    place = int(found.argmax()) if target is None else _place(target, names)
    first, maps = _run(model, image, place)
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(first.kernel, "float32"))
    return Inside(
        image=image,
        target=names[place],
        probability=float(found[place]),
        predicted=names[int(found.argmax())],
        first=first.name,
        kernel=kernel,
        layers=maps,
    )


def _checked(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image, np.float32)
    if image.ndim != 3:
        raise LabError(
            f"The image has the shape {image.shape}; it must be (height, width, channels): one "
            "image, without a batch."
        )
    if not np.isfinite(image).all():
        raise LabError("The image holds pixels that are NaN or infinite.")
    return image


def _place(target: int | str, names: tuple[str, ...]) -> int:
    """The number of a class."""
    if isinstance(target, str):
        if target not in names:
            raise LabError(f"There is no class '{target}'. The classes are: {', '.join(names)}.")
        return names.index(target)
    if not 0 <= target < len(names):
        raise LabError(
            f"There is no class {target}: the model tells {len(names)} apart, counted from 0."
        )
    return int(target)


@dataclass(frozen=True)
class _Call:
    """That a layer ran.

    Attributes:
        layer: Which.
        output: What came of it.
        begin: How many calls of other layers had ended when it began.
        is_leaf: Whether it called no other layer.
    """

    layer: Any
    output: Any
    begin: int
    is_leaf: bool


def _run(
    model: keras.Model, image: np.ndarray, place: int
) -> tuple[keras.layers.Conv2D, tuple[Maps, ...]]:
    """The first convolution of a model, and what its layers make of an image.

    Raises:
        LabError: It has no convolution, or none gives maps.
    """
    import tensorflow as tf

    pixels = tf.constant(image[np.newaxis])
    with (
        tf.GradientTape(watch_accessed_variables=False) as tape,
        _recorded() as calls,
        _logits(model),
    ):
        tape.watch(pixels)
        score = _score(model, model(pixels, training=False), place)
    first = next((call for call in calls if isinstance(call.layer, keras.layers.Conv2D)), None)
    if first is None:
        raise LabError(
            "The model has no convolution (keras.layers.Conv2D), so it makes no maps of an image "
            "to look at: look inside a convolutional network."
        )
    shown = _with_maps(calls, first.begin)
    if not shown:
        raise LabError(
            "No layer of the model gives maps: each reduces the image to a single place. Give "
            "its convolutions smaller kernels."
        )
    outputs = [call.output for call in shown]
    slopes = tape.gradient(score, outputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return first.layer, tuple(map(_maps, shown, slopes))


@contextmanager
def _recorded() -> Iterator[list[_Call]]:
    """Every call of a layer, in the order in which they end."""
    calls: list[_Call] = []
    original = keras.layers.Layer.__call__

    def call(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        begin = len(calls)
        output = original(self, *args, **kwargs)
        calls.append(_Call(self, output, begin, is_leaf=len(calls) == begin))
        return output

    # Only so are the layers of nested and of subclassed models heard, too.
    keras.layers.Layer.__call__ = call
    try:
        yield calls
    finally:
        keras.layers.Layer.__call__ = original


@contextmanager
def _logits(model: keras.Model) -> Iterator[None]:
    """Leaves out a softmax or a sigmoid that is the activation of the last layer."""
    last = last_operation(model)
    activation = getattr(last, "activation", None)
    if activation not in SQUASHING:
        yield
        return
    last.activation = keras.activations.linear
    try:
        yield
    finally:
        last.activation = activation


def _score(model: keras.Model, outputs: "tf.Tensor", place: int) -> "tf.Tensor":
    """The number whose gradient Grad-CAM takes: the logit of the class."""
    of_one = outputs.shape[-1] == 1  # output for two classes
    score = keras.ops.cast(outputs[0, 0 if of_one else place], "float32")
    if ends_in_probabilities(model):
        score = keras.ops.log(score + keras.config.epsilon())
    return -score if of_one and place == 0 else score


def _with_maps(calls: list[_Call], begin: int) -> list[_Call]:
    """The layers, from the first convolution on, that give maps and something new."""
    found: dict[int, _Call] = {}
    for call in calls[begin:]:
        shape = tuple(getattr(call.output, "shape", ()))
        if call.is_leaf and len(shape) == 4 and max(shape[1:3]) > 1:
            # What a layer hands on as it is, as dropout after training, is the same object.
            found.setdefault(id(call.output), call)
    return list(found.values())


def _maps(call: _Call, slope: "tf.Tensor") -> Maps:
    maps, slopes = (
        keras.ops.convert_to_numpy(keras.ops.cast(each, "float32"))[0]
        for each in (call.output, slope)
    )
    channels = np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:_CHANNELS]
    heat = np.maximum(maps @ slopes.mean(axis=(0, 1)), 0)
    return Maps(
        name=call.layer.name,
        shape=maps.shape,
        is_pooled=isinstance(call.layer, _POOLING),
        strongest=maps[..., channels],
        channels=channels,
        heat=heat / heat.max() if heat.any() else heat,
    )


def _where(heat: np.ndarray) -> str:
    """The place of the strongest evidence in words."""
    if not heat.any():
        return "nowhere"
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    across = (column + 0.5) / heat.shape[1]
    down = (row + 0.5) / heat.shape[0]
    return (
        f"most at {across:.0%} of the width from the left and {down:.0%} of the height from the top"
    )
