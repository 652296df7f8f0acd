"""A poster of pictures that the cascade drew, each with its words: for the README and chapter 00.

    minimagen draw "a fox in the snow" "海上有一艘帆船" … --json --out picture.png
    python notebooks/diagrams/hero.py FOLDER_OR_PNG … --out notebooks/diagrams/hero.webp

The words are those that each PNG carries (Prompt, and Seed), so no picture can stand under words that did not draw
it. Pictures come in the order of their names, the first one large. --also FILE gives words in the other
language to set beneath: lines of prompt, tab, translation.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

COLUMNS, TILE, GAP, EDGE, TEXT = 5, 256, 20, 36, 62  # pixels
HEAD = 118
PAPER, INK, SOFT, FRAME = "#14171c", "#f2f4f7", "#a9b3c2", "#2c323b"
WORDS = "#eebc42"  # the colour of words in every diagram
LATIN = ("Inter", "Helvetica Neue", "Segoe UI", "Arial", "DejaVu Sans")
CHINESE = ("Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Zen Hei")


@dataclass(frozen=True)
class Drawn:
    """A picture, and what it was asked for."""

    picture: Image.Image
    prompt: str
    also: str  # the same in the other language, or ""


def chinese(text: str) -> bool:
    return any("\u2e80" <= sign <= "\uffef" for sign in text)


def font(size: int, text: str, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The first family of the list that is here. Raises ValueError where no font has Chinese."""
    for family in CHINESE if chinese(text) else LATIN:
        wanted = font_manager.FontProperties(family=family, weight="bold" if bold else "normal")
        try:
            return ImageFont.truetype(
                font_manager.findfont(wanted, fallback_to_default=False), size
            )
        except ValueError:
            continue
    raise ValueError(f"no font here has Chinese signs: install one of {', '.join(CHINESE)}")


def read(paths: list[Path], also: dict[str, str]) -> list[Drawn]:
    """The PNGs of folders and files. Raises ValueError for one that does not say what it shows."""
    files: list[Path] = []
    for path in paths:  # of a folder the single ones, NAME-0.png and so on, not their grid
        own = sorted(path.glob("*-*.png"), key=lambda f: int(f.stem.rpartition("-")[2]))
        files += own if path.is_dir() else [path]
    drawn = []
    for file in files:
        with Image.open(file) as picture:
            prompt = picture.info.get("Prompt", "")
            if not prompt or picture.width != picture.height:
                raise ValueError(
                    f"{file} is no single picture of minimagen draw: use --json, not a grid"
                )
            drawn.append(Drawn(picture.convert("RGB"), prompt, also.get(prompt, "")))
    if not drawn:
        raise ValueError(
            "there are no pictures: give PNGs that minimagen draw made, or their folder"
        )
    return drawn


def rounded(picture: Image.Image, side: int) -> Image.Image:
    """At this side, with round corners."""
    how = Image.Resampling.LANCZOS
    big, mask = (
        picture.resize((side, side), how).convert("RGBA"),
        Image.new("L", (side * 4, side * 4)),
    )
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side * 4 - 1, side * 4 - 1), 56, fill=255)
    big.putalpha(mask.resize((side, side), how))
    return big


def fit(
    text: str, wide: int, size: int, bold: bool = False
) -> tuple[list[str], ImageFont.FreeTypeFont]:
    """The text in at most two lines that fit, and its font, smaller where two lines are not enough."""
    for smaller in range(size, 11, -1):
        face, lines = font(smaller, text, bold), [""]
        for piece in list(text) if chinese(text) else text.split(" "):
            joint = "" if chinese(text) or not lines[-1] else " "
            if lines[-1] and face.getlength(lines[-1] + joint + piece) > wide:
                lines.append(piece)
            else:
                lines[-1] += joint + piece
        if len(lines) <= 2 and max(map(face.getlength, lines)) <= wide:
            return lines, face
    raise ValueError(f"{text!r} is too long for a poster")


def poster(drawn: list[Drawn], title: str, line: str) -> Image.Image:
    """The first picture over two columns and rows, the others around it."""
    count = len(drawn) + 3  # the large one takes four places
    rows = max(2, -(-count // COLUMNS))
    cell, high = TILE + GAP, TILE + TEXT
    wide = 2 * EDGE + COLUMNS * cell - GAP
    sheet = Image.new("RGB", (wide, HEAD + EDGE + rows * (high + GAP) - GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((EDGE, 32), title, INK, font(52, title, True))
    pen.text((wide - EDGE, 80), line, SOFT, font(25, line), anchor="rs")
    places = [(0, 0)] + [(r, k) for r in range(rows) for k in range(COLUMNS) if r > 1 or k > 1]
    for one, (row, column) in zip(drawn, places, strict=False):
        x, y = EDGE + column * cell, HEAD + row * (high + GAP)
        large = row == column == 0
        side = 2 * TILE + GAP if large else TILE
        picture = rounded(one.picture, side)
        sheet.paste(picture, (x, y), picture)
        under, size = y + side + 10, 29 if large else 22
        lines, face = fit(one.prompt, side, size)
        for k, words in enumerate(lines):
            pen.text((x, under + k * size * 1.25), words, WORDS if large else INK, face)
        if one.also and len(lines) == 1:
            small, face = fit(one.also, side, size - 3)
            pen.text((x, under + size * 1.42), small[0], SOFT, face)
    return sheet


def save(sheet: Image.Image, out: Path, drawn: list[Drawn], wide: int, most: int) -> None:
    """A WebP of this width and at most so many bytes, which says what it shows and who drew it."""
    small = sheet.resize((wide, round(sheet.height * wide / sheet.width)), Image.Resampling.LANCZOS)
    exif = Image.Exif()
    # EXIF holds ASCII alone: a Chinese prompt is told by its translation
    told = [one.also if chinese(one.prompt) and one.also else one.prompt for one in drawn]
    asked_in_chinese = sum(chinese(one.prompt) for one in drawn)
    exif[0x010E] = (
        f"Pictures that the cascade of minimagen drew (AI-generated), of these words, {asked_in_chinese} of "
        f"{len(drawn)} asked for in Chinese: {'; '.join(told)}"
    )
    exif[0x0131] = "minimagen"
    for quality in range(90, 20, -3):
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=quality, method=6, exif=exif)
        if buffer.tell() <= most:
            out.write_bytes(buffer.getvalue())
            print(
                f"{out}: {small.width} × {small.height}, quality {quality}, {buffer.tell() // 1000} kB"
            )
            return
    raise ValueError(
        f"it does not get smaller than {buffer.tell():,} bytes: take fewer pictures or a smaller --wide"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("hero.webp"))
    parser.add_argument("--also", type=Path, help="prompt, tab, the same in the other language")
    parser.add_argument("--title", default="minimagen")
    parser.add_argument("--line", default="words in, pictures out · 一句话，一幅画")
    parser.add_argument("--wide", type=int, default=1400)
    parser.add_argument("--most", type=int, default=160_000, help="bytes; 40000 for a notebook")
    args = parser.parse_args()
    also = {}
    if args.also:
        rows = (row.split("\t") for row in args.also.read_text("utf-8").splitlines() if "\t" in row)
        also = {pair[i]: pair[1 - i] for pair in rows for i in (0, 1)}
    drawn = read(args.pictures, also)
    save(poster(drawn, args.title, args.line), args.out, drawn, args.wide, args.most)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
