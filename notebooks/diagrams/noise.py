"""Noise and how to come back from it: the chain and the samplers (chapters 01, 02, 04)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import facts
import torch
from kit import Canvas, polyline
from torch import Tensor

from minimagen.diffusion import alpha_sigma, cosine_log_snr
from minimagen.samplers import SAMPLERS, times


def signal(t: float) -> float:
    """ᾱ at time t of the cosine schedule."""
    return float(alpha_sigma(cosine_log_snr(torch.tensor(t, dtype=torch.float64)))[0] ** 2)


def chain(focus: str | None = None) -> Canvas:
    """Forward: noise is added step by step, or in one leap. Reverse: the network takes it off."""
    c = Canvas(
        408,
        "Forward and reverse diffusion",
        "A picture x_0 on the left, pure noise x_T on the right, two neighbours x_(t−1) and x_t "
        "between them. Upper arrows, to the right: one step adds a little noise; a long one "
        "leaps from x_0 to x_t by the closed form. Lower arrows, to the left: the network "
        "guesses the picture, and a step goes towards it. Bars show how much of each is still "
        "picture.",
        focus,
    )
    side, y = 92.0, 122.0
    x_0 = facts.scene(64)
    places = {
        "$x_0$": (24.0, 0.0),
        "$x_{t−1}$": (206.0, 0.42),
        "$x_t$": (374.0, 0.56),
        "$x_T$": (584.0, 1.0),
    }
    for name, (x, t) in places.items():
        c.picture(
            x, y, side, facts.webp(facts.noised(x_0, t), 60), f"the picture at t = {t:g}", True
        )
        c.text(x + side / 2, y + side + 30, name, 17)
        c.bar(x, y + side + 5, side, 8, "noise")
        c.bar(x, y + side + 5, signal(t) * side, 8, "pixels", "full")
    for x in (161.0, 525.0):
        for k in (-1, 0, 1):
            c.circle(x + k * 9, y + side / 2, 2, "soft", "full")
    with c.part("forward"):
        c.line([(70, y), (70, 50), (446, 50), (446, 80)], "noise", bend=14)
        c.arrow([(446, 80), (446, y - 2)], "noise")
        c.text(84, 38, "in one leap", 15, "start", "noise", bold=True)
        c.text(190, 38, "$x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε$", 16, "start")
        c.arrow([(302, y + 46), (370, y + 46)], "noise")
        c.text(336, 82, "one step", 15, role="noise", bold=True)
        c.text(328, 106, "$x_t = √(1−β_t) x_{t−1} + √β_t ε_t$", 15)
    with c.part("reverse"):
        c.arrow([(420, y + side + 42), (420, 296)], "pixels")
        c.box(356, 298, 128, 50, "pixels", "U-Net", style="bold")
        c.arrow([(356, 323), (300, 323)], "pixels")
        c.picture(
            254, 302, 42, facts.webp(facts.scene(16), 60), "a blurred guess of the picture", True
        )
        c.text(275, 362, "$x̂_0$, its guess", 14)
        c.arrow([(254, 323), (234, 323), (234, y + side + 42)], "pixels")
        c.text(212, 318, "one step back", 15, "end", "pixels", bold=True)
        c.text(212, 338, "towards the guess", 13.5, "end", "soft")
        c.text(496, 318, "asked again", 13.5, "start", "soft")
        c.text(496, 336, "at every step", 13.5, "start", "soft")
    c.bar(24, 380, 22, 8, "pixels", "full")
    c.text(52, 388.5, "picture: $ᾱ_t$ of the variance", 13, "start", "soft")
    c.bar(268, 380, 22, 8, "noise")
    c.text(296, 388.5, "noise: $1 − ᾱ_t$", 13, "start", "soft")
    return c


MODES, SPREAD = (-1.0, 1.0), 0.12  # all pictures of a world of one pixel: two kinds


def exact(x_t: Tensor, log_snr: Tensor) -> Tensor:
    """E[x_0 | x_t] of that world: what a perfect network would say."""
    alpha, sigma = (z.reshape(-1, 1, 1, 1, 1) for z in alpha_sigma(log_snr))
    modes = torch.tensor(MODES).to(x_t).reshape(1, 1, 1, 1, -1)
    variance = alpha**2 * SPREAD**2 + sigma**2
    gap = x_t[..., None] - alpha * modes
    share = (-(gap**2) / (2 * variance)).softmax(-1)
    return (share * (modes + alpha * SPREAD**2 / variance * gap)).sum(-1)


def path(sampler: str, start: float, steps: int, seed: int = 0) -> tuple[list[float], list[float]]:
    """Times and places of one walk by the package's own sampler."""
    t, seen = times(steps), [start]
    generator = torch.Generator().manual_seed(seed)
    extra = {}
    if sampler == "ddpm":
        extra["noise_sampler"] = lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)
    x = torch.full((1, 1, 1, 1), start, dtype=torch.float64)
    SAMPLERS[sampler](
        exact, x, cosine_log_snr, t, callback=lambda _, x_s, x_0: seen.append(x_s.item()), **extra
    )
    return t.tolist(), seen


def samplers(focus: str | None = None) -> Canvas:
    """Three ways from noise to a picture in a world of one pixel, by the package's own samplers."""
    few, many, start = 6, 20, 0.15
    c = Canvas(
        318,
        "Three samplers",
        "Three charts of a pixel's way from noise, at t = 1 on the left, to one of two pictures, "
        f"at t = 0 on the right. Grey: exact paths of the probability flow. DDIM takes {few} "
        "straight steps and falls behind the curve. DPM-Solver++ also looks at the step before "
        f"and stays near it. Ancestral sampling adds new noise in each of its {many} steps and "
        "jitters.",
        focus,
    )
    wide, tall, top = 206.0, 172.0, 76.0

    def place(t: float, x: float) -> tuple[float, float]:
        return 10 + (1 - t) * (wide - 48), top + tall / 2 - x * tall / 2 / 2.1

    def walk(sampler: str, begin: float, steps: int, dots: int) -> list[tuple[float, float]]:
        t, x = path(sampler, begin, steps)
        every = max(1, steps // dots)
        return [place(*z) for z in zip(t[::every], x[::every], strict=True)]

    with c.shape("flow"):  # drawn once, shown three times
        for begin in (-1.7, -1.1, -0.6, -0.25, -0.06, 0.06, 0.35, 0.75, 1.2, 1.7):
            c.path(polyline(walk("ddim", begin, 240, 24)), "soft", "thin faint")
        c.path(polyline(walk("ddim", start, 240, 48)), "ink", "")
        for x, thing in zip(MODES, ("cat", "apple"), strict=True):
            where = place(0, x)[1] - 12
            c.picture(wide - 32, where, 24, facts.png(facts.scene(16, thing)), thing, True)
    for k, (sampler, name, about, role, steps) in enumerate(
        (
            ("ddim", "DDIM", f"{few} steps straight ahead", "pixels", few),
            ("dpm_solver", "DPM-Solver++ (2M)", f"{few} steps that look back", "look", few),
            ("ddpm", "ancestral", f"{many} steps, each with noise", "noise", many),
        )
    ):
        left = 20 + k * (wide + 21)
        with c.part(sampler):
            c.box(left, top, wide, tall, "soft", style="line thin square")
            c.text(left, 38, name, 15.5, "start", role, bold=True)
            c.text(left, 60, about, 13.5, "start", "soft")
            c.use("flow", left)
            points = [(x + left, y) for x, y in walk(sampler, start, steps, steps)]
            c.path(polyline(points), role)
            for point in points:
                c.circle(*point, 3.4 if steps == few else 2.4, role, "full")
            c.text(left, top + tall + 21, "noise, $t = 1$", 13.5, "start", "soft")
            c.text(left + wide, top + tall + 21, "$t = 0$", 13.5, "end", "soft")
    c.line([(20, 294), (44, 294)], "ink")
    c.text(52, 298.5, "the exact path from the same noise", 13.5, "start", "soft")
    return c


FIGURES: dict[str, Callable[[], Canvas]] = {
    "chain": chain,
    "chain-forward": partial(chain, "forward"),
    "chain-reverse": partial(chain, "reverse"),
    "samplers": samplers,
    **{f"samplers-{name.replace('_', '-')}": partial(samplers, name) for name in SAMPLERS},
}
