"""The teacher's guide holds what the chapters hold: its plans add up, and nothing that it names is missing."""

import json
import re
from functools import cache

import pytest

from minimagen.course import editions
from minimagen.course.core import CORE
from minimagen.course.folder import ROOT

NOTEBOOKS = ROOT / "notebooks"
COMPLETE = {
    p.name[:2]: p
    for p in sorted((NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
    if "." not in p.stem  # an edition in another language has the same pages
}
PAGES = {p.stem: p for p in sorted((NOTEBOOKS / "teaching").glob("[0-9]*.md"))}
GUIDE = NOTEBOOKS / "TEACHING.md"
EACH = pytest.mark.parametrize("number", sorted(PAGES))


@cache
def cells(number, kind=None):
    found = editions.read(COMPLETE[number])["cells"]
    return ["".join(c["source"]) for c in found if kind in (None, c["cell_type"])]


def headings(number):
    lines = "\n".join(cells(number, "markdown")).splitlines()
    return {line.lstrip("#").strip() for line in lines if re.match("#{2,3} ", line)}


def exercises(number):
    return set(re.findall(r"\*\*(\d) · \w+", "\n".join(cells(number, "markdown"))))


def functions(number):
    return [core.name for core in CORE.values() if core.chapter == int(number)]


def section(text, title):
    """What stands between the heading that begins with `title` and the next one of its level or above."""
    found = re.search(rf"^## {re.escape(title)}.*?$(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"no section {title!r}"
    return found[1]


def rows(text):
    """The rows of all tables in a text, without their heads."""
    table = [line for line in text.splitlines() if line.startswith("|")]
    split = [[c.strip() for c in line.strip("|").split("|")] for line in table]
    rules = [i for i, row in enumerate(split) if re.fullmatch("[-: ]+", row[0])]
    return [row for i, row in enumerate(split) if i not in rules and i + 1 not in rules]


def minutes(text):
    """0–6 → (0, 6); 9:30–9:45 → (570, 585)."""
    found = re.fullmatch(r"(?:(\d+):)?(\d+)–(?:(\d+):)?(\d+)", text)
    assert found, f"no times: {text!r}"
    return tuple(60 * int(found[i] or 0) + int(found[i + 1]) for i in (1, 3))


def add_up(table, length):
    now = start = minutes(table[0][0])[0]
    for row in table:
        begin, end = minutes(row[0])
        assert begin == now < end, f"a gap or an overlap at {row[0]}"
        now = end
    assert now - start == length, f"{now - start} minutes, not {length}"


def named(text):
    return re.findall("“([^”]+)”", text)


def exist(text, numbers):
    """All that a row of a plan names stands in one of these chapters."""
    known = set().union(*(headings(n) for n in numbers))
    assert not [h for h in named(text) if h not in known], text
    core = {f for n in numbers for f in functions(n)}
    assert not [f for f in re.findall("`([^`]+)`", text) if f not in core], text
    there = set().union(*(exercises(n) for n in numbers))
    assert not [n for n in re.findall(r"exercise (\d)", text) if n not in there], text


def test_a_table_that_does_not_add_up_is_found():
    good = [["0–6", "a"], ["6–50", "b"]]
    add_up(good, 50)
    add_up([["9:00–9:50", "a"], ["9:50–10:00", "b"]], 60)
    for bad in ([["0–6"], ["7–50"]], [["0–6"], ["6–49"]], [["0–6"], ["6–6"], ["6–50"]]):
        with pytest.raises(AssertionError):
            add_up(bad, 50)


def test_every_chapter_has_a_page():
    assert set(PAGES) == set(COMPLETE)
    links = re.findall(r"\(teaching/(\d\d)\.md\)", GUIDE.read_text(encoding="utf-8"))
    assert set(links) == set(PAGES)


@EACH
def test_a_page_is_short(number):
    assert PAGES[number].stat().st_size <= 8192


@EACH
@pytest.mark.parametrize("length", [50, 90])
def test_the_plans_of_a_page(number, length):
    table = rows(section(PAGES[number].read_text(encoding="utf-8"), f"{length} minutes"))
    add_up(table, length)
    for _, _, where, who in table:
        assert who in ("you", "each", "pairs", "all", "groups"), who
        exist(where, [number])


@EACH
def test_what_may_be_skipped_is_there(number):
    text = section(PAGES[number].read_text(encoding="utf-8"), "Short of time")
    before = section(PAGES[number].read_text(encoding="utf-8"), "Before the lesson")
    for heading in named(text) + named(before):
        assert heading in "\n".join(cells(number, "markdown")), heading


@EACH
def test_every_prediction_has_its_row(number):
    asked = sum(len(re.findall(r"\bpredict\(", code)) for code in cells(number, "code"))
    table = rows(section(PAGES[number].read_text(encoding="utf-8"), "Ask before"))
    assert len(table) == asked


@EACH
def test_the_answers_are_those_that_were_printed(number):
    """Runs differ a little; a page whose number is another one is out of date."""
    found = editions.read(COMPLETE[number])["cells"]
    printed = "\n".join(
        "".join(o.get("text", "")) for c in found for o in c.get("outputs", []) if "text" in o
    )
    truths = [float(n) for n in re.findall(r"It is ≈ (-?[\d.]+(?:e-?\d+)?)", printed)]
    table = rows(section(PAGES[number].read_text(encoding="utf-8"), "Ask before"))
    assert len(truths) == len(table)
    for (question, _, it_is, _), truth in zip(table, truths, strict=True):
        told = float(re.search(r"[\d.]*\d", it_is)[0])
        assert abs(told - truth) <= max(0.3 * abs(truth), 0.06), f"{question}: {truth}"


@EACH
def test_every_message_is_printed_by_a_check(number):
    """What a page quotes stands in the package, up to the marks of its quotation."""
    for row in rows(section(PAGES[number].read_text(encoding="utf-8"), "What goes wrong")):
        for message in re.findall("`([^`]+)`", row[0]):
            assert _plain(message.removesuffix(" …")) in _said(), message


@cache
def _said():
    files = [p for f in ("core", "check") for p in (ROOT / "minimagen/course" / f).glob("*.py")]
    return _plain("\n".join(p.read_text(encoding="utf-8") for p in files))


def _plain(text):
    """Without quotation marks, spaces and the joints of strings over two lines."""
    return re.sub(r"[\s\"'`\\]", "", re.sub(r'"\s*\n\s*f?"', "", text))


@EACH
def test_marks(number):
    text = section(PAGES[number].read_text(encoding="utf-8"), "Marks (")
    total = 0
    for what, *_ in rows(text):
        points = int(re.search(r"(\d+) points?", what)[1])
        total += points * (len(re.findall("`", what)) // 2 if "each" in what else 1)
    heading = re.search(r"^## Marks \((\d+)\)$", PAGES[number].read_text(encoding="utf-8"), re.M)
    assert total == int(heading[1])
    columns = " ".join(what for what, *_ in rows(text))
    assert set(re.findall("`([^`]+)`", columns)) == set(functions(number))
    assert set(re.findall(r"exercise (\d)", columns)) == exercises(number)


@EACH
def test_every_question_and_exercise_is_answered(number):
    answers = PAGES[number].read_text(encoding="utf-8").split("<details>")[1]
    quiz = "\n".join(cells(number, "markdown")).split("\n## Quiz")[1].split("\n## ")[0]
    for question in re.findall(r"<summary>(.+?)</summary>", quiz, re.S):
        assert f"**{question.strip()}**" in answers, question
    assert set(re.findall(r"\*\*Exercise (\d)\.\*\*", answers)) == exercises(number)


@pytest.mark.parametrize("title, length", [("One hour", 60), ("One day", 480)])
def test_the_short_courses(title, length):
    table = rows(section(GUIDE.read_text(encoding="utf-8"), title))
    add_up(table, length)
    for _, _, where, *_ in table:
        chapters = re.findall(r"teaching/(\d\d)\.md", where)
        if chapters:
            exist(where, chapters)
        else:
            assert not named(where)


def test_the_twelve_sessions():
    table = rows(section(GUIDE.read_text(encoding="utf-8"), "Twelve sessions"))
    assert [row[0] for row in table] == [str(n) for n in range(1, 13)]
    for row in table:
        parts = [int(n) for n in re.findall(r"(\d+) minutes?", row[1])]
        assert sum(parts) == 90, row


def test_links_lead_somewhere():
    for page in [GUIDE, *PAGES.values()]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                path, _, anchor = link.partition("#")
                target = page.parent / path if path else page
                assert target.exists(), f"{page.name}: {link}"
                if anchor and target.suffix == ".md":
                    assert anchor in _anchors(target), f"{page.name}: {link}"


def test_commands_are_the_makefiles():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in [GUIDE, *PAGES.values()]:
        spans = re.findall("`([^`]+)`", page.read_text(encoding="utf-8"))
        commands = {m for span in spans for m in re.findall(r"\bmake ([\w-]+)", span)}
        assert commands <= targets, page.name


def _anchors(page):
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def test_no_learner_is_led_to_the_answers():
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        text = json.dumps(json.loads(path.read_text(encoding="utf-8")), ensure_ascii=False)
        assert "TEACHING" not in text and "teaching/" not in text
