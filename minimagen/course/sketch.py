"""A sketch of 16 × 16 pixels, as text with a letter a pixel: painted in the browser, typed, or both.

canvas = Canvas(CAT, "a sketch to paint over")    # shows it: pick a colour, paint; the text changes with it
canvas.picture()                                  # (3, 16, 16) in [−1, 1], of what stands there now

The canvas is a piece of HTML that writes what is painted into the box of text beneath it, and the box talks to
Python. Where there is no kernel, a static picture stands there.
"""

from __future__ import annotations

import json
from html import escape

import torch
from torch import Tensor

from . import widgets
from .show import strip

SIDE = 16
COLOURS = {
    "s": ("sky", (120, 185, 250)),
    "w": ("white", (245, 245, 245)),
    "g": ("grass", (90, 175, 70)),
    "b": ("blue", (40, 95, 200)),
    "y": ("sand", (240, 215, 150)),
    "o": ("orange", (250, 170, 50)),
    "r": ("red", (215, 50, 50)),
    "p": ("pink", (235, 110, 150)),
    "n": ("brown", (130, 85, 50)),
    "k": ("black", (30, 30, 35)),
}
CAT = "\n".join(
    ["s" * 16] * 6
    + ["sssoosssssoossss", "sssooooooooossss", "sssooooooooossss"]
    + ["gggokooookoogggg", "gggooooooooogggg", "gggooooooooogggg", "gggoooppoooogggg", "gggooooooooogggg"]
    + ["g" * 16] * 2
)  # fmt: skip


def picture(text: str) -> Tensor:
    """(3, 16, 16) in [−1, 1] of 16 lines of 16 letters of COLOURS. Raises ValueError for other text."""
    rows = text.split()
    if len(rows) != SIDE or any(len(row) != SIDE for row in rows):
        raise ValueError(f"a sketch has {SIDE} lines of {SIDE} letters")
    if unknown := set("".join(rows)) - set(COLOURS):
        raise ValueError(
            f"no colour has the letter {sorted(unknown)[0]!r}: use {' '.join(COLOURS)}"
        )
    values = torch.tensor([[COLOURS[letter][1] for letter in row] for row in rows])
    return values.permute(2, 0, 1).float() / 127.5 - 1


SCRIPT = """\
for (const root of document.querySelectorAll(".minimagen-sketch:empty")) {
  const {text, colours, side, alt} = JSON.parse(root.dataset.sketch);
  const cells = text.split("\\n").map(row => [...row]);
  const add = (tag, parent, style, more) =>
    Object.assign(parent.appendChild(document.createElement(tag)), more, {style});
  const palette = add("div", root, "display:flex;flex-wrap:wrap;gap:6px;margin-bottom:8px");
  let letter = "o";
  const buttons = Object.entries(colours).map(([own, [name, rgb]]) => {
    const button = add("button", palette, `width:2.2em;height:2.2em;border-radius:6px;cursor:pointer;` +
                       `border:3px solid transparent;box-shadow:0 0 0 1px #888;background:rgb(${rgb})`,
                       {title: name});
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => { letter = own; mark(); });
    return [own, button];
  });
  const mark = () => buttons.forEach(([own, button]) => {
    button.style.borderColor = own == letter ? "#d55e00" : "transparent";
    button.setAttribute("aria-pressed", own == letter);
  });
  const canvas = add("canvas", root, "width:320px;height:320px;cursor:crosshair;touch-action:none",
                     {width: side, height: side});
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", alt);
  canvas.style.imageRendering = "pixelated";
  const pen = canvas.getContext("2d");
  const draw = () => cells.forEach((row, y) => row.forEach((own, x) => {
    pen.fillStyle = `rgb(${colours[own][1]})`;
    pen.fillRect(x, y, 1, 1);
  }));
  const tell = () => {  // into the box of text of this cell, which talks to Python
    for (let node = root.parentElement; node; node = node.parentElement) {
      const box = node.querySelector(".widget-textarea textarea");
      if (!box) continue;
      box.value = cells.map(row => row.join("")).join("\\n");
      for (const event of ["input", "change"]) box.dispatchEvent(new Event(event, {bubbles: true}));
      return;
    }
  };
  const paint = e => {
    const x = Math.floor(e.offsetX * side / 320), y = Math.floor(e.offsetY * side / 320);
    if (!(x in cells) || !(y in cells)) return;
    cells[y][x] = letter;
    draw();
  };
  canvas.addEventListener("pointerdown", e => { canvas.setPointerCapture(e.pointerId); paint(e); });
  canvas.addEventListener("pointermove", e => { if (e.buttons) paint(e); });
  canvas.addEventListener("pointerup", tell);
  mark();
  draw();
}"""


def html(text: str, alt: str) -> str:
    """The canvas as one piece of HTML."""
    data = {"text": "\n".join(text.split()), "colours": COLOURS, "side": SIDE, "alt": alt}
    held = escape(json.dumps(data, ensure_ascii=False))
    return f"<div class='minimagen-sketch' data-sketch='{held}'></div><script>{SCRIPT}</script>"


class Canvas:
    """Shows a sketch to paint over, and beneath it a static picture of how it begins.

    text: 16 lines of 16 letters. Raises ValueError for a text that is no sketch.
    """

    def __init__(self, text: str, alt: str) -> None:
        self.text, self.box = text, None
        start = picture(text)
        if widgets.can_show():
            from IPython.display import display
            from ipywidgets import Layout, Textarea

            display({"text/html": html(text, alt), "text/plain": f"[canvas: {alt}]"}, raw=True)
            self.box = Textarea(text, layout=Layout(width="20em", height="22em"))
            widgets.show(self.box, "[a box with the sketch as letters: run this cell to paint]")
        strip([start], ["the sketch as it begins"], alt, columns=1, size=2.4)

    def picture(self) -> Tensor:
        """(3, 16, 16) in [−1, 1], of what stands there now."""
        return picture(self.text if self.box is None else self.box.value)
