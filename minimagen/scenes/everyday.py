"""Versions 2 and 3 of the training captions: closer to what people type than those of the grammar (captions.py).

A part of them are the grammar's, unchanged. The others also write numbers as digits, put the time of day before the
noun, use further names, describe an object in place of its name, begin with a request, leave out articles and add
adjectives such as "cute"; some have a typo. They name only what the scene asks for. Held-out words, and the
sentences and spellings of the suites that are stored in files, never occur. Version 3 has more words for each
object, place and time of day, more descriptions, and more typos, Chinese ones too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from .captions import kinds, pick
from .scene import Scene, Thing, further, grammar, objects
from .spelling import bare, kept_sentences, typo


class Shares(NamedTuple):
    """How often a version of the captions does what people do."""

    plain: float  # captions that are the grammar's, unchanged
    typos: float  # English captions that have a typo
    second_typo: float  # of those, the ones that have another
    english_names: float  # objects called by a further name
    chinese_names: float
    described: float  # of single objects without colour and size, those that are described
    chinese_typos: float  # Chinese names written with a wrong character
    wider: bool  # with the words of further.json


SHARES = {
    2: Shares(
        plain=0.5,
        typos=0.06,
        second_typo=0.0,
        english_names=0.35,
        chinese_names=0.4,
        described=0.14,
        chinese_typos=0.0,
        wider=False,
    ),
    3: Shares(
        plain=0.3,
        typos=0.14,
        second_typo=0.3,
        english_names=0.55,
        chinese_names=0.5,
        described=0.3,
        chinese_typos=0.1,
        wider=True,
    ),
}


def widened(asked: Scene, language: str, plain: str, rng: random.Random, version: int = 2) -> str:
    """A caption of version 2 or 3 for what is asked for. plain: the grammar's caption, which some of them are."""
    shares = SHARES[version]
    if rng.random() < shares.plain:
        text = plain
    else:
        write = _english if language == "en" else _chinese
        text = write(asked, rng, shares)
        if bare(text) in kept_sentences():
            text = plain
    if language == "en" and rng.random() < shares.typos:
        mistyped = typo(text, rng, shares.wider)
        if rng.random() < shares.second_typo:
            mistyped = typo(mistyped, rng, shares.wider)
        text = text if bare(mistyped) in kept_sentences() else mistyped
    return text


@cache
def _names(key: str, language: str, wider: bool) -> list[tuple[str, str, str]]:
    """The further names of an object: (article, name, plural or ""); Chinese ones have no article and no plural."""
    also = objects()[key]["also"]
    more = further()["objects"].get(key, {}).get(language, []) if wider else []
    if language == "zh":
        return [("", name, "") for name in also["zh"] + more]
    names = zip(also["article"], also["en"], also["plural"], strict=True)
    return [*names, *((article, name, plural) for name, article, plural in more)]


@cache
def _descriptions(key: str, language: str, wider: bool) -> list[str]:
    told: list[str] = objects()[key]["described"][language]
    more: dict[str, list[str]] = further()["objects"].get(key, {}) if wider else {}
    return told + more.get(f"described_{language}", [])


@cache
def _options(kind: str, key: str, which: str, wider: bool) -> list[str]:
    """The words for a place or a time: `which` of them, of the version."""
    words: list[str] = grammar()["wide"][kind][key][which]
    more: list[str] = further()[kind][key][which] if wider else []
    return words + more


def _description(asked: Scene, language: str, rng: random.Random, shares: Shares) -> str:
    """A description in place of an object's name, or "": for a share of single objects without colour and size."""
    thing = asked.things[0]
    told = _descriptions(thing.key, language, shares.wider)
    attributes = thing.colour or thing.size
    if len(asked.things) > 1 or attributes or not told or rng.random() >= shares.described:
        return ""
    return pick(rng, told)


def _english(asked: Scene, rng: random.Random, shares: Shares) -> str:
    chance, words = rng.random, grammar()["wide"]
    short = chance() < 0.15  # cat on grass
    style = words["styles"][asked.style] if asked.style else None
    style_at = chance() if style else 1.0
    near = pick(rng, style["near"]) if style and style_at < 0.35 else ""
    described = _description(asked, "en", rng, shares)
    if described and near:
        near, style_at = "", 0.6
    core = _english_core(asked, near, short, described, rng, shares)
    u = chance()
    if asked.place and u < 0.2:
        text = _english_background(asked, core, rng, shares)
    else:
        where, when = _english_setting(asked, short, rng, shares)
        setting = f"{where} {when}".strip()
        text = _english_order(core, setting, u, described)
        sentence = (
            " is " in core
        )  # "a cat is above a dog": a request before it would be ungrammatical
        if (u >= 0.42 or not setting) and not sentence:
            if style and style_at >= 0.8:
                return _finish(f"{pick(rng, style['picture'])} {text}", rng)
            text = _asked_for(asked, text, rng)
    if style and not near:
        if style_at < 0.55:
            text = f"{pick(rng, style['style'])} style, {text}"
        else:
            how = pick(rng, (", {s} style", ", in {s} style", " in {s} style", ", {s}"))
            text += how.format(s=pick(rng, style["style"]))
    return _finish(text, rng)


def _english_core(
    asked: Scene, near: str, short: bool, described: str, rng: random.Random, shares: Shares
) -> str:
    """The objects and their arrangement, without place or time."""
    if kinds(asked) > 1:
        relations: list[str] = grammar()["wide"]["relations"]["en"][asked.arrangement or "none"]
        a, b = (_english_noun([thing], near, short, rng, shares) for thing in asked.things)
        return pick(rng, relations).format(a=a, b=b)
    core = described or _english_noun(asked.things, near, short, rng, shares)
    return f"{core} {pick(rng, grammar()['verbs']['en'])}" if rng.random() < 0.15 else core


def _english_background(asked: Scene, core: str, rng: random.Random, shares: Shares) -> str:
    """The place as a background: "a cat, grass background"."""
    words, when = grammar()["wide"], ""
    place = pick(rng, _options("places", asked.place, "bare", shares.wider))
    if asked.time and rng.random() < 0.5:
        place = f"{pick(rng, _options('times', asked.time, 'near', shares.wider))} {place}"
    elif asked.time:
        when = pick(rng, _options("times", asked.time, "en", shares.wider))
    article = "an" if place[0] in "aeiou" else "a"
    text = pick(rng, words["backgrounds"]["en"]).format(x=core, a=article, p=place)
    return f"{text}, {when}" if when else text


def _english_order(core: str, setting: str, u: float, described: str) -> str:
    """The objects and their setting, in one of three orders; u: uniform in [0, 1)."""
    if not setting:
        return core
    if u < 0.42:
        return f"{setting}, {core}"
    return f"{core}, {setting}" if described or u < 0.5 else f"{core} {setting}"


def _english_noun(
    things: Sequence[Thing], near: str, short: bool, rng: random.Random, shares: Shares
) -> str:
    """A noun phrase for one object, or two or three of a kind, with its attributes. near: the style."""
    chance, words = rng.random, grammar()["wide"]
    thing, n = things[0], len(things)
    row = objects()[thing.key]
    article, name, plural = row["article"], row["en"], row["plural"]
    names = _names(thing.key, "en", shares.wider)
    if names and chance() < shares.english_names:
        other = pick(rng, names)
        if n == 1 or other[2]:
            article, name, plural = other
    colour = pick(rng, words["colours"][thing.colour]["en"]) if thing.colour else ""
    size = pick(rng, words["sizes"][thing.size]["en"]) if thing.size else ""
    praise = pick(rng, words["praise"]["en"]) if chance() < 0.12 else ""
    before = " ".join(word for word in (praise, size, colour, near) if word)
    if n > 1:
        return " ".join((pick(rng, words["numbers"]["en"][n - 1]), f"{before} {plural}".strip()))
    if before:  # an orange cat, a cute orange cat
        article = "" if article == "some" else grammar()["articles"].get(before.split(" ")[0], "a")
    if thing.key in ("sun", "moon") and chance() < 0.4:
        article = "the"
    elif short:
        article = ""
    elif article and chance() < 0.12 and article != "some":
        article = pick(rng, words["numbers"]["en"][0])
    return " ".join(word for word in (article, before, name) if word)


def _english_setting(
    asked: Scene, short: bool, rng: random.Random, shares: Shares
) -> tuple[str, str]:
    """Place and time: "on the beach", "at dusk"; or both in the first, "on the night beach", and ""."""
    chance, words = rng.random, grammar()["wide"]
    when = pick(rng, _options("times", asked.time, "en", shares.wider)) if asked.time else ""
    if not asked.place:
        return "", when
    place = words["places"][asked.place]
    if place["at"] and (short or (asked.time and chance() < 0.45)):
        how, what = pick(rng, place["at"]).split("|")
        which = "" if short else pick(rng, ("the ", "the ", "a "))
        if asked.time and chance() < 0.7:
            near = pick(rng, _options("times", asked.time, "near", shares.wider))
            what, when = f"{near} {what}", ""
        if which == "a " and what[0] in "aeio":
            which = "an "
        return f"{how} {which}{what}", when
    known = grammar()["places"][asked.place]["en"]
    wide = _options("places", asked.place, "en", shares.wider)
    return pick(rng, wide if chance() < 0.6 else known), when


def _asked_for(asked: Scene, text: str, rng: random.Random) -> str:
    """Put a request ("draw me …") or "there is" in front, or neither."""
    u = rng.random()
    if u < 0.35:
        return f"{pick(rng, grammar()['wide']['requests']['en'])} {text}"
    if u < 0.5 and kinds(asked) == 1:
        return f"there {'is' if len(asked.things) == 1 else 'are'} {text}"
    return text


def _finish(text: str, rng: random.Random) -> str:
    """Vary capitals and punctuation."""
    u = rng.random()
    if u < 0.25:
        text = text[0].upper() + text[1:]
    elif u < 0.32:
        text = text.lower()
    elif u < 0.34:
        text = text.upper()
    u = rng.random()
    if u < 0.15:
        return text + "."
    if u < 0.19:
        return text + "!"
    return text.replace(", ", " ") if u < 0.25 else text


def _chinese(asked: Scene, rng: random.Random, shares: Shares) -> str:
    chance, words = rng.random, grammar()["wide"]
    style = pick(rng, words["styles"][asked.style]["zh"]) if asked.style else ""
    style_at = chance() if style else 1.0
    near = f"{style}风格的" if style and style_at < 0.35 else ""
    core, verb = _chinese_core(asked, near, rng, shares)
    when = pick(rng, _options("times", asked.time, "zh", shares.wider)) if asked.time else ""
    text, core_first = _chinese_placed(asked, core, verb, when, rng, shares)
    if core_first and chance() < 0.5:
        text = pick(rng, words["requests"]["zh"]).format(x=text)
        core_first = False
    if style and not near:
        how = "{s}风格，{x}" if style_at < 0.65 else "{x}，{s}风格"
        if style_at > 0.8 and core_first:
            how = "{s}的{x}"
        text = how.format(s=style, x=text)
    u = chance()
    if u < 0.2:
        return text + "。"
    if u < 0.3:
        return text.replace("，", ",")
    return text.replace("，", " ") if u < 0.38 else text


def _chinese_core(asked: Scene, near: str, rng: random.Random, shares: Shares) -> tuple[str, str]:
    """The objects and their arrangement, and a verb ("在玩耍") or ""."""
    described = _description(asked, "zh", rng, shares)
    if kinds(asked) > 1:
        relations = grammar()["wide"]["relations"]["zh"][asked.arrangement or "none"]
        a, b = (_chinese_noun([thing], near, "", rng, shares) for thing in asked.things)
        return pick(rng, relations).format(a=a, b=b), ""
    core = _chinese_noun(asked.things, near, described, rng, shares)
    return core, f"在{pick(rng, grammar()['verbs']['zh'])}" if rng.random() < 0.12 else ""


def _chinese_placed(
    asked: Scene, core: str, verb: str, when: str, rng: random.Random, shares: Shares
) -> tuple[str, bool]:
    """The objects in their place and time, and whether they come first: a request can only precede the objects."""
    chance, words, pair = rng.random, grammar()["wide"], kinds(asked) > 1
    u = chance()
    if not asked.place:
        link = "，" if pair or u < 0.5 else "的"
        return f"{when}{link}{core}{verb}" if when else f"{core}{verb}", not when
    if u < 0.2:
        place = pick(rng, _options("places", asked.place, "bare_zh", shares.wider))
        how = pick(rng, words["backgrounds"]["zh"][: 4 if pair else None])
        text = how.format(x=core, p=f"{when}的{place}" if when else place)
        return text, how.startswith("{x}")
    own = grammar()["places"][asked.place]["zh"]
    wide = _options("places", asked.place, "zh", shares.wider)
    where = pick(rng, wide if chance() < 0.6 else own)
    v = chance() if when else 1.0
    if v < 0.7:
        where, when = f"{when}{'的' if v < 0.5 else ''}{where}", ""
    text, core_first = _chinese_order(asked, core, verb, where, u)
    return f"{when}，{text}" if when else text, core_first and not when


def _chinese_order(asked: Scene, core: str, verb: str, where: str, u: float) -> tuple[str, bool]:
    """The objects and their place, and whether the objects come first; u: uniform in [0, 1)."""
    pair = kinds(asked) > 1
    if pair and asked.arrangement:
        return f"{where}，{core}", False
    if u < 0.5:
        return f"{where}有{core}{verb}", False
    if u < 0.6 and not pair:
        return f"有{core}在{where}{verb[1:]}", False
    if u < 0.7:
        return f"{where}，{core}{verb}", False
    return f"{core}在{where}{verb[1:]}", True


def _chinese_noun(
    things: Sequence[Thing], near: str, described: str, rng: random.Random, shares: Shares
) -> str:
    chance, words = rng.random, grammar()["wide"]
    thing, n = things[0], len(things)
    row = objects()[thing.key]
    name, names = row["zh"], _names(thing.key, "zh", shares.wider)
    if names and chance() < shares.chinese_names:
        name = pick(rng, names)[1]
    elif shares.wider and chance() < shares.chinese_typos:
        name = pick(rng, further()["objects"].get(thing.key, {}).get("typos_zh") or [name])
    count = pick(rng, words["numbers"]["zh"][n - 1]).format(m=row["measure"])
    if described:
        return near + (f"一个{described}" if chance() < 0.6 else described)
    colour = ""
    if thing.colour:
        colour = pick(rng, words["colours"][thing.colour]["zh"]).removesuffix("色")
        colour += "色的" if chance() < 0.75 else "色"
    size = pick(rng, words["sizes"][thing.size]["zh"]) if thing.size else ""
    praise = pick(rng, words["praise"]["zh"]) if chance() < 0.12 else ""
    return f"{count}{praise}{size}{colour}{near}{name}"
