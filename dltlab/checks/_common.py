"""What the checks of several labs need."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from dltlab.exercises import Array, attempt, require

# TensorFlow takes seconds to import, so the functions that need it import it themselves.

_MAX_DIFFERENCE = 0.3  # of the logits of the same network; int8 differs by some hundredths


def require_model(model: Any) -> None:
    """Reject what is not a Keras model."""
    import keras

    require(
        isinstance(model, keras.Model),
        f"You return an object of type `{type(model).__name__}`; return a Keras model.",
    )


def scores_of(model: Any, images: np.ndarray, num_scores: int | None = None) -> np.ndarray:
    """Return what `model` computes from `images`; reject it where it cannot.

    Args:
        model: A Keras model.
        images: An array of images, the first axis being that of the batch.
        num_scores: Number of scores that the model must give for each image.
    """
    with attempt(f"calling your model on {len(images):,} images of shape {images.shape[1:]}"):
        output = model(images, training=False)
    spec = Array("model's output")
    scores: np.ndarray = spec.convert(output)
    require(
        np.isfinite(scores).all(),
        "Some of your model's scores are not finite. Is the learning rate too large?",
    )
    spec.read(scores, None if num_scores is None else (len(images), num_scores))
    return scores


def flat_layers(model: Any) -> Iterator[Any]:
    """Yield the layers of `model`, and those of the models in it."""
    for layer in model.layers:
        yield from flat_layers(layer) if hasattr(layer, "layers") else [layer]


def set_weights(model: Any) -> None:
    """Give the weights of `model` values that depend only on their names, order and shapes.

    So two models of the same layers compute the same, however they were written. Biases are 0, as
    if there were none.
    """
    draw: Mapping[str, Callable[[np.random.Generator, Any], np.ndarray]] = {
        "kernel": lambda generator, shape: generator.normal(0, np.prod(shape[:-1]) ** -0.5, shape),
        "bias": lambda _, shape: np.zeros(shape),
        "gamma": lambda _, shape: np.ones(shape),
        "beta": lambda generator, shape: generator.normal(size=shape),
        "moving_mean": lambda generator, shape: generator.normal(size=shape),
        "moving_variance": lambda generator, shape: generator.uniform(4, 9, shape),
    }
    places: Counter[str] = Counter()
    for variable in model.weights:
        if variable.name in draw:
            generator = np.random.default_rng([places[variable.name], *variable.name.encode()])
            variable.assign(draw[variable.name](generator, tuple(variable.shape)))
            places[variable.name] += 1


def require_logits(model: Any, images: np.ndarray) -> None:
    """Reject a model that does something to its scores after its last layer; changes its weights.

    Scores are proportional to the weights of the last layer, unless an activation follows.
    """
    scores = scores_of(model, images)
    require(
        scores.min() < 0 or not np.allclose(scores.sum(axis=1), 1, atol=1e-4),
        "Your model returns probabilities. Leave the softmax out: the loss applies it.",
    )
    trainable = [layer for layer in flat_layers(model) if layer.trainable_variables]
    require(trainable, "None of the weights of your model can be trained.")
    for variable in trainable[-1].trainable_variables:
        variable.assign(-2 * variable)
    require(
        np.allclose(scores_of(model, images), -2 * scores, atol=1e-4 * np.abs(scores).max()),
        "The scores of your model pass an activation. Leave the activation of the last layer out.",
    )


def are_close_outputs(outputs: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether the logits of an engine are those of the network, but for its precision."""
    if outputs.shape != expected.shape:
        return False
    difference = np.linalg.norm(outputs - expected)
    return bool(difference < _MAX_DIFFERENCE * np.linalg.norm(expected))
