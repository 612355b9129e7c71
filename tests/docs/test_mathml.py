import pytest
from sphinx.errors import ExtensionError

from docs.extensions.mathml import mathml


def test_a_formula_is_a_mathml_element():
    formula = mathml(r"\frac{1}{n} \sum_i x_i", as_block=True)

    assert formula.startswith('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">')
    assert "<mfrac>" in formula


def test_an_ellipsis_is_known():
    assert "…" in mathml("d_0 … d_3")


def test_the_size_of_a_bracket_is_left_to_the_browser():
    assert mathml(r"\Big| \bigcup_i x_i \Big|") == mathml(r"| \bigcup_i x_i |")


def test_an_unknown_command_is_an_error_with_the_formula():
    with pytest.raises(ExtensionError, match=r"unheardof"):
        mathml(r"\unheardof{x}")
