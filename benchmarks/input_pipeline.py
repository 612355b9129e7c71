"""How fast images come: dltlab's import and pipeline beside Keras' and a loop with Pillow.

    python benchmarks/input_pipeline.py [--json] [--epochs 9]

On the 20,000 JPEG files of CIFAR-10 in the mirror folder (DLTLAB_DATA_MIRROR). Every side gives
batches of 128 float32 images and their labels in an order that is new in each epoch; the sides
take turns, epoch by epoch. An epoch is timed from its beginning to its last batch. Later epochs are
a median. `cached` is Keras' pipeline with its images kept in memory and shuffled, as TensorFlow's
guide on performance advises. The files are in the page cache.
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
DECODE, WAITING = 0.8, 0.03

Batches = Iterator[tuple[Any, Any]]


def keras_pipeline(folder: Path, cached: bool) -> Callable[[], Batches]:
    """`image_dataset_from_directory`, as its documentation shows it."""
    import keras
    import tensorflow as tf

    options = {"image_size": (SIZE, SIZE), "verbose": False}
    if not cached:
        dataset = keras.utils.image_dataset_from_directory(folder, batch_size=BATCH, **options)
    else:
        plain = keras.utils.image_dataset_from_directory(
            folder, batch_size=None, shuffle=False, **options
        )
        dataset = plain.cache().shuffle(20_000).batch(BATCH)
    ready = dataset.prefetch(tf.data.AUTOTUNE)
    return lambda: iter(ready)


def pillow_loop(folder: Path) -> Callable[[], Batches]:
    """Open, decode, stack."""
    from PIL import Image

    paths = sorted(folder.glob("*/*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    random = np.random.default_rng(1)

    def epoch() -> Batches:
        order = random.permutation(len(paths))
        for first in range(0, len(paths), BATCH):
            chosen = [paths[place] for place in order[first : first + BATCH]]
            images = [np.asarray(Image.open(path).convert("RGB"), np.float32) for path in chosen]
            yield np.stack(images), np.array([classes.index(path.parent.name) for path in chosen])

    return epoch


def ours(name: str) -> Callable[[], Batches]:
    """`dltlab.data.load`."""
    from dltlab import data

    dataset = data.load(name, "all", batch_size=BATCH, shuffle=True)
    return lambda: iter(dataset)


def seconds_of_an_epoch(epoch: Callable[[], Batches]) -> float:
    """From the beginning to the last batch."""
    gc.collect()  # what one side has left is not for another to clear away
    start = time.perf_counter()
    for _ in epoch():
        pass
    return time.perf_counter() - start


def largest_difference(ours_: Callable[[], Batches], theirs: Callable[[], Batches]) -> float:
    """Between the mean image of each class on both sides, in levels of 255."""

    def means(epoch: Callable[[], Batches], white: float) -> np.ndarray:
        sums, counts = np.zeros((10, SIZE, SIZE, 3)), np.zeros(10)
        for images, labels in epoch():
            np.add.at(sums, np.asarray(labels), np.asarray(images, np.float64) * white)
            np.add.at(counts, np.asarray(labels), 1)
        assert counts.sum() == 20_000, counts
        return sums / counts[:, None, None, None]

    return float(np.abs(means(ours_, 255) - means(theirs, 1)).max())


def decode_rates(folder: Path, repeats: int) -> dict[str, float]:
    """Images a second and core: libjpeg-turbo's decoder, our decode stage, and Pillow."""
    import simplejpeg
    from PIL import Image

    from dltlab.data.images import read_image

    files = [path.read_bytes() for path in sorted(folder.glob("*/*.jpg"))[::5]]
    sides: dict[str, Callable[[bytes], Any]] = {
        "libjpeg-turbo": simplejpeg.decode_jpeg,
        "dltlab": lambda content: read_image(content, SIZE, "crop"),
        "Pillow": lambda content: np.asarray(Image.open(io.BytesIO(content)).convert("RGB")),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, decode in sides.items():
            start = time.perf_counter()
            for content in files:
                decode(content)
            rates[name].append(len(files) / (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in rates.items()}


def waiting_share(name: str) -> dict[str, float]:
    """How long a training step of a small residual network waits, with images augmented."""
    import keras

    from dltlab import data

    dataset = data.load(
        name, "all", batch_size=BATCH, shuffle=True, augment=data.augmentation(crop=4, flip=True)
    )
    model = residual_network()
    found = data.profile_pipeline(dataset, lambda batch: model.train_on_batch(*batch), seconds=10.0)
    keras.backend.clear_session()
    return {**dict(found.stages), "the step alone": found.step, "waiting": found.waiting}


def residual_network() -> Any:
    """Three stages of 32, 64 and 128 channels; a third of a million parameters."""
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
    """Everything, in one run."""
    from dltlab import data

    start = time.perf_counter()
    data.import_images(folder, "cifar-jpg", size=SIZE)
    import_seconds = time.perf_counter() - start
    sides = {
        "dltlab": ours("cifar-jpg"),
        "keras": keras_pipeline(folder, cached=False),
        "keras, cached": keras_pipeline(folder, cached=True),
        "Pillow loop": pillow_loop(folder),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(epochs):
        for name, epoch in sides.items():
            times[name].append(seconds_of_an_epoch(epoch))
    return {
        "import_seconds": import_seconds,
        "first epoch": {name: each[0] for name, each in times.items()},
        "later epochs": {name: statistics.median(each[1:]) for name, each in times.items()},
        "largest difference": largest_difference(sides["dltlab"], sides["Pillow loop"]),
        "decode": decode_rates(folder, 5),
        "step": waiting_share("cifar-jpg"),
    }


def report(found: dict[str, Any]) -> Iterator[str]:
    """The lines of a page in Markdown."""
    sides = list(found["first epoch"])
    peers = sides[1:]
    over = " | ".join(f"× {peer}" for peer in peers)
    yield f"| images/s | {' | '.join(sides)} | {over} | target |"
    yield "|---" * (2 + len(sides) + len(peers)) + "|"
    for row, target in TARGETS.items():
        rates = " | ".join(f"{20_000 / found[row][side]:,.0f}" for side in sides)
        ratios = " | ".join(f"{found[row][peer] / found[row]['dltlab']:.1f}" for peer in peers)
        yield f"| {row} | {rates} | {ratios} | ≥ {target} × keras |"
    yield ""
    decode, step = found["decode"], found["step"]
    seconds = found["import_seconds"]
    yield f"The import, once: {seconds:.1f} s, {20_000 / seconds:,.0f} images/s."
    yield (
        f"The class means of dltlab and the Pillow loop differ by at most "
        f"{found['largest difference']:.4f} of 255 levels."
    )
    yield (
        f"Decoding, images/s on one core: {decode['dltlab']:,.0f}; libjpeg-turbo itself "
        f"{decode['libjpeg-turbo']:,.0f}, so {decode['dltlab'] / decode['libjpeg-turbo']:.2f} of "
        f"it (target {DECODE}); Pillow {decode['Pillow']:,.0f}."
    )
    yield (
        f"A residual network, images shifted and mirrored: {step['the step alone']:,.0f} images/s"
        f"; it waits {step['waiting']:.1%} of the time (target below {WAITING:.0%}). "
        f"The pipeline alone: {step['prefetch']:,.0f}."
    )


def main() -> None:
    """Measure, and print a page or JSON."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--json", action="store_true")
    options.add_argument("--epochs", type=int, default=9)
    chosen = options.parse_args()
    archive = Path(os.environ.get("DLTLAB_DATA_MIRROR", ""), ARCHIVE)
    if not archive.is_file():
        sys.exit(f"{ARCHIVE} is missing: name the folder that holds it in DLTLAB_DATA_MIRROR.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from dltlab.devices import inventory

    machine = inventory(ask_tensorflow=False).cpu
    hardware = f"{machine.model}, {machine.cores:g} cores"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DLTLAB_DATA_DIR"] = f"{folder}/store"
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        found = measure(Path(folder, "cifar10"), chosen.epochs)
    if chosen.json:
        print(json.dumps({"hardware": hardware, **found}, indent=1))
        return
    print(f"{hardware}\n")
    for line in report(found):
        print(line)


if __name__ == "__main__":
    main()
