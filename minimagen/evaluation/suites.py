"""Prompt suites: fixed prompts, each with the scene that it asks for."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass

from ..assets import DATA
from ..errors import UserError
from ..scenes import Scene, Scenes, Thing

SUITES = ("seen", "heldout", "words", "chinese", "drawbench", "everyday")
FILES = ("drawbench", "everyday")  # suites whose prompts stand in data/NAME.tsv


@dataclass(frozen=True)
class Prompt:
    """A prompt, the scene that it asks for, and its category."""

    text: str
    asked: Scene
    category: str


def suite(name: str, vocabulary: str = "starter", count: int = 200, seed: int = 1) -> list[Prompt]:
    """`count` prompts of a suite, always the same ones. Raises UserError for an unknown suite.

    Another seed gives other prompts of the same kind: tune on those, not on the suite.
    """
    if name not in SUITES:
        raise UserError(f"there is no suite called {name!r}; there are: {', '.join(SUITES)}")
    if name in FILES:
        rows = written(name, vocabulary)
        return [rows[i * len(rows) // count] for i in range(count)]  # evenly, of every category
    split = {"chinese": "seen"}.get(name, name)
    languages = ("zh",) if name == "chinese" else ("en",)
    scenes = Scenes(split=split, vocabulary=vocabulary, languages=languages, seed=seed, version=1)
    prompts = []
    for i in range(count):
        _, asked, text, _ = scenes.describe(i)
        kinds = len({t.key for t in asked.things})
        category = "two kinds" if kinds > 1 else ("one", "two", "three")[len(asked.things) - 1]
        prompts.append(Prompt(text, asked, category))
    return prompts


def written(name: str, vocabulary: str = "starter") -> list[Prompt]:
    """The prompts of a file that the vocabulary can show, in its order.

    drawbench is the miniature DrawBench (section 3, table A.1): nine categories, where the paper has eleven.
    everyday has prompts as people type them, English and Chinese, from before anything was trained on captions
    of version 2. The starter vocabulary has 40 objects, two styles and eight places, and no colours, sizes or
    times, nor above and below: prompts that ask for others are left out.
    """
    with open(DATA / f"{name}.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    shown = Scenes(vocabulary=vocabulary)
    prompts = []
    # things: "cat cat" are two, "cat>dog" left of, "moon^tree" above, "car:red" a colour, "car::big" a size
    for row in rows:
        told = [thing.split(":") for thing in re.split("[ >^]", row["things"])]
        things = tuple(Thing(key, *(value or None for value in values)) for key, *values in told)
        arrangement = "row" if ">" in row["things"] else "column" if "^" in row["things"] else None
        when = row.get("time") or None
        asked = Scene(things, arrangement, row["style"] or None, row["place"] or None, when)
        plain = when is None and not any(t.colour or t.size for t in things)
        if vocabulary == "whole" or (
            plain
            and arrangement != "column"
            and all(t.key in shown.objects for t in things)
            and asked.style in (None, *shown.styles)
            and asked.place in (None, *shown.places)
        ):
            prompts.append(Prompt(row["text"], asked, row["category"]))
    return prompts
