"""Scenes: images with captions and exact ground truth, composed from emoji art (see data/README.md).

Item i of a split is the same image, caption and truth in every process and on every machine: each item has its
own random stream, seeded by the seed, the split and i. There is no state.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from ..config import CAPTION_VERSIONS, VOCABULARIES, SceneMix
from ..errors import UserError
from ..images import to_tensor
from .artwork import CANVAS, TIMELESS, draw
from .captions import caption, pick
from .everyday import widened
from .scene import Scene, Table, Thing, grammar
from .scene import objects as all_objects

SPLITS = ("train", "seen", "heldout", "words", "all")
STARTER_STYLES = ("3d", "flat")


class Item(NamedTuple):
    """An image with its caption and ground truth."""

    image: torch.Tensor  # (3, size, size) in [−1, 1]
    caption: str
    scene: Scene  # the ground truth
    asked: Scene  # what the caption names of it


@cache
def _in_hundred(words: str) -> int:
    return zlib.crc32(words.encode()) % 100


def held_out(scene: Scene) -> bool:
    """Whether one of the scene's combinations is held out of training; fixed by a hash of its words."""
    keys = [t.key for t in scene.things]
    return (
        any(_in_hundred(f"{k} in {scene.place}") < 10 for k in keys)
        or any(_in_hundred(f"{k} as {scene.style}") < 5 for k in keys)
        or (len(set(keys)) > 1 and _in_hundred(f"{keys[0]} before {keys[1]}") < 10)
    )


@dataclass(eq=False, repr=False)
class Scenes(Dataset[Item]):
    """A map-style data set of captioned scenes, each an Item.

    split: "train" and "seen" share their combinations, "heldout" has only combinations that never occur in
    them, "words" names objects by synonyms that never occur in a training caption, and "all" has no limits (the
    judge is trained on it). vocabulary: "starter" has 40 objects, 2 styles, 8 places, left and right; "whole" 100
    objects, 4 styles, 12 places, colours, sizes, times of day, above and below. version, of the training
    captions: 1 are the grammar's, 2 and 3 are closer to what people type (everyday.py); images, and captions of
    other splits, do not depend on it. Raises UserError for values that do not exist or do not fit.
    """

    size: int = 64  # resolution of the images, 4 to 256
    split: str = "train"
    vocabulary: str = "starter"
    objects: Sequence[str] = ()  # any of the 229 objects; empty: those of the vocabulary
    places: Sequence[str] = ()  # empty: those of the vocabulary
    styles: Sequence[str] = ()  # empty: those of the vocabulary
    languages: Sequence[str] = ("en", "zh")
    length: int = 1_000_000
    seed: int = 0
    pairs: float = SceneMix.pairs
    styled: float = SceneMix.styled
    starter: float = SceneMix.starter
    version: int = 1

    def __post_init__(self) -> None:
        table, words = all_objects(), grammar()
        self.whole = self.vocabulary == "whole"
        self.languages = tuple(self.languages)
        self.objects = tuple(
            self.objects or (k for k, row in table.items() if row.get(self.vocabulary))
        )
        self.places = tuple(
            self.places or (k for k, row in words["places"].items() if self.whole or row["starter"])
        )
        self.styles = tuple(self.styles or (words["styles"] if self.whole else STARTER_STYLES))
        self._check(table, words)
        simple = self.starter > 0
        self.simple = Scenes(self.size, self.split, pairs=self.pairs) if simple else None
        if self.split == "words":
            synonyms = {k: [table[k]["synonyms"][z] for z in self.languages] for k in self.objects}
            self.objects = tuple(k for k, each in synonyms.items() if all(each))

    def _check(self, table: Table, words: Table) -> None:
        for name, values, known in (
            ("split", [self.split], SPLITS),
            ("vocabulary", [self.vocabulary], VOCABULARIES),
            ("object", self.objects, table),
            ("place", self.places, words["places"]),
            ("style", self.styles, words["styles"]),
            ("language", self.languages, ("en", "zh")),
        ):
            for value in values:
                if value not in known:
                    raise UserError(f"no {name} is called {value!r}: give {', '.join(known)}")
        if not 4 <= self.size <= CANVAS or CANVAS % self.size:
            raise UserError(f"size must divide {CANVAS} and be at least 4, not {self.size}")
        if self.version not in CAPTION_VERSIONS:
            raise UserError(f"captions have the versions {CAPTION_VERSIONS}, not {self.version!r}")
        if not all(0 <= share <= 1 for share in (self.pairs, self.styled, self.starter)):
            raise UserError("pairs, styled and starter are shares: from 0 to 1")

    @property
    def identity(self) -> dict[str, Any]:
        """What decides which images and captions it has: a run can be resumed only on the same."""
        names = ("split", "vocabulary", "seed", "pairs", "styled", "starter")
        identity = {name: getattr(self, name) for name in names}
        # runs from before there were versions do not mention it
        return identity | ({"version": self.version} if self.version > 1 else {})

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Item:
        if not 0 <= i < self.length:
            raise IndexError(f"item {i} of a data set of {self.length}")
        scene, asked, caption, rng = self.describe(i)
        return Item(to_tensor(draw(scene, rng, self.size)), caption, scene, asked)

    def describe(self, i: int) -> tuple[Scene, Scene, str, random.Random]:
        """Item i without its image: the truth, what is asked for, the caption, and the stream that draws the image.

        Raises UserError where no scene of these objects and places is in the split.
        """
        rng = random.Random(f"{self.seed} {self.split} {i}")
        scene, tries = self._invent(rng), 0
        while self.split != "all" and held_out(scene) != (self.split == "heldout"):
            scene, tries = self._invent(rng), tries + 1
            if tries > 10_000:
                raise UserError(f"no scene of these objects and places is in {self.split!r}")
        asked = self._ask(scene, rng)
        language = pick(rng, self.languages)
        text = caption(asked, language, rng, self.split == "words")
        if self.version > 1 and self.split == "train":
            # a stream of its own: the image draws from `rng`, and is the same in every version
            words = random.Random(f"{self.seed} {self.split} {i} words")
            text = widened(asked, language, text, words, self.version)
        return scene, asked, text, rng

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, list[str]]:
        """Images (B, 3, size, size) in [−1, 1] and captions of many items."""
        described = [self.describe(i) for i in indices]
        images = np.stack([draw(scene, rng, self.size) for scene, _, _, rng in described])
        return to_tensor(images), [text for _, _, text, _ in described]

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
