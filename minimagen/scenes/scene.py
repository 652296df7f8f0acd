"""Scene and Thing: what an image shows, or what a prompt asks for; and the tables of objects and words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from ..assets import DATA

Table = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Thing:
    """One object of a scene, by its key in `objects()`, with its colour and size.

    None: in a ground truth, the colour or size of the artwork; in a prompt, not asked for.
    """

    key: str
    colour: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class Scene:
    """What an image shows (the ground truth), or what a prompt asks for; there, None: not asked for.

    things are in reading order: left to right in a row, top to bottom in a column.
    """

    things: tuple[Thing, ...]
    arrangement: str | None = None  # "row" or "column"
    style: str | None = None
    place: str | None = None
    time: str | None = None

    def asks(self, truth: Scene) -> dict[str, bool]:
        """For each attribute that this prompt names, whether `truth` shows it.

        Keys: "number" and "object" always; "position", "colour", "size", "style", "place", "time" where asked for.
        """
        asked, shown = self.things, truth.things
        if self.arrangement is None:  # in any order: compare them sorted
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


@lru_cache(maxsize=1)
def objects() -> Table:
    """Every object by key, with its names in both languages, in the order of the atlas."""
    rows = json.loads((DATA / "scenes" / "objects.json").read_text(encoding="utf-8"))
    return {row["key"]: row for row in rows}


@lru_cache(maxsize=1)
def grammar() -> Table:
    """The words of styles, places, times, colours, sizes, numbers and verbs."""
    return cast(Table, json.loads((DATA / "scenes" / "grammar.json").read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def further() -> dict[str, Any]:
    """The words for objects, places and times that only training captions of version 3 have (further.json)."""
    text = (DATA / "scenes" / "further.json").read_text(encoding="utf-8")
    return cast(dict[str, Any], json.loads(text))
