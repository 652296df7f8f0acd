"""What the shipped cascade scores, as its card has it: data/cascade/scores.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from ..assets import DATA
from ..evaluation.alignment import wilson

SCORES = DATA / "cascade" / "scores.json"
SUITES = ("seen", "heldout", "words", "chinese")
PROMPTS = 200  # of a suite


class Score(NamedTuple):
    """Pictures of a hundred that follow their words, and the ends of its 95 % interval."""

    right: float
    low: float
    high: float


def alignment(path: Path = SCORES) -> dict[str, Score]:
    """Suite → score on prompts of the whole vocabulary, by the strict judge where it was asked.

    What is not measured yet with the shipped weights is that of the weights before them.
    """
    scores = json.loads(path.read_text(encoding="utf-8"))
    found = {}
    for name in SUITES:
        told = (
            scores["suites"].get("whole", {}).get(name) or scores["before"]["suites"]["whole"][name]
        )
        right = told.get("alignment_strict", told["alignment"])
        low, high = wilson(round(right * PROMPTS), PROMPTS)
        found[name] = Score(*(round(100 * share, 1) for share in (right, low, high)))
    return found
