"""Which images of a source are imported: enough of each class, and each image only once."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dltlab.data.importing.candidates import Candidate, LeftOut
from dltlab.data.importing.class_names import ONLY_IN, shown_apart, similar_names
from dltlab.data.importing.decoding import Decoded
from dltlab.data.importing.settings import Settings
from dltlab.data.importing.wording import joined, shortened
from dltlab.errors import Invalid

_RANKS = {"test": 0, "validation": 1}  # of the splits; the first of equal images is kept


def choose(candidates: list[Candidate], settings: Settings) -> list[Candidate]:
    """Return at most `max_per_class` candidates of each class, sorted by rank."""
    if settings.max_per_class is not None:
        by_label: dict[str, list[Candidate]] = {}
        for candidate in sorted(candidates, key=lambda c: random_key(settings.seed, c.name)):
            by_label.setdefault(candidate.label, []).append(candidate)
        candidates = [
            candidate
            for of_label in by_label.values()
            for candidate in of_label[: settings.max_per_class]
        ]
    return sorted(candidates, key=_rank)


def random_key(seed: int, text: str) -> bytes:
    """Return a random key that depends on nothing but the seed and the text."""
    content = f"{seed}/{text}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content, digest_size=8).digest()


@dataclass
class Selection:
    """The images that are imported, in the order of their rows.

    Attributes:
        candidates: The file of each image.
        digests: The hash of its pixels.
        sums: The sums of its color values and of their squares, float64 `(2, 3)`.
    """

    candidates: list[Candidate] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)
    _rows: dict[str, int] = field(default_factory=dict)  # of each digest
    _duplicates: list[tuple[int, Candidate]] = field(default_factory=list)  # of the image in a row

    def add(self, candidate: Candidate, decoded: Decoded, index: int) -> bool:
        """Add the image at `index` in `decoded`; return whether it is a new image."""
        row = self._rows.setdefault(decoded.digests[index], len(self.candidates))
        if row < len(self.candidates):
            self._duplicates.append((row, candidate))
            return False
        self.candidates.append(candidate)
        self.digests.append(decoded.digests[index])
        self.sums.append(decoded.sums[index])
        return True

    def resolve_duplicates(self) -> list[LeftOut]:
        """Keep the first file of equal images, by rank; return the others."""
        others = []
        for row, candidate in self._duplicates:
            first, other = sorted((self.candidates[row], candidate), key=_rank)
            self.candidates[row] = first
            others.append((row, other))
        return [(other.name, _reason(other, self.candidates[row])) for row, other in others]


def require_classes(
    candidates: list[Candidate], left_out: list[LeftOut], settings: Settings, source: Path
) -> None:
    """Require at least two classes with enough images, or only classes in `class_names`.

    Raises:
        Invalid: The message names the classes and the fix.
    """
    counts = Counter(candidate.label for candidate in candidates)
    first_left_out = ""
    if left_out:
        name, reason = left_out[0]
        more = f" (and {len(left_out) - 1:,} more)" if len(left_out) > 1 else ""
        first_left_out = f" Left out: {shortened(name)} {reason}{more}."
    if settings.class_names is not None:
        unknown = [label for label in sorted(counts) if label not in settings.class_names]
        if unknown:
            raise Invalid(
                f"No such class: {joined(list(map(shortened, unknown)))}. The classes are: "
                f"{joined(list(map(shortened, settings.class_names)))}."
                f"{_similar_to_known(unknown, settings.class_names)}"
            )
    if not counts:
        raise Invalid(
            f"{source} has no images in folders of classes: put JPEG, PNG, TIFF, BMP or WebP files "
            f"into one folder per class.{first_left_out}"
        )
    if len(counts) == 1 and settings.class_names is None:
        raise Invalid(
            f"{source} has only one class, '{shortened(next(iter(counts)))}', but at least two are "
            f"needed. Name the folder that holds the folders of the classes.{first_left_out}"
        )
    too_small = [
        f"'{shortened(label)}' has {count}"
        for label, count in sorted(counts.items())
        if count < settings.min_per_class
    ]
    if too_small:
        raise Invalid(
            f"Too few images: {joined(too_small)}, but at least {settings.min_per_class} are "
            "needed. Add images, remove the folder, or lower min_per_class (--min-per-class)."
            f"{first_left_out}"
        )


def _similar_to_known(unknown: list[str], known: list[str]) -> str:
    """Return a sentence about the unknown names that look like known ones."""
    groups = [group for group in similar_names([*unknown, *known]) if set(group) & set(unknown)]
    if not groups:
        return ""
    return f" {' and '.join(shown_apart(groups[0]))} differ {ONLY_IN}: rename the folder or label."


def _rank(candidate: Candidate) -> tuple[int, str]:
    """Return the sort key by which the first of equal images is kept: test first, then by name."""
    return _RANKS.get(candidate.split or "", 2), candidate.name


def _reason(candidate: Candidate, first: Candidate) -> str:
    reason = f"is the same image as {shortened(first.name)}"
    if candidate.label != first.label:
        return f"{reason}, which is in another class: one of the two labels is wrong"
    if candidate.split != first.split:
        return f"{reason}, which is in the {first.split} split"
    return reason
