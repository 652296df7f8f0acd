"""Scenes: pictures with captions and exact ground truth, composed from emoji art (see data/README.md).

Item i of a split is the same picture, caption and truth in every process and on every machine:
each item draws from its own random stream, seeded by the split and i. There is no state.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.utils.data import Dataset

DATA = Path(__file__).resolve().parent.parent / "data"
SPRITE = 128  # pixels: the side of a sprite in the atlas, 16 sprites a row
CANVAS = 256  # pixels: places are drawn at this side and averaged down
SPLITS = ("train", "seen", "heldout", "words", "all")
STARTER_STYLES = ("3d", "flat")
TIMELESS = ("space", "room", "underwater")  # places that look the same by day and by night


@dataclass(frozen=True)
class Thing:
    """One object of a scene. None: in a truth "its natural look", in a prompt "not asked for"."""

    key: str
    colour: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class Scene:
    """What is in a picture, or what a prompt asks for (then None means "not asked for").

    things are in reading order: left to right in a row, top to bottom in a column.
    """

    things: tuple[Thing, ...]
    arrangement: str | None = None  # "row" or "column"
    style: str | None = None
    place: str | None = None
    time: str | None = None

    def asks(self, truth: Scene) -> dict[str, bool]:
        """For every attribute that this prompt names: does `truth` show it?"""
        asked, shown = self.things, truth.things
        if self.arrangement is None:  # no order asked for: compare as sets
            asked = tuple(sorted(asked, key=lambda t: t.key))
            shown = tuple(sorted(shown, key=lambda t: t.key))
        pairs = list(zip(asked, shown, strict=False))
        right = {
            "number": len(asked) == len(shown),
            "object": sorted({t.key for t in asked}) == sorted({t.key for t in shown}),
        }
        if self.arrangement is not None:
            right["position"] = self.arrangement == truth.arrangement and all(
                a.key == s.key for a, s in pairs
            )
        for name in ("colour", "size"):
            if any(getattr(t, name) for t in asked):
                right[name] = all(getattr(a, name) in (None, getattr(s, name)) for a, s in pairs)
        for name in ("style", "place", "time"):
            if getattr(self, name) is not None:
                right[name] = getattr(self, name) == getattr(truth, name)
        return right


class Item(NamedTuple):
    image: torch.Tensor  # (3, size, size) in [-1, 1]
    caption: str
    scene: Scene  # the truth
    asked: Scene  # what the caption names of it


@lru_cache(maxsize=1)
def objects() -> dict[str, dict]:
    """Every object by key, with its names in both languages, in the order of the atlas."""
    rows = json.loads((DATA / "scenes" / "objects.json").read_text(encoding="utf-8"))
    return {row["key"]: row for row in rows}


@lru_cache(maxsize=1)
def grammar() -> dict[str, dict]:
    """The words of styles, places, times, colours, sizes, numbers and verbs."""
    return json.loads((DATA / "scenes" / "grammar.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=None)
def _in_hundred(words: str) -> int:
    return zlib.crc32(words.encode()) % 100


def held_out(scene: Scene) -> bool:
    """Is one of the scene's combinations never shown in training? Fixed once, by a hash of its words."""
    keys = [t.key for t in scene.things]
    return (
        any(_in_hundred(f"{k} in {scene.place}") < 10 for k in keys)
        or any(_in_hundred(f"{k} as {scene.style}") < 5 for k in keys)
        or (len(set(keys)) > 1 and _in_hundred(f"{keys[0]} before {keys[1]}") < 10)
    )


class Scenes(Dataset[Item]):
    """A map-style data set of captioned scenes.

    size: side in pixels, 4 to 256. split: "train" and "seen" share their combinations, "heldout" has
    only combinations that never occur in them, "words" names objects by synonyms that never occur in
    a training caption, "all" knows no limits (the judge learns from it).
    vocabulary: "starter" (40 objects, 2 styles, 8 places, left and right) or "whole" (all objects,
    4 styles, 12 places, colours, sizes, times of day, above and below); objects and places narrow it.
    Raises ValueError for a split, object, place, language or size that does not exist.
    """

    def __init__(
        self,
        size: int = 64,
        split: str = "train",
        vocabulary: str = "starter",
        objects: Sequence[str] | None = None,
        places: Sequence[str] | None = None,
        styles: Sequence[str] | None = None,
        languages: Sequence[str] = ("en", "zh"),
        length: int = 1_000_000,
        seed: int = 0,
    ) -> None:
        table, words = globals()["objects"](), grammar()
        self.whole = vocabulary == "whole"
        self.size, self.split, self.length, self.seed = size, split, length, seed
        self.vocabulary, self.languages = vocabulary, tuple(languages)
        self.objects = tuple(
            objects or (k for k, row in table.items() if self.whole or row["starter"])
        )
        self.places = tuple(
            places or (k for k, row in words["places"].items() if self.whole or row["starter"])
        )
        self.styles = tuple(styles or (words["styles"] if self.whole else STARTER_STYLES))
        for name, values, known in (
            ("split", [split], SPLITS),
            ("vocabulary", [vocabulary], ("starter", "whole")),
            ("object", self.objects, table),
            ("place", self.places, words["places"]),
            ("style", self.styles, words["styles"]),
            ("language", self.languages, ("en", "zh")),
        ):
            for value in values:
                if value not in known:
                    raise ValueError(f"no {name} is called {value!r}; there are: {', '.join(known)}")
        if not 4 <= size <= CANVAS or CANVAS % size:
            raise ValueError(f"size must divide {CANVAS} and be at least 4, not {size}")
        if split == "words":
            self.objects = tuple(
                k for k in self.objects if all(table[k]["synonyms"][lang] for lang in self.languages)
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Item:
        if not 0 <= i < self.length:
            raise IndexError(f"item {i} of a data set of {self.length}")
        scene, asked, caption, rng = self.describe(i)
        return Item(to_tensor(self.draw(scene, rng)), caption, scene, asked)

    def describe(self, i: int) -> tuple[Scene, Scene, str, random.Random]:
        """The truth, what is asked for, the caption and the random stream of item i, not yet drawn."""
        rng = random.Random(f"{self.seed} {self.split} {i}")
        scene = self._invent(rng)
        while self.split != "all" and held_out(scene) != (self.split == "heldout"):
            scene = self._invent(rng)
        asked = self._ask(scene, rng)
        language = _pick(rng, self.languages)
        return scene, asked, caption(asked, language, rng, self.split == "words"), rng

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, list[str]]:
        """Pictures (B, 3, size, size) in [-1, 1] and captions of many items at once."""
        described = [self.describe(i) for i in indices]
        pictures = np.stack([self.draw(scene, rng) for scene, _, _, rng in described])
        return to_tensor(pictures), [text for _, _, text, _ in described]

    def _invent(self, rng: random.Random) -> Scene:
        keys = [_pick(rng, self.objects)]
        u, arrangement = rng.random(), "row"
        if u < 0.45:  # two different things
            keys.append(_pick(rng, self.objects))
            if self.whole and rng.random() < 0.35:
                arrangement = "column"
        elif u < 0.65:
            keys *= 2 if rng.random() < 0.5 else 3
        things = []
        for key in keys if len(set(keys)) > 1 else keys[:1]:
            colour = _pick(rng, tuple(grammar()["colours"])) if rng.random() < 0.3 else None
            size = _pick(rng, tuple(grammar()["sizes"])) if rng.random() < 0.2 else None
            things.append(Thing(key, colour, size) if self.whole else Thing(key))
        if len(things) < len(keys):
            things = [replace(things[0], size=None)] * len(keys)
        place = _pick(rng, self.places)
        time = "day" if not self.whole or rng.random() < 0.6 else _pick(rng, ("sunset", "night"))
        return Scene(tuple(things), arrangement, _pick(rng, self.styles), place, time)

    def _ask(self, scene: Scene, rng: random.Random) -> Scene:
        """Name only some of what is there, as people do."""
        two = len({t.key for t in scene.things}) > 1
        timed = self.whole and scene.place not in TIMELESS
        return replace(
            scene,
            arrangement=scene.arrangement if two and rng.random() < 0.75 else None,
            style=scene.style if rng.random() < 0.55 else None,
            place=scene.place if rng.random() < 0.9 else None,
            time=scene.time if timed and (scene.time != "day" or rng.random() < 0.1) else None,
        )

    def draw(self, scene: Scene, rng: random.Random) -> np.ndarray:
        """The picture, uint8 (size, size, 3). Sides under 64 are averages of the picture at 64."""
        side = max(self.size, 64)
        picture = _place(scene.place or "grass", scene.time or "day", int(rng.random() * 16), side)
        picture = picture.copy()
        for thing, (x, y, scale) in _layout(scene, rng):
            paste(picture, _sprite(thing.key, scene.style or "3d", thing.colour, scale, side), x, y)
        if self.size < side:
            picture = _average(picture, side // self.size)
        return (picture + 0.5).astype(np.uint8)


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """uint8 (…, H, W, 3) → float (…, 3, H, W) in [-1, 1]."""
    channels_first = np.ascontiguousarray(np.moveaxis(picture, -1, -3))
    return torch.from_numpy(channels_first).float().div_(127.5).sub_(1)


def _pick(rng: random.Random, options: Sequence[str]) -> str:
    # not rng.choice: only random() is promised to be the same in every version of Python
    return options[int(rng.random() * len(options))]


# --- the caption ------------------------------------------------------------------------------


def caption(asked: Scene, language: str, rng: random.Random, synonyms: bool = False) -> str:
    """Say what is asked for, in English ("en") or Chinese ("zh"), in one of several phrasings."""
    words = grammar()

    def say(kind: str, name: str | None) -> str:
        return _pick(rng, words[kind][name][language]) if name else ""

    style = words["styles"][asked.style][language][0] if asked.style else ""
    where, when = say("places", asked.place), say("times", asked.time)
    style_at = rng.random() if style else 1.0  # below 0.4: before the noun; below 0.7: in front

    def noun(things: Sequence[Thing], adjective: str = "") -> str:
        row, n = objects()[things[0].key], len(things)
        synonym = _pick(rng, row["synonyms"][language]) if synonyms else ""
        colour, size = say("colours", things[0].colour), say("sizes", things[0].size)
        if language == "zh":
            colour = colour and colour.removesuffix("色") + "色的"
            adjective = adjective and adjective + "风格的"
            count = words["numbers"]["zh"][n - 1] + row["measure"]
            return f"{count}{size}{colour}{adjective}{synonym or row['zh']}"
        name = synonym or row["en"]
        if n > 1:
            name = _plural(synonym) if synonym else row["plural"]
        phrase = " ".join(w for w in (size, colour, adjective, name) if w)
        vowel = phrase[0] in "aeiou" and not phrase.startswith("unicorn") or phrase[:4] == "hour"
        article = "an" if n == 1 and vowel else words["numbers"]["en"][n - 1]
        return f"{article} {phrase}"

    near = style if style_at < 0.4 else ""
    if len({t.key for t in asked.things}) > 1:
        first, second = (noun([t], near) for t in asked.things)
        core = _relate(first, second, asked.arrangement, language, rng)
        verb = ""
    else:
        core = noun(asked.things, near)
        verb = _pick(rng, words["verbs"][language]) if rng.random() < 0.25 else ""
    front = rng.random() < 0.4
    if language == "zh":
        if not where:
            text = core + (f"在{verb}" if verb else "")
        elif front or asked.arrangement or len({t.key for t in asked.things}) > 1:
            link = "，" if asked.arrangement else "有"
            text = f"{where}{link}{core}" + (f"在{verb}" if verb else "")
        else:
            text = f"{core}在{where}{verb}"
        text = f"{when}，{text}" if when else text
        return text if style_at < 0.4 or not style else f"{style}风格，{text}"
    setting = " ".join(w for w in (where, when) if w)
    core = f"{core} {verb}".strip()
    if front and setting:
        text = f"{setting}, {core}"
    else:
        text = f"{core} {setting}".strip()
    if not style or style_at < 0.4:
        return text
    return f"{style} style, {text}" if style_at < 0.7 else f"{text}, {style} style"


def _plural(noun: str) -> str:
    if " of " in noun:  # pairs of stockings
        first, rest = noun.split(" of ", 1)
        return f"{_plural(first)} of {rest}"
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


def _relate(a: str, b: str, arrangement: str | None, language: str, rng: random.Random) -> str:
    """Two things and how they stand: `a` is the left or upper one."""
    forms = {
        ("en", None): ("{a} and {b}", "{b} and {a}", "{a} next to {b}"),
        ("en", "row"): ("{a} to the left of {b}", "{a} on the left of {b}", "{b} to the right of {a}"),
        ("en", "column"): ("{a} above {b}", "{b} below {a}", "{b} under {a}"),
        ("zh", None): ("{a}和{b}", "{b}和{a}"),
        ("zh", "row"): ("{a}在{b}的左边", "{a}在{b}左侧", "{b}在{a}的右边"),
        ("zh", "column"): ("{a}在{b}的上面", "{b}在{a}的下面"),
    }
    return _pick(rng, forms[language, arrangement]).format(a=a, b=b)


# --- the picture ------------------------------------------------------------------------------


def _layout(
    scene: Scene, rng: random.Random
) -> list[tuple[Thing, tuple[float, float, float]]]:
    """Centre x, y and scale of each thing, as shares of the side; none is under 6 pixels of 16."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    n, placed = len(scene.things), []
    for k, thing in enumerate(scene.things):
        low, high = ((0.5, 0.85), (0.42, 0.5), (0.375, 0.42))[n - 1]
        if thing.size == "small":
            low, high = 0.375, 0.4
        elif thing.size == "big":
            low, high = (0.75, 0.9) if n == 1 else (0.52, 0.58)
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


def sprite(key: str, style: str, colour: str | None = None) -> Image.Image:
    """One object's artwork, RGBA 128×128; tinted where a colour is given."""
    row, column = divmod(_index()[key], 16)
    box = (column * SPRITE, row * SPRITE, (column + 1) * SPRITE, (row + 1) * SPRITE)
    image = _atlas(style).crop(box)
    if colour is None:
        return image
    rgba = np.asarray(image, dtype=np.float32)
    light = rgba[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    tint = np.array(grammar()["colours"][colour]["rgb"], dtype=np.float32)
    # shadows fall to a third of the tint, highlights rise towards white
    shade = np.clip(0.35 + light * 1.1, 0, 1)[..., None] * tint
    shade += np.clip(light * 2 - 1.5, 0, 1)[..., None] * (255 - shade) * 0.6
    return Image.fromarray(np.dstack([shade, rgba[..., 3]]).astype(np.uint8), "RGBA")


@lru_cache(maxsize=30_000)
def _sprite(key: str, style: str, colour: str | None, scale: float, side: int) -> np.ndarray:
    """A sprite at its size in the picture, alpha premultiplied: uint8 (px, px, 4)."""
    px = round(scale * side)
    image = sprite(key, style, colour).convert("RGBa")
    return np.asarray(image.resize((px, px), Image.Resampling.BOX if px < 64 else Image.Resampling.BICUBIC))


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


def _furnish(pen: ImageDraw.ImageDraw, name: str, time: str, horizon: int, rng: random.Random) -> None:
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
            top = at(horizon - 130, horizon - 50)
            pen.rectangle((x, top, x + 38, horizon), fill=tone(*[at(80, 115)] * 2, at(110, 140)))
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
            pen.line([(x, CANVAS), (x + 8, CANVAS - 26), (x - 3, CANVAS - 50)], fill=(30, 150, 100), width=8)


# --- a folder of one's own --------------------------------------------------------------------


class Folder(Dataset[tuple[torch.Tensor, str]]):
    """Your own pictures: an `imagefolder` with metadata.jsonl (file_name, text), read by `datasets`.

    Pictures are cropped to their middle square and averaged to size × size. Raises ValueError, with a
    sentence, where the folder is missing or empty, has no captions, or holds a picture that is damaged.
    """

    def __init__(self, folder: str | Path, size: int) -> None:
        self.folder, self.size = Path(folder), size
        if not self.folder.is_dir():
            raise ValueError(f"{folder} is no folder: give one that holds pictures and metadata.jsonl")
        if not (self.folder / "metadata.jsonl").is_file():
            raise ValueError(
                f"{folder} has no captions: put a metadata.jsonl beside the pictures, with lines like "
                '{"file_name": "cat.png", "text": "a cat on the grass"}'
            )
        try:
            from datasets import disable_progress_bars, load_dataset
        except ImportError as error:
            raise ValueError("your own pictures need one more package: pip install datasets") from error
        disable_progress_bars()
        try:
            rows = load_dataset("imagefolder", data_dir=str(folder), split="train")
        except Exception as error:  # datasets raises many kinds; its reason is the last line
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise ValueError(f"{folder} can't be read as an imagefolder: {reason[0]}") from error
        column = next((c for c in ("text", "caption") if c in rows.column_names), None)
        if column is None:
            raise ValueError(f"{folder}/metadata.jsonl has no field called text")
        self.captions: list[str] = [(text or "").strip() for text in rows[column]]
        for i, text in enumerate(self.captions):
            if not text:
                raise ValueError(f"line {i + 1} of {folder}/metadata.jsonl has an empty caption")
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, str]:
        try:
            image = self.rows[i]["image"].convert("RGB")
        except (OSError, SyntaxError) as error:
            raise ValueError(f"picture {i + 1} of {self.folder} can't be decoded: {error}") from error
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        small = square.resize((self.size, self.size), Image.Resampling.BOX)
        return to_tensor(np.array(small)), self.captions[i]

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, list[str]]:
        """Pictures (B, 3, size, size) in [−1, 1] and their captions."""
        images, captions = zip(*(self[i] for i in indices), strict=True)
        return torch.stack(images), list(captions)
