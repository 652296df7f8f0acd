"""How good are the pictures: Fréchet distance, alignment by the judge and by the eye (chapter 11)."""

from __future__ import annotations

import math
from collections.abc import Callable

import facts
import torch
from cascade import unet
from kit import Canvas
from torch import Tensor


def frechet_distance(mean: Tensor, cov: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), of two Gaussians in the plane."""
    product = cov @ cov_2
    # the trace of the root of a 2 × 2 matrix M with positive eigenvalues: √(Tr M + 2 √det M)
    root = (product.trace() + 2 * product.det().clamp(min=0).sqrt()).sqrt()
    return float((mean - mean_2).square().sum() + cov.trace() + cov_2.trace() - 2 * root)


def frechet() -> Canvas:
    """Two clouds of features: the same, shifted, and too narrow."""
    c = Canvas(
        316,
        "The Fréchet distance",
        "Three charts, each with two clouds of points and their ellipses: features of real "
        "pictures and of drawn ones. In the first the clouds lie on each other, and the distance "
        "is nearly zero. In the second the drawn ones are shifted. In the third they have the "
        "right middle but all lie close together. The second and third are far, for different "
        "reasons.",
    )
    wide, tall, top, unit = 206.0, 150.0, 60.0, 23.0
    real = torch.tensor([0.0, 0.0]), torch.tensor([[1.6, 0.7], [0.7, 0.9]])
    cases = (
        ("alike", torch.tensor([0.15, -0.1]), real[1] * 0.95),
        ("shifted: other pictures", torch.tensor([1.9, -0.9]), real[1] * 0.9),
        ("narrow: always the same", torch.tensor([0.1, 0.0]), real[1] * 0.05),
    )
    g = torch.Generator().manual_seed(2)
    for k, (name, mean, cov) in enumerate(cases):
        left = 20 + k * (wide + 21)
        c.text(left, 42, name, 14, "start", bold=True)
        c.box(left, top, wide, tall, "soft", style="line thin square")
        x0, y0 = left + wide / 2 - 14, top + tall / 2 - 4
        for role, (m, s) in (("pixels", real), ("wrong", (mean, cov))):
            z = torch.randn(46, 2, generator=g).clamp(-1.9, 1.9) @ torch.linalg.cholesky(s).T + m
            for px, py in (z * unit).tolist():
                c.circle(x0 + px, y0 - py, 2, role, "full faint")
            values, vectors = torch.linalg.eigh(s)
            a, b = (1.6 * values.clamp(min=0).sqrt() * unit).tolist()
            turn = -math.degrees(math.atan2(vectors[1, 1].item(), vectors[0, 1].item()))
            mx, my = x0 + m[0].item() * unit, y0 - m[1].item() * unit
            c.out.append(
                f'<ellipse rx="{b:.1f}" ry="{a:.1f}" class="s-{role}" '
                f'transform="translate({mx:.1f} {my:.1f}) rotate({turn:.1f})"/>'
            )
        d = frechet_distance(*real, mean, cov)
        c.text(left + wide / 2, top + tall + 24, f"distance {d:.2f}", 14)
    c.circle(30, 262, 4, "pixels", "full")
    c.text(42, 267, "features of real pictures", 13.5, "start", "soft")
    c.circle(248, 262, 4, "wrong", "full")
    c.text(260, 267, "features of drawn ones", 13.5, "start", "soft")
    c.text(350, 297, "$‖μ_1 − μ_2‖^2 + Tr (Σ_1 + Σ_2 − 2 (Σ_1 Σ_2)^{1/2})$", 17)
    return c


def alignment() -> Canvas:
    """What was asked, what the judge reads, and a witness from outside."""
    c = Canvas(
        352,
        "Alignment: the judge and the eye",
        "A prompt goes through the cascade and becomes a picture. The judge, trained on our own "
        "true scenes, reads the picture back: object, number, place. Each is compared with what "
        "the prompt asked for; the picture counts as right if all agree. Beside it stands the "
        "eye, a network that never met our art: it says only whether it recognises the object. "
        "Both shares are reported.",
    )
    c.box(20, 40, 178, 62, "words", "a kitten playing\non the grass", 14)
    c.arrow([(198, 71), (222, 71)], "words")
    c.box(222, 40, 92, 62, "pixels")
    unet(c, 240, 49, 56, 30)
    c.text(268, 95, "cascade", 13)
    c.arrow([(314, 71), (338, 71)], "pixels")
    c.picture(338, 40, 62, facts.webp(facts.scene(64), 75), "the picture", True)
    # the judge
    c.arrow([(400, 71), (448, 71)], "look")
    c.box(448, 40, 232, 62, "look")
    c.text(464, 66, "the judge", 15, "start", "look", bold=True)
    c.text(464, 88, "learned to read true scenes", 13.5, "start")
    rows = (("object", "cat", "cat"), ("number", "1", "1"), ("place", "grass", "grass"))
    c.arrow([(564, 102), (564, 132)], "look")
    c.text(510, 152, "asked", 13, "start", "soft")
    c.text(592, 152, "read", 13, "start", "soft")
    for k, (what, asked, read) in enumerate(rows):
        y = 176 + k * 23
        c.text(498, y, what, 13.5, "end", "soft")
        c.text(510, y, asked, 14, "start")
        c.text(592, y, read, 14, "start")
        c.path(f"M654 {y - 5}l5 5l9 -11", "look", "thick")
    c.line([(440, 234), (680, 234)], "soft", "thin")
    c.text(440, 257, "all right: it counts", 14, "start", bold=True)
    c.text(108, 136, "asks for: cat, 1, grass", 13.5, role="soft")
    # the eye
    c.arrow([(369, 102), (369, 138), (300, 138), (300, 162)], "ink")
    c.box(20, 164, 316, 62, "ink")
    c.text(36, 190, "the eye", 15, "start", bold=True)
    c.text(36, 212, "never met our art; does it see a cat?", 13.5, "start")
    c.box(20, 278, 660, 54, "ink", style="line thin")
    c.text(
        350,
        301,
        "alignment: the share of pictures that count, of 200 prompts, with its interval",
        14,
    )
    c.text(350, 321, "recognised: the share in which the eye sees what was asked for", 14)
    return c


FIGURES: dict[str, Callable[[], Canvas]] = {"frechet": frechet, "alignment": alignment}
