"""Slides as HTML: text, formulas, code, figures; and how words are counted."""

from __future__ import annotations

import base64
import html
import re
import subprocess
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser

import mistune
import ziamath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from ruff.__main__ import find_ruff_bin

from ..diagrams import files

MOST = 40  # words on a slide
WIDE, HIGH = 1080, 540  # CSS pixels that code may take
COLUMNS = 80  # of a program: more make letters that can't be read from the last row
MATH = re.compile(r"(`[^`]*`)|\$\$(.+?)\$\$|\$(.+?)\$", re.S)
LINK = re.compile(r"(?<!!)\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])")
PICTURE = re.compile(r"!\[[^\]]*\]\[[^\]]*\]")
FORMULA = re.compile("\ue000(\\d+)\ue001")
HELD = re.compile(
    "[(“]?\ue000\\d+\ue001[-.,;:?!)”\\w]+|[(“]\ue000\\d+\ue001"
)  # no line ends between these
# what a formula, a program, a picture's labels and the notes hold is not counted
UNCOUNTED = ("svg", "pre", "aside", "script", "style")

ziamath.config.svg2 = False  # paths in place of references: a formula can be copied and printed
_markdown = mistune.create_markdown(escape=False, plugins=["table"])


@cache
def formula(tex: str, inline: bool = True) -> str:
    """TeX as an SVG that is as large as the text around it."""
    made = ziamath.Latex(tex, size=24, inline=inline)
    svg, drop = made.svg(), made.getyofst()
    (width, high) = (float(re.search(rf'{n}="([\d.]+)"', svg)[1]) / 24 for n in ("width", "height"))  # type: ignore[index]
    style = f"width:{width:.3f}em;height:{high:.3f}em;vertical-align:{drop / 24:.3f}em"
    said = html.escape(" ".join(tex.split()))
    svg = re.sub(r"(-?\d+\.\d\d)\d+", r"\1", svg)
    facts = f'role="img" aria-label="{said}" class="formula" style="{style}"'
    return re.sub(r'(?<= )width="[^"]*" height="[^"]*"', lambda _: facts, svg, count=1)


def with_formulas(text: str, turn: Callable[[str], str]) -> str:
    """`turn` works on the text; its formulas are put in afterwards, code is left to `turn`."""
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        kept.append(formula(found[2] or found[3], inline=not found[2]))
        return f"\ue000{len(kept) - 1}\ue001"

    turned = turn(MATH.sub(keep, text))
    turned = HELD.sub(r'<span class="held">\g<0></span>', turned)
    return FORMULA.sub(lambda m: kept[int(m[1])], turned)


def plain_links(text: str) -> str:
    return LINK.sub(r"\1", PICTURE.sub("", text))


def line(text: str) -> str:
    """A line of Markdown as HTML, without a paragraph around it."""
    made = with_formulas(plain_links(text), lambda t: str(_markdown(t))).strip()
    return re.sub(r"</p>\s*<p>", "<br>", made).removeprefix("<p>").removesuffix("</p>")


def notes(texts: list[str]) -> str:
    """Prose for the speaker."""
    text = "\n\n".join(plain_links(t) for t in texts)
    text = re.sub(
        r"<details><summary>(.*?)</summary>\s*(.*?)\s*</details>", r"**\1:** \2", text, flags=re.S
    )
    return with_formulas(text, lambda t: str(_markdown(t))).strip()


def words(text: str) -> int:
    """Words that a slide shows: runs of signs between spaces that hold a letter or a digit.

    Formulas, programs, what stands inside a picture, and the speaker's notes are not counted.
    """
    reader = _Shown()
    reader.feed(text)
    return sum(any(c.isalnum() for c in word) for word in "".join(reader.shown).split())


class _Shown(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.depth, self.shown = 0, [""]

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.depth += tag in UNCOUNTED
        self.shown.append("" if tag in ("b", "i", "em", "strong", "code", "span", "svg") else " ")

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag in UNCOUNTED

    def handle_data(self, data: str) -> None:
        if not self.depth:
            self.shown.append(data)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!])\s+(?=[A-Z*“\"$(`])|(?<=\?)\s+", text.strip())


def at_most(texts: list[str], room: int, turn: Callable[[str], str] = line) -> list[str]:
    """The first of the texts that fit into so many words together, as HTML."""
    found: list[str] = []
    for text in map(turn, texts):
        if (room := room - words(text)) < 0:
            break
        found.append(text)
    return found


def code(source: str) -> str:
    """Python as large as a slide allows."""
    lines = source.split("\n")
    size = min(34, WIDE / (0.61 * columns(source)), HIGH / (1.36 * len(lines)))
    made = highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip()
    return f'<pre style="font-size:{size:.1f}px">{made}</pre>'


def columns(source: str) -> int:
    return max(map(len, source.split("\n")))


@cache
def narrow(source: str) -> str:
    """The same program in lines that can be read from afar, as far as ruff can; comments leave longer lines."""
    if columns(source) <= COLUMNS:
        return source
    lines = []
    for text in source.split("\n"):
        found = re.fullmatch(r"( *)(.*?\S)  (# .*)", text)
        if found and len(text) > COLUMNS:
            lines += [found[1] + found[3], found[1] + found[2]]
        else:
            lines.append(text)
    return formatted("\n".join(lines))


def formatted(source: str) -> str:
    command = [find_ruff_bin(), "format", f"--line-length={COLUMNS}", "--isolated", "--quiet", "-"]
    made = subprocess.run(command, input=source, capture_output=True, encoding="utf-8", check=True)
    return made.stdout.rstrip()


def diagram(name: str) -> str:
    """A drawing, with the words of its own for those who can't see it."""
    text = files.read(name)
    title, told = (re.search(rf"<{t}[^>]*>(.*?)</{t}>", text, re.S) for t in ("title", "desc"))
    alt = ": ".join(found[1] for found in (title, told) if found)
    address = "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
    return f'<img class="figure" alt="{" ".join(alt.split())}" src="{address}">'


def scale(low: str, high: str, label: str) -> str:
    """A line of numbers to guess on; the label says of what."""
    ticks = "".join(f'<i style="left:{10 * k}%"></i>' for k in range(11))
    ends = f"<b>{html.escape(low)}</b><b>{html.escape(high)}</b>"
    drawn = f'<div class="ruler">{ticks}</div><div class="ends">{ends}</div>'
    return f'<div class="scale">{drawn}<p>{line(label)}</p></div>'
