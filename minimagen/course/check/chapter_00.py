"""Exercises of chapter 00: what we are going to build."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...assets import DATA
from ...scenes import Scene, Thing
from .basics import Exercise

__all__ = ["numbers_drawn", "share_of_cats", "hardest_kind"]


def numbers_drawn(answer: Sequence[int] | None) -> None:
    """Exercise 00.1: how many numbers each stage writes down for one picture."""
    if answer is None:
        raise AssertionError("numbers in a picture: write your three numbers first")
    mistakes: dict[tuple[int, ...], str] = {
        (
            16,
            64,
            256,
        ): "these are the sides: a picture has side × side pixels, and a pixel three colours",
        (256, 4096, 65536): "these are the pixels: each has three colours",
        (48, 192, 768): "this is one row: a picture has as many rows as pixels in a row",
    }
    given = tuple(answer)
    if given != (768, 12_288, 196_608):
        hint = mistakes.get(given, "side × side × 3, for the sides 16, 64 and 256")
        raise AssertionError(f"numbers in a picture: {hint}")
    print("✓ numbers in a picture")


def _cats(scenes: Sequence[Scene], right: Callable[[Scene], bool]) -> float:
    return sum(map(right, scenes)) / len(scenes)


def _keys(scene: Scene) -> set[str]:
    return {thing.key for thing in scene.things}


share_of_cats = Exercise(  # 2: answer(scenes) is the share that show nothing but cats, on grass
    "the share of cats on grass",
    lambda scenes: _cats(scenes, lambda s: _keys(s) == {"cat"} and s.place == "grass"),
    {
        "you forgot the place": lambda scenes: _cats(scenes, lambda s: _keys(s) == {"cat"}),
        "you count the scenes: divide by how many there are": lambda scenes: float(
            sum(_keys(s) == {"cat"} and s.place == "grass" for s in scenes)
        ),
        "a cat beside something else is not nothing but cats": lambda scenes: _cats(
            scenes, lambda s: "cat" in _keys(s) and s.place == "grass"
        ),
    },
    (
        [
            Scene((Thing("cat"),), place="grass"),
            Scene((Thing("cat"), Thing("cat")), place="grass"),
            Scene((Thing("cat"), Thing("dog")), place="grass"),
            Scene((Thing("cat"),), place="beach"),
            Scene((Thing("cat"),), place="snow"),
            Scene((Thing("dog"),), place="grass"),
        ],
    ),
)


def hardest_kind(answer: str | None) -> None:
    """Exercise 00.3: the kind of sentence that the shipped cascade follows least, by its card."""
    columns = {"one": "one thing", "three": "three of a kind", "two kinds": "two kinds"}
    if answer not in columns:
        raise AssertionError('the hardest sentence: answer "one", "two kinds" or "three"')
    card = (DATA / "cascade" / "README.md").read_text(encoding="utf-8")
    table = card.split("by the judge `whole`:")[1].split("\n\n")[1].splitlines()
    names, seen = ([cell.strip() for cell in row.split("|")] for row in (table[0], table[2]))
    right = dict(zip(names, seen, strict=True))
    if answer != min(columns, key=lambda kind: float(right[columns[kind]])):
        raise AssertionError(
            'the hardest sentence: the model card\'s second table, in its row "seen", says otherwise'
        )
    print("✓ the hardest sentence")
