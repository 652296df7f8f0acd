"""Control by pictures: from a sketch, and inside a mask (chapter 12)."""

from __future__ import annotations

from collections.abc import Callable

import facts
import torch
from cascade import unet
from kit import Canvas
from torch import Tensor


def sketch() -> Tensor:
    """A cat on the grass as a child would paint it: flat blobs, (3, 16, 16)."""
    colours = {
        "sky": (120, 185, 250),
        "grass": (90, 175, 70),
        "cat": (250, 170, 50),
        "pink": (235, 110, 110),
    }
    picture = torch.zeros(3, 16, 16)

    def paint(name: str, rows: slice, columns: slice) -> None:
        value = torch.tensor(colours[name]).float() / 127.5 - 1
        picture[:, rows, columns] = value[:, None, None]

    paint("sky", slice(0, 9), slice(0, 16))
    paint("grass", slice(9, 16), slice(0, 16))
    paint("cat", slice(7, 14), slice(3, 11))
    paint("cat", slice(6, 7), slice(3, 5))
    paint("cat", slice(6, 7), slice(9, 11))
    paint("pink", slice(12, 13), slice(6, 8))
    return picture


def sdedit() -> Canvas:
    """A sketch gets noise half the way up, and the network walks down from there with the words."""
    c = Canvas(
        338,
        "From a sketch to a picture",
        "A line of time from noise, at the left, to a picture, at the right. A sketch of flat "
        "blobs gets noise up to the time that is called strength, and enters there; from there "
        "the sampler takes its usual steps with the words to the picture. Little strength keeps "
        "the sketch, much forgets it.",
    )
    strength = 0.4
    left, right, y = 70.0, 630.0, 232.0

    def at(t: float) -> float:
        return left + (1 - t) * (right - left)

    rough, true = sketch(), facts.scene(16)
    c.line([(left, y), (right, y)], "soft")
    for k in range(11):
        t = 1 - k / 10
        c.path(f"M{at(t):.1f} {y - 5}V{y + 5}", "soft", "thin")
    entry = at(strength)
    c.path(f"M{entry:.1f} {y}H{right}", "pixels", "thick")
    c.picture(left - 30, y - 86, 60, facts.png(facts.noise(16)), "noise", True, "noise")
    c.text(left, y + 26, "$t = 1$", 15)
    c.text(left, y + 46, "noise", 13, role="soft")
    c.picture(right - 30, y - 86, 60, facts.png(true), "the picture", True)
    c.text(right, y + 26, "$t = 0$", 15)
    c.text(right, y + 46, "picture", 13, role="soft")
    c.picture(
        entry - 30,
        y - 86,
        60,
        facts.png(facts.noised(rough, strength)),
        "the noisy sketch",
        True,
        "noise",
    )
    c.text(entry, y + 26, f"$t = {strength:g}$", 15, role="pixels")
    c.text(entry, y + 46, "strength", 13, role="pixels")
    c.picture(entry - 30, 24, 60, facts.png(rough), "a sketch", True)
    c.text(entry - 42, 50, "a sketch", 14, "end", bold=True)
    c.text(entry - 42, 70, "16 × 16 blobs", 13, "end", "soft")
    c.arrow([(entry, 86), (entry, y - 88)], "noise")
    c.text(entry + 12, 118, "$x_t = α_t x_0 + σ_t ε$", 16, "start", "noise")
    middle = (entry + right) / 2
    unet(c, middle - 28, y - 78, 56, 42)
    c.arrow([(entry + 36, y - 57), (middle - 32, y - 57)], "pixels")
    c.arrow([(middle + 32, y - 57), (right - 34, y - 57)], "pixels")
    c.text(middle, y - 18, "the usual steps", 13)
    c.text(left, 320, "little strength keeps the sketch; 0 returns it; 1 forgets it", 14, "start")
    return c


def inpainting() -> Canvas:
    """At every step, what is known is put back, as noisy as the step."""
    c = Canvas(
        372,
        "Inpainting: a picture changed inside a mask",
        "Left, the picture to change and a mask: white is drawn anew. At every step two pictures "
        "of the same time are put together: inside the mask what the sampler made, outside the "
        "given picture with noise of that step. The result goes into the next step. At the end "
        "all outside the mask is the given picture.",
    )
    given, wanted = facts.scene(64), facts.scene(64, "dog")
    mask = torch.zeros(1, 64, 64)
    mask[:, 24:62, 8:48] = 1
    t = 0.42
    side = 76.0
    outside = facts.noised(given, t, 5)
    inside = facts.noised(wanted, t, 6)
    both = mask * inside + (1 - mask) * outside

    def show(x: float, y: float, picture: Tensor, alt: str, role: str = "ink") -> None:
        c.picture(x, y, side, facts.webp(picture, 60), alt, True, role)

    show(24, 44, given, "the given picture")
    c.text(62, 34, "given", 14, bold=True)
    show(24, 158, (mask * 2 - 1).repeat(3, 1, 1), "the mask")
    c.text(62, 252, "mask: white", 13)
    c.text(62, 270, "is drawn anew", 13)
    c.arrow([(102, 82), (178, 82)], "noise")
    c.text(140, 72, "+ noise", 13, role="noise")
    show(180, 44, outside * (1 - mask) + mask * 0.92, "outside the mask, noisy")
    c.text(218, 34, "outside", 14)
    show(180, 208, inside * mask + (1 - mask) * 0.92, "inside the mask, from the sampler")
    c.text(218, 303, "inside", 14)
    c.arrow([(258, 82), (330, 82), (330, 130), (362, 130)], "pixels")
    c.arrow([(258, 246), (330, 246), (330, 198), (362, 198)], "pixels")
    show(364, 126, both, "put together", "pixels")
    c.text(402, 116, "$x_s$", 17)
    c.arrow([(442, 164), (488, 164)], "pixels")
    c.box(488, 132, 88, 64, "pixels")
    unet(c, 504, 142, 56, 44)
    c.text(532, 122, "one step", 13)
    c.line([(532, 196), (532, 330), (150, 330), (150, 246)], "pixels")
    c.arrow([(150, 246), (178, 246)], "pixels", bend=6)
    c.text(341, 322, "to the next step", 13.5, role="pixels")
    c.arrow([(576, 164), (602, 164)], "pixels")
    show(604, 126, mask * wanted + (1 - mask) * given, "the result")
    c.text(642, 222, "at the end", 13)
    c.text(460, 36, "$x_s ← m · x_s + (1 − m) · (α_s x_0 + σ_s ε)$", 16)
    c.text(460, 60, "$m$: the mask, $x_0$: the given picture", 13.5, role="soft")
    return c


FIGURES: dict[str, Callable[[], Canvas]] = {"sdedit": sdedit, "inpainting": inpainting}
