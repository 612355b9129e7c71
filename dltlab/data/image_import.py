"""Import a user's own images as a data set."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dltlab.data import store
from dltlab.data.card_files import card_names
from dltlab.data.catalog import ImageDataset, info
from dltlab.data.class_table import class_table_lines
from dltlab.data.image_file import MAX_GRAY, Resize
from dltlab.data.imported import ImportedDataset
from dltlab.data.importing.candidates import Candidate, LeftOut
from dltlab.data.importing.class_names import ONLY_IN, shown_apart, similar_names
from dltlab.data.importing.decoding import decode_all
from dltlab.data.importing.layout import Layout
from dltlab.data.importing.selection import Selection, choose, require_classes
from dltlab.data.importing.settings import Settings
from dltlab.data.importing.shards import ShardWriter
from dltlab.data.importing.sources import Source, open_source
from dltlab.data.importing.version import write_version
from dltlab.data.importing.wording import listed, shortened
from dltlab.display import Result, printable
from dltlab.errors import Invalid
from dltlab.files import atomic_folder

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

_MAX_IMBALANCE = 3  # largest class to smallest class, above which a note says so
_MAX_LISTED = 20  # files left out that are named


@dataclass(frozen=True, repr=False)
class ImportResult(Result):
    """The result of an import; printed, it shows the classes and what is left out.

    Attributes:
        dataset: The imported version.
        is_new: Whether the version is new; otherwise the store had the same images already.
        left_out: The name of each file that was not imported, with the reason.
        notes: What one should know before training on it.
    """

    dataset: ImportedDataset
    is_new: bool
    left_out: list[LeftOut]
    notes: list[str]

    @property
    def summary(self) -> str:
        """What the version holds, and whether it is new."""
        status = "is new" if self.is_new else "exists already, with the same images"
        return f"{self.dataset.tag} {status}: {self.dataset.title}"

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each class with its number of images in each split."""
        import pandas as pd

        table = pd.DataFrame(self.dataset.counts)
        table.insert(0, "class", list(map(printable, self.dataset.class_names)))
        return table

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON."""
        return {**super().as_dict(), "dataset": self.dataset.model_dump()}

    def __repr__(self) -> str:
        lines = list(class_table_lines(self.dataset))
        if self.left_out:
            files = "file is" if len(self.left_out) == 1 else "files are"
            lines.append(f"{len(self.left_out):,} {files} left out:")
            lines += [f"  {shortened(name)} {why}" for name, why in self.left_out[:_MAX_LISTED]]
        if len(self.left_out) > _MAX_LISTED:
            lines.append(f"  … the full list is {self.dataset.folder / 'left_out.csv'}")
        name = self.dataset.name
        lines += [*self.notes, self.summary]
        lines.append(f'Use it: dltlab.data.load("{name}"). See it: dltlab data show {name}')
        return "\n".join(lines)


def import_images(
    source: str | Path,
    name: str,
    *,
    validation: float = 0.2,
    test: float = 0.1,
    size: int | None = None,
    resize: Resize | None = None,
    layout: Layout | None = None,
    min_per_class: int = 5,
    max_per_class: int | None = None,
    seed: int = 1,
    like: str | None = None,
) -> ImportResult:
    """Import images as the data set `name`; different images become a new version.

    The source is a folder, a tar or a zip archive with a folder for each class, or a list: a .txt,
    .csv or .tsv file with a path and a class in each line, as pandas writes it. Folders whose names
    mention a split (train, dev, seg_test, …) around those of the classes define the splits, as does
    such a column of a list. Without them every class is divided by a rule that depends on nothing
    but the seed and each image's pixels.

    Images with 16 bits of gray are scaled by their largest value in the whole data set.

    Broken, empty and tiny files, and all but one of equal images, are left out and reported. Of
    equal images in the test split and elsewhere, the one in the test split is kept.

    Args:
        source: The path of the folder, archive or list.
        name: The name of the data set, as `load` takes it.
        validation: The fraction of each class that is held out for model selection, in [0, 1].
        test: The fraction of each class that is held out for the final test, in [0, 1].
        size: The side of an image in pixels; by default that of `like`, else 64.
        resize: "crop", "squash" or "fit", as `dltlab.data.read_image` describes it; by default that
            of `like`, else "crop".
        layout: What the folders are: "classes" (what is below is part of the class),
            "splits/classes", "classes/splits" or "parts/classes"; by default what their names say.
        min_per_class: A class with fewer images is an error.
        max_per_class: Of a class with more images, this number is chosen by the seed.
        seed: The seed of the division and the choice.
        like: A data set whose classes these images must have, so that a model that was trained on
            it can be evaluated on them.

    Raises:
        NotFound: The source or the data set `like` does not exist.
        Invalid: A class has too few images, the folders can be read in two ways, or an argument has
            a value that is not allowed.
        Damaged: The archive is damaged.
        Unavailable: The source cannot be read, or the store cannot be written.
        LabError: In all these cases nothing is imported.
    """
    _check_name(name)
    model = None if like is None else _image_dataset(like)
    settings = Settings(
        validation=validation,
        test=test,
        size=_first(size, model.shape[0] if model else None, 64),
        resize=_first(resize, model.resize if isinstance(model, ImportedDataset) else None, "crop"),
        min_per_class=min_per_class,
        max_per_class=max_per_class,
        seed=seed,
        class_names=model.class_names if model else None,
        layout=layout,
        white=model.white if isinstance(model, ImportedDataset) else None,
    )
    path = Path(source).expanduser()
    images = open_source(path, settings.layout)
    listing = images.listing()
    require_classes(listing.candidates, listing.left_out, settings, path)
    candidates = choose(listing.candidates, settings)
    with (
        store.locked(name) as folder,
        atomic_folder(folder / str(store.last_version(name) + 1)) as new,
    ):
        title = f"Importing {name}"
        packed = _pack(images, candidates, settings, new, title, settings.white or MAX_GRAY)
        if settings.white is None and packed.peak not in (0, MAX_GRAY):
            packed = _pack(images, candidates, settings, new, title, packed.peak)
        left_out = sorted([*listing.left_out, *packed.left_out])
        require_classes(packed.selection.candidates, left_out, settings, path)
        dataset, is_new = write_version(
            new, name, path, packed.selection, left_out, settings, packed.white
        )
    notes = [*listing.notes, *_absent_classes(dataset), *_notes(packed, left_out, like)]
    return ImportResult(dataset, is_new, left_out, notes)


def _check_name(name: str) -> None:
    """Refuse a name that an imported data set cannot have.

    Raises:
        Invalid: It is that of a card, or has other characters than a-z, 0-9, _ and -.
    """
    if not store.is_valid_name(name):
        raise Invalid(
            f"'{name}' cannot be the name of a data set: use up to 64 of a-z, 0-9, '_' and '-', "
            "beginning with a letter or digit."
        )
    if name in card_names():
        raise Invalid(f"'{name}' is a data set of the course: choose another name.")


def _image_dataset(name: str) -> ImageDataset:
    dataset = info(name)
    if not isinstance(dataset, ImageDataset):
        raise Invalid(f"The data set '{name}' holds {dataset.kind}; name one of images.")
    return dataset


def _first(value: T | None, other: T | None, default: T) -> T:
    """Return the first value that is not None."""
    if value is not None:
        return value
    return default if other is None else other


@dataclass(frozen=True)
class _Packed:
    """The images whose pixels were written, and the other files.

    Attributes:
        selection: The images.
        left_out: The files that are no images, or images that were there already.
        peak: The largest value in images of 16 bits of gray; 0 where there is none.
        white: The value in them that became white; None where there is none.
    """

    selection: Selection
    left_out: list[LeftOut]
    peak: int
    white: int | None


def _pack(
    source: Source,
    candidates: list[Candidate],
    settings: Settings,
    folder: Path,
    title: str,
    white: int,
) -> _Packed:
    """Write the pixels of every usable image to `folder`, each image once.

    `white` is the value that becomes white in images of 16 bits of gray.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    is_visible = console.is_terminal or console.is_jupyter
    selection = Selection()
    left_out: list[LeftOut] = []
    peak = 0
    with (
        ShardWriter(folder, (settings.size, settings.size, 3)) as shards,
        Progress(console=console, transient=True, disable=not is_visible) as progress,
    ):
        bar = progress.add_task(title, total=len(candidates))
        contents = source.contents(candidates)
        for chunk, decoded in decode_all(contents, settings.size, settings.resize, white):
            peak = max(peak, decoded.peak)
            indices = iter(range(len(decoded.pixels)))
            new = []
            for candidate, reason in zip(chunk, decoded.reasons, strict=True):
                if reason is not None:
                    left_out.append((candidate.name, reason))
                elif selection.add(candidate, decoded, index := next(indices)):
                    new.append(index)
            shards.append(decoded.pixels[new])
            progress.advance(bar, len(chunk))
    left_out += selection.resolve_duplicates()
    return _Packed(selection, left_out, peak, white if peak else None)


def _absent_classes(dataset: ImportedDataset) -> list[str]:
    """Return a note for each split that lacks classes which other splits have."""
    totals = map(sum, zip(*dataset.counts.values(), strict=True))
    present = {name for name, total in zip(dataset.class_names, totals, strict=True) if total}
    notes = []
    for split, counts in dataset.counts.items():
        in_split = {name for name, n in zip(dataset.class_names, counts, strict=True) if n}
        if in_split and in_split != present:
            notes.append(f"The {split} split has no images of {listed(present - in_split)}.")
    return notes


def _notes(packed: _Packed, left_out: list[LeftOut], like: str | None) -> list[str]:
    """Return what one should know before training on the images."""
    notes = []
    if packed.white is not None:
        origin = "the largest in the data set" if packed.white == packed.peak else f"as in {like}"
        notes.append(f"In images with 16 bits of gray, {packed.white:,} is white, {origin}.")
    for names in similar_names(image.label for image in packed.selection.candidates):
        notes.append(
            f"The classes {' and '.join(shown_apart(names))} differ {ONLY_IN}: if they are one "
            "class, give them one name and import again."
        )
    num_leaks = sum(reason.endswith(" split") for _, reason in left_out)
    if num_leaks:
        images = "image was" if num_leaks == 1 else "images were"
        notes.append(
            f"{num_leaks:,} {images} in two splits and kept in one of them: otherwise the test "
            "would measure memory, not generalization."
        )
    counts = Counter(image.label for image in packed.selection.candidates).most_common()
    (largest, max_count), (smallest, min_count) = counts[0], counts[-1]
    if max_count > _MAX_IMBALANCE * min_count:
        notes.append(
            f"The classes are imbalanced: '{printable(largest)}' has {max_count:,} images, "
            f"'{printable(smallest)}' has {min_count:,}. Accuracy mostly reflects the large "
            "classes: look at each class."
        )
    return notes
