"""Show a learner's notebook without running any of it: `render`."""

import asyncio
import base64
import os
import resource
import sys

from dltlab.errors import Invalid, Unavailable

LARGEST_BYTES = 20_000_000
_SECONDS = 60
_PROCESSOR_SECONDS = 30
_MEMORY_BYTES = 2 << 30
_NOBODY = 65534
# fmt: off
_TAGS = {
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "del", "details", "div", "em",
    "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li",
    "mark", "ol", "p", "pre", "s", "small", "span", "strong", "sub", "summary", "sup", "table",
    "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul",
}
_STYLES = [
    "background-color", "border", "border-left", "border-collapse", "color", "display",
    "font-family", "font-size", "font-style", "font-weight", "height", "line-height", "margin",
    "max-width", "padding", "text-align", "vertical-align", "white-space", "width",
]
# fmt: on
_EXAMPLE = """# A heading with `code`
$x$ and a [link](https://example.org)"""


async def render(notebook: bytes) -> str:
    """Return a notebook as HTML without scripts.

    It is rendered in a process of its own, which has limits and, where it could have them, no
    privileges.

    Raises:
        Invalid: It is too large, or no notebook.
        Unavailable: It cannot be rendered in a minute.
    """
    if len(notebook) > LARGEST_BYTES:
        raise Invalid(f"The notebook has more than {LARGEST_BYTES // 1_000_000} MB.")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        html, _ = await asyncio.wait_for(process.communicate(notebook), _SECONDS)
    except TimeoutError:
        raise Unavailable("The notebook cannot be shown: it takes too long.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise Invalid("What the learner has saved is not a notebook that can be shown.")
    return html.decode()


def main() -> None:
    """Read a notebook, and write it as HTML; all that is needed is loaded before."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(sanitize_html=True)
    exporter.register_filter("clean_html", _clean)  # nbconvert's own leaves no headings and images
    outputs = [
        nbformat.v4.new_output("stream", text="\x1b[1mtext\x1b[0m"),
        nbformat.v4.new_output("error", ename="E", evalue="e", traceback=["line"]),
        nbformat.v4.new_output("display_data", data={"text/html": "<b>x</b>", "text/plain": "x"}),
        nbformat.v4.new_output("display_data", data={"image/svg+xml": "<svg></svg>"}),
    ]
    cells = [
        nbformat.v4.new_markdown_cell(_EXAMPLE),
        nbformat.v4.new_code_cell("x = 1", outputs=outputs),
    ]
    exporter.from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    _drop_privileges()

    sent = nbformat.reads(sys.stdin.buffer.read(LARGEST_BYTES).decode(), as_version=4)
    for cell in sent.cells:  # no metadata: titles, tags and the state of widgets come from there
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if svg := output.get("data", {}).pop("image/svg+xml", None):
                output.data["text/html"] = _as_image(svg)
    html, _ = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=sent.cells))
    sys.stdout.buffer.write(html.encode())


def _clean(html: str | bytes) -> str:
    """Return HTML without all that is not text, a table or an image."""
    import bleach
    from bleach.css_sanitizer import CSSSanitizer

    cleaned = bleach.clean(
        html.decode() if isinstance(html, bytes) else str(html),
        tags=_TAGS,
        attributes=_is_harmless,
        protocols=["http", "https", "data"],
        css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES),
        strip=True,
    )
    return str(cleaned)


def _is_harmless(tag: str, name: str, value: str) -> bool:
    if tag == "img" and name == "src":
        return value.startswith("data:image/")
    if tag == "a" and name == "href":
        return value.startswith(("https:", "http:", "#"))
    return name in ("class", "id", "style", "title", "alt", "colspan", "rowspan", "scope", "open")


def _as_image(svg: str) -> str:
    """Return a drawing as an image, in which no script runs."""
    content = base64.b64encode("".join(svg).encode()).decode()
    return f'<img alt="" src="data:image/svg+xml;base64,{content}">'


def _drop_privileges() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


if __name__ == "__main__":
    main()
