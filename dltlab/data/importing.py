"""Import a user's own images: read, sort out, split, pack, and keep as a version."""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from dltlab.data import store
from dltlab.data.card import SPLITS, ImageCard, SplitName
from dltlab.data.decoding import Decoded, decode_all
from dltlab.data.images import RESIZES, Resize
from dltlab.data.sources import Candidate, Source, in_unicode, open_source
from dltlab.data.store import Manifest, Shards
from dltlab.display import printable
from dltlab.errors import LabError
from dltlab.files import sha256_of

_BALANCED = 3  # times the smallest class, up to which the largest one is no matter


@dataclass(frozen=True, repr=False)
class Import:
    """What came of an import; printed, it shows the classes and what is left out.

    Attributes:
        manifest: Of the version.
        is_new: Whether the version was made now; else the store held the same images already.
        left_out: The name of each file that is no part of it, with the reason.
        notes: What else one should know.
    """

    manifest: Manifest
    is_new: bool
    left_out: list[tuple[str, str]]
    notes: list[str]

    def __repr__(self) -> str:
        from dltlab.data.catalog import report

        return "\n".join(report(self))


@dataclass(frozen=True)
class _Wanted:
    """The settings of an import."""

    name: str
    validation: int
    test: int
    size: int
    resize: Resize
    min_per_class: int
    max_per_class: int | None
    seed: int
    classes: list[str] | None


@dataclass
class _Kept:
    """The images that are part of it: row by row what the files beside the pixels say."""

    candidates: list[Candidate] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)  # of each digest
    doubles: list[tuple[int, Candidate]] = field(default_factory=list)  # of the image there

    def add(self, candidate: Candidate, decoded: Decoded, row: int) -> bool:
        """Keep the image in a row of `decoded`; returns whether it is a new one."""
        place = self.places.setdefault(decoded.digests[row], len(self.candidates))
        if place < len(self.candidates):
            self.doubles.append((place, candidate))
            return False
        self.candidates.append(candidate)
        self.digests.append(decoded.digests[row])
        self.sums.append(decoded.sums[row])
        return True

    def settle(self) -> list[tuple[str, str]]:
        """Of equal images keep the first in rank; returns the others, with the reason."""
        others = []
        for place, candidate in self.doubles:
            first, other = sorted((self.candidates[place], candidate), key=_rank)
            self.candidates[place] = first
            others.append((place, other))
        return [(other.name, _same(other, self.candidates[place])) for place, other in others]


def import_images(
    source: str | Path,
    name: str,
    *,
    validation: int = 20,
    test: int = 10,
    size: int | None = None,
    resize: Resize | None = None,
    min_per_class: int = 5,
    max_per_class: int | None = None,
    seed: int = 1,
    like: str | None = None,
) -> Import:
    """Import images as the data set `name`, a new version if they differ from those it has.

    The source is a folder, a tar or a zip archive with a folder for each class, or a list: a .txt
    file with a path and a label in each line, or a .csv or .tsv file with these two fields. Folders
    called train, validation and test around those of the classes say the split. Without them every
    class is divided by a rule that depends on the seed and each image's pixels alone.

    Left out, and said: broken, empty and tiny files, and all but one of equal images; of a
    image that is in the test split and elsewhere, the one in the test split stays.

    Args:
        source: Where the images are.
        name: Of the data set; `load(name)` then returns it.
        validation: Percentage of each class that is held out to choose by.
        test: Percentage of each class that is held out to judge by.
        size: The side of an image in pixels; by default that of `like`, else 64.
        resize: "crop", "squash" or "fit", as `dltlab.data.images.read_image` describes it; by
            default as for `like`, else "crop".
        min_per_class: A class with fewer images is an error.
        max_per_class: Of a class with more, so many are taken, chosen by the seed.
        seed: Of the division and the choice.
        like: A data set whose classes these images are to have, so that a model which was
            trained on it can be evaluated on them.

    Raises:
        LabError: The source cannot be read, a class has too few images, an argument is wrong, or
            the store cannot be written. Nothing is kept then.
    """
    store.check_name(name)
    model = None if like is None else _images(like)
    wanted = _Wanted(
        name=name,
        validation=validation,
        test=test,
        size=_first(size, model.shape[0] if model else None, 64),
        resize=_first(resize, getattr(model, "resize", None), "crop"),
        min_per_class=min_per_class,
        max_per_class=max_per_class,
        seed=seed,
        classes=model.classes if model else None,
    )
    _check(wanted)
    path = Path(source).expanduser()
    images = open_source(path)
    listing = images.listing()
    _require_classes(wanted, listing.candidates, listing.left_out, path)
    candidates = _chosen(listing.candidates, wanted)
    with store.hidden_folder(name) as folder:
        kept, left_out = _pack(images, candidates, wanted, folder)
        left_out = sorted([*listing.left_out, *left_out])
        _require_classes(wanted, kept.candidates, left_out, path)
        return _finish(kept, left_out, wanted, path, folder)


def _check(wanted: _Wanted) -> None:
    """Refuse settings that make no sense.

    Raises:
        LabError: Names the argument.
    """
    right = {
        "validation": 0 <= wanted.validation <= 100,
        "test": 0 <= wanted.test <= 100 and wanted.validation + wanted.test <= 100,
        "size": 8 <= wanted.size <= 2048,
        "resize": wanted.resize in RESIZES,
        "min_per_class": wanted.min_per_class >= 1,
        "max_per_class": wanted.max_per_class is None
        or wanted.max_per_class >= wanted.min_per_class,
        "seed": wanted.seed >= 0,
    }
    must = {
        "validation": "a percentage from 0 to 100",
        "test": "a percentage, and together with validation at most 100",
        "size": "from 8 to 2048 pixels",
        "resize": f"one of {', '.join(RESIZES)}",
        "min_per_class": "1 or more",
        "max_per_class": f"at least min_per_class, which is {wanted.min_per_class}",
        "seed": "0 or more",
    }
    for name, is_right in right.items():
        if not is_right:
            raise LabError(f"{name} is {getattr(wanted, name)}; it must be {must[name]}.")


def _first(*values: Any) -> Any:
    """The first that is not None."""
    return next(value for value in values if value is not None)


def _images(like: str) -> ImageCard | Manifest:
    about = store.info(like)
    if not isinstance(about, ImageCard | Manifest):
        raise LabError(f"The data set '{like}' holds {about.kind}; name one of images.")
    return about


def _require_classes(
    wanted: _Wanted, candidates: list[Candidate], left_out: list[tuple[str, str]], path: Path
) -> None:
    """Refuse images that cannot be learned from, as far as the counts of the classes tell.

    Raises:
        LabError: Names the classes and the mend.
    """
    counts = Counter(each.label for each in candidates)
    also = ""
    if left_out:
        name, reason = left_out[0]
        more = f" (and {len(left_out) - 1:,} more)" if len(left_out) > 1 else ""
        also = f" Left out: {printable(name)} {reason}{more}."
    if wanted.classes is not None:
        strange = [printable(label) for label in sorted(counts) if label not in wanted.classes]
        if strange:
            known = ", ".join(map(printable, wanted.classes))
            raise LabError(f"No such class: {', '.join(strange)}. The classes are: {known}.")
    if not counts:
        raise LabError(
            f"{path} holds no images in folders of their class: put JPEG, PNG, BMP or WebP files "
            f"into one folder a class.{also}"
        )
    if len(counts) == 1 and wanted.classes is None:
        raise LabError(
            f"{path} holds a single class, '{printable(next(iter(counts)))}': there is nothing to "
            f"tell apart. Name the folder that holds the classes' folders.{also}"
        )
    few = [
        f"'{printable(label)}' has {count}"
        for label, count in sorted(counts.items())
        if count < wanted.min_per_class
    ]
    if few:
        raise LabError(
            f"Too few images: {', '.join(few)}, and {wanted.min_per_class} is the least. Add "
            f"some, remove the folder, or lower min_per_class (--min-per-class).{also}"
        )


def _chosen(candidates: list[Candidate], wanted: _Wanted) -> list[Candidate]:
    """At most `max_per_class` of each class, in order of rank."""
    if wanted.max_per_class is not None:
        by_label: dict[str, list[Candidate]] = {}
        for each in sorted(candidates, key=lambda one: _lot(wanted.seed, one.name)):
            by_label.setdefault(each.label, []).append(each)
        candidates = [one for some in by_label.values() for one in some[: wanted.max_per_class]]
    return sorted(candidates, key=_rank)


def _rank(candidate: Candidate) -> tuple[int, str]:
    """By which the first of equal images stays: the test split's, then in order of name."""
    return {"test": 0, "validation": 1}.get(candidate.split or "", 2), candidate.name


def _lot(seed: int, what: str) -> bytes:
    """A number that only the seed and `what` decide."""
    text = f"{seed}/{what}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8).digest()


def _pack(
    source: Source, candidates: list[Candidate], wanted: _Wanted, folder: Path
) -> tuple[_Kept, list[tuple[str, str]]]:
    """Write the pixels of every usable image to `folder`, each once."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    is_seen = console.is_terminal or console.is_jupyter
    kept = _Kept()
    left_out: list[tuple[str, str]] = []
    shards = Shards(folder, (wanted.size, wanted.size, 3))
    with Progress(console=console, transient=True, disable=not is_seen) as progress:
        bar = progress.add_task(f"Importing {wanted.name}", total=len(candidates))
        for chunk, decoded in decode_all(source.contents(candidates), wanted.size, wanted.resize):
            rows = iter(range(len(decoded.pixels)))
            new = []
            for candidate, reason in zip(chunk, decoded.reasons, strict=True):
                if reason is not None:
                    left_out.append((candidate.name, reason))
                elif kept.add(candidate, decoded, row := next(rows)):
                    new.append(row)
            shards.append(decoded.pixels[new])
            progress.advance(bar, len(chunk))
    shards.close()
    return kept, [*left_out, *kept.settle()]


def _same(candidate: Candidate, first: Candidate) -> str:
    reason = f"is the same image as {printable(first.name)}"
    if candidate.label != first.label:
        return f"{reason}, which is in another class: one of the two is wrong"
    if candidate.split != first.split:
        return f"{reason}, which is in the {first.split} split"
    return reason


def _finish(
    kept: _Kept, left_out: list[tuple[str, str]], wanted: _Wanted, path: Path, folder: Path
) -> Import:
    """Write what goes with the pixels, then make the folder the next version, or find it there."""
    classes = wanted.classes or sorted({each.label for each in kept.candidates})
    places = {label: place for place, label in enumerate(classes)}
    labels = np.array([places[each.label] for each in kept.candidates])
    splits = _split(kept, wanted)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "splits.npy", splits)
    rows = [
        (each.name, each.label, SPLITS[split], digest)
        for each, split, digest in zip(kept.candidates, splits, kept.digests, strict=True)
    ]
    _write_csv(folder / "images.csv", ("name", "class", "split", "digest"), rows)
    _write_csv(folder / "left_out.csv", ("name", "reason"), left_out)
    settings = f"{classes} {wanted.size} {wanted.resize}"
    content_hash = hashlib.sha256(settings.encode("utf-8", "surrogateescape"))
    content_hash.update(repr(sorted(rows)).encode("utf-8", "surrogateescape"))
    notes = _notes(kept, left_out)
    for version in store.versions(wanted.name):
        known = store.manifest(f"{wanted.name}@{version}")
        if known.content_hash == content_hash.hexdigest():
            return Import(known, False, left_out, notes)
    mean, std = _statistics(kept, splits, wanted.size)
    manifest = Manifest(
        name=wanted.name,
        version=store.last_version(wanted.name) + 1,
        content_hash=content_hash.hexdigest(),
        source=in_unicode(path.resolve().name),
        imported=date.today().isoformat(),
        size=wanted.size,
        resize=wanted.resize,
        seed=wanted.seed,
        classes=classes,
        counts={
            split: np.bincount(labels[splits == code], minlength=len(classes)).tolist()
            for code, split in enumerate(SPLITS)
        },
        mean=mean,
        std=std,
        files={file.name: sha256_of(file) for file in sorted(folder.iterdir())},
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    folder.rename(manifest.folder)
    return Import(manifest, True, left_out, notes)


def _split(kept: _Kept, wanted: _Wanted) -> np.ndarray:
    """The split of each image as a place in `SPLITS`, int8 `(n,)`."""
    given = {each.split for each in kept.candidates if each.split}
    shares: dict[SplitName, int] = {
        "test": 0 if "test" in given else wanted.test,
        "validation": 0 if "validation" in given else wanted.validation,
    }
    splits = np.array([SPLITS.index(each.split or "train") for each in kept.candidates], np.int8)
    by_label: dict[str, list[int]] = {}
    for row, each in enumerate(kept.candidates):
        if splits[row] == 0:
            by_label.setdefault(each.label, []).append(row)
    for rows in by_label.values():
        rows.sort(key=lambda row: _lot(wanted.seed, kept.digests[row]))
        first = 0
        for split, percentage in shares.items():
            count = _share(len(rows), percentage, len(rows) - first)
            splits[rows[first : first + count]] = SPLITS.index(split)
            first += count
    return splits


def _share(total: int, percentage: int, left: int) -> int:
    """So many of `total`: none only for 0 percent, all only for 100, and never more than `left`."""
    if percentage in (0, 100):
        return min(total * percentage // 100, left)
    return min(max(1, round(total * percentage / 100)), max(0, left - 1))


def _statistics(kept: _Kept, splits: np.ndarray, size: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each color over the training images, or else over all."""
    of_train = np.flatnonzero(splits == 0)
    rows = of_train if len(of_train) else np.arange(len(splits))
    mean, square = np.sum([kept.sums[row] for row in rows], axis=0) / (len(rows) * size**2)
    variance = np.maximum(square - mean**2, 0)  # of a single color rounding may make it negative
    return (mean / 255).tolist(), (np.sqrt(variance) / 255).tolist()


def _notes(kept: _Kept, left_out: list[tuple[str, str]]) -> list[str]:
    """What one should know before training on it."""
    notes = []
    leaks = sum(reason.endswith(" split") for _, reason in left_out)
    if leaks:
        were = "image was" if leaks == 1 else "images were"
        notes.append(
            f"{leaks:,} {were} in two splits. Each is kept in one of them: a test with "
            "images from training tests memory."
        )
    counts = Counter(each.label for each in kept.candidates).most_common()
    (largest, most), (smallest, fewest) = counts[0], counts[-1]
    if most > _BALANCED * fewest:
        notes.append(
            f"The classes are out of balance: '{printable(largest)}' has {most:,} images, "
            f"'{printable(smallest)}' has {fewest:,}. Accuracy will speak for the large ones: look "
            "at each class."
        )
    return notes


def _write_csv(path: Path, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([head, *rows])
