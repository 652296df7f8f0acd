"""What a scene is, and the tables of what can be in one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from ..assets import DATA


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


@lru_cache(maxsize=1)
def objects() -> dict[str, dict]:
    """Every object by key, with its names in both languages, in the order of the atlas."""
    rows = json.loads((DATA / "scenes" / "objects.json").read_text(encoding="utf-8"))
    return {row["key"]: row for row in rows}


@lru_cache(maxsize=1)
def grammar() -> dict[str, dict]:
    """The words of styles, places, times, colours, sizes, numbers and verbs."""
    return json.loads((DATA / "scenes" / "grammar.json").read_text(encoding="utf-8"))
