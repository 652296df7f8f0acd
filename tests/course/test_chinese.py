"""What is there in Chinese says what the English says: the same numbers, code, links and phrases."""

from __future__ import annotations

import ast
import json
import re
import string
from collections import Counter

import pytest

from minimagen.course import chinese, editions, language
from minimagen.course.check import chapter_00 as check
from minimagen.course.folder import ROOT
from minimagen.course.words import remarks

TRANSLATED = sorted((ROOT / "notebooks" / "chinese").glob("*.json"))
EACH = pytest.mark.parametrize("path", TRANSLATED, ids=lambda p: p.stem)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
HAN = re.compile("[\u4e00-\u9fff]")
FENCE = re.compile(r"^[ \t]*```\w*\n(.*?)^[ \t]*```", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture
def in_chinese():
    language.speak("zh")
    yield
    language.speak("en")


def numbers(text: str) -> Counter:
    """How often each number stands in a text, pictures and addresses aside."""
    text = re.sub(r"data:\S+|@[0-9a-f]{8}|\]\([^)]*\)", "", text)
    return Counter(NUMBER.findall(text))


def braces(sentence: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_every_phrase_has_its_like_in_chinese():
    table, said, written = language.phrases(), set(), set()
    for path in (ROOT / "minimagen" / "course").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                written.add(node.value)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("say", "_not_yet"):
                said |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    assert said <= set(table), "phrases.zh.json lacks these"
    assert set(table) <= written, "nothing says these any more"
    for english, han in table.items():
        assert braces(english) == braces(han), english
        assert HAN.search(han) or english == "{exercise}: {hint}", han


def test_a_language_that_it_does_not_speak():
    with pytest.raises(ValueError, match="en and zh"):
        language.speak("fr")


@pytest.mark.usefixtures("in_chinese")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: check.numbers_drawn((16, 64, 256)), "一张图里有多少个数：这些是边长"),
        (lambda: check.numbers_drawn((1, 2, 3)), "边长是 16、64 和 256"),
        (lambda: check.sentences(lambda things, places: None), "还没有返回"),
        (lambda: check.sentences(lambda things, places: things), "12 句，而不是 4 句"),
        (lambda: check.diagnosis({"A": "坏了"}), "A 应该是其中之一：只走一步; 每句话"),
        (lambda: check.diagnosis({"A": "只走一步"}), "A 是另一种：它的图画得好吗"),
    ],
)
def test_checks_answer_in_chinese(call, says):
    with pytest.raises(AssertionError, match=re.escape(says)):
        call()


@pytest.mark.usefixtures("in_chinese")
def test_right_answers_and_remarks_in_chinese(capsys):
    told = ("没有读文字", "红色和蓝色对调了", "只走一步", "每句话配的是隔壁的图")
    check.diagnosis(dict(zip("ABCD", told, strict=True)))
    check.numbers_drawn((768, 12_288, 196_608))
    assert capsys.readouterr().out == "✓ 四种故障\n✓ 一张图里有多少个数\n"
    assert remarks("一只小猫在草地上", "zh") == ["训练用的图里没有一张叫“小猫”。它会画出“猫”吗？"]


@EACH
def test_a_chapter_is_made_from_its_two_sources(path):
    book = editions.read(ROOT / "notebooks" / "solutions" / f"{path.stem}.ipynb")
    told = json.loads(path.read_text(encoding="utf-8"))
    assert set(told) <= {cell["id"] for cell in book["cells"]}, "cells that are gone"
    made, answers = editions.split(chinese.translated(book, told))
    own = editions.read(ROOT / "notebooks" / f"{path.stem}.zh.ipynb")
    editions._keep_badges(made, own)
    assert own == made, "run make editions"
    kept = (ROOT / "minimagen/course/answers" / f"{path.stem}.zh.json").read_text(encoding="utf-8")
    assert json.loads(kept) == answers, "run make editions"


@EACH
def test_a_chapter_has_the_numbers_of_the_english_one_and_no_english_text(path):
    book = editions.read(ROOT / "notebooks" / "solutions" / f"{path.stem}.ipynb")
    told = json.loads(path.read_text(encoding="utf-8"))
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown" and "complete" not in cell["metadata"].get("tags", []):
            ours = told[cell["id"]]
            assert numbers(ours) == numbers("".join(cell["source"])), cell["id"]
            words = re.sub(r"`[^`]*`|\]\([^)]*\)|<[^>]*>|```.*?```", "", ours, flags=re.S)
            assert len(HAN.findall(words)) > 8, cell["id"]


def test_a_phrase_that_the_code_does_not_say_is_refused():
    cell = {"id": "a", "cell_type": "code", "source": ["print('hello')"], "metadata": {}}
    book = {"cells": [cell], "metadata": {"minimagen": {}}}
    with pytest.raises(ValueError, match="good-bye"):
        chinese.translated(book, {"a": {"good-bye": "再见"}})


def sections(text: str) -> list[str]:
    return re.split(r"^## ", text, flags=re.M)


def test_the_readme_says_the_same_in_both_languages():
    """Section by section: the same numbers, commands, links and pictures."""
    english, han = (
        sections((ROOT / name).read_text(encoding="utf-8"))
        for name in ("README.md", "README.zh.md")
    )
    assert len(english) == len(han)
    for ours, theirs in zip(english, han, strict=True):
        title = ours.split("\n")[0]
        assert numbers(ours) == numbers(theirs), title
        code = [
            [re.sub(r"\s*#.*", "", block) for block in FENCE.findall(t)] for t in (ours, theirs)
        ]
        assert code[0] == code[1], title
        links = [
            sorted(link.split("#")[0] for link in LINK.findall(t) if "README" not in link)
            for t in (ours, theirs)
        ]
        assert links[0] == links[1], title
