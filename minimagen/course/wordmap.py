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
    display({"text/html": picture, "text/plain": f"[figure: {alt}]"}, raw=True)


def drawn(points: Tensor, names: tuple[Sequence[str], Sequence[str]]) -> str:
    """The SVG of `word_map`."""
    english, chinese = names
    low, high = points.amin(0), points.amax(0)
    room = torch.tensor([WIDE - 2 * MARGIN, HIGH - 2 * MARGIN])
    at = _apart(MARGIN + (points - low) / (high - low) * room, [*english, *chinese])
    lines, words = "", ""
    for k, ((x, y), name) in enumerate(zip(at.tolist(), [*english, *chinese], strict=True)):
        colour = COLOURS[0] if k < len(english) else COLOURS[1]
        words += (
            f'<text x="{x:.0f}" y="{y + 5:.0f}" fill="{colour}" stroke="white" stroke-width="3" '
            f'paint-order="stroke">{escape(name)}</text>'
        )
    for (x, y), (u, v) in zip(
        at[: len(english)].tolist(), at[len(english) :].tolist(), strict=True
    ):
        lines += f'<path d="M{x:.0f} {y:.0f}L{u:.0f} {v:.0f}" stroke="#aaa" stroke-width="1.5"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{HIGH}" viewBox="0 0 {WIDE} {HIGH}">'
        f'<rect width="100%" height="100%" rx="8" fill="white"/>{lines}<g font-family="sans-serif" '
        f'font-size="15" text-anchor="middle">{words}</g></svg>'
    )


def _apart(at: Tensor, labels: Sequence[str]) -> Tensor:
    """Places (N, 2) of labels, moved until no two of them overlap."""
    at = at.double().clone()
    widths = torch.tensor([sum(16 if c > "⺀" else 8.5 for c in label) for label in labels])
    reach = (widths[:, None] + widths) / 2 + 4  # how far apart two must be, across
    for _ in range(300):
        away = at[:, None] - at  # (N, N, 2)
        short = torch.stack([reach - away[..., 0].abs(), LINE - away[..., 1].abs()], dim=2)
        over = (short > 0).all(dim=2).fill_diagonal_(False)
        if not over.any():
            break
        # upwards or downwards, as this is the shorter way; who lies together is told apart by its number
        order = torch.arange(len(at))
        side = torch.where(away[..., 1] == 0, (order[:, None] - order).sign(), away[..., 1].sign())
        at[:, 1] += (over * side * short[..., 1]).sum(1) * 0.3
        at[:, 1].clamp_(LINE, HIGH - LINE)
    return at
