"""Figures of a notebook, made fit for a wall: larger, with crisp edges, without the words beneath."""

from __future__ import annotations

import base64
import io
import textwrap

import numpy as np
from PIL import Image, ImageFilter

WIDE, HIGH = 1152, 560  # CSS pixels: the largest place that a figure gets on a slide
SHARP = 1000  # pixels: from this width on, a figure is stored with two pixels for one


def prepared(png: bytes, alt: str) -> tuple[str, float]:
    """The figure as the address of a WebP, and its width as a share of its height."""
    stored = Image.open(io.BytesIO(png))
    image = stored.convert("RGB")
    scale = 2 if image.width > SHARP else 1
    image = folded(trimmed(without_caption(image, alt, scale)))
    factor = min(WIDE / image.width, HIGH / image.height)
    if factor > 1.15:
        palette = stored if stored.mode == "P" else image.quantize(256)
        image = enlarged(image, min(4, int(np.ceil(factor))))
        image = image.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB")
    image = on_white(image)
    buffer = io.BytesIO()
    image.save(buffer, "webp", lossless=True, method=4)
    address = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return address, image.width / image.height


def without_caption(image: Image.Image, alt: str, scale: int) -> Image.Image:
    """Cut off the alt text that show.figure writes beneath a figure; a figure without it stays as it is."""
    ink = np.asarray(image).min(axis=2) < 200
    rows = np.flatnonzero(ink.any(axis=1))
    if not len(rows):
        return image
    bands = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)  # from above to below
    letters = int(13.5 * image.width / scale / 80)
    count = len(textwrap.fill(alt, letters).split("\n"))
    for band in bands[-count:]:
        left = int(np.flatnonzero(ink[band[0] : band[-1] + 1].any(axis=0))[0])
        if len(band) > 14 * scale or left > 24 * scale:
            return image
    return (
        image.crop((0, 0, image.width, int(bands[-count][0]) - 1)) if len(bands) > count else image
    )


def on_white(image: Image.Image) -> Image.Image:
    """A background that is nearly white becomes white, as the slide is."""
    every = image.getcolors(image.width * image.height) or []
    most = max(every)[1]
    if min(most) < 240:
        return image
    dots = np.array(image)
    dots[(dots == most).all(axis=2)] = 255
    return Image.fromarray(dots)


def trimmed(image: Image.Image) -> Image.Image:
    """Without its white border."""
    ink = Image.fromarray((np.asarray(image).min(axis=2) < 250).astype(np.uint8))
    return image.crop(ink.getbbox() or (0, 0, *image.size))


def folded(image: Image.Image) -> Image.Image:
    """A long row of pictures as two rows, where a white gap is in its middle."""
    if image.width < 3.4 * image.height:
        return image
    white = np.asarray(image).min(axis=(0, 2)) > 250
    middle, near = image.width // 2, image.width // 50
    gaps = [x for x in range(middle - near, middle + near) if white[x]]
    if not gaps:
        return image
    cut = min(gaps, key=lambda x: abs(x - middle))
    halves = [
        trimmed(image.crop(box)) for box in ((0, 0, cut, image.height), (cut, 0, *image.size))
    ]
    if abs(halves[0].width - halves[1].width) > near:
        return image
    gap = image.height // 12
    whole = Image.new(
        "RGB", (max(h.width for h in halves), sum(h.height for h in halves) + gap), "white"
    )
    whole.paste(halves[0], (0, 0))
    whole.paste(halves[1], (0, halves[0].height + gap))
    return whole


def enlarged(image: Image.Image, factor: int) -> Image.Image:
    """`factor` times as large. Edges stay edges: each value is pushed to the least or the greatest around it."""
    size = (factor * image.width, factor * image.height)

    def grown(of: Image.Image, how: Image.Resampling) -> np.ndarray:
        return np.asarray(of.resize(size, how), dtype=np.float32)

    smooth = grown(image, Image.Resampling.BICUBIC)
    low = grown(image.filter(ImageFilter.MinFilter(3)), Image.Resampling.BILINEAR)
    high = grown(image.filter(ImageFilter.MaxFilter(3)), Image.Resampling.BILINEAR)
    place = np.clip((smooth - low) / np.maximum(high - low, 1), 0, 1)
    place = np.clip((place - 0.5) * factor * 0.8 + 0.5, 0, 1)
    return Image.fromarray((low + place * (high - low)).round().astype(np.uint8))
