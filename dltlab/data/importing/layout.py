"""What the folders around images mean: classes, or splits of the data set."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from dltlab.data.card import SPLITS, SplitName
from dltlab.data.importing.wording import listed
from dltlab.errors import Invalid

Layout = Literal["classes", "splits/classes", "classes/splits", "parts/classes"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

Folders = tuple[str, ...]  # around an image, from the outermost to the innermost

_SPLITS: dict[str, SplitName] = {
    "train": "train", "training": "train", "trainset": "train",
    "validation": "validation", "val": "validation", "valid": "validation", "valset": "validation",
    "dev": "validation", "devset": "validation", "eval": "validation",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip
_FILLERS = {
    "data", "dataset", "file", "files", "folder", "image", "images", "img", "imgs", "photo",
    "photos", "pic", "pics", "picture", "pictures", "set", "split",
}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True)
class FolderMeaning:
    """The class and the split that each folder stands for.

    Attributes:
        layout: What the folders mean, from the outermost to the innermost.
        splits: The split of each folder that stands for one.
    """

    layout: Layout
    splits: dict[str, SplitName] = field(default_factory=dict)

    @property
    def is_obvious(self) -> bool:
        """Whether the folders of splits have exactly their names, around those of the classes."""
        return self.layout == "splits/classes" and all(f.lower() in _SPLITS for f in self.splits)

    def of(self, folders: Folders) -> tuple[str | None, SplitName | None]:
        """Return the class and the split of an image; no class: it is left out."""
        if self.layout == "classes":
            return (folders[0] if folders else None), None
        if len(folders) < 2:
            return None, None
        label, split = folders[:2] if self.layout == "classes/splits" else folders[1::-1]
        if self.layout == "parts/classes":
            return label, None
        if split not in self.splits:
            return None, None
        return label, self.splits[split]


def split_of(name: str) -> SplitName | None:
    """Return the split that a name such as "val", "Training Set" or "seg_test" mentions, if any."""
    splits = {_SPLITS[word] for word in _words(name) if word in _SPLITS}
    return splits.pop() if len(splits) == 1 else None


def meaning_of(paths: list[Folders], layout: Layout | None) -> FolderMeaning:
    """Return what the folders of images mean.

    Args:
        paths: The folders around each image, below those that contain all images.
        layout: What the folders mean; None: what their names and contents say.

    Raises:
        Invalid: They can be read in two ways, or do not have the layout.
    """
    outer = {folders[0] for folders in paths if folders}
    inner = {folder: {f[1] for f in paths if len(f) > 1 and f[0] == folder} for folder in outer}
    if layout in ("classes", "parts/classes"):
        return FolderMeaning(layout)
    splits = _named_splits(outer)
    inner_splits = _named_splits(set().union(*inner.values()))
    if layout is not None:
        named = splits if layout == "splits/classes" else inner_splits
        if not named:
            raise Invalid(
                f"No folder is named as a split (such as train, validation or test), as the layout "
                f"{layout} requires: {listed(outer)}. Rename the folders, or omit layout "
                "(--layout)."
            )
        return FolderMeaning(layout, named)
    if splits:
        return _with_splits_outside(splits, inner)
    meaning = _with_splits_inside(inner_splits, inner, paths)
    if meaning.layout == "classes" and all(len(folders) != 1 for folders in paths):
        _require_no_parts(inner)
    return meaning


def _with_splits_outside(splits: dict[str, SplitName], inner: dict[str, set[str]]) -> FolderMeaning:
    """Decide about outer folders, some of which are named as splits."""
    meaning = FolderMeaning("splits/classes", splits)
    plain = {folder for folder in splits if _is_plain(folder)}
    has_classes = any(inner[folder] for folder in plain)
    if plain == inner.keys() or _share_a_class(splits, inner):
        return meaning
    if has_classes and len({splits[folder] for folder in plain}) > 1:
        return meaning
    if len({splits[folder] for folder in plain}) > 1 or any(inner[folder] for folder in splits):
        others = inner.keys() - splits.keys()
        left_out = f" and {listed(others)} left out" if others else ""
        raise Invalid(
            f"The folders can be read in two ways: {listed(inner)} as classes, or "
            f"{listed(splits)} as {'a split' if len(splits) == 1 else 'splits'} with folders of "
            f"classes{left_out}. Choose with layout='classes' or layout='splits/classes' "
            "(--layout)."
        )
    return FolderMeaning("classes")


def _with_splits_inside(
    inner_splits: dict[str, SplitName], inner: dict[str, set[str]], paths: list[Folders]
) -> FolderMeaning:
    """Decide about outer folders of which none is named as a split."""
    plain = {folder for folder in inner_splits if _is_plain(folder)}
    if len({inner_splits[folder] for folder in plain}) < 2:
        return FolderMeaning("classes")
    if all(len(folders) == 2 and folders[1] in plain for folders in paths if folders):
        return FolderMeaning("classes/splits", inner_splits)
    raise Invalid(
        f"The folders {listed(plain)} can be read in two ways: as splits of the classes "
        f"{listed(inner)}, with the other images left out, or as parts of the classes that do not "
        "matter. Choose with layout='classes/splits' or layout='classes' (--layout)."
    )


def _require_no_parts(inner: dict[str, set[str]]) -> None:
    """Refuse outer folders that may be parts of the data, such as the folds of a cross-validation.

    They contain the same folders; numbered ones, such as "batch_1", may lack some.
    """
    names = [name for folders in inner.values() for name in folders]
    shared = {name for name in names if names.count(name) > 1}
    numbered = len({re.sub(r"\d+", "", folder) for folder in inner}) == 1
    if len(inner) < 2 or len(shared) < 2:
        return
    if numbered or all(folders == shared for folders in inner.values()):
        raise Invalid(
            f"The folders can be read in two ways: {listed(inner)} as classes, or as parts of the "
            f"data with folders of the classes {listed(set(names))}. Choose with layout='classes' "
            "or layout='parts/classes' (--layout)."
        )


def _share_a_class(splits: dict[str, SplitName], inner: dict[str, set[str]]) -> bool:
    """Return whether folders of two splits contain folders of the same name."""
    splits_of_class: dict[str, set[SplitName]] = {}
    for folder, split in splits.items():
        for name in inner[folder]:
            splits_of_class.setdefault(name.casefold(), set()).add(split)
    return any(len(names) > 1 for names in splits_of_class.values())


def _named_splits(folders: Iterable[str]) -> dict[str, SplitName]:
    splits = {folder: split for folder in sorted(folders) if (split := split_of(folder))}
    return dict(sorted(splits.items(), key=lambda item: SPLITS.index(item[1])))


def _is_plain(folder: str) -> bool:
    """Return whether a name says nothing but which split it is."""
    return all(word in _SPLITS or word in _FILLERS for word in _words(folder))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]
