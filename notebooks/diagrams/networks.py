"""The networks: U-Nets, residual blocks, the T5 layer, the two doors of text (chapters 03, 06, 07, 09)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import facts
from kit import Canvas

LEFT, RIGHT, WIDE = 118.0, 398.0, 184.0  # of the two columns of a U
FIRST, NEXT, TALL = 118.0, 102.0, 62.0  # top of its first level, way to the next, height


def u(name: str, words: bool, focus: str | None = None) -> Canvas:
    """One U for three chapters: the shipped stage `name`, with or without the doors of text."""
    one = facts.stage(name)
    unet, sides = one.config.unet, one.sides
    kinds = {"self": "self-attention", "cross": "cross-attention"}
    with_attention = ", ".join(
        f"{kinds[kind]} at {side} × {side}"
        for kind, side in zip(unet.attention, sides, strict=True)
        if kind
    )
    end = FIRST + NEXT * len(sides)
    c = Canvas(
        end + 70,
        f"The U-Net of {name}",
        f"Left, downwards: a stem of {unet.channels[0]} channels, then DBlocks with "
        f"{', '.join(map(str, unet.channels))} channels at sides {', '.join(map(str, sides))}. "
        "Right, upwards: UBlocks with the same. Between them, long skips join the features of "
        f"each DBlock to those that come up. {with_attention.capitalize()}"
        + (", with the words." if words else "."),
        focus,
    )
    with c.part("blocks"):
        ends(c, one)
    across(c, 52.0, one.side, unet.channels[0], True)
    for i in range(len(sides)):
        level(c, one, i, words)
    with c.part("clock"):
        what = ["time"] + ["pooled words"] * words + ["noise level"] * unet.low_res
        mark(c, 31, end + 12)
        c.text(46, end + 16, f"embedding of {' + '.join(what)}", 13.5, "start")
    with c.part("skips"):
        c.line([(20, end + 39), (42, end + 39)], "soft", "thin")
        says = "long skip: its channels are joined to those that come up"
        c.text(50, end + 44, says, 13.5, "start")
    if words:
        c.text(680, end + 44, f"{one.millions} weights", 13.5, "end", "soft")
    return c


def ends(c: Canvas, one: facts.Facts) -> None:
    """What goes into a U, its stem, its last layers, and what comes out."""
    unet, top, high = one.config.unet, 28.0, 48.0
    middle, first = top + high / 2, unet.channels[0]
    if unet.low_res:
        c.picture(24, 30, 40, facts.webp(facts.noised(facts.scene(64), 0.55), 40), "x_t", True)
        c.picture(40, 52, 40, facts.png(facts.scene(16)), "the picture to enlarge", True)
        c.text(58, 110, "6 channels", 13)
    else:
        c.picture(30, 30, 44, facts.png(facts.noised(facts.scene(16), 0.55)), "x_t", True)
        c.text(52, 94, "$x_t$", 15)
    c.arrow([(82, middle), (LEFT, middle)], "pixels")
    stem = f"stem 3×3, {6 if unet.low_res else 3} → {first}"
    c.box(LEFT, top, WIDE, high, "pixels", stem, 14)
    c.box(RIGHT, top, WIDE, high, "pixels", "3×3, SiLU, 3×3 → 3", 14)
    c.arrow([(RIGHT + WIDE, middle), (622, middle)], "pixels")
    target = {"eps": "$ε̂$", "x_0": "$x̂_0$", "v": "$v̂$"}[one.config.target]
    c.text(646, middle + 6, target, 20)


def across(c: Canvas, middle: float, side: int, width: int, skip: bool) -> None:
    """From left to right: a long skip, or, at the bottom, the way itself."""
    with c.part("skips"):
        c.arrow(
            [(LEFT + WIDE, middle), (RIGHT, middle)],
            "soft" if skip else "pixels",
            "thin" if skip else "",
        )
        c.text(350, middle - 8, f"{side} × {side}", 14, bold=True)
        c.text(350, middle + 19, f"{width} + {width}" if skip else f"{width}", 13, role="soft")


def level(c: Canvas, one: facts.Facts, i: int, words: bool) -> None:
    """The DBlock and the UBlock of level i, and the ways to the level above."""
    unet, stride = one.config.unet, one.strides[i]
    y, width, kind = FIRST + NEXT * i, unet.channels[i], unet.attention[i]
    blocks = f"{unet.blocks[i]} ResBlock{'s' if unet.blocks[i] > 1 else ''}"
    for x, way in ((LEFT, "DBlock"), (RIGHT, "UBlock")):
        with c.part("blocks"):
            c.box(x, y, WIDE, TALL, "pixels")
            c.text(x + 14, y + 25, f"**{way}** {width} channels", 13.5, "start")
            c.text(x + 14, y + 47, blocks, 14, "start")
        with c.part("clock"):
            mark(c, x + WIDE - 20, y + 42)
        if kind:
            attend(c, x, y, kind, words)
    above = FIRST + NEXT * (i - 1) + TALL if i else 76.0
    with c.part("blocks"):
        c.arrow([(LEFT + WIDE / 2, above), (LEFT + WIDE / 2, y)], "pixels")
        c.arrow([(RIGHT + WIDE / 2, y), (RIGHT + WIDE / 2, above)], "pixels")
        if stride > 1:
            gap = (above + y) / 2 + 5
            c.text(LEFT + WIDE / 2 + 10, gap, f"stride {stride}", 13, "start", "soft")
            c.text(RIGHT + WIDE / 2 + 10, gap, f"× {stride}", 13, "start", "soft")
    across(c, y + TALL / 2, one.sides[i], width, i + 1 < len(unet.channels))


def attend(c: Canvas, x: float, y: float, kind: str, words: bool) -> None:
    """The attention at a block's outer side, and where the words come in."""
    middle = y + TALL / 2
    at, near = (24.0, LEFT) if x == LEFT else (RIGHT + WIDE + 10, RIGHT + WIDE)
    with c.part("attention"):
        says = "attention" if kind == "self" else "words only"
        c.box(at, middle - 14, 84, 28, "look", says, 13, "round")
        c.line([(near, middle), (108 if x == LEFT else at, middle)], "look")
        if words:
            c.arrow([(at + 42, middle + 42), (at + 42, middle + 16)], "words")
            c.text(at + 42, middle + 57, "words", 13, role="words")


def mark(c: Canvas, x: float, y: float) -> None:
    """The diamond of the embedding."""
    c.path(f"M{x:g} {y - 7:g}l7 7l-7 7l-7 -7Z", "noise", "fill full")


def chain(
    c: Canvas, x: float, y: float, h: float, boxes: list[tuple[str, float, str]], gap: float = 18
) -> list[float]:
    """Boxes (lines, width, role) in a row with arrows between; their middles."""
    middles = []
    for k, (lines, wide, role) in enumerate(boxes):
        if k:
            c.arrow([(x - gap, y + h / 2), (x, y + h / 2)], "pixels")
        c.box(x, y, wide, h, role, lines, 13)
        middles.append(x + wide / 2)
        x += wide + gap
    return middles


def resblock() -> Canvas:
    """Fig. A.27, as the base has it: the embedding scales and shifts."""
    c = Canvas(
        296,
        "The residual block",
        "From left to right: group norm, SiLU, a 3 × 3 convolution; group norm again, now scaled "
        "by 1 plus one vector and shifted by another, both from the embedding; SiLU and a second "
        "3 × 3 convolution that starts at zero. A skip goes around it all: the identity, or a 1 "
        "× 1 convolution where the channels change. The sum is multiplied by 1/√2.",
    )
    y, h, x = 108.0, 54.0, 56.0
    c.text(28, y + h / 2 + 5, "$x$", 18)
    c.arrow([(38, y + h / 2), (x, y + h / 2)], "pixels")
    c.box(x, y, 62, h, "pixels", "group\nnorm", 13)
    c.arrow([(118, y + 27), (132, y + 27)], "pixels")
    c.box(132, y, 50, h, "pixels", "SiLU", 13)
    c.arrow([(182, y + 27), (196, y + 27)], "pixels")
    c.box(196, y, 54, h, "pixels", "conv\n3×3", 13)
    c.arrow([(250, y + 27), (264, y + 27)], "pixels")
    c.box(264, y, 62, h, "pixels", "group\nnorm", 13)
    c.arrow([(326, y + 27), (340, y + 27)], "pixels")
    c.box(340, y, 76, h, "noise", "× (1 + $a$)\n+ $b$", 13.5)
    c.arrow([(416, y + 27), (430, y + 27)], "pixels")
    c.box(430, y, 50, h, "pixels", "SiLU", 13)
    c.arrow([(480, y + 27), (494, y + 27)], "pixels")
    c.box(494, y, 54, h, "pixels", "conv\n3×3", 13)
    c.arrow([(548, y + 27), (570, y + 27)], "pixels")
    c.circle(584, y + 27, 13, "ink", "line", "+")
    c.arrow([(598, y + 27), (632, y + 27)], "pixels")
    c.text(615, y + 14, "$1/√2$", 14)
    c.text(650, y + 32, "out", 14)
    c.line([(46, y + 27), (46, 52), (584, 52), (584, 80)], "soft")
    c.arrow([(584, 80), (584, y + 13)], "soft")
    c.text(315, 41, "skip: the identity, or 1×1 where the channels change", 13.5, role="soft")
    c.text(521, y + 72, "starts at zero", 13, role="soft")
    c.arrow([(378, 222), (378, y + h + 2)], "noise")
    c.box(268, 222, 220, 54, "noise", "linear, to $a$ and $b$: 2 numbers\nfor each channel", 13)
    c.arrow([(190, 249), (266, 249)], "noise")
    c.box(56, 222, 134, 54, "noise", "SiLU of the\nembedding", 13)
    return c


def efficient() -> Canvas:
    """Figs A.28 and A.29, as sr64 and sr256 have them."""
    c = Canvas(
        338,
        "DBlock and UBlock of the Efficient U-Net",
        "DBlock, from left to right: a 3 × 3 convolution of stride 2 comes first, then the "
        "embedding is added once, then residual blocks, then attention where the level has it. "
        "UBlock: the embedding, residual blocks, attention, and the upsample last, a 1 × 1 "
        "convolution and a pixel shuffle. A long skip goes from the end of the DBlock to the "
        "beginning of the UBlock.",
    )
    for top, name, about in (
        (26, "DBlock", "strides first: all the rest works on a quarter of the pixels"),
        (190, "UBlock", "upsamples last, for the same reason"),
    ):
        c.text(20, top + 12, name, 16, "start", bold=True)
        c.text(128, top + 12, about, 14, "start", "soft")
    y, h = 56.0, 60.0
    c.arrow([(20, y + 30), (50, y + 30)], "pixels")
    chain(
        c,
        50,
        y,
        h,
        [
            ("3×3, stride 2", 112, "pixels"),
            ("+ embedding", 108, "noise"),
            ("ResBlocks", 92, "pixels"),
            ("attention", 88, "look"),
        ],
        22,
    )
    c.arrow([(516, y + 30), (560, y + 30)], "pixels")
    c.text(620, y + 27, "to the next", 13)
    c.text(620, y + 44, "DBlock", 13)
    y, x = 220.0, 108.0
    c.arrow([(20, y + 30), (x - 16, y + 30)], "pixels")
    c.circle(x, y + 30, 16, "ink", "line", "join", 12)
    c.arrow([(x + 17, y + 30), (150, y + 30)], "pixels")
    chain(
        c,
        150,
        y,
        h,
        [
            ("+ embedding", 108, "noise"),
            ("ResBlocks", 92, "pixels"),
            ("attention", 88, "look"),
            ("1×1, pixel\nshuffle", 92, "pixels"),
        ],
        22,
    )
    c.arrow([(596, y + 30), (670, y + 30)], "pixels")
    c.line([(538, 86), (538, 158), (x, 158)], "soft")
    c.arrow([(x, 158), (x, y + 13)], "soft")
    c.text(330, 150, "long skip", 13.5, role="soft")
    c.text(
        20,
        312,
        "The embedding enters once a block, and not in every ResBlock as in the base.",
        13.5,
        "start",
        "soft",
    )
    return c


def grid(c: Canvas, x: float, y: float, role: str, strength: Callable[[int, int], float]) -> None:
    """A matrix of six by six, each cell as strong as strength(i, j)."""
    for i in range(6):
        for j in range(6):
            c.out.append(
                f'<rect x="{x + j * 8:g}" y="{y + i * 8:g}" width="7" height="7" '
                f'class="t-{role}" opacity="{strength(i, j):.2f}"/>'
            )


def norm(c: Canvas, y: float) -> None:
    c.text(30, y + 6, "$x$", 18)
    with c.part("norm"):
        c.arrow([(40, y), (62, y)], "words")
        c.box(62, y - 24, 62, 48, "words", "RMS\nnorm", 13)


def residual(c: Canvas, y: float, low: float, end: float) -> None:
    """From x under everything to the sum at the right, and on."""
    with c.part("sum"):
        c.circle(637, end, 12, "ink", "line", "+")
        c.line([(46, y + 12), (46, low), (637, low), (637, end + 32)], "soft")
        c.arrow([(637, end + 32), (637, end + 13)], "soft")
        c.arrow([(650, end), (678, end)], "words")


def t5(focus: str | None = None) -> Canvas:
    """One layer of the text encoder: attention with biases of distance, then a gated feed-forward part."""
    e = facts.encoder()
    d, heads, one, ff = (e[k] for k in ("d_model", "num_heads", "d_kv", "d_ff"))
    c = Canvas(
        452,
        "A layer of T5",
        f"Two rows. First, token states of {d} numbers go through RMS norm and become queries, "
        f"keys and values in {heads} heads of {one}. Products of queries and keys, not divided by "
        "√d, get a bias that depends on the distance of the two tokens, and a mask that hides "
        "padding; softmax; a weighted sum of the values; a linear map; the sum with what came "
        f"in. Second: RMS norm, two linear maps to {ff} numbers, one of them through GELU, their "
        "product, and a linear map back; again the sum with what came in.",
        focus,
    )

    attention_row(c, 112.0)
    feed_row(c, 346.0)
    return c


def attention_row(c: Canvas, y: float) -> None:
    e = facts.encoder()
    c.text(20, 34, "self-attention", 16, "start", bold=True)
    c.text(20, 56, f"{e['num_heads']} heads of {e['d_kv']}", 13, "start", "soft")
    norm(c, y)
    with c.part("attention"):
        for k, name in enumerate("qkv"):
            at = y + (-44, 0, 62)[k]
            c.arrow(
                [(124, y), (140, y), (140, at), (158, at)] if k != 1 else [(124, y), (158, y)],
                "words",
                bend=5,
            )
            c.box(158, at - 16, 36, 32, "words", f"${name}$", 17)
        c.arrow([(194, y - 44), (208, y - 44), (208, y - 30), (224, y - 30)], "words", bend=5)
        c.arrow([(194, y), (208, y), (208, y - 14), (224, y - 14)], "words", bend=5)
        c.box(224, y - 46, 64, 48, "look", "$q k^T$", 18)
        c.text(256, y + 20, "no $1/√d$", 14, role="soft")
        c.arrow([(288, y - 22), (314, y - 22)], "look")
        c.circle(327, y - 22, 12, "ink", "line", "+")
        c.arrow([(340, y - 22), (372, y - 22)], "look")
        c.box(372, y - 46, 76, 48, "look", "softmax", 14)
        c.arrow([(448, y - 22), (478, y - 22)], "look")
        c.box(478, y - 46, 46, 48, "look", "× $v$", 15)
        c.line([(194, y + 62), (501, y + 62), (501, y + 20)], "words")
        c.arrow([(501, y + 20), (501, y + 4)], "words")
        c.arrow([(524, y - 22), (552, y - 22)], "words")
        c.box(552, y - 46, 46, 48, "words", "$W_o$", 17)
        c.arrow([(598, y - 22), (624, y - 22)], "words")
    with c.part("positions"):
        grid(
            c,
            303,
            14,
            "look",
            lambda i, j: 0.95 / (1 + 0.55 * abs(i - j)) if j >= i else 0.6 / (1 + 0.9 * (i - j)),
        )
        c.arrow([(327, 63), (327, y - 36)], "look")
        c.text(362, 32, "a bias for each distance $j − i$,", 13.5, "start")
        c.text(
            362,
            50,
            f"in {e['relative_attention_num_buckets']} buckets, for each head",
            13.5,
            "start",
            "soft",
        )
    with c.part("mask"):
        grid(c, 303, y + 9, "ink", lambda i, j: 0.62 if j >= 4 else 0.1)
        c.arrow([(327, y + 7), (327, y - 8)], "ink")
        c.text(362, y + 38, "mask of padding", 13.5, "start")
    residual(c, y, y + 92, y - 22)


def feed_row(c: Canvas, y: float) -> None:
    d, ff = facts.encoder()["d_model"], facts.encoder()["d_ff"]
    c.text(20, 254, "feed-forward, gated", 16, "start", bold=True)
    norm(c, y)
    with c.part("gate"):
        for k, name in enumerate(("$W_0$", "$W_1$")):
            at = y + (-40, 40)[k]
            c.arrow([(124, y), (140, y), (140, at), (162, at)], "words", bend=5)
            c.box(162, at - 22, 88, 44, "words", f"{name}\n{d} → {ff}", 13)
        c.arrow([(250, y - 40), (284, y - 40)], "words")
        c.box(284, y - 62, 70, 44, "look", "GELU", 14)
        c.arrow([(354, y - 40), (392, y - 40), (392, y - 14)], "words")
        c.arrow([(250, y + 40), (392, y + 40), (392, y + 14)], "words")
        c.circle(392, y, 12, "ink", "line", "×")
        c.text(414, y - 30, "the gate", 13.5, "start", "soft")
        c.arrow([(405, y), (450, y)], "words")
        c.box(450, y - 22, 88, 44, "words", f"$W_2$\n{ff} → {d}", 13)
        c.arrow([(538, y), (624, y)], "words")
    residual(c, y, y + 78, y)


def doors(focus: str | None = None) -> Canvas:
    """How words come into the U-Net: pooled, into the embedding; one by one, into the attention."""
    base = facts.stage("base")
    unet, d = base.config.unet, facts.encoder()["d_model"]
    level = next(k for k, kind in enumerate(unet.attention) if kind == "self")
    side = base.sides[level]
    c = Canvas(
        424,
        "The two doors of text",
        f"Left, the states of the tokens, {d} numbers each. First door: attention pooling makes "
        f"one vector of {unet.embedding} numbers of them, which is added to the embedding of time "
        "and modulates every residual block. Second door: layer norm and a linear map make keys "
        f"and values of them, which are joined to those of the {side} × {side} pixels; each "
        "pixel's query looks at both.",
        focus,
    )
    c.text(20, 38, "token states", 15, "start", "words", bold=True)
    c.text(20, 58, f"$L$ × {d}", 14, "start", "soft")
    for k, token in enumerate(("a", "kitten", "on", "grass")):
        c.box(20, 150 + k * 34, 78, 28, "words", token, 13.5, "square")
    with c.part("pool"):
        c.text(170, 38, "door 1: all words at once", 15, "start", bold=True)
        c.line([(59, 150), (59, 92), (150, 92)], "words")
        c.arrow([(150, 92), (170, 92)], "words")
        c.box(170, 62, 116, 60, "words", "attention\npooling", 14)
        c.arrow([(286, 92), (312, 92)], "words")
        c.box(312, 84, 92, 16, "words", style="full square")
        c.text(358, 120, f"{unet.embedding} numbers", 13, role="soft")
        c.arrow([(404, 92), (438, 92)], "words")
        c.circle(452, 92, 13, "ink", "line", "+")
        c.arrow([(452, 58), (452, 77)], "noise")
        c.box(398, 24, 108, 34, "noise", "time: log SNR", 13)
        c.arrow([(466, 92), (502, 92)], "noise")
        c.box(504, 62, 176, 60, "pixels", "scale and shift in\nevery ResBlock", 14)
    with c.part("join"):
        c.text(170, 176, "door 2: word by word", 15, "start", bold=True)
        c.arrow([(98, 216), (170, 216)], "words")
        c.box(170, 190, 146, 52, "words", "layer norm, linear:\n$k$ and $v$", 13.5)
        c.line([(316, 216), (504, 216), (504, 250)], "words")
        c.arrow([(504, 250), (504, 264)], "words")
        tile(c, 170, 306, 8, 9)
        c.text(206, 400, f"{side} × {side} pixels", 13.5)
        c.line([(246, 330), (392, 330), (392, 308)], "pixels")
        c.arrow([(392, 308), (392, 294)], "pixels")
        c.text(300, 322, "$k$ and $v$", 15, role="pixels")
        c.box(320, 266, 144, 26, "pixels", f"{side * side} of pixels", 13, "square")
        c.box(466, 266, 76, 26, "words", "$L$ of words", 13, "square")
        c.arrow([(542, 279), (566, 279)], "look")
        c.box(566, 252, 114, 54, "look", "attention", 15, style="bold")
        c.line([(246, 362), (623, 362), (623, 320)], "pixels")
        c.arrow([(623, 320), (623, 308)], "pixels")
        c.text(440, 354, "$q$, one for each pixel", 15, role="pixels")
        c.arrow([(623, 252), (623, 214)], "pixels")
        c.text(623, 204, "added to the pixels", 13.5)
    return c


def tile(c: Canvas, x: float, y: float, n: int, unit: float) -> None:
    """Features, as a square of n × n cells."""
    c.path(
        "".join(
            f"M{x + k * unit} {y}v{n * unit}M{x} {y + k * unit}h{n * unit}" for k in range(n + 1)
        ),
        "pixels",
        "thin",
    )
    c.bar(x, y, n * unit, n * unit, "pixels")


FIGURES: dict[str, Callable[[], Canvas]] = {
    "unet": partial(u, "base", False),
    **{
        f"unet-{part}": partial(u, "base", False, part)
        for part in ("blocks", "skips", "clock", "attention")
    },
    "unet-text": partial(u, "base", True),
    "resblock": resblock,
    "efficient-blocks": efficient,
    "t5-layer": t5,
    **{
        f"t5-{part}": partial(t5, part)
        for part in ("norm", "positions", "mask", "attention", "gate", "sum")
    },
    "doors": doors,
    "doors-pool": partial(doors, "pool"),
    "doors-join": partial(doors, "join"),
    "unet-sr64": partial(u, "sr64", True),
    "unet-sr256": partial(u, "sr256", True),
}
