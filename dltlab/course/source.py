"""Read `solutions/NN_topic.py`, the one source of a lab, and say where it is wrong."""

import ast
import hashlib
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jupytext

from dltlab.course.front_matter import PROFILES, Block, FrontMatter, SourceError
from dltlab.errors import LabError
from dltlab.paths import short_path

NAME = re.compile(r"(?P<number>\d\d)_(?P<topic>[a-z][a-z0-9_]*)")

_MARKER = re.compile(r"(?P<indent>\s*)### (?P<edge>BEGIN|END) SOLUTION\s*")
_LOOKS_LIKE_MARKER = re.compile(r"#\W*(begin|end)[\s_-]*solutions?\b", re.IGNORECASE)
_CELL = re.compile(r'# %%( \[markdown\])?( tags=\["[\w-]+"(, ?"[\w-]+")*\])?\s*')
_LOOKS_LIKE_CELL = re.compile(r"\s*#\s*%%+(\s|$)")  # to jupytext


@dataclass(frozen=True)
class Cell:
    """One cell of a lab: what it holds and the line (from 1) where its source begins."""

    kind: Literal["code", "markdown"]
    source: str
    tags: tuple[str, ...]
    line: int
    id: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of a code cell, IPython's magics and shell lines blanked out."""
        return ast.parse(re.sub(r"(?m)^(\s*)(%%?[a-z]|!).*$", r"\1pass", self.source))

    @property
    def stub(self) -> str:
        """The source a learner gets: each solution block replaced by one `...`."""
        kept, inside = [], False
        for line in self.source.splitlines():
            marker = _MARKER.fullmatch(line)
            if marker and marker["edge"] == "BEGIN":
                kept.append(f"{marker['indent']}...")
            if marker:
                inside = not inside
            elif not inside:
                kept.append(line)
        return "\n".join(kept)

    @property
    def solution(self) -> str:
        """The source without the solution's markers."""
        return "\n".join(line for line in self.source.splitlines() if not _MARKER.fullmatch(line))


@dataclass(frozen=True)
class Lab:
    """A lab as its author wrote it."""

    path: Path
    block: Block
    front_matter: FrontMatter
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """`NN_topic`."""
        return self.path.stem

    @property
    def number(self) -> str:
        """The two digits a lab keeps for good."""
        return self.name[:2]

    @property
    def topic(self) -> str:
        """The name without its number."""
        return self.name[3:]

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Names and values of the cell tagged `parameters`: what a learner gets."""
        return _parameters(self.path, self.cells)

    @cached_property
    def exercises(self) -> tuple[str, ...]:
        """Names of the exercises and questions, in order: each `ex.NAME.check` or `ex.NAME.ask`."""
        found: dict[str, None] = {}
        for cell in self.code_cells():
            for node in ast.walk(cell.tree):
                match node:
                    case ast.Call(
                        func=ast.Attribute(
                            value=ast.Attribute(value=ast.Name(id="ex"), attr=name),
                            attr="check" | "ask",
                        )
                    ):
                        found.setdefault(name)
        return tuple(found)

    @cached_property
    def exercise_module(self) -> str | None:
        """The module that the lab imports `as ex`, or None where it has no exercises."""
        for cell in self.code_cells():
            for node in ast.walk(cell.tree):
                match node:
                    case ast.ImportFrom(module=str(package), names=[ast.alias(name, "ex")]):
                        return f"{package}.{name}"
                    case ast.Import(names=[ast.alias(name, "ex")]):
                        return name
        return None

    def code_cells(self) -> Iterator[Cell]:
        """The cells that run."""
        return (cell for cell in self.cells if cell.kind == "code")

    def defining(self, function: str) -> Cell:
        """The code cell that defines `function` at its top level.

        Raises:
            LabError: No cell does.
        """
        for cell in self.code_cells():
            for node in cell.tree.body:
                if isinstance(node, ast.FunctionDef) and node.name == function:
                    return cell
        raise LabError(
            f"{short_path(self.path)} has no cell that defines the function '{function}'."
        )


def read_lab(path: Path) -> Lab:
    """Read and validate one source.

    Raises:
        SourceError: The front matter, the syntax, the solution markers, the parameters or the
            profiles are wrong; names the file and the line.
        LabError: The file cannot be read.
    """
    try:
        # Windows line ends and a byte-order mark are fine.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{short_path(path)} cannot be read as UTF-8 text ({error}).") from error
    block = Block(path, text)
    front_matter = block.validate()
    _require_syntax(path, text)
    cells = tuple(_cells(path, text, block.end))
    _require_markers(path, cells)
    lab = Lab(path, block, front_matter, cells)
    _require_profiles(lab)
    return lab


def _cells(path: Path, text: str, front_matter: int) -> Iterator[Cell]:
    starts = list(_starts(path, text))
    body = "\n".join(text.split("\n")[front_matter:])
    nodes = jupytext.reads(body.strip("\n"), fmt="py:percent").cells
    if len(starts) != len(nodes):
        raise SourceError(path, front_matter + 1, "the first cell must begin with a line '# %%'")
    seen: Counter[str] = Counter()
    for node, start in zip(nodes, starts, strict=True):
        digest = hashlib.sha256(f"{node.cell_type}\n{node.source}".encode()).hexdigest()[:12]
        seen[digest] += 1
        cell = Cell(
            kind=node.cell_type,
            source=node.source,
            tags=tuple(node.metadata.get("tags", ())),
            line=start + 1,
            id=digest if seen[digest] == 1 else f"{digest}-{seen[digest]}",
        )
        if cell.kind == "code":
            _require_whole(path, cell)
        yield cell


def _starts(path: Path, text: str) -> Iterator[int]:
    """The lines that begin a cell; in a string they do not."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and _LOOKS_LIKE_CELL.match(token.line):
            if not _CELL.fullmatch(token.line):
                raise SourceError(
                    path,
                    token.start[0],
                    "a cell begins with '# %%' or '# %% [markdown]', and tags follow as in "
                    "'# %% tags=[\"exercise\"]'",
                )
            yield token.start[0]


def _require_syntax(path: Path, text: str) -> None:
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise SourceError(path, error.lineno or 1, f"not Python: {error.msg}") from error


def _require_whole(path: Path, cell: Cell) -> None:
    """Raise where a cell is no Python without the cells around it."""
    try:
        _ = cell.tree
    except SyntaxError as error:
        line = cell.line + (error.lineno or 1) - 1
        raise SourceError(path, line, f"the cell is not Python on its own: {error.msg}") from error


def _require_markers(path: Path, cells: tuple[Cell, ...]) -> None:
    for cell in cells:
        opened: tuple[int, str] | None = None
        for number, line in enumerate(cell.source.splitlines(), start=cell.line):
            marker = _MARKER.fullmatch(line)
            if not marker or cell.kind != "code":
                if _LOOKS_LIKE_MARKER.search(line):
                    raise SourceError(
                        path,
                        number,
                        "malformed solution marker: write '### BEGIN SOLUTION' or "
                        "'### END SOLUTION' on a line of its own in a code cell",
                    )
                continue
            if marker["edge"] == "BEGIN":
                if opened:
                    raise SourceError(path, number, f"solution inside that of line {opened[0]}")
                opened = (number, marker["indent"])
            elif opened is None:
                raise SourceError(path, number, "'### END SOLUTION' without a beginning")
            elif opened[1] != marker["indent"]:
                raise SourceError(path, number, f"not indented as its beginning, line {opened[0]}")
            else:
                opened = None
        if opened:
            raise SourceError(path, opened[0], "unclosed solution: '### END SOLUTION' is missing")


def _parameters(path: Path, cells: tuple[Cell, ...]) -> dict[str, Any]:
    tagged = [cell for cell in cells if "parameters" in cell.tags]
    if len(tagged) != 1:
        line = tagged[1].line if tagged else 1
        raise SourceError(
            path, line, f"{len(tagged) or 'no'} cells are tagged 'parameters', not one"
        )
    values: dict[str, Any] = {}
    for node in tagged[0].tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=value):
                try:
                    values[name] = ast.literal_eval(value)
                    continue
                except ValueError:
                    pass
        line = tagged[0].line + node.lineno - 1
        raise SourceError(path, line, "the 'parameters' cell holds only NAME = literal")
    return values


def _require_profiles(lab: Lab) -> None:
    for profile in PROFILES:
        for name, value in getattr(lab.front_matter.profiles, profile).items():
            line = lab.block.line("profiles", profile, name)
            if name not in lab.parameters:
                known = ", ".join(lab.parameters) or "none"
                raise SourceError(
                    lab.path,
                    line,
                    f"profile '{profile}' sets unknown parameter '{name}'; known: {known}",
                )
            if profile == "workshop" and value != lab.parameters[name]:
                raise SourceError(
                    lab.path,
                    line,
                    f"profile 'workshop' sets {name} to {value!r}, the 'parameters' cell to "
                    f"{lab.parameters[name]!r}: a learner gets the cell, so make them equal",
                )
