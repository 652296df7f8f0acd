"""The pictures of scenes: emoji art laid over places that are drawn by code."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..assets import DATA
from .scene import Scene, Thing, grammar, objects

SPRITE = 128  # pixels: the side of a sprite in the atlas, 16 sprites a row
CANVAS = 256  # pixels: places are drawn at this side and averaged down
TIMELESS = ("space", "room", "underwater")  # places that look the same by day and by night


def draw(scene: Scene, rng: random.Random, size: int) -> np.ndarray:
    """Render a scene: uint8 (size, size, 3). Sizes under 64 are downsampled from 64 by averaging."""
    side = max(size, 64)
    picture = _place(scene.place or "grass", scene.time or "day", int(rng.random() * 16), side)
    picture = picture.copy()
    for thing, (x, y, scale) in layout(scene, rng):
        paste(picture, _sprite(thing.key, scene.style or "3d", thing.colour, scale, side), x, y)
    if size < side:
        picture = _average(picture, side // size)
    return (picture + 0.5).astype(np.uint8)


def layout(scene: Scene, rng: random.Random) -> list[tuple[Thing, tuple[float, float, float]]]:
    """Centre x, y and scale of each thing, as fractions of the side; the scale is at least 6/16."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    n, placed = len(scene.things), []
    for k, thing in enumerate(scene.things):
        low, high = ((0.5, 0.85), (0.42, 0.5), (0.375, 0.42))[n - 1]
        if thing.size == "small":
            low, high = 0.375, 0.4
        elif thing.size == "big":
            low, high = (0.94, 1.0) if n == 1 else (0.52, 0.58)  # over what is not called big
        scale = max(12, round(between(low, high) * 32)) / 32  # few sizes: sprites are cached
        if scene.arrangement == "column":
            x, y = between(0.3, 0.7), (0.27, 0.74)[k] + between(-0.03, 0.03)
        else:
            x = ((0.5,), (0.26, 0.74), (0.2, 0.5, 0.8))[n - 1][k] + between(-1, 1) * 0.1 / n
            stands = objects()[thing.key]["stands"]
            if stands == "sky":
                y = between(0.3, 0.45)
            elif stands in ("water", "float") and scene.place in ("sea", "underwater"):
                y = between(0.55, 0.65)
            else:
                y = between(0.84, 0.94) - scale * 0.45
            if n == 3:  # three abreast would be too small: the middle one stands back or in front
                y += (0.1 if k == 1 else -0.05) * (1 if stands == "sky" else -1)
        margin = scale * 0.47
        x, y = min(max(x, margin), 1 - margin), min(max(y, margin), 1 - margin)
        placed.append((thing, (x, y, scale)))
    return sorted(placed, key=lambda p: p[1][1])  # far things first


@lru_cache(maxsize=4)
def _atlas(style: str) -> Image.Image:
    return Image.open(DATA / "scenes" / f"{style}.webp").convert("RGBA")


@lru_cache(maxsize=1)
def _index() -> dict[str, int]:
    return {key: k for k, key in enumerate(objects())}


def sprite(key: str, style: str) -> Image.Image:
    """One object's artwork, RGBA 128×128."""
    top, left = (SPRITE * z for z in divmod(_index()[key], 16))
    return _atlas(style).crop((left, top, left + SPRITE, top + SPRITE))


@lru_cache(maxsize=8_000)  # full, with that of the places, 1.3 GiB at 256×256
def _sprite(key: str, style: str, colour: str | None, scale: float, side: int) -> np.ndarray:
    """A sprite at its size in the picture, alpha premultiplied: uint8 (px, px, 4); tinted where asked."""
    if colour is not None:
        return _tint(_sprite(key, style, None, scale, side), colour)
    px = round(scale * side)
    how = Image.Resampling.BOX if px < 64 else Image.Resampling.BICUBIC
    return np.asarray(sprite(key, style).convert("RGBa").resize((px, px), how))


def _tint(rgba: np.ndarray, colour: str) -> np.ndarray:
    """Shadows fall to a third of the colour, highlights rise towards white; premultiplied, uint8 (px, px, 4)."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    grey = rgba[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    light = grey[..., None] / (255 * np.maximum(alpha, 1 / 255))  # of the artwork alone
    tint = np.array(grammar()["colours"][colour]["rgb"], dtype=np.float32)
    shade = np.clip(0.35 + light * 1.1, 0, 1) * tint
    shade += np.clip(light * 2 - 1.5, 0, 1) * (255 - shade) * 0.6
    return np.concatenate([shade * alpha + 0.5, rgba[..., 3:]], axis=-1).astype(np.uint8)


def paste(picture: np.ndarray, rgba: np.ndarray, x: float, y: float) -> None:
    """Alpha-composite a premultiplied sprite over a float image (side, side, 3), in place, centre at (x, y)."""
    side, px = picture.shape[0], rgba.shape[0]
    left, top = round(x * side - px / 2), round(y * side - px / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + px, side), min(top + px, side)
    part = rgba[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    under = picture[y0:y1, x0:x1]
    under *= 1 - part[..., 3:] / 255
    under += part[..., :3]


def _average(picture: np.ndarray, factor: int) -> np.ndarray:
    side = picture.shape[0] // factor
    blocks = picture.reshape(side, factor, side, factor, 3)
    return np.asarray(blocks.mean(axis=(1, 3)))


SKY = {  # top and horizon of the sky at each time of day
    "day": ((95, 175, 245), (205, 235, 255)),
    "sunset": ((120, 70, 150), (255, 165, 95)),
    "night": ((8, 10, 40), (40, 45, 95)),
}
GROUND = {  # sky (None: by the time of day) and ground, near the horizon and near the eye
    "grass": (None, (125, 200, 85), (55, 150, 50)),
    "beach": (None, (250, 228, 170), (235, 200, 130)),
    "snow": (((175, 190, 215), (228, 234, 245)), (250, 252, 255), (215, 226, 240)),
    "sea": (None, (60, 145, 205), (15, 70, 150)),
    "desert": (((255, 190, 90), (255, 228, 160)), (232, 150, 70), (196, 105, 45)),
    "city": (((150, 165, 185), (205, 212, 222)), (120, 122, 130), (80, 82, 90)),
    "space": (((10, 5, 25), (25, 12, 50)), (25, 12, 50), (12, 6, 30)),
    "room": (((250, 225, 205), (243, 208, 186)), (190, 130, 85), (150, 95, 60)),
    "sky": (None, (190, 225, 252), (225, 242, 255)),
    "forest": (((30, 80, 50), (80, 135, 80)), (70, 105, 50), (45, 75, 35)),
    "mountain": (None, (120, 130, 110), (85, 100, 80)),
    "underwater": (((60, 190, 205), (20, 110, 160)), (20, 110, 160), (10, 60, 110)),
}


@lru_cache(maxsize=2_000)
def _place(name: str, time: str, variant: int, side: int) -> np.ndarray:
    """An empty place, float (side, side, 3) in [0, 255]: drawn large, then averaged down."""
    rng = random.Random(f"{name} {variant}")
    sky, near, far = GROUND[name]
    time = "day" if name in TIMELESS else time
    if sky is None or time != "day":
        sky = SKY[time]
    horizon = int(CANVAS * (0.52 + 0.1 * rng.random()))
    picture = np.empty((CANVAS, CANVAS, 3), dtype=np.float32)
    for top, bottom, (a, b) in ((0, horizon, sky), (horizon, CANVAS, (near, far))):
        slope = np.linspace(0, 1, bottom - top, dtype=np.float32)[:, None, None]
        picture[top:bottom] = (1 - slope) * np.array(a) + slope * np.array(b)
    if time != "day":  # evening light on the ground
        light = {"sunset": (1.0, 0.72, 0.62), "night": (0.28, 0.32, 0.5)}[time]
        picture[horizon:] *= np.array(light, dtype=np.float32)
    image = Image.fromarray(picture.astype(np.uint8))
    _furnish(image, name, time, horizon, rng)
    return _average(np.asarray(image, dtype=np.float32), CANVAS // side)


class _Brush:
    """Draws the furniture of a place at CANVAS × CANVAS, from the place's own random stream."""

    def __init__(self, image: Image.Image, time: str, horizon: int, rng: random.Random) -> None:
        self.pen, self.horizon, self.rng = ImageDraw.Draw(image), horizon, rng
        self.light = {"day": 1.0, "sunset": 0.7, "night": 0.35}[time]

    def at(self, low: float, high: float) -> int:
        """A random whole number from low up to high."""
        return int(low + (high - low) * self.rng.random())

    def tone(self, r: int, g: int, b: int) -> tuple[int, int, int]:
        """A colour in the light of the time of day."""
        return int(r * self.light), int(g * self.light), int(b * self.light)

    def circle(self, x: float, y: float, r: float, **how: Any) -> None:
        """A circle with centre (x, y) and radius r."""
        self.pen.ellipse((x - r, y - r, x + r, y + r), **how)


def _stars(brush: _Brush, count: int, lowest: int) -> None:
    for _ in range(count):
        x, y, r = brush.at(0, CANVAS), brush.at(0, lowest), brush.at(1, 3)
        brush.circle(x, y, r, fill=(235, 235, 215))


def _grass(brush: _Brush) -> None:
    for _ in range(60):
        x, y = brush.at(0, CANVAS), brush.at(brush.horizon + 8, CANVAS)
        brush.pen.line((x, y, x + brush.at(-3, 4), y - 9), fill=brush.tone(40, 125, 40), width=2)


def _beach(brush: _Brush) -> None:
    brush.pen.rectangle(
        (0, brush.horizon - 34, CANVAS, brush.horizon), fill=brush.tone(50, 140, 205)
    )
    brush.pen.line(
        (0, brush.horizon, CANVAS, brush.horizon), fill=brush.tone(245, 250, 255), width=5
    )


def _snow(brush: _Brush) -> None:
    for _ in range(50):
        x, y, r = brush.at(0, CANVAS), brush.at(0, CANVAS), brush.at(2, 5)
        brush.circle(x, y, r, fill=brush.tone(255, 255, 255))


def _sea(brush: _Brush) -> None:
    for _ in range(16):
        x, y = brush.at(-20, CANVAS), brush.at(brush.horizon + 8, CANVAS)
        brush.pen.arc((x, y, x + 44, y + 16), 200, 340, fill=brush.tone(170, 215, 240), width=4)


def _desert(brush: _Brush) -> None:
    for _ in range(2):
        x, h = brush.at(0, CANVAS), brush.at(20, 45)
        brush.pen.ellipse(
            (x - 130, brush.horizon - h, x + 130, brush.horizon + h), fill=brush.tone(222, 140, 62)
        )
    brush.pen.rectangle((0, brush.horizon + 30, CANVAS, CANVAS), fill=brush.tone(205, 118, 50))


def _city(brush: _Brush) -> None:
    for x in range(-10, CANVAS, 42):
        top, wall = brush.at(brush.horizon - 130, brush.horizon - 50), brush.at(80, 115)
        brush.pen.rectangle((x, top, x + 38, brush.horizon), fill=brush.tone(wall, wall, wall + 28))
        for wy in range(top + 8, brush.horizon - 8, 18):
            for wx in (x + 7, x + 23):
                lit = (255, 225, 130) if brush.rng.random() < 0.35 else brush.tone(150, 160, 180)
                brush.pen.rectangle((wx, wy, wx + 8, wy + 9), fill=lit)
    for x in range(brush.at(-40, 0), CANVAS, 70):
        brush.pen.rectangle(
            (x, brush.horizon + 52, x + 36, brush.horizon + 58), fill=brush.tone(225, 220, 190)
        )


def _room(brush: _Brush) -> None:
    x = brush.at(20, 160)
    brush.pen.rectangle(
        (x, 28, x + 70, 100), fill=(165, 215, 250), outline=(255, 255, 255), width=7
    )
    brush.pen.line((x + 35, 28, x + 35, 100), fill=(255, 255, 255), width=5)
    brush.pen.rectangle((0, brush.horizon - 8, CANVAS, brush.horizon), fill=(255, 250, 245))
    for y in range(brush.horizon + 24, CANVAS, 30):
        brush.pen.line((0, y, CANVAS, y), fill=(135, 85, 52), width=3)


def _sky(brush: _Brush) -> None:
    for _ in range(6):
        x, y = brush.at(-20, CANVAS), brush.at(10, CANVAS - 30)
        for dx, r in ((0, 18), (22, 25), (48, 18)):
            brush.pen.ellipse(
                (x + dx - r, y - r, x + dx + r, y + r), fill=brush.tone(255, 255, 255)
            )


def _forest(brush: _Brush) -> None:
    for x in range(brush.at(-20, 0), CANVAS, 46):
        w = brush.at(12, 22)
        brush.pen.rectangle(
            (x, 0, x + w, brush.horizon + brush.at(0, 22)), fill=brush.tone(75, 55, 38)
        )
    for _ in range(22):
        x, y, r = brush.at(0, CANVAS), brush.at(-10, 55), brush.at(18, 36)
        brush.circle(x, y, r, fill=brush.tone(25, brush.at(80, 120), 45))


def _mountain(brush: _Brush) -> None:
    for x in (brush.at(-20, 60), brush.at(110, 160), brush.at(200, 270)):
        h, w = brush.at(90, 130), brush.at(80, 110)
        peak = brush.horizon - h
        brush.pen.polygon(
            [(x - w, brush.horizon), (x, peak), (x + w, brush.horizon)],
            fill=brush.tone(110, 110, 130),
        )
        cap = [(x - w * 0.27, peak + h * 0.27), (x, peak), (x + w * 0.27, peak + h * 0.27)]
        brush.pen.polygon(cap, fill=brush.tone(245, 248, 255))


def _underwater(brush: _Brush) -> None:
    for _ in range(14):
        x, y, r = brush.at(0, CANVAS), brush.at(0, CANVAS - 40), brush.at(4, 9)
        brush.circle(x, y, r, outline=(190, 235, 245), width=3)
    for x in range(brush.at(0, 20), CANVAS, 52):
        stem = [(x, CANVAS), (x + 8, CANVAS - 26), (x - 3, CANVAS - 50)]
        brush.pen.line(stem, fill=(30, 150, 100), width=8)


FURNITURE: dict[str, Callable[[_Brush], None]] = {
    "grass": _grass,
    "beach": _beach,
    "snow": _snow,
    "sea": _sea,
    "desert": _desert,
    "city": _city,
    "room": _room,
    "sky": _sky,
    "forest": _forest,
    "mountain": _mountain,
    "underwater": _underwater,
}


def _furnish(image: Image.Image, name: str, time: str, horizon: int, rng: random.Random) -> None:
    """Draw what makes a place that place: buildings, waves, stars, trunks …"""
    brush = _Brush(image, time, horizon, rng)
    if name == "space":
        _stars(brush, 70, CANVAS)
    elif time == "night" and name not in TIMELESS:
        _stars(brush, 25, horizon - 10)
    if name in FURNITURE:
        FURNITURE[name](brush)
