"""Chapter 00: its exercises, the card's numbers, and how soon a learner has a first own picture."""

import json
import re

import pytest
import torch

from minimagen.course import check
from minimagen.course.card import Score, alignment
from minimagen.course.check.chapter_00 import FAULTS
from minimagen.course.folder import ROOT
from minimagen.evaluation.judge import Judge
from minimagen.scenes import Scene, Thing


@pytest.mark.parametrize(
    "wrong, sentence",
    [(None, "first"), ((16, 64, 256), "sides"), ((256, 4096, 65536), "three colours"),
     ((48, 192, 768), "one row"), ((1, 2, 3), "side × side × 3")],
)  # fmt: skip
def test_numbers_drawn(wrong, sentence, capsys):
    check.numbers_drawn((768, 12_288, 196_608))
    assert capsys.readouterr().out == "✓ numbers in a picture\n"
    with pytest.raises(AssertionError, match=sentence):
        check.numbers_drawn(wrong)


def article(thing):
    return "an" if thing[0] in "aeiou" else "a"


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (lambda things, places: None, "nothing yet"),
        (lambda things, places: "a fox in the snow", "a list"),
        (lambda things, places: [f"a {t} {p}" for t in things for p in places], "an owl, but a fox"),
        (lambda things, places: [f"{t} {p}" for t in things for p in places], "missing"),
        (lambda things, places: [f"{article(t)} {t} {p}" for t, p in zip(things, places, strict=False)], "loop"),
        (lambda things, places: [f"{article(t)} {t} {p}" for p in places for t in things], "one by one"),
        (lambda things, places: ["a fox in the snow"], "12 sentences, not 1"),
        (lambda things, places: [f"{article(t)} {t}, {p}" for t in things for p in places], "it says"),
    ],
)  # fmt: skip
def test_sentences_for_a_poster(wrong, sentence, capsys):
    check.sentences(
        lambda things, places: [f"{article(t)} {t} {p}" for t in things for p in places]
    )
    assert capsys.readouterr().out == "✓ sentences for a poster\n"
    with pytest.raises(AssertionError, match=sentence):
        check.sentences(wrong)


def test_four_kinds_of_sentence():
    kinds = check.four_kinds("panda", "owl", "snow")
    assert list(kinds) == [
        "a panda in the snow",
        "three pandas in the snow",
        "a purple panda in the snow",
        "a panda next to an owl in the snow",
    ]
    assert kinds["a purple panda in the snow"] == Scene((Thing("panda", "purple"),), place="snow")
    assert len(check.four_kinds("elephant", "sun")["three elephants on the grass"].things) == 3
    assert "a ferris wheel next to a bunch of cherries on the grass" in check.four_kinds(
        "ferris wheel", "bunch of cherries"
    )
    with pytest.raises(ValueError, match="'unicorn' is none"):
        check.four_kinds("cat", "unicorn")


def test_eye_and_judge(monkeypatch, capsys):
    kinds = check.four_kinds("panda", "owl")
    pictures = {words: torch.zeros(2, 3, 64, 64) for words in kinds}

    class Reader:
        answers = iter(kinds.values())

        def read(self, images):
            asked = next(self.answers)
            return [asked, Scene((Thing("cat"),), place="grass")]

    monkeypatch.setattr(
        Judge, "load", lambda vocabulary: Reader() if vocabulary == "strict" else None
    )
    check.eye_and_judge([2, 0, 1, 2], kinds, pictures)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "three pandas on the grass: you ≈ 0, the judge ≈ 1" and len(lines) == 4
    for wrong, sentence in (
        (None, "count with"),
        ([1], "4 rows"),
        ([3, 1, 1, 1], "2 pictures, not 3"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.eye_and_judge(wrong, kinds, pictures)


def test_four_faults(capsys):
    check.diagnosis(FAULTS)
    assert capsys.readouterr().out == "✓ four faults\n"
    with pytest.raises(AssertionError, match="first"):
        check.diagnosis(None)
    with pytest.raises(AssertionError, match="B is one of"):
        check.diagnosis({**FAULTS, "B": "?"})
    for letter in FAULTS:
        other = next(fault for fault in FAULTS.values() if fault != FAULTS[letter])
        with pytest.raises(AssertionError, match=f"{letter} is another"):
            check.diagnosis({**FAULTS, letter: other})


def test_what_is_done_to_the_four_machines():
    class Cascade:
        def generate(self, words, seeds, last, **options):
            value = 10.0 * options.get("steps", 0) + (0 if options.get("guidance", 4) == 0 else 1)
            pictures = torch.zeros(len(words), 3, 4, 4) + value
            pictures[:, 0] += 5
            return {last: pictures + torch.tensor(seeds)[:, None, None, None] / 100}

    made = check.broken(Cascade(), ["a", "b", "c"], seed=2)
    assert list(made) == list(FAULTS)
    first = {letter: [round(float(x), 2) for x in p[0, :, 0, 0]] for letter, p in made.items()}
    assert first == {
        "A": [5.02, 0.02, 0.02],  # no guidance towards the words
        "B": [1.02, 1.02, 6.02],
        "C": [16.02, 11.02, 11.02],
        "D": [6.04, 1.04, 1.04],  # the last one's
    }


def test_the_cards_scores(tmp_path):
    """The strict judge's where it was asked; those of the weights before, until the shipped ones are measured."""
    path = tmp_path / "scores.json"
    before = {
        name: {"alignment": 0.5} for name in ("seen", "heldout", "words", "chinese", "everyday")
    }
    now = {"seen": {"alignment": 0.9, "alignment_strict": 0.8}, "words": {"alignment": 0.7}}
    path.write_text(json.dumps({"suites": {"whole": now}, "before": {"suites": {"whole": before}}}))
    scores = alignment(path)
    assert {name: s.right for name, s in scores.items()} == {
        "seen": 80.0, "heldout": 50.0, "words": 70.0, "chinese": 50.0,
    }  # fmt: skip
    assert scores["heldout"] == Score(50.0, 43.1, 56.9)  # Wilson, 100 of 200
    path.write_text(json.dumps({"suites": {}, "before": {"suites": {"whole": before}}}))
    assert alignment(path)["seen"].right == 50.0


def test_the_chapter_shows_the_scores_of_today():
    """Run it again when the weights were measured: make notebooks NB=notebooks/solutions/00_start_here.ipynb"""
    book = json.loads(
        (ROOT / "notebooks/solutions/00_start_here.ipynb").read_text(encoding="utf-8")
    )
    cell = next(c for c in book["cells"] if "often.reveal(" in "".join(c["source"]))
    told = "".join("".join(o.get("text", [])) for o in cell["outputs"])
    (saved,) = re.findall(r"it is ≈ (\S+)", told, flags=re.I)
    assert float(saved) == alignment()["seen"].right


@pytest.mark.parametrize("folder", ["notebooks", "notebooks/solutions"])
def test_the_first_own_picture_comes_soon(folder):
    """At most 150 words stand before the playground, and a drawing of the course's before that."""
    book = json.loads((ROOT / folder / "00_start_here.ipynb").read_text(encoding="utf-8"))
    texts = [("".join(c["source"]), c["cell_type"]) for c in book["cells"]]
    at = next(i for i, (text, _) in enumerate(texts) if "playground(imagen" in text)
    before = "\n".join(text for text, kind in texts[:at] if kind == "markdown")
    seen = re.sub(r"^\[.*?\]: data:.*$|!\[.*?\]\[.*?\]|\]\(.*?\)", "", before, flags=re.M)
    assert len(re.findall(r"[\w’'-]+", seen)) <= 150
    assert any("generate(" in text for text, kind in texts[:at] if kind == "code")
    assert "][hero@" in before
