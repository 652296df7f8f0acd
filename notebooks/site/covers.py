"""A chapter's picture on the first page: three of the pictures that it drew, side by side."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 240  # pixels of each of the three
MAP = "325 30 435 145"  # of the map of words: three times as wide as high, with letters that can be read
# The cell whose figure is a row of pictures. Where a chapter has none, a diagram stands in.
CELLS = {
    "00": "y00-03",
    "01": "y01-09",
    "02": "y02-20",
    "03": "y03-64",
    "04": "y04-53",
    "05": "y05-47",
    "07": "y07-53",
    "08": "y08-18",
    "09": "y09-42",
    "10": "y10-30",
    "11": "y11-36",
    "12": "y12-26",
    "14": "y14-41",
    "15": "y15-09",
}


def cover(notebook: Path) -> bytes | None:
    """The first, a middle and the last picture of the chosen figure's first row, as one WebP."""
    wanted = CELLS.get(notebook.stem[:2])
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        for output in cell.get("outputs", []) if cell.get("id") == wanted else []:
            if png := output.get("data", {}).get("image/png"):
                found = tiles(Image.open(io.BytesIO(base64.b64decode("".join(png)))).convert("RGB"))
                if len(found) >= 2:
                    return _row([found[0], found[len(found) // 2], found[-1]])
    return None


def word_map(notebook: Path) -> bytes | None:
    """A part of a chapter's map of words, as SVG; nothing if it has none."""
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            if found := re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', html):
                drawn = base64.b64decode(found[1]).decode()
                return re.sub(r'viewBox="[^"]*"', f'viewBox="{MAP}"', drawn, count=1).encode()
    return None


def tiles(figure: Image.Image) -> list[Image.Image]:
    """The pictures of a figure's first row: what stands between white margins, titles and captions left out."""
    inked = np.asarray(figure).min(2) < 245  # (H, W)
    for top, bottom in _runs(inked.mean(1) > 0.4, least=40):
        across = _runs(inked[top:bottom].mean(0) > 0.5, least=40)
        return [figure.crop((left, top, right, bottom)) for left, right in across]
    return []


def _runs(full: np.ndarray, least: int) -> list[tuple[int, int]]:
    """Where a run of True begins and ends, for runs of at least `least`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], full.astype(int), [0]])))
    return [
        (int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= least
    ]


def _row(pictures: list[Image.Image]) -> bytes:
    row = Image.new("RGB", (SIDE * len(pictures), SIDE))
    for number, picture in enumerate(pictures):
        row.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (SIDE * number, 0))
    buffer = io.BytesIO()
    row.save(buffer, "webp", quality=82, method=6)
    return buffer.getvalue()
