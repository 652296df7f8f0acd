"""Your world: six things of the learner's choice, and a small cascade that is trained on them from random weights.

    mine = choose("cat", "frog", "pig", "car", "sunflower", "balloon")   # chapter 07
    mine.train("base", budget)                                           # "sr64" and "sr256" in 09
    imagen = chosen().cascade()                                          # 10: what is not trained is shipped

One thing stands in one of four places, drawn in one style, with captions in English and Chinese. What was
trained lies in the learner's folder, my_world/THINGS/STAGE, so that a later chapter finds it; a run that was
stopped goes on.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import random
import shutil
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..assets import CASCADE, read_tensors, write_json, write_tensors
from ..config import RESOLUTIONS, STAGES, TrainConfig
from ..errors import UserError
from ..evaluation.judge import Judge
from ..evaluation.suites import Prompt
from ..imagen import Imagen
from ..images import downsample, grid, save_png, to_pil, to_tensor, upsample
from ..randomness import seeded_noise
from ..scenes import Scene, Thing, objects
from ..scenes.artwork import draw
from ..scenes.captions import caption, pick
from ..stage import DEFAULTS, Stage, StageConfig
from ..text import TextEncoder
from ..training.checkpoint import STATE, read_metadata
from ..training.loop import train
from ..training.owner import sole_owner
from ..unet import UNetConfig
from .folder import in_complete_edition, work
from .progress import Bar
from .words import Choice, sentence

DEFAULT = ("cat", "frog", "pig", "car", "sunflower", "balloon")
PLACES = ("grass", "beach", "snow", "space")
STYLE = "3d"
# (thing, place), by their numbers: no picture of the training shows these two, and sentences ask for them
NEVER = ((1, 3), (4, 2))
SHOTS = "shots.safetensors"
WATCHED = (0.02, 0.06, 0.15, 0.3, 0.6, 1)  # when `watch` is drawn, as shares of a training


@dataclass(frozen=True)
class Recipe:
    """How a stage of one's own is trained: the stage, and how long on each budget.

    steps, by budget. Those of the laptop are meant for four minutes on two cores, in float32; by seconds of one
    core, the base needs 3.8 of them, sr64 4.2; sr256 (two minutes are meant) was not measured.
    """

    config: StageConfig
    steps: dict[str, int]
    batch: int
    pool: int  # pictures that it learns from
    muon_lr: float = 0.02
    lr: float = 2e-3
    decay: float = 0.7
    ema: float = 0.99


def _unet(channels: tuple[int, ...], attention: tuple[str, ...], **options: Any) -> UNetConfig:
    return UNetConfig(
        channels=channels,
        blocks=(1,) * len(channels),
        attention=attention,
        embedding=128,
        **options,
    )


RECIPES = {
    "base": Recipe(
        replace(DEFAULTS["base"], unet=_unet((32, 64, 96), ("", "self", "self"))),
        steps={"quick": 3, "laptop": 2400, "gpu": 6000},
        batch=32,
        pool=6000,
    ),
    "sr64": Recipe(
        replace(
            DEFAULTS["sr64"],
            unet=_unet((24, 48, 96), ("", "", "self"), efficient=True, low_res=True),
        ),
        steps={"quick": 3, "laptop": 1500, "gpu": 4000},
        batch=16,
        pool=3000,
    ),
    "sr256": Recipe(
        replace(
            DEFAULTS["sr256"],
            unet=_unet((16, 32, 64), ("", "", "cross"), efficient=True, low_res=True),
        ),
        steps={"quick": 3, "laptop": 1200, "gpu": 4000},
        batch=16,
        pool=600,
    ),
}


def choose(*things: str, places: Sequence[str] = PLACES) -> World:
    """The world of six things, by their names in English or Chinese; it is remembered for the chapters to come.

    Without names: the six of the course. Raises UserError, with a sentence, for a name that is not known, and for
    other than six different things.
    """
    keys = tuple(_key(name) for name in (things or DEFAULT))
    if len(set(keys)) != 6 or len(keys) != 6:
        raise UserError(
            f"your world has six different things, not {len(set(keys))}: {', '.join(keys)}"
        )
    if len(set(places)) != 4 or any(place not in PLACES for place in places):
        raise UserError(f"the four places of your world are {', '.join(PLACES)}")
    world = World(keys, tuple(places))
    with suppress(OSError):  # a folder that can't be written costs the remembering alone
        write_json({"things": keys, "places": tuple(places)}, _home() / "chosen.json")
    return world


def chosen() -> World:
    """The world that was chosen last; the course's six things where none was."""
    try:
        told = json.loads((_home() / "chosen.json").read_text(encoding="utf-8"))
        return World(tuple(map(_key, told["things"])), tuple(told["places"]))
    except (OSError, ValueError, KeyError, TypeError):
        return World(DEFAULT, PLACES)


def names() -> list[str]:
    """The hundred things that can be chosen, in English."""
    return [row["en"] for row in objects().values() if row["whole"]]


@dataclass
class Trained:
    """What a training left, and whether it came to its end.

    Of a run that was stopped and went on, losses and shots are those of its last piece; seen and seconds of all.
    """

    losses: list[float] = field(default_factory=list)
    shots: list[tuple[int, Tensor]] = field(default_factory=list)  # pictures seen; (B, 3, H, W)
    seen: int = 0  # pictures that it has learned from
    seconds: float = 0.0
    finished: bool = False


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
        scenes = [self.scene(i) for i in indices]
        pictures = np.stack([draw(shown, rng, side) for shown, _, rng in scenes])
        return to_tensor(pictures), [text for _, text, _ in scenes]

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
        return Stage(replace(RECIPES[name].config, text_encoder=_encoder().fingerprint))

    def is_trained(self, name: str) -> bool:
        """Does the learner's folder hold this stage, trained to its end?"""
        return (self.folder / name / "model.safetensors").is_file()

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
        recipe, out = RECIPES[name], self.folder / name
        budget = budget or _budget()
        count = steps or recipe.steps[budget]
        if again and out.exists():
            with sole_owner(out):  # never under a run that is going on
                pass
            shutil.rmtree(out)
        if self.is_trained(name):
            kept = _told(out)
            Bar(1, name).close(_line(name, kept))
            return kept
        keep = budget != "quick" or steps is not None
        stage, result = stage or self.new_stage(name), Trained()
        config = TrainConfig(
            steps=count, batch=recipe.batch, lr=recipe.lr, muon_lr=recipe.muon_lr, ema_decay=recipe.ema,
            decay_fraction=recipe.decay, warmup_steps=20, checkpoint_minutes=0.5,
        )  # fmt: skip
        pool = _Pool(self, RESOLUTIONS[name], recipe.pool if keep else 2 * recipe.batch)
        rows = _resumed(stage, pool, config, out if keep else None)
        marks = {math.ceil(count * share) for share in WATCHED} if watch else set()
        bar = Bar(count, f"your {name}")
        try:
            for row in rows:
                result.losses.append(row["loss"])
                result.seen, result.seconds = row["step"] * recipe.batch, row["seconds"]
                bar.at(row["step"], f"(loss {np.mean(result.losses[-50:]):.3f})")
                if row["step"] in marks:
                    result.shots.append((result.seen, self._glance(stage, watch)))
                    stage.train()
            result.finished = True
        except KeyboardInterrupt:
            goes_on = "goes on from half a minute ago at most" if keep else "begins anew"
            print(f"stopped: run this cell again, and it {goes_on}")
        finally:
            rows.close()
            bar.close(_line(name, result))
        if result.finished and keep:
            _tell(out, result)
            (out / STATE).unlink(missing_ok=True)
        return result

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
            pictures = enlarged_without_words(pictures)
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
def enlarge(stage: Stage, small: Tensor, captions: Sequence[str], seed: int = 0) -> Tensor:
    """Pictures (B, 3, h, w) enlarged to (B, 3, 4h, 4w) by a super-resolution stage that is told their captions."""
    device, side = next(stage.parameters()).device, small.shape[-1]
    seeds = range(seed, seed + len(small))
    text, mask = (z.to(device) for z in _encoder()(list(captions)))
    noise = seeded_noise(seeds, (3, 4 * side, 4 * side), 2).to(device)
    grain = seeded_noise(seeds, (3, side, side), 3).to(device)
    guidance = stage.config.guidance or 1.0
    return stage.sample(noise, text, mask, small.to(device), grain, guidance=guidance).cpu()


@torch.no_grad()
def enlarged_without_words(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, 16, 16) → (B, 3, 64, 64) by the shipped sr64, which is given the empty caption."""
    stage = _shipped("sr64")
    text, mask = torch.zeros(len(pictures), 1, 256), torch.ones(len(pictures), 1, dtype=torch.bool)
    noise = seeded_noise(range(len(pictures)), (3, 64, 64), 2)
    grain = seeded_noise(range(len(pictures)), (3, 16, 16), 3)
    return stage.sample(noise, text, mask, pictures.cpu(), grain, guidance=1.0)


class _Pool:
    """The pictures that a stage learns from, drawn once: an ImageDataset."""

    def __init__(self, world: World, side: int, count: int) -> None:
        self.world, self.side, self.count = world, side, count

    @property
    def identity(self) -> dict[str, Any]:
        return {"world": self.world.things, "places": self.world.places, "pictures": self.count}

    @cached_property
    def _all(self) -> tuple[np.ndarray, list[str]]:
        scenes = [self.world.scene(i) for i in range(self.count)]
        return np.stack([draw(shown, rng, self.side) for shown, _, rng in scenes]), [
            t for _, t, _ in scenes
        ]

    def batch(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        pictures, captions = self._all
        return to_tensor(pictures[indices]), [captions[i] for i in indices]

    def __len__(self) -> int:
        return self.count


def _resumed(
    stage: Stage, pool: _Pool, config: TrainConfig, out: Path | None
) -> Generator[dict[str, Any]]:
    """The rows of a run; one that was begun goes on, with the number of steps that it was begun with."""
    resume = out is not None and (out / STATE).is_file()
    if out is not None and resume:
        config = replace(config, steps=read_metadata(out)["run"]["steps"])
    yield from train(stage, pool, _encoder(), config, out, resume=resume)


def _budget() -> str:
    """As the first cell has it: MINIMAGEN_BUDGET, else by the device."""
    return os.environ.get("MINIMAGEN_BUDGET") or ("gpu" if torch.cuda.is_available() else "laptop")


def _line(name: str, result: Trained) -> str:
    """What a training leaves on the page; the same where it was done before."""
    return f"{name}: ≈ {result.seen} pictures, in ≈ {result.seconds:.0f} seconds"


def _tell(out: Path, result: Trained) -> None:
    about = {"pictures": result.seen, "seconds": round(result.seconds, 1), "losses": result.losses}
    write_json(about, out / "trained.json")
    if result.shots:
        write_tensors({f"{seen:09}": x.half() for seen, x in result.shots}, out / SHOTS)


def _told(out: Path) -> Trained:
    """What stands in the folder of a stage about its training."""
    try:
        about = json.loads((out / "trained.json").read_text(encoding="utf-8"))
        kept = read_tensors(out / SHOTS) if (out / SHOTS).is_file() else {}
        shots = [(int(seen), kept[seen].float()) for seen in sorted(kept)]
        return Trained(about["losses"], shots, about["pictures"], about["seconds"], finished=True)
    except (OSError, ValueError, KeyError):
        return Trained(finished=True)


def _home() -> Path:
    """my_world/ in the learner's folder; what a complete edition trains lies apart."""
    return work() / ("solutions/my_world" if in_complete_edition() else "my_world")


def _key(name: str) -> str:
    """The key of a thing by its name, in English or Chinese, with or without an article."""
    plain = name.strip().lower()
    for article in ("a ", "an ", "the ", "some "):
        plain = plain.removeprefix(article)
    known: dict[str, str] = {}
    for key, row in objects().items():
        if row["whole"]:
            known |= {told.lower(): key for told in (key, row["en"], row["plural"], row["zh"])}
    for key, row in objects().items():
        if row["whole"]:
            for told in (
                *row["synonyms"]["en"],
                *row["synonyms"]["zh"],
                *row["also"]["en"],
                *row["also"]["zh"],
            ):
                known.setdefault(told.lower(), key)
    if plain in known:
        return known[plain]
    near = difflib.get_close_matches(plain, known, 1)
    close = f"did you mean {near[0]}? " if near else ""
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


def poster(own: Tensor, shipped: Tensor, asked: Sequence[Prompt], path: Path) -> Image.Image:
    """One PNG of ten sentences: rows of one's own cascade, and of the shipped one beneath, five pictures a row.

    own, shipped: (10, 3, H, W) in [−1, 1]. The sentences and the mark "AI-generated" stand in the file.
    """
    rows = [z[i : i + 5] for i in range(0, len(own), 5) for z in (own, shipped)]
    sheet = grid([image for row in rows for image in to_pil(row)], 5)
    save_png(
        sheet,
        path,
        " | ".join(prompt.text for prompt in asked),
        "0 to 9",
        "my_world and the shipped cascade",
    )
    return sheet
