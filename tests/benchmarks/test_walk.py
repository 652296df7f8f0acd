"""The clock of the teacher's plans: which cells a row runs. (What they take is for a quiet machine: walk.py.)"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SPEC = spec_from_file_location("walk", Path(__file__).with_name("walk.py"))
walk = sys.modules["walk"] = module_from_spec(SPEC)  # dataclasses look there
SPEC.loader.exec_module(walk)

BOOK = [
    ("markdown", "# 03 · Title"),
    ("code", "set_up()"),
    ("markdown", "## A game"),
    ("code", "play()"),
    ("code", "def write_me(x):\n    return x"),
    ("markdown", "and a word"),
    ("code", "look()"),
    ("markdown", "### Below it"),
    ("code", "more()"),
    ("markdown", "## Exercises\n\n**1 · Easy**"),
    ("code", "one()"),
    ("markdown", "**2 · Hard**"),
    ("code", "two()"),
    ("markdown", "## Quiz"),
]
TOOK = {str(i): 10.0**i for i, (kind, _) in enumerate(BOOK) if kind == "code"}


@pytest.fixture
def chapter():
    cells = [{"id": str(i), "cell_type": k, "source": [s]} for i, (k, s) in enumerate(BOOK)]
    return walk.Chapter(cells, TOOK)


def ran(chapter, cells, what="run"):
    """The numbers of the cells that a row runs."""
    computed = chapter.run(walk.Row(5, what, cells))
    return [i for i in range(len(BOOK)) if str(i) in TOOK and int(computed / 10**i) % 10]


def test_a_row_runs_what_it_names_and_what_was_skipped(chapter):
    assert ran(chapter, "“A game”") == [1, 3, 4, 6]
    assert ran(chapter, "“A game”") == [], "looked at again"
    assert ran(chapter, "“Quiz”") == [], "there is nothing to run"
    assert ran(chapter, "exercise 2") == [8, 10, 12]


def test_a_row_may_end_at_a_function(chapter):
    assert ran(chapter, "`write_me`") == [1, 3, 4]
    assert ran(chapter, "“Below it”, “A game”") == [6, 8]
    assert ran(chapter, "exercise 1") == [10]


def test_what_is_only_shown_is_not_run(chapter):
    assert ran(chapter, "exercise 1", "in words, on paper: how?") == []
    assert ran(chapter, "“A game”", "the saved figure of it") == []
    assert ran(chapter, "`write_me`", "vote, numbers on paper") == [1, 3, 4]


def test_a_training_runs_on_under_the_next_rows():
    plan = [(walk.Row(m, "", ""), s) for m, s in [(1, 30), (2, 400), (3, 10), (5, 0)]]
    assert [step.left for step in walk.walk(plan)] == [0, 280, 110, 0]


def test_every_plan_of_the_guide_is_found_in_the_notebooks():
    """A second for each code cell: all plans compute something, none more than all cells."""
    took = {}
    for path in (walk.NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"):
        cells = walk.read(path)["cells"]
        took[path.name[:2]] = {c["id"]: 1.0 for c in cells if c["cell_type"] == "code"}
    plans = {(n, length): walk.page(n, length, took) for n in took for length in (50, 90)}
    for (number, length), plan in plans.items():
        assert sum(row.minutes for row, _ in plan) == length
        assert 5 < sum(s for _, s in plan) <= len(took[number]), (number, length)
    taster, workshop = (walk.short_course(title, took) for title in ("One hour", "One day"))
    assert [sum(row.minutes for row, _ in plan) for plan in (taster, workshop)] == [60, 480]
    assert len(taster) == 8 and taster[0][1] > 0 == taster[5][1] == taster[7][1]
    assert len(list(walk.sessions(took))) == 12
    text = walk.tables({"machine": "m", "threads": 2, "budget": "laptop", "chapters": took}, True)
    assert "| workshop | 480 |" in text
    assert all(f"| {n}, {length} minutes | {length} |" in text for n, length in plans)


def test_the_guide_tells_what_was_measured():
    took = walk.read(walk.HERE / "walk.json")["chapters"]
    plans = {
        (number, length): walk.walk(walk.page(number, length, took))
        for number in took
        for length in (50, 90)
    }
    waits = {
        number
        for (number, _), steps in plans.items()
        if any(step.seconds > 60 * step.row.minutes for step in steps)
    }
    assert waits == {"07", "09"} and not any(steps[-1].left for steps in plans.values())
    taster, workshop = (
        sum(step.seconds for step in walk.walk(walk.short_course(name, took))) / 60
        for name in ("One hour", "One day")
    )
    sessions = [seconds / 60 for _, _, seconds in walk.sessions(took)]
    chapters = sum(sum(cells.values()) for cells in took.values()) / 60
    assert (
        f"the sixteen chapters take {chapters:.0f} minutes,\nthe taster computes {taster:.1f}, "
        f"the workshop {workshop:.0f}, and the twelve sessions {sum(sessions):.0f}, "
        f"at most {max(sessions):.1f} (09)"
    ) in walk.GUIDE.read_text("utf-8")
