"""Scenes: pictures with captions and exact ground truth, composed from emoji art (see data/README.md).

Item i of a split is the same picture, caption and truth in every process and on every machine:
each item draws from its own random stream, seeded by the split and i. There is no state.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from ..images import to_tensor
from .artwork import CANVAS, TIMELESS, draw
from .captions import caption, pick
from .everyday import VERSIONS, widened
from .scene import Scene, Thing, grammar
from .scene import objects as _objects

SPLITS = ("train", "seen", "heldout", "words", "all")
STARTER_STYLES = ("3d", "flat")


class Item(NamedTuple):
    """What a data set of scenes gives for an index."""

    image: torch.Tensor  # (3, size, size) in [-1, 1]
    caption: str
    scene: Scene  # the truth
    asked: Scene  # what the caption names of it


@cache
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
    vocabulary: "starter" (40 objects, 2 styles, 8 places, left and right) or "whole" (100 objects,
    4 styles, 12 places, colours, sizes, times of day, above and below); objects, places and styles, where
    given, take the place of its own: any of the 229 objects can be named.
    What training meets more or less of: pairs is the share of scenes with two kinds of things, styled the share
    of captions that name the style, starter the share of the starter vocabulary's scenes in the whole one.
    version, of the training captions: 1 are the grammar's own, 2 are closer to what people type (everyday.py).
    The pictures are the same, and so are the captions of every other split.
    Raises ValueError for a split, object, place, language, size, share or version that can not be.
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
        pairs: float = 0.45,
        styled: float = 0.55,
        starter: float = 0.0,
        version: int = 1,
    ) -> None:
        table, words = _objects(), grammar()
        self.whole = vocabulary == "whole"
        self.size, self.split, self.length, self.seed = size, split, length, seed
        self.vocabulary, self.languages = vocabulary, tuple(languages)
        self.pairs, self.styled, self.starter = pairs, styled, starter
        self.identity = {"split": split, "vocabulary": vocabulary, "seed": seed}
        self.identity |= {"pairs": pairs, "styled": styled, "starter": starter}
        self.version = version
        if version > 1:  # runs from before there were versions say nothing of it
            self.identity["version"] = version
        self.objects = tuple(objects or (k for k, row in table.items() if row.get(vocabulary)))
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
                    raise ValueError(f"no {name} is called {value!r}: give {', '.join(known)}")
        if not 4 <= size <= CANVAS or CANVAS % size:
            raise ValueError(f"size must divide {CANVAS} and be at least 4, not {size}")
        if version not in VERSIONS:
            raise ValueError(f"captions have the versions {VERSIONS}, not {version!r}")
        if not all(0 <= share <= 1 for share in (pairs, styled, starter)):
            raise ValueError("pairs, styled and starter are shares: from 0 to 1")
        self.simple = Scenes(size, split, pairs=pairs) if starter else None
        if split == "words":
            told = {k: [table[k]["synonyms"][z] for z in self.languages] for k in self.objects}
            self.objects = tuple(k for k, synonyms in told.items() if all(synonyms))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Item:
        if not 0 <= i < self.length:
            raise IndexError(f"item {i} of a data set of {self.length}")
        scene, asked, caption, rng = self.describe(i)
        return Item(to_tensor(draw(scene, rng, self.size)), caption, scene, asked)

    def describe(self, i: int) -> tuple[Scene, Scene, str, random.Random]:
        """The truth, what is asked for, the caption and the random stream of item i, not yet drawn."""
        rng = random.Random(f"{self.seed} {self.split} {i}")
        scene, tries = self._invent(rng), 0
        while self.split != "all" and held_out(scene) != (self.split == "heldout"):
            scene, tries = self._invent(rng), tries + 1
            if tries > 10_000:
                raise ValueError(f"no scene of these objects and places is in {self.split!r}")
        asked = self._ask(scene, rng)
        language = pick(rng, self.languages)
        text = caption(asked, language, rng, self.split == "words")
        if self.version == 2 and self.split == "train":
            # a stream of its own: the picture draws from `rng`, and is the same in every version
            words = random.Random(f"{self.seed} {self.split} {i} words")
            text = widened(asked, language, text, words)
        return scene, asked, text, rng

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, list[str]]:
        """Pictures (B, 3, size, size) in [-1, 1] and captions of many items at once."""
        described = [self.describe(i) for i in indices]
        pictures = np.stack([draw(scene, rng, self.size) for scene, _, _, rng in described])
        return to_tensor(pictures), [text for _, _, text, _ in described]

    def _invent(self, rng: random.Random) -> Scene:
        if self.simple is not None and rng.random() < self.starter:
            return self.simple._invent(rng)
        keys = [pick(rng, self.objects)]
        u, arrangement = rng.random(), "row"
        if u < self.pairs:  # two things, mostly different ones
            keys.append(pick(rng, self.objects))
            if self.whole and rng.random() < 0.35:
                arrangement = "column"
        elif u < self.pairs + (1 - self.pairs) * 4 / 11:
            keys *= 2 if rng.random() < 0.5 else 3
        things = []
        for key in keys if len(set(keys)) > 1 else keys[:1]:
            colour = pick(rng, tuple(grammar()["colours"])) if rng.random() < 0.3 else None
            size = pick(rng, tuple(grammar()["sizes"])) if rng.random() < 0.2 else None
            alone = len(keys) == 1  # two things have no room to be big or small
            things.append(Thing(key, colour, size if alone else None) if self.whole else Thing(key))
        if len(things) < len(keys):
            things *= len(keys)
        place = pick(rng, self.places)
        time = "day" if not self.whole or rng.random() < 0.6 else pick(rng, ("sunset", "night"))
        return Scene(tuple(things), arrangement, pick(rng, self.styles), place, time)

    def _ask(self, scene: Scene, rng: random.Random) -> Scene:
        """Name only some of what is there, as people do."""
        two = len({t.key for t in scene.things}) > 1
        timed = self.whole and scene.place not in TIMELESS
        tinted = all(t.colour for t in scene.things)  # hardly anything of the style is left to see
        return replace(
            scene,
            arrangement=scene.arrangement if two and rng.random() < 0.75 else None,
            style=scene.style if rng.random() < self.styled and not tinted else None,
            place=scene.place if rng.random() < 0.9 else None,
            time=scene.time if timed and (scene.time != "day" or rng.random() < 0.1) else None,
        )
