"""Sphinx's configuration of the site; `make docs` builds it from what is committed."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import dltlab  # noqa: E402

_urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {})

project = "dltlab"
author = "The dltlab authors"
project_copyright = "the dltlab authors"
version = release = dltlab.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "docs.extensions.command_pages",
    "docs.extensions.course_pages",
    "docs.extensions.excerpts",
    "docs.extensions.mathml",
    "docs.extensions.reference_pages",
]
exclude_patterns = ["extensions", "files"]

# The public repository, as https://github.com/OWNER/NAME, and the branch that its links name.
# Without it, the pages of the labs have no links to Binder and Colab.
repository = _urls.get("Repository", "")
branch = "main"

nb_execution_mode = "off"  # the notebooks are committed with their outputs
nb_merge_streams = True
suppress_warnings = ["misc.highlighting_failure"]  # a cell in another language than Python
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "literal"  # docstrings have their code in single backticks
highlight_language = "bash"  # of blocks without a language
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

html_theme = "pydata_sphinx_theme"
html_title = "dltlab"
# Pages without others below them need no navigation at the side.
html_sidebars: dict[str, list[str]] = {
    name: [] for name in ("try_it", "gallery", "glossary", "contributing", "changelog", "search")
}
html_static_path = ["static"]
html_extra_path = ["files"]  # written by course_pages
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
