"""Write the reference of the command line from the commands themselves."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.typing import ExtensionMetadata

from dltlab.cli import app as command_line
from docs.extensions.course_pages import write_if_new

INTRODUCTION = """\
Command line
============

Every command of ``dltlab``, as its ``--help`` shows it.

.. highlight:: none
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Yield the words and the object of each command that does something."""

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield words, command
            return
        for name, part in sorted(command.commands.items()):
            if not part.hidden:
                yield from walk(f"{words} {name}", part)

    yield from walk("dltlab", typer.main.get_command(command_line))


def section(words: str, command: Any) -> str:
    """Return the section of a command, in reStructuredText, with its help as it is printed."""
    context = command.make_context(words, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"{words} {usage}", "", *inspect.cleandoc(command.help or "").splitlines()]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record:
            lines += ["", f"  {record[0]}", f"      {record[1]}"]
    block = "\n".join(f"   {line}".rstrip() for line in lines)
    return f"{words}\n{'-' * len(words)}\n\n.. code-block:: none\n\n{block}\n"


def _generate(app: Sphinx, config: Config) -> None:
    text = "\n".join([INTRODUCTION, *(section(*item) for item in commands())])
    write_if_new(Path(app.srcdir) / "reference" / "command_line.rst", text.encode())


def setup(app: Sphinx) -> ExtensionMetadata:
    """Write the page before Sphinx looks for its sources."""
    app.connect("config-inited", _generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
