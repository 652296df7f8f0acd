"""The words that the shipped cascade has met: a sentence made of them, and which pieces of a typed one it knows."""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..scenes import Scene, Thing
from ..scenes.captions import caption
from ..scenes.scene import grammar, objects
from .language import say

LANGUAGES = {"en": "English", "zh": "中文"}
CHINESE = re.compile(r"[\u3400-\u9fff]")
# said around things, in captions: 的 and the like stand inside templates, and a template's "{x}" is no word
AROUND = {
    "en": "a an the some of and with in on at there is are style next to left right above below under".split(),
    "zh": "的 色 色的 在 有 和 是 小 大 风格 风格的 张 幅 画 图 图片 个 左边 左侧 右边 右侧 上面 下面".split(),
}


@dataclass(frozen=True)
class Choice:
    """What was chosen of the words, by key; None: nothing is said of it."""

    thing: str
    number: int = 1
    colour: str | None = None
    size: str | None = None
    place: str | None = None
    time: str | None = None
    style: str | None = None


@dataclass(frozen=True)
class Piece:
    """A piece of a text. kind: thing, colour, size, number, place, time, style, other (around them), near (a name
    that no caption of the training had, for the thing `key`), unknown, or "" for what stands between words."""

    text: str
    kind: str
    key: str = ""


class _First(random.Random):
    """Takes the first of two ways to say something, and leaves out what is only said at times."""

    def random(self) -> float:
        return 0.45


def sentence(choice: Choice, language: str = "en") -> str:
    """The plainest caption of a choice, as training has it: "a big red cat on the grass at night"."""
    thing = Thing(choice.thing, choice.colour, choice.size)
    things = (thing,) * choice.number
    scene = Scene(things, style=choice.style, place=choice.place, time=choice.time)
    return caption(scene, language, _First())


def chips(kind: str, language: str) -> list[tuple[str, str]]:
    """The words to choose from, each with its key: of things (with a picture sign), places, colours and so on."""
    if kind == "thing":
        rows = sorted(known_things(), key=lambda row: not row["starter"])  # the easy ones first
        return [(f"{_sign(row['codepoint'])} {row[language]}", row["key"]) for row in rows]
    if kind == "number":
        numbers = grammar()["numbers"][language]
        return [("one" if word == "a" else word, str(i + 1)) for i, word in enumerate(numbers)]
    return [(row[language][0], key) for key, row in grammar()[f"{kind}s"].items()]


def _sign(codepoint: str) -> str:
    return chr(int(codepoint, 16)) + ("\ufe0f" if len(codepoint) == 4 else "")  # in colour


def known_things() -> list[dict]:
    """The hundred things that the shipped cascade can draw, as rows of `objects()`."""
    return [row for row in objects().values() if row["whole"]]


def thing_named(name: str) -> str | None:
    """The key of a thing by a name of it, in English or Chinese, in small or capital letters; None: it has none."""
    plain = name.lower().strip()
    for told in (plain, re.sub("[_-]", " ", plain)):
        kind, key = _phrases()[0].get(told, ("", ""))
        if kind in ("thing", "near"):
            return key
    return None


def nearest_name(name: str) -> str | None:
    """The name of the thing that is spelled most like this one, in its language; None: nothing is."""
    chinese = CHINESE.search(name) is not None
    names = {told: key for told, (kind, key) in _phrases()[0].items() if kind in ("thing", "near")}
    # of two Chinese signs, one is enough
    near = difflib.get_close_matches(name.lower().strip(), names, 1, 0.45 if chinese else 0.6)
    return objects()[names[near[0]]]["zh" if chinese else "en"] if near else None


def pieces(text: str) -> list[Piece]:
    """The text cut into pieces, the longest words first; together they are the text again."""
    found: list[Piece] = []
    at = 0
    while at < len(text):
        piece = _piece_at(text, at)
        joined = found and found[-1].kind == piece.kind and piece.kind in ("", "unknown")
        if joined:  # Chinese signs that nobody knows, and all that is no word
            found[-1] = Piece(found[-1].text + piece.text, piece.kind)
        else:
            found.append(piece)
        at += len(piece.text)
    return found


def _piece_at(text: str, at: int) -> Piece:
    phrases, longest = _phrases()
    word = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*").match(text, at)
    if word is None:
        return Piece(text[at], "")
    chinese = CHINESE.match(text[at]) is not None
    for end in range(min(len(text), at + longest), at, -1):
        inside = not chinese and _in_a_word(text, end)
        if not inside and (known := phrases.get(text[at:end].lower())):
            return Piece(text[at:end], *known)
    whole = text[at] if chinese else re.split(CHINESE, word[0])[0]
    return Piece(whole, "unknown")


def _in_a_word(text: str, end: int) -> bool:
    """Does a word of Latin letters go on at `end`?"""
    if end >= len(text) or CHINESE.match(text[end]) or CHINESE.match(text[end - 1]):
        return False
    return text[end].isalnum() and text[end - 1].isalnum()


def remarks(text: str, language: str = "en") -> list[str]:
    """What to say of a text before it is drawn: a sentence for what it never met, none where it knows all."""
    cut, said = pieces(text), []
    unknown = [p.text for p in cut if p.kind == "unknown"]
    near = {p.text: objects()[p.key][language] for p in cut if p.kind == "near"}
    if unknown:
        names = ", ".join(dict.fromkeys(unknown))
        said.append(
            say(
                "It has never seen a picture for: {names}. Something else will stand there.",
                names=names,
            )
        )
    for name, thing in near.items():
        told = "No picture of its training was called “{name}”. Will it draw “{thing}”?"
        said.append(say(told, name=name, thing=thing))
    if not any(p.kind in ("thing", "near") for p in cut) and not unknown:
        said.append(say("No thing is named: it will choose one."))
    return said


@lru_cache(maxsize=1)
def _phrases() -> tuple[dict[str, tuple[str, str]], int]:
    """Every phrase, in small letters, with its kind and key; and the length of the longest."""
    table: dict[str, tuple[str, str]] = {}
    for kind, key, phrase in _told():
        table.setdefault(phrase.lower().strip(), (kind, key))
    table.pop("", None)
    return table, max(map(len, table))


def _told() -> Iterator[tuple[str, str, str]]:
    """(kind, key, phrase), what counts most first: a word can be of two kinds."""
    words = grammar()
    for row in known_things():
        for name in _names(row):
            yield "thing", row["key"], name
    for row in objects().values():  # "hot dog" is no dog
        if not row["whole"]:
            for name in _names(row):
                yield "unknown", row["key"], name
    for kind in ("colour", "place", "time", "size", "style"):
        for key in words[f"{kind}s"]:
            for told in (words[f"{kind}s"][key], words["wide"][f"{kind}s"][key]):
                for phrase in _leaves(told):
                    yield kind, key, phrase.replace("|", " ")
                    if kind == "colour" and CHINESE.match(phrase):
                        yield kind, key, phrase.removesuffix("色") + "色的"
    yield from _numbers()
    for row in known_things():
        for language in ("en", "zh"):
            for name in (*row["synonyms"][language], *row["synonyms"].get("plural", ())):
                yield "near", row["key"], name
    for phrase in [*AROUND["en"], *AROUND["zh"], *_around()]:
        yield "other", "", phrase


def _names(row: dict) -> list[str]:
    names = [row["en"], row["plural"], row["zh"], *row["also"]["en"], *row["also"]["plural"]]
    names += [*row["also"]["zh"], *row["described"]["en"], *row["described"]["zh"]]
    return names + [name.split(" of ")[1] for name in (row["en"], row["plural"]) if " of " in name]


def _numbers() -> Iterator[tuple[str, str, str]]:
    measures = dict.fromkeys(row["measure"] for row in known_things())
    for n in range(3):
        yield "number", str(n + 1), grammar()["numbers"]["en"][n] if n else "one"
        for phrase in grammar()["wide"]["numbers"]["en"][n]:
            yield "number", str(n + 1), phrase
        for phrase in (
            grammar()["numbers"]["zh"][n] + "{m}",
            *grammar()["wide"]["numbers"]["zh"][n],
        ):
            for measure in measures:
                yield "number", str(n + 1), phrase.format(m=measure)


def _around() -> Iterator[str]:
    """What stands around things in captions: requests, relations, praise, verbs, single words of phrases."""
    words = grammar()
    told = [
        words["verbs"],
        *(words["wide"][k] for k in ("praise", "requests", "backgrounds", "relations")),
    ]
    for phrase in _leaves(
        [*told, words["places"], words["wide"]["places"], words["wide"]["times"]]
    ):
        for part in re.split(r"\{\w+\}|[，,：、|]", phrase):
            yield part
            yield from re.findall(r"[A-Za-z'-]+", part)


def _leaves(told: Any) -> Iterator[str]:
    """Every string in lists and tables, keys aside."""
    if isinstance(told, str):
        yield told
    elif isinstance(told, dict):
        for value in told.values():
            yield from _leaves(value)
    elif isinstance(told, Sequence):
        for value in told:
            yield from _leaves(value)
