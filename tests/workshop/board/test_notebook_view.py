"""A learner's notebook as HTML, whatever it holds."""

import asyncio
import json

import nbformat
import pytest

from dltlab.errors import Invalid
from dltlab.workshop.board.notebook_view import LARGEST_BYTES, render

SCRIPT = "<script>alert(1)</script>"
IMAGE = "<img src='data:image/png;base64,AAAA'>"
OUTPUTS = {
    "text/html": f"{SCRIPT}<b onclick='alert(1)'>bold</b><iframe src=x></iframe>{IMAGE}",
    "image/svg+xml": f"<svg onload='alert(1)'>{SCRIPT}</svg>",
    "text/markdown": f"{SCRIPT}\n\n[link](javascript:alert(1))",
    "application/javascript": "alert(1)",
}


def test_a_notebook_is_shown_and_nothing_of_it_runs():
    outputs = [nbformat.v4.new_output("display_data", {kind: OUTPUTS[kind]}) for kind in OUTPUTS]
    outputs.append(nbformat.v4.new_output("stream", text=SCRIPT))
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell(f"# Title\n\n{SCRIPT}<img src=x onerror=alert(1)>"),
            nbformat.v4.new_code_cell(f"x = '</pre>{SCRIPT}'", outputs=outputs),
        ],
        metadata={"title": f"</title>{SCRIPT}", "widgets": {"x": "</script>"}},
    )
    for cell in notebook.cells:
        cell.metadata["tags"] = [f'">{SCRIPT}']

    html = asyncio.run(render(nbformat.writes(notebook).encode()))

    assert "<b>bold</b>" in html
    assert '<h1 id="Title' in html
    assert ' src="data:image/png;base64,AAAA"' in html
    assert ' src="data:image/svg+xml;base64,' in html
    for part in (
        "alert(1)</script",
        "onclick",
        "onerror=",
        "onload",
        "<iframe",
        'href="javascript',
    ):
        assert part not in html


@pytest.mark.parametrize(
    "content",
    [
        b"text",
        b"[" * 100_000,
        b'{"cells": 1, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
        b"x" * (LARGEST_BYTES + 1),
    ],
    ids=["text", "deep", "cells", "large"],
)
def test_what_is_no_notebook_is_an_error(content):
    with pytest.raises(Invalid, match=r"^(What the learner has saved|The notebook has more than)"):
        asyncio.run(render(content))


def test_an_older_format_is_shown():
    cell = {"cell_type": "code", "input": ["x = 1"], "outputs": [], "language": "python"}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": [cell]}]}

    assert "<body" in asyncio.run(render(json.dumps(old).encode()))
