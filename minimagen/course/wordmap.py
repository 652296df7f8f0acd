"""A map of words in two languages: SVG, as the reader's own fonts know Chinese and matplotlib's may not."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from .show import COLOURS

WIDE, HIGH, MARGIN, LINE = 760, 560, 60, 20  # pixels of the picture, of its edge, of a line of text


def word_map(points: Tensor, names: tuple[Sequence[str], Sequence[str]], alt: str) -> None:
    """Show English and Chinese names, each pair joined by a line.

    points (2N, 2): first those of the N English names, then of the Chinese ones, in the same order.
    """
    from IPython.display import display

    coded = base64.b64encode(drawn(points, names).encode()).decode()
    picture = f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{coded}">'
    picture += f"<p>{escape(alt[0].upper() + alt[1:])}</p>"
    display({"text/html": picture, "text/plain": f"[figure: {alt}]"}, raw=True)


def drawn(points: Tensor, names: tuple[Sequence[str], Sequence[str]]) -> str:
    """The SVG of `word_map`: a dot where a name lies, its name beside it; a dotted line where it had to move."""
    english, chinese = names
    low, high = points.amin(0), points.amax(0)
    room = torch.tensor([WIDE - 2 * MARGIN, HIGH - 2 * MARGIN])
    dots = MARGIN + (points - low) / (high - low) * room
    at = _beside(dots, [*english, *chinese])
    pairs, leaders, words = "", "", ""
    for (x, y), (u, v) in zip(
        dots[: len(english)].tolist(), dots[len(english) :].tolist(), strict=True
    ):
        pairs += f'<path d="M{x:.0f} {y:.0f}L{u:.0f} {v:.0f}" stroke="#bbb" stroke-width="2"/>'
    for k, ((x, y), (u, v)) in enumerate(zip(at.tolist(), dots.tolist(), strict=True)):
        colour = COLOURS[0] if k < len(english) else COLOURS[1]
        pairs += f'<circle cx="{u:.0f}" cy="{v:.0f}" r="4" fill="{colour}"/>'
        words += (
            f'<text x="{x:.0f}" y="{y + 5:.0f}" fill="{colour}" stroke="white" stroke-width="3" '
            f'paint-order="stroke">{escape([*english, *chinese][k])}</text>'
        )
        if abs(y - v) > LINE:
            leaders += f'<path d="M{x:.0f} {y:.0f}L{u:.0f} {v:.0f}" stroke="{colour}" stroke-dasharray="2 3"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{HIGH}" viewBox="0 0 {WIDE} {HIGH}">'
        f'<rect width="100%" height="100%" rx="8" fill="white"/>{pairs}{leaders}<g font-family="sans-serif" '
        f'font-size="15" text-anchor="middle">{words}</g></svg>'
    )


def _beside(dots: Tensor, labels: Sequence[str]) -> Tensor:
    """Places (N, 2) for the middles of labels, each beside its dot: none covers another, or another's dot.

    Above, beneath, to the right and to the left are tried in this order, then the same farther away.
    """
    placed: list[tuple[float, float, float]] = []  # x, y and half the width of each label
    for k, ((u, v), label) in enumerate(zip(dots.tolist(), labels, strict=True)):
        half = sum(16 if sign > "⺀" else 8.5 for sign in label) / 2
        tries = [
            (u + right * (half + 8 + step * LINE / 2), v + down * LINE * (0.75 + step / 2))
            for step in range(40)
            for right, down in ((0, -1), (0, 1), (1, 0), (-1, 0))
        ]
        others = [*dots[:k].tolist(), *dots[k + 1 :].tolist()]
        free = (
            (x, y)
            for x, y in tries
            if half < x < WIDE - half
            and LINE < y < HIGH - LINE
            and all(abs(x - p) > half + 6 or abs(y - q) > LINE * 0.7 for p, q in others)
            and all(abs(x - p) > half + h + 4 or abs(y - q) >= LINE for p, q, h in placed)
        )
        x, y = next(free, tries[0])
        placed.append((x, y, half))
    return torch.tensor([[x, y] for x, y, _ in placed])
