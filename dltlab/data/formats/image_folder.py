"""Image files in a tar or zip archive with a folder for each class."""

from typing import Annotated, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from dltlab.data.card import HoldOut, ImageCard, OneFile, SplitName
from dltlab.data.formats.registry import register
from dltlab.data.image_file import MAX_GRAY, Resize
from dltlab.data.importing.candidates import Candidate
from dltlab.data.importing.decoding import decode_all
from dltlab.data.importing.layout import Layout
from dltlab.data.importing.sources import open_source
from dltlab.data.importing.wording import listed, shortened
from dltlab.data.packed_images import PackedImages
from dltlab.data.verified_files import verified_path
from dltlab.errors import Damaged, Invalid


@register("image_folder")
class ImageFolderCard(ImageCard):
    """Image files in an archive, with folders of classes and splits as in an import.

    Attributes:
        resize: How images of other shapes become squares, as `dltlab.data.read_image` describes it.
        layout: What the folders are, as `dltlab.data.import_images` describes it.
        white: The value in images of 16 bits of gray that becomes white.
        hold_out: How to divide the images where the archive has no folders of splits.
    """

    files: OneFile
    resize: Resize = "crop"
    layout: Layout | None = None
    white: Annotated[PositiveInt, Field(le=MAX_GRAY)] = MAX_GRAY
    hold_out: HoldOut | None = None

    @model_validator(mode="after")
    def _is_square_and_in_color(self) -> Self:
        if self.shape[0] != self.shape[1] or self.shape[2] != 3:
            raise ValueError("'shape' must be that of a square color image, such as [64, 64, 3]")
        if self.hold_out and set(self.splits) != {"train", "test"}:
            raise ValueError("with 'hold_out', the splits must be 'train' and 'test'")
        return self

    def read_all(self) -> PackedImages:
        """Return the images of all splits, one after the other."""
        return super().read_all() if self.hold_out is None else self._read(None)

    def read_split(self, split: SplitName) -> PackedImages:
        """Return the images of one split, in the order of their names."""
        if self.hold_out is None:
            return self._read(split)
        return self.hold_out.part(self._read(None), split)

    def _read(self, split: SplitName | None) -> PackedImages:
        """Return the images of one split, or of the whole archive."""
        path = verified_path(self, self.files[0])
        source = open_source(path, self.layout)
        candidates = source.listing().candidates
        if split is not None:
            if not any(candidate.split for candidate in candidates):
                raise Invalid(
                    f"{path} has no folders of splits, such as train and test: add [hold_out] to "
                    f"the card of '{self.name}'."
                )
            candidates = [candidate for candidate in candidates if candidate.split == split]
        images: dict[str, np.ndarray] = {}
        for chunk, decoded in decode_all(
            source.contents(candidates), self.shape[0], self.resize, self.white
        ):
            for candidate, reason in zip(chunk, decoded.reasons, strict=True):
                if reason is not None:
                    raise Damaged(f"{shortened(candidate.name)} in {path} {reason}: remove it.")
            names = [candidate.name for candidate in chunk]
            images.update(zip(names, decoded.pixels, strict=True))
        pixels = np.array([images[candidate.name] for candidate in candidates], np.uint8)
        return self._packed(split, pixels, self._labels(candidates))

    def _packed(
        self, split: SplitName | None, pixels: np.ndarray, labels: np.ndarray
    ) -> PackedImages:
        """Pack the images of a split, or of all, whose number must be that of the card."""
        if split is not None:
            return self.pack(split, pixels, labels)
        if len(labels) != self.total_size:
            raise Invalid(
                f"The file of '{self.name}' holds {len(labels)} images; its card says "
                f"{self.total_size}: correct the sizes of the splits."
            )
        return PackedImages.of(pixels, labels)

    def _labels(self, candidates: list[Candidate]) -> np.ndarray:
        """Return the labels of images, int64 `(n,)`.

        Raises:
            Invalid: A folder is not that of a class.
        """
        labels = {name: label for label, name in enumerate(self.class_names)}
        unknown = {candidate.label for candidate in candidates} - labels.keys()
        if unknown:
            raise Invalid(
                f"The file of '{self.name}' has folders of the classes {listed(unknown)}, which "
                "are not in 'class_names' of its card."
            )
        return np.array([labels[candidate.label] for candidate in candidates], np.int64)
