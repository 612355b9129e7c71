"""Exercises of lab 07, Input and precision."""

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from dltlab.exercises import (
    Array,
    Integer,
    Number,
    attempt,
    correct,
    exercise,
    question,
    require,
    wrong,
)


@exercise(
    "Without prefetching, the next batch is loaded only when the step has ended: the two times add "
    "up.",
    "With prefetching, both happen at the same time, and the slower one sets the pace.",
    "The device waits whenever it does not compute: `1 - step_seconds / seconds`.",
    returns=(Number("time"), Number("waiting fraction")),
    otherwise={
        "time": "`{call}`: your first value is {value}. From the start of one step to the start of "
        "the next, loading and computing either follow each other or overlap.",
        "waiting fraction": "`{call}`: your time is correct, but {value} is not the fraction of it "
        "in which the device does not compute.",
    },
)
def waiting():
    yield 0.03, 0.01, False
    yield 0.03, 0.01, True
    yield 0.02, 0.05, True
    yield 0.02, 0.05, False


@waiting.mistakes
def _(load_seconds, step_seconds, prefetch):
    added, slower = load_seconds + step_seconds, max(load_seconds, step_seconds)
    seconds = slower if prefetch else added
    share = 1 - step_seconds / seconds
    yield "`{call}`: the two cases are exchanged.", (added if prefetch else slower, ...)
    yield (
        "Your time does not depend on `prefetch`: what is different when loading and computing "
        "overlap?",
        (added, ...),
    )
    yield (
        "Your time is that of the slower part, also where nothing overlaps.",
        (slower, ...),
    )
    yield (
        "With prefetching, your time is that of loading. What if the step takes longer?",
        (load_seconds if prefetch else added, ...),
    )
    yield (
        "`{call}`: your second value, {value}, is the fraction in which the device computes, not "
        "that in which it waits.",
        (..., step_seconds / seconds),
    )
    yield "Your second value is in seconds; return a fraction of the time.", (..., share * seconds)
    yield "Your second value is a percentage; return a fraction in [0, 1].", (..., 100 * share)
    yield (
        "`{call}`: your second value compares loading with the step, not with the whole time.",
        (..., load_seconds / step_seconds),
    )


@waiting.accepts
def _(load_seconds, step_seconds, prefetch):
    waits = max(0.0, load_seconds - step_seconds) if prefetch else load_seconds
    return [step_seconds + waits, waits / (step_seconds + waits)]


@question
def no_wait_but_slow():
    """On a machine without a GPU, a step waits for 2 % of the time, but is slower than alone. Why?

    The step alone does 1,500 images per second, and fed by the pipeline only 900.
    """
    return [
        wrong(
            "The measurement of the waiting time is wrong.",
            "Both can be true: not to wait for data does not mean to have all the cores.",
        ),
        correct(
            "The pipeline decodes on the same cores on which the step computes.",
            "While the step runs, threads decode the next batches. They take time from the step, "
            "which does not count as waiting.",
        ),
        wrong(
            "The images are copied to the device in each step.",
            "Without a GPU nothing is copied. And the step alone would have to do it, too.",
        ),
        wrong(
            "The pipeline gives other batches each time, and the step alone always the same one.",
            "The time of a step does not depend on the values of its pixels.",
        ),
    ]


NUM_FILES, BATCH = 22, 5
_SECONDS = 0.01  # of decoding an image
_LIMIT = 5.0  # seconds to wait for what a pipeline does ahead
_IMAGE = (4, 4, 1)


class _Recorder:
    """The two functions that an answer gets, and what they were called with."""

    def __init__(self) -> None:
        self.num_decoded = self.num_augmented = 0
        self.most_at_once = self._at_once = 0
        self.ranks: set[int | None] = set()
        self._lock = threading.Lock()
        self.second_batch = threading.Event()

    def decode(self, path: Any, label: Any) -> Any:
        """Return an image whose pixels are the label."""
        import tensorflow as tf

        def run(number: np.ndarray) -> np.ndarray:
            with self._lock:
                self.num_decoded += 1
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
            time.sleep(_SECONDS)
            with self._lock:
                self._at_once -= 1
            return np.full(_IMAGE, number, np.float32)

        return tf.ensure_shape(tf.numpy_function(run, [label], tf.float32), _IMAGE), label

    def augment(self, images: Any, labels: Any) -> Any:
        """Add less than a half to the pixels, another number in each call."""
        import tensorflow as tf

        self.ranks.add(images.shape.rank)

        def run(values: np.ndarray) -> np.ndarray:
            with self._lock:
                self.num_augmented += 1
                added = 0.4 * (self.num_augmented * 0.618 % 1)
            if self.num_augmented > 1:
                self.second_batch.set()
            return np.asarray(values + np.float32(added), np.float32)

        return tf.ensure_shape(tf.numpy_function(run, [images], tf.float32), images.shape), labels


@exercise(
    "`tf.data.Dataset.from_tensor_slices((paths, labels))` has one path and label for each "
    "element.",
    "`dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE)` decodes several files at a time.",
    "What is expensive and always the same comes before `cache()`, what is different in each epoch "
    "after it: `shuffle(len(paths))`, then `batch(batch_size)`, then `map(augment)`.",
    "`prefetch(tf.data.AUTOTUNE)` is the last stage.",
)
def fast_pipeline(answer):
    """Run two epochs of the answer's pipeline, with functions that record their calls."""
    import tensorflow as tf

    recorder = _Recorder()
    paths = [f"image{number}.jpg" for number in range(NUM_FILES)]
    dataset = answer(paths, np.arange(NUM_FILES), recorder.decode, recorder.augment, BATCH)
    require(
        isinstance(dataset, tf.data.Dataset),
        f"You return an object of type `{type(dataset).__name__}`; return a `tf.data.Dataset`.",
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = 8  # however many cores there are
    options.experimental_optimization.inject_prefetch = False  # what the answer does, no more
    dataset = dataset.with_options(options)
    with attempt("reading the first batch"):
        iterator = iter(dataset)
        next(iterator)
    works_ahead = recorder.second_batch.wait(_LIMIT if recorder.num_augmented else 0)
    del iterator
    recorder.num_decoded = 0
    with attempt("reading two epochs"):
        epochs = [[(np.asarray(x), np.asarray(y)) for x, y in dataset] for _ in range(2)]
    for batches in epochs:
        _require_epoch(batches)
    require(
        recorder.num_augmented,
        "The images are not augmented: call `augment` with `dataset.map`.",
    )
    require(
        recorder.ranks == {4},
        "`augment` gets one image at a time. Batch first: then one call changes a whole batch.",
    )
    require(
        recorder.num_decoded < 1.5 * NUM_FILES,
        f"In two epochs, {recorder.num_decoded} files are decoded, and there are {NUM_FILES}: keep "
        "the decoded images with `cache()`.",
    )
    pixels, orders = [], []
    for batches in epochs:
        order = np.concatenate([labels for _, labels in batches])
        images = np.concatenate([images for images, _ in batches])
        pixels.append(images[np.argsort(order)])
        orders.append(order)
    require(
        not np.allclose(pixels[0], pixels[1]),
        "The augmented images are cached, so all epochs see the same changes: `cache()` comes "
        "before `augment`.",
    )
    require(
        not np.array_equal(orders[0], orders[1]),
        "Both epochs have the same order. `shuffle` after `cache()` gives each its own.",
    )
    batches_of = [{frozenset(labels.tolist()) for _, labels in batches} for batches in epochs]
    require(
        batches_of[0] != batches_of[1],
        "Both epochs have the same batches in another order: `shuffle` comes before `batch`.",
    )
    require(
        recorder.most_at_once > 1,
        "Only one file is decoded at a time: `map` has the argument `num_parallel_calls`.",
    )
    require(
        works_ahead,
        "While the device works on a batch, the pipeline does not prepare the next one: "
        "`prefetch` as the last stage.",
    )


def _require_epoch(batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Reject an epoch that does not have each image once, in batches."""
    require(batches, "Your pipeline ends without a batch.")
    shapes = {images.shape[1:] for images, _ in batches}
    require(
        shapes == {_IMAGE},
        f"A batch of your pipeline has images of the shape {shapes.pop()}, not {_IMAGE}: batch "
        "once, with `batch(batch_size)`.",
    )
    sizes = [len(images) for images, _ in batches]
    seen = np.sort(np.concatenate([labels for _, labels in batches]))
    require(
        len(seen) <= NUM_FILES,
        f"An epoch has {len(seen)} images, and there are {NUM_FILES}: do not repeat them.",
    )
    require(
        np.array_equal(seen, np.arange(NUM_FILES)),
        f"An epoch has {len(np.unique(seen))} of the {NUM_FILES} images. Each must be in it once, "
        "also those of an incomplete last batch.",
    )
    require(
        max(sizes) == BATCH,
        f"Your batches have {max(sizes)} images, not `batch_size` = {BATCH}.",
    )
    fits = all(
        np.all((images >= 0) & (np.abs(np.floor(images).mean(axis=(1, 2, 3)) - labels) < 0.1))
        for images, labels in (
            (part.reshape(len(part), *_IMAGE), labels) for part, labels in batches
        )
    )
    require(fits, "Images and labels no longer belong together: shuffle them together.")


@fast_pipeline.rejects("return a `tf.data.Dataset`")
def _(paths, labels, decode, augment, batch_size):
    return paths


@fast_pipeline.rejects("The images are not augmented")
def _(paths, labels, decode, augment, batch_size):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    return dataset.map(decode, num_parallel_calls=4).cache().batch(batch_size).prefetch(2)


@fast_pipeline.rejects("`augment` gets one image at a time")
def _(paths, labels, decode, augment, batch_size):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    dataset = dataset.map(decode, num_parallel_calls=4).cache().shuffle(len(paths))
    return dataset.map(augment).batch(batch_size).prefetch(2)


@fast_pipeline.rejects("keep the decoded images")
def _(paths, labels, decode, augment, batch_size):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths))
    dataset = dataset.map(decode, num_parallel_calls=4)
    return dataset.batch(batch_size).map(augment).prefetch(2)


@fast_pipeline.rejects("The augmented images are cached")
def _(paths, labels, decode, augment, batch_size):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths))
    dataset = dataset.map(decode, num_parallel_calls=4)
    return dataset.batch(batch_size).map(augment).cache().prefetch(2)


@fast_pipeline.rejects("Both epochs have the same order")
def _(paths, labels, decode, augment, batch_size):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths))
    dataset = dataset.map(decode, num_parallel_calls=4).cache()
    return dataset.batch(batch_size).map(augment).prefetch(2)


@fast_pipeline.rejects("the same batches in another order")
def _(paths, labels, decode, augment, batch_size):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    dataset = dataset.map(decode, num_parallel_calls=4).cache().batch(batch_size)
    return dataset.shuffle(len(paths)).map(augment).prefetch(2)


@fast_pipeline.rejects("Only one file is decoded at a time")
def _(paths, labels, decode, augment, batch_size):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels)).map(decode).cache()
    return dataset.shuffle(len(paths)).batch(batch_size).map(augment).prefetch(2)


@fast_pipeline.rejects("does not prepare the next one")
def _(paths, labels, decode, augment, batch_size):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    dataset = dataset.map(decode, num_parallel_calls=4).cache()
    return dataset.shuffle(len(paths)).batch(batch_size).map(augment)


@fast_pipeline.rejects("also those of an incomplete last batch")
def _(paths, labels, decode, augment, batch_size):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    dataset = dataset.map(decode, num_parallel_calls=4).cache().shuffle(len(paths))
    return dataset.batch(batch_size, drop_remainder=True).map(augment).prefetch(2)


def _bits(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).view(np.uint32)


def _from_bits(bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.uint32).view(np.float32)


@exercise(
    "`bits = values.view(np.uint32)` are the 32 bits of each number; the last 16 of them have to "
    "become 0: `bits & 0xFFFF0000`.",
    "That alone rounds towards 0. Add a half of the last place that is kept first: `0x8000`.",
    "A number exactly in the middle goes to the neighbor whose last bit is 0. So add `0x7FFF`, and "
    "the last bit that is kept: `(bits >> 16) & 1`.",
    "`(…).view(np.float32)` makes numbers of the bits again.",
    returns=Array("result", rtol=1e-7, atol=0.0),
    otherwise="`{call}`: not each of your numbers is the nearest one whose last 16 bits are 0.",
)
def to_bfloat16():
    yield (np.array([1.0, 1.001, 1.005, -3.14159, 100.3], np.float32),)
    draw = np.random.default_rng(7)
    scale = 10.0 ** draw.integers(-30, 30, (3, 4))
    yield ((draw.normal(size=(3, 4)) * scale).astype(np.float32),)
    # In the middle of two: 1 + 1/256 and 1 + 3/256, and their like.
    yield (np.array([1.00390625, 1.01171875, -2.0078125, 0.5, 0.0], np.float32),)


@to_bfloat16.mistake("Your numbers are rounded towards 0, not to the nearest: 1.005 is too small.")
def _(values):
    return _from_bits(_bits(values) & 0xFFFF0000)


@to_bfloat16.mistake("Your numbers are always rounded away from 0, also where 0 is nearer.")
def _(values):
    bits = _bits(values)
    return _from_bits(np.where(bits & 0xFFFF, (bits & 0xFFFF0000) + 0x10000, bits))


@to_bfloat16.mistake(
    "Close, but 1 + 1/256 lies in the middle of two numbers. Such a number goes to the neighbor "
    "whose last bit is 0."
)
def _(values):
    return _from_bits((_bits(values) + 0x8000) & 0xFFFF0000)


@to_bfloat16.mistake("You round to float16. It has more digits, but its largest number is 65,504.")
def _(values):
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


@to_bfloat16.mistake("You return the numbers as they are.")
def _(values):
    return values * np.float32(1)


@to_bfloat16.mistake("You return bits. `view(np.float32)` makes numbers of them again.")
def _(values):
    bits = _bits(values).astype(np.int64)
    return (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000


@to_bfloat16.accepts
def _(values):
    import tensorflow as tf

    return tf.cast(tf.cast(values, tf.bfloat16), tf.float32)


@to_bfloat16.accepts
def _(values):
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.round(mantissa * 256) / 256, exponent)


@question
def lost_update():
    """A weight is 1, an update −0.001. In which format does the weight change?

    The weight is stored in the format, and the sum is rounded to it.
    """
    return [
        wrong(
            "In bfloat16 and in float16.",
            "In bfloat16, the next number below 1 is 1 − 1/256, about 0.996. What is nearest to "
            "0.999?",
        ),
        wrong(
            "In bfloat16 only: it has the larger range.",
            "The range decides about 10⁻³⁰, not about 0.999.",
        ),
        correct(
            "In float16 only.",
            "Below 1, float16 has steps of 1/2048, bfloat16 of 1/256. In bfloat16, 0.999 becomes 1 "
            "again.",
        ),
        wrong(
            "In neither.",
            "float16 has 10 bits after the point: below 1, its steps are 1/2048.",
        ),
    ]


@exercise(
    "If a gradient is not finite: half of the scale, and the count begins again with 0.",
    "If all are finite, count the step. Only when `growth_steps` have been counted, the scale is "
    "doubled and the count begins again.",
    returns=(Number("scale"), Integer("count")),
    otherwise={
        "scale": "`{call}`: your scale is {value}. It is halved, kept or doubled.",
        "count": "`{call}`: your scale is correct, but the count is {value}. It counts the steps "
        "since the scale last changed.",
    },
)
def update_scale():
    yield 1024.0, 7, True, 20
    yield 1024.0, 7, False, 20
    yield 512.0, 19, True, 20
    yield 512.0, 19, False, 20
    yield 64.0, 4, True, 5
    yield 64.0, 0, True, 3


@update_scale.mistakes
def _(scale, count, is_finite, growth_steps):
    grows = is_finite and count + 1 == growth_steps
    new = 2 * scale if grows else scale if is_finite else scale / 2
    yield (
        "`{call}`: your scale is doubled at every finite step. It grows only after "
        "`growth_steps` of them.",
        (2 * scale if is_finite else scale / 2, ...),
    )
    yield (
        "`{call}`: your scale stays. But this step, which `count` does not include yet, completes "
        "`growth_steps` finite steps, so it doubles.",
        (scale if is_finite else scale / 2, ...),
    )
    yield (
        "Your scale never falls: a gradient that is not finite halves it.",
        (2 * scale if grows else scale, ...),
    )
    yield (
        "`{call}`: your scale moves in the opposite direction. Too large a scale makes gradients "
        "overflow.",
        (scale / 2 if grows else scale if is_finite else 2 * scale, ...),
    )
    yield (
        "The count goes on after an overflow: it must begin again with 0.",
        (new, 0 if grows else count + 1),
    )
    yield "The count stays: this step has to be counted.", (new, 0 if new != scale else count)
    yield (
        "The count goes on after the scale has grown: it must begin again with 0.",
        (new, count + 1 if is_finite else 0),
    )


@update_scale.accepts
def _(scale, count, is_finite, growth_steps):
    if not is_finite:
        return [scale * 0.5, 0]
    doublings, rest = divmod(count + 1, growth_steps)
    return [scale * 2**doublings, rest]


@exercise(
    "The gradient of a batch is the mean over its examples. Each part has the mean over its own.",
    "A part with twice as many examples counts twice: `size * gradient`, summed, divided by the "
    "sum of the sizes.",
    returns=Array("gradient"),
    otherwise="`{call}`: your gradient is not the mean over all examples of all parts.",
)
def accumulate():
    draw = np.random.default_rng(3)
    yield [draw.normal(size=(3, 4)) for _ in range(3)], [5, 5, 3]
    yield [draw.normal(size=7) for _ in range(5)], [8, 8, 8, 8, 1]
    yield [draw.normal(size=(2, 3)) for _ in range(2)], [4, 4]


@accumulate.mistakes
def _(gradients, sizes):
    weighted = sum(size * gradient for size, gradient in zip(sizes, gradients, strict=True))
    yield (
        "You take the mean of the parts, as if they were of equal size. The last one is smaller.",
        np.mean(gradients, axis=0),
    )
    yield "You add the gradients; divide for the mean.", np.sum(gradients, axis=0)
    yield (
        "You weight each part by its size, but do not divide by the number of all examples.",
        weighted,
    )
    yield (
        "You divide by the number of parts. The weights add up to the number of examples.",
        weighted / len(sizes),
    )
    yield (
        "You divide by the number of examples, but each gradient is already a mean: multiply it by "
        "the size of its part.",
        sum(gradients) / sum(sizes),
    )
    yield "You return the gradient of the last part only.", gradients[-1] * 1.0


@accumulate.accepts
def _(gradients, sizes):
    return np.average(gradients, axis=0, weights=sizes)


@accumulate.accepts
def _(gradients, sizes):
    total, seen = 0.0, 0
    for gradient, size in zip(gradients, sizes, strict=True):
        seen += size
        total = total + (gradient - total) * size / seen
    return total


@question
def checkpoints():
    """64 equal layers; only every 8th output is kept, the others are computed again when needed.

    How many outputs are in memory at most, and what is computed again?
    """
    return [
        wrong(
            "8 outputs, and one more backward pass.",
            "The 8 between two kept ones are needed, too, while their gradients are computed. And "
            "outputs are computed by a forward pass.",
        ),
        correct(
            "About 16 outputs, and about one more forward pass.",
            "8 are kept, and 8 of one segment are there while its gradients are computed. Each "
            "layer runs forward once more.",
        ),
        wrong(
            "About 16 outputs, and eight more forward passes.",
            "Each segment is computed again once, from the output before it: together one pass.",
        ),
        wrong(
            "64 outputs, but not at the same time.",
            "After its gradients are computed, a segment's outputs are freed.",
        ),
    ]


# The challenge.

BAR = 2.0  # times the rate of the lab's pipeline
_SIDE, _SMALL, _BATCH = 512, 64, 25  # pixels: of the files, and of the images in a batch; its size
_TOLERANCE = 0.06  # of a pixel, on average: there are several ways to reduce an image
_ROUNDS = 6


def _write_files(folder: Path, paths: list[str], seed: int) -> np.ndarray:
    """Write JPEG files of smooth random images; return the images, reduced."""
    from PIL import Image

    draw, reduced = np.random.default_rng(seed), []
    folder.mkdir()
    for path in paths:
        coarse = Image.fromarray(draw.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        image = coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        image.save(path, quality=90)
        small = image.resize((_SMALL, _SMALL), Image.Resampling.BOX)
        reduced.append(np.asarray(small, np.float32) / 255)
    return np.array(reduced)


def _lab_pipeline(paths: list[str], labels: np.ndarray, batch_size: int) -> Any:
    """Decode as the lab does: in parallel, with all pixels of a file."""
    import tensorflow as tf

    def decode(path: Any, label: Any) -> Any:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize(image, (_SMALL, _SMALL), antialias=True) / 255, label

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size).prefetch(2)


@exercise(
    "Where does the time go: reading, decoding, or reducing? Time one stage after the other, with "
    "`data.profile_pipeline`.",
    "A decoder can reduce an image while it decodes it, which saves most of the work. Look at the "
    "arguments of `tf.io.decode_jpeg`.",
    "After `ratio=8`, nothing is left to resize. Convert a whole batch to float32 at once.",
    smoke={"num_files": 40, "bar": 0.4},
)
def first_epoch(answer, num_files=100, bar=BAR):
    """Compare an epoch with the files, and the shortest times of both pipelines, in turns."""
    labels, theirs, ours = np.arange(num_files), [], []
    with tempfile.TemporaryDirectory(prefix="dltlab-") as root:
        for number in range(_ROUNDS):
            folder = Path(root, f"round{number}")
            paths = [str(folder / f"{place:04d}.jpg") for place in range(num_files)]
            dataset = _built(answer, paths, labels)
            reference = _lab_pipeline(paths, labels, _BATCH)
            reduced = _write_files(folder, paths, seed=number)
            if number % 2:  # each is the first one in half of the rounds
                ours.append(_read(reference)[1])
            with attempt("reading an epoch"):
                batches, seconds = _read(dataset)
            theirs.append(seconds)
            _require_images(batches, reduced)
            if not number % 2:
                ours.append(_read(reference)[1])
    ratio = min(ours) / min(theirs)
    require(
        ratio >= bar,
        f"Your pipeline is {ratio:.2f} times as fast as the lab's. The bar is {bar}.",
    )
    return f"{ratio:.2f} times as fast as the lab's pipeline. The bar is {bar}."


def _built(answer: Any, paths: list[str], labels: np.ndarray) -> Any:
    """Return the answer's pipeline, built before there are any files."""
    import tensorflow as tf

    dataset = answer(paths, labels, _BATCH)
    require(
        isinstance(dataset, tf.data.Dataset),
        f"You return an object of type `{type(dataset).__name__}`; return a `tf.data.Dataset`.",
    )
    return dataset


def _read(dataset: Any) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """Return the batches of an epoch, and the seconds it took."""
    start = time.perf_counter()
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    return batches, time.perf_counter() - start


def _require_images(batches: list[tuple[np.ndarray, np.ndarray]], reduced: np.ndarray) -> None:
    """Reject an epoch that does not have each image once, reduced."""
    require(batches, "Your pipeline ends without a batch.")
    first, expected = batches[0][0], (_BATCH, _SMALL, _SMALL, 3)
    require(
        first.shape == expected and first.dtype == np.float32,
        f"A batch of your pipeline is {first.dtype} of the shape {first.shape}. It must be float32 "
        f"of the shape {expected}.",
    )
    order = np.concatenate([labels for _, labels in batches])
    require(
        np.array_equal(np.sort(order), np.arange(len(reduced))),
        f"An epoch has {len(np.unique(order))} different images of {len(reduced)}, and "
        f"{len(order)} in all. Each must be in it once.",
    )
    images = np.concatenate([images for images, _ in batches])
    require(
        images.min() > -0.1 and images.max() < 1.1,
        f"Your pixels are from {images.min():.2f} to {images.max():.2f}; they must be in [0, 1].",
    )
    require(
        np.abs(images - reduced[order]).mean(axis=(1, 2, 3)).max() < _TOLERANCE,
        "Some images are not those of their label, reduced. Each label belongs to the path at the "
        "same place.",
    )


@first_epoch.rejects("return a `tf.data.Dataset`")
def _(paths, labels, batch_size):
    return np.zeros((len(paths), _SMALL, _SMALL, 3))


@first_epoch.rejects("times as fast as the lab's. The bar is")
def _(paths, labels, batch_size):
    import tensorflow as tf

    def decode(path, label):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        image = tf.image.resize(image, (2 * _SIDE, 2 * _SIDE))
        return tf.image.resize(image, (_SMALL, _SMALL), antialias=True) / 255, label

    return tf.data.Dataset.from_tensor_slices((paths, labels)).map(decode).batch(batch_size)


@first_epoch.rejects("It must be float32 of the shape")
def _(paths, labels, batch_size):
    return _lab_pipeline(paths, labels, batch_size).unbatch()


@first_epoch.rejects("they must be in [0, 1]")
def _(paths, labels, batch_size):
    dataset = _lab_pipeline(paths, labels, batch_size)
    return dataset.map(lambda images, labels: (255 * images, labels))


@first_epoch.rejects("Some images are not those of their label")
def _(paths, labels, batch_size):
    return _lab_pipeline(paths, labels[::-1].copy(), batch_size)


@first_epoch.rejects("Each must be in it once")
def _(paths, labels, batch_size):
    return _lab_pipeline(paths, labels, batch_size).take(1)
