"""Show a document of the repository on a page of the site.

The documents stay where readers of the repository expect them, and no text exists twice::

    ```{excerpt} CONTRIBUTING.md
    ```

The section "Add a lab" of CONTRIBUTING.md has the label `contributing-add-a-lab`.
"""

import posixpath
import re
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).resolve().parents[2]

# The page of each document and folder; links to others lead into the repository.
PAGES = {
    "README.md": "/index.md",
    "CONTRIBUTING.md": "/contributing.md",
    "INSTRUCTORS.md": "/guide/teach.md",
    "CHANGELOG.md": "/changelog.md",
    "benchmarks/README.md": "/benchmarks/index.md",
    "benchmarks/results/": "/benchmarks/results/",
    "solutions/": "/course/",
}
_FENCE = re.compile(r"^\s*(```|~~~)")


class Part(NamedTuple):
    """A heading of a Markdown document, its level, and the text below it up to the next one."""

    level: int
    heading: str
    text: str


def parts(text: str) -> list[Part]:
    """Divide a Markdown document at its headings."""
    found: list[tuple[int, str, list[str]]] = [(0, "", [])]
    in_code = False
    for line in text.splitlines():
        in_code ^= bool(_FENCE.match(line))
        if not in_code and (match := re.match(r"(#{1,6}) +(.+)", line)):
            found.append((len(match[1]), match[2].strip(), []))
        else:
            found[-1][2].append(line)
    return [Part(level, heading, "\n".join(lines).strip()) for level, heading, lines in found]


def with_links(text: str, document: str, blob: str) -> str:
    """Return Markdown with its links leading to pages of the site.

    Args:
        text: Markdown from `document`.
        document: The document's path in the repository, to which the links are relative.
        blob: The address of the repository's files, "" where it is not known: then what is
            linked and has no page is shown without a link.
    """

    def replace(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"\w+:", target) or not target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(document), target))
        for known, page in PAGES.items():
            if path == known or (known.endswith("/") and path.startswith(known)):
                return f"[{label}]({page}{path.removeprefix(known)}{anchor})"
        return f"[{label}]({blob}/{path}{anchor})" if blob else label

    return re.sub(r"\[([^\]]+)\]\(([^)#\s]*)(#[^)\s]*)?\)", replace, text)


class Excerpt(SphinxDirective):  # type: ignore[misc]
    """The directive `excerpt`: a document without its title."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the parsed text, with a section for each heading."""
        document = self.arguments[0]
        path = ROOT / document
        self.env.note_dependency(path)
        repository, branch = self.config.repository, self.config.branch
        blob = f"{repository}/blob/{branch}" if repository else ""
        found = parts(with_links(path.read_text(), document, blob))
        whole = nodes.Element()
        open_sections = [(1, whole)]  # and their levels, the outermost first
        for part in found:
            if part.level < 2:  # what is above the title, and below it
                whole += self._parse(part.text)
                continue
            while open_sections[-1][0] >= part.level:
                open_sections.pop()
            parent = open_sections[-1][1]
            section = self._section(part, path.stem.lower(), " ".join(parent["ids"]))
            parent += section
            open_sections.append((part.level, section))
        return list(whole.children)

    def _section(self, part: Part, document: str, parent: str) -> nodes.section:
        anchor = nodes.make_id(f"{parent} {part.heading}")
        section = nodes.section(ids=[anchor], names=[f"{document}-{anchor}"])
        section += nodes.title(part.heading, "", *self._parse(part.heading)[0].children)
        section += self._parse(part.text)
        self.state.document.note_explicit_target(section, section)
        return section

    def _parse(self, text: str) -> list[nodes.Node]:
        parent = nodes.Element()
        self.state.nested_parse(StringList(text.splitlines()), self.content_offset, parent)
        return list(parent.children)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive and the settings that its links need."""
    app.add_config_value("repository", "", "env", str)
    app.add_config_value("branch", "main", "env", str)
    app.add_directive("excerpt", Excerpt)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
