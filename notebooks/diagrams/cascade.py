"""The cascade as the map of the course: every part wears the number of the chapter that builds it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import facts
from kit import Canvas

CHAPTERS = {  # number: (a word for the map, what the chapter is about)
    "00": ("", "the whole cascade"),
    "01": ("noise", "how a picture becomes noise"),
    "02": ("denoise", "what the network learns"),
    "03": ("U-Net", "the network"),
    "04": ("steps", "the sampler and its steps"),
    "05": ("GAN?", "another way: a GAN"),
    "06": ("encoder", "the text encoder"),
    "07": ("text in", "how words reach the pixels"),
    "08": ("guidance", "guidance"),
    "09": ("enlarge", "super-resolution"),
    "10": ("all of it", "the cascade put together"),
    "11": ("measure", "how good it is"),
    "12": ("steer", "control"),
    "13": ("scale up", "real hardware"),
    "14": ("risks", "responsibility"),
    "15": ("mend", "the clinic"),
}
BASE = ("01", "02", "03", "04", "08")
WHOLE = ("00", "10", "11", "12", "13", "14", "15")
ROUND = ("05", "10", "11", "12", "13", "14", "15")  # these are about the whole


def unet(c: Canvas, x: float, y: float, w: float, h: float, role: str = "pixels") -> None:
    """A small U-Net: bars that fall and rise."""
    for k, share in enumerate((1.0, 0.66, 0.36, 0.66, 1.0)):
        wide = w / 5 - 3
        tall = h * share
        c.path(
            f"M{x + k * w / 5 + 1.5:.1f} "
            f"{y + (h - tall) / 2:.1f}h{wide:.1f}v{tall:.1f}h{-wide:.1f}Z",
            role,
            "fill thin",
        )


def _encoder_says() -> str:
    return f"frozen T5, {facts.encoder()['num_layers']} layers"


def _chips(c: Canvas, y: float, chapter: str | None) -> None:
    """The chapters that are about the whole, in a row."""
    wide = (660 - 6 * 7) / 7
    for k, number in enumerate(ROUND):
        x, here = 20 + k * (wide + 7), number == chapter
        with c.part(number):
            c.box(x, y, wide, 30, "ink", "", style="round full" if here else "round line thin")
            c.text(x + wide / 2, y + 19.5, f"**{number}** {CHAPTERS[number][0]}", 12.5, over=here)


def the_map() -> Canvas:
    """The whole cascade."""
    base, sr64, sr256 = (facts.stage(name) for name in ("base", "sr64", "sr256"))
    c = Canvas(
        512,
        "The cascade: from a sentence to a picture",
        "A caption goes through a frozen text encoder. Its states go into each of three "
        f"diffusion models. The base turns noise into a picture of {base.side} × {base.side} "
        f"pixels, sr64 enlarges it to {sr64.side} × {sr64.side}, sr256 to {sr256.side} × "
        f"{sr256.side}. Each starts from noise of its own and takes steps: {base.config.steps}, "
        f"{sr64.config.steps} and {sr256.config.steps}. Small numbers name the chapter that "
        "builds each part.",
    )

    # caption, encoder, and the bus of text states
    c.box(20, 24, 262, 64, "words", "a kitten playing on the grass\n一只小猫在草地上玩耍", 14.5)
    c.arrow([(282, 56), (330, 56)], "words")
    c.box(330, 24, 182, 64, "words")
    c.text(421, 50, "text encoder", bold=True)
    c.text(421, 72, _encoder_says(), 13, role="soft")
    c.badge(512, 56, "06")
    c.line([(421, 88), (421, 118)], "words")
    c.line([(160, 118), (598, 118)], "words")
    for x in (160, 414, 598):
        c.arrow([(x, 118), (x, 150)], "words")
    c.text(500, 108, f"{facts.encoder()['d_model']} numbers a token", 13, "start", "soft")
    c.badge(482, 118, "07")

    # the base, in detail
    c.box(20, 150, 280, 150, "pixels")
    c.text(36, 174, "base", 16, "start", bold=True)
    c.text(284, 174, f"{base.millions} weights", 13, "end", "soft")
    c.picture(36, 200, 44, facts.png(facts.noise(16)), "noise", True, "noise")
    c.arrow([(84, 222), (144, 222)], "noise")
    unet(c, 148, 201, 56, 42)
    c.curve((196, 197), (192, 176), (160, 176), (156, 198), "pixels")
    c.text(214, 201, f"{base.config.steps} steps", 13, "start")
    c.text(216, 241, f"$w$ = {base.guidance:g}", 14, "start")
    for x, number in ((58, "01"), (114, "02"), (176, "03"), (246, "08")):
        c.badge(x, 262, number)
        c.text(x, 289, CHAPTERS[number][0], 13)
    c.badge(286, 197, "04")

    # the two that enlarge
    for x, name, wide in ((330, "sr64", 168), (516, "sr256", 164)):
        one, middle = facts.stage(name), x + wide / 2
        c.box(x, 150, wide, 150, "pixels")
        c.text(x + 16, 174, name, 16, "start", bold=True)
        c.text(x + wide - 14, 174, one.millions, 13, "end", "soft")
        c.picture(x + 20, 200, 44, facts.webp(facts.noise(32, 1), 40), "noise", True, "noise")
        c.arrow([(x + 68, 222), (x + 92, 222)], "noise")
        unet(c, x + 96, 201, 56, 42)
        c.curve((x + 144, 197), (x + 140, 176), (x + 108, 176), (x + 104, 198), "pixels")
        c.text(middle, 269, f"{one.config.steps} steps", 13)
        c.text(middle, 288, f"{one.side // 4} → {one.side} pixels", 13, role="soft")
    c.badge(314, 300, "09")

    # pictures
    cat = "a true scene: a cat on the grass, "
    c.arrow([(160, 300), (160, 326)], "pixels")
    c.picture(112, 328, 96, facts.png(facts.scene(16)), cat + "16 × 16", True)
    c.text(160, 444, "16 × 16", 13)
    c.arrow([(208, 376), (314, 376), (314, 234), (330, 234)], "pixels")
    c.arrow([(414, 300), (414, 326)], "pixels")
    c.picture(366, 328, 96, facts.webp(facts.scene(64), 85), cat + "64 × 64", True)
    c.text(414, 444, "64 × 64", 13)
    c.arrow([(462, 376), (507, 376), (507, 234), (516, 234)], "pixels")
    c.arrow([(598, 300), (598, 326)], "pixels")
    c.picture(550, 328, 96, facts.webp(facts.scene(256), 75), cat + "256 × 256")
    c.text(598, 444, "256 × 256", 13)
    _chips(c, 464, None)
    return c


def here(chapter: str) -> Canvas:
    """The map as a strip for the head of a chapter, where this chapter's part stands out."""
    about = CHAPTERS[chapter][1]
    c = Canvas(
        188,
        f"Where we are: chapter {chapter}, {about}",
        "Words go through the text encoder into three models in a row: base, sr64 and sr256, "
        f"which make pictures of 16, 64 and 256 pixels a side. Chapter {chapter} is about {about}.",
        focus=None if chapter in WHOLE else chapter,
    )
    base = facts.stage("base")
    y, h, low = 44, 62, 124  # top and height of the boxes, middle of the badges
    middle = y + h / 2

    def badge(x: float, number: str, at: float = low) -> None:
        with c.part(number):
            c.badge(x, at, number, number == chapter)

    with c.part("06"):
        c.box(20, y, 60, h, "words", "words", 14)
        c.arrow([(80, middle), (98, middle)], "words")
        c.box(98, y, 84, h, "words", "text\nencoder", 14, style="bold")
    with c.part("07"):
        c.line([(140, y), (140, 22), (553, 22)], "words")
        for x in (269, 410, 553):
            c.arrow([(x, 22), (x, y)], "words")
    with c.part(*BASE, "05"):  # a GAN would stand in the place of the base
        c.box(200, y, 138, h, "pixels")
        c.text(212, y + 22, "base", 15, "start", bold=True)
        c.arrow([(338, middle), (356, middle)], "pixels")
        c.picture(356, middle - 22, 44, facts.png(facts.scene(16)), "16 × 16", True)
    with c.part("08"):
        c.text(326, y + 22, f"$w$ = {base.guidance:g}", 14, "end")
    with c.part("01", "02"):
        c.picture(212, y + 33, 20, facts.png(facts.noise(8)), "noise", True, "noise")
    with c.part("02"):
        c.arrow([(234, y + 43), (250, y + 43)], "noise")
    with c.part("03"):
        unet(c, 251, y + 31, 38, 24)
    with c.part("04"):
        c.text(326, y + 48, f"× {base.config.steps}", 14, "end")
    with c.part("09"):
        left = 400.0
        for name, wide in (("sr64", 58), ("sr256", 64)):
            c.arrow([(left, middle), (left + 18, middle)], "pixels")
            c.box(left + 18, y, wide, h, "pixels", name, 14, style="bold")
            c.arrow([(left + 18 + wide, middle), (left + 36 + wide, middle)], "pixels")
            side = facts.stage(name).side
            seen = facts.webp(facts.scene(64), 70)
            c.picture(left + 36 + wide, middle - 22, 44, seen, f"{side} × {side}")
            left += 80 + wide
    badge(140, "06")
    badge(204, "07", 22)
    for k, number in enumerate(BASE):
        badge(269 + (k - 2) * 27, number)
    badge(447, "09")
    badge(588, "09")
    _chips(c, 146, chapter)
    return c


FIGURES: dict[str, Callable[[], Canvas]] = {"map": the_map}
FIGURES |= {f"here-{number}": partial(here, number) for number in CHAPTERS}
