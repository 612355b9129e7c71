"""Classify image files with a trained model: `classify`."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np
from PIL import Image

from dltlab.data import (
    RESIZES,
    ImageDataset,
    Resize,
    UnusableImage,
    info,
    read_image,
    read_provenance,
)
from dltlab.display import printable
from dltlab.errors import Damaged, Invalid, LabError
from dltlab.files import write_atomically
from dltlab.models import load_model, shape_text
from dltlab.training.probabilities import checked_class_names, probabilities

if TYPE_CHECKING:
    import pandas as pd

BATCH_BYTES = 64_000_000  # of pixels in memory at once, about
_THRESHOLD = 0.5
_COLUMNS = ("file", "class", "probability", "problem")
_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")  # of a cell in a spreadsheet

Files = str | Path | Iterable[str | Path]


def classify(
    model: keras.Model | str | Path,
    files: Files,
    class_names: Sequence[str] | None = None,
    *,
    resize: Resize = "crop",
    multi_label: bool = False,
    out: str | Path | None = None,
) -> "pd.DataFrame":
    """Classify image files.

    Each image is converted to what the model was trained on: an upright square of the model's
    input size, float32 in [0, 1], RGB. For a model with one channel it is converted to gray by the
    luma of ITU-R BT.601, as Pillow computes it: (299 R + 587 G + 114 B) / 1000. The files are read
    and classified in batches, so their number does not matter.

    Args:
        model: A Keras model, the path of a `.keras` file, or the folder of a training run. Its
            input must be a square image of one size.
        files: A JPEG, PNG, TIFF, BMP or WebP file, a folder that contains such files at any depth,
            or several of both. Hidden files in a folder are skipped.
        class_names: The names of the classes, in the order of the labels. By default those of the
            data set that the run used and that fits the model, if there is one, else the class
            numbers.
        resize: How another shape becomes a square: "crop" keeps the middle, "squash" changes the
            proportions, "fit" keeps everything and fills the rest with black.
        multi_label: Whether an image may have several labels.
        out: A CSV file to write the result to, in UTF-8. Names that a spreadsheet would read as a
            formula are changed in it: the file `=a.png` to `./=a.png`, which is the same file, and
            the class `=a` to `'=a`.

    Returns:
        One row per file: `file`, its path; `class`, the most probable one, or with `multi_label`
        all of 0.5 or more, separated by spaces; `probability`, the largest one; a column per class
        with its probability; `problem`, the reason if the file could not be classified, else empty.
        A class with the name of one of the other columns gets the column "NAME (class)".

    Raises:
        NotFound: There is no such model.
        Damaged: The model or the record of its run is damaged.
        Unavailable: The model cannot be loaded here, or `out` cannot be written.
        Invalid: The model does not take images, no file is an image, or an argument is not allowed.
    """
    if resize not in RESIZES:
        raise Invalid(f"resize is '{resize}'; it must be one of {', '.join(RESIZES)}.")
    run_dir: Path | None = None
    if not isinstance(model, keras.Model):
        path = Path(model).expanduser()
        run_dir = path if path.is_dir() else None
        model = load_model(path)
    shape = _input_shape(model)
    num_classes = probabilities(model, np.zeros((1, *shape), np.float32)).shape[1]
    white = None
    if class_names is None and run_dir is not None:
        dataset = _dataset_of_run(run_dir, shape, num_classes)
        class_names = dataset.class_names if dataset else None
        white = getattr(dataset, "white", None)  # imported images may have one
    read = partial(_read, shape=shape, resize=resize, white=white)
    names = checked_class_names(class_names, num_classes)
    _require_unique(names)
    entries = list(_entries(files))
    if not entries:
        origin = printable(str(files)) if isinstance(files, str | Path) else "the list"
        raise Invalid(f"There is no file in {origin}: name images, or a folder of them.")
    problems, scores = _classify_entries(model, entries, shape, read, multi_label)
    table = _table([str(path) for path, _ in entries], problems, scores, names, multi_label)
    if out is not None:
        write_atomically(Path(out).expanduser(), _csv(table, len(names)))
    return table


class _Entry(NamedTuple):
    """A file to classify, and the problem with it if its folder already shows one."""

    path: Path
    problem: str = ""


def _entries(files: Files) -> Iterator[_Entry]:
    """Yield the files that were named, and those in the folders that were named."""
    for file in [files] if isinstance(files, str | Path) else files:
        path = Path(file).expanduser()
        if path.is_dir():
            yield from _entries_in(path)
        else:
            yield _Entry(path)


def _entries_in(folder: Path) -> list[_Entry]:
    """Return the files in a folder at any depth, sorted by path."""
    entries: list[_Entry] = []

    def add_unreadable(error: OSError) -> None:
        entries.append(_Entry(Path(error.filename), f"cannot be read ({error.strerror})"))

    for parent, folders, files in os.walk(folder, onerror=add_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [Path(parent, name) for name in folders if Path(parent, name).is_symlink()]
        entries += [_Entry(link, "is a link to a folder") for link in links]
        entries += [_Entry(Path(parent, name)) for name in files if not name.startswith(".")]
    return sorted(entries)


def _classify_entries(
    model: keras.Model,
    entries: Sequence[_Entry],
    shape: tuple[int, int, int],
    read: Callable[[_Entry], np.ndarray | str],
    multi_label: bool,
) -> tuple[list[str], np.ndarray]:
    """Return the problem of each file, and its probabilities, NaN if there is a problem.

    Raises:
        Invalid: There is a problem with every file.
    """
    from tqdm import tqdm

    problems: list[str] = []
    batches: list[np.ndarray] = []
    batch_size = max(1, BATCH_BYTES // (4 * int(np.prod(shape))))
    with tqdm(total=len(entries), unit=" files", disable=None, leave=False) as bar:
        for first in range(0, len(entries), batch_size):
            batch = entries[first : first + batch_size]
            results = [read(entry) for entry in batch]
            problems += [result if isinstance(result, str) else "" for result in results]
            images = [result for result in results if not isinstance(result, str)]
            if images:
                batches.append(probabilities(model, np.stack(images), multi_label=multi_label))
            bar.update(len(batch))
    if not batches:
        others = f", nor can the other {len(entries) - 1:,}" if len(entries) > 1 else ""
        raise Invalid(
            f"{printable(str(entries[0].path))} {problems[0]}: it cannot be classified{others}. "
            "Name JPEG, PNG, TIFF, BMP or WebP files."
        )
    is_image = np.array([not problem for problem in problems])
    scores = np.full((len(entries), batches[0].shape[1]), np.nan, np.float32)
    scores[is_image] = np.concatenate(batches)
    return problems, scores


def _read(
    entry: _Entry, shape: tuple[int, int, int], resize: Resize, white: int | None
) -> np.ndarray | str:
    """Return the image in a file as the model takes it, float32, or the problem with the file."""
    if entry.problem:
        return entry.problem
    try:
        pixels = read_image(entry.path, shape[0], resize, white=white)
    except UnusableImage as error:
        return str(error)
    if shape[2] == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis]
    return pixels.astype(np.float32) / 255


def _table(
    paths: list[str],
    problems: list[str],
    scores: np.ndarray,
    names: tuple[str, ...],
    multi_label: bool,
) -> "pd.DataFrame":
    import pandas as pd

    columns = [f"{name} (class)" if name in _COLUMNS else name for name in names]
    table = pd.DataFrame(scores, columns=columns)
    if multi_label:
        classes = [
            " ".join(name for name, score in zip(names, row, strict=True) if score >= _THRESHOLD)
            for row in scores
        ]
    else:
        best = np.nan_to_num(scores).argmax(axis=1)
        classes = [
            "" if problem else names[number] for number, problem in zip(best, problems, strict=True)
        ]
    table.insert(0, "file", np.array(paths, object))
    table.insert(1, "class", classes)
    table.insert(2, "probability", scores.max(axis=1))
    table["problem"] = problems
    return table


def _csv(table: "pd.DataFrame", num_classes: int) -> bytes:
    """Return the table as CSV that a spreadsheet reads as text and numbers, never as formulas."""
    safe = table.copy()
    safe["file"] = [
        f"./{path}" if path.startswith(_FORMULA_PREFIXES) else path for path in table["file"]
    ]
    safe["class"] = [_escaped(name) for name in table["class"]]
    class_columns = table.columns[3 : 3 + num_classes]
    safe.columns = [*table.columns[:3], *map(_escaped, class_columns), table.columns[-1]]
    # Quotes keep a name in one cell in countries where another separator is usual.
    text = safe.to_csv(index=False, float_format="%.6f", quoting=csv.QUOTE_NONNUMERIC)
    return bytes(text.encode("utf-8", "surrogateescape"))


def _escaped(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA_PREFIXES) else name


def _input_shape(model: keras.Model) -> tuple[int, int, int]:
    """Return height, width and channels of the images that a model takes.

    Raises:
        Invalid: They are not square, of one size, and gray or in color.
    """
    input_shape = getattr(model, "input_shape", None)
    if isinstance(input_shape, tuple) and len(input_shape) == 4:
        _, height, width, channels = input_shape
        if height is not None and height == width and channels in (1, 3):
            return height, width, channels
    needed = "classify needs a model of square images of one size, with 1 or 3 channels"
    if isinstance(input_shape, tuple):
        raise Invalid(
            f"{needed}, and this one takes inputs of shape {shape_text(input_shape[1:])}."
        )
    raise Invalid(f"{needed}, and this one has several inputs, or an unknown one.")


def _dataset_of_run(
    run_dir: Path, shape: tuple[int, int, int], num_classes: int
) -> ImageDataset | None:
    """Return the data set of a run that fits the model; None if none does.

    Raises:
        Damaged: The run's record of its data sets cannot be read.
        Invalid: Several data sets fit, and their class names differ.
    """
    try:
        tags = read_provenance(run_dir)
    except Damaged as error:
        raise Damaged(f"{error} Or pass class_names.") from error
    candidates: dict[str, ImageDataset] = {}
    for tag in tags:
        with suppress(LabError):  # it may have been removed or damaged since
            dataset = info(tag)
            if isinstance(dataset, ImageDataset) and len(dataset.class_names) == num_classes:
                candidates[tag] = dataset
    same_shape = {
        tag: dataset for tag, dataset in candidates.items() if tuple(dataset.shape) == shape
    }
    candidates = same_shape or candidates
    if len({tuple(dataset.class_names) for dataset in candidates.values()}) > 1:
        raise Invalid(
            f"The run used several data sets of {num_classes} classes ({', '.join(candidates)}): "
            "pass the class_names of the one that the model was trained on."
        )
    return next(iter(candidates.values()), None)


def _require_unique(names: tuple[str, ...]) -> None:
    """Raise Invalid if two classes have the same name, which needs a column of its own."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise Invalid(f"Several classes are called '{printable(repeated[0])}': rename them.")
