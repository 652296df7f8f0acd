"""Exercises of chapter 00: what we are going to build."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...evaluation.judge import Judge
from ...imagen import Imagen
from ...scenes import Scene, Thing
from ...scenes.scene import objects
from ..language import say
from ..student import dice
from ..words import Choice, sentence

__all__ = ["broken", "diagnosis", "eye_and_judge", "four_kinds", "numbers_drawn", "sentences"]


def _not_yet(exercise: str, hint: str, /, **values: object) -> AssertionError:
    return AssertionError(
        say("{exercise}: {hint}", exercise=say(exercise), hint=say(hint, **values))
    )


def numbers_drawn(answer: Sequence[int] | None) -> None:
    """Exercise 00.1: how many numbers each stage writes down for one picture."""
    if answer is None:
        raise _not_yet("numbers in a picture", "write your three numbers first")
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
        raise _not_yet("numbers in a picture", hint)
    print("✓", say("numbers in a picture"))


PLACES = ("in the snow", "on the beach", "in space", "in the forest", "in the city", "under water")
WITH_AN = ("owl", "elephant", "apple", "airplane", "octopus", "umbrella")
WITH_A = ("fox", "panda", "rocket", "house", "tiger", "robot", "crab")


def sentences(answer: Callable[[list[str], list[str]], list[str]]) -> None:
    """Exercise 00.2: answer(things, places) has every thing in every place, thing by thing, with its article."""
    rng = dice("sentences")  # other words at each try
    things = rng.sample(WITH_AN, 2) + rng.sample(WITH_A, 2)
    rng.shuffle(things)
    places = rng.sample(PLACES, 3)
    given = answer(list(things), list(places))
    if given is None:
        raise _not_yet("sentences for a poster", "your function returns nothing yet")
    if isinstance(given, str) or not all(isinstance(text, str) for text in given):
        raise _not_yet("sentences for a poster", "return a list of sentences")
    said = [" ".join(text.split()) for text in given]
    right = [f"{objects()[t]['article']} {t} {place}" for t in things for place in places]
    mistakes = {
        "an article is wrong: an owl, but a fox": [f"a {t} {p}" for t in things for p in places],
        "the articles are missing: an owl, a fox": [f"{t} {p}" for t in things for p in places],
        "every thing goes into every place: a loop inside a loop": [
            f"{objects()[t]['article']} {t} {p}" for t, p in zip(things, places, strict=False)
        ],
        "take the things one by one, and for each all places": [
            f"{objects()[t]['article']} {t} {p}" for p in places for t in things
        ],
    }
    if said == right:
        print("✓", say("sentences for a poster"))
        return
    for hint, wrong in mistakes.items():
        if said == wrong:
            raise _not_yet("sentences for a poster", hint)
    if len(said) != len(right):
        raise _not_yet(
            "sentences for a poster",
            "{things} things in {places} places are {right} sentences, not {said}",
            things=len(things),
            places=len(places),
            right=len(right),
            said=len(said),
        )
    mine, course = next((a, b) for a, b in zip(said, right, strict=True) if a != b)
    hint = "it says “{mine}”, it should be “{course}”"
    raise _not_yet("sentences for a poster", hint, mine=mine, course=course)


def four_kinds(thing: str, other: str, place: str = "grass") -> dict[str, Scene]:
    """Sentences of four kinds, with the scene that each asks for: one, three of it, purple, it beside another.

    Raises ValueError for a thing that is none of the hundred.
    """
    keys = {row["en"]: key for key, row in objects().items() if row["whole"]}
    for name in (thing, other):
        if name not in keys:
            told = "{name!r} is none of its hundred things: take one of the playground's"
            raise ValueError(say(told, name=name))
    thing, other = keys[thing], keys[other]
    one = Thing(thing)
    first, second = sentence(Choice(thing)), sentence(Choice(other))
    where = sentence(Choice(thing, place=place)).removeprefix(first)
    return {
        sentence(Choice(thing, place=place)): Scene((one,), place=place),
        sentence(Choice(thing, 3, place=place)): Scene((one,) * 3, place=place),
        sentence(Choice(thing, colour="purple", place=place)): Scene(
            (replace(one, colour="purple"),), place=place
        ),
        f"{first} next to {second}{where}": Scene((one, Thing(other)), place=place),
    }


def eye_and_judge(
    counts: Sequence[int] | None, kinds: Mapping[str, Scene], pictures: Mapping[str, Tensor]
) -> None:
    """Exercise 00.3: how many of each kind's pictures are right, to the learner's eye and to the strict judge."""
    if counts is None:
        raise _not_yet("eye and judge", "count with your own eyes first, a number for each row")
    if len(counts) != len(kinds):
        raise _not_yet("eye and judge", "there are {n} rows: write {n} numbers", n=len(kinds))
    judge = Judge.load("strict")
    for mine, (words, asked) in zip(counts, kinds.items(), strict=True):
        drawn = pictures[words]
        if not 0 <= mine <= len(drawn):
            raise _not_yet(
                "eye and judge", "a row has {n} pictures, not {mine}", n=len(drawn), mine=mine
            )
        read = judge.read(drawn.cpu())
        right = sum(all(asked.asks(scene).values()) for scene in read)
        told = "{words}: you ≈ {mine}, the judge ≈ {right}"
        print(say(told, words=words, mine=mine, right=right))


# Exercise 00.4: what was done to the pictures of each letter
FAULTS = {
    "A": "the words are not read",
    "B": "red and blue are swapped",
    "C": "one step",
    "D": "each sentence has its neighbour's picture",
}


def broken(imagen: Imagen, words: Sequence[str], seed: int = 0) -> dict[str, Tensor]:
    """The same sentences drawn by four machines, each with another fault: letter → pictures (B, 3, 16, 16)."""
    seeds = [seed + i for i in range(len(words))]

    def draw(**options: float) -> Tensor:
        return imagen.generate(list(words), seeds, last="base", **options)["base"]  # type: ignore[arg-type]

    right = draw()
    return {
        "A": draw(guidance=0.0),
        "B": right.flip(1),
        "C": draw(steps=1),
        "D": torch.roll(right, 1, 0),
    }


def diagnosis(answer: Mapping[str, str] | None) -> None:
    """Exercise 00.4: the fault of each of the four machines of `broken`, by letter."""
    if answer is None:
        raise _not_yet("four faults", "name the fault of each letter first")
    hints = {
        "A": "are its pictures good ones? And are they of these sentences?",
        "B": "look at the colour of the sky, and of all that should be red or blue",
        "C": "what does a belief look like at the very beginning?",
        "D": "every sentence was drawn: where does its picture stand?",
    }
    for letter, fault in FAULTS.items():
        names = sorted(say(name) for name in FAULTS.values())
        if answer.get(letter) not in names:
            one_of = "; ".join(names)
            raise _not_yet(
                "four faults", "{letter} is one of: {names}", letter=letter, names=one_of
            )
        if answer[letter] != say(fault):
            another = "{letter} is another one: {ask}"
            raise _not_yet("four faults", another, letter=letter, ask=say(hints[letter]))
    print("✓", say("four faults"))
