"""Write formulas as MathML, which browsers show without a script or a font from elsewhere."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator


def mathml(tex: str, *, as_block: bool = False) -> str:
    """Return a formula in LaTeX as a MathML element.

    Raises:
        ExtensionError: The formula has a command that docutils does not know.
    """
    known = re.sub(r"\\[bB]igg?[lrm]?\b", "", tex)  # sizes of brackets, which stretch by themselves
    try:
        return str(tex2mathml(known.replace("…", r"\ldots "), as_block=as_block))
    except MathError as error:
        raise ExtensionError(f"The formula {tex!r} cannot be written as MathML: {error}") from error


def _visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    formula = mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math" tabindex="0">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the renderer, which `html_math_renderer` chooses."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
