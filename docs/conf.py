"""How the pages are built: `sphinx-build -W -b html docs docs/_build`. They read as plain Markdown, too."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import make_api  # noqa: E402 - found now

make_api.write_reference(Path(__file__).parent / "_reference")

project = "asyncdeploy"
copyright = "asyncdeploy contributors"  # noqa: A001 - Sphinx's own name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
exclude_patterns = ["_build", "SKILL.md"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
napoleon_google_docstring = True
suppress_warnings = ["ref.python"]  # a field called bytes is no type
