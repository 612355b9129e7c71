"""Read `solutions/NN_topic.py`, the source of a lab, and report where it is not valid."""

import ast
import hashlib
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from dltlab.course.front_matter import PROFILES, Block, FrontMatter, SourceError
from dltlab.errors import Damaged, NotFound
from dltlab.paths import short_path

NAME = re.compile(r"(?P<number>\d\d)_(?P<topic>[a-z][a-z0-9_]*)")

_MARKER = re.compile(r"(?P<indent>\s*)### (?P<edge>BEGIN|END) SOLUTION\s*")
_LOOKS_LIKE_MARKER = re.compile(r"#\W*(begin|end)[\s_-]*solutions?\b", re.IGNORECASE)
# As jupytext writes it, with metadata of which only the tags are kept.
_CELL = re.compile(r"# %%( \[(markdown|md)\])?( (?P<options>[\w.@/-]+=.*))?\s*")
_TAG = re.compile(r"[\w-]+")
_LOOKS_LIKE_CELL = re.compile(r"\s*#\s*%%+(\s|$)")  # what jupytext takes for the start of a cell


@dataclass(frozen=True)
class Cell:
    """A cell of a lab; `line` (from 1) is where its source begins in the file."""

    kind: Literal["code", "markdown"]
    source: str
    tags: tuple[str, ...]
    line: int
    id: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of a code cell, with calls in the place of IPython's magics."""
        return parse_code(self.source)

    @property
    def stub(self) -> str:
        """The learner's source: each solution block is replaced by one `...`."""
        lines, in_solution = [], False
        for line in self.source.splitlines():
            marker = _MARKER.fullmatch(line)
            if marker and marker["edge"] == "BEGIN":
                lines.append(f"{marker['indent']}...")
            if marker:
                in_solution = not in_solution
            elif not in_solution:
                lines.append(line)
        return "\n".join(lines)

    @property
    def has_solution(self) -> bool:
        """Whether the cell has a part that the learner writes."""
        return self.stub != self.solution

    @property
    def solution(self) -> str:
        """The source without the solution markers."""
        return "\n".join(line for line in self.source.splitlines() if not _MARKER.fullmatch(line))


@dataclass(frozen=True)
class Lab:
    """The source of a lab; `read_outline` validates its front matter and syntax, `read_lab` all."""

    path: Path
    block: Block
    front_matter: FrontMatter
    text: str

    @property
    def name(self) -> str:
        """The name, `NN_topic`."""
        return self.path.stem

    @property
    def number(self) -> str:
        """The two digits of the name."""
        return self.name[:2]

    @property
    def topic(self) -> str:
        """The name without its number."""
        return self.name[3:]

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of the file, in which magics are comments.

        Raises:
            SourceError: The file is not Python.
        """
        try:
            return ast.parse(self.text)
        except SyntaxError as error:
            line = error.lineno or 1
            advice = _advice_on_magics(self.text.splitlines()[:line])
            raise SourceError(self.path, line, f"not Python: {error.msg}{advice}") from error

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cells.

        Raises:
            SourceError: A cell or a solution marker is not valid.
        """
        cells = tuple(_cells(self.path, self.text, self.block.end))
        _require_markers(self.path, cells)
        return cells

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Names and values of the parameters; empty without a cell tagged `parameters`."""
        return _parameters(self.path, self.cells)

    @cached_property
    def exercises(self) -> tuple[str, ...]:
        """Names of the exercises and questions, in order: of each `ex.NAME.check` and `.ask`."""
        names: dict[str, int] = {}  # with the line; `ast.walk` does not follow the lines
        for node in ast.walk(self.tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Attribute(value=ast.Name(id="ex"), attr=name),
                        attr="check" | "ask",
                    )
                ):
                    names[name] = min(node.lineno, names.get(name, node.lineno))
        return tuple(sorted(names, key=lambda name: names[name]))

    @cached_property
    def exercise_module(self) -> str | None:
        """The module that the lab imports `as ex`; None if the lab has no exercises."""
        for node in ast.walk(self.tree):
            match node:
                case ast.ImportFrom(module=str(package), names=[ast.alias(name, "ex")]):
                    return f"{package}.{name}"
                case ast.Import(names=[ast.alias(name, "ex")]):
                    return name
        return None

    def code_cells(self) -> Iterator[Cell]:
        """Return an iterator over the code cells."""
        return (cell for cell in self.cells if cell.kind == "code")

    def defining(self, function: str) -> Cell:
        """Return the code cell that defines `function` at its top level.

        Raises:
            NotFound: No cell defines it.
        """
        for cell in self.code_cells():
            for node in cell.tree.body:
                if isinstance(node, ast.FunctionDef) and node.name == function:
                    return cell
        raise NotFound(
            f"{short_path(self.path)} has no cell that defines the function '{function}'."
        )


def parse_code(source: str) -> ast.Module:
    """Return the syntax tree of a cell's code, with calls in the place of IPython's magics.

    Raises:
        SyntaxError: It is neither Python nor what IPython makes Python of.
    """
    try:
        return ast.parse(source)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager

        python: str = TransformerManager().transform_cell(source)
        return ast.parse(python)


def read_lab(path: Path) -> Lab:
    """Read and validate the source of a lab; one that has not changed is read once.

    Raises:
        SourceError: The front matter, the syntax, the solution markers, the parameters or the
            profiles are not valid; names the file and the line.
        Damaged: The file cannot be read as UTF-8 text.
    """
    lab = read_outline(path)
    _ = lab.cells
    _require_profiles(lab)
    return lab


def read_outline(path: Path) -> Lab:
    """Read the source of a lab and validate its front matter and syntax, not its cells.

    That takes a quarter of the time, and is enough for its title and the names of its exercises.

    Raises:
        SourceError: The front matter or the syntax is not valid; names the file and the line.
        Damaged: The file cannot be read as UTF-8 text.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise Damaged(f"{short_path(path)} cannot be read ({error}).") from error
    return _read_outline(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=100)
def _read_outline(path: Path, modified: int, size: int) -> Lab:
    """Read a lab whose file has this time and size."""
    try:
        # Windows line endings and a byte-order mark are allowed.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Damaged(f"{short_path(path)} cannot be read as UTF-8 text ({error}).") from error
    block = Block(path, text)
    lab = Lab(path, block, block.validate(), text)
    _ = lab.tree
    return lab


def _cells(path: Path, text: str, front_matter_end: int) -> Iterator[Cell]:
    import jupytext  # takes as long as all outlines

    starts, lines = list(_starts(path, text)), text.split("\n")
    body = "\n".join(lines[front_matter_end:])
    nodes = jupytext.reads(body.strip("\n"), fmt="py:percent").cells
    if len(starts) != len(nodes):
        raise SourceError(
            path, front_matter_end + 1, "the first cell must begin with a line '# %%'"
        )
    copies: Counter[str] = Counter()
    for node, start in zip(nodes, starts, strict=True):
        digest = hashlib.sha256(f"{node.cell_type}\n{node.source}".encode()).hexdigest()[:12]
        copies[digest] += 1
        cell = Cell(
            kind=node.cell_type,
            source=node.source,
            tags=tuple(node.metadata.get("tags", ())),
            # `language="bash"` in the marker stands for a first line `%%bash`.
            line=start if ' language="' in lines[start - 1] else start + 1,
            id=digest if copies[digest] == 1 else f"{digest}-{copies[digest]}",
        )
        if cell.kind == "code":
            _require_complete(path, cell, lines)
        yield cell


def _starts(path: Path, text: str) -> Iterator[int]:
    """Yield the numbers of the lines that begin a cell; a marker inside a string does not."""
    from jupytext.cell_metadata import parse_key_equal_value

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and _LOOKS_LIKE_CELL.match(token.line):
            cell = _CELL.fullmatch(token.line)
            if not cell or not _are_valid(parse_key_equal_value(cell["options"] or "")):
                raise SourceError(
                    path,
                    token.start[0],
                    "a cell begins with '# %%' or '# %% [markdown]'; tags are written "
                    "'# %% tags=[\"exercise\"]'",
                )
            yield token.start[0]


def _are_valid(options: dict[str, Any]) -> bool:
    """Return whether jupytext could read the options of a cell, and its tags are words."""
    tags = options.get("tags", [])
    return (
        "incorrectly_encoded_metadata" not in options
        and isinstance(tags, list)
        and all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags)
    )


def _advice_on_magics(lines: list[str]) -> str:
    """Return advice for the last of these lines, if it or the cell before it holds a magic."""
    if re.match(r"\s*[%!?]|.*\?\s*$|.*=\s*[%!]", lines[-1]):
        return "; write a magic as a comment, as in '# %matplotlib inline'"
    for line in reversed(lines[:-1]):
        if _LOOKS_LIKE_CELL.match(line):
            break
        if re.match(r"\s*# ([%!]|\w+ = [%!])", line):
            return "; comment every line of this cell and tag it 'active-ipynb'"
    return ""


def _require_complete(path: Path, cell: Cell, lines: list[str]) -> None:
    """Raise if a cell is not valid Python without the cells around it."""
    try:
        _ = cell.tree
    except SyntaxError as error:
        line = cell.line + (error.lineno or 1) - 1
        is_comment = lines[min(line, len(lines)) - 1].lstrip().startswith("#")
        is_comment &= "active-ipynb" not in cell.tags  # there, every line is a comment
        advice = "; jupytext takes this comment for a command: reword it" if is_comment else ""
        message = f"the cell is not Python on its own: {error.msg}{advice}"
        raise SourceError(path, line, message) from error


def _require_markers(path: Path, cells: tuple[Cell, ...]) -> None:
    for cell in cells:
        begin: tuple[int, str] | None = None
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
                if begin:
                    raise SourceError(path, number, f"solution inside that of line {begin[0]}")
                begin = (number, marker["indent"])
            elif begin is None:
                raise SourceError(path, number, "'### END SOLUTION' without '### BEGIN SOLUTION'")
            elif begin[1] != marker["indent"]:
                raise SourceError(
                    path, number, f"'### END SOLUTION' is not indented as line {begin[0]}"
                )
            else:
                begin = None
        if begin:
            raise SourceError(path, begin[0], "unclosed solution: '### END SOLUTION' is missing")


def _parameters(path: Path, cells: tuple[Cell, ...]) -> dict[str, Any]:
    tagged = [cell for cell in cells if "parameters" in cell.tags]
    if len(tagged) > 1:
        message = f"{len(tagged)} cells are tagged 'parameters'; tag one"
        raise SourceError(path, tagged[1].line, message)
    values: dict[str, Any] = {}
    for node in tagged[0].tree.body if tagged else []:
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=value):
                try:
                    values[name] = ast.literal_eval(value)
                    continue
                except ValueError:
                    pass
        line = tagged[0].line + node.lineno - 1
        raise SourceError(path, line, "the 'parameters' cell may only hold lines 'NAME = literal'")
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
                    f"profile 'workshop' sets {name} to {value!r}, but the 'parameters' cell sets "
                    f"{lab.parameters[name]!r}; a learner gets the cell, so make them equal",
                )
