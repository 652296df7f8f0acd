"""Misspellings for training captions, and the sentences and spellings of the suites, which these never have."""

from __future__ import annotations

import csv
import random
import re
from functools import cache, lru_cache

from ..assets import DATA
from .captions import pick
from .scene import further, grammar, objects

SUITES = ("drawbench.tsv", "everyday.tsv")  # their sentences and spellings are excluded
NEIGHBOURS = {  # on a keyboard
    "a": "qws", "b": "vgn", "c": "xdv", "d": "sefc", "e": "wrd", "f": "drgv", "g": "fthb", "h": "gyjn",
    "i": "uok", "j": "hukm", "k": "jil", "l": "kop", "m": "nj", "n": "bhm", "o": "ipl", "p": "ol",
    "q": "wa", "r": "etf", "s": "adwx", "t": "ryg", "u": "yij", "v": "cfb", "w": "qes", "x": "zsc",
    "y": "tuh", "z": "xas",
}  # fmt: skip
_MARKS = str.maketrans("", "", " ,.!?;:'\"，。！？、；：-")


def bare(text: str) -> str:
    """A sentence in lower case without spaces and punctuation, for comparing sentences."""
    return text.lower().translate(_MARKS)


@lru_cache(maxsize=1)
def kept_sentences() -> frozenset[str]:
    """The sentences of the suites that are stored in files, as `bare` returns them: captions must not equal one."""
    return frozenset(bare(text) for text in _suite_texts())


@cache
def kept_spellings(wider: bool = False) -> frozenset[str]:
    """Words that a typo must not result in: those of the suites in files, of all names and of the grammar.

    wider: those of further.json too.
    """
    told = _suite_texts() + [str(grammar())]
    told += [
        str([row["en"], row["plural"], row["synonyms"], row["also"]]) for row in objects().values()
    ]
    if wider:
        told.append(str(further()))
    return frozenset(re.findall("[a-z]+", " ".join(told).lower()))


def _suite_texts() -> list[str]:
    texts = []
    for name in SUITES:
        with open(DATA / name, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            texts += [row["text"] for row in rows]
    return texts


def typo(text: str, rng: random.Random, wider: bool = False) -> str:
    """Misspell an English word of four or more letters: two swapped, one left out, doubled, or a key beside it."""
    words = text.split(" ")
    long = [
        i for i, word in enumerate(words) if len(word) > 3 and word.isascii() and word.isalpha()
    ]
    if not long:
        return text
    at = long[int(rng.random() * len(long))]
    word = words[at]
    for _ in range(4):  # again where the result is excluded, which is rare
        i, kind = 1 + int(rng.random() * (len(word) - 1)), rng.random()
        if kind < 0.25:
            wrong = word[: i - 1] + word[i] + word[i - 1] + word[i + 1 :]
        elif kind < 0.5:
            wrong = word[:i] + word[i + 1 :]
        elif kind < 0.75:
            wrong = word[: i + 1] + word[i:]
        else:
            beside = pick(rng, NEIGHBOURS[word[i].lower()])
            wrong = word[:i] + (beside.upper() if word[i].isupper() else beside) + word[i + 1 :]
        if wrong != word and wrong.lower() not in kept_spellings(wider):
            words[at] = wrong
            return " ".join(words)
    return text
