"""What chapter 05 measures with: two small worlds whose modes can be counted, and somebody who keeps the score."""

from __future__ import annotations

import random
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..images import to_tensor
from ..scenes import Scene, Thing
from ..scenes.artwork import draw
from .show import COLOURS, WIDE, figure, legend_beneath

ANGLES = torch.arange(8) * torch.pi / 4
CENTRES = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)  # (8, 2)
SPREAD, NEAR = 0.05, 0.2  # of a cloud; how far a point may be from a centre to count as on it
MODES = [
    (thing, place)
    for thing in ("car", "tree", "sunflower", "strawberry", "penguin")
    for place in ("grass", "beach", "snow", "space")
]  # kind k stands at place k modulo 4
PLACES = (COLOURS[2], COLOURS[4], COLOURS[5], "#111111")  # in a chart: grass, beach, snow, space


def ring(n: int) -> Tensor:
    """n points out of eight clouds on a circle of radius 1, each cloud equally likely: (n, 2)."""
    return CENTRES[torch.randint(8, (n,))] + SPREAD * torch.randn(n, 2)


def on_ring(points: Tensor) -> tuple[int, float]:
    """Of points (n, 2): how many clouds get a tenth of their fair share or more, and the share on a cloud."""
    distance, mode = torch.cdist(points, CENTRES).min(dim=1)
    hits = mode[distance < NEAR].bincount(minlength=8)
    return int((hits >= len(points) / 80).sum()), float((distance < NEAR).float().mean())


@torch.no_grad()
def plane(G: nn.Module, D: nn.Module, n: int = 80, wide: float = 4.8) -> Tensor:
    """The game seen from above, (3, n, n): blue where D says "real", orange where "made".

    The centres are white, 300 of G's points black, at the edge if they are outside; the plane is `wide` across.
    """
    side = torch.linspace(-wide / 2, wide / 2, n)
    p = D(torch.cartesian_prod(side, side)).sigmoid().view(n, n)
    orange, blue = torch.tensor([[0.8, 0.3, -0.3], [-0.3, 0.4, 0.9]])[:, :, None, None]
    image = torch.lerp(orange, blue, p)  # (3, n, n)
    for points, colour, size in ((CENTRES, 1.0, 2), (G(torch.randn(300, 2)), -1.0, 1)):
        for row, column in ((points / wide + 0.5) * n).long().clamp(0, n - size).tolist():
            image[:, row : row + size, column : column + size] = colour
    return image


def pictures(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n pictures (n, 3, 16, 16) of the twenty kinds in turn, and the number of each one's kind (n,)."""
    rng, which = random.Random(seed), torch.arange(n) % len(MODES)
    scenes = [Scene((Thing(thing),), "row", "flat", place, "day") for thing, place in MODES]
    return to_tensor(np.stack([draw(scenes[int(k)], rng, 16) for k in which])), which


def by_kind(counts: dict[str, Tensor], alt: str) -> None:
    """Bars for each side: its pictures of each kind, in groups of a thing, a colour for each place.

    counts: name of the side → (seeds, 20), out of 1,000 pictures. The bar is the mean of the seeds, the thin line
    goes from the lowest to the highest.
    """
    things, places = (list(dict.fromkeys(names)) for names in zip(*MODES, strict=True))
    drawn, axes = plt.subplots(len(counts), 1, figsize=(WIDE, 5.4), sharex=True, sharey=True)
    for axis, (name, c) in zip(axes, counts.items(), strict=True):
        for k, (place, colour) in enumerate(zip(places, PLACES, strict=True)):
            x, some = np.arange(len(things)) + 0.2 * (k - 1.5), c[:, k :: len(places)].numpy()
            axis.bar(x, some.mean(0), 0.17, color=colour, label=place)
            axis.vlines(x, some.min(0), some.max(0), color="#777777")
        axis.axhline(50, color="#777777", linestyle="--", zorder=0, label="a fair share")
        axis.set(ylabel="of 1,000 pictures", title=name)
    axes[-1].set_xticks(range(len(things)), things)
    legend_beneath(drawn, *axes[0].get_legend_handles_labels())
    figure(drawn, alt, sharp=True)


class Watch:
    """Called after every step: keeps a running mean of the weights, the losses, and ten looks at what is drawn.

    draw(network, n) draws n pictures.
    """

    def __init__(
        self, net: nn.Module, draw: Callable[[nn.Module, int], Tensor], steps: int
    ) -> None:
        self.net, self.draw, self.every = net, draw, steps // 10
        self.mean = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.99))
        self.losses: list[tuple[float, ...]] = []
        self.looks: list[Tensor] = []

    def __call__(self, step: int, *losses: float) -> None:
        self.mean.update_parameters(self.net)
        self.losses.append(losses)
        if (step + 1) % self.every == 0:
            self.looks.append(self.draw(self.mean, 100))
