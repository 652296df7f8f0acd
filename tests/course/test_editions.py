"""The complete edition is the source of the learner's: nothing is solved in it, and no answer can be seen."""

import ast
import json
import re
import textwrap

import pytest

from minimagen.course import editions, guesses, start
from minimagen.course.core import CORE
from minimagen.course.folder import ROOT
from minimagen.course.sources import source_of

COMPLETE = [
    p
    for p in sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
    if editions.is_complete(editions.read(p))
]
EACH = pytest.mark.parametrize("path", COMPLETE, ids=lambda p: p.stem)


def cell(kind, text, *tags):
    made = {
        "cell_type": kind,
        "id": str(abs(hash(text)))[:8],
        "metadata": {"tags": list(tags)} if tags else {},
    }
    made["source"] = text.splitlines(keepends=True)
    return made | ({"outputs": [{"text": "seen"}], "execution_count": 3} if kind == "code" else {})


SAMPLE = {
    "metadata": {"minimagen": {"edition": "complete"}},
    "cells": [
        cell("markdown", "# Title\n\n[work on it yourself](../01_x.ipynb)"),
        cell("code", 'guess = predict("how many", low=0, high=9)'),
        cell(
            "code",
            "x = 3\n### BEGIN ANSWER guess\nguess.reveal(x)\nclaim('three', x == 3)\n### END ANSWER\n",
        ),
        cell("markdown", "It is three.", "answer"),
        cell(
            "code",
            'def f(x):\n    """Doc."""\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION\n\n\nf(1)',
        ),
        cell("markdown", "Only for readers.", "complete"),
        cell("code", "# you = 1\n# print(you)", "learner"),
    ],
}


def test_a_sample():
    made, answers = editions.split(SAMPLE)
    texts = ["".join(c["source"]) for c in made["cells"]]
    assert texts == [
        "# Title\n\n[the complete edition](solutions/01_x.ipynb)",
        'guess = predict("how many", low=0, high=9)',
        "x = 3\nguess.reveal()\n",
        'def f(x):\n    """Doc."""\n    ...\n\n\nf(1)',
        "you = 1\nprint(you)",
    ]
    assert answers == {
        "how many": {"code": "guess.reveal(x)\nclaim('three', x == 3)\n", "text": "It is three."}
    }
    assert all(
        c["outputs"] == [] and c["execution_count"] is None
        for c in made["cells"]
        if c["cell_type"] == "code"
    )
    assert made["metadata"]["minimagen"]["edition"] == "learner"
    kept, _ = editions.split(SAMPLE, keep_solutions=True)  # what nbgrader makes assignments from
    assert "### BEGIN SOLUTION" in json.dumps(kept) and "three" not in json.dumps(kept)


@pytest.mark.parametrize(
    "cells, sentence",
    [
        ([cell("code", "### BEGIN ANSWER guess\n1\n### END ANSWER\n")], "no predict"),
        ([cell("markdown", "It is three.", "answer")], "no answer stands before it"),
        ([cell("code", "### BEGIN SOLUTION\n1\n")], "no partner"),
        ([*SAMPLE["cells"][1:3], {**SAMPLE["cells"][2]}], "two answers"),
    ],
)
def test_what_is_wrong_with_marks_is_said(cells, sentence):
    with pytest.raises(ValueError, match=sentence):
        editions.split({"metadata": {}, "cells": cells})


def test_making_a_file_keeps_its_badges(tmp_path):
    path = tmp_path / "01_x.ipynb"
    (tmp_path / "notebooks").mkdir()
    path.write_text(json.dumps(SAMPLE))
    own = tmp_path / "notebooks" / path.name
    assert editions.make(path, tmp_path / "notebooks", tmp_path / "answers")
    book = json.loads(own.read_text())
    book["cells"][0]["source"] = [
        "# Title\n",
        "\n",
        "Open in [Colab](https://x)\n",
        *book["cells"][0]["source"][1:],
    ]
    own.write_text(json.dumps(book))
    editions.make(path, tmp_path / "notebooks", tmp_path / "answers")
    assert json.loads(own.read_text()) == book
    path.write_text(json.dumps(SAMPLE | {"metadata": {}}))
    assert not editions.make(path, tmp_path / "notebooks", tmp_path / "answers")


@EACH
def test_both_editions_are_one(path):
    """Run `make editions` after every change of a complete edition."""
    made, answers = editions.split(editions.read(path))
    own = editions.read(ROOT / "notebooks" / path.name)
    editions._keep_badges(made, own)
    assert own == made
    assert (
        json.loads((guesses.ANSWERS / f"{path.stem}.json").read_text(encoding="utf-8")) == answers
    )


def test_every_question_is_asked_once():
    found = [q for path in COMPLETE for q in editions.split(editions.read(path))[1]]
    english = {q for q in guesses.answers() if not re.search("[\u4e00-\u9fff]", q)}
    assert len(found) == len(set(found)) and set(found) == english


@EACH
def test_no_answer_stands_in_the_learners_file(path):
    """Neither a claim that answers a question, nor its alt text, nor the number, in digits or in words."""
    complete = editions.read(path)
    own = "\n".join(
        editions.text_of(c) for c in editions.read(ROOT / "notebooks" / path.name)["cells"]
    )
    plain = re.sub(r"data:image\S+", "", own)
    for answer in editions.split(complete)[1].values():
        for node in ast.walk(ast.parse(answer["code"])):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and len(node.value) > 25
            ):
                assert node.value not in plain
        assert not answer["text"] or answer["text"][:60] not in plain
    words = {
        "half": 0.5,
        "a third": 1 / 3,
        "a tenth": 0.1,
        "a hundredth": 0.01,
        "a thousandth": 0.001,
        "twice": 2.0,
    }
    question = after = ""
    for c in complete["cells"]:
        text = editions.text_of(c)
        asked = editions._questions(text) if c["cell_type"] == "code" else {}
        if asked:
            question, after = next(iter(asked.values())), ""
        for output in c.get("outputs", []):
            for truth in re.findall(r"it is ≈ (\S+)", "".join(output.get("text", "")), flags=re.I):
                assert not re.search(rf"(?<![\w.]){re.escape(truth)}(?![\w.])", plain), (
                    f"{question}: {truth}"
                )
                near = [w for w, v in words.items() if abs(float(truth) / v - 1) < 0.05]
                assert not any(word in after for word in near), f"{question}: {near}"
        if c["cell_type"] == "markdown" and "answer" not in c["metadata"].get("tags", []):
            after += text


@EACH
def test_each_function_is_the_courses_with_its_hints(path):
    """What stands in the chapter is what is lent: docstring, hints and solution come from one place."""
    book, chapter = editions.read(path), int(path.stem[:2])
    code = "\n".join(editions.text_of(c) for c in book["cells"] if c["cell_type"] == "code")
    text = "\n".join(editions.text_of(c) for c in book["cells"] if c["cell_type"] == "markdown")
    names = re.findall(r"^@yours\n(?:@.*\n)*(?:def|class) (\w+)", code, flags=re.M)
    assert names == [name for name, core in CORE.items() if core.chapter == chapter]
    for name in names:
        found = re.search(
            rf"^@yours\n((?:@.*\n)*(?:def|class) {name}\(.*?### END SOLUTION$)",
            code,
            flags=re.M | re.S,
        )
        own = re.sub(r"^ *### (BEGIN|END) SOLUTION\n?", "", found[1] + "\n", flags=re.M)
        assert ast.dump(ast.parse(own)) == ast.dump(ast.parse(source_of(CORE[name].reference)))
        assert all(hint in text for hint in CORE[name].hints)


@EACH
def test_a_chapter_has_its_parts(path):
    """Objectives with minutes, predictions, claims, exercises with hints, a quiz, words, what is next."""
    book = editions.read(path)
    texts = [editions.text_of(c) for c in book["cells"] if c["cell_type"] == "markdown"]
    code = "\n".join(editions.text_of(c) for c in book["cells"] if c["cell_type"] == "code")
    assert (
        re.search(r"\| minutes \|.*\d", texts[0])
        and "| paper |" in texts[0]
        and ("][hero@" if path.stem.startswith("00") else "][here-") in texts[0]
    )
    assert (
        f"[work on it yourself](../{path.name})" in texts[0]
        and "→](" in texts[0]
        and ("[←" in texts[0]) != path.stem.startswith("00")
    )
    whole = "\n".join(texts)
    exercises = re.findall(r"^\*\*\d · (.+?), (easy|medium|hard), \d+ minutes", whole, flags=re.M)
    kinds = " ".join(kind.lower() for kind, _ in exercises)
    assert 2 <= len(exercises) <= 5 and "experiment" in kinds and "diagnosis" in kinds
    assert "| test |" in whole and "| | 中文 | |" in whole and "**Next:**" in whole
    assert whole.split("## Quiz")[1].count("<details>") == 3
    assert code.count("predict(") >= 2 and code.count("claim(") >= 3


def test_an_answer_runs_in_the_notebook(monkeypatch, capsys):
    answer = {"code": "found = x + 1\nguess.reveal(found)\n", "text": "So it is."}
    monkeypatch.setattr(guesses, "answers", lambda: {"how many": answer})
    names = {"guess": guesses.predict("how many", 0, 9), "x": 3}
    exec("guess.reveal()", names)
    assert names["found"] == 4
    assert (
        capsys.readouterr().out
        == "Your prediction: how many\nYou made no guess. It is ≈ 4\nSo it is.\n"
    )
    with pytest.raises(ValueError, match="no answer is kept"):
        exec("guess.reveal()", {"guess": guesses.predict("something else")})


def test_guesses_are_kept_and_counted(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path))
    for question, said, truth in (("a", None, 3.0), ("b", 2.5, 3.0), ("c", 9.0, 3.0)):
        guess = guesses.predict(question, 0, 10)
        guess.value = said
        guess.reveal(truth)
    guess.value = 3.0
    guess.reveal(3.0)  # the second time one knows it
    assert "You said ≈ 9, and it is ≈ 3" in capsys.readouterr().out
    assert guesses.score() == (1, 2)
    assert "1 of your 2 guesses came close" in capsys.readouterr().out


@pytest.mark.parametrize("low, high, step", [(0, 1, 0.01), (-10, 10, 1), (0, 5, 0.05), (0, 10, 1)])
def test_a_slider_begins_in_the_middle_and_is_no_guess_until_it_is_moved(
    low, high, step, monkeypatch
):
    shown = []
    monkeypatch.setattr(guesses.widgets, "can_show", lambda: True)
    monkeypatch.setattr(guesses.widgets, "show", lambda slider, text: shown.append(text))
    guess = guesses.predict("how many", low, high)
    slider = guess.slider
    assert (slider.value, slider.min, slider.max) == ((low + high) / 2, low, high)
    assert slider.step == pytest.approx(step) and guess.value is None and len(shown) == 1
    slider.value = high
    assert guess.value == high


def test_a_guess_is_close_within_a_tenth_of_the_whole_slider(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path))
    for question, said in (("a", 0.0), ("b", 2.1), ("c", -2.1)):  # 0 is a guess, too
        guess = guesses.predict(question, -10, 10)
        guess.value = said
        guess.reveal(0.15)
    assert "You said ≈ 0, and it is ≈ 0.15" in capsys.readouterr().out
    assert guesses.score() == (2, 3)
    kept = json.loads((tmp_path / guesses.FILE).read_text("utf-8"))
    assert kept["c"] == {"guess": -2.1, "truth": 0.15, "low": -10, "high": 10}


def test_copies_are_renewed_but_never_what_was_typed(tmp_path, capsys):
    notebooks, folder = tmp_path / "clone" / "notebooks", tmp_path / "work"
    (notebooks / "solutions").mkdir(parents=True)
    folder.mkdir()

    def course(*texts):
        for i, text in enumerate(texts):
            (notebooks / f"0{i}_x.ipynb").write_text(
                json.dumps({"cells": [cell("code", text)], "metadata": {}})
            )

    def read(name):
        return editions.text_of(json.loads((folder / name).read_text())["cells"][0])

    course("a", "b")
    (notebooks / "solutions" / "00_x.ipynb").write_text("{}")
    assert start.copy(notebooks, folder) == [] and read("00_x.ipynb") == "a"
    assert json.loads((folder / "00_x.ipynb").read_text())["cells"][0]["outputs"] == []
    assert (folder / "solutions" / "00_x.ipynb").is_file()
    assert (folder / "minimagen-course").resolve() == ROOT  # by which cell 1 finds the course
    # run, but not touched: renewed
    ran = json.loads((folder / "00_x.ipynb").read_text())
    ran["cells"][0]["execution_count"] = 7
    (folder / "00_x.ipynb").write_text(json.dumps(ran))
    (folder / "01_x.ipynb").write_text(
        json.dumps({"cells": [cell("code", "b, mine")], "metadata": {}})
    )
    course("a2", "b")
    assert (
        start.copy(notebooks, folder) == []
        and read("00_x.ipynb") == "a2"
        and read("01_x.ipynb") == "b, mine"
    )
    # touched, and there is a newer text: beside it, said once
    course("a2", "b2")
    assert start.copy(notebooks, folder) == [
        "01_x has a newer text: 01_x.new.ipynb stands beside yours"
    ]
    assert read("01_x.ipynb") == "b, mine" and read("01_x.new.ipynb") == "b2"
    assert start.copy(notebooks, folder) == []
    course("a2", "b3")
    assert len(start.copy(notebooks, folder)) == 1 and read("01_x.new.ipynb") == "b3"
    # what can't be read is the learner's, too
    (folder / "00_x.ipynb").write_text("half a fi")
    course("a3", "b3")
    assert (
        len(start.copy(notebooks, folder)) == 1
        and (folder / "00_x.ipynb").read_text() == "half a fi"
    )


def test_stubs_can_be_pasted():
    for name in CORE:
        hints, code = editions.stub(name)
        assert hints.count("<details>") == 2 and code.startswith("@yours\n")
        assert code.count("### BEGIN SOLUTION") == code.count("### END SOLUTION") == 1
        empty = editions.SOLUTION.sub(r"\g<in>...", code)
        body = ast.parse(textwrap.dedent(empty)).body[0].body
        assert len(body) == 2 and ast.unparse(body[1]) == "..."
