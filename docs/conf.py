"""Sphinx builds these pages: ``make docs``."""

from gridc import __version__

project = "gridc"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "pydata_sphinx_theme"
html_title = "gridc"
html_sidebars = {"**": []}  # every page is in the navigation at the top
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
suppress_warnings = ["myst.xref_missing"]  # language.md and the README link to files of the repository
autodoc_typehints = "description"
autodoc_member_order = "bysource"
