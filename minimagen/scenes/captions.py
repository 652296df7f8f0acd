"""The captions of scenes, in English and Chinese, by a grammar."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .scene import Scene, Thing, grammar, objects


def pick(rng: random.Random, options: Sequence[str]) -> str:
    # not rng.choice: only random() is promised to be the same in every version of Python
    return options[int(rng.random() * len(options))]


def caption(asked: Scene, language: str, rng: random.Random, synonyms: bool = False) -> str:
    """Say what is asked for, in English ("en") or Chinese ("zh"), in one of several phrasings."""
    words = grammar()

    def say(kind: str, name: str | None) -> str:
        return pick(rng, words[kind][name][language]) if name else ""

    style = words["styles"][asked.style][language][0] if asked.style else ""
    where, when = say("places", asked.place), say("times", asked.time)
    style_at = rng.random() if style else 1.0  # below 0.4: before the noun; below 0.7: in front

    def noun(things: Sequence[Thing], adjective: str = "") -> str:
        row, n = objects()[things[0].key], len(things)
        article, name, plural = row["article"], row[language], row["plural"]
        if synonyms:
            others = row["synonyms"]
            k = int(rng.random() * len(others[language]))
            name = others[language][k]
            if language == "en":
                article, plural = others["article"][k], others["plural"][k]
        colour, size = say("colours", things[0].colour), say("sizes", things[0].size)
        if language == "zh":
            colour = colour and colour.removesuffix("色") + "色的"
            adjective = adjective and adjective + "风格的"
            count = words["numbers"]["zh"][n - 1] + row["measure"]
            return f"{count}{size}{colour}{adjective}{name}"
        words_of_it = [w for w in (size, colour, adjective, name if n == 1 else plural) if w]
        if n > 1:
            article = words["numbers"]["en"][n - 1]
        elif len(words_of_it) > 1:  # an orange cat, a big orange cat
            article = words["articles"].get(words_of_it[0], "a")
        return " ".join((article, *words_of_it))

    near = style if style_at < 0.4 else ""
    if len({t.key for t in asked.things}) > 1:
        first, second = (noun([t], near) for t in asked.things)
        core = _relate(first, second, asked.arrangement, language, rng)
        verb = ""
    else:
        core = noun(asked.things, near)
        verb = pick(rng, words["verbs"][language]) if rng.random() < 0.25 else ""
    front = rng.random() < 0.4
    if language == "zh":
        if not where:
            text = core + (f"在{verb}" if verb else "")
        elif front or asked.arrangement or len({t.key for t in asked.things}) > 1:
            link = "，" if asked.arrangement else "有"
            text = f"{where}{link}{core}" + (f"在{verb}" if verb else "")
        else:
            text = f"{core}在{where}{verb}"
        text = f"{when}，{text}" if when else text
        return text if style_at < 0.4 or not style else f"{style}风格，{text}"
    setting = " ".join(w for w in (where, when) if w)
    core = f"{core} {verb}".strip()
    if front and setting:
        text = f"{setting}, {core}"
    else:
        text = f"{core} {setting}".strip()
    if not style or style_at < 0.4:
        return text
    return f"{style} style, {text}" if style_at < 0.7 else f"{text}, {style} style"


def _relate(a: str, b: str, arrangement: str | None, language: str, rng: random.Random) -> str:
    """Two things and how they stand: `a` is the left or upper one."""
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
