"""What a trained model says to image files: `classify`."""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

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
from dltlab.errors import Damaged, LabError
from dltlab.files import write_atomically
from dltlab.models import load_model, shape_text
from dltlab.training.probabilities import checked_class_names, probabilities

if TYPE_CHECKING:
    import pandas as pd

_MODEL = "model.keras"
_THRESHOLD = 0.5
_BATCH_BYTES = 64_000_000  # of pixels that are in memory at once, about
_COLUMNS = ("file", "class", "probability", "problem")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with these a spreadsheet's formula may begin

Files = str | Path | Iterable[str | Path]


def classify(
    model: keras.Model | str | Path,
    files: Files,
    classes: Sequence[str] | None = None,
    *,
    resize: Resize = "crop",
    multi_label: bool = False,
    out: str | Path | None = None,
) -> "pd.DataFrame":
    """Let a model classify images in files.

    A file becomes what the model was trained on: a square of the model's input size, upright,
    float32 in [0, 1], red, green and blue. For a model with one channel it becomes gray, the luma
    of ITU-R BT.601 as Pillow computes it: (299 R + 587 G + 114 B) / 1000. Any number of files will
    do: they are read and classified some at a time.

    Args:
        model: A Keras model, the path of a `.keras` file, or the folder of a run that holds
            `model.keras`. Its input must be square and of one size.
        files: A JPEG, PNG, BMP or WebP file, a folder with such files at any depth, or several of
            both. Hidden files in a folder are passed over.
        classes: Their names, in the order of the labels. By default those of the data set that the
            run's `data.json` names and that fits the model; elsewhere their numbers.
        resize: How another shape becomes a square: "crop", "squash" or "fit", as
            `dltlab.data.read_image` describes it.
        multi_label: Whether the classes do not exclude each other.
        out: A CSV file to write the same to, in UTF-8. Names in it that a spreadsheet would take
            for a formula are made harmless: `=a.png` becomes `./=a.png`, which is the same file,
            and a class `=a` becomes `'=a`.

    Returns:
        A row for each file: `file`, its path; `class`, the most probable one, or with `multi_label`
        all from 0.5 on, joined by spaces; `probability`, the largest one; one column for each class
        with its probability; `problem`, why the file could not be classified, else empty. The
        column of a class that is called like one of the others is called "NAME (class)".

    Raises:
        LabError: The model cannot be loaded or does not take images, there is no file, none of
            them is an image, an argument is wrong, or `out` cannot be written.
    """
    if resize not in RESIZES:
        raise LabError(f"resize is '{resize}'; it must be one of {', '.join(RESIZES)}.")
    run: Path | None = None
    if not isinstance(model, keras.Model):
        path = Path(model).expanduser()
        run = path if path.is_dir() else None
        model = _loaded(run / _MODEL if run else path)
    shape = _input_shape(model)
    num_classes = probabilities(model, np.zeros((1, *shape), np.float32)).shape[1]
    if classes is None and run is not None:
        classes = _classes_of_run(run, shape, num_classes)
    names = checked_class_names(classes, num_classes)
    _require_different(names)
    paths, problems, found = _classified(model, files, shape, resize, multi_label)
    table = _table(paths, problems, found, names, multi_label)
    if out is not None:
        write_atomically(Path(out), _csv(table, len(names)))
    return table


def _classified(
    model: keras.Model,
    files: Files,
    shape: tuple[int, int, int],
    resize: Resize,
    multi_label: bool,
) -> tuple[list[str], list[str], np.ndarray]:
    """The path of each file, what is wrong with it, and its probabilities, NaN where it is wrong.

    Raises:
        LabError: There is no file, or something is wrong with every one.
    """
    from tqdm import tqdm

    listed = list(_listed(files))
    if not listed:
        raise LabError(f"There is no file in {_named(files)}: name images, or a folder of them.")
    problems: list[str] = []
    found: list[np.ndarray] = []
    at_a_time = max(1, _BATCH_BYTES // (4 * int(np.prod(shape))))
    with tqdm(total=len(listed), unit=" files", disable=None, leave=False) as bar:
        for first in range(0, len(listed), at_a_time):
            some = listed[first : first + at_a_time]
            read = [_pixels(path, problem, shape, resize) for path, problem in some]
            problems += [each if isinstance(each, str) else "" for each in read]
            images = [each for each in read if not isinstance(each, str)]
            if images:
                found.append(probabilities(model, np.stack(images), multi_label=multi_label))
            bar.update(len(some))
    if not found:
        path, why = listed[0][0], problems[0]
        more = f", and none of the other {len(listed) - 1:,} can" if len(listed) > 1 else ""
        raise LabError(
            f"{printable(str(path))} {why}: it cannot be classified{more}. Name JPEG, PNG, BMP or "
            "WebP files."
        )
    right = np.array([not problem for problem in problems])
    every = np.full((len(listed), found[0].shape[1]), np.nan, np.float32)
    every[right] = np.concatenate(found)
    return [str(path) for path, _ in listed], problems, every


def _listed(files: Files) -> Iterator[tuple[Path, str]]:
    """Every file, and why it cannot be read, as far as that is known from its folder."""
    for one in [files] if isinstance(files, str | Path) else files:
        path = Path(one).expanduser()
        if path.is_dir():
            yield from _below(path)
        else:
            yield path, ""


def _below(folder: Path) -> list[tuple[Path, str]]:
    """The files in a folder at any depth, in order of path."""
    found: list[tuple[Path, str]] = []

    def closed(error: OSError) -> None:
        found.append((Path(error.filename), f"cannot be read ({error.strerror})"))

    for parent, folders, files in os.walk(folder, onerror=closed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [Path(parent, name) for name in folders if Path(parent, name).is_symlink()]
        found += [(link, "is a link to a folder") for link in links]
        found += [(Path(parent, name), "") for name in files if not name.startswith(".")]
    return sorted(found)


def _pixels(
    path: Path, problem: str, shape: tuple[int, int, int], resize: Resize
) -> np.ndarray | str:
    """An image as the model takes it, float32, or what is wrong with the file."""
    if problem:
        return problem
    try:
        pixels = read_image(path, shape[0], resize)
    except UnusableImage as error:
        return str(error)
    if shape[2] == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis]
    return pixels.astype(np.float32) / 255


def _table(
    paths: list[str],
    problems: list[str],
    found: np.ndarray,
    names: tuple[str, ...],
    multi_label: bool,
) -> "pd.DataFrame":
    import pandas as pd

    columns = [f"{name} (class)" if name in _COLUMNS else name for name in names]
    table = pd.DataFrame(found, columns=columns)
    if multi_label:
        chosen = [
            " ".join(name for name, one in zip(names, row, strict=True) if one >= _THRESHOLD)
            for row in found
        ]
    else:
        best = np.nan_to_num(found).argmax(axis=1)
        chosen = ["" if why else names[place] for place, why in zip(best, problems, strict=True)]
    table.insert(0, "file", np.array(paths, object))
    table.insert(1, "class", chosen)
    table.insert(2, "probability", found.max(axis=1))
    table["problem"] = problems
    return table


def _csv(table: "pd.DataFrame", num_classes: int) -> bytes:
    """The table as a file that a program reads as it is, and a spreadsheet as text and numbers."""
    safe = table.copy()
    safe["file"] = [f"./{each}" if each.startswith(_FORMULA) else each for each in table["file"]]
    safe["class"] = [_quoted(each) for each in table["class"]]
    safe.columns = [*table.columns[:3], *map(_quoted, table.columns[3:-1]), table.columns[-1]]
    # With quotes a name stays in one cell where another separator is the custom, too.
    text = safe.to_csv(index=False, float_format="%.6f", quoting=csv.QUOTE_NONNUMERIC)
    return bytes(text.encode("utf-8", "surrogateescape"))


def _quoted(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA) else name


def _named(files: Files) -> str:
    """What was asked for, short enough for a sentence."""
    return printable(str(files)) if isinstance(files, str | Path) else "the list"


def _loaded(path: Path) -> keras.Model:
    """The model in a file.

    Raises:
        LabError: There is none, or it cannot be loaded safely.
    """
    if not path.is_file() or path.suffix != ".keras":
        raise LabError(
            f"{path} is no saved model: name a .keras file, or the folder of a run that holds "
            f"{_MODEL}."
        )
    return load_model(path)


def _input_shape(model: keras.Model) -> tuple[int, int, int]:
    """Height, width and channels of the images that a model takes.

    Raises:
        LabError: They are not square, of one size, and gray or in color.
    """
    takes = getattr(model, "input_shape", None)
    if isinstance(takes, tuple) and len(takes) == 4:
        _, height, width, channels = takes
        if height is not None and height == width and channels in (1, 3):
            return height, width, channels
    shown = f"of shape {shape_text(takes[1:])}" if isinstance(takes, tuple) else "of other kinds"
    raise LabError(
        "classify needs a model of square images of one size, with 1 channel or 3, and this one "
        f"takes inputs {shown}."
    )


def _classes_of_run(
    folder: Path, shape: tuple[int, int, int], num_classes: int
) -> Sequence[str] | None:
    """The classes of the data set in a run's record that fits the model; None where none does.

    Raises:
        LabError: The record is damaged, or names several that fit and differ.
    """
    try:
        tags = read_provenance(folder)
    except Damaged as error:
        raise Damaged(f"{error} Or name the classes.") from error
    fitting: dict[str, tuple[list[int], list[str]]] = {}
    for tag in tags:
        with suppress(LabError):  # it may be removed or damaged meanwhile
            dataset = info(tag)
            if isinstance(dataset, ImageDataset) and len(dataset.class_names) == num_classes:
                fitting[tag] = list(dataset.shape), dataset.class_names
    same = {tag: each for tag, each in fitting.items() if each[0] == list(shape)} or fitting
    if len({tuple(classes) for _, classes in same.values()}) > 1:
        raise LabError(
            f"The run used several data sets of {num_classes} classes ({', '.join(same)}): name "
            "the classes of the one that the model was trained on."
        )
    return next((classes for _, classes in same.values()), None)


def _require_different(names: tuple[str, ...]) -> None:
    """Refuse names of classes that cannot head columns of their own."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise LabError(f"Several classes are called '{printable(twice[0])}': rename them.")
