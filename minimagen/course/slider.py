"""A slider through pictures, as one piece of HTML: no kernel and no widget package takes part."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape

from PIL import Image

WIDTH = 400  # CSS pixels: small pictures are enlarged to about this, so that sliders look alike
SMALL = 160  # pixels: up to here each pixel is seen by itself, so a picture keeps them sharp
COLOURS = 64  # of a small picture that takes more than LOSSLESS bytes: noise, mostly
LOSSLESS = 3000

# Where scripts are not allowed (an untrusted notebook, GitHub) nothing of it is seen, and the strip
# beneath stands alone. `:empty` makes it run once for each slider, however often the script is read.
SCRIPT = """\
for (const root of document.querySelectorAll(".minimagen-frames:empty")) {
  const {pictures, labels, alt, name, width} = JSON.parse(root.dataset.frames);
  const add = (tag, parent, style, more) =>
    Object.assign(parent.appendChild(document.createElement(tag)), more, {style});
  const wide = `width:${width}px;max-width:100%`;
  const image = add("img", root, `display:block;image-rendering:pixelated;${wide}`);
  const row = add("label", root, `display:flex;align-items:center;gap:.6em;margin:.3em 0;${wide}`);
  add("span", row, "", {textContent: name});
  const range = add("input", row, "flex:1;min-width:5em;margin:0;accent-color:#0072b2",
                    {type: "range", min: 0, max: pictures.length - 1, value: 0});
  const text = add("div", root, "min-height:1.5em;margin-bottom:.6em");
  const move = () => {
    const i = range.valueAsNumber;
    image.src = pictures[i];
    image.alt = `${alt}: ${labels[i]}`;
    text.textContent = labels[i];
    range.setAttribute("aria-valuetext", labels[i]);
  };
  range.addEventListener("input", move);
  range.dataset.lmSuppressShortcuts = "true";  // in JupyterLab an arrow key moves this, not the cell
  move();
}"""


def html(images: Sequence[Image.Image], labels: Sequence[str], alt: str, name: str) -> str:
    """The pictures under a range input that is called `name`; a label stands beneath each picture.

    The arrow keys, Home and End move it; a screen reader hears the label.
    """
    columns = images[0].width
    data = {
        "pictures": [encoded(image) for image in images],
        "labels": list(labels),
        "alt": alt,
        "name": name,
        "width": columns * max(1, WIDTH // columns),
    }
    told = escape(json.dumps(data, ensure_ascii=False))
    return f"<div class='minimagen-frames' data-frames='{told}'></div><script>{SCRIPT}</script>"


def encoded(image: Image.Image) -> str:
    """A picture as the address of a WebP: pixel for pixel where it is small, like a photograph else."""
    if max(image.size) > SMALL:
        coded = _webp(image, quality=85)
    elif len(coded := _webp(image, lossless=True)) > LOSSLESS:
        coded = _webp(image.quantize(COLOURS).convert("RGB"), lossless=True)
    return "data:image/webp;base64," + base64.b64encode(coded).decode()


def _webp(image: Image.Image, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "webp", method=6, **how)
    return buffer.getvalue()
