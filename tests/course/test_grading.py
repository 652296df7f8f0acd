"""Marks with nbgrader: what is wrong loses its own points alone, and nothing stops a class."""

from __future__ import annotations

import csv
import json
import os
import re

import pytest

from minimagen.course import editions
from minimagen.course.core import CORE
from minimagen.course.editions import NOTEBOOKS, text_of
from minimagen.course.grading import assignment, classroom, slice, submission
from minimagen.course.student import dice

STEMS = [
    path.stem
    for path in sorted((NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
    if editions.is_complete(editions.read(path))
]
FIRST = "01_forward_diffusion"


def complete(stem):
    return editions.read(NOTEBOOKS / "solutions" / f"{stem}.ipynb")


def empty(stem):
    """As it is given out."""
    return editions.read(NOTEBOOKS / f"{stem}.ipynb")


def right(stem):
    """The learner's notebook with every answer in it."""
    book, _ = editions.split(complete(stem), keep_solutions=True)
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            text = re.sub(
                r"^[ \t]*### (BEGIN|END) SOLUTION[ \t]*\n?", "", text_of(cell), flags=re.M
            )
            cell["source"] = text.splitlines(keepends=True)
    return book


def with_cell(book, name, text):
    """The same notebook, with another text (None: no cell) where `name` is written."""
    made = json.loads(json.dumps(book))
    for cell in made["cells"]:
        if cell["cell_type"] == "code" and re.search(
            rf"^(def|class) {name}\b|^{name} = ", text_of(cell), re.M
        ):
            cell["source"] = [text or ""]
            if text is None:
                made["cells"].remove(cell)
            return made
    raise AssertionError(f"no cell makes {name}")


def wrong(core):
    """A function of the right shape that does not do it."""
    head = f"class {core.name}(nn.Module):" if isinstance(core.reference, type) else None
    if head:
        return f"@yours\n{head}\n    def __init__(self, *_):\n        super().__init__()\n"
    import inspect

    return f"@yours\ndef {core.name}{inspect.signature(core.reference)}:\n    return None\n"


def hand_in(folder, student, stem, book):
    path = folder / student / f"{stem}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(book if isinstance(book, str) else editions.written(book), encoding="utf-8")


def points(stem):
    return {m.grade_id: m.points for m in assignment.graded(complete(stem)) if not m.by_hand}


# One chapter, five students, all three commands of nbgrader


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    folder, to = tmp_path_factory.mktemp("handed-in"), tmp_path_factory.mktemp("grades")
    broken = with_cell(right(FIRST), "alpha_bar", "@yours\ndef alpha_bar(betas)\n    return betas")
    broken = with_cell(broken, "mixture", None)
    broken = with_cell(
        broken, "q_sample", "1 / 0\n\n@yours\ndef q_sample(x_0, *rest):\n    return x_0"
    )
    for cell in broken["cells"]:
        cell.pop("id", None)  # as Colab and old versions of Jupyter leave it
    hand_in(folder, "ada", FIRST, right(FIRST))
    hand_in(folder, "bob", FIRST, empty(FIRST))
    hand_in(
        folder, "eve", FIRST, with_cell(right(FIRST), "markov_step", wrong(CORE["markov_step"]))
    )
    hand_in(folder, "max", FIRST, broken)
    hand_in(folder, "zoë", FIRST, editions.written(right(FIRST))[:5000])
    rows = classroom.grade(folder, to)
    return {row.student: row for row in rows}, to


def test_a_right_submission_gets_full_marks(marked):
    row = marked[0]["ada"]
    assert (row.points, row.of, row.open) == (9, 9, 0)
    assert {cell["said"] for cell in row.cells.values()} == {"right"}


def test_an_empty_submission_gets_none(marked):
    row = marked[0]["bob"]
    assert (row.points, row.of) == (0, 9)
    assert "not written yet" in row.cells["q_sample"]["said"]


def test_one_wrong_function_costs_its_own_points_alone(marked):
    """mixture calls markov_step, and is marked with the course's own."""
    row = marked[0]["eve"]
    assert row.points == 7
    assert [name for name, cell in row.cells.items() if cell["points"] == 0] == ["markov_step"]
    assert "returns nothing yet" in row.cells["markov_step"]["said"]


def test_a_broken_submission_keeps_what_is_right_in_it(marked):
    """A syntax error, a deleted cell, an error before a wrong function; no cell has an id."""
    row = marked[0]["max"]
    lost = {name: cell["said"] for name, cell in row.cells.items() if cell["points"] == 0}
    assert set(lost) == {"alpha_bar", "q_sample", "three_steps"}
    assert "SyntaxError" in lost["alpha_bar"] and "arguments must stay" in lost["q_sample"]
    assert row.said == "not found: three_steps"


def test_a_torn_file_is_a_sentence(marked):
    row = marked[0]["zoë"]
    assert (row.points, row.of) == (0, 9) and "no notebook" in row.said


def test_the_results_are_files(marked):
    rows, to = marked
    result = json.loads((to / "results" / "eve" / "result.json").read_text(encoding="utf-8"))
    assert (result["student"], result["points"], result["of"]) == ("eve", 7, 9)
    assert result["chapters"][FIRST]["cells"]["markov_step"]["points"] == 0
    with (to / "class.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert {line["student"]: line["points"] for line in table} == {
        row.student: str(row.points) for row in rows.values()
    }
    assert "markov_step" in table[2]["remarks"] and not table[0]["remarks"]


def test_feedback_is_a_page_each(marked):
    _, to = marked
    for student in ("ada", "bob", "eve", "max"):
        page = (to / "feedback" / student / FIRST / f"{FIRST}.html").read_text(encoding="utf-8")
        assert "markov_step" in page
    assert "9.0 / 9.0" in (to / "feedback" / "ada" / FIRST / f"{FIRST}.html").read_text()


def test_what_is_given_out_holds_no_answer(marked):
    """The released notebook is the learner's edition, with a line for each cell that gives points."""
    released = editions.read(marked[1] / "release" / FIRST / f"{FIRST}.ipynb")
    graded = [c for c in released["cells"] if text_of(c).startswith(assignment.HEAD)]
    texts = [text_of(c).strip() for c in released["cells"] if c not in graded]
    assert texts == [text_of(c).strip() for c in empty(FIRST)["cells"]]
    assert len(graded) == 6 and all("points(" not in text_of(c) for c in graded)


# Every chapter


@pytest.mark.parametrize("stem", STEMS)
def test_every_answer_is_found_again(stem):
    """By the cell's id, by nbgrader's name, and by what it makes."""
    source, handed = complete(stem), right(stem)
    for cell in handed["cells"]:
        cell.pop("id", None)
    for book in (handed, right(stem), empty(stem), assignment.source(source)):
        made, missing = submission.fit(book, source)
        assert not missing
        about = [c["metadata"]["nbgrader"] for c in made["cells"] if "nbgrader" in c["metadata"]]
        assert sum(a.get("points", 0) for a in about) == sum(
            m.points for m in assignment.graded(source)
        )
    made, missing = submission.fit({**handed, "cells": handed["cells"][:3]}, source)
    assert missing == [m.grade_id for m in assignment.graded(source)]


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_every_chapter_is_marked_fairly(stem, tmp_path):
    """Right, empty, and for one function (chapter 00: none) and one exercise a wrong one."""
    folder, to = tmp_path / "in", tmp_path / "to"
    hand_in(folder, "right", stem, right(stem))
    hand_in(folder, "empty", stem, empty(stem))
    core = next((name for name in points(stem) if name in CORE), None)
    if core:
        hand_in(folder, "core", stem, with_cell(right(stem), core, wrong(CORE[core])))
    exercise = next(m for m in assignment.graded(complete(stem)) if m.grade_id not in CORE)
    text = f"def {exercise.names[0]}(*_): ..." if not exercise.by_hand else "x = 1"
    if not exercise.by_hand:
        hand_in(folder, "exercise", stem, with_cell(right(stem), exercise.names[0], text))
    rows = {row.student: row for row in classroom.grade(folder, to, feedback=False)}
    of = sum(points(stem).values())
    lost = {s: [n for n, c in r.cells.items() if c["points"] == 0] for s, r in rows.items()}
    assert lost.pop("right") == [] and rows["right"].points == of
    assert rows["empty"].points == 0
    assert set(lost.pop("empty")) >= set(points(stem))
    assert lost == {
        s: [n] for s, n in (("core", core), ("exercise", exercise.grade_id)) if s in rows
    }


@pytest.mark.slow
def test_what_hangs_is_stopped(tmp_path, monkeypatch):
    """One that can be interrupted, one that can't, and one that ends its kernel."""
    shorter = "c.Quick.iopub_timeout = 8; c.Quick.timeout = 10"
    monkeypatch.setattr(
        classroom, "CONFIG", classroom.CONFIG.replace("c.Quick.timeout = 30", shorter)
    )
    stuck = "while True:\n    pass\n"
    dead = "import os\nalpha_bar = os._exit(3)"
    deaf = (
        "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass\n"
    )
    hand_in(
        tmp_path, "loop", FIRST, with_cell(right(FIRST), "alpha_bar", f"alpha_bar = 1\n{stuck}")
    )
    hand_in(tmp_path, "deaf", FIRST, with_cell(right(FIRST), "alpha_bar", f"alpha_bar = 1\n{deaf}"))
    hand_in(tmp_path, "dead", FIRST, with_cell(right(FIRST), "alpha_bar", dead))
    hand_in(tmp_path, "right", FIRST, right(FIRST))
    rows = {row.student: row for row in classroom.grade(tmp_path, tmp_path / "to", feedback=False)}
    assert {s: r.points for s, r in rows.items()} == {
        "loop": 7, "deaf": 7, "dead": 7, "right": 9
    }  # fmt: skip
    assert "ended its kernel" in rows["dead"].cells["alpha_bar"]["said"]
    assert "does not come to an end" in rows["deaf"].cells["alpha_bar"]["said"]


# The parts


def test_numbers_belong_to_the_student(monkeypatch):
    def numbers():
        return [dice("q_sample").random() for _ in range(2)]

    monkeypatch.setenv("MINIMAGEN_STUDENT", "ada")
    first, again = numbers()
    assert first == again
    monkeypatch.setenv("MINIMAGEN_STUDENT", "bob")
    assert numbers()[0] != first
    monkeypatch.delenv("MINIMAGEN_STUDENT")
    one, other = numbers()
    assert one != other


def test_a_check_draws_the_students_numbers(monkeypatch):
    seen = []
    core = CORE["q_sample"]

    def spy(x_0, log_snr, eps):
        seen.append(x_0.flatten()[0].item())
        return core.reference(x_0, log_snr, eps)

    for student in ("ada", "ada", "bob"):
        monkeypatch.setenv("MINIMAGEN_STUDENT", student)
        seen.clear()
        assert core.verdict(spy) is None
        if student == "ada":
            ada = list(seen)
    assert ada and seen != ada


def test_only_what_answers_lean_on_is_run():
    others = [
        "import math, time\nfrom x import Imagen",
        "ROOT = math.sqrt(2)\nimagen = Imagen.load()\nfor _ in range(9): imagen.draw()",
        "def helper(x):\n    return ROOT * x\n\n\ndef unused(): ...",
        "%time\nthis is no python",
    ]
    parts = slice.needed(["def q_sample(x):\n    return helper(x)"], others)
    assert parts[0] == "import math, time\n"
    assert parts[1] == "ROOT = math.sqrt(2)\n"
    assert parts[2].strip() == "def helper(x):\n    return ROOT * x" and parts[3] == ""


def test_whose_notebook_it_is(tmp_path):
    for name in (
        f"ada/{FIRST}.ipynb",
        f"Bob Lee/work/{FIRST} (1).ipynb",
        f"eve_{FIRST}.ipynb",
        f"ada/.ipynb_checkpoints/{FIRST}.ipynb",
        f"max/solutions/{FIRST}.ipynb",
        f"max/{FIRST}.new.ipynb",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    os.utime(tmp_path / "ada" / f"{FIRST}.ipynb")
    found = classroom.collect(tmp_path, [FIRST])
    assert {who: sorted(own) for who, own in found.items()} == {
        "ada": [FIRST], "Bob_Lee": [FIRST], "eve": [FIRST], "max": []
    }  # fmt: skip
    with pytest.raises(classroom.CannotGrade, match="no chapter was found"):
        classroom.collect(tmp_path / "max" / "solutions", ["02_denoising"])
    with pytest.raises(classroom.CannotGrade, match="no folder"):
        classroom.collect(tmp_path / "nobody", [FIRST])


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"cells": []}', "not json"])
def test_what_is_no_notebook_is_a_sentence(text):
    with pytest.raises(submission.Unreadable):
        submission.read(text)


def test_a_chapter_that_is_not_there():
    with pytest.raises(classroom.CannotGrade, match="there is no chapter 77"):
        classroom.chapters(["77"])


def test_of_two_cells_the_written_one_counts():
    book = right(FIRST)
    stub = with_cell(
        empty(FIRST), "q_sample", "@yours\ndef q_sample(x_0, log_snr, eps):\n    ...\n"
    )
    copy = next(c for c in stub["cells"] if "def q_sample" in text_of(c))
    copy.pop("id", None)
    book["cells"].append(copy)
    made, missing = submission.fit(book, complete(FIRST))
    answer = next(
        c for c in made["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == "q_sample"
    )
    assert not missing and "alpha * x_0" in text_of(answer)
