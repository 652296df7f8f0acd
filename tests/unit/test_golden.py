"""Captions, suites and pictures are what they were: weights, scores and runs that go on stand on them.

`python tests/unit/test_golden.py` writes them anew. Do so only where a change is meant, and say so in the
CHANGELOG: scores from before can't be compared with scores from after.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimagen.config import CAPTION_VERSIONS as VERSIONS
from minimagen.evaluation.suites import SUITES, suite
from minimagen.scenes import Scenes
from minimagen.scenes.dataset import SPLITS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
HASHES = json.loads((GOLDEN / "texts.json").read_text()) if __name__ != "__main__" else {}
CAPTIONS = [
    f"{split} {vocabulary} {language} {version}"
    for split in SPLITS
    for vocabulary in ("starter", "whole")
    for language in ("en", "zh")
    for version in VERSIONS
]
PROMPTS = [f"{name} {vocabulary}" for name in SUITES for vocabulary in ("starter", "whole")]


def facts(scene):
    """A scene as plain values, whatever its fields are called."""
    things = [(t.key, t.colour, t.size) for t in scene.things]
    return [things, scene.arrangement, scene.style, scene.place, scene.time]


def digest(rows):
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def captions(name, count=50):
    split, vocabulary, language, version = name.split()
    data = Scenes(split=split, vocabulary=vocabulary, languages=(language,), version=int(version))
    told = [data.describe(i)[:3] for i in range(count)]
    return [[facts(scene), facts(asked), text] for scene, asked, text in told]


def prompts(name):
    suite_name, vocabulary = name.split()
    written = suite(suite_name, vocabulary, 200)
    return [[p.text, facts(p.asked), p.category] for p in written]


def pictures(size):
    """Five of each split of the whole vocabulary, a row a split: uint8 (5 · size, 5 · size, 3)."""
    rows = []
    for split in SPLITS:
        scenes = Scenes(size, split, "whole")
        tiles = [scenes[i].image.permute(1, 2, 0).add(1).mul(127.5).round() for i in range(5)]
        rows.append(np.concatenate([tile.numpy() for tile in tiles], axis=1))
    return np.concatenate(rows).astype(np.uint8)


@pytest.mark.parametrize("name", CAPTIONS)
def test_captions_are_what_they_were(name):
    assert digest(captions(name)) == HASHES["captions"][name], captions(name)[:3]


@pytest.mark.parametrize("name", PROMPTS)
def test_the_prompts_of_a_suite_are_what_they_were(name):
    assert digest(prompts(name)) == HASHES["suites"][name], prompts(name)[:3]


@pytest.mark.parametrize("size", (16, 64))
def test_pictures_are_what_they_were(size):
    """Not to the last bit: versions of Pillow round, and draw the rim of a circle, a little differently.

    Pillow 10.1, 11.0 and 13.0 draw the very same.
    """
    before = np.asarray(Image.open(GOLDEN / f"pictures-{size}.png")).astype(int)
    apart = np.abs(pictures(size).astype(int) - before).reshape(5, size, 5, size, 3)
    of_each = apart.mean(axis=(1, 3, 4))  # (5 splits, 5 pictures)
    assert of_each.max() < 0.05, of_each.round(2)


def write():
    told = {
        "captions": {name: digest(captions(name)) for name in CAPTIONS},
        "suites": {name: digest(prompts(name)) for name in PROMPTS},
    }
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / "texts.json").write_text(json.dumps(told, indent=1) + "\n")
    for size in (16, 64):
        Image.fromarray(pictures(size)).save(GOLDEN / f"pictures-{size}.png", optimize=True)


if __name__ == "__main__":
    write()
