"""One hand for every diagram of the course: colours, type, strokes, boxes, arrows, formulas.

A figure is 700 units wide, one unit a pixel at the width that it is made for. Text is measured in DejaVu,
which is wider than the fonts that a reader is likely to have: what fits here fits there. A role has one colour
in every figure; they are told apart by every kind of colour vision, on light paper and on dark. The paper is
part of the picture, so that a page's own theme can't make it unreadable. Solid arrows carry what is computed,
dashed ones what only training sends back.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path

import matplotlib
from PIL import ImageFont

WIDTH = 700
SMALLEST = 12.0  # pixels of type at that width

# role: (on light paper, on dark paper)
ROLES = {
    "ink": ("#1b2330", "#e8ebf0"),  # text, outlines of what is nobody's in particular
    "soft": ("#545e6e", "#a9b3c2"),  # what is said in passing
    "words": ("#a26902", "#eebc42"),  # text and what is made of it
    "pixels": ("#00568f", "#3f9bff"),  # pictures and features
    "noise": ("#a3269f", "#e077cc"),  # noise, time, chance
    "look": ("#0c8450", "#40e1a1"),  # attention, and what is right
    "wrong": ("#8f0f24", "#f9656c"),  # loss, mistakes
}
PAPER = ("#ffffff", "#14171c")
FRAME = ("#dfe3e9", "#2c323b")

SANS = (
    "Inter,'Segoe UI',Roboto,'Helvetica Neue',Arial,'Noto Sans','PingFang SC','Microsoft YaHei',"
    "'Noto Sans CJK SC','DejaVu Sans',sans-serif"
)
SERIF = "'STIX Two Text','Linux Libertine O',Cambria,'Times New Roman','Noto Serif','DejaVu Serif',serif"
MONO = "ui-monospace,Menlo,Consolas,'Liberation Mono','DejaVu Sans Mono',monospace"

SHAPES = """
.b{font-weight:650}
[class^=s-]{fill:none;stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}
[class^=b-]{fill-opacity:.12;stroke-width:1.8;stroke-linejoin:round}
.full{fill-opacity:1}.thick{stroke-width:3}.thin{stroke-width:1.2}.dash{stroke-dasharray:5 4}
.dim{opacity:.5}.faint{opacity:.45}.over{fill:#fff}.px{image-rendering:pixelated}
"""

Point = tuple[float, float]


def _style(used: set[str]) -> str:
    """The rules of the classes that are used, for a light page and for a dark one."""

    def colours(k: int) -> str:
        rules = [f".paper{{fill:{PAPER[k]};stroke:{FRAME[k]}}}.bg{{fill:{PAPER[k]}}}"]
        for role, values in ROLES.items():
            c = values[k]
            kinds = {"t": f"fill:{c}", "s": f"stroke:{c}", "b": f"fill:{c};stroke:{c}"}
            rules += [
                f".{kind}-{role}{{{rule}}}"
                for kind, rule in kinds.items()
                if f"{kind}-{role}" in used
            ]
        return "".join(rules)

    return (
        f"text{{font-family:{SANS}}}.m{{font-family:{SERIF};font-style:italic}}"
        f".u{{font-family:{SERIF};font-style:normal}}.c{{font-family:{MONO}}}{SHAPES}{colours(0)}"
        f"@media(prefers-color-scheme:dark){{[class^=b-]{{fill-opacity:.2}}.full{{fill-opacity:1}}"
        f".over{{fill:#111}}{colours(1)}}}"
    )


# --- text ------------------------------------------------------------------------------------

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FACES = {
    "": "DejaVuSans.ttf",
    "b": "DejaVuSans-Bold.ttf",
    "m": "DejaVuSerif-Italic.ttf",
    "u": "DejaVuSerif.ttf",
    "c": "DejaVuSansMono.ttf",
}


@dataclass(frozen=True)
class Run:
    """A piece of a line in one face: "" plain, b bold, m a formula's letters, u its digits and signs, c code."""

    text: str
    face: str = ""
    scale: float = 1.0
    shift: float = 0.0  # of the baseline, in ems of the line, down


def _formula(source: str) -> Iterator[Run]:
    """Letters in italics, the rest upright; _ and ^ lower and raise the next sign or {group}."""
    scale, shift = 1.0, 0.0
    for part in re.findall(r"[_^](?:\{[^}]*\}|.[\u0302\u0304]?)|[^_^]+", source):
        scale, shift = 1.0, 0.0
        if part[0] in "_^":
            scale, shift = 0.72, 0.26 if part[0] == "_" else -0.38
            part = part[1:].strip("{}")
        for letters in re.findall(r"[^\W\d_][\u0302\u0304]?|[^\W\d_]+|(?:[\W\d]+)", part):
            yield Run(letters, "m" if letters[0].isalpha() else "u", scale, shift)


def runs(line: str, bold: bool = False) -> list[Run]:
    """A line with $formulas$, **bold** and `code` as its pieces."""
    pieces: list[Run] = []
    for part in re.split(r"(\$[^$]*\$|\*\*.*?\*\*|`[^`]*`)", line):
        if part.startswith("$"):
            pieces += _formula(part[1:-1])
        elif part.startswith("**"):
            pieces.append(Run(part[2:-2], "b"))
        elif part.startswith("`"):
            pieces.append(Run(part[1:-1], "c", 0.94))
        elif part:
            pieces.append(Run(part, "b" if bold else ""))
    joined: list[Run] = []
    for run in pieces:
        if joined and joined[-1].face == run.face and joined[-1].shift == run.shift:
            run = Run(joined.pop().text + run.text, run.face, run.scale, run.shift)
        joined.append(run)
    return joined


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONTS / FACES[face]), 100)


@cache
def _advance(text: str, face: str) -> float:
    """Width in ems. A Chinese sign is one em; DejaVu has none of them."""
    wide = sum("\u2e80" <= sign <= "\uffef" for sign in text)
    rest = "".join(sign for sign in text if not "\u2e80" <= sign <= "\uffef")
    return wide + _font(face).getlength(rest) / 100


def width(line: str, size: float, bold: bool = False) -> float:
    """Of a line of text in pixels."""
    return sum(_advance(run.text, run.face) * run.scale for run in runs(line, bold)) * size


# --- the layout's record, for its check ------------------------------------------------------


@dataclass(frozen=True)
class Rect:
    x0: float
    y0: float
    x1: float
    y1: float
    what: str = ""

    def meets(self, other: Rect, by: float = 0.5) -> bool:
        across = min(self.x1, other.x1) - max(self.x0, other.x0)
        down = min(self.y1, other.y1) - max(self.y0, other.y0)
        return across > by and down > by

    def holds(self, other: Rect) -> bool:
        return (
            self.x0 <= other.x0
            and other.x1 <= self.x1
            and self.y0 <= other.y0
            and other.y1 <= self.y1
        )

    def crossed_by(self, a: Point, b: Point) -> bool:
        """Does the segment a–b enter it? (Liang and Barsky.)"""
        low, high = 0.0, 1.0
        for p0, p1, least, most in ((a[0], b[0], self.x0, self.x1), (a[1], b[1], self.y0, self.y1)):
            if abs(p1 - p0) < 1e-9:
                if not least < p0 < most:
                    return False
                continue
            t0, t1 = sorted(((least - p0) / (p1 - p0), (most - p0) / (p1 - p0)))
            low, high = max(low, t0), min(high, t1)
        return low < high


@dataclass
class Canvas:
    """A figure being drawn. focus: the part that is "you are here"; all other parts step back."""

    height: float
    title: str
    desc: str
    focus: str | None = None
    out: list[str] = field(default_factory=list)
    texts: list[Rect] = field(default_factory=list)
    boxes: list[Rect] = field(default_factory=list)
    lines: list[tuple[Point, Point]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    # -- parts --

    @contextmanager
    def part(self, *names: str) -> Iterator[bool]:
        """What is drawn inside belongs to these parts; yields whether it is the one in focus."""
        self.parts += names
        here = self.focus in names
        self.out.append('<g class="dim">' if self.focus and not here else "<g>")
        yield here
        self.out.append("</g>")

    @contextmanager
    def shape(self, name: str) -> Iterator[None]:
        """What is drawn inside is kept for `use`."""
        boxes = len(self.boxes)
        self.out.append(f'<defs><g id="{name}">')
        yield
        self.out.append("</g></defs>")
        del self.boxes[boxes:]

    def use(self, name: str, x: float, y: float = 0.0) -> None:
        self.out.append(f'<use href="#{name}" x="{_n(x)}" y="{_n(y)}"/>')

    # -- text --

    def text(
        self,
        x: float,
        y: float,
        line: str,
        size: float = 15,
        anchor: str = "middle",
        role: str = "ink",
        bold: bool = False,
        over: bool = False,
    ) -> float:
        """A line on the baseline y; its width in pixels. Lines are parted by "\\n". over: on a full colour."""
        if "\n" in line:
            for k, one in enumerate(line.split("\n")):
                self.text(x, y + k * size * 1.3, one, size, anchor, role, bold, over)
            return max(width(one, size, bold) for one in line.split("\n"))
        spans, shift = [], 0.0
        for run in runs(line, bold):
            dy, shift = (run.shift - shift) * size, run.shift
            extra = f' dy="{_n(dy)}"' if abs(dy) > 1e-6 else ""
            extra += f' font-size="{_n(size * run.scale)}"' if run.scale != 1 else ""
            extra += f' class="{run.face}"' if run.face else ""
            spans.append(f"<tspan{extra}>{escape(run.text)}</tspan>" if extra else escape(run.text))
        if len(spans) == 1 and spans[0].startswith('<tspan class="b">'):
            spans, weight = [spans[0][17:-8]], " b"
        else:
            weight = ""
        at = "" if anchor == "start" else f' text-anchor="{anchor}"'
        colour = "over" if over else f"t-{role}"
        self.out.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}"{at} class="{colour}{weight}">'
            f"{''.join(spans)}</text>"
        )
        long = width(line, size, bold)
        left = x - long * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        if size < SMALLEST:
            raise ValueError(f"{line!r} is set in {size} pixels: {SMALLEST} is the least")
        self.texts.append(Rect(left, y - 0.76 * size, left + long, y + 0.22 * size, line))
        return long

    # -- shapes --

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        role: str = "ink",
        lines: str = "",
        size: float = 15,
        style: str = "",
    ) -> Rect:
        """A box with its lines in the middle.

        style: of the edge dash, thick, thin; of the corners round or square; line has no filling, full a
        full one; bold is for the lines.
        """
        words = style.split()
        kind = "s-" if "line" in words else "b-"
        css = " ".join([kind + role, *(s for s in words if s in ("dash", "thick", "thin", "full"))])
        corner = h / 2 if "round" in words else 4 if "square" in words else 9
        self.out.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" rx="{_n(corner)}" class="{css}"/>'
        )
        rect = Rect(x, y, x + w, y + h, lines or "a box")
        self.boxes.append(rect)
        rows = lines.split("\n") if lines else []
        top = y + h / 2 - (len(rows) - 1) * size * 0.65 + size * 0.35
        for k, row in enumerate(rows):
            at = x + w / 2, top + k * size * 1.3
            self.text(*at, row, size, bold="bold" in words, over="full" in words)
        return rect

    def circle(
        self,
        x: float,
        y: float,
        r: float,
        role: str = "ink",
        style: str = "",
        line: str = "",
        size: float = 15,
    ) -> None:
        """A circle, with a sign in it where one is given."""
        kind = "s-" if "line" in style else "b-"
        css = " ".join([kind + role, *(s for s in style.split() if s != "line")])
        self.out.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}" class="{css}"/>')
        if line:
            self.text(x, y + size * 0.35, line, size, over="full" in style)
            self.texts.pop()  # it has the circle to itself, wherever that sits

    def path(self, d: str, role: str = "ink", style: str = "") -> None:
        """Any outline; "fill" in style fills it too."""
        kind = "b-" if "fill" in style else "s-"
        css = " ".join([kind + role, *(s for s in style.split() if s != "fill")])
        self.out.append(f'<path d="{d}" class="{css}"/>')

    def line(
        self, points: Sequence[Point], role: str = "soft", style: str = "", bend: float = 8
    ) -> None:
        """Through the points, with rounded corners."""
        self.path(_rounded(points, bend), role, style)
        self.lines += list(zip(points, points[1:], strict=False))

    def arrow(
        self,
        points: Sequence[Point],
        role: str = "soft",
        style: str = "",
        bend: float = 8,
        both: bool = False,
    ) -> None:
        """A line that ends in a head (both: begins in one, too)."""
        points = list(points)
        ends = [(points[-2], points[-1], -1)] + ([(points[1], points[0], 0)] if both else [])
        heads = []
        for before, tip, k in ends:
            heads.append(head(before, tip))
            length = math.dist(before, tip)
            share = max(0.0, (length - 6) / length)
            points[k] = (
                before[0] + (tip[0] - before[0]) * share,
                before[1] + (tip[1] - before[1]) * share,
            )
        self.line(points, role, style, bend)
        self.path("".join(heads), role, "fill full")

    def curve(
        self, start: Point, a: Point, b: Point, end: Point, role: str = "soft", style: str = ""
    ) -> None:
        """A cubic curve that ends in an arrow's head."""
        length = math.dist(b, end)
        share = (length - 6) / length
        stop = b[0] + (end[0] - b[0]) * share, b[1] + (end[1] - b[1]) * share
        self.path(f"M{_p(start)}C{_p(a)} {_p(b)} {_p(stop)}", role, style)
        self.path(head(b, end), role, "fill full")
        steps = [_cubic(start, a, b, end, k / 12) for k in range(13)]
        self.lines += list(zip(steps, steps[1:], strict=False))

    def picture(
        self,
        x: float,
        y: float,
        side: float,
        data: bytes,
        alt: str,
        pixelated: bool = False,
        role: str = "ink",
    ) -> None:
        """A square picture (PNG or WebP) in a thin frame."""
        mime = "png" if data[:4] == b"\x89PNG" else "webp"
        coded = base64.b64encode(data).decode()
        css = ' class="px"' if pixelated else ""
        self.out.append(
            f'<image x="{_n(x)}" y="{_n(y)}" width="{_n(side)}" height="{_n(side)}"{css} '
            f'aria-label="{escape(alt)}" href="data:image/{mime};base64,{coded}"/>'
        )
        self.out.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(side)}" height="{_n(side)}" rx="1.5" class="s-{role} thin"/>'
        )
        self.boxes.append(Rect(x, y, x + side, y + side, alt))

    def bar(
        self, x: float, y: float, w: float, h: float, role: str = "pixels", style: str = ""
    ) -> None:
        """A small filled bar, of a chart or a gauge; nothing where it has no length."""
        if w > 0.5:
            self.out.append(
                f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" class="b-{role} thin {style}"/>'
            )

    def badge(self, x: float, y: float, label: str, here: bool = False, role: str = "ink") -> None:
        """A chapter's number in a circle; full where we are."""
        self.out.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="11" class="bg"/>'
        )  # hides what is below
        self.circle(x, y, 11, role, "full" if here else "", f"**{label}**", 12)

    # -- the end --

    def svg(self) -> str:
        h = _n(self.height)
        used = {
            c
            for part in self.out
            for classes in re.findall(r'class="([^"]*)"', part)
            for c in classes.split()
        }
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {h}" width="{WIDTH}" height="{h}" '
            f'role="img" aria-labelledby="t d"><title id="t">{escape(self.title)}</title>'
            f'<desc id="d">{escape(self.desc)}</desc><style>{_style(used)}</style>'
            f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{_n(self.height - 1)}" rx="12" class="paper"/>\n'
            + "\n".join(self.out)
            + "\n</svg>\n"
        )

    def problems(self) -> list[str]:
        """What is wrong with the layout: text off the paper, on text, over an edge, or struck by a line."""
        found, paper = [], Rect(8, 8, WIDTH - 8, self.height - 8)
        for i, text in enumerate(self.texts):
            if not paper.holds(text):
                found.append(f"off the paper: {text.what}")
            for other in self.texts[i + 1 :]:
                if text.meets(other, 1.0):
                    found.append(f"on each other: {text.what} | {other.what}")
            for box in self.boxes:
                inner = Rect(box.x0 + 3, box.y0 + 1, box.x1 - 3, box.y1 - 1)
                outer = Rect(box.x0 - 1, box.y0, box.x1 + 1, box.y1)
                if text.meets(outer) and not inner.holds(text):
                    found.append(f"over the edge: {text.what} | {box.what}")
            for a, b in self.lines:
                if text.crossed_by(a, b):
                    found.append(f"struck by a line {a}–{b}: {text.what}")
        if self.focus is not None and self.focus not in self.parts:
            found.append(f"no part is called {self.focus}")
        return found


# --- small geometry --------------------------------------------------------------------------


def _n(value: float) -> str:
    text = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _p(point: Point) -> str:
    return f"{_n(point[0])} {_n(point[1])}"


def _cubic(p: Point, a: Point, b: Point, q: Point, t: float) -> Point:
    s = 1 - t
    w = (s**3, 3 * s * s * t, 3 * s * t * t, t**3)
    xy = (p, a, b, q)
    return sum(k * z[0] for k, z in zip(w, xy, strict=True)), sum(
        k * z[1] for k, z in zip(w, xy, strict=True)
    )


def head(before: Point, tip: Point, long: float = 9.5, wide: float = 4.2) -> str:
    """The outline of an arrow's head."""
    length = math.dist(before, tip) or 1.0
    dx, dy = (tip[0] - before[0]) / length, (tip[1] - before[1]) / length
    x, y = tip[0] - long * dx, tip[1] - long * dy
    left, right = (x - wide * dy, y + wide * dx), (x + wide * dy, y - wide * dx)
    return f"M{_p(tip)}L{_p(left)}L{_p(right)}Z"


def _rounded(points: Sequence[Point], bend: float) -> str:
    d = [f"M{_p(points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        for other, sign in ((before, "L"), (after, "Q")):
            length = math.dist(other, corner) or 1.0
            r = min(bend, length / 2) / length
            at = corner[0] + (other[0] - corner[0]) * r, corner[1] + (other[1] - corner[1]) * r
            d.append(f"{sign}{_p(at)}" if sign == "L" else f"Q{_p(corner)} {_p(at)}")
    return "".join(d) + f"L{_p(points[-1])}"


def polyline(points: Sequence[Point]) -> str:
    """The outline through many points, for curves that are computed."""
    return "M" + "L".join(_p(p) for p in points)
