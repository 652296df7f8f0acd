"""Your world by numbers: what a later day, another kernel and the cascade must agree upon."""

import pytest
import torch

from minimagen.config import TrainConfig
from minimagen.course import world, world_training
from minimagen.course.words import pieces
from minimagen.course.world import choose, enlarge
from minimagen.stage import Stage


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path))


def test_the_pictures_of_a_world_are_always_these():
    """What was trained yesterday goes on today. Nine captions in ten name the place."""
    mine = choose()
    told = [(mine.scene(i)[0].things[0].key, mine.scene(i)[1]) for i in range(4)]
    assert told == FIRST
    named = [any(p.kind == "place" for p in pieces(mine.scene(i)[1])) for i in range(600)]
    assert 0.85 < sum(named) / 600 < 0.95


FIRST = [
    ("pig", "a pig"),
    ("balloon", "a balloon on the grass"),
    ("cat", "on the grass, a cat"),
    ("sunflower", "on the sand by the sea, a sunflower"),
]


def test_the_sentences_of_a_world_are_always_these():
    """Scores are counted on them. Training never shows the last two: a frog in space, a sunflower in snow."""
    asks = choose().sentences()
    assert [ask.text for ask in asks] == SENTENCES
    assert [ask.category for ask in asks] == ["seen"] * 8 + ["new"] * 2
    shown = {(s.things[0].key, s.place) for s, *_ in (choose().scene(i) for i in range(500))}
    assert len(shown) == 22
    assert not shown & {("frog", "space"), ("sunflower", "snow")}


SENTENCES = [
    "a cat on the grass",
    "a frog on the beach",
    "a pig in the snow",
    "a car in space",
    "一朵向日葵在沙滩上",
    "一个气球在雪地里",
    "一只猫在雪地里",
    "a pig on the grass",
    "a frog in space",
    "一朵向日葵在雪地里",
]


def test_likeness_is_measured_on_pictures_that_no_training_has(monkeypatch):
    met, told = [], []
    real = world.World.scene
    monkeypatch.setattr(world.World, "scene", lambda self, i: met.append(i) or real(self, i))

    def halved(stage, small, captions):
        told.append(captions)
        return world.upsample(small) * 0.5

    monkeypatch.setattr(world, "enlarge", halved)
    found = choose().likeness("sr64", stage=object(), count=5)
    assert met == [-1, -2, -3, -4, -5] and [len(captions) for captions in told] == [5]
    assert found["likeness"] == pytest.approx(1 - found["error"] / found["bilinear"])
    assert found["error"] > found["bilinear"]


RECIPES = [  # budget, stage, steps, batch
    *[("laptop", "base", 2400, 32), ("laptop", "sr64", 1300, 16), ("laptop", "sr256", 1200, 16)],
    *[("gpu", "base", 2400, 96), ("gpu", "sr64", 1300, 64), ("gpu", "sr256", 1200, 64)],
]


@pytest.mark.parametrize("budget, name, steps, batch", RECIPES)
def test_a_stage_is_trained_with_its_recipe(budget, name, steps, batch, monkeypatch):
    met = []

    def train(stage, pool, encoder, config, out, resume):
        met.append(config)
        yield from ()

    monkeypatch.setattr(world_training, "train", train)
    choose().train(name, budget, stage=object())
    own = {"lr": 2e-3, "muon_lr": 0.02, "decay_fraction": 0.7, "ema_decay": 0.99}
    assert met[0] == TrainConfig(
        steps=steps, batch=batch, warmup_steps=20, checkpoint_minutes=0.5, **own
    )


def test_the_noise_of_a_stage_drawn_alone_is_that_of_the_cascade(monkeypatch):
    """So both make the same picture of a seed."""
    met = []

    def sample(self, noise, text, mask, low_res=None, low_res_noise=None, **options):
        met.append((noise, low_res_noise))
        return torch.zeros_like(noise)

    monkeypatch.setattr(Stage, "sample", sample)
    mine, texts = choose(), ["a cat", "a frog"]
    enlarge(mine.stage("sr64"), torch.zeros(2, 3, 16, 16), texts, seed=5)
    world.sample_base(mine.stage("base"), texts, [5, 6])
    mine.cascade().generate(texts, [5, 6])
    (noise, grain), (base, _), (of_base, _), (of_sr64, of_grain), _ = met
    assert noise.equal(of_sr64) and grain.equal(of_grain) and base.equal(of_base)
