"""What the course says while a notebook runs, in English or in Chinese: say("Draw {count}", count=6).

The English sentence is the key; phrases.zh.json has the Chinese ones, with the same names in braces.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

PHRASES = Path(__file__).with_name("phrases.zh.json")
_spoken = "en"


def speak(language: str) -> None:
    """From now on, say() answers in this language. Raises ValueError for one that is neither "en" nor "zh"."""
    global _spoken
    if language not in ("en", "zh"):
        raise ValueError(f"{language!r}: the course speaks en and zh")
    _spoken = language


def say(sentence: str, /, **values: object) -> str:
    """The sentence in the language that is spoken, its {names} filled in; English where there is no other."""
    told = phrases().get(sentence, sentence) if _spoken == "zh" else sentence
    return told.format(**values)


@cache
def phrases() -> dict[str, str]:
    """English sentence → Chinese."""
    return json.loads(PHRASES.read_text(encoding="utf-8"))
