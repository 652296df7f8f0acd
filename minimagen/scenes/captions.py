"""The captions of scenes, in English and Chinese, by a grammar."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from .scene import Scene, Thing, grammar, objects

Option = TypeVar("Option")


def pick(rng: random.Random, options: Sequence[Option]) -> Option:
    """One of the options, with equal probability.

    Not rng.choice: only random() is promised to give the same numbers in every version of Python.
    """
    return options[int(rng.random() * len(options))]


def caption(asked: Scene, language: str, rng: random.Random, synonyms: bool = False) -> str:
    """A sentence for what is asked for, in English ("en") or Chinese ("zh"), in one of several phrasings.

    synonyms: name objects by synonyms, which training captions never do.
    """
    words = grammar()
    style = words["styles"][asked.style][language][0] if asked.style else ""
    where = _word("places", asked.place, language, rng)
    when = _word("times", asked.time, language, rng)
    style_at = rng.random() if style else 1.0  # below 0.4: before the noun; below 0.7: in front
    near = style if style_at < 0.4 else ""
    noun = _english_noun if language == "en" else _chinese_noun
    if kinds(asked) > 1:
        first, second = (noun([thing], near, synonyms, rng) for thing in asked.things)
        core, verb = _relate(first, second, asked.arrangement, language, rng), ""
    else:
        core = noun(asked.things, near, synonyms, rng)
        verb = pick(rng, words["verbs"][language]) if rng.random() < 0.25 else ""
    front = rng.random() < 0.4
    if language == "zh":
        text = _chinese(asked, core, verb, where, when, front)
        return f"{style}风格，{text}" if style and not near else text
    text = _english(core, verb, where, when, front)
    if not style or near:
        return text
    return f"{style} style, {text}" if style_at < 0.7 else f"{text}, {style} style"


def kinds(asked: Scene) -> int:
    """The number of different objects that are asked for."""
    return len({thing.key for thing in asked.things})


def _word(kind: str, name: str | None, language: str, rng: random.Random) -> str:
    """One of the words for a place, a time, a colour or a size; "" for none."""
    return pick(rng, grammar()[kind][name][language]) if name else ""


def _english_noun(
    things: Sequence[Thing], adjective: str, synonyms: bool, rng: random.Random
) -> str:
    """A noun phrase with its article: "an ant", "two big red cars"."""
    row, n = objects()[things[0].key], len(things)
    article, name, plural = row["article"], row["en"], row["plural"]
    if synonyms:
        others = row["synonyms"]
        k = int(rng.random() * len(others["en"]))
        name, article, plural = others["en"][k], others["article"][k], others["plural"][k]
    colour = _word("colours", things[0].colour, "en", rng)
    size = _word("sizes", things[0].size, "en", rng)
    before = [word for word in (size, colour, adjective) if word]
    if n > 1:
        return " ".join((grammar()["numbers"]["en"][n - 1], *before, plural))
    if before:  # an orange cat, a big orange cat
        article = grammar()["articles"].get(before[0], "a")
    return " ".join((article, *before, name))


def _chinese_noun(
    things: Sequence[Thing], adjective: str, synonyms: bool, rng: random.Random
) -> str:
    """A noun phrase with its number and measure word: "一只红色的猫"."""
    row, n = objects()[things[0].key], len(things)
    name = pick(rng, row["synonyms"]["zh"]) if synonyms else row["zh"]
    colour = _word("colours", things[0].colour, "zh", rng)
    size = _word("sizes", things[0].size, "zh", rng)
    colour = colour and colour.removesuffix("色") + "色的"
    adjective = adjective and adjective + "风格的"
    count = grammar()["numbers"]["zh"][n - 1] + row["measure"]
    return f"{count}{size}{colour}{adjective}{name}"


def _english(core: str, verb: str, where: str, when: str, front: bool) -> str:
    setting = " ".join(word for word in (where, when) if word)
    core = f"{core} {verb}".strip()
    return f"{setting}, {core}" if front and setting else f"{core} {setting}".strip()


def _chinese(asked: Scene, core: str, verb: str, where: str, when: str, front: bool) -> str:
    doing = f"在{verb}" if verb else ""
    if not where:
        text = core + doing
    elif front or asked.arrangement or kinds(asked) > 1:
        link = "，" if asked.arrangement else "有"
        text = f"{where}{link}{core}{doing}"
    else:
        text = f"{core}在{where}{verb}"
    return f"{when}，{text}" if when else text


def _relate(a: str, b: str, arrangement: str | None, language: str, rng: random.Random) -> str:
    """Two things and their arrangement; `a` is the left or upper one."""
    forms = {
        ("en", None): ("{a} and {b}", "{b} and {a}", "{a} next to {b}"),
        ("en", "row"): (
            "{a} to the left of {b}",
            "{a} on the left of {b}",
            "{b} to the right of {a}",
        ),
        ("en", "column"): ("{a} above {b}", "{b} below {a}", "{b} under {a}"),
        ("zh", None): ("{a}和{b}", "{b}和{a}"),
        ("zh", "row"): ("{a}在{b}的左边", "{a}在{b}左侧", "{b}在{a}的右边"),
        ("zh", "column"): ("{a}在{b}的上面", "{b}在{a}的下面"),
    }
    return pick(rng, forms[language, arrangement]).format(a=a, b=b)
