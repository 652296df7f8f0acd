"""One HTML file a chapter, made from its complete edition. It holds all that it needs, and works without a network.

Arrows and space move on, Home and End jump, Esc gives the overview, F the whole screen, S the speaker's notes, P a
view that prints as one slide a page. The keys, the overview and the notes are reveal.js's.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from pygments.formatters import HtmlFormatter

from . import chapter as book
from . import choose

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = ROOT / "notebooks" / "solutions"


def reveal(name: str) -> str:
    """A file of reveal.js, as sphinx-revealjs brings it; fit to stand inside a page."""
    spec = find_spec("sphinx_revealjs")
    assert spec is not None and spec.origin is not None
    text = (Path(spec.origin).parent / "_static" / "revealjs" / name).read_text(encoding="utf-8")
    return text.replace("//# sourceMappingURL=reveal.js.map", "").replace("</script", "<\\/script")


def deck(path: Path) -> str:
    """The slides of a complete edition, as one page."""
    chapter = book.read(path)
    if lost := choose.lost(chapter):
        print(f"steer.json names cells that {path.name} has no more: {', '.join(sorted(lost))}")
    slides = "\n".join(slide.html() for slide in choose.slides(chapter))
    own = [(HERE / name).read_text(encoding="utf-8") for name in ("deck.css", "deck.js")]
    style = "\n".join(
        [
            *(reveal(f"dist/{name}") for name in ("reset.css", "reveal.css")),
            HtmlFormatter(style="friendly").get_style_defs("pre"),
            own[0],
        ]
    )
    script = "\n".join([reveal("dist/reveal.js"), reveal("plugin/notes/notes.js"), own[1]])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{chapter.number} · {chapter.question}</title>
<style>{style}</style>
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script>{script}</script>
</body>
</html>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Slides of chapters, one HTML file each.")
    parser.add_argument("chapters", nargs="*", help="two digits each; without any: all")
    parser.add_argument("--out", type=Path, default=ROOT / "slides")
    chosen = parser.parse_args()
    paths = sorted(SOURCES.glob("[0-9]*.ipynb"))
    if chosen.chapters:
        paths = [path for path in paths if path.name[:2] in chosen.chapters]
    if not paths:
        sys.exit(f"no such chapter in {SOURCES}: give two digits, like 03")
    chosen.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        start = time.perf_counter()
        made = deck(path)
        (chosen.out / f"{path.stem}.html").write_text(made, encoding="utf-8")
        took, count = time.perf_counter() - start, made.count("<section ")
        print(f"{path.stem}: {count} slides, {len(made.encode()) / 1e6:.2f} MB, {took:.0f} s")
