"""Which words of a sentence are known: held against the captions of training and the suites of held-out words."""

import random
from itertools import islice

import pytest

from minimagen.course.words import Choice, chips, pieces, remarks, sentence
from minimagen.scenes import Scenes
from minimagen.scenes.everyday import SHARES, _chinese, _english
from minimagen.scenes.scene import objects

KINDS = ("thing", "number", "colour", "size", "place", "time", "style")


def of(kind, text):
    return [p for p in pieces(text) if p.kind == kind]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_caption_of_the_training_is_known(language):
    """Of both versions, but for the typing mistakes that version 2 puts in."""
    scenes = Scenes(vocabulary="whole", languages=(language,))
    wider = {"en": _english, "zh": _chinese}[language]
    for i in range(1500):
        _, asked, plain, _ = scenes.describe(i)
        for text in (plain, wider(asked, random.Random(i), SHARES[2])):
            cut = pieces(text)
            assert "".join(p.text for p in cut) == text
            assert not [p for p in cut if p.kind in ("unknown", "near")], (text, cut)
            assert {p.key for p in cut if p.kind == "thing"} <= {t.key for t in asked.things}, text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_held_out_words_are_near_their_thing_and_never_known(language):
    scenes = Scenes(split="words", vocabulary="whole", languages=(language,))
    for i in range(400):
        _, asked, text, _ = scenes.describe(i)
        assert {p.key for p in of("near", text)} == {t.key for t in asked.things}, (
            text,
            pieces(text),
        )
        assert not of("thing", text) and not of("unknown", text), (text, pieces(text))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_chosen_sentence_says_what_was_chosen_and_nothing_else(language):
    rng = random.Random(0)
    for _ in range(300):
        picked = {
            kind: rng.choice(chips(kind, language))[1] for kind in KINDS if rng.random() < 0.6
        }
        picked |= {"thing": rng.choice(chips("thing", language))[1]}
        wanted = {**picked, "number": int(picked.get("number", 1))}
        text = sentence(Choice(**wanted), language)
        said = {kind: {p.key for p in of(kind, text)} for kind in KINDS}
        said["number"] -= {"1"}  # "a cat"
        for kind in KINDS:
            expected = {picked[kind]} if kind in picked and picked[kind] != "1" else set()
            assert said[kind] == expected, (text, kind)
        assert not of("unknown", text)


def test_the_sentence_is_the_plain_one():
    choice = Choice("cat", 1, "orange", "big", "grass", "night", "cartoon")
    assert sentence(choice) == "cartoon style, a big orange cat on the grass at night"
    assert sentence(choice, "zh") == "卡通风格，夜晚，一只大大的橙色的猫在草地上"
    assert sentence(Choice("elephant", 3)) == "three elephants"
    assert sentence(Choice("elephant")) == "an elephant"


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a unicorn in the snow", ["unicorn"]),
        ("a plaid car", ["plaid"]),
        ("a hot dog on the beach", ["hot dog"]),
        ("Two Catamarans and a cat", ["Catamarans"]),  # no "cat" in it
        ("一只独角兽在雪地里", ["独角兽"]),
        ("a 猫 with wings, ok?", ["wings", "ok"]),
        ("", []),
    ],
)
def test_what_it_never_saw_is_found(text, unknown):
    assert [p.text for p in of("unknown", text)] == unknown
    assert "".join(p.text for p in pieces(text)) == text


def test_the_remarks_name_it():
    assert remarks("a red cat on the grass") == []
    (said,) = remarks("a unicorn and a plaid cat")
    assert "unicorn, plaid" in said
    (said,) = remarks("a kitten playing on the grass")
    assert "“kitten”" in said and "“cat”" in said
    (said,) = remarks("一只小猫在草地上玩耍", "zh")
    assert "“小猫”" in said and "“猫”" in said
    (said,) = remarks("on the grass")
    assert "No thing" in said


def test_chips_are_the_whole_vocabulary_easy_things_first():
    things = chips("thing", "en")
    assert len(things) == 100 and len({key for _, key in things}) == 100
    assert all(objects()[key]["starter"] for _, key in islice(things, 40))
    assert things[0] == ("🐱 cat", "cat") and chips("thing", "zh")[0] == ("🐱 猫", "cat")
    assert [len(chips(kind, "zh")) for kind in KINDS[1:]] == [3, 10, 2, 12, 3, 4]
