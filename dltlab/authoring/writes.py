"""Find the files that a lab writes, as far as its source tells their paths."""

import ast
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from dltlab.course import Lab

_METHODS_OF_A_PATH = {"mkdir", "rmdir", "touch", "unlink", "write_bytes", "write_text"}
_SAME_FOLDER = {"absolute", "expanduser", "joinpath", "resolve", "with_name", "with_suffix"}
_PATH_OF_PARTS = {"Path", "pathlib.Path", "os.path.join", "os.fspath", "str"}
# Functions, methods and classes: their path is the first argument that is a text.
_TAKING_A_PATH = {
    *("add_to_leaderboard", "create_file_writer", "export", "imsave", "imwrite", "leaderboard"),
    *("joblib.dump", "makedirs", "rmtree", "write_file", "FileHandler", "TFRecordWriter"),
    *("save", "save_img", "save_model", "save_weights", "savefig", "savetxt", "savez"),
    *("savez_compressed", "to_csv", "to_excel", "to_feather", "to_hdf", "to_json", "to_parquet"),
    *("to_pickle", "tofile", "BackupAndRestore", "CSVLogger", "ModelCheckpoint", "TensorBoard"),
    *("os.mkdir", "os.remove", "os.rmdir", "os.unlink"),
}
_TAKING_A_TARGET = {f"shutil.{name}" for name in ("copy", "copy2", "copyfile", "copytree", "move")}
_TAKING_A_TARGET |= {"os.rename", "os.replace"}
_TAKING_A_MODE = {"open", "File", "GFile", "TarFile", "ZipFile"}
_OPENERS = {"open", "io.open", "gzip.open", "bz2.open", "lzma.open", "codecs.open", "tarfile.open"}
_KEYWORDS = {"backup_dir", "file", "filename", "filepath", "fname", "log_dir", "path", "run_dir"}
_SHELLS = {"!", "bash", "script", "sh", "system", "sx"}
_REDIRECTION = re.compile(r">>?\s*([^\s;|&>]+)")
_WRITING_COMMAND = re.compile(r"(?m)(?:^|[;&|])\s*(cp|mkdir|mv|rm|rmdir|tee|touch)\b([^;|&<>\n]*)")
_UNKNOWN = "?"  # a part of a path that the source does not tell

Assigned = dict[str, list[ast.expr]]  # what the lab assigns to each name
Resolve = Callable[[ast.expr], set[str]]


def writes_elsewhere(lab: Lab) -> Iterator[tuple[int, str]]:
    """Yield the line and the path of each write outside of a folder that is named after the lab.

    For the lab `first_network` that is `first_network` or `runs/first_network`. A path that the
    source does not tell, such as one in a temporary folder, counts as allowed, and so does all that
    happens in a block `with chdir(…)`.
    """
    assigned: Assigned = {}
    for cell in lab.code_cells():
        for node in ast.walk(cell.tree):
            match node:
                case ast.Assign(targets=[ast.Name(name)], value=value):
                    assigned.setdefault(name, []).append(value)
    for cell in lab.code_cells():
        first_line = cell.source.partition("\n")[0].split()
        if first_line[:1] in (["%%writefile"], ["%%file"]) and not _is_inside(first_line[-1], lab):
            yield cell.line, first_line[-1]
        for call in _calls(cell.tree):
            for path in sorted(_written(call, lambda node: _paths(node, assigned))):
                if not _is_inside(path, lab):
                    yield cell.line + call.lineno - 1, path


def _is_inside(path: str, lab: Lab) -> bool:
    first, *rest = [*PurePosixPath(path.removeprefix("runs/")).parts, ""]
    return ".." not in rest and first in (lab.topic, lab.name, _UNKNOWN)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls in a tree, without those that run in a folder that the lab changes to."""
    if isinstance(node, ast.With):
        contexts = (ast.unparse(item.context_expr) for item in node.items)
        if any("chdir(" in context for context in contexts):
            return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)


def _written(call: ast.Call, resolve: Resolve) -> set[str]:
    """Return the paths that a call may write to."""
    function = ast.unparse(call.func)
    name = function.rpartition(".")[2]
    if function.startswith("get_ipython()."):
        return _written_by_shell(name, call.args)
    keywords = {word.arg: word.value for word in call.keywords}
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    candidates: Iterable[ast.expr] = ()
    if name in _TAKING_A_MODE:
        is_method = name == "open" and owner is not None and function not in _OPENERS
        mode = keywords.get("mode", next(iter(call.args[0 if is_method else 1 :]), None))
        if isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+"):
            candidates = [owner] if is_method and owner else call.args[:1]
    elif name in ("rename", "replace") and function not in _TAKING_A_TARGET:
        candidates = call.args if len(call.args) == 1 else ()  # of a path, not of a text
    elif name in _METHODS_OF_A_PATH and owner and function not in _TAKING_A_PATH:
        candidates = [owner]
    elif function in _TAKING_A_TARGET:
        candidates = call.args[1:2]
    elif name in _TAKING_A_PATH or function in _TAKING_A_PATH:
        candidates = [*call.args[:2], *(keywords[word] for word in _KEYWORDS & keywords.keys())]
    elif "run_dir" in keywords:
        candidates = [keywords["run_dir"]]
    return next(filter(None, map(resolve, candidates)), set())


def _written_by_shell(magic: str, arguments: list[ast.expr]) -> set[str]:
    """Return the paths that a line after `!` or a cell of a shell writes to."""
    texts = [str(node.value) for node in arguments if isinstance(node, ast.Constant)]
    is_cell = magic == "run_cell_magic" and texts[0] in _SHELLS
    script = texts[-1] if is_cell or magic in ("system", "getoutput") else ""
    paths = _REDIRECTION.findall(script)
    for command, words in _WRITING_COMMAND.findall(script):
        operands = [word for word in words.split() if not word.startswith("-")]
        paths += operands[-1:] if command in ("cp", "mv") else operands
    paths = [path.strip("'\"") for path in paths]
    # A path that begins with a variable is not known.
    return {path for path in paths if not path.startswith(("$", "{", "/dev/"))}


def _paths(node: ast.expr, assigned: Assigned, seen: frozenset[str] = frozenset()) -> set[str]:
    """Return the paths that an expression may stand for; empty if the source tells none."""

    def resolve(node: ast.expr) -> set[str]:
        return _paths(node, assigned, seen)

    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
            return {text + _UNKNOWN}
        case ast.Name(name) if name not in seen:
            values = assigned.get(name, [])
            return set().union(*(_paths(value, assigned, seen | {name}) for value in values))
        case ast.BinOp(left, ast.Div() | ast.Add() as operator, right):
            separator = "/" if isinstance(operator, ast.Div) else ""
            ends = resolve(right) or {_UNKNOWN}
            return {f"{start}{separator}{end}" for start in resolve(left) for end in ends}
        case ast.Call(ast.Attribute(owner, name)) if name in _SAME_FOLDER:
            return resolve(owner)
        case ast.Call(function, arguments) if ast.unparse(function) in _PATH_OF_PARTS:
            parts = [resolve(argument) or {_UNKNOWN} for argument in arguments]
            return {"/".join(path) for path in itertools.product(*parts)}
    return set()
