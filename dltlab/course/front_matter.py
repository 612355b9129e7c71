"""The front matter that opens a lab's source: its title, needs, times and profiles."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from dltlab.errors import Invalid
from dltlab.paths import short_path

PROFILES = ("smoke", "workshop", "full")

Sentence = Annotated[str, Field(min_length=1)]


class SourceError(Invalid):
    """An error in a lab's source, with its file and line."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        """Describe an error in line `line` (from 1) of `path`."""
        super().__init__(f"{short_path(path)}:{line}: {message}")
        self.path, self.line, self.message = path, line, message


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Minutes(_Strict):
    """Minutes a learner spends on reading and exercises, and two CPU cores on computing."""

    read: PositiveInt
    exercise: NonNegativeInt
    compute: PositiveInt


class Devices(_Strict):
    """Whether a lab needs a GPU."""

    gpu: Literal["none", "optional", "required"]


class Profiles(_Strict):
    """Values of the lab's parameters: in CI, for a learner, and for a run without a time limit."""

    smoke: dict[str, Any]
    workshop: dict[str, Any]
    full: dict[str, Any]


class FrontMatter(_Strict):
    """A lab's front matter; an unknown key is an error."""

    title: Sentence
    summary: Sentence
    objectives: Annotated[list[Sentence], Field(min_length=1)]
    minutes: Minutes
    memory_gb: PositiveFloat
    devices: Devices
    datasets: list[str]
    requires: list[str]
    profiles: Profiles


class Block:
    """The commented YAML between the two `# ---` lines that open a source."""

    def __init__(self, path: Path, text: str) -> None:
        """Parse the front matter of `text`, the source in the file `path`.

        Raises:
            SourceError: The front matter is missing, not closed, not commented or not YAML.
        """
        self.path = path
        lines = text.splitlines()
        if not lines or lines[0].rstrip() != "# ---":
            message = "the front matter is missing: open the lab with '# ---', or add it with: "
            raise SourceError(path, 1, message + self._conversion)
        ends = [n for n, line in enumerate(lines[1:], start=1) if line.rstrip() == "# ---"]
        if not ends:
            raise SourceError(path, 1, "the front matter is not closed: end it with '# ---'")
        self.end = ends[0] + 1
        for number, line in enumerate(lines[: self.end], start=1):
            if not line.startswith("#"):
                raise SourceError(path, number, "a line of the front matter must begin with '# '")
        # Line n of the YAML is line n of the source, so YAML's error positions can be reported.
        yaml_text = "\n".join(["", *(line[1:].removeprefix(" ") for line in lines[1 : ends[0]])])
        try:
            loader = yaml.SafeLoader(yaml_text)
            self._node = loader.get_single_node()
            self._values = loader.construct_document(self._node) if self._node else None
        except yaml.MarkedYAMLError as error:
            line_number = error.problem_mark.line + 1 if error.problem_mark else 1
            raise SourceError(path, line_number, f"not YAML: {error.problem}") from error
        except yaml.reader.ReaderError as error:
            line_number = yaml_text.count("\n", 0, error.position) + 1
            raise SourceError(path, line_number, "not YAML: a control character") from error
        if not isinstance(self._values, dict | None):
            raise SourceError(path, 2, "the front matter must be lines 'key: value'")

    def validate(self) -> FrontMatter:
        """Return the validated front matter; the key `jupyter`, which jupytext writes, is ignored.

        Raises:
            SourceError: A key is unknown or missing, or a value is not allowed; names its line.
        """
        values = {key: value for key, value in (self._values or {}).items() if key != "jupyter"}
        if not values:
            raise SourceError(
                self.path,
                1,
                f"the keys of the front matter are missing; add them with: {self._conversion}",
            )
        try:
            return FrontMatter.model_validate(values)
        except ValidationError as error:
            # A misspelled key is also a missing one; the unknown key is the more helpful message.
            first = min(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
            raise SourceError(self.path, self.line(*first["loc"]), _sentence(first)) from error

    @property
    def _conversion(self) -> str:
        """The command that adds the front matter to a script in `solutions/`."""
        course = short_path(self.path.parents[1])
        return shlex.join(["dltlab", "new", "--from", short_path(self.path), "--course", course])

    def line(self, *keys: str | int) -> int:
        """Return the line (from 1) of the value under `keys`, or of its nearest parent."""
        node, line = self._node, 1
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                pairs = {name.value: (name, value) for name, value in node.value}
                if key not in pairs:
                    break
                name, node = pairs[str(key)]
                line = name.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                node = node.value[key]
                line = node.start_mark.line + 1
        return line


def _sentence(error: Any) -> str:
    """Return one of Pydantic's error details as a sentence."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(_fields(error["loc"][:-1]))
        return f"unknown key '{key}' in the front matter; known here: {known}"
    if error["type"] == "missing":
        kind = "profile" if error["loc"][0] == "profiles" and len(error["loc"]) == 2 else "key"
        return f"the {kind} '{key}' is missing from the front matter; add it"
    return f"'{key}' in the front matter: {error['msg'][0].lower()}{error['msg'][1:]}"


def _fields(parents: tuple[str | int, ...]) -> list[str]:
    model: Any = FrontMatter
    for parent in parents:
        model = model.model_fields[parent].annotation
    return list(model.model_fields)
