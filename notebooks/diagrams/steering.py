"""How the words are made to count: classifier-free guidance and thresholding (chapter 08)."""

from __future__ import annotations

from collections.abc import Callable

import facts
import torch
from kit import Canvas, polyline

from minimagen.guidance import dynamic_threshold, guided, static_threshold

WEIGHTS = (0.0, 1.0, 2.0, 4.0)


def guidance() -> Canvas:
    """w · conditional + (1 − w) · unconditional, as points on a line."""
    shipped = facts.stage("base").guidance
    c = Canvas(
        376,
        "Classifier-free guidance",
        "Two arrows start from x_t: one to what the network says without words, one to what it "
        "says with them. The line through both ends goes on beyond the words: weight 0 is "
        "without words, 1 is with them, larger weights are beyond. The shipped base takes "
        f"{shipped:g}.",
    )
    start, free, told = (132.0, 232.0), (196.0, 92.0), (292.0, 116.0)

    def at(w: float) -> tuple[float, float]:
        """The package's own formula, on the two ends."""
        ends = torch.tensor([told, free])[:, :, None, None]
        alone = torch.ones(1, 1, dtype=torch.bool)
        z = guided(lambda *_: ends, ends[:1], torch.zeros(1), torch.zeros(1, 1, 1), alone, w)
        return z[0, 0].item(), z[0, 1].item()

    far = at(4.7)
    c.path(polyline([free, far]), "soft", "dash thin")
    c.arrow([start, at(shipped)], "look", "thick")
    c.arrow([start, told], "words")
    c.arrow([start, free], "soft")
    c.circle(*start, 4.5, "ink", "full")
    c.text(start[0], start[1] + 24, "$x_t$", 17)
    for w in WEIGHTS:
        x, y = at(w)
        role = "look" if w == shipped else "words" if w == 1 else "soft"
        c.circle(x, y, 4.2, role, "full")
        c.text(x, y - 15, f"$w = {w:g}$", 15, role=role)
    c.text(150, 148, "without words", 14, "end", "soft")
    c.text(150, 168, "$ε̂(x_t)$", 15, "end", "soft")
    c.text(262, 176, "with words", 14, "start", "words")
    c.text(262, 197, "$ε̂(x_t, c)$", 15, "start", "words")
    c.text(350, 248, f"guided: {shipped:g} times the way from without to with", 14, "start", "look")
    c.box(20, 284, 660, 72, "look")
    c.text(350, 314, "$ε̃ = w · ε̂(x_t, c) + (1 − w) · ε̂(x_t)$", 19)
    c.text(
        350,
        341,
        "both in one pass; the same for $x_0$ and $v$; $w = 1$ is no guidance",
        14,
        role="soft",
    )
    return c


def thresholding() -> Canvas:
    """What guidance pushes out of [−1, 1], cut off or drawn in."""
    g = torch.Generator().manual_seed(1)
    x_0 = (0.75 * torch.randn(1, 3, 16, 16, generator=g)).double()
    s = float(torch.quantile(x_0.abs().flatten(), 0.995))
    c = Canvas(
        330,
        "Static and dynamic thresholding",
        "Three rows of bars over a number line: how many values of the guided picture are how "
        "large. First as guidance leaves them, many of them outside −1 to 1. Static: all outside "
        f"are set to −1 or 1 and pile up there. Dynamic: they are cut at s = {s:.1f}, the 99.5th "
        "percentile, and all are divided by s: none pile up, but every contrast is smaller.",
    )
    left, right, unit = 206.0, 680.0, 100.0
    middle = (left + right) / 2
    rows = (
        ("guided", "$x̂_0$ as it comes", x_0, "soft"),
        ("static", "clip to $[−1, 1]$", static_threshold(x_0), "pixels"),
        ("dynamic", "clip to $[−s, s]$,\nthen divide by $s$", dynamic_threshold(x_0), "look"),
    )
    for x, name in ((-1, "−1"), (0, "0"), (1, "1")):
        c.line([(middle + x * unit, 24), (middle + x * unit, 286)], "soft", "thin dash")
        c.text(middle + x * unit, 308, f"${name}$", 15)
    for k, (name, about, values, role) in enumerate(rows):
        base = 104 + k * 90
        counts = torch.histc(values.flatten(), 46, -2.3, 2.3)
        for i, count in enumerate((counts / 768).tolist()):
            high = min(74.0, count * 660)
            c.bar(middle + (-2.3 + i * 0.1) * unit + 1, base - high, 8, high, role, "full")
        c.line([(left, base), (right, base)], "ink", "thin")
        c.text(20, base - 46, name, 16, "start", role if role != "soft" else "ink", bold=True)
        c.text(20, base - 25, about, 13.5, "start", "soft")
    for at, name in ((-s, "−s"), (s, "s")):
        c.path(f"M{middle + at * unit:.1f} 88V104", "look", "thick")
        c.text(middle + at * unit, 80, f"${name}$", 15, role="look")
    return c


FIGURES: dict[str, Callable[[], Canvas]] = {"guidance": guidance, "thresholding": thresholding}
