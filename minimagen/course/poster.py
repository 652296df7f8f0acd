"""A poster of ten sentences: the pictures of one's own cascade, and in small those of the shipped one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..evaluation.suites import Prompt
from ..images import save_png, to_pil
from ..scenes.scene import objects
from .words import CHINESE, Choice, sentence

PAPER, INK, FAINT = "#fbfaf6", "#1b1f27", "#5b6472"
MARGIN, GAP, SIDE, SMALL = 56, 18, 256, 122
COLUMNS = 5
WIDTH = 2 * MARGIN + COLUMNS * SIDE + (COLUMNS - 1) * GAP
CARD = SIDE + 52  # a picture and its sentence
# fonts of the usual systems that have Chinese signs; the course brings none
CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", "Hiragino Sans GB", "Heiti SC",
    "Microsoft YaHei", "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Noto Sans CJK JP",
)  # fmt: skip


def poster(own: Tensor, shipped: Tensor, asked: Sequence[Prompt], path: Path) -> Image.Image:
    """One PNG of ten sentences, each under the picture that one's own cascade drew of it; the shipped one's below.

    own, shipped: (10, 3, H, W) in [−1, 1]. The sentences and the mark "AI-generated" stand in the file too.
    Where the machine has no font for Chinese, a Chinese sentence stands there in English.
    """
    top = MARGIN + 112
    band = top + 2 * CARD + 18  # where the shipped cascade's begin
    sheet = Image.new("RGB", (WIDTH, band + 40 + SMALL + 74), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 8), "My world", INK, _latin(52, bold=True))
    things = dict.fromkeys(prompt.asked.things[0].key for prompt in asked)
    named = "  ·  ".join(objects()[key]["en"] for key in things)
    pen.text((MARGIN, MARGIN + 62), named, FAINT, _latin(21))
    for i, (image, prompt) in enumerate(zip(to_pil(own), asked, strict=True)):
        x = MARGIN + i % COLUMNS * (SIDE + GAP)
        y = top + i // COLUMNS * CARD
        _put(sheet, image, x, y, SIDE)
        text, font = _sentence(prompt)
        pen.text((x + SIDE / 2, y + SIDE + 22), text, INK, font, anchor="mm")
    pen.line((MARGIN, band, WIDTH - MARGIN, band), "#d8d5cb", 2)
    pen.text(
        (MARGIN, band + 12), "the same ten sentences, by the shipped cascade", FAINT, _latin(17)
    )
    step = (WIDTH - 2 * MARGIN - SMALL) / (len(asked) - 1)
    for i, image in enumerate(to_pil(shipped)):
        _put(sheet, image, round(MARGIN + i * step), band + 40, SMALL)
    last = "AI-generated with minimagen: every picture was drawn from noise and a sentence"
    pen.text((MARGIN, band + 40 + SMALL + 22), last, FAINT, _latin(15))
    texts = " | ".join(prompt.text for prompt in asked)
    save_png(sheet, path, texts, "0 to 9", "my_world and the shipped cascade")
    return sheet


def _put(sheet: Image.Image, image: Image.Image, x: int, y: int, side: int) -> None:
    """An image at (x, y), side × side, with round corners."""
    image = image.resize((side, side), Image.Resampling.LANCZOS)
    mask = Image.new("L", (4 * side, 4 * side))  # drawn larger, so that its corners are smooth
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * side - 1, 4 * side - 1), side // 4, 255)
    sheet.paste(image, (x, y), mask.resize((side, side), Image.Resampling.LANCZOS))


def _sentence(prompt: Prompt) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text of a sentence, and a font that has its signs and is small enough."""
    text, file = prompt.text, _file()
    if CHINESE.search(text):
        file = _chinese() or file
        if _chinese() is None:
            text = sentence(Choice(prompt.asked.things[0].key, place=prompt.asked.place))
    for size in range(19, 9, -1):
        font = ImageFont.truetype(file, size)
        if font.getlength(text) <= SIDE + GAP - 8:
            break
    return text, font


def _latin(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_file(bold), size)


def _file(bold: bool = False) -> str:
    """The file of the font that comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", name))


@lru_cache(maxsize=1)
def _chinese() -> str | None:
    """The file of a font with Chinese signs, of regular weight where there is one; None: this machine has none."""
    for name in CHINESE_FONTS:
        there = [entry for entry in font_manager.fontManager.ttflist if entry.name == name]
        if there:
            weights = [entry.weight for entry in there]  # numbers, or words like "bold"
            return there[weights.index(400) if 400 in weights else 0].fname
    return None
