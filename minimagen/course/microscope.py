"""The attention microscope: which pixels ask which word, at every step of sampling.

seen = look(imagen, ["a cat to the left of a car on the grass"], [0])
seen.map(0, "cat", "up 8×8")        # (steps, 8, 8): how much each pixel asks "cat"
show(seen, 0, "up 8×8")             # point at a word, and its pixels light up; point at a pixel, and its words do
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..imagen import Imagen
from ..text import TextEncoder
from ..unet import Attention
from . import slider
from .show import picture

END = "(end)"  # the mark that closes every sentence


@dataclass(frozen=True)
class Seen:
    """What was seen while B pictures were drawn. Shares: means over heads, of one softmax over pixels and words."""

    words: list[list[tuple[str, list[int]]]]  # of each sentence: a word and its tokens
    maps: dict[str, Tensor]  # layer → (B, steps, H, W, L): how much a pixel asks a token
    beliefs: Tensor  # (B, steps, 3, 16, 16): x̂_0 after each step
    pictures: Tensor  # (B, 3, side, side): the last stage's

    def map(self, i: int, word: str, layer: str) -> Tensor:
        """(steps, H, W): how much each pixel of picture i asks `word` (one or several) in all its tokens.

        Raises ValueError where the sentence has no such word.
        """
        wanted = word.split(" ")
        names = [name for name, _ in self.words[i]]
        for k in range(len(names) - len(wanted) + 1):
            if names[k : k + len(wanted)] == wanted:
                own = [t for _, tokens in self.words[i][k : k + len(wanted)] for t in tokens]
                return self.maps[layer][i][..., own].sum(dim=-1)
        raise ValueError(f"{word!r} is not in this sentence: it has {', '.join(names)}")


def look(
    imagen: Imagen,
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: int = 12,
    last: str | None = None,
) -> Seen:
    """Draw, and keep what every pixel of the base asked every word: in each layer with attention, at each step.

    last: the stage to stop after, as in Imagen.generate.
    """
    unet = imagen.stage("base").unet
    blocks = {f"down {16 >> i}×{16 >> i}": block for i, block in enumerate(unet.down)}
    lowest = len(unet.up) - 1
    blocks |= {
        f"up {16 >> (lowest - i)}×{16 >> (lowest - i)}": block for i, block in enumerate(unet.up)
    }
    maps: dict[str, list[Tensor]] = {}
    beliefs: list[Tensor] = []
    hooks = []
    for name, block in blocks.items():
        if block.attention is None:
            continue

        def keep(layer: Attention, inputs: tuple[Tensor, ...], _: Tensor, name: str = name) -> None:
            # under guidance, the first half of a batch has the captions
            maps.setdefault(name, []).append(onto_words(layer, *inputs)[: len(prompts)].cpu())

        hooks.append(cast(Attention, block.attention).register_forward_hook(keep))

    def after(stage: str, _: int, __: Tensor, x_0: Tensor) -> None:
        if stage == "base":
            beliefs.append(x_0.cpu())

    try:
        drawn = imagen.generate(prompts, seeds, steps=steps, last=last, callback=after)
    finally:
        for hook in hooks:
            hook.remove()
    stacked = {name: torch.stack(parts, dim=1) for name, parts in maps.items()}
    words = [words_of(imagen.text_encoder, prompt) for prompt in prompts]
    return Seen(words, stacked, torch.stack(beliefs, dim=1), list(drawn.values())[-1].cpu())


@torch.no_grad()
def onto_words(layer: Attention, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    """(B, H, W, L): the share of its attention that a pixel of x (B, C, H, W) gives to a token; mean over heads."""
    H, W = x.shape[-2:]
    pixels = layer.norm(x.float()).flatten(2).transpose(1, 2)  # (B, HW, C)
    k = layer.text_kv(layer.text_norm(text)).chunk(2, dim=-1)[0]  # (B, L, C)
    seen = mask
    if layer.to_kv is not None:
        k = torch.cat([layer.to_kv(pixels).chunk(2, dim=-1)[0], k], dim=1)  # (B, HW + L, C)
        seen = F.pad(mask, (H * W, 0), value=True)
    q, k = (z.unflatten(-1, (-1, layer.head_dim)).transpose(1, 2) for z in (layer.to_q(pixels), k))
    scores = q @ k.transpose(-1, -2) / layer.head_dim**0.5  # (B, heads, HW, …)
    shares = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(dim=-1)
    return shares[..., -mask.shape[1] :].mean(dim=1).unflatten(1, (H, W))


def words_of(encoder: TextEncoder, prompt: str) -> list[tuple[str, list[int]]]:
    """The words of a sentence, each with the numbers of its tokens; where there are no spaces, token by token."""
    spans = encoder.tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
    found: list[tuple[str, list[int]]] = []
    if " " not in prompt:
        pieces = [(a, b) for a, b in spans if b > a]
    else:
        pieces, at = [], 0
        for word in prompt.split(" "):
            pieces.append((at, at + len(word)))
            at += len(word) + 1
    for a, b in pieces:
        own = [k for k, (first, end) in enumerate(spans) if end > first and first < b and end > a]
        found.append((prompt[a:b], own))
    return [*found, (END, [len(spans) - 1])]


def lit(image: Tensor, heat: Tensor) -> Tensor:
    """A picture (3, H, W), dark where no pixel asks the word; heat (h, w), as `Seen.map` gives it for one step."""
    light = (heat / heat.max())[None, None]
    light = F.interpolate(light, size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
    return (image + 1) * (0.12 + 0.88 * light) - 1


SCRIPT = """\
for (const root of document.querySelectorAll(".minimagen-microscope:empty")) {
  const {picture, beliefs, words, maps, side, alt} = JSON.parse(root.dataset.frames);
  const bytes = Uint8Array.from(atob(maps), c => c.charCodeAt(0));  // [step][word][pixel]
  const add = (tag, parent, style, more) =>
    Object.assign(parent.appendChild(document.createElement(tag)), more, {style});
  const row = add("div", root, "display:flex;flex-wrap:wrap;gap:12px");
  const views = [0, 1].map(k => {
    const box = add("div", row, "position:relative;width:300px;height:300px");
    const image = add("img", box, `width:300px;height:300px;image-rendering:${k ? "auto" : "pixelated"}`,
                      {alt: alt + (k ? ": the picture" : ": what the model believes at this step")});
    const veil = add("canvas", box, "position:absolute;left:0;top:0;width:300px;height:300px",
                     {width: 300, height: 300});
    return {image, veil};
  });
  views[1].image.src = picture;
  const line = add("div", root, "margin:.5em 0;line-height:2.2");
  const label = add("label", root, "display:flex;align-items:center;gap:.6em;width:300px", {textContent: "step"});
  const range = add("input", label, "flex:1;accent-color:#0072b2",
                    {type: "range", min: 0, max: beliefs.length - 1, value: beliefs.length - 1});
  range.dataset.lmSuppressShortcuts = "true";
  const told = add("div", root, "min-height:1.5em");
  let word = -1;
  const heat = (w, p) => bytes[(range.valueAsNumber * words.length + w) * side * side + p];
  const buttons = words.map((text, w) => {
    const button = add("button", line, "margin:0 3px;padding:2px 7px;border:1px solid #888;border-radius:6px;" +
                       "background:transparent;color:inherit;font:inherit;cursor:pointer", {textContent: text});
    const pick = () => { word = w; paint(); };
    for (const event of ["mouseenter", "focus", "click"]) button.addEventListener(event, pick);
    return button;
  });
  const paint = () => {
    views[0].image.src = beliefs[range.valueAsNumber];
    const small = new OffscreenCanvas(side, side), pen = small.getContext("2d");
    const data = pen.createImageData(side, side);
    let most = 1;
    for (let p = 0; p < side * side; p++) if (word >= 0) most = Math.max(most, heat(word, p));
    for (let p = 0; p < side * side; p++)
      data.data[4 * p + 3] = word < 0 ? 0 : 225 * (1 - heat(word, p) / most);
    pen.putImageData(data, 0, 0);
    for (const {veil} of views) {
      const over = veil.getContext("2d");
      over.clearRect(0, 0, 300, 300);
      over.drawImage(small, 0, 0, 300, 300);
    }
    buttons.forEach((b, w) => {
      b.style.boxShadow = "none";
      b.style.borderColor = w == word ? "#d55e00" : "#888";
      b.setAttribute("aria-pressed", w == word);
    });
    told.textContent = `step ${range.valueAsNumber + 1} of ${beliefs.length}` +
      (word < 0 ? ": point at a word, or at a pixel" : `: bright where pixels ask “${words[word]}”`);
  };
  for (const {veil} of views) veil.addEventListener("mousemove", e => {
    const p = Math.min(side - 1, Math.floor(e.offsetY * side / 300)) * side +
      Math.min(side - 1, Math.floor(e.offsetX * side / 300));
    word = -1;
    paint();
    const all = words.map((_, w) => heat(w, p)), most = Math.max(1, ...all);
    buttons.forEach((b, w) => { b.style.boxShadow = `inset 0 -${Math.round(14 * all[w] / most)}px #d55e0088`; });
    told.textContent = "this pixel asks most: " + words[all.indexOf(most)];
  });
  range.addEventListener("input", paint);
  paint();
}"""


def html(seen: Seen, i: int, layer: str, alt: str) -> str:
    """Picture i under the microscope, as one piece of HTML: it needs no kernel."""
    words = [name for name, _ in seen.words[i]]
    maps = torch.stack(
        [seen.maps[layer][i][..., tokens].sum(dim=-1) for _, tokens in seen.words[i]], dim=1
    )  # (steps, words, H, W)
    told = (255 * maps / maps.max()).round().byte().numpy().tobytes()
    data = {
        "picture": slider.encoded(picture(seen.pictures[i])),
        "beliefs": [slider.encoded(picture(x)) for x in seen.beliefs[i]],
        "words": words,
        "maps": base64.b64encode(told).decode(),
        "side": maps.shape[-1],
        "alt": alt,
    }
    held = escape(json.dumps(data, ensure_ascii=False))
    return f"<div class='minimagen-microscope' data-frames='{held}'></div><script>{SCRIPT}</script>"


def show(seen: Seen, i: int, layer: str, alt: str) -> None:
    """Show picture i under the microscope. Where scripts are not allowed it is empty: put a figure beside it."""
    from IPython.display import display

    display(
        {"text/html": html(seen, i, layer, alt), "text/plain": f"[microscope: {alt}]"}, raw=True
    )
