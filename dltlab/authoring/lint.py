"""Rules of the house for a lab's source; each a function with a message and a mend."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dltlab.course.catalog import Course
from dltlab.course.front_matter import SourceError
from dltlab.course.source import Cell, Lab
from dltlab.paths import short_path

CODE_LINES = 30
PROSE_WORDS = 150
TERMS = (
    *("CUDA", "cuDNN", "GPU", "Jupyter", "JupyterLab", "Keras", "Matplotlib", "MNIST", "NumPy"),
    *("Python", "ReLU", "scikit-learn", "softmax", "TensorBoard", "TensorFlow"),
)

Fault = tuple[int, str]
Check = Callable[[Lab], Iterator[Fault]]


@dataclass(frozen=True)
class Finding:
    """One thing to mend, and where."""

    place: str
    rule: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place}: {self.rule}: {self.message}. {self.mend}"


@dataclass(frozen=True)
class Rule:
    """A check with its name and how to mend what it finds."""

    name: str
    mend: str
    check: Check


RULES: list[Rule] = []


def rule(name: str, mend: str) -> Callable[[Check], Check]:
    """Register a check; it yields the line and what is wrong there."""

    def register(check: Check) -> Check:
        RULES.append(Rule(name, mend, check))
        return check

    return register


def lint(course: Course, names: list[str] | None = None) -> list[Finding]:
    """What is to mend in the labs called `names`, or in all of them."""
    findings = []
    for name in names or course.lab_names():
        try:
            (lab,) = course.read([name])
        except SourceError as error:
            place = f"{short_path(error.path)}:{error.line}"
            findings.append(Finding(place, "source", error.message, "The lab cannot be built."))
            continue
        for each in RULES:
            for line, message in each.check(lab):
                findings.append(
                    Finding(f"{short_path(lab.path)}:{line}", each.name, message, each.mend)
                )
    return findings


@rule("heading-order", "The title is in the front matter; sections are '##', parts of them '###'.")
def heading_order(lab: Lab) -> Iterator[Fault]:
    """Headings go down one level at a time, beginning with the second."""
    level = 1
    for line, text in _prose_lines(lab):
        if heading := re.match(r"(#+) ", text):
            depth = len(heading[1])
            if depth == 1:
                yield line, "a first-level heading"
            elif depth > level + 1:
                yield line, f"a heading of level {depth} under one of level {level}"
            level = depth


@rule("alt-text", "Say in one sentence what the image shows.")
def alt_text(lab: Lab) -> Iterator[Fault]:
    """Every image is described for those who do not see it."""
    for line, text in _prose_lines(lab):
        if re.search(r"!\[\s*\]\(", text) or re.search(r"<img(?![^>]*\balt=\"[^\"]+\")", text):
            yield line, "an image without alt text"
    for line, call, name in _calls(lab):
        if name.endswith("plt.show"):
            yield line, "'plt.show()' gives no alt text; use dltlab.display.show(figure, alt)"
        elif name == "show":
            alt = [word.value for word in call.keywords if word.arg == "alt"] or call.args[1:]
            if not alt or (isinstance(alt[0], ast.Constant) and not alt[0].value):
                yield line, "a figure without alt text"


@rule("axis-labels", "Set xlabel and ylabel, with units.")
def axis_labels(lab: Lab) -> Iterator[Fault]:
    """A cell that draws curves, bars or points labels their axes."""
    drawing = {"plot", "bar", "barh", "scatter", "hist", "errorbar", "step", "fill_between"}
    drawing |= {"semilogx", "semilogy", "loglog"}
    for cell in lab.code_cells():
        # A method: a bare `step(…)` is a function of the lab's own.
        methods = [(call, name.rpartition(".")) for call, name in _calls_in(cell)]
        draws = [call for call, (of, _, name) in methods if of and name in drawing]
        missing = [label for label in ("xlabel", "ylabel") if label not in cell.source]
        if draws and missing:
            yield cell.line + draws[0].lineno - 1, f"a drawing without {' and '.join(missing)}"


@rule("absolute-path", "Use a relative path, or dltlab.data for data sets.")
def absolute_path(lab: Lab) -> Iterator[Fault]:
    """A path of the author's machine is nobody else's."""
    pattern = re.compile(
        r"(?<![\w:/.])(~|/(home|Users|root|tmp|mnt|opt|usr|var|data|scratch))/|\b[A-Z]:\\\w"
    )
    for line, text in _lines(lab):
        if found := pattern.search(text):
            yield line, f"the absolute path '{text[found.start() :].split()[0]}'"


@rule("network", "Labs run offline; load data with dltlab.data.")
def network(lab: Lab) -> Iterator[Fault]:
    """Code does not reach for the network."""
    modules = {"requests", "httpx", "urllib.request", "urllib3", "socket", "ftplib", "wget"}
    for cell in lab.code_cells():
        for node in ast.walk(cell.tree):
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                named += [str(node.module), *(f"{node.module}.{a.name}" for a in node.names)]
            if used := modules.intersection(named):
                yield cell.line + node.lineno - 1, f"'{used.pop()}' is imported"  # type: ignore[attr-defined]
        for number, text in enumerate(cell.source.splitlines(), start=cell.line):
            if re.match(r"\s*[!%]+\s*(pip|conda|wget|curl|git clone)\b", text):
                yield number, f"'{text.strip()}' needs the network"
            elif re.search(r"""["']https?://(?!localhost|127\.)""", text):
                yield number, "an address on the network"


@rule("cell-length", f"At most {CODE_LINES} lines of code or {PROSE_WORDS} words; split the cell.")
def cell_length(lab: Lab) -> Iterator[Fault]:
    """A cell does one thing."""
    for cell in lab.cells:
        lines, words = len(cell.source.splitlines()), len(cell.source.split())
        if cell.kind == "code" and lines > CODE_LINES:
            yield cell.line, f"a cell of {lines} lines"
        elif cell.kind == "markdown" and words > PROSE_WORDS:
            yield cell.line, f"a cell of {words} words"


@rule("exercise", "Announce it under a heading 'Exercise …', tag its cell 'exercise', check it.")
def exercise(lab: Lab) -> Iterator[Fault]:
    """An exercise is announced, tagged and checked."""
    prose = ""
    for cell in lab.cells:
        if cell.kind == "markdown":
            prose = cell.source
            continue
        tagged, answered = "exercise" in cell.tags, cell.stub != cell.source
        if answered and not tagged:
            yield cell.line, "a solution in a cell that is not tagged 'exercise'"
        elif tagged and not answered:
            yield cell.line, "a cell tagged 'exercise' without a solution"
        elif tagged and not re.search(r"^#+ .*(exercise|challenge)", prose, re.I | re.M):
            yield cell.line, "an exercise that no heading announces"
        if tagged and not any(
            isinstance(node, ast.FunctionDef) and node.name in lab.exercises
            for node in cell.tree.body
        ):
            yield cell.line, "an exercise that is never checked"


@rule("spelling", "Key terms are spelled as their makers spell them.")
def spelling(lab: Lab) -> Iterator[Fault]:
    """Key terms in prose, code and addresses set aside."""
    spelled = {term.lower(): term for term in TERMS}
    for line, text in _prose_lines(lab):
        plain = re.sub(r"`[^`]*`|https?://\S+|\]\([^)]*\)", " ", text)
        for word in re.findall(r"[A-Za-z][A-Za-z-]*", plain):
            right = spelled.get(word.lower(), word)
            if word not in (right, right[0].upper() + right[1:]):
                yield line, f"'{word}' is spelled '{right}'"


def _lines(lab: Lab) -> Iterator[tuple[int, str]]:
    for cell in lab.cells:
        yield from enumerate(cell.source.splitlines(), start=cell.line)


def _prose_lines(lab: Lab) -> Iterator[tuple[int, str]]:
    for cell in lab.cells:
        if cell.kind == "markdown":
            yield from enumerate(cell.source.splitlines(), start=cell.line)


def _calls(lab: Lab) -> Iterator[tuple[int, ast.Call, str]]:
    for cell in lab.code_cells():
        for call, name in _calls_in(cell):
            yield cell.line + call.lineno - 1, call, name


def _calls_in(cell: Cell) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(cell.tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)
