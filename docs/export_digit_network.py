"""Train the network of the page "Try it" and write it as a script that a browser loads.

    python docs/export_digit_network.py

The network is that of lab 01's digit pad in a few seconds of training: digits of 8 × 8 pixels in
black and white. On the page, TensorFlow.js computes with its weights: tf-core.min.js and
tf-backend-cpu.min.js are the npm packages @tensorflow/tfjs-core and @tensorflow/tfjs-backend-cpu,
version 4.22.0, built for ES2017, Apache-2.0.
"""

import base64
import json
from pathlib import Path

import keras
import numpy as np
from scipy.ndimage import shift

from dltlab import data, training

FILE = Path(__file__).parent / "static" / "taste" / "network.js"
HIDDEN = 64
STEPS, BATCH_SIZE, PEAK_RATE = 3000, 64, 0.004
EXAMPLES = slice(10, 50)  # of the test images


def ink(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of a split, 1.0 for ink and 0.0 for paper: `(n, 8, 8)`; and the labels."""
    images, labels = data.arrays("digits", split)
    return (images[..., 0] >= 0.5).astype(np.float32), labels


def with_neighbors(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add each image moved by one pixel to the left, right, top and bottom."""
    moves = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    moved = [shift(images, (0, *move), order=0) for move in moves]
    return np.concatenate(moved), np.tile(labels, len(moves))


def encoded(array: np.ndarray) -> str:
    """Return little-endian float32 values as base64."""
    return base64.b64encode(array.astype("<f4").tobytes()).decode()


def main() -> None:
    """Train, print the accuracy on the test images, and write the script."""
    keras.utils.set_random_seed(1)
    images, labels = with_neighbors(*ink("train"))
    test_images, test_labels = ink("test")
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.Flatten(),
            keras.layers.Dense(HIDDEN, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.Adam(training.one_cycle(PEAK_RATE, num_steps=STEPS)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    epochs = round(STEPS * BATCH_SIZE / len(images))
    model.fit(images, labels, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    _, accuracy = model.evaluate(test_images, test_labels, verbose=0)
    network = {
        "accuracy": round(float(accuracy), 4),
        "numTest": len(test_labels),
        "layers": [
            {"shape": list(kernel.shape), "kernel": encoded(kernel), "bias": encoded(bias)}
            for kernel, bias in (layer.get_weights() for layer in model.layers if layer.weights)
        ],
        "examples": [
            "".join(str(int(pixel)) for pixel in image.flat) for image in test_images[EXAMPLES]
        ],
    }
    FILE.write_text(f"const dltlabNetwork = {json.dumps(network, indent=1)};\n")
    print(f"{accuracy:.4f} of {len(test_labels)} test images; {FILE.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
