"""Look inside a trained network: its filters, its feature maps, and Grad-CAM: `inspect`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np

from dltlab.display import Result, printable
from dltlab.errors import Invalid, NotFound, Unavailable
from dltlab.models import LayerCall, record_layer_calls, shape_text
from dltlab.training.drawing import as_image, label, mosaic
from dltlab.training.probabilities import (
    OUTPUT_ACTIVATIONS,
    checked_class_names,
    ends_in_probabilities,
    is_multi_label,
    last_operation,
    probabilities,
)

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf
    from matplotlib.figure import Figure

_MAX_CHANNELS, _MAX_LAYERS, _MAX_FILTERS = 6, 4, 64  # in a figure
_POOLING = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """The output of one layer for the image.

    Attributes:
        layer: The name of the layer.
        shape: Rows, columns and channels.
        is_pooling: Whether the layer only reduces the resolution of another layer's maps.
        strongest: float32 `(rows, columns, k)`: the maps of the channels with the largest standard
            deviation, at most 6, the largest first.
        channels: The numbers of these channels, `(k,)`.
        heatmap: float32 `(rows, columns)`: the evidence for the target class by Grad-CAM, scaled
            to a maximum of 1; all 0 if there is none.
    """

    layer: str
    shape: tuple[int, ...]
    is_pooling: bool
    strongest: np.ndarray
    channels: np.ndarray
    heatmap: np.ndarray


@dataclass(frozen=True, repr=False, eq=False)
class Inspection(Result):
    """What `inspect` returns: the network's view of one image.

    Attributes:
        image: float32 `(height, width, channels)`.
        target: The name of the class whose evidence is shown.
        probability: The probability of that class.
        predicted: The name of the most probable class.
        convolution: The name of the first convolution.
        kernel: Its weights, float32 `(rows, columns, inputs, filters)`.
        layers: The layers with feature maps, in the order in which they run.
    """

    image: np.ndarray
    target: str
    probability: float
    predicted: str
    convolution: str
    kernel: np.ndarray
    layers: tuple[FeatureMaps, ...]

    @property
    def summary(self) -> str:
        """The prediction and the target class in a sentence."""
        return (
            f"Predicted: {printable(self.predicted)}; target class: {printable(self.target)}, "
            f"probability {self.probability:.3f}. {len(self.layers)} layers have feature maps."
        )

    @property
    def table(self) -> "pd.DataFrame":
        """One row per layer with feature maps."""
        import pandas as pd

        rows = [(maps.layer, *maps.shape) for maps in self.layers]
        return pd.DataFrame(rows, columns=["layer", "rows", "columns", "channels"])

    def filters(self) -> "Filters":
        """Return the filters of the first convolution."""
        return Filters(self.convolution, self.kernel)

    def activations(self) -> "Activations":
        """Return the feature maps of the layers."""
        return Activations(self.layers)

    def grad_cam(self, layer: str | None = None) -> "GradCam":
        """Return where in the image the evidence for the target class is.

        Gradient-weighted class activation mapping (R. R. Selvaraju and others, Grad-CAM: visual
        explanations from deep networks via gradient-based localization, ICCV 2017,
        arXiv:1610.02391): the feature maps of a layer, each weighted by the mean gradient of the
        class's logit with respect to it, are summed, and negative values are set to 0.

        Args:
            layer: The name of a layer with feature maps; by default the last one that is not a
                pooling layer.

        Raises:
            NotFound: There is no such layer.
        """
        return GradCam(self.image, self.target, self.probability, self._maps_of(layer))

    def figure(self) -> "Figure":
        """Draw Grad-CAM for the default layer."""
        return self.grad_cam().figure()

    @property
    def alt(self) -> str:
        """The description of the figure."""
        return self.grad_cam().alt

    def show(self) -> None:
        """Show the filters, the activations, and Grad-CAM."""
        self.filters().show()
        self.activations().show()
        self.grad_cam().show()

    def _maps_of(self, layer: str | None) -> FeatureMaps:
        if layer is None:
            convolved = [maps for maps in self.layers if not maps.is_pooling]
            return (convolved or self.layers)[-1]
        by_name = {maps.layer: maps for maps in self.layers}
        if layer not in by_name:
            raise NotFound(
                f"No layer '{layer}' has feature maps. Choose from {', '.join(by_name)}."
            )
        return by_name[layer]


@dataclass(frozen=True, repr=False, eq=False)
class Filters(Result):
    """The filters of a convolution.

    Attributes:
        layer: The name of the layer.
        kernel: Its weights, float32 `(rows, columns, inputs, filters)`.
    """

    layer: str
    kernel: np.ndarray

    @property
    def table(self) -> "pd.DataFrame":
        """One row per filter."""
        import pandas as pd

        filters = np.moveaxis(self.kernel, -1, 0).reshape(self.kernel.shape[-1], -1)
        return pd.DataFrame(
            {
                "filter": range(len(filters)),
                "smallest weight": filters.min(axis=1),
                "largest weight": filters.max(axis=1),
            }
        )

    @property
    def summary(self) -> str:
        """The number and size of the filters in a sentence."""
        return (
            f"The first convolution, {self.layer}: {self._shown}, {self._colors}, each scaled by "
            "its largest weight; mid-gray is 0."
        )

    @property
    def _shown(self) -> str:
        rows, columns, _, total = self.kernel.shape
        number = f"{total}" if total <= _MAX_FILTERS else f"{_MAX_FILTERS} of {total}"
        return f"{number} filters of {shape_text((rows, columns))} weights"

    @property
    def _colors(self) -> str:
        num_inputs = self.kernel.shape[2]
        return {1: "in gray", 3: "in color"}.get(num_inputs, f"as the mean of {num_inputs} inputs")

    def figure(self) -> "Figure":
        """Draw the filters as images.

        Three inputs are drawn as red, green and blue, any other number as their mean.
        """
        from matplotlib.figure import Figure

        num_shown = min(self.kernel.shape[-1], _MAX_FILTERS)
        largest = np.abs(self.kernel).max(axis=(0, 1, 2))
        scaled = self.kernel / np.where(largest > 0, 2 * largest, 1) + 0.5
        num_columns = min(8, num_shown)
        num_rows = -(-num_shown // num_columns)
        size = (max(0.8 * num_columns, 5), 0.8 * num_rows + 0.8)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        tiles = np.stack([as_image(scaled[..., place]) for place in range(num_shown)])
        grid = mosaic(tiles, num_columns)
        axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        figure.suptitle(
            f"{label(self.layer, 30)}: {self._shown}, {self._colors};\n"
            "each scaled by its largest weight, mid-gray is 0",
            fontsize=10,
        )
        return figure


@dataclass(frozen=True, repr=False, eq=False)
class Activations(Result):
    """The feature maps of the layers for one image.

    Attributes:
        layers: The layers with feature maps, in the order in which they run.
    """

    layers: tuple[FeatureMaps, ...]

    @property
    def table(self) -> "pd.DataFrame":
        """One row per layer, with the channels that vary most over the image."""
        import pandas as pd

        rows = [
            (maps.layer, shape_text(maps.shape), ", ".join(map(str, maps.channels)))
            for maps in self.layers
        ]
        return pd.DataFrame(rows, columns=["layer", "shape", "strongest channels"])

    @property
    def _shown(self) -> list[FeatureMaps]:
        """At most 4 layers, evenly spaced from the first to the last."""
        num_shown = min(len(self.layers), _MAX_LAYERS)
        places = np.linspace(0, len(self.layers) - 1, num_shown).round()
        return [self.layers[int(place)] for place in places]

    @property
    def _number_shown(self) -> str:
        total, num_shown = len(self.layers), len(self._shown)
        return f"all {total}" if num_shown == total else f"{num_shown} of {total}"

    @property
    def summary(self) -> str:
        """The layers and the shapes of their feature maps in a sentence."""
        names = ", ".join(f"{maps.layer} {shape_text(maps.shape)}" for maps in self._shown)
        return (
            f"Feature maps of {self._number_shown} layers, with rows, columns and channels: "
            f"{names}. For each layer, the channels that vary most over the image."
        )

    def figure(self) -> "Figure":
        """Draw the feature maps, one row per layer.

        Each row shows at most 6 channels, each from its lowest value (dark) to its highest
        (bright).
        """
        from matplotlib.figure import Figure

        shown = self._shown
        figure = Figure(figsize=(9.2, 1.2 * len(shown) + 0.9), layout="constrained")
        panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        for axes, maps in zip(panels, shown, strict=True):
            axes.set(xticks=[], yticks=[], frame_on=False)
            channels = np.moveaxis(maps.strongest, -1, 0)
            lowest = channels.min(axis=(1, 2), keepdims=True)
            ranges = channels.max(axis=(1, 2), keepdims=True) - lowest
            tiles = (channels - lowest) / np.where(ranges > 0, ranges, 1)
            axes.imshow(
                mosaic(tiles, _MAX_CHANNELS),
                cmap="viridis",
                vmin=0,
                vmax=1,
                interpolation="nearest",
            )
            axes.set_ylabel(
                f"{label(maps.layer, 24)}\n{shape_text(maps.shape)}",
                rotation=0, ha="right", va="center", fontsize=8,
            )  # fmt: skip
        figure.suptitle(
            f"Feature maps of {self._number_shown} layers: the channels that vary most,\n"
            "each from its lowest value (dark) to its highest (bright)",
            fontsize=10,
        )
        return figure


@dataclass(frozen=True, repr=False, eq=False)
class GradCam(Result):
    """Where in an image one layer finds the evidence for a class.

    Attributes:
        image: float32 `(height, width, channels)`.
        target: The name of the class.
        probability: The probability of that class.
        maps: The layer's feature maps and heatmap.
    """

    image: np.ndarray
    target: str
    probability: float
    maps: FeatureMaps

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {"evidence": "{:.3f}".format}

    @property
    def table(self) -> "pd.DataFrame":
        """One row per position of the heatmap with evidence, the strongest first."""
        import pandas as pd

        heatmap = self.maps.heatmap
        rows, columns = np.nonzero(heatmap)
        table = pd.DataFrame({"row": rows, "column": columns, "evidence": heatmap[rows, columns]})
        return table.sort_values("evidence", ascending=False, kind="stable", ignore_index=True)

    @property
    def summary(self) -> str:
        """The place of the strongest evidence in a sentence."""
        return (
            f"Grad-CAM: an image, and over it where layer {self.maps.layer} finds the evidence for "
            f"'{printable(self.target)}', which has the probability {self.probability:.2f}: "
            f"{_strongest_place(self.maps.heatmap)}."
        )

    def figure(self) -> "Figure":
        """Draw the image, and the heatmap over a gray copy of it."""
        from matplotlib.figure import Figure

        maps = self.maps
        height, width = self.image.shape[:2]
        image = as_image(self.image)
        gray = image.mean(axis=-1) if image.ndim == 3 else image
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.imshow(image, cmap="gray", vmin=0, vmax=1)
        left.set_title("the image", fontsize=10)
        right.imshow(gray, cmap="gray", vmin=0, vmax=1)
        heatmap = right.imshow(
            maps.heatmap, cmap="inferno", alpha=0.5, vmin=0, vmax=1,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="bilinear",
        )  # fmt: skip
        note = "" if maps.heatmap.any() else ": no evidence"
        right.set_title(f"{label(maps.layer, 30)}, {shape_text(maps.shape)}{note}", fontsize=10)
        for axes in (left, right):
            axes.set(xticks=[], yticks=[])
        bar = figure.colorbar(heatmap, ax=right, fraction=0.046)
        bar.set_label("evidence, relative to the strongest")
        figure.suptitle(
            f"Grad-CAM of '{label(self.target)}', probability {self.probability:.2f}", fontsize=11
        )
        return figure


def inspect(
    model: keras.Model,
    image: np.ndarray,
    target: int | str | None = None,
    class_names: Sequence[str] | None = None,
) -> Inspection:
    """Run one image through a model and return what each layer makes of it.

    Works for every kind of model, also nested and subclassed ones, that contains a
    `keras.layers.Conv2D` and has feature maps with the channels last.

    Args:
        model: A model with outputs `(b, classes)`, logits or probabilities. If its last layer has
            a softmax or sigmoid as activation, Grad-CAM uses the logits before it; if its last
            layer or operation is one, the logarithm of the probability.
        image: float32 `(height, width, channels)` in [0, 1].
        target: The class whose evidence to show, by number, or by name if there are `class_names`;
            by default the predicted one.
        class_names: The names of the classes, in the order of the labels; by default their
            numbers.

    Raises:
        Invalid: The model has no convolution or no feature maps, or the image or a name does not
            fit it.
        NotFound: There is no such class.
        Unavailable: Keras does not run on TensorFlow.
    """
    if keras.config.backend() != "tensorflow":
        raise Unavailable(
            f"inspect needs Keras on TensorFlow for its gradients, and it runs on "
            f"{keras.config.backend()}: set KERAS_BACKEND=tensorflow and restart Python."
        )
    image = _checked_image(image)
    scores = probabilities(model, image[np.newaxis], multi_label=is_multi_label(model))[0]
    names = checked_class_names(class_names, len(scores))
    number = int(scores.argmax()) if target is None else _class_number(target, names)
    convolution, layers = _run(model, image, number)
    return Inspection(
        image=image,
        target=names[number],
        probability=float(scores[number]),
        predicted=names[int(scores.argmax())],
        convolution=convolution.name,
        kernel=keras.ops.convert_to_numpy(keras.ops.cast(convolution.kernel, "float32")),
        layers=layers,
    )


def _checked_image(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image, np.float32)
    if image.ndim != 3:
        raise Invalid(
            f"The image has the shape {image.shape}; it must be (height, width, channels): one "
            "image, without a batch."
        )
    if not np.isfinite(image).all():
        raise Invalid("The image contains pixels that are NaN or infinite.")
    return image


def _class_number(target: int | str, names: tuple[str, ...]) -> int:
    """Return the number of a class."""
    if isinstance(target, str):
        if target not in names:
            raise NotFound(f"There is no class '{target}'. The classes are: {', '.join(names)}.")
        return names.index(target)
    if not 0 <= target < len(names):
        raise NotFound(f"There is no class {target}: the model has {len(names)}, numbered from 0.")
    return int(target)


def _run(
    model: keras.Model, image: np.ndarray, number: int
) -> tuple[keras.layers.Conv2D, tuple[FeatureMaps, ...]]:
    """Return the first convolution of a model, and the feature maps of its layers.

    Raises:
        Invalid: The model has no convolution, or no layer has feature maps.
    """
    import tensorflow as tf

    pixels = tf.constant(image[np.newaxis])
    with (
        tf.GradientTape(watch_accessed_variables=False) as tape,
        record_layer_calls() as calls,
        _logits(model),
    ):
        tape.watch(pixels)
        score = _score(model, model(pixels, training=False), number)
    first = next((call for call in calls if isinstance(call.layer, keras.layers.Conv2D)), None)
    if first is None:
        raise Invalid(
            "The model has no convolution (keras.layers.Conv2D), so it has no feature maps: use a "
            "convolutional network."
        )
    map_calls = _calls_with_maps(calls, first.begin)
    if not map_calls:
        raise Invalid(
            "No layer of the model has feature maps: each reduces the image to a single position. "
            "Use smaller kernels in its convolutions."
        )
    outputs = [call.output for call in map_calls]
    gradients = tape.gradient(score, outputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return first.layer, tuple(map(_feature_maps, map_calls, gradients))


@contextmanager
def _logits(model: keras.Model) -> Iterator[None]:
    """Disable a softmax or sigmoid that is the activation of the last layer."""
    last = last_operation(model)
    activation = getattr(last, "activation", None)
    if activation not in OUTPUT_ACTIVATIONS:
        yield
        return
    last.activation = keras.activations.linear
    try:
        yield
    finally:
        last.activation = activation


def _score(model: keras.Model, outputs: "tf.Tensor", number: int) -> "tf.Tensor":
    """Return the logit of a class, whose gradient Grad-CAM uses."""
    has_one_output = outputs.shape[-1] == 1  # for two classes
    score = keras.ops.cast(outputs[0, 0 if has_one_output else number], "float32")
    if ends_in_probabilities(model):
        score = keras.ops.log(score + keras.config.epsilon())
    return -score if has_one_output and number == 0 else score


def _calls_with_maps(calls: list[LayerCall], begin: int) -> list[LayerCall]:
    """Return the calls, from the first convolution on, with new feature maps as output."""
    by_output: dict[int, LayerCall] = {}
    for place, call in enumerate(calls[begin:], begin):
        shape = tuple(getattr(call.output, "shape", ()))
        has_inner_calls = call.begin < place
        if not has_inner_calls and len(shape) == 4 and max(shape[1:3]) > 1:
            # A layer that returns its input, as dropout in inference, returns the same object.
            by_output.setdefault(id(call.output), call)
    return list(by_output.values())


def _feature_maps(call: LayerCall, gradient: "tf.Tensor") -> FeatureMaps:
    maps, gradients = (
        keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))[0]
        for tensor in (call.output, gradient)
    )
    channels = np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:_MAX_CHANNELS]
    heatmap = np.maximum(maps @ gradients.mean(axis=(0, 1)), 0)
    return FeatureMaps(
        layer=call.layer.name,
        shape=maps.shape,
        is_pooling=isinstance(call.layer, _POOLING),
        strongest=maps[..., channels],
        channels=channels,
        heatmap=heatmap / heatmap.max() if heatmap.any() else heatmap,
    )


def _strongest_place(heatmap: np.ndarray) -> str:
    """Describe where in the image the evidence is strongest."""
    if not heatmap.any():
        return "nowhere"
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    across = (column + 0.5) / heatmap.shape[1]
    down = (row + 0.5) / heatmap.shape[0]
    return (
        f"most at {across:.0%} of the width from the left and {down:.0%} of the height from the top"
    )
