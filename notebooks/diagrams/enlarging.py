"""How a small picture becomes a large one: noise-conditioning augmentation, crops (chapter 09)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import facts
import torch.nn.functional as F
from cascade import unet
from kit import Canvas
from noise import signal
from torch import Tensor

from minimagen.images import upsample


def noisy(image: Tensor, level: float) -> Tensor:
    """A low-resolution picture (3, h, w) at this level of augmentation."""
    return facts.noised(image, level, seed=3)


def augmentation(focus: str | None = None) -> Canvas:
    """The low-resolution picture is made noisy on purpose, and the network is told how noisy."""
    sr = facts.stage("sr64")
    most, level = sr.config.max_aug_level, sr.config.aug_level
    small = sr.side // 4
    c = Canvas(
        436,
        "Noise-conditioning augmentation",
        f"Two rows. In training a true picture is shrunk to {small} × {small}, noise of a random "
        f"level up to {most:g} is added, and it is enlarged again; in sampling the picture of the "
        f"stage below gets noise of the level {level:g}. In both the enlarged picture joins the "
        "noisy picture x_t as three more channels of the U-Net's input, and the level goes into "
        "the embedding that modulates every block.",
        focus,
    )
    with c.part("training"):
        noisy_input(c, 24, sr, f"level drawn from $U(0, {most:g})$", most * 0.6, True)
    with c.part("sampling"):
        noisy_input(c, 236, sr, f"level {level:g}", level, False)
    return c


def noisy_input(
    c: Canvas, top: float, sr: facts.Facts, about: str, level: float, training: bool
) -> None:
    """How the low-resolution picture comes into the network: one row of the figure."""
    small, side = sr.side // 4, sr.side
    true, lows = facts.scene(side), facts.scene(small)
    c.text(20, top + 12, "in training" if training else "in sampling", 16, "start", bold=True)
    c.text(140, top + 12, about, 14, "start", "soft")
    y = top + 34
    if training:
        c.picture(20, y, 76, facts.webp(true, 75), "a true picture", True)
        c.text(58, y + 97, f"true {side} × {side}", 13)
        c.text(119, y + 28, "÷ 4", 13)
    else:
        c.box(20, y + 8, 76, 60, "pixels", "base", style="bold")
    c.arrow([(98, y + 38), (140, y + 38)], "pixels")
    c.picture(142, y, 76, facts.png(lows), f"{small} × {small}", True)
    c.text(180, y + 97, f"{small} × {small}", 13)
    c.arrow([(220, y + 38), (270, y + 38)], "noise")
    c.text(245, y + 28, "noise", 13, role="noise")
    c.picture(272, y, 76, facts.png(noisy(lows, level)), "with noise", True, "noise")
    c.text(310, y + 97, f"$ᾱ$ = {signal(level):.2f}", 14)
    c.arrow([(350, y + 38), (400, y + 38)], "pixels")
    c.text(375, y + 28, "× 4", 13)
    big = upsample(noisy(lows, level)[None])[0]
    c.picture(402, y, 76, facts.webp(big, 60), "enlarged", True)
    c.text(440, y + 97, f"{side} × {side}", 13)
    c.arrow([(480, y + 38), (560, y + 38)], "pixels")
    c.text(520, y + 28, "joined", 13)
    c.box(562, y, 118, 76, "pixels")
    unet(c, 584, y + 12, 74, 52)
    x_t = facts.noised(true, 0.6 if training else 1.0)
    c.picture(502, y + 54, 36, facts.webp(x_t, 30), "x_t", True)
    c.arrow([(540, y + 66), (560, y + 58)], "pixels")
    c.text(520, y + 108, "$x_t$", 15)
    c.line([(245, y + 46), (245, y + 122), (621, y + 122), (621, y + 96)], "noise")
    c.arrow([(621, y + 96), (621, y + 78)], "noise")
    c.text(400, y + 140, "the level, into the embedding", 13, role="noise")


def crops() -> Canvas:
    """Trained on pieces, run on the whole: nothing in sr256 knows how large the picture is."""
    sr = facts.stage("sr256")
    crop, side = sr.config.crop or sr.side, sr.side
    c = Canvas(
        330,
        "Trained on crops, run on the whole",
        f"Left, in training: a random square of {crop} × {crop} pixels is cut from the {side} × "
        f"{side} picture; its small version is {crop // 4} × {crop // 4}. Right, in sampling: the "
        f"same network enlarges the whole picture from {side // 4} × {side // 4} to {side} × "
        f"{side}. Convolutions and attention over words have no fixed size.",
    )
    whole, quarter = facts.scene(side), facts.scene(side // 4)
    unit = 176 / side
    row, column = 156, 86  # corner of the crop, in pixels, on the grid of 4
    piece = whole[:, row : row + crop, column : column + crop]
    low = F.interpolate(piece[None], scale_factor=0.25, mode="area")[0]
    at: dict[str, Tensor] = {"crop": piece, "low": low}

    c.text(20, 38, "in training", 16, "start", bold=True)
    c.text(128, 38, f"a crop of {crop} × {crop}", 14, "start", "soft")
    c.picture(20, 56, 176, facts.webp(whole, 60), f"a true picture of {side} × {side}")
    c.box(
        20 + column * unit,
        56 + row * unit,
        crop * unit,
        crop * unit,
        "ink",
        style="line thick square",
    )
    c.text(108, 254, f"{side} × {side}", 13)
    corner = 56 + row * unit + crop * unit / 2
    c.arrow([(20 + (column + crop) * unit + 2, corner), (224, corner)], "pixels", "thick")
    c.picture(226, corner - 42, 84, facts.webp(at["crop"], 80), "the crop", True)
    c.text(268, corner + 63, f"$x_0$: {crop} × {crop}", 14)
    c.arrow([(268, corner - 44), (268, 104)], "pixels")
    c.text(278, 130, "÷ 4", 13, "start")
    c.picture(252, 70, 32, facts.png(at["low"]), "its small version", True)
    c.text(290, 91, f"{crop // 4} × {crop // 4}", 13, "start")

    c.text(370, 38, "in sampling", 16, "start", bold=True)
    c.text(486, 38, "the whole at once", 14, "start", "soft")
    c.picture(370, 122, 44, facts.webp(quarter, 75), f"{side // 4} × {side // 4}", True)
    c.text(392, 186, f"{side // 4} × {side // 4}", 13)
    c.arrow([(416, 144), (434, 144)], "pixels")
    unet(c, 436, 120, 48, 48)
    c.arrow([(484, 144), (502, 144)], "pixels")
    c.picture(504, 56, 176, facts.webp(whole, 60), f"{side} × {side}")
    c.text(592, 254, f"{side} × {side}", 13)
    c.text(350, 290, "Convolutions, and attention to words alone, work at any size:", 14)
    c.text(350, 311, f"a training step costs {(side // crop) ** 2} times less.", 14)
    return c


FIGURES: dict[str, Callable[[], Canvas]] = {
    "augmentation": augmentation,
    "augmentation-training": partial(augmentation, "training"),
    "augmentation-sampling": partial(augmentation, "sampling"),
    "crops": crops,
}
