"""A table in a CSV file: numbers, and a class or another number as the label of each row."""

import csv
import io
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from dltlab.data.card import ALL, OneFile, Seed, Sentence, TableCard
from dltlab.data.formats.registry import register
from dltlab.data.verified_files import file_content
from dltlab.errors import Damaged, Invalid


@register("csv")
class CsvCard(TableCard):
    """A CSV file in UTF-8 whose first line names its columns.

    Attributes:
        label: The column with the label.
        separator: The character between two fields.
        seed: The seed of a shuffle before the rows are divided, in the order and sizes of the
            card's splits; by default they stay in the order of the file.
    """

    files: OneFile
    label: Sentence
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    seed: Seed | None = None

    @model_validator(mode="after")
    def _has_no_label_among_its_features(self) -> Self:
        if self.label in self.features:
            raise ValueError(f"the label '{self.label}' is also one of 'features'")
        return self

    def read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and labels of a split, or of "all"."""
        features, labels = self._rows()
        if len(labels) != self.total_size:
            raise Invalid(
                f"{self.files[0].name} has {len(labels)} rows; the splits in the card of "
                f"'{self.name}' have {self.total_size}: correct their sizes."
            )
        if split == ALL:
            return features, labels
        if self.seed is not None:
            # RandomState's stream never changes; those of newer generators may between versions.
            order = np.random.RandomState(self.seed).permutation(len(labels))
            features, labels = features[order], labels[order]
        return self.consecutive_part(features, split), self.consecutive_part(labels, split)

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        name = self.files[0].name
        try:
            text = file_content(self, self.files[0]).decode("utf-8-sig")
            reader = csv.DictReader(io.StringIO(text, ""), delimiter=self.separator, strict=True)
            rows = [(reader.line_num, row) for row in reader]
        except (UnicodeDecodeError, csv.Error) as error:
            raise Damaged(f"{name} is not a CSV file in UTF-8: {error}.") from error
        columns = [*self.features, self.label]
        for column in columns:
            if column not in (reader.fieldnames or []):
                raise Invalid(
                    f"{name} has no column '{column}' in its first line; correct the card of "
                    f"'{self.name}' or its 'separator'."
                )
        try:
            features = [
                [self._number(row, number, c) for c in self.features] for number, row in rows
            ]
            labels = [self._label(row, number) for number, row in rows]
        except ValueError as error:
            raise Invalid(f"{name}, {error}: correct the file.") from None
        dtype = np.int64 if self.class_names else np.float32
        return np.array(features, np.float32), np.array(labels, dtype)

    def _label(self, row: dict[str, str], line: int) -> float:
        if not self.class_names:
            return self._number(row, line, self.label)
        if row[self.label] not in self.class_names:
            raise ValueError(f"line {line}: '{row[self.label]}' is not in the card's class_names")
        return self.class_names.index(row[self.label])

    @staticmethod
    def _number(row: dict[str, str], line: int, column: str) -> float:
        try:
            return float(row[column])
        except (TypeError, ValueError):
            raise ValueError(f"line {line}: '{row[column]}' in '{column}' is no number") from None
