"""How it is trained: one step with its moving average, and a GAN beside it (chapters 02, 05, 10)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import facts
from cascade import unet
from kit import Canvas

from minimagen.config import TrainConfig


def training(focus: str | None = None) -> Canvas:
    """One step of training, and the average of the weights beside it."""
    base = facts.stage("base").config
    keep = TrainConfig().ema_decay
    target = {"v": "$v = α ε − σ x_0$", "eps": "$ε$", "x_0": "$x_0$"}[base.target]
    letter = {"v": "v", "eps": "ε", "x_0": "x_0"}[base.target]
    c = Canvas(
        398,
        "One step of training",
        "A picture gets noise of a random time; its caption, left out in one case of ten, goes "
        "through the frozen text encoder; the U-Net answers; the squared error to the target is "
        "the loss. Its gradient goes back, dashed, to the optimizer, which changes the weights. "
        f"Beside them runs their average: {keep:g} of the old average and {1 - keep:.3f} of the "
        "new weights. The average is what is saved and drawn with.",
        focus,
    )
    y = 62.0
    with c.part("step"):
        c.picture(24, y, 72, facts.webp(facts.scene(64), 75), "a picture", True)
        c.text(60, y + 94, "$x_0$", 17)
        c.arrow([(98, y + 36), (162, y + 36)], "noise")
        c.text(130, y + 26, "$+ t, ε$", 15, role="noise")
        c.picture(164, y, 72, facts.webp(facts.noised(facts.scene(64), 0.5), 55), "x_t", True)
        c.text(200, y + 94, "$x_t$", 17)
        c.arrow([(238, y + 36), (296, y + 36)], "pixels")
        c.box(296, y - 4, 112, 80, "pixels")
        unet(c, 316, y + 8, 72, 44)
        c.text(352, y + 68, "U-Net, $θ$", 14)
        c.arrow([(408, y + 36), (494, y + 36)], "pixels")
        c.text(450, y + 26, f"${letter}̂$" if letter != "x_0" else "$x̂_0$", 17)
        c.box(494, y - 4, 146, 80, "wrong")
        c.text(567, y + 24, "loss", 14, bold=True)
        c.text(
            567, y + 52, f"$‖{letter}̂ − {letter}‖^2$" if letter != "x_0" else "$‖x̂_0 − x_0‖^2$", 18
        )
        c.line([(130, y + 10), (130, 34), (567, 34)], "noise")
        c.arrow([(567, 34), (567, y - 6)], "noise")
        c.text(350, 26, f"the target {target}", 14, role="noise")
        c.box(24, 206, 212, 46, "words", "a kitten on the grass", 14)
        c.arrow([(236, 229), (262, 229)], "words")
        share = f"{base.caption_drop:.0%}".replace("%", " %")
        c.text(130, 272, f"left out in {share}", 13, role="soft")
        c.box(262, 206, 78, 46, "words", "encoder,\nfrozen", 13)
        c.arrow([(322, 206), (322, y + 78)], "words")
    with c.part("step", "update"):
        c.line([(567, y + 76), (567, 190)], "wrong", "dash")
        c.arrow([(567, 190), (567, 204)], "wrong")
        c.text(577, 176, "gradient", 14, "start", "wrong")
        c.box(494, 206, 146, 46, "wrong", "optimizer", 14)
        c.line([(494, 229), (384, 229), (384, 160)], "pixels")
        c.arrow([(384, 160), (384, y + 78)], "pixels")
        c.text(439, 219, "new $θ$", 14)
    with c.part("ema"):
        c.arrow([(384, 229), (384, 310)], "look")
        c.box(236, 312, 312, 58, "look", f"$θ_{{EMA}} ← {keep:g} θ_{{EMA}} + {1 - keep:.3f} θ$", 16)
        c.text(222, 337, "the average (EMA)", 14, "end", "look", bold=True)
        c.text(222, 356, "has less noise than $θ$", 13, "end", "soft")
        c.arrow([(548, 341), (586, 341)], "look")
        c.text(594, 337, "saved, and", 14, "start")
        c.text(594, 356, "drawn with", 14, "start")
    return c


def step() -> Canvas:
    """One step of training without words: what chapter 02 builds."""
    c = Canvas(
        232,
        "One step of training a denoiser",
        "A picture x_0 gets noise of a random time t and becomes x_t. The network, with weights "
        "theta, sees x_t and t and answers. The squared error between its answer and the target is "
        "the loss. The gradient of the loss goes back, dashed, to the optimizer, which changes the "
        "weights.",
    )
    y = 62.0
    c.picture(24, y, 72, facts.webp(facts.scene(64), 75), "a picture", True)
    c.text(60, y + 94, "$x_0$", 17)
    c.arrow([(98, y + 36), (162, y + 36)], "noise")
    c.text(130, y + 26, "$+ t, ε$", 15, role="noise")
    c.picture(164, y, 72, facts.webp(facts.noised(facts.scene(64), 0.5), 55), "x_t", True)
    c.text(200, y + 94, "$x_t$", 17)
    c.arrow([(238, y + 36), (296, y + 36)], "pixels")
    c.box(296, y - 4, 112, 80, "pixels", "network, $θ$", 14)
    c.arrow([(408, y + 36), (494, y + 36)], "pixels")
    c.text(450, y + 26, "answer", 14)
    c.box(494, y - 4, 146, 80, "wrong")
    c.text(567, y + 24, "loss", 14, bold=True)
    c.text(567, y + 52, "squared error", 14)
    c.line([(130, y + 10), (130, 34), (567, 34)], "noise")
    c.arrow([(567, 34), (567, y - 6)], "noise")
    c.text(350, 26, "the target: $ε$, $x_0$ or $v$", 14, role="noise")
    c.line([(567, y + 76), (567, 160)], "wrong", "dash")
    c.arrow([(567, 160), (567, 174)], "wrong")
    c.text(577, 158, "gradient", 14, "start", "wrong")
    c.box(494, 176, 146, 40, "wrong", "optimizer", 14)
    c.line([(494, 196), (352, 196), (352, 160)], "pixels")
    c.arrow([(352, 160), (352, y + 78)], "pixels")
    c.text(423, 186, "new $θ$", 14)
    return c


def gan() -> Canvas:
    """A GAN's two players, and diffusion's one."""
    steps = facts.stage("base").config.steps
    c = Canvas(
        386,
        "A GAN and diffusion",
        "Left, a GAN: noise goes through a generator and becomes a picture; a discriminator sees "
        "it, or a real one, and says which. Dashed: its answer teaches both, in opposite "
        "directions. Right, diffusion: a real picture gets noise, a network guesses the picture "
        "beneath, and the error teaches that one network. To draw, a GAN needs one call, "
        f"diffusion {steps}.",
    )
    real, fake = facts.scene(64), facts.scene(16, "dog")
    c.text(20, 36, "GAN: two players", 16, "start", bold=True)
    c.picture(24, 72, 52, facts.png(facts.noise(16, 5)), "noise", True, "noise")
    c.text(50, 143, "noise", 13)
    c.arrow([(78, 98), (104, 98)], "noise")
    c.box(104, 72, 92, 52, "pixels", "generator", 14, style="bold")
    c.arrow([(196, 98), (222, 98)], "pixels")
    c.picture(224, 72, 52, facts.png(fake), "a made picture", True)
    c.text(250, 62, "made", 13)
    c.arrow([(250, 126), (250, 172)], "pixels")
    c.picture(24, 174, 52, facts.webp(real, 70), "a real picture", True)
    c.text(50, 244, "real", 13)
    c.arrow([(78, 200), (174, 200)], "pixels")
    c.box(174, 174, 132, 52, "look", "discriminator", 14, style="bold")
    c.arrow([(240, 226), (240, 254)], "look")
    c.box(174, 256, 132, 34, "wrong", "real or made?", 14)
    c.line([(174, 273), (140, 273), (140, 140)], "wrong", "dash")
    c.arrow([(140, 140), (140, 126)], "wrong")
    c.text(130, 292, "fool it", 13, "end", "wrong")
    c.line([(306, 273), (326, 273), (326, 200), (320, 200)], "wrong", "dash", 5)
    c.arrow([(320, 200), (308, 200)], "wrong")
    c.text(240, 308, "tell them apart", 13, role="wrong")

    x = 366.0
    c.line([(346, 24), (346, 362)], "soft", "thin dash")
    c.text(x, 36, "diffusion: one network", 16, "start", bold=True)
    c.picture(x, 72, 52, facts.webp(real, 70), "a real picture", True)
    c.text(x + 26, 62, "real", 13)
    c.arrow([(x + 54, 98), (x + 100, 98)], "noise")
    c.text(x + 77, 89, "noise", 12, role="noise")
    c.picture(x + 102, 72, 52, facts.webp(facts.noised(real, 0.5), 40), "a noisy picture", True)
    c.arrow([(x + 156, 98), (x + 194, 98)], "pixels")
    c.box(x + 194, 72, 110, 52, "pixels", "network", 14, style="bold")
    c.arrow([(x + 249, 124), (x + 249, 172)], "pixels")
    c.picture(x + 223, 174, 52, facts.webp(facts.scene(16), 60), "its guess", True)
    c.arrow([(x + 221, 200), (x + 168, 200)], "pixels")
    c.arrow([(x + 26, 126), (x + 26, 200), (x + 60, 200)], "pixels")
    c.box(x + 60, 174, 108, 52, "wrong", "squared\nerror", 14)
    c.text(x + 249, 244, "guess", 13)
    c.line([(x + 114, 226), (x + 114, 273), (x + 314, 273), (x + 314, 98)], "wrong", "dash")
    c.arrow([(x + 314, 98), (x + 306, 98)], "wrong")
    c.text(x + 216, 292, "guess better", 13, role="wrong")
    c.text(20, 344, "to draw: **one call**", 14, "start")
    c.text(20, 364, "the aim moves as the other learns", 13, "start", "soft")
    c.text(x, 344, f"to draw: **{steps} calls**", 14, "start")
    c.text(x, 364, "the aim stands still", 13, "start", "soft")
    return c


FIGURES: dict[str, Callable[[], Canvas]] = {
    "training": training,
    "training-ema": partial(training, "ema"),
    "training-step": step,
    "gan": gan,
}
