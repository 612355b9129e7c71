"""Write the reference of the command line from the commands themselves."""

import inspect
import textwrap
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

_WIDTH = 76  # of the text, which a page of 1,280 pixels shows whole


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
    lines = [f"{words} {usage}"]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines += ["", *textwrap.wrap(paragraph, _WIDTH)]
    for parameter in command.params:
        if record := parameter.get_help_record(context):
            description = textwrap.indent(textwrap.fill(record[1], _WIDTH - 6), 6 * " ")
            lines += ["", f"  {record[0]}", *description.splitlines()]
    block = textwrap.indent("\n".join(lines), "   ")
    return f"{words}\n{'-' * len(words)}\n\n.. code-block:: none\n\n{block}\n"


def _generate(app: Sphinx, config: Config) -> None:
    text = "\n".join([INTRODUCTION, *(section(*item) for item in commands())])
    write_if_new(Path(app.srcdir) / "reference" / "command_line.rst", text.encode())


def setup(app: Sphinx) -> ExtensionMetadata:
    """Write the page before Sphinx looks for its sources."""
    app.connect("config-inited", _generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
