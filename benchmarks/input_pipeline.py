"""Measure how fast images are loaded: dltlab's pipeline, Keras' loader and a loop with Pillow.

    python benchmarks/input_pipeline.py [--json] [--epochs 9]

It uses the 20,000 JPEG files of CIFAR-10 in the mirror folder (DLTLAB_DATA_MIRROR). Every loader
yields batches of 128 float32 images and their labels in a new order in each epoch; the loaders take
turns, epoch by epoch. An epoch is timed from its start to its last batch. The figures of later
epochs are medians. `cached` is Keras' loader with its images kept in memory and shuffled, as
TensorFlow's performance guide recommends. The files are in the page cache.
"""

import argparse
import gc
import io
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ARCHIVE = "cifar10-jpg.tar"
SIZE, BATCH = 32, 128
TARGETS = {"first epoch": 4, "later epochs": 20}
DECODE_TARGET, WAITING_TARGET = 0.8, 0.03

Batches = Iterator[tuple[Any, Any]]


def keras_loader(folder: Path, cached: bool) -> Callable[[], Batches]:
    """Load with `image_dataset_from_directory`, as its documentation shows it."""
    import keras
    import tensorflow as tf

    options = {"image_size": (SIZE, SIZE), "verbose": False}
    if not cached:
        dataset = keras.utils.image_dataset_from_directory(folder, batch_size=BATCH, **options)
    else:
        images = keras.utils.image_dataset_from_directory(
            folder, batch_size=None, shuffle=False, **options
        )
        dataset = images.cache().shuffle(20_000).batch(BATCH)
    prefetched = dataset.prefetch(tf.data.AUTOTUNE)
    return lambda: iter(prefetched)


def pillow_loop(folder: Path) -> Callable[[], Batches]:
    """Open, decode and stack image by image."""
    from PIL import Image

    paths = sorted(folder.glob("*/*.jpg"))
    class_names = sorted({path.parent.name for path in paths})
    random = np.random.default_rng(1)

    def epoch() -> Batches:
        order = random.permutation(len(paths))
        for first in range(0, len(paths), BATCH):
            batch = [paths[index] for index in order[first : first + BATCH]]
            images = [np.asarray(Image.open(path).convert("RGB"), np.float32) for path in batch]
            labels = [class_names.index(path.parent.name) for path in batch]
            yield np.stack(images), np.array(labels)

    return epoch


def dltlab_loader(name: str) -> Callable[[], Batches]:
    """Load with `dltlab.data.load`."""
    from dltlab import data

    dataset = data.load(name, "all", batch_size=BATCH, shuffle=True)
    return lambda: iter(dataset)


def epoch_seconds(epoch: Callable[[], Batches]) -> float:
    """Return the time from the start of an epoch to its last batch."""
    gc.collect()  # so that no loader cleans up after another one
    start = time.perf_counter()
    for _ in epoch():
        pass
    return time.perf_counter() - start


def largest_difference(dltlab: Callable[[], Batches], pillow: Callable[[], Batches]) -> float:
    """Return the largest difference between the mean images of a class, in levels of 255."""

    def means(epoch: Callable[[], Batches], scale: float) -> np.ndarray:
        sums, counts = np.zeros((10, SIZE, SIZE, 3)), np.zeros(10)
        for images, labels in epoch():
            np.add.at(sums, np.asarray(labels), np.asarray(images, np.float64) * scale)
            np.add.at(counts, np.asarray(labels), 1)
        assert counts.sum() == 20_000, counts
        return sums / counts[:, None, None, None]

    return float(np.abs(means(dltlab, 255) - means(pillow, 1)).max())


def decode_rates(folder: Path, repeats: int) -> dict[str, float]:
    """Return images per second on one core: of libjpeg-turbo, `read_image` and Pillow."""
    import simplejpeg
    from PIL import Image

    from dltlab.data import read_image

    files = [path.read_bytes() for path in sorted(folder.glob("*/*.jpg"))[::5]]
    decoders: dict[str, Callable[[bytes], Any]] = {
        "libjpeg-turbo": simplejpeg.decode_jpeg,
        "dltlab": lambda content: read_image(content, SIZE, "crop"),
        "Pillow": lambda content: np.asarray(Image.open(io.BytesIO(content)).convert("RGB")),
    }
    rates: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(repeats):
        for name, decode in decoders.items():
            start = time.perf_counter()
            for content in files:
                decode(content)
            rates[name].append(len(files) / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


def profile_training(name: str) -> dict[str, float]:
    """Measure how long a training step of a small residual network waits for augmented images."""
    import keras

    from dltlab import data

    dataset = data.load(
        name, "all", batch_size=BATCH, shuffle=True, augment=data.augmentation(crop=4, flip=True)
    )
    model = residual_network()
    profile = data.profile_pipeline(
        dataset, lambda batch: model.train_on_batch(*batch), seconds=10.0
    )
    keras.backend.clear_session()
    return {**dict(profile.stages), "step alone": profile.step, "waiting": profile.waiting}


def residual_network() -> Any:
    """Make a network of three stages, 32, 64 and 128 channels; a third of a million parameters."""
    import keras
    from keras import layers

    inputs = x = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    for channels in (32, 64, 128):
        short = layers.Conv2D(channels, 1, strides=2, use_bias=False)(x)
        for strides in (2, 1):
            x = layers.Activation("relu")(layers.BatchNormalization()(x))
            x = layers.Conv2D(channels, 3, strides, padding="same", use_bias=False)(x)
        x = layers.Add()([x, short])
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu")(layers.BatchNormalization()(x)))
    model = keras.Model(inputs, layers.Dense(10)(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def measure(folder: Path, epochs: int) -> dict[str, Any]:
    """Measure everything in one run."""
    from dltlab import data

    start = time.perf_counter()
    data.import_images(folder, "cifar-jpg", size=SIZE)
    import_seconds = time.perf_counter() - start
    loaders = {
        "dltlab": dltlab_loader("cifar-jpg"),
        "keras": keras_loader(folder, cached=False),
        "keras, cached": keras_loader(folder, cached=True),
        "Pillow loop": pillow_loop(folder),
    }
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(epochs):
        for name, epoch in loaders.items():
            times[name].append(epoch_seconds(epoch))
    return {
        "import_seconds": import_seconds,
        "first epoch": {name: seconds[0] for name, seconds in times.items()},
        "later epochs": {name: statistics.median(seconds[1:]) for name, seconds in times.items()},
        "largest difference": largest_difference(loaders["dltlab"], loaders["Pillow loop"]),
        "decode": decode_rates(folder, 5),
        "training": profile_training("cifar-jpg"),
    }


def report(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a page in Markdown."""
    loaders = list(results["first epoch"])
    others = loaders[1:]
    columns = " | ".join([*loaders, *(f"× {name}" for name in others)])
    yield f"| images/s | {columns} | target |"
    yield "|---" * (2 + len(loaders) + len(others)) + "|"
    for row, target in TARGETS.items():
        seconds = results[row]
        rates = " | ".join(f"{20_000 / seconds[name]:,.0f}" for name in loaders)
        ratios = " | ".join(f"{seconds[name] / seconds['dltlab']:.1f}" for name in others)
        yield f"| {row} | {rates} | {ratios} | ≥ {target} × keras |"
    yield ""
    decode, training = results["decode"], results["training"]
    import_seconds = results["import_seconds"]
    yield f"The import, once: {import_seconds:.1f} s, {20_000 / import_seconds:,.0f} images/s."
    yield (
        f"The class means of dltlab and the Pillow loop differ by at most "
        f"{results['largest difference']:.4f} of 255 levels."
    )
    yield (
        f"Decoding, images/s on one core: dltlab {decode['dltlab']:,.0f}, libjpeg-turbo alone "
        f"{decode['libjpeg-turbo']:,.0f}, a ratio of "
        f"{decode['dltlab'] / decode['libjpeg-turbo']:.2f} (target {DECODE_TARGET}); "
        f"Pillow {decode['Pillow']:,.0f}."
    )
    yield (
        f"Training a residual network on shifted and mirrored images: a step alone processes "
        f"{training['step alone']:,.0f} images/s; it waits {training['waiting']:.1%} of the time "
        f"(target below {WAITING_TARGET:.0%}). The pipeline alone: {training['prefetch']:,.0f} "
        "images/s."
    )


def main() -> None:
    """Measure, and print a page in Markdown or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--epochs", type=int, default=9)
    options = parser.parse_args()
    archive = Path(os.environ.get("DLTLAB_DATA_MIRROR", ""), ARCHIVE)
    if not archive.is_file():
        sys.exit(f"{ARCHIVE} is missing: set DLTLAB_DATA_MIRROR to the folder that holds it.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from dltlab.devices import inventory

    machine = inventory(ask_tensorflow=False).cpu
    hardware = f"{machine.model}, {machine.cores:g} cores"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DLTLAB_DATA_DIR"] = f"{folder}/store"
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        results = measure(Path(folder, "cifar10"), options.epochs)
    if options.json:
        print(json.dumps({"hardware": hardware, **results}, indent=1))
        return
    print(f"{hardware}\n")
    for line in report(results):
        print(line)


if __name__ == "__main__":
    main()
