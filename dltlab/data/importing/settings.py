"""The settings of an import, validated."""

from dataclasses import dataclass

from dltlab.data.image_file import RESIZES, Resize
from dltlab.data.importing.layout import LAYOUTS, Layout
from dltlab.errors import Invalid

MIN_SIZE, MAX_SIZE = 8, 2048  # pixels


@dataclass(frozen=True)
class Settings:
    """The settings of an import; `import_images` describes them.

    Attributes:
        class_names: The classes that the images must have; None: those of the source.
        white: The value in images of 16 bits of gray that becomes white; None: their largest one.

    Raises:
        Invalid: A value is not allowed; the message names it.
    """

    validation: float
    test: float
    size: int
    resize: Resize
    min_per_class: int
    max_per_class: int | None
    seed: int
    class_names: list[str] | None
    layout: Layout | None
    white: int | None

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            fraction = getattr(self, name)
            if not 0 <= fraction <= 1:
                raise Invalid(
                    f"{name} is {fraction}; it must be a fraction in [0, 1], such as 0.2 for 20 %."
                )
        if self.validation + self.test > 1:
            raise Invalid(
                f"validation is {self.validation} and test is {self.test}; together they must be "
                "at most 1."
            )
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise Invalid(f"size is {self.size}; it must be from {MIN_SIZE} to {MAX_SIZE} pixels.")
        if self.resize not in RESIZES:
            raise Invalid(f"resize is {self.resize}; it must be one of {', '.join(RESIZES)}.")
        if self.layout is not None and self.layout not in LAYOUTS:
            raise Invalid(f"layout is {self.layout}; it must be one of {', '.join(LAYOUTS)}.")
        if self.min_per_class < 1:
            raise Invalid(f"min_per_class is {self.min_per_class}; it must be 1 or more.")
        if self.max_per_class is not None and self.max_per_class < self.min_per_class:
            raise Invalid(
                f"max_per_class is {self.max_per_class}; it must be at least min_per_class, which "
                f"is {self.min_per_class}."
            )
        if self.seed < 0:
            raise Invalid(f"seed is {self.seed}; it must be 0 or more.")
