"""What can go wrong, outside and inside: marks, an audit, the way from noise to its cause (chapters 14, 15)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import facts
import torch
from cascade import unet
from kit import Canvas, polyline

from minimagen.scenes import Scenes


def watermark() -> Canvas:
    """A note in the file, and a mark in the pixels."""
    c = Canvas(
        392,
        "Provenance: a note in the file, a mark in the pixels",
        "Two rows. Above, the PNG carries a note: prompt, seed, model, AI-generated. Whoever "
        "takes a screenshot or saves the picture anew loses it. Below, a faint pattern made from "
        "a secret key is added to the pixels; after compression, a crop or a new size, the "
        "picture is compared with the pattern again. The score of pictures with the mark and of "
        "others are two hills over one line; where the threshold stands decides what is missed "
        "and what is a false alarm.",
    )
    picture = facts.scene(64)
    c.text(20, 38, "a note in the file", 16, "start", bold=True)
    c.picture(20, 54, 72, facts.webp(picture, 75), "a picture", True)
    c.box(104, 54, 178, 72, "words")
    c.text(118, 78, "Prompt: a kitten on …", 13, "start")
    c.text(118, 97, "Seed: 0", 13, "start")
    c.text(118, 116, "Source: AI-generated", 13, "start")
    c.arrow([(282, 90), (420, 90)], "soft")
    c.text(351, 80, "screenshot,", 13)
    c.text(351, 109, "saved anew", 13)
    c.picture(422, 54, 72, facts.webp(picture, 30), "the picture without its note", True)
    c.box(506, 54, 174, 72, "soft", style="line dash")
    c.text(593, 95, "the note is gone", 14, role="wrong")

    c.text(20, 174, "a mark in the pixels", 16, "start", bold=True)
    pattern = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(7)).sign()
    pattern = pattern.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat(3, 1, 1)
    c.picture(20, 190, 72, facts.webp(picture, 75), "a picture", True)
    c.circle(108, 226, 12, "ink", "line", "+")
    c.picture(124, 190, 72, facts.webp(pattern * 0.25, 60), "a pattern, made from a key", True)
    c.text(160, 282, "pattern of a key,", 13)
    c.text(160, 300, "drawn far too strong", 13, role="soft")
    c.arrow([(198, 226), (252, 226)], "soft")
    c.picture(
        254,
        190,
        72,
        facts.webp((picture + 0.05 * pattern).clamp(-1, 1), 75),
        "the marked picture",
        True,
    )
    c.text(290, 282, "looks the same", 13)
    c.arrow([(328, 226), (438, 226)], "soft")
    c.text(383, 216, "JPEG, crop,", 13)
    c.text(383, 245, "new size", 13)
    # two hills of scores
    left, right, base = 440.0, 680.0, 282.0

    def hill(middle: float, wide: float) -> str:
        points = [
            (left + k * 4, base - 74 * math.exp(-(((left + k * 4 - middle) / wide) ** 2)))
            for k in range(61)
        ]
        return polyline(points)

    c.path(hill(506, 30), "soft")
    c.path(hill(614, 32), "look")
    c.line([(left, base), (right, base)], "ink", "thin")
    c.line([(562, 200), (562, base)], "wrong", "dash")
    c.text(562, 192, "threshold", 13, role="wrong")
    c.text(488, 302, "without", 13, role="soft")
    c.text(622, 302, "with the mark", 13, role="look")
    c.text(560, 324, "likeness to the pattern", 13.5)
    c.box(
        20,
        340,
        660,
        34,
        "ink",
        "left of it, with the mark: a miss · right of it, without: a false alarm",
        13.5,
        style="line thin",
    )
    return c


def shares(count: int = 1_000) -> dict[str, float]:
    """How often each time of day is in our data, counted from its first scenes."""
    scenes = Scenes(16, "train", "whole")
    seen = Counter(scenes.describe(i)[0].time for i in range(count))
    return {str(name): n / count for name, n in seen.most_common()}


def audit() -> Canvas:
    """Count what went in, count what comes out when nothing is asked for, compare."""
    c = Canvas(
        330,
        "An audit of data and model",
        "The data are counted: how often is it day, sunset, night? A model is trained on them. "
        "Then it is asked for a thing and nothing else, many times with many seeds; the judge "
        "counts what it chose. Bars of what went in stand beside empty ones of what comes out, "
        "which the chapter fills. What is more in the second than in the first, the model has "
        "added.",
    )
    c.box(20, 36, 150, 64, "pixels", "our pictures\nand captions", 14)
    c.arrow([(170, 68), (222, 68)], "pixels")
    c.text(196, 58, "train", 13)
    c.box(222, 36, 110, 64, "pixels")
    unet(c, 243, 46, 68, 44)
    c.arrow([(332, 68), (384, 68)], "pixels")
    c.text(358, 58, "draw", 13)
    for k, thing in enumerate(("car", "sailboat", "apple")):
        c.picture(
            386 + k * 52,
            44,
            48,
            facts.webp(facts.scene(64, thing, ("city", "sea", "beach")[k]), 50),
            thing,
            True,
        )
    c.arrow([(542, 68), (580, 68)], "look")
    c.box(580, 36, 100, 64, "look", "the judge\ncounts", 14)
    c.text(277, 128, "asked for one thing, nothing else", 13.5, role="words")
    c.arrow([(277, 114), (277, 102)], "words")
    c.arrow([(95, 100), (95, 156)], "pixels")
    c.text(20, 178, "what went in", 15, "start", bold=True)
    c.arrow([(630, 100), (630, 156)], "look")
    c.text(420, 178, "what comes out", 15, "start", bold=True)
    for k, (name, share) in enumerate(shares().items()):
        y = 196 + k * 34
        c.text(92, y + 15, name, 13.5, "end")
        c.bar(102, y, share * 260, 20, "pixels", "full")
        c.text(110 + share * 260, y + 15, f"{100 * share:.0f} %", 13.5, "start")
        c.text(492, y + 15, name, 13.5, "end")
        c.out.append(f'<rect x="502" y="{y}" width="150" height="20" class="s-look thin dash"/>')
        c.text(577, y + 15, "you count", 13, role="soft")
    c.text(350, 312, "more of it out than in: the model has added that", 14, role="wrong")
    return c


STEPS = (  # question, the answer that leads to the right, what to look at then
    (
        "Pictures in [−1, 1], red where they are\nred, each with its own caption?",
        "no",
        "x / 127.5 − 1; BGR to RGB;\npairs by name, not by place",
    ),
    (
        "Does the loss fall below that of a\nconstant answer?",
        "no",
        "rate too high, or 0 too early;\na NaN in the weights",
    ),
    (
        "Does one step clean a picture with\na little noise?",
        "no",
        "target, noise level or schedule\ndiffer from training",
    ),
    (
        "Are samples of the running weights\nbetter than those of the average?",
        "yes",
        "the average is too young, or\nnothing updates it",
    ),
    (
        "Is it black, or NaN, in float16 alone?",
        "yes",
        "numbers beyond 65,504:\nfloat32 or bfloat16",
    ),
    (
        "Is there more grain with fewer steps?",
        "yes",
        "the last step has to end\nat σ = 0",
    ),
    (
        "Does another sentence change the\npicture of the same seed?",
        "no",
        "mask, padding or captions;\nguidance’s halves mixed up",
    ),
    (
        "Is the small picture good, and the\nlarge one bad?",
        "yes",
        "the small one’s range, noise or\nshrinking differ from training",
    ),
)


def clinic() -> Canvas:
    """From "I followed it and got noise" to its cause, the cheapest question first."""
    c = Canvas(
        768,
        "I followed it and got noise",
        "A column of eight questions, each with a way to the right to its causes. "
        + " ".join(f"{q} If {a}: {cause}." for q, a, cause in STEPS).replace("\n", " ")
        + " Else: train longer.",
    )
    c.box(
        20,
        22,
        340,
        40,
        "ink",
        "I followed it and got noise",
        15,
        style="bold full round",
    )
    c.arrow([(190, 62), (190, 84)], "soft")
    y = 84.0
    for question, answer, cause in STEPS:
        c.box(20, y, 340, 54, "pixels", question, 14)
        c.arrow([(360, y + 27), (420, y + 27)], "wrong")
        c.text(388, y + 19, answer, 14, role="wrong", bold=True)
        c.box(420, y, 260, 54, "wrong", cause, 13)
        c.arrow([(190, y + 54), (190, y + 78)], "look")
        c.text(202, y + 71, "no" if answer == "yes" else "yes", 13, "start", "look", bold=True)
        y += 78
    c.box(20, y, 340, 40, "look", "train longer, and look again", 14, style="round")
    c.text(420, y + 17, "most of these are seen by", 13.5, "start", "soft")
    c.text(420, y + 36, "`minimagen doctor`", 14, "start")
    return c


FIGURES: dict[str, Callable[[], Canvas]] = {
    "watermark": watermark,
    "audit": audit,
    "clinic": clinic,
}
