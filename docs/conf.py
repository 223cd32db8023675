"""Sphinx configuration: pages in MyST markdown, the API from the docstrings, no network."""

import os
import subprocess
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("MBLSR1_DATA", None)  # the pages show what everybody can run

import mblsr1

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import pages  # noqa: E402

project = "mblsr1"
author = "The mblsr1 developers"
copyright = author
version = release = mblsr1.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "download_all_examples": False,
    "min_reported_time": 1e9,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "mblsr1"
html_static_path = ["_static"]
html_css_files = ["mblsr1.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "mblsr1"},
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 8,
    "show_prev_next": True,
    "secondary_sidebar_items": {"**": ["page-toc"], "deviations": [], "notation": [], "algorithm": [], "index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
}
#: The tables of some pages need the width.
_WIDE = ("index", "quickstart", "api", "algorithm", "deviations", "notation")
html_sidebars = {name: [] for name in _WIDE}


def draw_pictures(app: object) -> None:
    """Run the pages that make pictures, and keep these in docs/pictures."""
    (HERE / "pictures").mkdir(exist_ok=True)
    for page in ("quickstart", "watch"):
        for name, picture in pages.pictures_of(HERE / f"{page}.md").items():
            (HERE / "pictures" / name).write_bytes(picture)


def draw_theory(app: object) -> None:
    """Draw the pictures of the theorems with the functions of their tests."""
    script = HERE.parent / "tests" / "theorems" / "pictures.py"
    subprocess.run([sys.executable, str(script), str(HERE / "pictures")], check=True)


def setup(app: object) -> None:
    app.connect("builder-inited", draw_pictures)  # type: ignore[attr-defined]
    app.connect("builder-inited", draw_theory)  # type: ignore[attr-defined]
