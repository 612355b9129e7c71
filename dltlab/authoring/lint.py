"""Rules for a lab's source; each is a function that yields messages, with one text for the fix."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dltlab.authoring.writes import writes_elsewhere
from dltlab.course import Cell, Course, Lab, SourceError
from dltlab.errors import Damaged
from dltlab.paths import short_path

CODE_LINES = 30
PROSE_WORDS = 150
TERMS = (
    *("CUDA", "cuDNN", "GPU", "Jupyter", "JupyterLab", "Keras", "Matplotlib", "MNIST", "NumPy"),
    *("Python", "ReLU", "scikit-learn", "softmax", "TensorBoard", "TensorFlow"),
)

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MAKES_A_FIGURE = re.compile(
    r"(plt|pyplot|matplotlib\.pyplot)\.(plot|bar|barh|boxplot|contourf?|errorbar|fill_between|figure|"
    r"hexbin|hist|hist2d|hlines|imshow|loglog|matshow|pcolormesh|pie|quiver|scatter|semilog[xy]|"
    r"stackplot|stem|step|subplot|subplots|subplot_mosaic|violinplot|vlines)"
    r"|.*\.plot\.\w+|(sns|seaborn)\.\w+plot"  # of pandas and seaborn
)
_SHELL_CELL = re.compile(r"%%(bash|sh|script|system|!)")
_SHELL_LINE = re.compile(r"^\s*([\w, ]+=\s*)?[!%]+\s*")
_NETWORK_COMMAND = re.compile(r"(^|[;&|]\s*)\s*(sudo )?(pip|conda|wget|curl|git clone)\b")

Problem = tuple[int, str]  # the line and the message
Check = Callable[[Lab], Iterator[Problem]]


@dataclass(frozen=True)
class Finding:
    """A violation of a rule, and where it is."""

    place: str
    rule: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.place}: {self.rule}: {self.message}. {self.fix}"


@dataclass(frozen=True)
class Rule:
    """A check, its name, and how to fix what it finds."""

    name: str
    fix: str
    check: Check


RULES: list[Rule] = []


def rule(name: str, fix: str) -> Callable[[Check], Check]:
    """Register a check, which yields the line and the message of each problem."""

    def register(check: Check) -> Check:
        RULES.append(Rule(name, fix, check))
        return check

    return register


def lint(course: Course, names: list[str] | None = None) -> list[Finding]:
    """Return what violates a rule in the labs called `names`, by default in all of them.

    Without `names`, a file that belongs to no lab is a finding, too.

    Raises:
        NotFound: There is no lab of that name.
    """
    findings = []
    for path, fault in {} if names else {**course.misnamed(), **course.without_source()}.items():
        findings.append(Finding(short_path(path), "file", fault, "The course leaves it out."))
    for name in names or course.lab_names():
        try:
            (lab,) = course.read([name])
        except Damaged as error:
            place = short_path(course.resolve(name))
            findings.append(Finding(place, "source", str(error).rstrip("."), "Save it as UTF-8."))
            continue
        except SourceError as error:
            place = f"{short_path(error.path)}:{error.line}"
            findings.append(Finding(place, "source", error.message, "The lab cannot be built."))
            continue
        for rule in RULES:
            for line, message in rule.check(lab):
                place = f"{short_path(lab.path)}:{line}"
                findings.append(Finding(place, rule.name, message, rule.fix))
    return findings


@rule("heading-order", "The title is in the front matter; sections are '##', parts of them '###'.")
def heading_order(lab: Lab) -> Iterator[Problem]:
    """Headings begin with the second level and go down one level at a time."""
    level = 1
    for line, text in _prose_lines(lab):
        if heading := re.match(r"(#+) ", text):
            depth = len(heading[1])
            if depth == 1:
                yield line, "a first-level heading"
            elif depth > level + 1:
                yield line, f"a heading of level {depth} under one of level {level}"
            level = depth


@rule("alt-text", "Describe in one sentence what the image shows.")
def alt_text(lab: Lab) -> Iterator[Problem]:
    """Every image has a description for people who do not see it."""
    for line, text in _prose_lines(lab):
        if re.search(r"!\[\s*\]\(", text) or re.search(r"<img(?![^>]*\balt=\"[^\"]+\")", text):
            yield line, "an image without alt text"
    for cell in lab.code_cells():
        for call, name in _calls_in(cell):
            line = cell.line + call.lineno - 1
            if name.endswith("plt.show"):
                yield line, "'plt.show()' gives no alt text; use dltlab.display.show(figure, alt)"
            elif name == "show":
                alt = [word.value for word in call.keywords if word.arg == "alt"] or call.args[1:]
                if not alt or (isinstance(alt[0], ast.Constant) and not alt[0].value):
                    yield line, "a figure without alt text"
        if bare := _bare_figure(cell):
            message = f"'{bare[1]}' makes a figure that the cell shows without alt text"
            yield cell.line + bare[0].lineno - 1, f"{message}; use dltlab.display.show(figure, alt)"


@rule("axis-labels", "Set xlabel and ylabel, with units.")
def axis_labels(lab: Lab) -> Iterator[Problem]:
    """A cell that draws curves, bars or points labels their axes."""
    drawing = {"plot", "bar", "barh", "scatter", "hist", "errorbar", "step", "fill_between"}
    drawing |= {"semilogx", "semilogy", "loglog"}
    for cell in lab.code_cells():
        # Only methods: a call `step(…)` is of a function that the lab defines.
        names = [(call, name.rpartition(".")) for call, name in _calls_in(cell)]
        draws = [call for call, (owner, _, name) in names if owner and name in drawing]
        missing = [label for label in ("xlabel", "ylabel") if label not in cell.source]
        if draws and missing:
            yield cell.line + draws[0].lineno - 1, f"a drawing without {' and '.join(missing)}"


@rule("absolute-path", "Use a relative path, or dltlab.data for data sets.")
def absolute_path(lab: Lab) -> Iterator[Problem]:
    """No path names a folder of the author's machine."""
    pattern = re.compile(
        r"(?<![\w:/.])(~|/(home|Users|root|tmp|mnt|opt|usr|var|data|scratch))/|\b[A-Z]:\\\w"
    )
    for line, text in _lines(lab):
        if match := pattern.search(text):
            yield line, f"the absolute path '{text[match.start() :].split()[0]}'"


@rule("own-folder", "Write into a temporary folder, or into runs/TOPIC, with the lab's topic.")
def own_folder(lab: Lab) -> Iterator[Problem]:
    """A lab does not write where files of the learner's may be."""
    for line, path in writes_elsewhere(lab):
        yield line, f"'{path}' is written, which may be a file of the learner's"


@rule("network", "Labs run offline; load data with dltlab.data.")
def network(lab: Lab) -> Iterator[Problem]:
    """Code does not use the network."""
    modules = {"requests", "httpx", "urllib.request", "urllib3", "socket", "ftplib", "wget"}
    for cell in lab.code_cells():
        for node in ast.walk(cell.tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names += [str(node.module), *(f"{node.module}.{a.name}" for a in node.names)]
            if used := modules.intersection(names):
                yield cell.line + node.lineno - 1, f"'{used.pop()}' is imported"  # type: ignore[attr-defined]
        is_shell = _SHELL_CELL.match(cell.source)
        for number, text in enumerate(cell.source.splitlines(), start=cell.line):
            command = text if is_shell else _SHELL_LINE.sub("", text)
            if (is_shell or command != text) and _NETWORK_COMMAND.search(command):
                yield number, f"'{text.strip()}' needs the network"
            elif re.search(r"""["']https?://(?!localhost|127\.)""", text):
                yield number, "an internet address"


@rule("cell-length", f"At most {CODE_LINES} lines of code or {PROSE_WORDS} words; split the cell.")
def cell_length(lab: Lab) -> Iterator[Problem]:
    """A cell is short enough to do one thing."""
    for cell in lab.cells:
        lines, words = len(cell.source.splitlines()), len(cell.source.split())
        if cell.kind == "code" and lines > CODE_LINES:
            yield cell.line, f"a cell of {lines} lines"
        elif cell.kind == "markdown" and words > PROSE_WORDS:
            yield cell.line, f"a cell of {words} words"


@rule("exercise-tag", "Tag the cell 'exercise'.")
def exercise_tag(lab: Lab) -> Iterator[Problem]:
    """A cell with a solution is tagged."""
    for cell in lab.code_cells():
        if "exercise" not in cell.tags and cell.has_solution:
            yield cell.line, "a solution in a cell that is not tagged 'exercise'"


@rule("exercise-solution", "Put the solution between '### BEGIN SOLUTION' and '### END SOLUTION'.")
def exercise_solution(lab: Lab) -> Iterator[Problem]:
    """A tagged cell has a solution."""
    for cell in lab.code_cells():
        if "exercise" in cell.tags and not cell.has_solution:
            yield cell.line, "a cell tagged 'exercise' without a solution"


@rule("exercise-heading", "Put a heading that begins with 'Exercise' into the text above the cell.")
def exercise_heading(lab: Lab) -> Iterator[Problem]:
    """An exercise has a heading."""
    prose = ""
    for cell in lab.cells:
        if cell.kind == "markdown":
            prose = cell.source
            continue
        has_heading = re.search(r"^#+ .*(exercise|challenge)", prose, re.I | re.M)
        if "exercise" in cell.tags and cell.has_solution and not has_heading:
            yield cell.line, "an exercise without a heading"


@rule("exercise-check", "Check the function that the cell defines: 'ex.NAME.check(NAME)'.")
def exercise_check(lab: Lab) -> Iterator[Problem]:
    """An exercise has a check."""
    for cell in lab.code_cells():
        functions = [node for node in cell.tree.body if isinstance(node, ast.FunctionDef)]
        is_checked = any(function.name in lab.exercises for function in functions)
        if "exercise" in cell.tags and not is_checked:
            yield cell.line, "an exercise without a check"


@rule("spelling", "Spell a key term as its project does.")
def spelling(lab: Lab) -> Iterator[Problem]:
    """Key terms in prose are spelled correctly; code and addresses are ignored."""
    spelled = {term.lower(): term for term in TERMS}
    for line, text in _prose_lines(lab):
        plain = re.sub(r"`[^`]*`|https?://\S+|\]\([^)]*\)", " ", text)
        for word in re.findall(r"[A-Za-z][A-Za-z-]*", plain):
            correct = spelled.get(word.lower(), word)
            if word not in (correct, correct[0].upper() + correct[1:]):
                yield line, f"'{word}' is spelled '{correct}'"


def _lines(lab: Lab) -> Iterator[tuple[int, str]]:
    for cell in lab.cells:
        yield from enumerate(cell.source.splitlines(), start=cell.line)


def _prose_lines(lab: Lab) -> Iterator[tuple[int, str]]:
    for cell in lab.cells:
        if cell.kind == "markdown":
            yield from enumerate(cell.source.splitlines(), start=cell.line)


def _calls_in(cell: Cell) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(cell.tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def _bare_figure(cell: Cell) -> tuple[ast.Call, str] | None:
    """Return the first call that makes a figure which Jupyter shows at the end of a cell, if any.

    Functions that the cell only defines are left out, and figures that it shows, returns or closes.
    """
    statements = [node for node in cell.tree.body if not isinstance(node, _DEFINITIONS)]
    calls = [
        (node, ast.unparse(node.func))
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
    ]
    if any(name.rpartition(".")[2] in ("show", "close") for _, name in calls):
        return None
    return next(((call, name) for call, name in calls if _MAKES_A_FIGURE.fullmatch(name)), None)
