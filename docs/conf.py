"""Sphinx builds these pages: ``make docs``."""

import sys
from pathlib import Path

from gridc import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "gridc"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "made_pages"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "pydata_sphinx_theme"
html_title = "gridc"
html_static_path = ["_static"]
html_css_files = ["gridc.css"]
html_sidebars = {"**": ["navigation.html"]}
html_theme_options = {
    "navbar_center": [],  # every page is in the navigation on the left
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
}
suppress_warnings = ["myst.xref_missing"]  # language.md and the README link to files of the repository
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
