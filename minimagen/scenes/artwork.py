"""The pictures of scenes: emoji art laid over places that are drawn by code."""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from ..assets import DATA
from .scene import Scene, Thing, grammar, objects

SPRITE = 128  # pixels: the side of a sprite in the atlas, 16 sprites a row
CANVAS = 256  # pixels: places are drawn at this side and averaged down
TIMELESS = ("space", "room", "underwater")  # places that look the same by day and by night


def draw(scene: Scene, rng: random.Random, size: int) -> np.ndarray:
    """The picture, uint8 (size, size, 3). Sides under 64 are averages of the picture at 64."""
    side = max(size, 64)
    picture = _place(scene.place or "grass", scene.time or "day", int(rng.random() * 16), side)
    picture = picture.copy()
    for thing, (x, y, scale) in layout(scene, rng):
        paste(picture, _sprite(thing.key, scene.style or "3d", thing.colour, scale, side), x, y)
    if size < side:
        picture = _average(picture, side // size)
    return (picture + 0.5).astype(np.uint8)


def layout(scene: Scene, rng: random.Random) -> list[tuple[Thing, tuple[float, float, float]]]:
    """Centre x, y and scale of each thing, as shares of the side; none is under 6 pixels of 16."""

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


@lru_cache(maxsize=8_000)  # at 256×256, under a gigabyte
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
    """Lay a premultiplied sprite over a float picture (side, side, 3), in place, centre at (x, y)."""
    side, px = picture.shape[0], rgba.shape[0]
    left, top = round(x * side - px / 2), round(y * side - px / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + px, side), min(top + px, side)
    part = rgba[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    under = picture[y0:y1, x0:x1]
    under *= 1 - part[..., 3:] / 255
    under += part[..., :3]


def _average(picture: np.ndarray, factor: int) -> np.ndarray:
    side = picture.shape[0] // factor
    return picture.reshape(side, factor, side, factor, 3).mean(axis=(1, 3))


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
    _furnish(ImageDraw.Draw(image), name, time, horizon, rng)
    return _average(np.asarray(image, dtype=np.float32), CANVAS // side)


def _furnish(
    pen: ImageDraw.ImageDraw, name: str, time: str, horizon: int, rng: random.Random
) -> None:
    """What makes a place that place: buildings, waves, stars, trunks …"""

    def at(low: float, high: float) -> int:
        return int(low + (high - low) * rng.random())

    if name == "space" or (time == "night" and name not in TIMELESS):
        for _ in range(70 if name == "space" else 25):
            x, y, r = at(0, CANVAS), at(0, CANVAS if name == "space" else horizon - 10), at(1, 3)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=(235, 235, 215))
    dark = {"day": 1.0, "sunset": 0.7, "night": 0.35}[time]

    def tone(r: int, g: int, b: int) -> tuple[int, int, int]:
        return int(r * dark), int(g * dark), int(b * dark)

    if name == "grass":
        for _ in range(60):
            x, y = at(0, CANVAS), at(horizon + 8, CANVAS)
            pen.line((x, y, x + at(-3, 4), y - 9), fill=tone(40, 125, 40), width=2)
    elif name == "beach":
        pen.rectangle((0, horizon - 34, CANVAS, horizon), fill=tone(50, 140, 205))
        pen.line((0, horizon, CANVAS, horizon), fill=tone(245, 250, 255), width=5)
    elif name == "snow":
        for _ in range(50):
            x, y, r = at(0, CANVAS), at(0, CANVAS), at(2, 5)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=tone(255, 255, 255))
    elif name == "sea":
        for _ in range(16):
            x, y = at(-20, CANVAS), at(horizon + 8, CANVAS)
            pen.arc((x, y, x + 44, y + 16), 200, 340, fill=tone(170, 215, 240), width=4)
    elif name == "desert":
        for _ in range(2):
            x, h = at(0, CANVAS), at(20, 45)
            pen.ellipse((x - 130, horizon - h, x + 130, horizon + h), fill=tone(222, 140, 62))
        pen.rectangle((0, horizon + 30, CANVAS, CANVAS), fill=tone(205, 118, 50))
    elif name == "city":
        for x in range(-10, CANVAS, 42):
            top, wall = at(horizon - 130, horizon - 50), at(80, 115)
            pen.rectangle((x, top, x + 38, horizon), fill=tone(wall, wall, wall + 28))
            for wy in range(top + 8, horizon - 8, 18):
                for wx in (x + 7, x + 23):
                    lit = (255, 225, 130) if rng.random() < 0.35 else tone(150, 160, 180)
                    pen.rectangle((wx, wy, wx + 8, wy + 9), fill=lit)
        for x in range(at(-40, 0), CANVAS, 70):
            pen.rectangle((x, horizon + 52, x + 36, horizon + 58), fill=tone(225, 220, 190))
    elif name == "room":
        x = at(20, 160)
        pen.rectangle((x, 28, x + 70, 100), fill=(165, 215, 250), outline=(255, 255, 255), width=7)
        pen.line((x + 35, 28, x + 35, 100), fill=(255, 255, 255), width=5)
        pen.rectangle((0, horizon - 8, CANVAS, horizon), fill=(255, 250, 245))
        for y in range(horizon + 24, CANVAS, 30):
            pen.line((0, y, CANVAS, y), fill=(135, 85, 52), width=3)
    elif name == "sky":
        for _ in range(6):
            x, y = at(-20, CANVAS), at(10, CANVAS - 30)
            for dx, r in ((0, 18), (22, 25), (48, 18)):
                pen.ellipse((x + dx - r, y - r, x + dx + r, y + r), fill=tone(255, 255, 255))
    elif name == "forest":
        for x in range(at(-20, 0), CANVAS, 46):
            w = at(12, 22)
            pen.rectangle((x, 0, x + w, horizon + at(0, 22)), fill=tone(75, 55, 38))
        for _ in range(22):
            x, y, r = at(0, CANVAS), at(-10, 55), at(18, 36)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=tone(25, at(80, 120), 45))
    elif name == "mountain":
        for x in (at(-20, 60), at(110, 160), at(200, 270)):
            h, w = at(90, 130), at(80, 110)
            peak = horizon - h
            pen.polygon([(x - w, horizon), (x, peak), (x + w, horizon)], fill=tone(110, 110, 130))
            cap = [(x - w * 0.27, peak + h * 0.27), (x, peak), (x + w * 0.27, peak + h * 0.27)]
            pen.polygon(cap, fill=tone(245, 248, 255))
    elif name == "underwater":
        for _ in range(14):
            x, y, r = at(0, CANVAS), at(0, CANVAS - 40), at(4, 9)
            pen.ellipse((x - r, y - r, x + r, y + r), outline=(190, 235, 245), width=3)
        for x in range(at(0, 20), CANVAS, 52):
            stem = [(x, CANVAS), (x + 8, CANVAS - 26), (x - 3, CANVAS - 50)]
            pen.line(stem, fill=(30, 150, 100), width=8)
