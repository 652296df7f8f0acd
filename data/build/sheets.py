"""Two pages to look at: every object in every style, and sample scenes with their captions.

python data/build/sheets.py writes data/objects.webp and data/samples.webp.
"""

import textwrap

from PIL import Image, ImageDraw, ImageFont

from minimagen.assets import DATA
from minimagen.images import to_pil
from minimagen.scenes import Scenes, grammar, objects
from minimagen.scenes.artwork import sprite

FONT = ImageFont.load_default(11)


def contact_sheet(columns: int = 8, side: int = 36) -> Image.Image:
    rows, styles = list(objects().values()), list(grammar()["styles"])
    wide, high = len(styles) * side + 10, side + 16
    sheet = Image.new("RGB", (columns * wide, -(-len(rows) // columns) * high), "white")
    pen = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        x, y = i % columns * wide, i // columns * high
        mark = " *" if row["starter"] else " +" if row["whole"] else ""
        pen.text((x + 2, y), row["en"] + mark, "black", FONT)
        for k, style in enumerate(styles):
            art = sprite(row["key"], style).resize((side, side), Image.Resampling.BOX)
            sheet.paste(art, (x + k * side, y + 14), art)
    return sheet


def samples(vocabulary: str, columns: int = 6, rows: int = 3, side: int = 128) -> Image.Image:
    """The first items of the split "seen", none left out."""
    scenes = Scenes(256, "seen", vocabulary, languages=("en",))
    sheet = Image.new("RGB", (columns * (side + 6), rows * (side + 58)), "white")
    pen = ImageDraw.Draw(sheet)
    for i in range(columns * rows):
        x, y = i % columns * (side + 6), i // columns * (side + 58)
        item = scenes[i]
        sheet.paste(to_pil(item.image[None])[0].resize((side, side), Image.Resampling.BOX), (x, y))
        pen.multiline_text(
            (x, y + side + 2), textwrap.fill(item.caption, 23), "black", FONT, spacing=1
        )
    return sheet


if __name__ == "__main__":
    contact_sheet().save(DATA / "objects.webp", quality=30, method=6)
    pages = [samples("starter"), samples("whole")]
    both = Image.new("RGB", (pages[0].width, sum(p.height for p in pages)), "white")
    both.paste(pages[0], (0, 0))
    both.paste(pages[1], (0, pages[0].height))
    both.save(DATA / "samples.webp", quality=70, method=6)
