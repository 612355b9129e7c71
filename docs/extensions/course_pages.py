"""Write the pages of the course and the gallery, from the executed notebooks of all labs."""

import base64
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.typing import ExtensionMetadata

from dltlab.course import Course, Lab

_IMAGE = re.compile(r'<img alt="([^"]*)"([^>]*) src="data:image/(\w+);base64,([^"]+)">')
_RECORD = "application/scrapbook.scrap.json+json"
_COLOR = re.compile(r"(?<!-)color: #[0-9a-f]{6}")
_STYLE = re.compile(r"<style\b.*?</style>\s*", re.DOTALL)

COURSE_PAGE = """\
# The course

Each page is a lab as it was executed when it was built, with its answers and its outputs. To write
the answers yourself, open the learner's notebook: `dltlab lab 01` opens it in JupyterLab, and each
page has a link to it.

{table}

```{{toctree}}
:hidden:

{pages}
```
"""

GALLERY_PAGE = """\
# Gallery

Figures from the executed labs, each with a link to the cell that draws it.

{labs}
"""


@dataclass(frozen=True)
class Figure:
    """A figure in a lab's outputs: its number on the page, its description and its image."""

    lab: str
    number: int
    alt: str
    attributes: str
    extension: str
    content: bytes

    @property
    def anchor(self) -> str:
        """The identifier of the figure on the page of its lab."""
        return f"figure-{self.number}"

    @property
    def path(self) -> str:
        """The path of the image, from the folder of the course's pages."""
        return f"figures/{self.lab}/{self.number}.{self.extension}"


def split_figures(lab: str, notebook: Any) -> Iterator[Figure]:
    """Yield the figures in a notebook's outputs, and let the outputs refer to files.

    Only outputs as HTML have figures; `dltlab.display.show` writes them with their description.
    """
    number = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            markup = output.get("data", {}).get("text/html")
            if markup is None:
                continue
            for match in _IMAGE.finditer(markup):
                number += 1
                alt, attributes, extension, data = match.groups()
                content = base64.b64decode(data)
                figure = Figure(lab, number, html.unescape(alt), attributes, extension, content)
                tag = (
                    f'<img id="{figure.anchor}" alt="{alt}"{attributes} loading="lazy"'
                    f' src="{figure.path}">'
                )
                markup = markup.replace(match[0], tag)
                yield figure
            output["data"]["text/html"] = _on_page(markup)


def drop_records(notebook: Any) -> None:
    """Leave out what `dltlab.record` writes for programs: no notebook shows it, either."""
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [
                output for output in cell.outputs if _RECORD not in output.get("data", {})
            ]


def _on_page(markup: str) -> str:
    """Return an output as HTML without JupyterLab's styles, and with tables that scroll."""
    markup = _STYLE.sub("", markup)
    if markup.lstrip().startswith("<pre"):  # Keras' summaries, in colors for a white page
        markup = _COLOR.sub("color: inherit", markup)
    return (
        f'<div class="dltlab-table" tabindex="0">{markup}</div>' if "<table" in markup else markup
    )


def launch_links(lab: str, repository: str, branch: str) -> str:
    """Return a line of Markdown with the ways to run a lab, from its page.

    Args:
        lab: The lab's name, `NN_topic`.
        repository: The address on GitHub, "" if there is none: then only the notebook is linked.
        branch: The branch or tag that Binder and Colab take the lab from.
    """
    links = [f"{{download}}`Download the notebook without answers <../../labs/{lab}.ipynb>`"]
    if repository:
        name = repository.removeprefix("https://github.com/").strip("/")
        binder = f"https://mybinder.org/v2/gh/{name}/{branch}?urlpath=lab/tree/{lab}.ipynb"
        colab = f"https://colab.research.google.com/github/{name}/blob/{branch}/labs/{lab}.ipynb"
        links += [
            f"[Run it on Binder]({binder})",
            f"[Run it in Colab]({colab}) (first in a new cell: `%pip install dltlab`)",
        ]
    return " · ".join(links)


def write_pages(folder: Path, files: Path, repository: str, branch: str) -> None:
    """Write the page of each lab, the course's table and the gallery.

    Args:
        folder: The folder of Sphinx's sources.
        files: The folder of files that Sphinx copies to the site as they are.
        repository: See `launch_links`.
        branch: See `launch_links`.
    """
    course = Course.own()
    labs = course.read()
    pages = folder / "course"
    pages.mkdir(exist_ok=True)
    for old in pages.glob("*.ipynb"):
        if old.stem not in course.lab_names():
            old.unlink()
    figures: dict[str, list[Figure]] = {}
    for lab in labs:
        notebook = nbformat.read(course.solutions / f"{lab.name}.ipynb", 4)
        drop_records(notebook)
        figures[lab.name] = list(split_figures(lab.name, notebook))
        links = nbformat.v4.new_markdown_cell(launch_links(lab.name, repository, branch))
        notebook.cells.insert(1, links)
        notebook.metadata.language_info["pygments_lexer"] = "ipython3"  # knows magics
        for cell in notebook.cells:
            if cell.metadata.get("jupyter", {}).get("source_hidden"):
                cell.metadata.tags = [*cell.metadata.get("tags", []), "hide-input"]
        write_if_new(pages / f"{lab.name}.ipynb", nbformat.writes(notebook).encode())
        for figure in figures[lab.name]:
            write_if_new(files / "course" / figure.path, figure.content)
    names = "\n".join(lab.name for lab in labs)
    text = COURSE_PAGE.format(table=_table(labs), pages=names)
    write_if_new(pages / "index.md", text.encode())
    gallery = GALLERY_PAGE.format(
        labs="\n\n".join(_gallery(lab, figures[lab.name]) for lab in labs)
    )
    write_if_new(folder / "gallery.md", gallery.encode())


def _heading(lab: Lab) -> str:
    return f"{lab.name[:2]} · {lab.front_matter.title}"


def _table(labs: list[Lab]) -> str:
    rows = ["| lab | what it is about | time |", "|---|---|---|"]
    for lab in labs:
        minutes, summary = lab.front_matter.minutes, lab.front_matter.summary
        total = sum(minutes.model_dump().values())
        rows.append(f"| [{_heading(lab)}]({lab.name}.ipynb) | {summary} | {total} minutes |")
    return "\n".join(rows)


def _gallery(lab: Lab, figures: list[Figure]) -> str:
    """Return the section of a lab: a grid of its figures, each a link to its place on the page."""
    items = "\n".join(
        f'<a href="course/{lab.name}.html#{figure.anchor}">'
        f'<img alt="{html.escape(figure.alt)}" loading="lazy" src="course/{figure.path}"></a>'
        for figure in figures
    )
    return (
        f"## [{_heading(lab)}](course/{lab.name}.ipynb)\n\n"
        f'```{{raw}} html\n<div class="dltlab-gallery">\n{items}\n</div>\n```'
    )


def write_if_new(path: Path, content: bytes) -> None:
    """Write a file unless it has that content: Sphinx reads again what has changed."""
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _generate(app: Sphinx, config: Config) -> None:
    files = Path(app.srcdir) / "files"
    write_pages(Path(app.srcdir), files, config.repository, config.branch)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Write the pages before Sphinx looks for its sources and files."""
    app.connect("config-inited", _generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
