"""Your world: six things of the learner's choice, and a small cascade that is trained on them from random weights.

    mine = choose("cat", "frog", "pig", "car", "sunflower", "balloon")   # chapter 07
    mine.train("base", budget)                                           # "sr64" and "sr256" in 09
    imagen = chosen().cascade()                                          # 10: what is not trained is shipped

One thing stands in one of four places, drawn in one style, with captions in English and Chinese. What was
trained lies in the learner's folder, my_world/THINGS/STAGE, so that a later chapter finds it; a run that was
stopped goes on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..assets import CASCADE, write_json
from ..config import RESOLUTIONS, STAGES
from ..errors import UserError
from ..evaluation.judge import Judge
from ..evaluation.suites import Prompt
from ..guidance import null_text
from ..imagen import Imagen
from ..images import downsample, to_tensor, upsample
from ..randomness import seeded_noise
from ..scenes import Scene, Thing
from ..scenes.artwork import draw
from ..scenes.captions import caption, pick
from ..stage import Stage
from ..text import TextEncoder
from . import words, world_training
from .folder import in_complete_edition, work
from .poster import poster as poster  # the notebooks have it from here
from .words import Choice, sentence
from .world_training import Pool, Trained, recipe

DEFAULT = ("cat", "frog", "pig", "car", "sunflower", "balloon")
PLACES = ("grass", "beach", "snow", "space")
STYLE = "3d"
# (thing, place), by their numbers: no picture of the training shows these two, and sentences ask for them
NEVER = ((1, 3), (4, 2))


def choose(*things: str, places: Sequence[str] = PLACES) -> World:
    """The world of six things, by their names in English or Chinese; it is remembered for the chapters to come.

    Without names: the six of the course. Raises UserError, with a sentence, for a name that is not known, and for
    other than six different things.
    """
    world = _world(things or DEFAULT, places)
    with suppress(OSError):  # a folder that can't be written costs the remembering alone
        write_json({"things": world.things, "places": world.places}, _home() / "chosen.json")
    return world


def chosen() -> World:
    """The world that was chosen last; the course's six things where none was."""
    try:
        told = json.loads((_home() / "chosen.json").read_text(encoding="utf-8"))
        return _world(told["things"], told["places"])
    except (OSError, ValueError, KeyError, TypeError):
        return World(DEFAULT, PLACES)


def _world(things: Sequence[str], places: Sequence[str]) -> World:
    """The world of these things and places. Raises UserError where there can't be one."""
    keys = [_key(name) for name in things]
    for i, key in enumerate(keys):
        if key in keys[:i]:
            first = things[keys.index(key)]
            raise UserError(
                f"{first!r} and {things[i]!r} are the same thing: put another one there, your world has six"
            )
    if len(keys) != 6:
        what = f"add {6 - len(keys)}" if len(keys) < 6 else f"leave out {len(keys) - 6}"
        raise UserError(f"your world has six different things, not {len(keys)}: {what}")
    if len(set(places)) != 4 or any(place not in PLACES for place in places):
        raise UserError(f"the four places of your world are {', '.join(PLACES)}")
    return World(tuple(keys), tuple(places))


def names() -> list[str]:
    """The hundred things that can be chosen, in English."""
    return [row["en"] for row in words.known_things()]


@dataclass(frozen=True)
class World:
    """Six things in four places: pictures with captions, the stages trained on them, and how good those are."""

    things: tuple[str, ...]
    places: tuple[str, ...] = PLACES

    # what there is to see

    def scene(self, i: int) -> tuple[Scene, str, random.Random]:
        """Picture i: what it shows, its caption, and the random numbers that draw it."""
        rng = random.Random(f"a world of {self.things} {self.places} {i}")
        while True:
            a, b = int(rng.random() * len(self.things)), int(rng.random() * len(self.places))
            if (a, b) not in NEVER:
                break
        shown = Scene((Thing(self.things[a]),), "row", STYLE, self.places[b], "day")
        named = self.places[b] if rng.random() < 0.9 else None
        asked = Scene((Thing(self.things[a]),), place=named)
        return shown, caption(asked, pick(rng, ("en", "zh")), rng), rng

    def batch(self, indices: Sequence[int], side: int = 16) -> tuple[Tensor, list[str]]:
        """Pictures (B, 3, side, side) in [−1, 1] and their captions, by their numbers."""
        pictures, captions = self._drawn(indices, side)
        return to_tensor(pictures), captions

    def _drawn(self, indices: Sequence[int], side: int) -> tuple[np.ndarray, list[str]]:
        """Pictures (B, side, side, 3) uint8 and their captions."""
        scenes = [self.scene(i) for i in indices]
        pictures = np.stack([draw(shown, rng, side) for shown, _, rng in scenes])
        return pictures, [text for _, text, _ in scenes]

    def sentences(self) -> list[Prompt]:
        """Ten sentences with what they ask for: each thing twice or once, in both languages, in all four places.

        The last two name what stands together in no picture of the training (category "new").
        """
        pairs = [(i, (i + i // 4) % 4, "en") for i in range(4)] + [(4, 1, "zh"), (5, 2, "zh")]
        pairs += [(0, 2, "zh"), (2, 0, "en")]
        pairs += [(a, b, language) for (a, b), language in zip(NEVER, ("en", "zh"), strict=True)]
        found = []
        for a, b, language in pairs:
            thing, place = self.things[a], self.places[b]
            asked = Scene((Thing(thing),), place=place)
            kind = "new" if (a, b) in NEVER else "seen"
            found.append(Prompt(sentence(Choice(thing, place=place), language), asked, kind))
        return found

    # what is trained

    @property
    def folder(self) -> Path:
        """Where its stages lie, each in a folder of its own, as `my_imagen.py --weights` reads them."""
        return _home() / "-".join(self.things)

    def new_stage(self, name: str, seed: int = 0) -> Stage:
        """A stage with random weights: base, sr64 or sr256, small enough to be trained in minutes."""
        torch.manual_seed(seed)
        return Stage(replace(recipe(name).config, text_encoder=_encoder().fingerprint))

    def is_trained(self, name: str) -> bool:
        """Does the learner's folder hold this stage, trained to its end?"""
        return world_training.is_trained(self.folder / name)

    def train(
        self,
        name: str,
        budget: str | None = None,
        stage: Stage | None = None,
        watch: Sequence[str] = (),
        steps: int | None = None,
        again: bool = False,
    ) -> Trained:
        """Train a stage from random weights, and keep it in the learner's folder.

        name: base, sr64 or sr256; budget: None, the notebook's; stage: a new stage whose layers the notebook has
        changed, else `new_stage(name)`; watch: sentences that are drawn six times on the way (base alone); steps:
        None, those of the budget. What is trained already is not trained again (`again` begins anew); a run that
        was stopped goes on, from half a minute before at most. In the quick budget a few steps are taken, and
        nothing is kept. Raises UserError where a checkpoint can't be read, or another process trains it.
        """
        how, out = recipe(name), self.folder / name
        budget = budget or world_training.budget()
        batch = how.batch[budget]
        if again:
            world_training.begin_anew(name, out)
        if self.is_trained(name):
            return world_training.skipped(name, out)
        keep = budget != "quick" or steps is not None
        pool = Pool(
            partial(self._drawn, side=RESOLUTIONS[name]),
            how.pool if keep else 2 * batch,
            {"world": self.things, "places": self.places},
        )
        return world_training.train_stage(
            name,
            stage or self.new_stage(name),
            pool,
            _encoder(),
            steps or how.steps[budget],
            batch,
            out if keep else None,
            partial(self._glance, prompts=watch) if watch else None,
        )

    def stage(self, name: str, device: str = "cpu") -> Stage:
        """The stage that was trained on this world; where there is none, the shipped one. A line says which."""
        own = self.is_trained(name)
        print(
            f"{name} is ≈ {'yours' if own else 'shipped'} (a stage that you have not trained is the shipped one)"
        )
        return Stage.load(self.folder / name if own else CASCADE / name).to(device)

    def cascade(self, stages: Sequence[str] = STAGES, device: str = "cpu") -> Imagen:
        """A cascade of one's own stages, and of shipped ones where a stage is not trained."""
        loaded = {name: self.stage(name, device) for name in stages}
        return Imagen(loaded, TextEncoder()).to(device).eval()

    def _glance(self, stage: Stage, prompts: Sequence[str]) -> Tensor:
        """What the weights of this moment draw, (B, 3, 16, 16)."""
        return sample_base(stage, prompts, range(len(prompts)), steps=12)

    # how good it is

    def reads(self, pictures: Tensor) -> list[Scene]:
        """What the judge reads in pictures (B, 3, H, W): their things and their places, among others.

        Pictures of 16×16 are enlarged to 64×64 by the shipped sr64 first, which is told no words: what the judge
        reads, the base has drawn. The judge is the strict one, that may say "I don't recognise this".
        """
        if pictures.shape[-1] == 16:
            pictures = enlarge(_shipped("sr64"), pictures, None)
        return _judge().read(pictures.cpu())

    def judge(self, pictures: Tensor, asked: Sequence[Prompt]) -> list[bool]:
        """For each picture (B, 3, H, W): does the judge read the thing and the place that its sentence names?"""
        pairs = zip(asked, self.reads(pictures), strict=True)
        return [all(prompt.asked.asks(seen).values()) for prompt, seen in pairs]

    def likeness(self, name: str, stage: Stage | None = None, count: int = 24) -> dict[str, float]:
        """How near pictures enlarged by sr64 or sr256 come to the real ones: 1 is the real one, 0 is bilinear.

        1 − error / error of bilinear enlargement, errors the root mean square over `count` pictures that training
        never had, enlarged from their true small versions. Also says both errors: error and bilinear, in [−1, 1].
        """
        real, captions = self.batch([-1 - i for i in range(count)], RESOLUTIONS[name])
        small = downsample(real, real.shape[-1] // 4)
        stage = stage or self.stage(name)
        made = enlarge(stage, small, captions)
        error, bilinear = (
            float((z - real).square().mean().sqrt()) for z in (made, upsample(small))
        )
        return {"likeness": 1 - error / bilinear, "error": error, "bilinear": bilinear}


@torch.no_grad()
def sample_base(
    stage: Stage,
    prompts: Sequence[str],
    seeds: Sequence[int],
    guidance: float = 3.0,
    steps: int = 20,
) -> Tensor:
    """Pictures (B, 3, 16, 16) that a base draws of sentences; picture i depends on its sentence and seed alone."""
    device = next(stage.parameters()).device
    text, mask = (z.to(device) for z in _encoder()(list(prompts)))
    noise = seeded_noise(seeds, (3, 16, 16)).to(device)
    return stage.sample(noise, text, mask, guidance=guidance, steps=steps).cpu()


@torch.no_grad()
def enlarge(stage: Stage, small: Tensor, captions: Sequence[str] | None, seed: int = 0) -> Tensor:
    """Pictures (B, 3, h, w) enlarged to (B, 3, 4h, 4w) by a super-resolution stage that is told their captions.

    captions None: it is told no words, the null conditioning, and so it isn't guided.
    """
    device, side = next(stage.parameters()).device, small.shape[-1]
    seeds = range(seed, seed + len(small))
    noise = seeded_noise(seeds, (3, 4 * side, 4 * side), 2).to(device)
    grain = seeded_noise(seeds, (3, side, side), 3).to(device)
    text, mask = _encoder()(list(captions or [""] * len(small)))
    guidance = 1.0 if stage.config.guidance is None else stage.config.guidance
    if captions is None:
        (text, mask), guidance = null_text(text, mask), 1.0
    text, mask = text.to(device), mask.to(device)
    return stage.sample(noise, text, mask, small.to(device), grain, guidance=guidance).cpu()


def _home() -> Path:
    """my_world/ in the learner's folder; what a complete edition trains lies apart."""
    return work() / ("solutions/my_world" if in_complete_edition() else "my_world")


def _key(name: str) -> str:
    """The key of a thing by its name, in English or Chinese, with or without an article."""
    if not isinstance(name, str):
        raise UserError(f'name each thing by a text, choose("cat", "frog", …), not {name!r}')
    plain = name.strip()
    for article in ("a ", "an ", "the ", "some "):
        if plain.lower().startswith(article):
            plain = plain[len(article) :]
    if key := words.thing_named(plain):
        return key
    near = words.nearest_name(plain)
    close = f"did you mean {near}? " if near else ""
    raise UserError(f"there are no pictures of {name!r}: {close}choose from {', '.join(names())}")


@lru_cache(maxsize=1)
def _encoder() -> TextEncoder:
    return TextEncoder()


@lru_cache(maxsize=1)
def _judge() -> Judge:
    return Judge.load("strict")


@lru_cache(maxsize=2)
def _shipped(name: str) -> Stage:
    return Stage.load(CASCADE / name)
