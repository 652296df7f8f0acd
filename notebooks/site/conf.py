"""How Sphinx makes the site of what gather.py has laid ready. Nothing is run and nothing is fetched."""

import re
import sys
from importlib.metadata import distribution
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import zh
from sphinx.search.en import SearchEnglish
from sphinx.util.fileutil import copy_asset

project = "minimagen"
author = "the minimagen-course authors"
project_copyright = "2026 the minimagen-course authors"
html_title = "minimagen"
language = "en"

extensions = ["myst_nb", "sphinx.ext.mathjax"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the set-up, the same in every chapter"
nb_code_prompt_hide = "Hide the set-up"
myst_enable_extensions = ["dollarmath", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

html_theme = "furo"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#00568f",
        "color-brand-content": "#00568f",
        "color-brand-visited": "#00568f",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cc0ff",
        "color-brand-content": "#7cc0ff",
        "color-brand-visited": "#7cc0ff",
        "color-background-primary": "#14171c",
        "color-background-secondary": "#191d24",
        "color-background-border": "#2c323b",
    },
    "top_of_page_buttons": [],
}
pygments_style = "a11y-light"
pygments_dark_style = "github-dark"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path: list[str] = []  # build.py names the folder of pictures
html_copy_source = False
html_use_index = False
html_show_sphinx = False
html_permalinks_icon = "#"

# One file with the shapes of all letters in it, so that no font is asked for.
MATHJAX = "tex-svg.js"
mathjax_path = f"mathjax/{MATHJAX}"
mathjax3_config = {"svg": {"fontCache": "global"}, "options": {"enableMenu": False}}

CHINESE = re.compile(r"[\u3400-\u9fff]+")


class EnglishAndChinese(SearchEnglish):
    """English words by their stems; Chinese, which has no spaces, by each character and each pair of them."""

    lang = "en-zh"
    js_splitter_code = r"""
var splitQuery = (query) => query
  .split(/([\u3400-\u9fff]+)|[^\p{Letter}\p{Number}_]+/gu)
  .filter(Boolean)
  .flatMap((part) => /[\u3400-\u9fff]/.test(part) && part.length > 1
    ? Array.from({length: part.length - 1}, (_, i) => part.slice(i, i + 2)) : [part]);
"""

    def split(self, text: str) -> list[str]:
        words = super().split(CHINESE.sub(" ", text))
        for run in CHINESE.findall(text):
            words += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
        return words


html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_search_language = EnglishAndChinese.lang


def copy_mathjax(app, failed):
    """The one file of MathJax that the pages ask for, out of a package that has them all."""
    if failed or app.builder.format != "html":
        return
    found = [f for f in distribution("sphinx-mathjax-offline").files or [] if f.name == MATHJAX]
    folder = Path(app.outdir, "_static", "mathjax")
    folder.mkdir(parents=True, exist_ok=True)
    copy_asset(str(found[0].locate()), str(folder))


def setup(app):
    app.add_search_language(EnglishAndChinese)
    app.connect("build-finished", copy_mathjax)
    app.connect("html-page-context", zh.speak, priority=900)  # after the theme
    app.connect("env-get-outdated", zh.outdated)
